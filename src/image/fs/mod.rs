//! File systems: which of their blocks are used. A file system is a line of [`FILE_SYSTEMS`] and a file.

use super::Error;
use super::source::Source;

pub mod btrfs;
pub mod exfat;
pub mod extfs;
pub mod f2fs;
pub mod fat;
mod kind;
pub mod ntfs;
pub mod raw;
pub mod swap;
pub mod xfs;

pub use kind::{FileSystem, Used};

/// All file systems that are known.
pub const FILE_SYSTEMS: &[FileSystem] = &[
    FileSystem { name: extfs::NAME, detect: extfs::detect, used: extfs::used },
    FileSystem { name: ntfs::NAME, detect: ntfs::detect, used: ntfs::used },
    FileSystem { name: exfat::NAME, detect: exfat::detect, used: exfat::used },
    FileSystem { name: xfs::NAME, detect: xfs::detect, used: xfs::used },
    FileSystem { name: btrfs::NAME, detect: btrfs::detect, used: btrfs::used },
    FileSystem { name: f2fs::NAME, detect: f2fs::detect, used: f2fs::used },
    FileSystem { name: "SWAP", detect: swap::detect, used: swap::used },
    // Last: its signature is the weakest.
    FileSystem { name: "FAT", detect: fat::detect, used: fat::used },
];

/// What reads the file system that the source holds; none when it is not known.
///
/// # Errors
/// The source cannot be read.
pub fn recognise(source: &Source) -> Result<Option<&'static FileSystem>, Error> {
    if raw::enclosing(source)?.is_some() {
        return Ok(None);
    }
    for fs in FILE_SYSTEMS {
        if (fs.detect)(source)? {
            return Ok(Some(fs));
        }
    }
    Ok(None)
}

/// Says what the source holds that [`recognise`] does not know.
pub fn unknown(source: &Source) -> Result<String, Error> {
    Ok(match raw::enclosing(source)? {
        Some(name) => format!("{name}, which is not looked into"),
        None => "no file system that is known".to_owned(),
    })
}

/// The used blocks of whatever file system the source holds.
///
/// # Errors
/// None is recognised, or what is recognised is damaged.
pub fn used(source: &Source) -> Result<Used, Error> {
    match recognise(source)? {
        Some(fs) => (fs.used)(source),
        None => Err(Error::Refused(format!("{}: {}", source.name(), unknown(source)?))),
    }
}
