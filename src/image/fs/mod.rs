//! The used blocks of file systems. Each kind is a file here and a line of [`FILE_SYSTEMS`].

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
pub mod sector;
mod steps;
pub mod swap;
pub mod xfs;

pub use kind::{FileSystem, Used};

/// All known file systems.
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

/// Whether a reader of the file system of this name, or beginning of one, is among them.
pub fn is_known(name: &str) -> bool {
    FILE_SYSTEMS.iter().any(|fs| fs.name.starts_with(name))
}

/// Returns the reader of the file system on the source; `None` if it is unknown.
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

/// Returns a description of what the source holds, for a source that [`recognise`] does not know.
pub fn unknown(source: &Source) -> Result<String, Error> {
    Ok(match raw::enclosing(source)? {
        Some(name) => format!("{name}, whose contents are not read"),
        None => "no known file system".to_owned(),
    })
}

/// Returns the used blocks of the file system on the source.
///
/// # Errors
/// It is unknown or damaged.
pub fn used(source: &Source) -> Result<Used, Error> {
    match recognise(source)? {
        Some(fs) => (fs.used)(source),
        None => Err(Error::Refused(format!("{}: {}", source.name(), unknown(source)?))),
    }
}
