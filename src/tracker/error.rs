//! Errors at either end of the tracker protocol.

use std::fmt;
use std::time::Duration;

/// The failure of an announce, of a scrape, or of starting a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The tracker's URL cannot be used.
    Url {
        /// The URL.
        url: String,
        /// The reason.
        why: &'static str,
    },
    /// No answer: name not found, connection refused, timed out.
    Transport {
        /// The URL.
        url: String,
        /// The reason.
        why: String,
    },
    /// An HTTP status other than 200 without a reason in the body.
    Status {
        /// The URL.
        url: String,
        /// The status code.
        code: u16,
    },
    /// An answer that violates the protocol.
    Reply {
        /// The URL.
        url: String,
        /// The violation.
        why: &'static str,
    },
    /// A refusal by the tracker.
    Refused {
        /// The tracker's `failure reason`, printable, at most 300 characters.
        reason: String,
        /// Time after which to ask again (BEP 31); [`Duration::MAX`] for never.
        retry_in: Option<Duration>,
    },
    /// Something on this machine failed: a port, a file.
    Local {
        /// The failed action and its object.
        doing: String,
        /// The reason.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Url { url, why } => write!(f, "ask tracker {url}: {why}"),
            Error::Transport { url, why } => write!(f, "ask tracker {url}: {why}"),
            Error::Status { url, code } => write!(f, "ask tracker {url}: HTTP status {code}"),
            Error::Reply { url, why } => write!(f, "ask tracker {url}: {why}"),
            Error::Refused { reason, .. } => write!(f, "refused by the tracker: {reason}"),
            Error::Local { doing, why } => write!(f, "{doing}: {why}"),
        }
    }
}

impl std::error::Error for Error {}
