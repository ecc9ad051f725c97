//! The frozen images: small ones of every writer and version, made once and kept (`tests/fixtures/images`), which every
//! build reads to the same bytes. Nothing but ogbox is needed; `KEEP=1` adds those that `tests/fixtures/images/make`
//! lists and the manifest does not, for which it needs the programs that write them, and partclone as a second reader.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ogbox::image::container::Header;
use tempfile::TempDir;

use crate::imaging::{path, sh};
use crate::support::{applet, binary, run, text};

/// Most bytes that the images may have together.
const MOST: u64 = 300 << 10;

/// A line of the manifest, which has its columns in this order.
struct Row {
    /// SHA-256 of what is restored; `-` for an index, which is not an image.
    content: String,
    /// SHA-256 of the file.
    file: String,
    /// Path in the directory, and `#N` for partition N alone.
    name: String,
    /// Who wrote it.
    writer: String,
}

impl Row {
    fn image(&self) -> PathBuf {
        images().join(self.name.split('#').next().unwrap())
    }

    fn partition(&self) -> Option<&str> {
        Some(self.name.split_once('#')?.1)
    }
}

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn manifest() -> Vec<Row> {
    let lines = fs::read_to_string(images().join("MANIFEST")).unwrap_or_default();
    let row = |line: &str| {
        let mut words = line.splitn(4, ' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_else(|| panic!("MANIFEST: {line}"));
        Row { content: next(), file: next(), name: next(), writer: next() }
    };
    lines.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

fn sha256(file: &Path) -> String {
    text(&run(Command::new("sha256sum").arg(file)).stdout)[..64].to_owned()
}

/// The SHA-256 of what an image is restored to; the error if it is refused.
fn restored(image: &Path, partition: Option<&str>) -> Result<String, String> {
    let dir = TempDir::new().unwrap();
    let target = dir.path().join("target");
    for job in ["verify", "restore"] {
        let mut command = applet("image");
        command.args([job, "--progress", "none", path(image)]);
        if job == "restore" {
            command.arg(&target).args(partition.map(|number| format!("--partition={number}")));
        }
        let output = command.output().unwrap();
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
    }
    Ok(sha256(&target))
}

/// Numbers of the partitions of an image's disk that have an image of their own; none if it is no disk's.
fn partitions(image: &Path) -> Vec<u32> {
    let is_one = |number: &u32| restored(image, Some(&number.to_string())).is_ok();
    if image.extension().is_some_and(|end| end == "dsk") { (1..8).filter(is_one).collect() } else { Vec::new() }
}

/// Asserts that Debian's partclone restores an image to this content, unless it knows no such image: disks and checksums by
/// XXH are ours and those of newer versions.
fn assert_partclone_agrees(image: &Path, content: &str) {
    let name = path(image);
    if name.contains(".dsk") || name.contains("xxh") {
        return;
    }
    let expand = match fs::read(image).unwrap()[..4] {
        [0x1f, 0x8b, ..] => "gzip -dc",
        [0x89, b'L', ..] => "lzop -dc",
        [0x28, 0xb5, ..] => "zstd -dcq --long=27",
        [0x04, 0x22, ..] => "lz4 -dc",
        _ => "cat",
    };
    let dir = TempDir::new().unwrap();
    let [plain, back] = ["plain", "back"].map(|name| dir.path().join(name));
    sh(&format!("{expand} < {name} > {}", path(&plain)));
    let header = Header::parse(&fs::read(&plain).unwrap()).unwrap();
    let size = header.device_size.max(header.blocks * u64::from(header.block_size));
    let [from, to] = [path(&plain), path(&back)];
    sh(&format!("truncate -s {size} {to}; partclone.restore -C -s {from} -O {to} -L /dev/null"));
    let file = fs::File::options().read(true).write(true).open(&back).unwrap();
    file.set_len(size).unwrap();
    if header.fs == "NTFS" {
        // The copy of the boot sector behind the last cluster, which partclone leaves out.
        let mut boot = [0; 512];
        file.read_exact_at(&mut boot, 0).unwrap();
        file.write_all_at(&boot, size - 512).unwrap();
    }
    assert_eq!(sha256(&back), content, "{name}");
}

/// Makes the images that the manifest does not have yet; those that it has stay as they are.
fn keep_new_ones() {
    let make = || Command::new(images().join("make"));
    let names = text(&run(&mut make()).stdout);
    let known: BTreeSet<String> = manifest().into_iter().map(|row| row.name).collect();
    for name in names.lines().filter(|name| !known.contains(*name)) {
        let image = images().join(name);
        assert!(!image.exists(), "{name} is there, and the manifest does not have it");
        let writer = text(&run(make().current_dir(images()).arg(name).arg(binary())).stdout);
        let line = |content: &str, file: &Path, name: &str| {
            format!("{content} {} {name} {}\n", sha256(file), writer.trim_end())
        };
        let content = restored(&image, None).unwrap();
        assert_partclone_agrees(&image, &content);
        let mut lines = line(&content, &image, name);
        for number in partitions(&image) {
            let content = restored(&image, Some(&number.to_string())).unwrap();
            lines += &line(&content, &image, &format!("{name}#{number}"));
        }
        let index = format!("{name}.idx");
        if images().join(&index).exists() {
            lines += &line("-", &images().join(&index), &index);
        }
        let file = images().join("MANIFEST");
        fs::write(&file, fs::read_to_string(&file).unwrap_or_default() + &lines).unwrap();
    }
}

/// Asserts that the manifest has all images that are there or could be made, and no other.
fn assert_complete(rows: &[Row]) {
    let there = text(&sh(&format!("cd {}; find . -mindepth 2 -type f -printf '%P\\n'", path(&images()))).stdout);
    let there: BTreeSet<&str> = there.lines().collect();
    let listed: BTreeSet<&str> = rows.iter().map(|row| row.name.split('#').next().unwrap()).collect();
    assert_eq!(listed, there);
    assert_eq!(rows.iter().map(|row| &row.name).collect::<BTreeSet<_>>().len(), rows.len(), "a name is there twice");
    let size: u64 = there.iter().map(|name| images().join(name).metadata().unwrap().len()).sum();
    assert!(size <= MOST, "{size} bytes: more than {MOST}");
    let made = text(&run(&mut Command::new(images().join("make"))).stdout);
    for name in made.lines() {
        assert!(listed.contains(name), "{name}: KEEP=1 makes what is missing");
    }
}

#[test]
fn images_of_every_writer_are_restored_to_what_they_were_made_of() {
    if std::env::var_os("KEEP").is_some() {
        keep_new_ones();
    }
    let dir = TempDir::new().unwrap();
    let flipped = dir.path().join("flipped");
    let rows = manifest();
    assert_complete(&rows);
    for row in &rows {
        let Row { content, file, name, writer } = row;
        let image = row.image();
        assert_eq!(&sha256(&image), file, "{name} ({writer}) is not the file that was kept");
        if content == "-" {
            continue;
        }
        assert_eq!(restored(&image, row.partition()).as_ref(), Ok(content), "{name} ({writer})");
        if row.partition().is_some() {
            continue;
        }
        // Now and then, a changed byte of a compressed stream expands to the same content.
        let bytes = fs::read(&image).unwrap();
        let is_noticed = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            fs::write(&flipped, &bytes).unwrap();
            assert_ne!(&sha256(&flipped), file, "{name}, byte {at}");
            restored(&flipped, None).as_ref() != Ok(content)
        };
        assert!(
            [4, 6, 7].map(|eighths| bytes.len() * eighths / 8).into_iter().any(is_noticed),
            "{name} with a byte changed"
        );
    }
}
