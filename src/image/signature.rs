//! The signatures by which a device's content is known: of members and containers (RAID, LVM, encryption), and of file
//! systems beside those of [`fs`](super::fs). One table, for what is saved and for what a restore must not leave.
//!
//! Names, offsets and marks are those of libblkid 2.38, which udev and mount ask, and so is the precedence: members and
//! encryption come first, whatever else is found; two file systems at once are ambiguous. Marks of fewer than four bytes
//! count only with a checksum.

use super::fields::Fields;
use super::source::Source;

/// What a signature says of the device that bears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It belongs to an array, a volume group or the like, or is encrypted: only they know what it holds.
    Owner,
    /// The same, by a controller's firmware, which knows whole disks only.
    Firmware,
    /// It holds a file system that is not read here.
    Foreign,
    /// It holds a file system that is read here: the reader itself recognises it.
    Own,
    /// It is a copy, which counts only where nothing else is.
    Copy,
}

/// One mark at some places.
pub struct Signature {
    /// libblkid's name of what it marks.
    pub name: &'static str,
    /// What that is to the device.
    pub usage: Usage,
    /// Offsets of the sector of 512 bytes that has the mark: from the beginning if `unit` is 0, else back from the end,
    /// which is rounded down to this unit; bytes.
    unit: u64,
    sectors: &'static [u64],
    /// Offset of the mark in that sector.
    within: usize,
    mark: &'static [u8],
    /// Whether the sector with the mark, at this offset, fits.
    fits: Fits,
}

type Fits = fn(&Fields, u64) -> bool;

/// A signature that was found.
#[derive(Clone, Copy)]
pub struct Found {
    /// The signature.
    pub signature: &'static Signature,
    /// Offset of its mark, bytes.
    pub at: u64,
}

impl Found {
    /// Returns the length of its mark, bytes.
    pub fn length(&self) -> usize {
        self.signature.mark.len()
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const fn front(
    name: &'static str,
    usage: Usage,
    sectors: &'static [u64],
    within: usize,
    mark: &'static [u8],
) -> Signature {
    Signature { name, usage, unit: 0, sectors, within, mark, fits: |_, _| true }
}

const fn back(
    name: &'static str,
    usage: Usage,
    sectors: &'static [u64],
    within: usize,
    mark: &'static [u8],
) -> Signature {
    Signature { unit: 512, ..front(name, usage, sectors, within, mark) }
}

/// Sectors with the end of a swap's first page, by its size.
const SWAP: &[u64] = &[0xe00, 0x1e00, 0x3e00, 0x7e00, 0xfe00];
const UFS: &[u64] = &[9 * KIB, 65 * KIB, 257 * KIB];
const LUKS2: &[u64] = &[16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB];
const PROMISE: &[u64] = &[
    63 << 9,
    255 << 9,
    256 << 9,
    16 << 9,
    399 << 9,
    591 << 9,
    675 << 9,
    735 << 9,
    911 << 9,
    974 << 9,
    991 << 9,
    951 << 9,
    3087 << 9,
];
const MD: &[u8] = b"\xfc\x4e\x2b\xa9";
const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
const STRATIS: &[u8] = b"!Stra0tis\x86\xff\x02^\x41rh";
/// The GUID of BitLocker To Go, behind the boot sector of a FAT that is only for show.
const TO_GO: &[u8] = b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";

/// All signatures, those that take precedence first.
const SIGNATURES: &[Signature] = {
    use Usage::{Copy, Firmware, Foreign, Own, Owner};
    &[
        Signature { unit: 64 * KIB, fits: md_0, ..front("linux_raid_member", Owner, &[64 * KIB], 0, MD) },
        Signature { unit: 64 * KIB, ..front("linux_raid_member", Owner, &[64 * KIB], 0, b"\xa9\x2b\x4e\xfc\0\0\0\0") },
        Signature { unit: 4096, fits: md_1, ..front("linux_raid_member", Owner, &[8192], 0, MD) },
        Signature { fits: md_1, ..front("linux_raid_member", Owner, &[0, 4096], 0, MD) },
        back("ddf_raid_member", Firmware, &[512, 257 << 9], 0, b"\xde\x11\xde\x11"),
        back("isw_raid_member", Firmware, &[1024, 8192], 0, b"Intel Raid ISM Cfg Sig. "),
        back("lsi_mega_raid_member", Firmware, &[512], 0, b"$XIDE$"),
        Signature { fits: via, ..back("via_raid_member", Firmware, &[512], 0, b"\x55\xaa") },
        Signature { fits: silicon, ..back("silicon_medley_raid_member", Firmware, &[512], 96, b"\0\0\0\x2f") },
        back("nvidia_raid_member", Firmware, &[1024], 0, b"NVIDIA  \x1e\0\0\0"),
        back("promise_fasttrack_raid_member", Firmware, PROMISE, 0, b"Promise Technology, Inc."),
        back("hpt45x_raid_member", Firmware, &[11 << 9], 0, b"\xf3\x16\x78\x5a"),
        back("hpt45x_raid_member", Firmware, &[11 << 9], 0, b"\xfd\x16\x78\x5a"),
        front("hpt37x_raid_member", Firmware, &[9 << 9], 32, b"\xf0\x16\x78\x5a"),
        front("hpt37x_raid_member", Firmware, &[9 << 9], 32, b"\xfd\x16\x78\x5a"),
        Signature { fits: adaptec, ..back("adaptec_raid_member", Firmware, &[512], 0, b"\x37\xfc\x4d\x1e") },
        Signature { fits: jmicron, ..back("jmicron_raid_member", Firmware, &[512], 0, b"JM") },
        Signature { fits: |f, at| f.u64(8) == at / 512, ..front("bcache", Owner, &[4096], 24, BCACHE) },
        front("bcachefs", Owner, &[4096, 2 * MIB], 24, BCACHEFS),
        back("bcachefs", Owner, &[MIB], 24, BCACHEFS),
        front("ceph_bluestore", Owner, &[0], 0, b"bluestore block device"),
        Signature { fits: drbd, ..back("drbd", Owner, &[4096], 60, b"\x83\x74\x02\x6b") },
        Signature { fits: drbd, ..back("drbd", Owner, &[4096], 60, b"\x83\x74\x02\x6c") },
        Signature { fits: drbd, ..back("drbd", Owner, &[4096], 60, b"\x83\x74\x02\x6d") },
        Signature { fits: lvm2, ..front("LVM2_member", Owner, &[0, 512, 1024, 1536], 24, b"LVM2 001") },
        front("DM_snapshot_cow", Owner, &[0], 0, b"SnAp"),
        front("DM_verity_hash", Owner, &[0], 0, b"verity\0\0"),
        front("DM_integrity", Owner, &[0], 0, b"integrt\0"),
        front("crypto_LUKS", Owner, &[0], 0, b"LUKS\xba\xbe"),
        Signature { fits: luks_2, ..front("crypto_LUKS", Copy, LUKS2, 0, b"SKUL\xba\xbe") },
        front("VMFS_volume_member", Owner, &[MIB], 0, b"\x0d\xd0\x01\xc0"),
        front("ubi", Owner, &[0], 0, b"UBI#"),
        front("vdo", Owner, &[0], 0, b"dmvdo001"),
        front("stratis", Owner, &[512, 9 << 9], 4, STRATIS),
        front("BitLocker", Owner, &[0], 3, b"-FVE-FS-"),
        front("BitLocker", Owner, &[0], 424, TO_GO),
        // From here on they do not exclude each other.
        front("swsuspend", Foreign, &[0], 0, b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"),
        front("swap", Own, SWAP, 502, b"SWAP-SPACE"),
        front("swap", Own, SWAP, 502, b"SWAPSPACE2"),
        front("swsuspend", Own, SWAP, 502, b"S1SUSPEND"),
        front("swsuspend", Own, SWAP, 502, b"S2SUSPEND"),
        front("swsuspend", Own, SWAP, 502, b"ULSUSPEND"),
        front("swsuspend", Own, SWAP, 502, b"LINHIB0001"),
        front("reiserfs", Foreign, &[64 * KIB], 52, b"ReIsEr2Fs"),
        front("reiserfs", Foreign, &[64 * KIB], 52, b"ReIsEr3Fs"),
        front("reiserfs", Foreign, &[8 * KIB, 64 * KIB], 52, b"ReIsErFs"),
        front("reiserfs", Foreign, &[8 * KIB], 20, b"ReIsErFs"),
        front("reiser4", Foreign, &[64 * KIB], 0, b"ReIsEr4"),
        front("jfs", Foreign, &[32 * KIB], 0, b"JFS1"),
        front("udf", Foreign, &[32 * KIB], 1, b"BEA01"),
        front("udf", Foreign, &[32 * KIB], 1, b"NSR02"),
        front("udf", Foreign, &[32 * KIB], 1, b"NSR03"),
        front("iso9660", Foreign, &[32 * KIB], 1, b"CD001"),
        front("hfsplus", Foreign, &[KIB], 0, b"H+\0\x04"),
        front("hfsplus", Foreign, &[KIB], 0, b"HX\0\x05"),
        front("ufs", Foreign, UFS, 348, b"\x19\x01\x54\x19"),
        front("ufs", Foreign, UFS, 348, b"\x54\x19\x01\0"),
        front("ufs", Foreign, UFS, 348, b"\x19\x54\x01\x19"),
        front("ufs", Foreign, UFS, 348, b"\0\x01\x19\x54"),
        front("hpfs", Foreign, &[8 * KIB], 0, b"\x49\xe8\x95\xf9"),
        front("ReFS", Foreign, &[0], 0, b"\0\0\0ReFS\0"),
        front("cramfs", Foreign, &[0], 0, b"\x45\x3d\xcd\x28"),
        front("romfs", Foreign, &[0], 0, b"-rom1fs-"),
        front("gfs2", Foreign, &[64 * KIB], 0, b"\x01\x16\x19\x70"),
        front("ocfs2", Foreign, &[KIB, 2 * KIB, 4 * KIB, 8 * KIB], 0, b"OCFSV2"),
        front("oracleasm", Foreign, &[0], 32, b"ORCLDISK"),
        front("vxfs", Foreign, &[KIB], 0, b"\xf5\xfc\x01\xa5"),
        front("squashfs", Foreign, &[0], 0, b"hsqs"),
        front("nss", Foreign, &[4 * KIB], 0, b"SPB5"),
        front("btrfs", Own, &[64 * KIB], 64, b"_BHRfS_M"),
        front("VMFS", Foreign, &[2 * MIB], 0, b"\x5e\xf1\xab\x2f"),
        front("nilfs2", Foreign, &[KIB], 0, b"\x02\0\0\0\0\0\x34\x34"),
        back("nilfs2", Foreign, &[4096], 0, b"\x02\0\0\0\0\0\x34\x34"),
        front("apfs", Foreign, &[0], 32, b"NXSB"),
        front("erofs", Foreign, &[KIB], 0, b"\xe2\xe1\xf5\xe0"),
    ]
};

/// ZFS, whose marks are searched for: in each of four labels, two of them at the end, 128 KiB of uberblocks.
const ZFS: Signature = front("zfs_member", Usage::Foreign, &[], 0, &[0; 8]);
const ZFS_MARK: u64 = 0x00ba_b10c;
const ZFS_LABEL: u64 = 256 * KIB;
const ZFS_BLOCKS: u64 = 128 * KIB;
const ZFS_LEAST: u64 = 64 * MIB;

/// Returns the signatures on the source, those that take precedence first. What cannot be read has none.
pub fn find(source: &Source) -> Vec<Found> {
    let mut seen = Sectors { source, read: Vec::new() };
    let mut found = Vec::new();
    for signature in SIGNATURES.iter().filter(|of| of.usage != Usage::Firmware || !source.is_partition()) {
        for sector in signature.sectors {
            let base = match signature.unit {
                0 => Some(*sector),
                unit => (source.size() / unit * unit).checked_sub(*sector),
            };
            let Some((base, bytes)) = base.and_then(|base| Some((base, seen.at(base)?))) else { continue };
            let marked = bytes.get(signature.within..).is_some_and(|rest| rest.starts_with(signature.mark));
            if marked && (signature.fits)(&Fields(bytes), base) {
                found.push(Found { signature, at: base + signature.within as u64 });
            }
        }
    }
    found.extend(zfs(source));
    found
}

/// Returns each uberblock of ZFS.
fn zfs(source: &Source) -> Vec<Found> {
    let mut found = Vec::new();
    let end = source.size() / ZFS_LABEL * ZFS_LABEL;
    if end < ZFS_LEAST {
        return found;
    }
    let mut blocks = vec![0; ZFS_BLOCKS as usize];
    for label in [0, ZFS_LABEL, end - 2 * ZFS_LABEL, end - ZFS_LABEL] {
        let first = label + ZFS_LABEL - ZFS_BLOCKS;
        if source.read_at(&mut blocks, first).is_err() {
            continue;
        }
        for (index, block) in blocks.chunks_exact(KIB as usize).enumerate() {
            let f = Fields(block);
            if f.u64(0) == ZFS_MARK || f.be64(0) == ZFS_MARK {
                found.push(Found { signature: &ZFS, at: first + index as u64 * KIB });
            }
        }
    }
    found
}

/// The sectors read so far: most signatures share theirs.
struct Sectors<'a> {
    source: &'a Source,
    read: Vec<(u64, Vec<u8>)>,
}

impl Sectors<'_> {
    /// Returns the sector at an offset, shorter at the source's end.
    fn at(&mut self, at: u64) -> Option<&[u8]> {
        let place = match self.read.iter().position(|(have, _)| *have == at) {
            Some(place) => place,
            None => {
                let length = self.source.size().checked_sub(at)?.min(512) as usize;
                self.read.push((at, self.source.read(at, length).ok()?));
                self.read.len() - 1
            }
        };
        Some(&self.read[place].1)
    }
}

/// MD 0.90: the part that it says to protect fits before it.
fn md_0(f: &Fields, at: u64) -> bool {
    f.u32(4) == 0 && u64::from(f.u32(32)) << 10 <= at
}

fn md_1(f: &Fields, at: u64) -> bool {
    f.u32(4) == 1 && f.u64(144) == at >> 9
}

fn via(f: &Fields, _: u64) -> bool {
    let sum = (0..50).fold(0_u8, |sum, at| sum.wrapping_add(f.u8(at)));
    f.u8(2) <= 2 && sum == f.u8(50)
}

fn sum_16(f: &Fields, bytes: usize) -> u16 {
    (0..bytes).step_by(2).fold(0_u16, |sum, at| sum.wrapping_add(f.u16(at)))
}

fn silicon(f: &Fields, _: u64) -> bool {
    f.u8(0x116) < 8 && sum_16(f, 0x13e).wrapping_neg() == f.u16(0x13e)
}

fn adaptec(f: &Fields, _: u64) -> bool {
    f.0.get(256..260) == Some(b"DPTM")
}

fn jmicron(f: &Fields, _: u64) -> bool {
    f.u8(0x30) <= 5 && sum_16(f, 128) <= 1
}

/// DRBD: one bit of its bitmap stands for 4 KiB.
fn drbd(f: &Fields, _: u64) -> bool {
    f.be32(80) == 4096
}

fn lvm2(f: &Fields, at: u64) -> bool {
    f.0.starts_with(b"LABELONE") && f.u64(8) == at / 512
}

fn luks_2(f: &Fields, at: u64) -> bool {
    f.be64(256) == at
}
