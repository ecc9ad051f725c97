//! Block devices: their size and sectors, and whether anyone else is using them.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::ioctl::{self, Getter, NoArg, Opcode, Setter, opcode};

/// BLKGETSIZE64 of <linux/fs.h>: defined with the size of a pointer-sized word, although the answer has 8 bytes.
const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);

/// BLKRRPART, BLKFLSBUF, BLKDISCARD and BLKZEROOUT of <linux/fs.h>.
const BLKRRPART: Opcode = opcode::none(0x12, 95);
const BLKFLSBUF: Opcode = opcode::none(0x12, 97);
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKZEROOUT: Opcode = opcode::none(0x12, 127);

/// BLKBSZGET and BLKBSZSET of <linux/fs.h>: defined with the size of a pointer-sized word, although they take an int.
const BLKBSZGET: Opcode = opcode::read::<usize>(0x12, 112);
const BLKBSZSET: Opcode = opcode::write::<usize>(0x12, 113);

/// Bytes of a block that is as large as a page of the kernel's cache.
const WHOLE: i32 = 4096;

/// Size of a block device, bytes.
pub fn size(device: impl AsFd) -> io::Result<u64> {
    // SAFETY: BLKGETSIZE64 writes one u64 to the address it is given, which is what this getter provides.
    Ok(unsafe { ioctl::ioctl(device, Getter::<BLKGETSIZE64, u64>::new()) }?)
}

/// Logical sector size of a block device, bytes: its reads and writes are multiples of it.
pub fn sector_size(device: impl AsFd) -> io::Result<u32> {
    Ok(rustix::fs::ioctl_blksszget(device)?)
}

/// Whether a block device is a partition of another; false for anything else.
pub fn is_partition(device: &File) -> bool {
    device.metadata().is_ok_and(|metadata| {
        metadata.file_type().is_block_device()
            && directory(Path::new(SYSFS), metadata.rdev()).join("partition").exists()
    })
}

/// Parses a device number as sysfs has it, `MAJOR:MINOR`.
pub fn number(text: &str) -> Option<u64> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Where sysfs is.
pub const SYSFS: &str = "/sys";

/// Returns the directory of `sysfs` for the block device of this number.
pub fn directory(sysfs: &Path, number: u64) -> PathBuf {
    sysfs.join(format!("dev/block/{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

/// Returns the names in /dev of all block devices that have a size, sorted.
pub fn names() -> Vec<String> {
    let names = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let has_size = |entry: &fs::DirEntry| fs::read_to_string(entry.path().join("size")).is_ok_and(|size| size != "0\n");
    let mut names: Vec<String> =
        names.filter(has_size).map(|entry| entry.file_name().to_string_lossy().replace('!', "/")).collect();
    names.sort();
    names
}

/// Has the kernel reread a disk's partition table.
pub fn reread_partitions(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of ours.
    Ok(unsafe { ioctl::ioctl(device, NoArg::<BLKRRPART>::new()) }?)
}

/// Tells a block device that `len` bytes from `start` on, whole sectors, are no longer needed.
pub fn discard(device: impl AsFd, start: u64, len: u64) -> io::Result<()> {
    // SAFETY: BLKDISCARD reads two u64 from the address it is given, which is what this setter provides.
    Ok(unsafe { ioctl::ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new([start, len])) }?)
}

/// Whether a block device can discard.
pub fn can_discard(device: impl AsFd) -> bool {
    // Bytes that are no whole sector are refused for that only by a device that can.
    !discard(device, 1, 1).is_err_and(|error| error.kind() == io::ErrorKind::Unsupported)
}

/// Zeroes `len` bytes of a block device from `start` on, whole sectors, by the device's own means if it has any.
pub fn zero(device: impl AsFd, start: u64, len: u64) -> io::Result<()> {
    // SAFETY: BLKZEROOUT reads two u64 from the address it is given, which is what this setter provides.
    Ok(unsafe { ioctl::ioctl(device, Setter::<BLKZEROOUT, [u64; 2]>::new([start, len])) }?)
}

/// Writes a block device's cached data to it and drops the cache: the next read comes from the device.
pub fn flush(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument and touches no memory of ours.
    Ok(unsafe { ioctl::ioctl(device, NoArg::<BLKFLSBUF>::new()) }?)
}

/// A block device that the kernel's cache has in blocks of 4096 bytes, until this is dropped. A device of an odd size it has
/// by default in blocks as small as 512 bytes, and then cuts what is written into that many requests.
///
/// What lies behind the last whole block is written and read as well: the kernel cuts that request at the device's end.
#[derive(Debug)]
pub struct WholeBlocks {
    device: File,
    before: i32,
}

impl WholeBlocks {
    /// Has the cache take whole blocks of a device that was opened exclusively, which brings what was written to it so far to
    /// the disk. `None` if it does already, or the kernel does not let us: only time is lost then.
    pub fn of(device: &File) -> Option<WholeBlocks> {
        let device = device.try_clone().ok()?;
        let before = soft_block_size(&device).ok().filter(|size| *size < WHOLE)?;
        set_soft_block_size(&device, WHOLE).ok()?;
        Some(WholeBlocks { device, before })
    }
}

impl Drop for WholeBlocks {
    fn drop(&mut self) {
        // If the kernel refuses, it goes back to it by itself once nobody has the device open.
        let _ = set_soft_block_size(&self.device, self.before);
    }
}

/// Size of the blocks in which the kernel's cache has a block device, bytes.
fn soft_block_size(device: impl AsFd) -> io::Result<i32> {
    // SAFETY: BLKBSZGET writes one int to the address it is given, which is what this getter provides.
    Ok(unsafe { ioctl::ioctl(device, Getter::<BLKBSZGET, i32>::new()) }?)
}

fn set_soft_block_size(device: impl AsFd, size: i32) -> io::Result<()> {
    // SAFETY: BLKBSZSET reads one int from the address it is given, which is what this setter provides.
    Ok(unsafe { ioctl::ioctl(device, Setter::<BLKBSZSET, i32>::new(size)) }?)
}
