//! File systems: which of their blocks are used. A file system is a line of [`FILE_SYSTEMS`] and a file.

use super::Error;
use super::bitmap::Bitmap;
use super::source::Source;

pub mod btrfs;
pub mod exfat;
pub mod extfs;
pub mod f2fs;
pub mod fat;
pub mod ntfs;
pub mod raw;
pub mod swap;
pub mod xfs;

/// The used blocks of a file system.
#[derive(Debug)]
pub struct Used {
    /// partclone's word for the file system.
    pub name: &'static str,
    /// Bytes of a block.
    pub block_size: u32,
    /// Size of the file system, bytes: what a target must have.
    pub device_size: u64,
    /// Used blocks as the file system's own counters say.
    pub used_by_super: u64,
    /// Which blocks are used.
    pub map: Bitmap,
    /// Why it should not be taken as it is, and what to do about it; only `--force` takes it anyway.
    pub dirty: Option<String>,
}

/// How one kind of file system is read.
pub struct FileSystem {
    /// partclone's word for it.
    pub name: &'static str,
    /// Whether the source holds one; damage beyond the signature is for `used` to tell.
    pub detect: fn(&Source) -> Result<bool, Error>,
    /// Its used blocks.
    pub used: fn(&Source) -> Result<Used, Error>,
}

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

/// A structure of a file system, read field by field at checked offsets; a field past its end is zero.
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    /// One byte.
    pub fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.bytes(at))
    }

    /// A little-endian number of two bytes.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    /// A little-endian number of four bytes.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    /// A little-endian number of eight bytes.
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    /// A big-endian number of two bytes.
    pub fn be16(&self, at: usize) -> u16 {
        self.u16(at).swap_bytes()
    }

    /// A big-endian number of four bytes.
    pub fn be32(&self, at: usize) -> u32 {
        self.u32(at).swap_bytes()
    }

    /// A big-endian number of eight bytes.
    pub fn be64(&self, at: usize) -> u64 {
        self.u64(at).swap_bytes()
    }
}
