//! Errors of torrents, as sentences.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a torrent, or a part of one, was refused.
#[derive(Debug)]
pub enum Error {
    /// The bytes are not bencode.
    Bencode {
        /// Offset of the offending byte.
        at: usize,
        /// The fault.
        fault: Fault,
    },
    /// A required key of the metainfo is missing.
    Missing {
        /// The key, with its dictionary.
        key: &'static str,
    },
    /// An invalid value in the metainfo.
    Value {
        /// The key, with its dictionary.
        key: &'static str,
        /// Offset of the value in the metainfo.
        at: usize,
        /// What it is, and what it should be.
        why: String,
    },
    /// A 20-byte name of another length.
    Length {
        /// The kind of name.
        what: &'static str,
        /// Bytes found.
        found: usize,
    },
    /// A text that is not the 40 hex digits of an info-hash.
    Hex {
        /// The text found.
        text: String,
    },
    /// A bitfield has the wrong length.
    BitfieldLength {
        /// Number of pieces.
        bits: u32,
        /// Bytes found.
        found: usize,
    },
    /// A bitfield names a piece beyond the last.
    BitfieldSpare {
        /// Number of pieces.
        bits: u32,
    },
    /// A file could not be read or written.
    Io {
        /// The operation: read, write …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A file was read, but is invalid.
    File {
        /// The file.
        path: PathBuf,
        /// The fault.
        error: Box<Error>,
    },
    /// More bytes than any torrent's metainfo has.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// A fault in bencoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end before the value does.
    End,
    /// A byte that begins no value.
    Start(u8),
    /// An integer that is not `i`, digits, `e`, or has a leading zero, or is minus zero.
    Integer,
    /// An integer beyond 64 bits with sign.
    Range,
    /// A string's length that is not digits and a colon, or has a leading zero.
    StringLength,
    /// A string's length exceeds the bytes that are left.
    Short {
        /// The length it claims, bytes.
        says: u64,
        /// Bytes left.
        left: usize,
    },
    /// A dictionary's key that is not a string.
    Key,
    /// A dictionary's key without a value.
    KeyWithoutValue,
    /// A key that is in its dictionary twice; the offset is the dictionary's.
    Twice,
    /// Lists and dictionaries inside each other deeper than any torrent has.
    Deep,
    /// Bytes after the value's end.
    Trailing,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::End => write!(f, "the data end inside a value"),
            Fault::Start(byte) if byte.is_ascii_graphic() => {
                write!(f, "`{}` begins no bencoded value", char::from(*byte))
            }
            Fault::Start(byte) => write!(f, "0x{byte:02x} begins no bencoded value"),
            Fault::Integer => write!(f, "an integer is malformed"),
            Fault::Range => write!(f, "an integer does not fit 64 bits"),
            Fault::StringLength => write!(f, "a string's length is malformed"),
            Fault::Short { says, left } => write!(f, "a string of {says} bytes is cut short, {left} are left"),
            Fault::Key => write!(f, "a dictionary's key is not a string"),
            Fault::KeyWithoutValue => write!(f, "a dictionary's key has no value"),
            Fault::Twice => write!(f, "a dictionary has a key twice"),
            Fault::Deep => write!(f, "lists and dictionaries are nested deeper than {}", super::bencode::MAX_DEPTH),
            Fault::Trailing => write!(f, "bytes follow the value's end"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Bencode { at, fault } => write!(f, "{fault} (byte {at})"),
            Error::Missing { key } => write!(f, "{key} is missing"),
            Error::Value { key, at, why } => write!(f, "{key} {why} (byte {at})"),
            Error::Length { what, found } => write!(f, "{what} of {found} bytes, 20 expected"),
            Error::Hex { text } => write!(f, "info-hash {text:?} is not 40 hex digits"),
            Error::BitfieldLength { bits, found } => {
                write!(f, "bitfield of {found} bytes, {bits} pieces take {}", bits.div_ceil(8))
            }
            Error::BitfieldSpare { bits } => write!(f, "bitfield has a piece beyond the last of {bits}"),
            Error::Io { doing, path, error } => write!(f, "{doing} {}: {error}", path.display()),
            Error::File { path, error } => write!(f, "{}: {error}", path.display()),
            Error::TooLarge { limit } => write!(f, "larger than a metainfo file may be ({limit} bytes)"),
        }
    }
}

impl std::error::Error for Error {}
