//! The tracker's log: one Apache-like line a request, as the namesake writes it, and lines that begin with `#`
//! or `**warning**` for what else happens.
//!
//! Lines are gathered in memory and written together, at the latest after the namesake's
//! `--min_time_between_log_flushes`. What a client sent is escaped, so that it can neither forge a line nor
//! reach a terminal. When the disk is full lines are dropped and counted, the tracker goes on.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::http::decimal;
use crate::sys::time::{self, Calendar};

/// Bytes gathered before they are written without waiting for the time.
const FULL: usize = 64 << 10;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Where lines go.
#[derive(Debug)]
pub struct Log {
    /// None: standard output.
    path: Option<PathBuf>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Option<File>,
    waiting: Vec<u8>,
    dropped: u64,
}

impl Log {
    /// A log that is appended to the file `path`; None: standard output.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>) -> io::Result<Log> {
        let file = path.map(append_to).transpose()?;
        let log = Log {
            path: path.map(Path::to_owned),
            inner: Mutex::new(Inner { file, waiting: Vec::with_capacity(2 * FULL), dropped: 0 }),
        };
        if path.is_some() {
            log.note(&format!("# Log Started:  {}", iso(time::unix_seconds())));
        }
        Ok(log)
    }

    /// A line of the tracker's own; written at once.
    pub fn note(&self, line: &str) {
        let mut inner = self.lock();
        escape(line.as_bytes(), &mut inner.waiting);
        inner.waiting.push(b'\n');
        inner.write();
    }

    /// Lines made by [`request`].
    pub fn append(&self, lines: &[u8]) {
        let mut inner = self.lock();
        inner.waiting.extend_from_slice(lines);
        if inner.waiting.len() >= FULL {
            inner.write();
        }
    }

    /// Writes what was gathered.
    pub fn flush(&self) {
        self.lock().write();
    }

    /// Opens the file again under its name, after it was moved away.
    pub fn reopen(&self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => {
                let mut inner = self.lock();
                inner.write();
                inner.file = Some(file);
                drop(inner);
                self.note(&format!("# Log reopened:  {}", iso(time::unix_seconds())));
            }
            Err(error) => self.note(&format!("**warning** could not reopen logfile: {error}")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.dropped > 0 {
            let line = format!("**warning** {} bytes of log could not be written\n", self.dropped);
            self.waiting.splice(0..0, line.into_bytes());
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(&self.waiting),
            None => io::stdout().write_all(&self.waiting).and_then(|()| io::stdout().flush()),
        };
        match written {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += self.waiting.len() as u64,
        }
        self.waiting.clear();
        // One burst must not keep its memory for ever; what is usual must not be mapped anew each time.
        self.waiting.shrink_to(2 * FULL);
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// The form of the namesake's own lines.
pub fn iso(seconds: i64) -> String {
    let Calendar { year, month, day, hour, minute, .. } = time::utc(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The line that says that the tracker ends.
pub fn shutting_down() -> String {
    format!("# Shutting down:  {}", iso(time::unix_seconds()))
}

/// `[day/month/year:hour:minute:second]` of a moment, made once a second.
#[derive(Debug, Default)]
pub struct Stamp {
    second: i64,
    text: String,
}

impl Stamp {
    /// The stamp of `seconds` after the beginning of 1970, local time.
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

/// One request for the log.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asked.
    pub ip: IpAddr,
    /// The request line.
    pub line: &'a [u8],
    /// Status code of the reply.
    pub code: u16,
    /// Bytes of its body.
    pub length: usize,
    /// The Referer header.
    pub referer: Option<&'a [u8]>,
    /// The User-Agent header.
    pub agent: Option<&'a [u8]>,
}

/// Appends the line of a request to `out`.
pub fn request(request: &Request, stamp: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{}", request.ip);
    out.extend_from_slice(b" - - ");
    out.extend_from_slice(stamp.as_bytes());
    out.extend_from_slice(b" \"");
    escape(request.line, out);
    out.extend_from_slice(b"\" ");
    decimal(request.code.into(), out);
    out.push(b' ');
    decimal(request.length as u64, out);
    out.extend_from_slice(b" \"");
    escape(request.referer.unwrap_or(b"-"), out);
    out.extend_from_slice(b"\" \"");
    escape(request.agent.unwrap_or(b"-"), out);
    out.extend_from_slice(b"\"\n");
}

/// Appends `bytes`, with everything that could forge a line or speak to a terminal as `\xNN`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f)) {
        out.extend_from_slice(&rest[..at]);
        let _ = write!(out, "\\x{:02x}", rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        request(&line, "[22/Nov/2026:10:00:00]", &mut out);
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

    #[test]
    fn a_log_that_was_moved_away_goes_on_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let log = Log::open(Some(&path)).unwrap();
        log.append(b"one\n");
        assert!(!fs::read_to_string(&path).unwrap().contains("one"), "gathered first");
        fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.append(b"two\n");
        log.flush();
        let (old, new) = (fs::read_to_string(moved).unwrap(), fs::read_to_string(path).unwrap());
        assert!(old.starts_with("# Log Started:  20") && old.ends_with("one\n"), "{old}");
        assert!(new.starts_with("# Log reopened:  20") && new.ends_with("two\n"), "{new}");
    }

    #[test]
    fn lines_that_the_disk_refuses_are_dropped_and_told_of() {
        let log = Log::open(Some(Path::new("/dev/full"))).unwrap();
        log.append(b"lost\n");
        log.flush();
        let inner = log.lock();
        assert!(inner.waiting.is_empty() && inner.dropped > 5, "{inner:?}");
    }
}
