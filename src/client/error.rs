//! Why a download cannot begin or had to end.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::storage;

/// A download that came to nothing.
#[derive(Debug)]
pub enum Error {
    /// The torrent's data cannot be opened.
    Open(storage::Error),
    /// The data cannot be written, and something is missing; or there is no room for it; or its journal cannot be made.
    Data(storage::Error),
    /// No port of this address can be listened on.
    Listen(IpAddr, io::Error),
    /// The receiver of the events failed.
    Face(io::Error),
    /// It had to end while it ran, for this reason.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Open(error) | Error::Data(error) => error.fmt(f),
            Error::Listen(address, error) => write!(f, "listen on {address}: {error}"),
            Error::Face(error) => error.fmt(f),
            Error::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Face(error)
    }
}
