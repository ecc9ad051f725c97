//! Block devices: their size and sectors, and whether anyone else is using them.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{self, Getter, Opcode, opcode};

/// BLKGETSIZE64 of <linux/fs.h>: defined with the size of a pointer-sized word, though the answer has 8 bytes.
const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);

/// Size of a block device, bytes.
pub fn size(device: impl AsFd) -> io::Result<u64> {
    // SAFETY: BLKGETSIZE64 writes one u64 to the address it is given, which is what this getter provides.
    Ok(unsafe { ioctl::ioctl(device, Getter::<BLKGETSIZE64, u64>::new()) }?)
}

/// Bytes of a block device's logical sector: what its reads and writes are multiples of.
pub fn sector_size(device: impl AsFd) -> io::Result<u32> {
    Ok(rustix::fs::ioctl_blksszget(device)?)
}
