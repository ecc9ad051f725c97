//! Images of partclone 0.3.47, which sums blocks by XXH64 and XXH128 too, as Clonezilla does since April 2026. Debian's
//! partclone knows neither, so the images are fixtures (`tests/fixtures/partclone-0.3.47`, made as its list says), and what we write is
//! compared with them byte by byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::imaging::{fails, noise, path, sh, works};
use crate::support::{applet, run, text, tools};

/// The fixtures: name, partclone.info's name and size of their checksum, and blocks that one covers.
const IMAGES: &[(&str, &str, &str, &str)] = &[
    ("ext4-a0", "NONE", "n/a", "n/a"),
    ("ext4-a1", "CRC32", "4", "256"),
    ("ext4-a2", "XXH64", "8", "256"),
    ("ext4-a2-k7", "XXH64", "8", "7"),
    ("ext4-a2-k7-noreseed", "XXH64", "8", "7"),
    ("ext4-a3", "XXH128", "16", "256"),
    ("ext4-a3-k7-noreseed", "XXH128", "16", "7"),
];
/// Bytes of a header.
const HEADER: usize = 110;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/partclone-0.3.47").join(name)
}

/// The bytes of a fixture, expanded by zstd itself.
fn expanded(name: &str) -> Vec<u8> {
    sh(&format!("zstd -dcq {}", path(&fixture(name)))).stdout
}

#[test]
fn images_of_partclone_0_3_47_are_verified_restored_and_told_of() {
    if !tools(&["zstd"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let original = expanded("ext4-original.raw.zst");
    for (name, algorithm, size, blocks) in IMAGES {
        let image = fixture(&format!("{name}.img.zst"));
        works(&["verify", path(&image)]);
        works(&["restore", path(&image), path(&at(name))]);
        assert!(fs::read(at(name)).unwrap() == original, "{name}");
        run(applet("partclone.chkimg").args(["-s", path(&image)]));
        run(applet("partclone.restore").args(["-s", path(&image), "-o", path(&at("theirs"))]));
        assert!(fs::read(at("theirs")).unwrap() == original, "{name}");
        fs::remove_file(at("theirs")).unwrap();
        let said = text(&run(applet("partclone.info").args(["-s", path(&image)])).stderr);
        let want = format!(
            "checksum algo:   {algorithm}\nchecksum size:   {size}\nblocks/checksum: {blocks}\nreseed checksum: "
        );
        assert!(said.contains(&want), "{said}");
        let listed = text(&run(applet("image").args(["info", "--json", path(&image)])).stdout);
        assert!(listed.contains(&format!("\"checksum\":\"{algorithm}\"")), "{listed}");
    }
}

#[test]
fn what_is_written_is_what_partclone_0_3_47_writes() {
    if !tools(&["zstd"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("fs"), expanded("ext4-original.raw.zst")).unwrap();
    let same = |file: &str, fixture: &str| {
        let (ours, theirs) = (fs::read(at(file)).unwrap(), expanded(&format!("{fixture}.img.zst")));
        // The headers differ in the program's version alone, and so in their own checksum.
        assert!(ours[30..106] == theirs[30..106] && ours[HEADER..] == theirs[HEADER..], "{file}, {fixture}");
    };
    for (name, options) in [
        ("ext4-a0", &["-a0"][..]),
        ("ext4-a1", &["-a1"]),
        ("ext4-a2", &["-a2"]),
        ("ext4-a2-k7", &["-a", "2", "-k7"]),
        ("ext4-a2-k7-noreseed", &["-a2", "-k", "7", "-K"]),
        ("ext4-a3", &["--checksum-mode=3"]),
        ("ext4-a3-k7-noreseed", &["-a3", "-k7", "--no-reseed"]),
    ] {
        run(applet("partclone.extfs").args(["-c", "-s", path(&at("fs")), "-O", path(&at("image"))]).args(options));
        same("image", name);
    }
    for (checksum, name) in [("none", "ext4-a0"), ("crc32", "ext4-a1"), ("xxh64", "ext4-a2"), ("xxh128", "ext4-a3")] {
        for from in ["ext4-a2-k7-noreseed", "ext4-a3", "ext4-a1"] {
            let from = fixture(&format!("{from}.img.zst"));
            works(&["convert", "-c", "none", "--checksum", checksum, path(&from), "-o", path(&at("converted"))]);
            same("converted", name);
        }
    }
    works(&["save", "-c", "none", "--checksum", "xxh128", path(&at("fs")), "-o", path(&at("saved"))]);
    same("saved", "ext4-a3");
    let output = applet("partclone.extfs").args(["-c", "-a4", "-s", path(&at("fs"))]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(text(&output.stderr).contains("Unknown checksum mode '4'."), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_byte_in_a_block_or_its_checksum_is_found() {
    if !tools(&["zstd"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let damaged = dir.path().join("damaged");
    for (name, digits) in [("ext4-a2", 16), ("ext4-a2-k7-noreseed", 16), ("ext4-a3", 32), ("ext4-a3-k7-noreseed", 32)] {
        let whole = expanded(&format!("{name}.img.zst"));
        for at in [whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(&damaged, &bytes).unwrap();
            let error = fails(&["verify", path(&damaged)]);
            let numbers: Vec<&str> = error.split(&[' ', ','][..]).filter(|word| word.starts_with("0x")).collect();
            assert!(error.contains("the checksum of blocks ") && numbers.len() == 2, "{error}");
            assert!(numbers.iter().all(|number| number.len() == 2 + digits), "{error}");
        }
        fs::write(&damaged, &whole[..whole.len() - 3]).unwrap();
        assert!(fails(&["verify", path(&damaged)]).contains("cut short"), "{name}");
    }
    // In a chain of checksums, those of a part cannot be verified without all before.
    let image = fixture("ext4-a3-k7-noreseed.img.zst");
    let error = fails(&["restore", "--partition", "1", path(&image), path(&dir.path().join("out"))]);
    assert!(error.contains("XXH128 checksums continue each other") && error.contains("image convert"), "{error}");
}

#[test]
fn a_partition_comes_out_of_a_disks_image_by_any_checksum() {
    if !tools(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let disk = path(&at("disk")).to_owned();
    sh(&format!("truncate -s 24M {disk}; printf 'label: dos\nstart=2048,size=32768,type=83\n' | sfdisk -q {disk}"));
    fs::write(at("noise"), noise(3 << 20, 9)).unwrap();
    sh(&format!(
        "cd {}; truncate -s 16M part; mkfs.ext4 -qF -O ^has_journal part; debugfs -w -R 'write noise noise' part; \
         dd if=part of=disk bs=1M seek=1 conv=notrunc status=none",
        path(dir.path())
    ));
    for checksum in ["xxh64", "xxh128"] {
        for codec in ["none", "lzop", "zstd"] {
            let (image, out) = (at(&format!("{checksum}.{codec}")), at("out"));
            works(&["save", "-c", codec, "--checksum", checksum, &disk, "-o", path(&image)]);
            works(&["restore", "--partition", "1", path(&image), path(&out)]);
            let compared = Command::new("cmp").args([path(&out), path(&at("part"))]).output().unwrap();
            assert!(compared.status.success(), "{checksum} {codec}: {}", text(&compared.stdout));
            fs::remove_file(out).unwrap();
        }
    }
}
