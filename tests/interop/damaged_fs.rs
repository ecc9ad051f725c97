//! File systems with bytes changed anywhere in their structures: an error or a map, never a panic, never a read past
//! the device, never an endless loop.
//!
//! A read past the device is an error of the source; a map of more blocks than the device has is detected here.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ogbox::image::Error;
use ogbox::image::disk::{self, Table};
use ogbox::image::fs::{Used, used};
use ogbox::image::source::Source;
use tempfile::TempDir;

use crate::imaging::{path, sh};
use crate::support::tools;

/// Name, size, and the command that makes it (FS: its file).
const KINDS: &[(&str, &str, &str)] = &[
    ("ext4", "4M", "mkfs.ext4 -q -F FS"),
    ("ext4 with clusters", "64M", "mkfs.ext4 -q -F -b 1024 -O bigalloc,meta_bg,^resize_inode FS"),
    ("ext2", "1M", "mkfs.ext2 -q -F FS"),
    ("ntfs", "8M", "mkfs.ntfs -q -F -f FS"),
    ("fat12", "1M", "mkfs.fat -F 12 FS"),
    ("fat16", "16M", "mkfs.fat -F 16 FS"),
    ("fat32", "40M", "mkfs.fat -F 32 FS"),
    ("exfat", "8M", "mkfs.exfat FS"),
    ("btrfs", "110M", "mkfs.btrfs -q -f FS"),
    ("xfs", "40M", "mkfs.xfs -q -f --unsupported -d agcount=2 -l size=6m FS"),
    ("xfs 4", "34M", "mkfs.xfs -q -f --unsupported -m crc=0 -b size=512 -d agcount=2 -l size=3m FS"),
    ("f2fs", "60M", "mkfs.f2fs -q -f FS"),
    ("gpt", "8M", "printf 'label: gpt\n,1M\n,2M\n' | sfdisk -q FS"),
    ("mbr", "8M", "printf 'label: dos\n,1M\n,4M,E\n,1M\n,1M\n' | sfdisk -q FS"),
    ("swap", "1M", "mkswap FS"),
];

/// The tools of these commands.
const TOOLS: &[&str] =
    &["mkfs.ext4", "mkfs.ntfs", "mkfs.fat", "mkfs.exfat", "mkfs.btrfs", "mkfs.xfs", "mkfs.f2fs", "sfdisk", "mkswap"];

/// The used blocks of a file system, or of a whole disk. By force, so that each partition is examined.
fn read(source: &Source) -> Result<Used, Error> {
    match Table::read(source)? {
        Some(table) => disk::used(source, &table, true, &mut Vec::new()),
        None => used(source),
    }
}

/// Number of times that each is damaged.
const ROUNDS: usize = 3000;

#[test]
fn damaged_file_systems_give_an_error_or_a_map_that_fits() {
    if !tools(TOOLS) {
        return;
    }
    for (name, size, make) in KINDS {
        println!("{name}");
        let dir = TempDir::new().unwrap();
        let fs = dir.path().join("fs");
        sh(&format!("truncate -s {size} {0}; {1}", fs.display(), make.replace("FS", path(&fs))));
        let whole = fs::read(&fs).unwrap();
        // Significant bytes: those that are not zero, and their neighbours.
        let meant: Vec<usize> =
            (0..whole.len()).filter(|at| whole[at.saturating_sub(3)..=*at].iter().any(|b| *b != 0)).collect();
        let file = OpenOptions::new().write(true).open(&fs).unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (mut maps, mut errors) = (0, 0);
        // The log of XFS is read whole each time.
        let rounds = if name.starts_with("xfs") { ROUNDS / 6 } else { ROUNDS };
        for round in 0..rounds {
            // Most of the bytes that are read are at the front.
            let spread = if round % 2 == 0 { meant.len().min(1500) } else { meant.len() };
            let changes: Vec<(usize, u8)> = (0..1 + random(4))
                .map(|_| (meant[random(spread)], [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)]))
                .collect();
            for (at, byte) in &changes {
                file.write_all_at(&[*byte], *at as u64).unwrap();
            }
            let begin = Instant::now();
            let source = Source::open(&fs, false).unwrap();
            match read(&source) {
                Ok(used) => {
                    maps += 1;
                    let bytes = used.map.blocks().checked_mul(u64::from(used.block_size)).unwrap();
                    assert!(bytes <= source.size(), "{name}: {changes:?}: a map of {bytes} bytes");
                }
                Err(Error::Damaged { .. } | Error::Refused(_)) => errors += 1,
                Err(error) => panic!("{name}: {changes:?}: {error}"),
            }
            assert!(begin.elapsed() < Duration::from_secs(5), "{name}: {changes:?} took {:?}", begin.elapsed());
            for (at, _) in &changes {
                file.write_all_at(&whole[*at..=*at], *at as u64).unwrap();
            }
        }
        assert!(maps > 0 && errors > 0, "{name}: {maps} maps and {errors} errors");
    }
}

#[test]
fn a_file_system_cut_short_is_refused() {
    if !tools(TOOLS) {
        return;
    }
    // A disk cut short may still have its partitions.
    for (name, size, make) in KINDS.iter().filter(|(_, _, make)| !make.contains("sfdisk")) {
        println!("{name}");
        let dir = TempDir::new().unwrap();
        let fs = dir.path().join("fs");
        sh(&format!("truncate -s {size} {0}; {1}", fs.display(), make.replace("FS", path(&fs))));
        let whole = fs::metadata(&fs).unwrap().len();
        let file = OpenOptions::new().write(true).open(&fs).unwrap();
        for length in [whole - 4096, whole / 2, 70_000, 4096, 2048, 1500, 1024, 512, 100, 0] {
            file.set_len(length).unwrap();
            let source = Source::open(&fs, false).unwrap();
            assert!(used(&source).is_err(), "{name} of {length} bytes");
        }
    }
}
