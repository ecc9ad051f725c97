//! Whole disks, including areas without a reader of their own: partition tables, boot loaders and every partition
//! are restored by ogbox and by partclone; targets are full of other bytes before.
//!
//! Needs root where a partition must be a device of its own.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::imaging::{assert_holds, fails, make, noise, path, sh, works};
use crate::support::{binary, text, tools};

const MIB: usize = 1 << 20;

/// A disk in a file, its partitions' contents in files of their own, and the tree of the ext4 one.
pub struct Disk {
    pub dir: TempDir,
    /// Start (MiB) and name of each partition's file.
    parts: Vec<(usize, &'static str)>,
}

pub const TOOLS: &[&str] =
    &["partclone.restore", "lzop", "mkfs.ext4", "debugfs", "mkfs.fat", "mcopy", "mkswap", "sfdisk", "sgdisk"];

impl Disk {
    /// Makes a disk of `mib` MiB by sfdisk's script, with these partitions (start in MiB, name).
    pub fn new(mib: usize, script: &str, parts: &[(usize, &'static str)]) -> Disk {
        let dir = TempDir::new().unwrap();
        let disk = Disk { dir, parts: parts.to_vec() };
        let at = |name: &str| disk.at(name);
        make(disk.dir.path(), "32M", "");
        fs::rename(at("fs"), at("ext4")).unwrap();
        sh(&format!(
            "truncate -s 12M {0}/fat {0}/swap; mkfs.fat {0}/fat; mcopy -i {0}/fat -s {0}/tree/few ::; mkswap -q {0}/swap",
            path(disk.dir.path())
        ));
        fs::write(
            at("unknown"),
            [vec![0; MIB], noise(MIB / 2, 7), vec![0; MIB], noise(MIB, 8), vec![0; MIB / 2]].concat(),
        )
        .unwrap();
        fs::write(at("script"), script).unwrap();
        sh(&format!("truncate -s {mib}M {0}; sfdisk -q {0} < {1}", path(&at("disk")), path(&at("script"))));
        let file = fs::File::options().write(true).open(at("disk")).unwrap();
        // A boot loader's code, and its data in the gap behind the MBR and, with GPT, behind its entries.
        file.write_all_at(&noise(440, 3), 0).unwrap();
        file.write_all_at(&noise(900_000, 4), 40 * 512).unwrap();
        for (start, name) in parts {
            file.write_all_at(&fs::read(at(name)).unwrap(), (start * MIB) as u64).unwrap();
        }
        disk
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of `mib` MiB without a zero byte.
    pub fn noisy(&self, name: &str, mib: usize) -> PathBuf {
        fs::write(self.at(name), b"noise\nno".repeat(mib * MIB / 8)).unwrap();
        self.at(name)
    }

    /// Asserts that the table, boot loader, gaps and contents of each partition are those of this disk.
    pub fn assert_same(&self, other: &Path) {
        let (old, new) = (fs::read(self.at("disk")).unwrap(), fs::read(other).unwrap());
        // Except for the protective entry, whose length is the disk's.
        assert!(
            old[..450] == new[..450] && old[2 * 512 + 512..MIB] == new[2 * 512 + 512..MIB],
            "the front of {}",
            other.display()
        );
        self.assert_parts(other);
    }

    /// Asserts that the table and the contents of each partition are those of this disk.
    pub fn assert_parts(&self, other: &Path) {
        let new = fs::read(other).unwrap();
        let table = |disk: &Path| {
            let dump = text(&sh(&format!("sfdisk -d {}", path(disk))).stdout);
            let name = path(disk).to_owned();
            dump.lines().filter(|line| line.starts_with(&name)).map(|line| line.replace(&name, "")).collect::<Vec<_>>()
        };
        assert_eq!(table(&self.at("disk")), table(other));
        for (start, name) in &self.parts {
            let was = fs::read(self.at(name)).unwrap();
            let is = &new[start * MIB..start * MIB + was.len()];
            fs::write(self.at("part"), is).unwrap();
            match *name {
                "ext4" => assert_holds(&self.at("part"), &self.at("tree")),
                "fat" => {
                    let out = TempDir::new().unwrap();
                    sh(&format!(
                        "fsck.fat -n {0} && mcopy -i {0} -s '::*' {1} && diff -r {2}/tree/few {1}/few",
                        path(&self.at("part")),
                        path(out.path()),
                        path(self.dir.path())
                    ));
                }
                "swap" => assert!(is[..4096] == was[..4096], "the header of the swap"),
                _ => assert!(is == was, "{name}"),
            }
        }
    }
}

pub const GPT: &str = "label: gpt
    start=1MiB, size=2MiB, type=21686148-6449-6E6F-744E-656564454649, name=boot
    start=3MiB, size=32MiB, name=system
    start=35MiB, size=12MiB, type=uefi
    start=48MiB, size=4MiB, name=unknown
    start=70MiB, size=12MiB, type=swap";
pub const GPT_PARTS: &[(usize, &str)] = &[(3, "ext4"), (35, "fat"), (48, "unknown"), (70, "swap")];

#[test]
fn a_disk_of_gpt_comes_back_and_fits_a_larger_one() {
    if !tools(TOOLS) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    let image = disk.at("disk.dsk");
    works(&["save", path(&disk.at("disk")), "-o", path(&image)]);
    assert!(fs::metadata(&image).unwrap().len() < 25 << 20, "more than what is used was saved");
    let sound = |file: &Path| {
        let said = text(&sh(&format!("sgdisk -v {}", path(file))).stdout);
        assert!(said.contains("No problems found") && !said.contains("Caution"), "{said}");
    };

    // A new file is sparse, and every byte of a gap is there.
    works(&["restore", path(&image), path(&disk.at("new"))]);
    disk.assert_same(&disk.at("new"));
    sound(&disk.at("new"));
    let same = disk.noisy("same", 90);
    works(&["restore", "--verify", path(&image), path(&same)]);
    disk.assert_same(&same);
    sound(&same);
    let larger = disk.noisy("larger", 121);
    works(&["restore", path(&image), path(&larger)]);
    disk.assert_same(&larger);
    sound(&larger);
    assert!(
        text(&sh(&format!("sfdisk -d {}", path(&larger))).stdout).contains("last-lba: 247774"),
        "121 MiB less 33 and 1 sectors"
    );
    let theirs = disk.noisy("theirs", 90);
    sh(&format!("lzop -dc {} | partclone.restore -C -s - -O {} -L /dev/null", path(&image), path(&theirs)));
    disk.assert_same(&theirs);
    sound(&theirs);

    let smaller = disk.noisy("smaller", 89);
    assert!(fails(&["restore", path(&image), path(&smaller)]).contains("nothing was written"));
}

#[test]
fn one_partition_is_taken_out_of_a_disks_image_whatever_compressed_it() {
    if !tools(TOOLS) || !tools(&["gzip", "zstd", "lz4"]) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    let (at, image) = (|name: &str| disk.at(name), disk.at("disk.dsk"));
    works(&["save", path(&at("disk")), "-o", path(&image)]);
    assert!(at("disk.dsk.idx").exists());
    let plain = format!("{} image convert -c none {}", path(binary()), path(&image));
    let out = path(disk.dir.path());
    sh(&format!("{plain} | lzop > {out}/theirs; {plain} > {out}/none"));
    sh(&format!(
        "{plain} | lz4 -q -B4 -BI > {out}/lz4; {plain} | zstd -q -1 > {out}/long; {plain} | gzip -1 > {out}/gz"
    ));
    for (codec, more) in [("gzip", ""), ("zstd", ""), ("lz4", ""), ("none", "--format 1"), ("lzop", "--checksum none")]
    {
        let name = format!("{codec}-ours");
        sh(&format!("{} image convert -c {codec} {more} {} -o {out}/{name}", path(binary()), path(&image)));
    }
    let ours = ["disk.dsk", "gzip-ours", "zstd-ours", "lz4-ours", "none-ours", "lzop-ours"];
    for name in ours.iter().chain(&["theirs", "none", "lz4"]) {
        let said = works(&["restore", "--partition", "2", path(&at(name)), path(&at("two"))]);
        assert_eq!(said.contains("no index"), !["disk.dsk", "zstd-ours", "none-ours", "none"].contains(name), "{said}");
        assert_holds(&at("two"), &at("tree"));
        fs::remove_file(at("two")).unwrap();
    }
    // The other partitions are as restored from the whole disk's image.
    works(&["restore", path(&image), path(&at("whole"))]);
    let whole = fs::read(at("whole")).unwrap();
    for (number, start) in [(3, 35), (4, 48), (5, 70)] {
        let number = number.to_string();
        works(&["restore", "--verify", "--partition", &number, path(&image), path(&at("part"))]);
        let part = fs::read(at("part")).unwrap();
        assert!(part == whole[start * MIB..start * MIB + part.len()], "partition {number}");
        fs::remove_file(at("part")).unwrap();
    }
    // As an image of its own, which partclone accepts.
    works(&["convert", "--partition", "2", path(&image), "-o", path(&at("two.img"))]);
    sh(&format!(
        "truncate -s 32M {out}/two; lzop -dc {out}/two.img | partclone.restore -s - -O {out}/two -L /dev/null"
    ));
    assert_holds(&at("two"), &at("tree"));

    let error = fails(&["restore", "--partition", "9", path(&image), path(&at("nine"))]);
    assert!(error.contains("has no partition 9; it has 1, 2, 3, 4, 5"), "{error}");
    let error = fails(&["restore", "--partition", "1", path(&at("two.img")), path(&at("nine"))]);
    assert!(error.contains("has no partition 1; it has none"), "{error}");
    let error = fails(&["restore", "--partition", "2", "-", path(&at("nine"))]);
    assert!(error.contains("name its file"), "{error}");
    for name in ["long", "gz"] {
        let error = fails(&["restore", "--partition", "2", path(&at(name)), path(&at("nine"))]);
        assert!(error.contains("can only be read in order: make one"), "{error}");
    }
    assert!(!at("nine").exists());
}

#[test]
fn a_disk_whose_first_gpt_is_damaged_is_saved_by_the_second_and_without_both_only_raw() {
    if !tools(TOOLS) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    let (image, file) = (disk.at("disk.dsk"), disk.at("disk"));
    let whole = fs::read(&file).unwrap();
    let damage = |at: usize| {
        let file = fs::File::options().write(true).open(&file).unwrap();
        file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    };
    damage(512 + 40);
    works(&["save", path(&file), "-o", path(&image)]);
    works(&["restore", path(&image), path(&disk.noisy("back", 100))]);
    fs::write(&file, &whole).unwrap();
    disk.assert_same(&disk.at("back"));
    sh(&format!("sgdisk -v {} | grep 'No problems found'", path(&disk.at("back"))));

    damage(512 + 40);
    damage(whole.len() - 512 + 40);
    let error = fails(&["save", path(&file), "-o", path(&disk.at("none"))]);
    assert!(error.contains("byte 512: both copies of its GPT are damaged") && error.contains("--raw"), "{error}");
    assert!(!disk.at("none").exists());
    works(&["save", "--raw", path(&file), "-o", path(&image)]);
    works(&["restore", path(&image), path(&disk.noisy("back", 90))]);
    assert!(fs::read(&file).unwrap() == fs::read(disk.at("back")).unwrap());
}

pub const MBR: &str = "label: dos
    start=1MiB, size=32MiB, type=83, bootable
    start=34MiB, size=50MiB, type=5
    start=35MiB, size=12MiB, type=c
    start=48MiB, size=4MiB, type=8e
    start=70MiB, size=12MiB, type=82";
pub const MBR_PARTS: &[(usize, &str)] = &[(1, "ext4"), (35, "fat"), (48, "unknown"), (70, "swap")];

#[test]
fn a_disk_of_mbr_comes_back_with_its_logical_partitions() {
    if !tools(TOOLS) {
        return;
    }
    let disk = Disk::new(90, MBR, MBR_PARTS);
    let image = disk.at("disk.dsk");
    works(&["save", path(&disk.at("disk")), "-o", path(&image)]);
    for (name, mib) in [("same", 90), ("larger", 121)] {
        let back = disk.noisy(name, mib);
        works(&["restore", path(&image), path(&back)]);
        disk.assert_same(&back);
        assert!(fs::read(back).unwrap()[440..512] == fs::read(disk.at("disk")).unwrap()[440..512]);
    }
}

#[test]
fn a_damaged_file_system_on_a_disk_is_named_and_taken_whole_by_force() {
    if !tools(TOOLS) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    let file = disk.at("disk");
    // More blocks than the partition has, in the superblock and in its copy.
    let written = fs::File::options().write(true).open(&file).unwrap();
    for superblock in [1024, 8193 * 1024] {
        written.write_all_at(&[0xff; 4], (3 * MIB + superblock + 4) as u64).unwrap();
    }
    let error = fails(&["save", path(&file), "-o", path(&disk.at("image"))]);
    assert!(error.contains("disk, partition 2: byte "), "{error}");
    works(&["save", "--force", path(&file), "-o", path(&disk.at("image"))]);
    works(&["restore", path(&disk.at("image")), path(&disk.noisy("back", 90))]);
    let range = 3 * MIB..35 * MIB;
    assert!(fs::read(file).unwrap()[range.clone()] == fs::read(disk.at("back")).unwrap()[range]);
}

#[test]
fn a_partition_table_is_written_only_to_a_disk_and_by_the_image_of_one() {
    if !tools(TOOLS) || !tools(&["losetup", "partx"]) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    let (image, ext4) = (disk.at("disk.dsk"), disk.at("ext4.img"));
    works(&["save", path(&disk.at("disk")), "-o", path(&image)]);
    works(&["save", path(&disk.at("ext4")), "-o", path(&ext4)]);
    let before = fs::read(disk.at("disk")).unwrap();
    let device = text(&sh(&format!("losetup -f --show {}", path(&disk.at("disk")))).stdout).trim().to_owned();
    let coarse = disk.noisy("coarse", 90);
    let coarse = text(&sh(&format!("losetup -f --show -b 4096 {}", path(&coarse))).stdout).trim().to_owned();
    let part = format!("{device}p5");
    sh(&format!("partx -a {device}"));
    let refused = [
        fails(&["restore", path(&ext4), &device]),
        fails(&["restore", path(&image), &part]),
        fails(&["restore", path(&image), &coarse]),
    ];
    // A partition is treated as one, whatever it holds.
    let inner = fails(&["restore", path(&ext4), &part]);
    sh(&format!("partx -d {device}; losetup -d {device}; losetup -d {coarse}"));
    assert!(refused[0].contains("has a partition table and the image holds EXTFS"), "{refused:?}");
    assert!(refused[1].contains("is a partition and the image a whole disk's"), "{refused:?}");
    assert!(refused[2].contains("has sectors of 4096 bytes, the image's partition table counts in 512"), "{refused:?}");
    assert!(refused.iter().all(|line| line.contains("nothing was written")), "{refused:?}");
    assert!(inner.contains("has 12582912 bytes, the file system 33554432"), "{inner}");
    assert!(fs::read(disk.at("disk")).unwrap() == before);
    works(&["restore", "--force", path(&ext4), path(&disk.at("disk"))]);
}

#[test]
fn what_is_not_known_comes_back_bit_by_bit_without_its_zeroes() {
    if !tools(&["mkfs.ext4", "partclone.info", "losetup"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    // LUKS over a former ext4 file system: the older superblock must not be believed.
    sh(&format!("truncate -s 30M {0}; mkfs.ext4 -q -F {0}", path(&at("disk"))));
    let file = fs::File::options().write(true).open(at("disk")).unwrap();
    file.write_all_at(b"LUKS\xba\xbe\0\x02", 0).unwrap();
    file.write_all_at(&noise(3 * MIB, 5), 16 << 20).unwrap();
    // A size that is not a multiple of 4 KiB either.
    file.set_len((30 << 20) + 512).unwrap();
    file.write_all_at(b"end", (30 << 20) + 509).unwrap();
    works(&["save", path(&at("disk")), "-o", path(&at("image"))]);
    assert!(fs::metadata(at("image")).unwrap().len() < 4 << 20);
    assert!(text(&sh(&format!("{} image info {}", path(binary()), path(&at("image")))).stdout).contains("RAW"));
    let whole = fs::read(at("disk")).unwrap();
    works(&["restore", path(&at("image")), path(&at("new"))]);
    assert!(fs::read(at("new")).unwrap() == whole);
    assert!(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(at("new")).unwrap()) < 10_000, "zeroes are holes");
    // Old data must not show through, neither in a file nor on a device, whatever the treatment of unused blocks.
    for flags in [&["--verify"][..], &["--discard"]] {
        fs::write(at("old"), noise(31 << 20, 6)).unwrap();
        works(&[&["restore"], flags, &[path(&at("image")), path(&at("old"))]].concat());
        assert!(fs::read(at("old")).unwrap()[..whole.len()] == whole);
    }
    fs::write(at("old"), noise(31 << 20, 6)).unwrap();
    let device = text(&sh(&format!("losetup -f --show {}", path(&at("old")))).stdout).trim().to_owned();
    works(&["restore", path(&at("image")), &device]);
    sh(&format!("losetup -d {device}"));
    let back = fs::read(at("old")).unwrap();
    assert!(back[..whole.len()] == whole && back[whole.len()..] == noise(31 << 20, 6)[whole.len()..]);
}
