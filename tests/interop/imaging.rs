//! Images against partclone, lzop and e2fsprogs: what either side saves, the other restores.
//!
//! All file systems are made in files; nothing here needs root.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ogbox::image::checksum::{self, Mode};
use ogbox::image::container::{Header, MAP_MARK, MapMode, Version};
use tempfile::TempDir;

use crate::support::tools;

const OGBOX: &str = env!("CARGO_BIN_EXE_ogbox");

/// A shape of file system: name, size, mkfs's options.
type Shape = (&'static str, &'static str, &'static str);

const EXT4: &[Shape] = &[
    ("ext4", "96M", ""),
    ("ext4 of 1 KiB blocks", "64M", "-b 1024"),
    ("ext4 of 2 KiB blocks without flex_bg", "64M", "-b 2048 -O ^flex_bg"),
    ("ext4 of 64 KiB blocks", "128M", "-b 65536"),
    ("ext4 with groups never written to", "5G", "-O uninit_bg,^metadata_csum"),
    ("ext4 with groups never written to, checksums, 1 KiB blocks", "600M", "-b 1024"),
];

const OLDER_EXT4: &[Shape] = &[
    ("ext4 without 64bit", "96M", "-O ^64bit,^metadata_csum"),
    ("ext4 with spread descriptors", "600M", "-b 1024 -O meta_bg,^resize_inode"),
    ("ext4 with two backups", "600M", "-b 1024 -O sparse_super2"),
    ("ext4 whose last group is short", "100001K", "-b 1024"),
    ("ext3", "64M", "-t ext3"),
    ("ext2 as it was in 1995", "64M", "-t ext2 -r 0 -b 1024 -O none"),
];

/// partclone 0.3.23 gives up on these ("bitmap error at 0 group").
const CLUSTERED_EXT4: &[Shape] = &[
    ("ext4 with clusters", "256M", "-O bigalloc -C 65536"),
    ("ext4 with clusters of 1 KiB blocks", "256M", "-b 1024 -O bigalloc -C 16384"),
];

pub fn sh(script: &str) -> Output {
    let output = Command::new("bash").args(["-o", "pipefail", "-c", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn ogbox(args: &[&str]) -> Output {
    Command::new(OGBOX).arg("image").args(args).args(["--progress", "none"]).output().unwrap()
}

pub fn works(args: &[&str]) -> String {
    let output = ogbox(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "image {args:?}: {said}");
    said
}

/// Runs a command that works only with `--force`, and returns its warning.
pub fn forced(args: &[&str]) -> String {
    let output = ogbox(&[args, &["--force"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("; taken as it is"), "image {args:?} --force: {said}");
    said
}

/// Runs a command that must fail with exit code 1 and one line; returns the line.
pub fn fails(args: &[&str]) -> String {
    let output = ogbox(args);
    assert_eq!(output.status.code(), Some(1), "image {args:?}");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line.trim_end().to_owned()
}

pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Makes a directory of files of various sizes, compressible and not.
pub fn tree(root: &Path) {
    for (dir, count) in [("many", 150), ("few", 6)] {
        fs::create_dir_all(root.join(dir)).unwrap();
        for file in 0..count {
            let len = if dir == "many" { file * 97 % 9000 } else { 700_000 + file * 123_457 };
            let mut data = noise(len, (file + count) as u64);
            if file % 2 == 0 {
                data.iter_mut().for_each(|byte| *byte %= 3);
            }
            fs::write(root.join(dir).join(format!("file {file}")), data).unwrap();
        }
    }
    fs::File::create(root.join("sparse")).unwrap().write_all_at(b"end", 3_000_000).unwrap();
}

/// Makes an ext file system in a file, with the tree in it and holes where files were deleted.
pub fn make(dir: &Path, size: &str, options: &str) -> PathBuf {
    let (fs, root) = (dir.join("fs"), dir.join("tree"));
    tree(&root);
    let (image, source) = (fs.display(), root.display());
    sh(&format!("truncate -s {size} {image}; mkfs.ext4 -q -F {options} -d {source} {image}"));
    let removed = ["few/file 1", "few/file 4", "many/file 7", "many/file 80"];
    let script: String = removed.iter().map(|file| format!("rm \"/{file}\"\n")).collect();
    fs::write(dir.join("remove"), script).unwrap();
    sh(&format!("debugfs -w -f {} {image}", dir.join("remove").display()));
    for file in removed {
        fs::remove_file(root.join(file)).unwrap();
    }
    sh(&format!("e2fsck -fp {image} || [ $? -le 1 ]"));
    fs
}

/// Asserts that e2fsck finds no fault, and that every file is unchanged.
pub fn assert_holds(fs: &Path, root: &Path) {
    let out = TempDir::new().unwrap();
    let (fs, out, root) = (fs.display(), out.path().display(), root.display());
    sh(&format!(
        "e2fsck -fn {fs} && debugfs -R 'rdump / {out}' {fs} && rm -rf {out}/lost+found && diff -r {root} {out}"
    ));
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Asserts that partclone and ogbox save the same of a file system, and that either restores it.
fn go_both_ways(shapes: &[Shape]) {
    for (name, size, options) in shapes {
        println!("{name}");
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (fs, root) = (make(dir.path(), size, options), at("tree"));
        let (ours, theirs, back) = (at("ours"), at("theirs"), at("back"));
        saved_by_partclone("extfs", "", &fs, &theirs);
        works(&["save", path(&fs), "-o", path(&ours)]);

        // Byte by byte the same image, except for its maker's name and the header's checksum over that.
        let (ours_plain, theirs_plain) =
            (sh(&format!("lzop -dc {}", ours.display())).stdout, fs::read(&theirs).unwrap());
        assert_eq!(ours_plain.len(), theirs_plain.len(), "{name}");
        let same = |range: std::ops::Range<usize>| ours_plain[range.clone()] == theirs_plain[range];
        assert!(same(0..16) && same(30..106) && same(110..ours_plain.len()), "{name}");

        restored_by_partclone(&ours, &back, size);
        assert_holds(&back, &root);
        sh(&format!("lzop -o {0}.lzo {0}", theirs.display()));
        for image in [path(&ours), path(&theirs), &format!("{}.lzo", theirs.display())] {
            fs::remove_file(&back).unwrap();
            works(&["restore", image, path(&back)]);
            assert_holds(&back, &root);
        }
    }
}

/// Saves by partclone. The targets exist before, because partclone 0.3.23 now and then fails to create one ("open
/// error(2)").
pub fn saved_by_partclone(kind: &str, options: &str, fs: &Path, image: &Path) {
    let (fs, image) = (fs.display(), image.display());
    sh(&format!(": > {image}; partclone.{kind} {options} -c -s {fs} -O {image} -L /dev/null"));
}

pub fn restored_by_partclone(image: &Path, back: &Path, size: &str) {
    let (image, back) = (image.display(), back.display());
    sh(&format!("truncate -s {size} {back}; lzop -dc {image} | partclone.restore -C -s - -O {back} -L /dev/null"));
}

#[test]
fn ext4_goes_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    go_both_ways(EXT4);
}

#[test]
fn older_shapes_of_ext_go_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    go_both_ways(OLDER_EXT4);
}

#[test]
fn ext4_with_clusters_is_saved_and_restored_by_either() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    for (name, size, options) in CLUSTERED_EXT4 {
        println!("{name}");
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let fs = make(dir.path(), size, options);
        works(&["save", path(&fs), "-o", path(&at("image"))]);
        restored_by_partclone(&at("image"), &at("back"), size);
        assert_holds(&at("back"), &at("tree"));
        works(&["restore", path(&at("image")), path(&at("again"))]);
        assert_holds(&at("again"), &at("tree"));
        let saved = fs::metadata(at("image")).unwrap().len();
        assert!(saved < 20 << 20, "{saved} bytes: more than what is used was saved");
    }
}

#[test]
fn every_checksum_setting_of_partclone_is_restored_and_verified() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    for options in ["-a0", "-a1 -k1", "-a1 -k7", "-a1 -k7 -K", "-a1 -k100000", "-z 8192"] {
        let (image, back) = (at("image"), at("back"));
        saved_by_partclone("extfs", options, &fs, &image);
        works(&["restore", path(&image), path(&back)]);
        assert_holds(&back, &at("tree"));
        fs::remove_file(&back).unwrap();
        if options != "-a0" {
            // One bit in one of the last blocks.
            let mut bytes = fs::read(&image).unwrap();
            let at = bytes.len() - 10_000;
            bytes[at] ^= 4;
            fs::write(&image, bytes).unwrap();
            let error = fails(&["restore", path(&image), path(&back)]);
            assert!(error.contains("the checksum of blocks ") && error.contains(": byte "), "{options}: {error}");
            assert!(!back.exists(), "a target that was made for a damaged image goes with it");
            let said = works(&["restore", "-I", path(&image), path(&back)]);
            assert!(said.contains("checksums are not verified (-I)"), "{said}");
            fs::remove_file(&back).unwrap();
        }
    }
}

#[test]
fn an_image_cut_short_anywhere_leaves_no_target() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    for compress in ["none", "lzop"] {
        works(&["save", path(&fs), "-o", path(&at("image")), "-c", compress]);
        let whole = fs::read(at("image")).unwrap();
        for length in [0, 1, 20, 36, 100, 109, 110, 1000, 2161, 2162, 4096, 300_000, whole.len() - 5, whole.len() - 1] {
            fs::write(at("cut"), &whole[..length]).unwrap();
            let error = fails(&["restore", path(&at("cut")), path(&at("back"))]);
            assert!(error.contains("cut short") || error.contains("not a partclone image"), "{length}: {error}");
            assert!(!at("back").exists());
        }
        fs::write(at("long"), [whole.as_slice(), b"x"].concat()).unwrap();
        fails(&["restore", path(&at("long")), path(&at("back"))]);
        assert!(!at("back").exists());
    }
}

#[test]
fn a_target_that_stands_for_a_device_must_be_large_enough_and_is_named_when_spoilt() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    works(&["save", path(&fs), "-o", path(&at("image"))]);
    fs::write(at("small"), vec![7; 1 << 20]).unwrap();
    assert!(fails(&["restore", path(&at("image")), path(&at("small"))]).contains("nothing was written"));
    assert_eq!(fs::read(at("small")).unwrap(), vec![7; 1 << 20]);

    sh(&format!("truncate -s 80M {}", at("large").display()));
    works(&["restore", path(&at("image")), path(&at("large"))]);
    assert_eq!(fs::metadata(at("large")).unwrap().len(), 80 << 20);
    assert_holds(&at("large"), &at("tree"));

    let mut bytes = fs::read(at("image")).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(at("image"), bytes).unwrap();
    let error = fails(&["restore", path(&at("image")), path(&at("large"))]);
    assert!(error.ends_with("was not finished and is unusable"), "{error}");
}

#[test]
fn an_ext_file_system_that_is_not_clean_is_taken_only_by_force() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    sh(&format!("debugfs -w -R 'feature needs_recovery' {}", fs.display()));
    let error = fails(&["save", path(&fs), "-o", path(&at("image"))]);
    assert!(error.contains("journal must be replayed") && error.contains("--force"), "{error}");
    assert!(!at("image").exists());
    assert!(forced(&["save", path(&fs), "-o", path(&at("image"))]).contains("journal must be replayed"));
    works(&["restore", path(&at("image")), path(&at("back"))]);
}

#[test]
fn an_interrupted_save_leaves_neither_image_nor_part_of_it() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("noise"), noise(200 << 20, 9)).unwrap();
    let (fs, out) = (dir.path().join("fs"), dir.path().join("out"));
    sh(&format!("truncate -s 260M {0}; mkfs.ext4 -q -F -d {1} {0}", fs.display(), root.display()));
    fs::create_dir(&out).unwrap();
    let entries = || fs::read_dir(&out).unwrap().count();
    let image = out.join("X.img");
    let mut save = Command::new(OGBOX)
        .args(["image", "save", path(&fs), "-o", path(&image)])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while entries() == 0 {
        assert!(Instant::now() < deadline, "no part file appeared");
        std::thread::sleep(Duration::from_millis(1));
    }
    sh(&format!("kill -INT {}", save.id()));
    assert_eq!(save.wait().unwrap().code(), Some(130));
    assert_eq!(entries(), 0);
}

/// An image without used blocks: header and an empty map.
fn empty_image(header: &Header) -> Vec<u8> {
    let mut image = header.to_bytes();
    let map = image.len();
    image.resize(map + header.map_size() as usize, 0);
    match header.version {
        Version::One => image.extend(MAP_MARK),
        Version::Two => image.extend(checksum::crc32(&image[map..]).to_le_bytes()),
    }
    image
}

fn header(blocks: u64, block_size: u32) -> Header {
    Header {
        version: Version::Two,
        made_by: "0.3.23".into(),
        fs: "NTFS".into(),
        device_size: blocks * u64::from(block_size),
        blocks,
        used_by_super: blocks / 3,
        used_by_map: 0,
        block_size,
        cpu_bits: 64,
        checksum: Mode::Crc32,
        blocks_per_checksum: 256,
        reseed: true,
        map: MapMode::Bit,
    }
}

#[test]
fn info_says_what_partclone_info_says() {
    if !tools(&["partclone.info"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let image = dir.path().join("image");
    let sizes =
        [(1, 512), (1, 999), (1, 1000), (11, 900), (999, 1001), (100_000, 4096), (99, 10_101_010), (70_000, 16 << 20)];
    let mut headers: Vec<Header> = sizes.map(|(blocks, size)| header(blocks, size)).into();
    headers.push(Header {
        checksum: Mode::None,
        blocks_per_checksum: 0,
        reseed: false,
        cpu_bits: 32,
        ..header(50, 512)
    });
    headers.push(Header { version: Version::One, map: MapMode::Byte, ..header(1000, 1000) });
    for header in headers {
        fs::write(&image, empty_image(&header)).unwrap();
        let theirs = sh(&format!("partclone.info -s {} -L /dev/null 2>&1 | tail -n +3", image.display()));
        let ours = sh(&format!("{OGBOX} image info {}", image.display()));
        let text = |output: Output| String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
        assert_eq!(text(ours), text(theirs), "{header:?}");
    }
    let json = sh(&format!("{OGBOX} image info --json {}", image.display())).stdout;
    assert!(json.starts_with(b"{\"format\":1,\"compression\":\"none\",\"fs\":\"NTFS\",\"device_size\":1000000,"));
}

#[test]
fn an_image_of_partclone_2_is_verified_and_restored() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let header = Header { version: Version::One, map: MapMode::Byte, used_by_super: 3, ..header(20, 4096) };
    let mut image = empty_image(&header);
    let map = image.len() - 8 - 20;
    let mut sum = checksum::Running::default();
    let mut want = vec![0; 20 * 4096];
    for block in [1, 2, 17] {
        image[map + block] = 1;
        let data = noise(4096, block as u64);
        sum.update_v1(data[0], data.len());
        image.extend(&data);
        image.extend(sum.value().to_le_bytes());
        want[block * 4096..][..4096].copy_from_slice(&data);
    }
    fs::write(at("image"), &image).unwrap();
    sh(&format!("partclone.chkimg -s {} -L /dev/null", at("image").display()));
    works(&["verify", path(&at("image"))]);
    works(&["restore", path(&at("image")), path(&at("back"))]);
    assert!(fs::read(at("back")).unwrap() == want);

    let first_byte = image.len() - 4 - 4096;
    image[first_byte] ^= 1;
    fs::write(at("image"), &image).unwrap();
    let error = fails(&["verify", path(&at("image"))]);
    assert!(error.contains("the checksum of blocks 17 to 17"), "{error}");
}
