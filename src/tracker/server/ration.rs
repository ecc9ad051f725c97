//! The share of the requests that gets into the log: whoever sends many, or the same again and again, cannot fill the disk.
//!
//! Each worker keeps its own count. A request that equals the one before it is counted, and written once with the count; in a
//! second a source has [`OF_SOURCE`] bytes and all of them together [`OF_ALL`], and what is left out is counted by source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::log::{Request, address, request};
use crate::base::sort::sort_by;

/// Most bytes of a source's lines in a second.
pub const OF_SOURCE: usize = 16 << 10;
/// Most bytes of all lines in a second.
pub const OF_ALL: usize = 256 << 10;
/// Length assumed for a line's address and time, bytes.
const HEAD: usize = 50;
/// Most sources that are counted apart in a second; further ones share an account.
const SOURCES: usize = 4096;
/// Most sources whose missing lines are reported one by one.
const REPORTED: usize = 8;

/// A worker's count of what it has logged in this second.
#[derive(Debug, Default)]
pub struct Ration {
    /// For each source: the bytes written, and the number of lines left out.
    sources: HashMap<IpAddr, (usize, u64)>,
    written: usize,
    /// The last request that was written: its source, and its line from after the time.
    last: Option<(IpAddr, Vec<u8>)>,
    /// How often the last request has come again.
    repeats: u64,
    /// The line being made.
    line: Vec<u8>,
}

impl Ration {
    /// Appends the line of `one` to `out`, or counts it.
    pub fn log(&mut self, one: &Request, stamp: &str, out: &mut Vec<u8>) {
        self.line.clear();
        request(one, &mut self.line);
        if self.last.as_ref().is_some_and(|(ip, line)| *ip == one.ip && *line == self.line) {
            self.repeats += 1;
            return;
        }
        self.settle(stamp, out);
        let source = match self.sources.len() < SOURCES || self.sources.contains_key(&one.ip) {
            true => one.ip,
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let (bytes, left_out) = self.sources.entry(source).or_default();
        let length = HEAD + self.line.len();
        if *bytes + length > OF_SOURCE || self.written + length > OF_ALL {
            *left_out += 1;
            self.last = None;
            return;
        }
        *bytes += length;
        self.written += length;
        address(one.ip, stamp, out);
        out.extend_from_slice(&self.line);
        let (ip, line) = self.last.get_or_insert_with(|| (one.ip, Vec::new()));
        *ip = one.ip;
        std::mem::swap(line, &mut self.line);
    }

    /// Ends a second: appends what was counted in it to `out`.
    pub fn turn(&mut self, stamp: &str, out: &mut Vec<u8>) {
        self.settle(stamp, out);
        self.written = 0;
        let counts = self.sources.drain().filter(|(_, (_, left_out))| *left_out > 0);
        let mut counts: Vec<(IpAddr, u64)> = counts.map(|(ip, (_, left_out))| (ip, left_out)).collect();
        sort_by(&mut counts, |one, other| (other.1, other.0) < (one.1, one.0));
        for (ip, left_out) in counts.iter().take(REPORTED) {
            let others = if ip.is_unspecified() { "others".to_owned() } else { ip.to_string() };
            out.extend_from_slice(
                format!("**warning** {left_out} requests of {others} are left out here\n").as_bytes(),
            );
        }
        let rest: u64 = counts.iter().skip(REPORTED).map(|(_, left_out)| left_out).sum();
        if rest > 0 {
            out.extend_from_slice(format!("**warning** {rest} requests of others are left out here\n").as_bytes());
        }
    }

    /// Appends the last request once more with the number of its repetitions, if there were any.
    fn settle(&mut self, stamp: &str, out: &mut Vec<u8>) {
        let Some((ip, line)) = &self.last else { return };
        let repeats = std::mem::take(&mut self.repeats);
        if repeats == 0 {
            return;
        }
        address(*ip, stamp, out);
        out.extend_from_slice(line.trim_ascii_end());
        if repeats > 1 {
            out.extend_from_slice(format!(" ... repeated {repeats} times").as_bytes());
        }
        out.push(b'\n');
        self.written += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::server::log::LONGEST;

    const STAMP: &str = "[22/Nov/2026:10:00:00]";

    fn asked(ip: [u8; 4], line: &[u8]) -> Request<'_> {
        Request { ip: ip.into(), line, code: 200, length: 12, referer: None, agent: None }
    }

    #[test]
    fn long_lines_and_many_of_them_do_not_fill_the_disk() {
        let (mut ration, mut out) = (Ration::default(), Vec::new());
        for n in 0..1000 {
            let line = format!("GET /{n}{} HTTP/1.0", "\x01".repeat(8000));
            ration.log(&asked([10, 0, 0, 9], line.as_bytes()), STAMP, &mut out);
        }
        ration.log(&asked([10, 0, 0, 1], b"GET /announce HTTP/1.0"), STAMP, &mut out);
        ration.turn(STAMP, &mut out);
        assert!(out.len() < OF_SOURCE + 2048, "{}", out.len());
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.len() <= LONGEST));
        let written = text.lines().filter(|line| line.starts_with("10.0.0.9 ")).count();
        let left_out = format!("**warning** {} requests of 10.0.0.9 are left out here\n", 1000 - written);
        assert!(written > 10 && text.ends_with(&left_out), "{text}");
        assert!(text.contains("\n10.0.0.1 - - [22/Nov/2026:10:00:00] \"GET /announce HTTP/1.0\" 200 12 \"-\" \"-\"\n"));
        let mut next = Vec::new();
        ration.log(&asked([10, 0, 0, 9], b"GET / HTTP/1.0"), STAMP, &mut next);
        assert!(!next.is_empty(), "the next second is another");
    }

    #[test]
    fn what_comes_again_and_again_is_counted() {
        let (mut ration, mut out) = (Ration::default(), Vec::new());
        (0..124).for_each(|_| ration.log(&asked([10, 0, 0, 9], b"GET / HTTP/1.0"), STAMP, &mut out));
        (0..2).for_each(|_| ration.log(&asked([10, 0, 0, 8], b"GET / HTTP/1.0"), STAMP, &mut out));
        ration.turn(STAMP, &mut out);
        ration.turn(STAMP, &mut out);
        let line = |n: u8| format!("10.0.0.{n} - - {STAMP} \"GET / HTTP/1.0\" 200 12 \"-\" \"-\"");
        let (nine, eight) = (line(9), line(8));
        let expected = format!("{nine}\n{nine} ... repeated 123 times\n{eight}\n{eight}\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn all_sources_together_have_their_share() {
        let (mut ration, mut out) = (Ration::default(), Vec::new());
        for n in 0..20_000u32 {
            let [_, _, c, d] = n.to_be_bytes();
            ration.log(&asked([10, 0, c, d], b"UDP connect"), STAMP, &mut out);
        }
        ration.turn(STAMP, &mut out);
        assert!(out.len() < OF_ALL + 2048, "{}", out.len());
    }
}
