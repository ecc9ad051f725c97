//! The error of everything that has to do with images.

use std::fmt;
use std::io;

/// The reason why an image could not be made, read or restored.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    Io {
        /// The action that failed and its object: "read /dev/sda1 at byte 4096".
        doing: String,
        /// The system's error.
        error: io::Error,
    },
    /// An image or file system is damaged.
    Damaged {
        /// Its name.
        what: String,
        /// Offset of the damage, bytes.
        at: u64,
        /// The fault found there.
        why: String,
    },
    /// A refusal, with its reason and the way out.
    Refused(String),
    /// The user asked for an end.
    Interrupted,
}

impl Error {
    /// Returns the error of a system call that failed with `error` while `doing`.
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
