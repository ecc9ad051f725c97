//! Loop devices: which there are, and what each is made of.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::ioctl::{self, Getter, Opcode};

/// LOOP_GET_STATUS64 of <linux/loop.h>.
const LOOP_GET_STATUS64: Opcode = 0x4c05;
/// The words of its `struct loop_info64`, which begins with the device and inode of the file, its own number if it
/// is a device (if not, 0 or the first device again), offset and size limit.
const WORDS: usize = 29;

/// What a loop device is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The file of this device and inode.
    File(u64, u64),
    /// The block device of this number.
    Device(u64),
}

/// A loop device that is attached.
#[derive(Debug)]
pub struct Loop {
    /// Its name in /dev.
    pub name: String,
    /// Its device number.
    pub number: u64,
    /// What it is made of.
    pub backing: Backing,
    /// Offset of its first byte there.
    pub offset: u64,
    /// Its length at most, bytes; 0 for all.
    pub limit: u64,
}

/// Returns all that are attached.
pub fn all() -> Vec<Loop> {
    let names = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    names.filter_map(|entry| named(entry.file_name().to_str()?)).collect()
}

/// Returns the loop device of this name; `None` if it is another kind of device or not attached.
pub fn named(name: &str) -> Option<Loop> {
    let at = Path::new("/sys/block").join(name);
    let text = |what: &str| fs::read_to_string(at.join(what)).ok().map(|text| text.trim_end_matches('\n').to_owned());
    let file = text("loop/backing_file")?;
    let number = super::block::number(&text("dev")?)?;
    if let Some(status) = status(name, number) {
        let [device, inode, of, offset, limit, ..] = status;
        let backing = if of == 0 || of == device { Backing::File(device, inode) } else { Backing::Device(of) };
        return Some(Loop { name: name.to_owned(), number, backing, offset, limit });
    }
    // Its node may be missing, or not be for this user.
    let found = fs::metadata(file).ok()?;
    let backing = match found.file_type().is_block_device() {
        true => Backing::Device(found.rdev()),
        false => Backing::File(found.dev(), found.ino()),
    };
    let bytes = |what: &str| text(what).and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Loop { name: name.to_owned(), number, backing, offset: bytes("loop/offset"), limit: bytes("loop/sizelimit") })
}

fn status(name: &str, number: u64) -> Option<[u64; WORDS]> {
    let node = Path::new("/dev").join(name);
    let device = File::open(node).ok().filter(|device| {
        device.metadata().is_ok_and(|found| found.file_type().is_block_device() && found.rdev() == number)
    })?;
    // SAFETY: LOOP_GET_STATUS64 writes one loop_info64, 232 bytes of integers, to the address it is given, which is what
    // this getter provides.
    unsafe { ioctl::ioctl(device, Getter::<LOOP_GET_STATUS64, [u64; WORDS]>::new()) }.ok()
}
