//! Compressed images against the tools that the formats come from.

use std::fs;

use ogbox::image::codec::Input;
use ogbox::image::{Watch, unpack};
use tempfile::TempDir;

use crate::imaging::{assert_holds, fails, make, path, sh, works};
use crate::support::tools;

/// Codec, and its tool's commands to compress and to expand, from standard input to standard output.
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

/// Unusual ways to make a file: of several members, of dependent blocks, with a large window, without checksums. `P`
/// is the image, `H` its first part and `T` the rest.
const ODD: &[&str] = &[
    "gzip -c H; gzip -9 -c T",
    "lzop -c H; lzop -9 -c T",
    "lzop -c -F P",
    "lzop -c --crc32 P",
    "zstd -q -c H; zstd -q -3 -c T",
    "zstd -q -c --no-check P",
    "zstd -q -c --long=27 P",
    "zstd -q -12 < P",
    "pzstd -q -c P",
    "lz4 -q -c H; lz4 -q -9 -c T",
    "lz4 -q -c -BD -B4 P",
    "lz4 -q -c -B5 -BX --content-size P",
    "lz4 -q -c -BD -B7 --no-frame-crc < P",
    "xz -q -0 -c H; xz -q -0 --check=none -c T",
    "xz -q --x86 --lzma2=preset=0 --check=sha256 -c P",
];

#[test]
fn odd_files_of_each_tool_are_read() {
    if !tools(&["gzip", "lzop", "zstd", "lz4", "xz", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    works(&["save", "-c", "none", path(&fs), "-o", path(&at("P"))]);
    sh(&format!("cd {} && head -c 5000000 P > H && tail -c +5000001 P > T", dir.path().display()));
    for line in ODD {
        sh(&format!("cd {} && ({line}) > odd", dir.path().display()));
        works(&["verify", path(&at("odd"))]);
        let whole = fs::read(at("odd")).unwrap();
        fs::write(at("odd"), &whole[..whole.len() - 1]).unwrap();
        assert!(fails(&["verify", path(&at("odd"))]).contains(": byte "), "{line}");
    }
    sh(&format!("cd {} && lz4 -q -l -c P > odd", dir.path().display()));
    assert!(fails(&["verify", path(&at("odd"))]).contains("odd: byte 0: a legacy lz4 frame is not read"));
}

#[test]
fn files_cut_short_or_with_a_flipped_bit_anywhere_are_refused() {
    if !tools(&["gzip", "lzop", "zstd", "lz4", "mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    sh(&format!("truncate -s 1M {0} && mkfs.ext4 -q -F {0}", at("fs").display()));
    works(&["save", "-c", "none", path(&at("fs")), "-o", path(&at("plain"))]);
    let verify = |bytes: Vec<u8>| {
        let input = Input::new(Box::new(std::io::Cursor::new(bytes)), "X");
        unpack::read(input, false, &Watch::idle(), &mut |_, _| Ok(())).map_err(|error| error.to_string())
    };
    for (codec, pack, _) in TOOLS {
        works(&["save", "-c", codec, path(&at("fs")), "-o", path(&at("ours"))]);
        sh(&format!("{pack} < {} > {}", at("plain").display(), at("theirs").display()));
        for image in ["ours", "theirs"] {
            let whole = fs::read(at(image)).unwrap();
            let header = verify(whole.clone()).unwrap();
            // Behind the image's last byte, a zstd file of ours has a seek table, which may be missing as a whole.
            let least = whole.len() - if (*codec, image) == ("zstd", "ours") { 25 } else { 1 };
            let step = whole.len() / 150 + 1;
            for cut in (0..least).step_by(step).chain(least.saturating_sub(30)..least) {
                let error = verify(whole[..cut].to_vec()).unwrap_err();
                assert!(error.contains("byte "), "{codec} {image}, {cut}: {error}");
            }
            for bit in (0..whole.len() * 8).step_by(step * 5 + 1) {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                match verify(damaged) {
                    Ok(read) => assert_eq!(read, header, "{codec} {image}, bit {bit}"),
                    Err(error) => assert!(error.contains("byte "), "{codec} {image}, bit {bit}: {error}"),
                }
            }
        }
    }
}

#[test]
fn what_is_saved_at_any_level_is_what_the_usual_tools_read() {
    if !tools(&["gzip", "zstd", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    works(&["save", "-c", "none", path(&fs), "-o", path(&at("plain"))]);
    let mut sizes = Vec::new();
    for (codec, level) in [("zstd", 1), ("zstd", 3), ("zstd", 9), ("zstd", 19), ("gzip", 1), ("gzip", 9)] {
        works(&["save", "-c", &format!("{codec}:{level}"), path(&fs), "-o", path(&at("image"))]);
        let (image, plain) = (at("image"), at("plain"));
        sh(&format!("{codec} -t < {0} && {codec} -dc < {0} | cmp - {1}", image.display(), plain.display()));
        sizes.push(fs::metadata(at("image")).unwrap().len());
    }
    assert!(sizes[..4].is_sorted_by(|lower, higher| lower > higher) && sizes[4] > sizes[5], "{sizes:?}");
}
