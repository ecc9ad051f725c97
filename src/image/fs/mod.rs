//! The used blocks of file systems. Each kind is a file here and a line of [`FILE_SYSTEMS`].

use super::signature::{self, Found, Usage};
use super::source::Source;
use super::{Error, table};

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

/// What a source holds.
enum Content {
    /// A file system that is read here.
    Known(&'static FileSystem),
    /// Something that is not, by libblkid's name.
    Other(&'static str),
    /// Several things, of which one may be left from before, by their names.
    Several(Vec<&'static str>),
    /// A partition table by which no partition can be told from the others.
    Table,
    Nothing,
}

/// Returns what the source holds. Members and encryption come first, as with libblkid, whatever else is there.
fn content(source: &Source) -> Result<Content, Error> {
    let found = signature::find(source);
    if let Some(owner) = owner_of(&found) {
        return Ok(Content::Other(owner));
    }
    let mut names: Vec<&str> =
        found.iter().filter(|of| of.signature.usage == Usage::Foreign).map(|found| found.signature.name).collect();
    names.dedup();
    let (foreign, mut known) = (names.len(), None);
    for fs in FILE_SYSTEMS {
        if (fs.detect)(source)? {
            names.push(fs.name);
            known = known.or(Some(fs));
        }
    }
    // A boot sector may have what looks like a table, and is none.
    let boots = known.is_some_and(|fs| matches!(fs.name, ntfs::NAME | exfat::NAME | "FAT"));
    if !boots && table::read(source)?.is_some() && table::sound(source)?.is_none() {
        return Ok(Content::Table);
    }
    Ok(match (names.len(), known) {
        (0, _) => Content::Nothing,
        (1, Some(fs)) => Content::Known(fs),
        (1, None) => Content::Other(names[0]),
        _ if names[foreign..].is_empty() && names.iter().all(|name| matches!(*name, "udf" | "iso9660")) => {
            Content::Other(names[0])
        }
        _ => Content::Several(names),
    })
}

fn owner_of(found: &[Found]) -> Option<&'static str> {
    let is_owner = |found: &&Found| matches!(found.signature.usage, Usage::Owner | Usage::Firmware);
    found.iter().find(is_owner).map(|found| found.signature.name)
}

/// Returns libblkid's name of the array, volume group or encryption that the source is a part of.
pub fn owner(source: &Source) -> Option<&'static str> {
    owner_of(&signature::find(source))
}

/// Returns the reader of the file system on the source; `None` if it is unknown, or not the only thing there.
///
/// # Errors
/// The source cannot be read.
pub fn recognise(source: &Source) -> Result<Option<&'static FileSystem>, Error> {
    Ok(match content(source)? {
        Content::Known(fs) => Some(fs),
        _ => None,
    })
}

/// Returns a description of what the source holds, for a source that [`recognise`] does not know.
pub fn unknown(source: &Source) -> Result<String, Error> {
    Ok(match content(source)? {
        Content::Other(name) => format!("{name}, whose contents are not read"),
        Content::Several(names) => {
            format!(
                "ambiguous, as it has the signatures of {} (wipefs clears one that is stale)",
                names.join(" and of ")
            )
        }
        Content::Table => "a partition table whose partitions overlap or do not fit".to_owned(),
        Content::Known(_) | Content::Nothing => "no known file system".to_owned(),
    })
}

/// Returns the name of what the source holds: libblkid's, or that of a [`FileSystem`]; `None` if it is unknown or
/// ambiguous.
pub fn name(source: &Source) -> Result<Option<&'static str>, Error> {
    Ok(match content(source)? {
        Content::Known(fs) => Some(fs.name),
        Content::Other(name) => Some(name),
        Content::Several(_) | Content::Table | Content::Nothing => None,
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
