//! Compressed images against the tools that the formats come from.

use std::fs;

use tempfile::TempDir;

use crate::imaging::{assert_holds, fails, make, path, sh, works};
use crate::support::tools;

/// Codec, what its tool is called by to compress and to expand, from standard input to standard output.
const TOOLS: &[(&str, &str, &str)] = &[
    ("gzip", "gzip -c", "gzip -dc"),
    ("lzop", "lzop -c", "lzop -dc"),
    ("zstd", "zstd -1 -c -T2", "zstd -dc"),
    ("lz4", "lz4 -c", "lz4 -dc"),
];

#[test]
fn compressed_images_are_read_by_their_tools_and_theirs_by_ogbox() {
    if !tools(&["gzip", "lzop", "zstd", "lz4", "partclone.extfs", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    works(&["save", "-c", "none", path(&fs), "-o", path(&at("plain"))]);
    for (codec, pack, unpack) in TOOLS {
        let (plain, ours, theirs) = (at("plain"), at("ours"), at("theirs"));
        works(&["save", "-c", codec, path(&fs), "-o", path(&ours)]);
        sh(&format!("{unpack} < {} | cmp - {}", ours.display(), plain.display()));
        sh(&format!("{pack} < {} > {}", plain.display(), theirs.display()));
        let size = |name: &std::path::Path| fs::metadata(name).unwrap().len();
        assert!(size(&ours) < size(&theirs) * 11 / 10, "{codec}: {} and {}", size(&ours), size(&theirs));
        for image in [&ours, &theirs] {
            let _ = fs::remove_file(at("back"));
            works(&["restore", path(image), path(&at("back"))]);
            assert_holds(&at("back"), &at("tree"));
            let mut bytes = fs::read(image).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 8;
            fs::write(at("bad"), &bytes).unwrap();
            assert!(fails(&["verify", path(&at("bad"))]).contains(": byte "));
            fs::write(at("bad"), &bytes[..middle]).unwrap();
            assert!(fails(&["restore", path(&at("bad")), path(&at("new"))]).contains(": byte "));
            assert!(!at("new").exists());
        }
    }
}
