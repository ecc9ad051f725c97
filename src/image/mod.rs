//! Partition imaging: the used blocks of a file system, in partclone's container, compressed.
//!
//! | file | what it is |
//! |---|---|
//! | [`source`] | what is saved: a device or file, opened read-only |
//! | [`fs`] | which of its blocks are used: one reader a file system |
//! | [`bitmap`] | the map of used blocks |
//! | [`container`] | partclone's image: header, map and checksums ↔ bytes |
//! | [`checksum`] | the checksums in it |
//! | [`codec`] | the compressors around it |
//! | [`pipeline`] | pieces in order through several threads |
//! | [`unpack`] | an image taken apart, its checksums verified |
//! | [`disk`] | the used blocks of a whole disk, by its partition table |
//! | [`convert`] | an image into another format, as it passes |
//! | [`inside`] | an image as the device it was made of, read from anywhere |
//! | [`info`] | what an image's header says, in partclone.info's words |
//! | [`legacy`] | images of other programs |
//! | [`save`], [`restore`] | the two ways through all of the above |
//! | [`target`] | what is restored to: a device or a sparse file |

use std::fmt;
use std::io;

pub mod bitmap;
pub mod checksum;
pub mod codec;
pub mod container;
pub mod convert;
pub mod disk;
pub mod fs;
pub mod info;
pub mod inside;
pub mod legacy;
pub mod pipeline;
pub mod restore;
pub mod save;
pub mod source;
pub mod target;
pub mod unpack;

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

/// How the caller looks on while an image is saved or restored.
pub struct Watch<'a> {
    /// Told once what the image is, before its first block.
    pub begin: &'a (dyn Fn(&container::Header) + Sync),
    /// Told the bytes of the file system that were done since the last call.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Told the bytes of the image file that were read since the last call.
    pub took: &'a (dyn Fn(u64) + Sync),
    /// Told the bytes of the image file that were written since the last call.
    pub wrote: &'a (dyn Fn(u64) + Sync),
    /// Whether to stop; looked at several times a second.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Watch<'_> {
    /// Looks at nothing and never stops.
    pub fn idle() -> Watch<'static> {
        Watch { begin: &|_| {}, progress: &|_| {}, took: &|_| {}, wrote: &|_| {}, stop: &|| false }
    }
}
