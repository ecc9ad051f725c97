//! The file system of a partition, in blkid's and OpenGnsys' words (ogGetFsType).

use std::path::Path;

use super::{Code, Device, Engine, Error};
use crate::image::fields::Fields;
use crate::image::fs::{self, extfs};
use crate::image::source::Source;

/// Offset of ext's superblock in the partition, bytes.
const EXT_SUPERBLOCK: u64 = 1024;
const EXT_HAS_JOURNAL: u32 = 0x4;
/// Incompatible features that ext3 lacks: all but filetype, recover, journal_dev, meta_bg.
const EXT4_INCOMPAT: u32 = !0x1e;
/// Read-only compatible features that ext3 lacks: all but sparse_super, large_file.
const EXT4_RO_COMPAT: u32 = !0x3;

/// A recognised file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `EXT4`, `NTFS`, `FAT32`, `EXFAT`, `LINUX-SWAP`, `LINUX-RAID`, `LINUX-LVM`, `CRYPTO_LUKS` …
    pub kind: String,
    /// The label of an ext file system; empty for all others.
    pub label: String,
}

/// Recognises the file system on `path`, or what else it holds; `None` if that is unknown, ambiguous or cannot be read.
pub fn recognise(path: &Path) -> Option<Found> {
    // Also while it is in use: only a few bytes are read.
    let source = Source::open(path, true).ok()?;
    let (kind, label) = match fs::name(&source).ok()?? {
        extfs::NAME => ext(&source.read(EXT_SUPERBLOCK, 1024).ok()?),
        "FAT" => (fat_width(&source.read(0, 512).ok()?), String::new()),
        "SWAP" => ("LINUX-SWAP".to_owned(), String::new()),
        "linux_raid_member" => ("LINUX-RAID".to_owned(), String::new()),
        "LVM2_member" => ("LINUX-LVM".to_owned(), String::new()),
        name => (name.to_ascii_uppercase(), String::new()),
    };
    Some(Found { kind, label })
}

fn ext(superblock: &[u8]) -> (String, String) {
    let f = Fields(superblock);
    let (compat, incompat, ro_compat) = (f.u32(0x5c), f.u32(0x60), f.u32(0x64));
    let kind = match () {
        () if incompat & EXT4_INCOMPAT != 0 || ro_compat & EXT4_RO_COMPAT != 0 => "EXT4",
        () if compat & EXT_HAS_JOURNAL != 0 => "EXT3",
        () => "EXT2",
    };
    let label: Vec<u8> = superblock[0x78..0x88].iter().copied().take_while(|byte| *byte != 0).collect();
    (kind.to_owned(), String::from_utf8_lossy(&label).into_owned())
}

/// FAT12, FAT16 or FAT32, as the boot sector names it; FAT16 if it does not.
fn fat_width(boot: &[u8]) -> String {
    let named = |at: usize| boot.get(at..at + 5).filter(|name| name.starts_with(b"FAT"));
    let name = named(0x52).or(named(0x36)).unwrap_or(b"FAT16");
    String::from_utf8_lossy(name).into_owned()
}

impl Engine {
    /// The file system of `device` in OpenGnsys' words: `CACHE` for the cache's; empty if unknown.
    ///
    /// # Errors
    /// [`Code::NotFound`]: the device does not exist.
    pub fn fs_type(&self, device: &Device) -> Result<String, Error> {
        if !device.path.exists() {
            return Err(Error::new(Code::NotFound, device.path.display().to_string()));
        }
        let kind = recognise(&device.path).map_or(String::new(), |found| found.kind);
        let is_cache = kind == "EXT4" && self.cache_device().as_ref() == Some(device);
        Ok(if is_cache { "CACHE".to_owned() } else { kind })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn file_systems_are_called_as_blkid_calls_them() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, label, mkfs) in [
            ("EXT2", "", "mkfs.ext2 -q -F"),
            ("EXT3", "", "mkfs.ext3 -q -F"),
            ("EXT4", "CACHE", "mkfs.ext4 -q -F -L CACHE"),
            ("FAT12", "", "mkfs.fat -F 12"),
            ("FAT16", "", "mkfs.fat -F 16"),
            ("FAT32", "", "mkfs.fat -F 32"),
            ("NTFS", "", "mkfs.ntfs -q -F"),
            ("EXFAT", "", "mkfs.exfat"),
            ("LINUX-SWAP", "", "mkswap -q"),
            ("JFS", "", "mkfs.jfs -q"),
            ("CRYPTO_LUKS", "", "echo p | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000"),
        ] {
            let file = dir.path().join("fs");
            let script = format!("truncate -s 0 {0}; truncate -s 64M {0}; {mkfs} {0} >{0}.log", file.display());
            let path = "/usr/sbin:/sbin:/usr/bin:/bin";
            assert!(Command::new("sh").env("PATH", path).args(["-ec", &script]).status().unwrap().success(), "{mkfs}");
            let found = Found { kind: kind.to_owned(), label: label.to_owned() };
            assert_eq!(recognise(&file), Some(found), "{mkfs}");
        }
        let lvm = [&[0; 512][..], b"LABELONE\x01\0\0\0\0\0\0\0", &[0; 8], b"LVM2 001", &[0; 4096]].concat();
        let mut raid = vec![0; 8192];
        raid[4096..4101].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1]);
        raid[4096 + 144] = 8;
        for (kind, bytes) in [("LINUX-LVM", lvm), ("LINUX-RAID", raid)] {
            std::fs::write(dir.path().join("member"), bytes).unwrap();
            assert_eq!(recognise(&dir.path().join("member")).map(|found| found.kind), Some(kind.to_owned()));
        }
        std::fs::write(dir.path().join("none"), [7; 8192]).unwrap();
        assert_eq!(recognise(&dir.path().join("none")), None);
    }
}
