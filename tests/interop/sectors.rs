//! Devices whose size or sectors do not fit the kernel's pages, or the file system: loop devices over the test's own files.
//!
//! Needs root, for losetup.

use std::fs::{self, File};

use tempfile::TempDir;

use crate::devices::Loop;
use crate::imaging::{fails, noise, path, sh, works};
use crate::support::{text, tools};

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
