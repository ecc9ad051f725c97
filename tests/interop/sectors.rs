//! Devices whose size or sectors do not fit the kernel's pages, or the file system: loop devices over the test's own files.
//!
//! Needs root, for losetup.

use std::fs::{self, File};

use tempfile::TempDir;

use crate::devices::{Loop, Partitions};
use crate::imaging::{fails, noise, path, sh, works};
use crate::support::{applet, run, text, tools};

const MIB: usize = 1 << 20;

fn soft_block_size(device: &Loop) -> u32 {
    text(&sh(&format!("blockdev --getbsz {}", device.0)).stdout).trim().parse().unwrap()
}

/// Requests to write that the kernel has given to a device so far.
fn writes(device: &Loop) -> u64 {
    let stat = fs::read_to_string(format!("/sys/block/{}/stat", device.0.trim_start_matches("/dev/"))).unwrap();
    stat.split_whitespace().nth(4).unwrap().parse().unwrap()
}

#[test]
fn a_device_of_an_odd_size_is_written_in_whole_blocks_to_its_last_sector() {
    if !tools(&["losetup", "blockdev"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut even = 0;
    for (extra, soft) in [(0, 4096), (512, 512), (1024, 1024), (3584, 512)] {
        let content = noise(64 * MIB + extra, 3);
        fs::write(at("content"), &content).unwrap();
        works(&["save", "--raw", path(&at("content")), "-c", "none", "-o", path(&at("image"))]);
        let image = fs::read(at("image")).unwrap();
        fs::write(at("cut"), &image[..image.len() / 2]).unwrap();
        fs::write(at("disk"), vec![0; content.len()]).unwrap();
        let device = Loop::over(&at("disk"), 512);
        // While somebody has it open, the kernel does not go back to the default by itself.
        let _held = File::open(&device.0).unwrap();
        assert_eq!(soft_block_size(&device), soft);
        assert!(fails(&["restore", path(&at("cut")), &device.0]).ends_with("was not finished and is unusable"));
        assert_eq!(soft_block_size(&device), soft, "after a failure, {extra} bytes more");
        for options in [&[][..], &["--verify"]] {
            let before = writes(&device);
            works(&[&["restore", path(&at("image")), &device.0], options].concat());
            let count = writes(&device) - before;
            even = if extra == 0 { count } else { even };
            assert!(count * 2 <= even * 3, "{count} requests for {extra} bytes more, {even} without them");
            assert_eq!(soft_block_size(&device), soft, "{extra} bytes more");
            assert!(fs::read(&device.0).unwrap() == content, "{extra} bytes more");
        }
        drop(device);
        assert!(fs::read(at("disk")).unwrap() == content, "{extra} bytes more");
    }
}

#[test]
fn a_file_system_of_smaller_sectors_than_the_disks_is_refused_before_the_first_byte() {
    const MADE: [(&str, &str); 5] = [
        ("mkfs.xfs -qf -s size=512 -b size=4096", "XFS was made for 512"),
        ("mkfs.ntfs -qFf -s 512 -c 4096", "NTFS was made for 512"),
        ("mkfs.exfat -c 4096", "blocks of 512"),
        ("mkfs.fat -S 512", "blocks of 512"),
        ("mkfs.ext4 -qF -b 1024", "blocks of 1024"),
    ];
    const LIVING: [&str; 5] =
        ["mkfs.xfs -qf -s size=4096", "mkfs.btrfs -qf", "mkfs.f2fs -qf", "mkswap -q", "mkfs.ntfs -qFf -s 4096 -c 4096"];
    if !tools(&["losetup", "mkfs.xfs", "mkfs.ntfs", "mkfs.exfat", "mkfs.fat", "mkfs.ext4", "mkfs.btrfs", "mkfs.f2fs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let make = |script: &str, save: &[&str]| {
        sh(&format!("cd {}; rm -f fs; truncate -s 320M fs; {script} fs > said 2>&1", path(dir.path())));
        works(&[&["save", path(&at("fs")), "-o", path(&at("image"))], save].concat());
    };
    File::create(at("disk")).unwrap().set_len(320 << 20).unwrap();
    fs::write(at("head"), noise(2 * MIB, 4)).unwrap();
    sh(&format!("dd if={} of={} conv=notrunc status=none", path(&at("head")), path(&at("disk"))));
    sh(&format!("cp --sparse=always {} {}", path(&at("disk")), path(&at("before"))));
    let device = Loop::over(&at("disk"), 4096);
    for (script, why) in MADE {
        for save in [&[][..], &["--raw"]] {
            make(script, save);
            // An ext of the same name in whole pages is told by its superblock.
            let why = if save.is_empty() { why } else { "was made for" };
            for options in [&[][..], &["--zero"], &["--discard"]] {
                let said = fails(&[&["restore", path(&at("image")), &device.0], options].concat());
                assert!(said.contains("has sectors of 4096 bytes") && said.contains(why), "{script}: {said}");
                assert!(said.contains("nothing was written; take a disk with smaller sectors"), "{said}");
                assert!(!said.contains("unusable"), "{said}");
            }
        }
        sh(&format!("sync {}; cmp {} {}", device.0, path(&at("before")), path(&at("disk"))));
    }
    for script in LIVING {
        make(script, &[]);
        works(&["restore", "--zero", path(&at("image")), &device.0]);
        let kind = |of: &str| text(&sh(&format!("blkid -p -o export {of} | grep -e ^TYPE= -e ^UUID=")).stdout);
        assert_eq!(kind(&device.0), kind(path(&at("fs"))), "{script}");
    }
}

#[test]
fn ntfs_restored_to_a_partition_says_where_that_lies() {
    if !tools(&["mkfs.ntfs", "sfdisk", "losetup", "partx"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    sh(&format!(
        "cd {}; truncate -s 30M n; mkfs.ntfs -qFf -p 63 -H 16 -S 32 n > said; truncate -s 34M disk
         printf 'start=4096,size=61440,type=7\n' | sfdisk -q disk",
        path(dir.path())
    ));
    works(&["save", path(&at("n")), "-o", path(&at("image"))]);
    let geometry = |volume: &[u8]| {
        assert!(volume.ends_with(&volume[..512]), "the copy is the same");
        volume[24..32].to_vec()
    };
    let old = geometry(&fs::read(at("n")).unwrap());
    let new = [63, 0, 255, 0, 0, 16, 0, 0];
    assert_eq!(old, [32, 0, 16, 0, 63, 0, 0, 0]);
    let device = Loop::over(&at("disk"), 512);
    let parts = Partitions::of(&device);
    let read = || fs::read(parts.name(1)).unwrap();
    // partclone's programs leave it to partclone.ntfsfixboot.
    run(applet("partclone.restore").args(["-s", path(&at("image")), "-o", &parts.name(1)]));
    assert_eq!(geometry(&read()), old);
    let said = works(&["restore", "--verify", path(&at("image")), &parts.name(1)]);
    assert!(said.contains("NTFS had itself at sector 63 of a disk of 16 heads and 32 sectors"), "{said}");
    assert_eq!(geometry(&read()), new);
    // What is right already is left, and a file is no partition.
    works(&["save", &parts.name(1), "-o", path(&at("again"))]);
    assert_eq!(works(&["restore", path(&at("again")), &parts.name(1)]), "");
    assert_eq!(geometry(&read()), new);
    assert_eq!(works(&["restore", path(&at("image")), path(&at("file"))]), "");
    assert_eq!(geometry(&fs::read(at("file")).unwrap()), old);
    drop(parts);
}
