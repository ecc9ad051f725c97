//! Errors of a torrent's files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file of the torrent cannot be used.
#[derive(Debug)]
pub enum Error {
    /// An operation on a file failed.
    Io {
        /// The operation: open, read …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Writing at an offset failed.
    At {
        /// The file.
        path: PathBuf,
        /// Offset in the file, bytes.
        offset: u64,
        /// The cause.
        cause: io::Error,
    },
    /// A file is longer or shorter than the torrent says, or a device is too small.
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        has: u64,
        /// Bytes it should have.
        wants: u64,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path, cause: io::Error) -> Error {
        Error::Io { doing, path: path.to_owned(), cause }
    }

    pub(super) fn at(path: &Path, offset: u64, cause: io::Error) -> Error {
        Error::At { path: path.to_owned(), offset, cause }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Io { doing, path, cause } => write!(f, "{doing} {}: {cause}", path.display()),
            Error::At { path, offset, cause } => write!(f, "write {} at byte {offset}: {cause}", path.display()),
            Error::Length { path, has, wants } if has < wants => {
                write!(f, "{}: shorter than its torrent says ({has} of {wants} bytes)", path.display())
            }
            Error::Length { path, has, wants } => {
                write!(f, "{}: longer than its torrent says ({has} instead of {wants} bytes)", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}
