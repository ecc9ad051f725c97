//! A daemon's log: lines gathered in memory and written together, to standard output or to a file that can be moved
//! away and opened anew.
//!
//! Bytes from outside are escaped, so that they can neither forge a line nor control a terminal. On a full disk
//! lines are dropped and counted, and the daemon goes on.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use kernels::scan::find_control;

use super::links::open_in_place;
use super::sync::lock;
use super::time::{self, Calendar};

/// Bytes gathered at which they are written without waiting any longer.
const FULL: usize = 64 << 10;

/// Longest line of the daemon's own, bytes; the rest is cut.
const LONGEST: usize = 4096;

/// No characters to escape besides control characters; DEL is one.
const NO_SIGNS: [u8; 2] = [0x7f; 2];

/// Destination of the lines.
#[derive(Debug)]
pub struct Log {
    /// `None`: standard output.
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
    /// Opens a log that appends to the file `path`, or to standard output if that is `None`.
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

    /// Writes a line of the daemon's own at once.
    pub fn note(&self, line: &str) {
        self.write(line, *b"\"\\");
    }

    /// Writes a line in which `signs` and control characters are escaped.
    fn write(&self, line: &str, signs: [u8; 2]) {
        let mut inner = self.lock();
        let begin = inner.waiting.len();
        escape_signs(line.as_bytes(), signs, &mut inner.waiting);
        if inner.waiting.len() - begin > LONGEST {
            inner.waiting.truncate(begin + LONGEST);
            inner.waiting.extend_from_slice(b"...");
        }
        inner.waiting.push(b'\n');
        inner.write();
    }

    /// Writes a message at once, preceded by the time if the log is a file.
    pub fn say(&self, line: &str) {
        match &self.path {
            Some(_) => {
                let Calendar { year, month, day, hour, minute, second } = time::local(time::unix_seconds());
                self.write(
                    &format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {line}"),
                    NO_SIGNS,
                );
            }
            None => self.write(line, NO_SIGNS),
        }
    }

    /// Adds lines that are complete and escaped already.
    pub fn append(&self, lines: &[u8]) {
        let mut inner = self.lock();
        inner.waiting.extend_from_slice(lines);
        if inner.waiting.len() >= FULL {
            inner.write();
        }
    }

    /// Writes the gathered lines.
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
        lock(&self.inner)
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
        // A burst must not keep its memory for ever, but the usual size should not be allocated anew each time.
        self.waiting.shrink_to(2 * FULL);
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    open_in_place(File::options().append(true).create(true), path)
}

/// The time `seconds` since 1970 in the form of BitTornado's logs.
pub fn iso(seconds: i64) -> String {
    let Calendar { year, month, day, hour, minute, .. } = time::utc(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The line that announces the daemon's end.
pub fn shutting_down() -> String {
    format!("# Shutting down:  {}", iso(time::unix_seconds()))
}

/// Appends `bytes`, with every control character as `\xNN`.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    escape_signs(bytes, *b"\"\\", out);
}

fn escape_signs(bytes: &[u8], signs: [u8; 2], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = find_control(rest, signs) {
        out.extend_from_slice(&rest[..at]);
        // Writing to a Vec cannot fail.
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
    fn a_line_without_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(Some(&path)).unwrap();
        log.note(&"\x01".repeat(1 << 20));
        log.say(&"x".repeat(1 << 20));
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().skip(1).map(str::len).collect::<Vec<_>>(), [LONGEST + 3; 2]);
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
