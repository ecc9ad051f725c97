//! What can go wrong at either end of the tracker protocol, told as sentences.

use std::fmt;
use std::time::Duration;

/// Why an announce or a scrape gave nothing, or a tracker does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The tracker's URL cannot be asked.
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No answer: name not found, connection refused, time over.
    Transport {
        /// The URL.
        url: String,
        /// What failed.
        why: String,
    },
    /// An HTTP status other than 200 and no reason in the body.
    Status {
        /// The URL.
        url: String,
        /// The status code.
        code: u16,
    },
    /// An answer that is none of the protocol.
    Reply {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The tracker answered, and the answer is no.
    Refused {
        /// The tracker's `failure reason`, printable, at most 300 characters.
        reason: String,
        /// When to ask again (BEP 31); [`Duration::MAX`] when it says never.
        retry_in: Option<Duration>,
    },
    /// Something on this machine failed: a port, a file.
    Local {
        /// What was being done, to what.
        doing: String,
        /// Why it failed.
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
