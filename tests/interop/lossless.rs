//! Disks and partitions that hold more than a file system's map says: everything comes back, or a note names what does not.
//! The kernel's view is partx's, and that of contents blkid's; the cases are those of public bug reports.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::imaging::{fails, noise, path, sh, works};
use crate::support::{binary, text, tools};

const MIB: usize = 1 << 20;
const TOOLS: &[&str] = &["sfdisk", "sgdisk", "partx", "blkid", "mkfs.ext4", "mkfs.fat", "mkntfs", "mkswap", "e2label"];

/// A directory with the disk or partition that a test is about.
pub struct Bench(TempDir);

impl Bench {
    pub fn new() -> Bench {
        Bench(TempDir::new().unwrap())
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script in the directory.
    pub fn sh(&self, script: &str) -> String {
        text(&sh(&format!("set -e; cd {}; exec 2>/dev/null; {script}", path(self.0.path()))).stdout)
    }

    pub fn write(&self, name: &str, at: u64, bytes: &[u8]) {
        let file = fs::File::options().write(true).create(true).truncate(false).open(self.at(name)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// Makes a disk of `mib` MiB with these entries (type, first sector, sectors) in its MBR.
    fn mbr(&self, mib: usize, entries: &[(u8, u32, u32)]) {
        self.sh(&format!("rm -f disk; truncate -s {mib}M disk"));
        for (slot, (kind, start, count)) in entries.iter().enumerate() {
            let entry = [&[0, 0, 0, 0, *kind, 0, 0, 0], &start.to_le_bytes()[..], &count.to_le_bytes()[..]].concat();
            self.write("disk", 446 + slot as u64 * 16, &entry);
        }
        self.write("disk", 510, &[0x55, 0xaa]);
    }

    /// Saves `disk`, restores it to a new file and returns what was said; asserts that both are the same, and that the
    /// image proves itself against either.
    fn comes_back(&self, what: &str) -> String {
        let (disk, image, new) = (self.at("disk"), self.at("image"), self.at("new"));
        let _ = fs::remove_file(&new);
        let said = works(&["save", path(&disk), "-o", path(&image)]);
        works(&["restore", path(&image), path(&new)]);
        assert!(fs::read(&disk).unwrap() == fs::read(&new).unwrap(), "{what}: {said}");
        works(&["verify", path(&image), "--against", path(&disk)]);
        works(&["verify", path(&image), "--against", path(&new)]);
        said
    }
}

/// A superblock of MD version 1, which says that it is at this offset.
pub fn md_1(at: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
    bytes[16..32].copy_from_slice(&noise(16, 5));
    bytes[72] = 1;
    bytes[92] = 2;
    for (place, value) in [(128, 2048), (136, 65536), (144, at / 512)] {
        bytes[place..place + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    bytes
}

#[test]
fn a_table_with_entries_that_overlap_or_have_no_type_loses_nothing() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    // As isohybrid makes them; the FAT of the second lies inside the first.
    bench.mbr(96, &[(0, 0, 133_120), (0xef, 136, 4096)]);
    bench.write("disk", MIB as u64, &noise(64 * MIB, 1));
    bench.sh("truncate -s 2M fat; mkfs.fat fat; dd if=fat of=disk bs=512 seek=136 conv=notrunc");
    assert!(bench.comes_back("isohybrid").contains("partitions overlap"));
    // A file system where the disk's would be, besides.
    bench.mbr(96, &[(0x83, 2048, 100_000), (0x83, 50_000, 100_000)]);
    bench.sh("truncate -s 64M ext4; mkfs.ext4 -q -F ext4; dd if=ext4 of=disk bs=512 skip=2 seek=2 conv=notrunc");
    bench.write("disk", 70 * MIB as u64, &noise(20 * MIB, 2));
    assert!(bench.comes_back("overlapping").contains("partitions overlap"));
    for entries in [&[(0, 2048, 131_072), (0x83, 133_120, 16_384)][..], &[(0, 2048, 131_072)]] {
        bench.mbr(96, entries);
        bench.write("disk", MIB as u64, &noise(64 * MIB, 3));
        let theirs = bench.sh("partx -r -n :1 -g -o START,SECTORS disk");
        assert_eq!(theirs.trim(), "2048 131072");
        bench.comes_back("no type");
        works(&["restore", "--partition", "1", path(&bench.at("image")), path(&bench.at("one"))]);
        assert!(fs::read(bench.at("one")).unwrap() == noise(64 * MIB, 3));
        fs::remove_file(bench.at("one")).unwrap();
    }
}

#[test]
fn a_first_record_without_a_partition_shifts_no_number() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh(
        "truncate -s 120M disk; printf 'label: dos\nstart=2048,size=20480,type=83\nstart=22528,type=5\nsize=20480,type=83\n\
         size=24576,type=83\nsize=28672,type=83\n' | sfdisk -q disk; for s in 24576 47104 73728; do rm -f p; mke2fs -qF -L at$s p \
         8M; dd if=p of=disk bs=512 seek=$s conv=notrunc; done",
    );
    bench.write("disk", 22528 * 512 + 446, &[0; 16]);
    bench.comes_back("an empty record");
    for (number, label) in
        bench.sh("partx -r -g -o NR,START disk | grep -v '^[1-4] '").lines().map(|line| line.split_once(' ').unwrap())
    {
        works(&["restore", "--partition", number, path(&bench.at("image")), path(&bench.at("part"))]);
        assert_eq!(bench.sh("e2label part; rm part").trim(), format!("at{label}"));
    }
    assert!(
        fails(&["restore", "--partition", "7", path(&bench.at("image")), path(&bench.at("part"))])
            .contains("it has 1, 5, 6")
    );
}

#[test]
fn a_partition_of_several_things_is_kept_whole() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh("truncate -s 32M ntfs; mkntfs -FQq -p 2048 ntfs");
    for (label, kind) in [
        ("dos", "42"),
        ("gpt", "AF9B60A0-1431-4F62-BC68-3311714A69AD"),
        ("gpt", "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3"),
        ("dos", "a5"),
    ] {
        bench.sh(&format!(
            "rm -f disk; truncate -s 100M disk; printf 'label: {label}\nstart=2048,size=163840,type={kind}\n' | sfdisk -q disk; \
             dd if=ntfs of=disk bs=1M seek=1 conv=notrunc"
        ));
        bench.write("disk", 41 * MIB as u64, &noise(20 * MIB, 4));
        assert!(bench.comes_back(kind).contains("may hold several things"));
        works(&["restore", "--partition", "1", path(&bench.at("image")), path(&bench.at("one"))]);
        assert!(fs::read(bench.at("one")).unwrap()[40 * MIB..60 * MIB] == noise(20 * MIB, 4), "{kind}");
        fs::remove_file(bench.at("one")).unwrap();
    }
}

#[test]
fn what_comes_behind_a_file_system_or_between_partitions_is_kept() {
    if !tools(TOOLS) || !tools(&["veritysetup", "losetup"]) {
        return;
    }
    let bench = Bench::new();
    let root = bench.sh(
        "truncate -s 64M part; mkfs.ext4 -qF part 32M; veritysetup format --hash-offset=33554432 --data-blocks=8192 part part | \
         awk '/Root/{print $3}'; truncate -s 80M disk; sgdisk -n1:2048:+64M disk >/dev/null; dd if=part of=disk bs=1M seek=1 \
         conv=notrunc",
    );
    bench.comes_back("dm-verity");
    bench.sh(&format!(
        "dd if=new of=again bs=1M skip=1 count=64; veritysetup verify --hash-offset=33554432 again again {}",
        root.trim()
    ));
    // An image of the partition alone has no room for it, and says so.
    let said = works(&["save", path(&bench.at("part")), "-o", path(&bench.at("one"))]);
    assert!(said.contains("the 33554432 bytes behind the EXTFS file system, from byte 33554432 on"), "{said}");
    // In the middle of a long gap, and of the room behind a file system.
    bench.sh(
        "rm -f disk; truncate -s 200M disk; printf 'label: gpt\nstart=2048,size=131072\nstart=299008\n' | sfdisk -q disk; \
         truncate -s 8M fat; mkfs.fat fat; dd if=fat of=disk bs=1M seek=1 conv=notrunc",
    );
    for at in [40, 100] {
        bench.write("disk", at * MIB as u64 + 7, &noise(MIB, at));
    }
    bench.comes_back("a gap");
}

#[test]
fn a_gap_too_long_to_be_looked_at_is_named() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh("truncate -s 4G disk; printf 'label: dos\nstart=2048,size=2048\n' | sfdisk -q disk");
    bench.write("disk", 3 << 30, b"lost");
    let said = works(&["save", path(&bench.at("disk")), "-o", path(&bench.at("image"))]);
    let (from, to) = (3 * MIB as u64 + (2 << 30), (4 << 30) - MIB as u64);
    assert!(
        said.contains(&format!("the {} bytes from byte {from} to {to} are in no file system", to - from)),
        "{said}"
    );
}

#[test]
fn a_member_or_an_encrypted_volume_is_saved_whole_whatever_its_head_looks_like() {
    if !tools(TOOLS) || !tools(&["cryptsetup"]) {
        return;
    }
    let bench = Bench::new();
    let make = "rm -f disk; truncate -s 128M disk; mkfs.ext4 -qF disk";
    let end = 128 * MIB as u64;
    let bcache = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
    let old_md = [&[0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0, 90, 0, 0, 0][..], &[0; 20], &65536_u32.to_le_bytes()].concat();
    let lvm = [b"LABELONE\x01\0\0\0\0\0\0\0".as_slice(), &[0; 8], b"LVM2 001"].concat();
    let mut zfs = vec![0; 8192];
    zfs.chunks_mut(1024).for_each(|block| block[..8].copy_from_slice(&0x00ba_b10c_u64.to_le_bytes()));
    let cases: [(&str, u64, Vec<u8>); 9] = [
        ("linux_raid_member", 4096, md_1(4096)),
        ("linux_raid_member", end - 8192, md_1(end - 8192)),
        ("linux_raid_member", end - 65536, old_md),
        ("bcache", 4096, [&[0; 8][..], &[8, 0, 0, 0, 0, 0, 0, 0], &[0; 8], bcache].concat()),
        ("LVM2_member", 512, lvm),
        ("isw_raid_member", end - 1024, b"Intel Raid ISM Cfg Sig. 1.0.00".to_vec()),
        ("nvidia_raid_member", end - 1024, b"NVIDIA  \x1e\0\0\0".to_vec()),
        ("ambiguous, as it has the signatures of zfs_member and of EXTFS", end - (128 << 10), zfs),
        ("ambiguous, as it has the signatures of jfs and of EXTFS", 32768, b"JFS1".to_vec()),
    ];
    for (name, at, superblock) in cases {
        bench.sh(make);
        bench.write("disk", at, &superblock);
        bench.write("disk", 50 * MIB as u64, &noise(40 * MIB, at));
        let said = bench.comes_back(name);
        assert!(said.contains(name), "{name}: {said}");
        let info = Command::new(binary()).args(["image", "info", path(&bench.at("image"))]).output().unwrap();
        assert!(text(&info.stdout).starts_with("File system:  RAW"), "{name}");
    }
    // BitLocker To Go has a FAT for show.
    bench.sh("rm -f disk; truncate -s 40M disk; mkfs.fat -F 32 disk");
    bench.write("disk", 3, b"MSWIN4.1");
    bench.write("disk", 424, b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01");
    bench.write("disk", 440, &(20 * MIB as u64).to_le_bytes());
    bench.write("disk", 20 * MIB as u64, b"-FVE-FS-");
    assert_eq!(bench.sh("blkid -p -o value -s TYPE disk").trim(), "BitLocker");
    bench.write("disk", 30 * MIB as u64, &noise(MIB, 6));
    assert!(bench.comes_back("BitLocker To Go").contains("BitLocker"));
}

#[test]
fn contents_are_called_as_blkid_calls_them() {
    if !tools(TOOLS) || !tools(&["cryptsetup", "mkfs.jfs", "mkfs.btrfs"]) {
        return;
    }
    let bench = Bench::new();
    for make in [
        "echo p | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 disk -",
        "echo p | cryptsetup luksFormat --type luks1 -q --pbkdf-force-iterations 1000 disk -",
        "mkfs.jfs -q disk",
        "printf '\\001CD001' | dd of=disk bs=1 seek=32768 conv=notrunc",
        "printf 'verity\\0\\0\\001\\0\\0\\0\\001' | dd of=disk conv=notrunc",
        "printf 'Promise Technology, Inc.' | dd of=disk bs=512 seek=$((131072 - 63)) conv=notrunc",
        "printf 'hsqs' | dd of=disk conv=notrunc; printf '\\004' | dd of=disk bs=1 seek=28 conv=notrunc",
    ] {
        bench.sh(&format!("rm -f disk; truncate -s 64M disk; {make}"));
        let theirs = bench.sh("blkid -p -o value -s TYPE disk");
        let said = works(&["save", path(&bench.at("disk")), "-o", path(&bench.at("image"))]);
        assert!(
            !theirs.is_empty() && said.contains(&format!(": {}, whose", theirs.trim())),
            "{make}: {theirs}: {said}"
        );
    }
}

#[test]
fn a_disk_with_a_table_and_a_signature_of_its_own_is_saved_whole() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    let end = 64 * MIB as u64;
    let table =
        "rm -f disk; truncate -s 64M disk; printf 'label: dos\nstart=2048,size=40960,type=83\n' | sfdisk -q disk";
    let isw = b"Intel Raid ISM Cfg Sig. 1.0.00";
    for (name, at, bytes) in [("isw_raid_member", end - 1024, &isw[..]), ("linux_raid_member", 4096, &md_1(4096))] {
        bench.sh(&format!("{table}; truncate -s 8M fat; mkfs.fat fat; dd if=fat of=disk bs=1M seek=1 conv=notrunc"));
        bench.write("disk", at, bytes);
        bench.write("disk", 15 * MIB as u64, &noise(MIB, 9));
        assert!(bench.comes_back(name).contains(&format!("the signature of {name}")));
    }
    // One that is its last partition's is not the disk's.
    bench.sh("rm -f disk; truncate -s 64M disk; printf 'label: dos\nstart=2048,type=83\n' | sfdisk -q disk");
    bench.write("disk", end - 8192, &md_1(63 * MIB as u64 - 8192));
    bench.write("disk", MIB as u64 + 5000, &noise(MIB, 9));
    assert!(bench.comes_back("a partition's").contains("partition 1: linux_raid_member"));
}

#[test]
fn a_comparison_names_what_differs_and_what_the_image_lacks() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh(
        "truncate -s 64M disk; printf 'label: dos\nstart=2048,size=40960,type=83\nstart=50000\n' | sfdisk -q disk; truncate -s \
         16M fat; mkfs.fat fat; dd if=fat of=disk bs=1M seek=1 conv=notrunc",
    );
    bench.write("disk", 30 * MIB as u64, &noise(MIB, 9));
    bench.comes_back("a disk");
    let compare = |want: bool| {
        let (image, disk) = (bench.at("image"), bench.at("disk"));
        let mut command = Command::new(binary());
        let args = ["image", "verify", "--progress", "none", path(&image), "--against", path(&disk)];
        let output = command.args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(if want { 0 } else { 1 }));
        text(&output.stdout)
    };
    assert!(compare(true).contains("nothing else is in use"));
    bench.write("disk", 31 * MIB as u64 - 1, &[0]);
    bench.write("disk", MIB as u64, &[0xeb, 0x3c, 0x91]);
    bench.write("disk", 18 * MIB as u64 + 5, &[1]);
    let said = compare(false);
    let line = |at: usize, bytes: usize, number: u32, what: &str| {
        let line = format!("the {bytes} bytes from byte {at} on, in partition {number} {what}");
        assert!(said.contains(&line), "{line}\n{said}");
    };
    line(MIB, 4096, 1, "are not those of the image");
    line(31 * MIB - 4096, 4096, 2, "are not those of the image");
    // A file that grew since.
    let fat = Path::new("fat").display().to_string();
    bench.sh(&format!("dd if=/dev/urandom of=file bs=1M count=1; mcopy -i {fat} file ::; dd if={fat} of=disk bs=1M seek=1 conv=notrunc"));
    assert!(compare(false).contains("are in use and not in the image"));
}
