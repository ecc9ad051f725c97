//! Saving from and restoring to block devices: loop devices over the test's own files.
//!
//! Needs root, for losetup and mount.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::imaging::{fails, forced, path, sh, works};
use crate::support::tools;

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

/// A mounted device; unmounted at the end.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    fn of<'a>(device: &Loop, dir: &'a Path) -> Mount<'a> {
        sh(&format!("mount -o ro {} {}", device.0, dir.display()));
        Mount(dir)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        sh(&format!("umount {}", self.0.display()));
    }
}

/// Makes an ext4 file system with blocks of `block` bytes in a file.
fn ext4(file: &Path, block: u32) {
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
        let _mount = Mount::of(&device, &mounted);
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
