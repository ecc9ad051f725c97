//! The lines of the tracker's log: one Apache-like line per request, as the namesake writes it; other events have lines
//! that begin with `#` or `**warning**`.

use std::io::Write;
use std::net::IpAddr;

use super::http::decimal;
use crate::base::log::escape;
use crate::base::time::{self, Calendar};

/// Longest line, bytes.
pub const LONGEST: usize = 1024;
/// Most bytes of the request line, and of a header, that are written.
const MOST: [usize; 2] = [600, 120];

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `[day/month/year:hour:minute:second]`, formatted once a second.
#[derive(Debug, Default)]
pub struct Stamp {
    second: i64,
    text: String,
}

impl Stamp {
    /// The stamp of the Unix time `seconds`, in local time.
    pub fn at(&mut self, seconds: i64) -> &str {
        if self.second != seconds || self.text.is_empty() {
            let Calendar { year, month, day, hour, minute, second } = time::local(seconds);
            let month = MONTHS[usize::from(month - 1) % 12];
            self.text = format!("[{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02}]");
            self.second = seconds;
        }
        &self.text
    }
}

/// A request to be logged.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The client's address.
    pub ip: IpAddr,
    /// The request line.
    pub line: &'a [u8],
    /// Status code of the reply.
    pub code: u16,
    /// Length of the reply's body, bytes.
    pub length: usize,
    /// The Referer header.
    pub referer: Option<&'a [u8]>,
    /// The User-Agent header.
    pub agent: Option<&'a [u8]>,
}

/// Appends the start of a request's line, its source and time, to `out`.
pub fn address(ip: IpAddr, stamp: &str, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, byte) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                decimal(byte.into(), out);
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(ip) => _ = write!(out, "{ip}"),
    }
    out.extend_from_slice(b" - - ");
    out.extend_from_slice(stamp.as_bytes());
}

/// Appends the rest of a request's line to `out`.
pub fn request(request: &Request, out: &mut Vec<u8>) {
    out.extend_from_slice(b" \"");
    escape_some(request.line, MOST[0], out);
    out.extend_from_slice(b"\" ");
    decimal(request.code.into(), out);
    out.push(b' ');
    decimal(request.length as u64, out);
    out.extend_from_slice(b" \"");
    escape_some(request.referer.unwrap_or(b"-"), MOST[1], out);
    out.extend_from_slice(b"\" \"");
    escape_some(request.agent.unwrap_or(b"-"), MOST[1], out);
    out.extend_from_slice(b"\"\n");
}

/// Appends `text` escaped, at most `most` bytes of it and `...` for the rest.
fn escape_some(text: &[u8], most: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    escape(&text[..text.len().min(most + 1)], out);
    if out.len() - begin > most {
        out.truncate(begin + most);
        out.extend_from_slice(b"...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line_of_the_namesakes_form() {
        let mut out = Vec::new();
        let line = Request {
            ip: [10, 0, 0, 1].into(),
            line: b"GET /\x1b[2J\"\n HTTP/1.0",
            code: 200,
            length: 12,
            referer: None,
            agent: Some(b"ctorrent"),
        };
        address(line.ip, "[22/Nov/2026:10:00:00]", &mut out);
        request(&line, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "10.0.0.1 - - [22/Nov/2026:10:00:00] \"GET /\\x1b[2J\\x22\\x0a HTTP/1.0\" 200 12 \"-\" \"ctorrent\"\n"
        );
    }

    #[test]
    fn stamps_name_the_month() {
        let stamp = Stamp::default().at(1_700_000_000).to_owned();
        assert!(stamp.contains("/Nov/2023:") && stamp.ends_with(":20]"), "{stamp}");
    }
}
