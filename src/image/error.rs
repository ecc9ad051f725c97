//! The error of everything that has to do with images.

use std::fmt;
use std::io;

/// Why an image could not be made, read or restored.
#[derive(Debug)]
pub enum Error {
    /// The operating system failed: what was being done, to what, and its error.
    Io {
        /// "read /dev/sda1 at byte 4096".
        doing: String,
        /// Why it failed.
        error: io::Error,
    },
    /// An image or file system is not what it should be.
    Damaged {
        /// Its name.
        what: String,
        /// Offset in it, bytes.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// It could be done but must not, and what to do about it.
    Refused(String),
    /// An end was asked for.
    Interrupted,
}

impl Error {
    /// `doing` failed with `error`.
    pub fn io(doing: impl Into<String>, error: impl Into<io::Error>) -> Error {
        Error::Io { doing: doing.into(), error: error.into() }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, error } => write!(f, "{doing}: {error}"),
            Error::Damaged { what, at, why } => write!(f, "{what}: byte {at}: {why}"),
            Error::Refused(why) => write!(f, "{why}"),
            Error::Interrupted => write!(f, "interrupted"),
        }
    }
}
