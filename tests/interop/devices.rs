//! Saving from and restoring to block devices: loop devices over the test's own files.
//!
//! Needs root, for losetup and mount.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::imaging::{fails, forced, path, sh, works};
use crate::support::{applet, run, text, tools};

/// A loop device over a file; detached at the end.
pub struct Loop(pub String);

impl Loop {
    pub fn over(file: &Path, sector: u32) -> Loop {
        let device = sh(&format!("losetup -f --show -b {sector} {}", file.display())).stdout;
        Loop(String::from_utf8(device).unwrap().trim_end().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        sh(&format!("losetup -d {}", self.0));
    }
}

/// The partitions of a loop device as devices; gone at the end, as a detached device would keep them.
pub struct Partitions<'a>(&'a Loop);

impl Partitions<'_> {
    pub fn of(disk: &Loop) -> Partitions<'_> {
        sh(&format!("partx -a {}", disk.0));
        Partitions(disk)
    }

    pub fn name(&self, number: u32) -> String {
        format!("{}p{number}", self.0.0)
    }
}

impl Drop for Partitions<'_> {
    fn drop(&mut self) {
        sh(&format!("partx -d {}", self.0.0));
    }
}

/// A mounted device; unmounted at the end.
pub struct Mount<'a>(&'a Path);

impl Mount<'_> {
    pub fn of<'a>(device: &str, dir: &'a Path) -> Mount<'a> {
        sh(&format!("mount -o ro {device} {}", dir.display()));
        Mount(dir)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        sh(&format!("umount {}", self.0.display()));
    }
}

/// Makes an ext4 file system with blocks of `block` bytes in a file.
pub fn ext4(file: &Path, block: u32) {
    let file = file.display();
    sh(&format!("truncate -s 64M {file}; mkfs.ext4 -q -F -b {block} -d /etc/default {file}"));
}

#[test]
fn a_device_is_saved_and_restored_whole() {
    if !tools(&["losetup", "mkfs.ext4", "e2fsck"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 4096);
    sh(&format!("head -c 80M /dev/urandom > {}", at("disk").display()));
    let before = fs::read(at("disk")).unwrap();
    {
        let (source, target) = (Loop::over(&at("fs"), 512), Loop::over(&at("disk"), 4096));
        works(&["save", &source.0, "-o", path(&at("image"))]);
        works(&["restore", path(&at("image")), &target.0]);
        sh(&format!("e2fsck -fn {}", target.0));
    }
    let after = fs::read(at("disk")).unwrap();
    assert!(after.len() == before.len() && after[64 << 20..] == before[64 << 20..], "what is behind is as it was");
}

#[test]
fn a_device_in_use_is_neither_saved_nor_written_to() {
    if !tools(&["losetup", "mount", "mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 4096);
    fs::create_dir(at("mounted")).unwrap();
    works(&["save", path(&at("fs")), "-o", path(&at("image"))]);
    let before = fs::read(at("fs")).unwrap();
    {
        let device = Loop::over(&at("fs"), 512);
        let mounted = at("mounted");
        let _mount = Mount::of(&device.0, &mounted);
        let error = fails(&["save", &device.0, "-o", path(&at("again"))]);
        assert!(error.contains("is mounted or otherwise in use"), "{error}");
        assert!(!at("again").exists());
        let error = fails(&["restore", path(&at("image")), &device.0]);
        assert!(error.contains("is mounted or otherwise in use: nothing was written"), "{error}");
        assert!(forced(&["save", &device.0, "-o", path(&at("again"))]).contains("in use; taken as it is"));
    }
    assert!(fs::read(at("fs")).unwrap() == before);
}

#[test]
fn a_device_that_cannot_hold_the_file_system_is_not_written_to() {
    if !tools(&["losetup", "mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 1024);
    works(&["save", path(&at("fs")), "-o", path(&at("image"))]);
    sh(&format!("truncate -s 63M {}; truncate -s 64M {}", at("small").display(), at("coarse").display()));
    {
        let (small, coarse) = (Loop::over(&at("small"), 512), Loop::over(&at("coarse"), 4096));
        assert!(fails(&["restore", path(&at("image")), &small.0]).contains("nothing was written"));
        assert!(fails(&["restore", path(&at("image")), &coarse.0]).contains("has sectors of 4096 bytes"));
    }
    for name in ["small", "coarse"] {
        assert!(fs::read(at(name)).unwrap().iter().all(|byte| *byte == 0), "{name}");
    }
}

/// Runs one of partclone's programs, which must fail, and returns what it says.
fn partclone_fails(args: &[&str]) -> String {
    let output = applet(args[0]).args(&args[1..]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    text(&output.stderr)
}

#[test]
fn whatever_writes_to_a_device_refuses_one_that_is_in_use_too_small_or_a_disk_with_a_table() {
    if !tools(&["losetup", "mount", "mkfs.ext4", "sfdisk", "partx", "e2fsck"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 4096);
    sh(&format!(
        "cd {}; truncate -s 66M disk; printf 'label: gpt\\nsize=64M\\n' | sfdisk -q disk; truncate -s 63M small
         head -c 1M /dev/urandom > noise; truncate -s 64M noise",
        path(dir.path())
    ));
    fs::create_dir(at("mounted")).unwrap();
    works(&["save", path(&at("noise")), "-o", path(&at("raw"))]);
    let (disk, small) = (Loop::over(&at("disk"), 512), Loop::over(&at("small"), 512));
    let partitions = Partitions::of(&disk);
    let part = partitions.name(1);
    let source = at("fs");
    let source = path(&source);
    run(applet("partclone.dd").args(["-s", source, "-o", &part]));
    sh(&format!("e2fsck -fn {part}"));
    let before = fs::read(&disk.0).unwrap();
    {
        let mounted = at("mounted");
        let _mount = Mount::of(&part, &mounted);
        for target in [&part, &disk.0] {
            for args in [&["partclone.dd", "-s", source][..], &["partclone.ext4", "-c", "-s", source]] {
                let said = partclone_fails(&[args, &["-o", target]].concat());
                assert!(said.contains("in use: nothing was written") && !said.contains("Syncing"), "{said}");
            }
        }
    }
    assert!(partclone_fails(&["partclone.dd", "-s", source, "-o", &small.0]).contains("nothing was written"));
    let refused = [
        partclone_fails(&["partclone.dd", "-s", source, "-o", &disk.0]),
        partclone_fails(&["partclone.ext4", "-c", "-s", source, "-o", &disk.0]),
        fails(&["restore", path(&at("raw")), &disk.0]),
        partclone_fails(&["partclone.restore", "-s", path(&at("raw")), "-o", &disk.0]),
    ];
    assert!(refused.iter().all(|said| said.contains("has a partition table and")), "{refused:?}");
    assert!(fs::read(&disk.0).unwrap() == before);
    works(&["restore", path(&at("raw")), &disk.0, "--force"]);
    drop(partitions);
    run(applet("partclone.dd").args(["-s", path(&at("raw")), "-o", &disk.0]));
}
