//! Sets of images that Clonezilla, FOG and OpenGnsys 3 made, laid out here by the tools that those programs run, and
//! restored where they lie.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::disks::{Disk, GPT, GPT_PARTS, MBR, MBR_PARTS, TOOLS};
use crate::imaging::{assert_holds, fails, make, noise, path, sh, works};
use crate::support::{binary, text, tools};

const MORE_TOOLS: &[&str] =
    &["partclone.extfs", "partclone.fat", "partclone.dd", "partclone.imager", "zstd", "gzip", "split", "blkid"];

const MIB: usize = 1 << 20;

/// The programs by which Clonezilla compresses, and how it names what they write.
const COMPRESSORS: &[(&str, &str)] = &[
    ("gzip -1 -c", "gz"),
    ("zstd -q -3 -T2 -c", "zst"),
    ("xz -1 -T2 -c", "xz"),
    ("xz -0 --check=sha256 --block-size=1MiB -c", "xz"),
    ("lzop -c", "lzo"),
    ("lz4 -q -1 -c", "lz4"),
    ("cat", "uncomp"),
];

/// The commands that save a disk's table as Clonezilla does, in the directory of the set; `{disk}` is the disk.
const CLONEZILLA: &str = r#"
    sfdisk -d {disk} | sed 's|{disk}|/dev/sda|g' > sda-pt.sf
    dd if={disk} of=sda-mbr bs=512 count=1 status=none
    { echo 'Model: ATA (scsi)'; echo "Disk /dev/sda: $(($(stat -c %s {disk}) / 512))s"
      echo 'Sector size (logical/physical): 512B/512B'; } > sda-pt.parted
    if grep -q gpt sda-pt.sf; then
        dd if={disk} of=sda-gpt-1st bs=512 count=34 status=none
        sgdisk -b sda-gpt.gdisk {disk} > /dev/null
    else dd if={disk} of=sda-hidden-data-after-mbr bs=512 skip=1 count=2047 status=none; fi
    echo sda > disk"#;

/// A disk saved as Clonezilla does it: the set's directory within that of the disk. `parts` are the numbers of the
/// partitions, `pack` compresses, and `end` is the rest of an image's name with a dot where it is cut.
fn clonezilla(disk: &Disk, parts: &[(u32, &str)], pack: &str, end: &str) -> PathBuf {
    let dir = disk.at("set");
    fs::create_dir(&dir).unwrap();
    let all = path(disk.dir.path());
    let mut script = format!("set -e; cd {}\n{}\n", path(&dir), CLONEZILLA.replace("{disk}", path(&disk.at("disk"))));
    let mut names = Vec::new();
    for (number, name) in parts {
        let (fs, save) = match *name {
            "ext4" => ("ext4-ptcl", "partclone.extfs -c"),
            "fat" => ("vfat-ptcl", "partclone.fat -c"),
            "swap" => {
                script += &format!(
                    "eval $(blkid -o export {all}/swap | grep UUID); printf 'UUID=\"%s\"\\nLABEL=\"\"\\n' $UUID > swappt-sda{number}.info\n"
                );
                continue;
            }
            _ => ("dd-ptcl", "partclone.dd"),
        };
        names.push(format!("sda{number}"));
        let to = match end.strip_suffix('.') {
            Some(_) => format!("split -a 2 -b 1MB - sda{number}.{fs}-img.{end}"),
            None => format!("cat > sda{number}.{fs}-img.{end}"),
        };
        script += &format!("{save} -s {all}/{name} -o - -L /dev/null 2>/dev/null | {pack} | {to}\n");
    }
    sh(&format!("{script}echo {} > parts", names.join(" ")));
    dir
}

/// Standard output of `ogbox image` with these arguments.
fn shows(args: &str) -> String {
    text(&sh(&format!("{} image {args}", path(binary()))).stdout)
}

/// Asserts that a set is refused for this reason before anything is written, to a file that is there and to a new one.
fn assert_refused(set: &Path, why: &str) {
    let target = set.with_file_name("kept");
    fs::write(&target, noise(1 << 16, 9)).unwrap();
    for target in [&target, &set.with_file_name("none")] {
        let command = format!("! {} image restore {} {} 2>&1", path(binary()), path(set), path(target));
        let said = text(&sh(&command).stdout);
        let error = said.lines().last().unwrap_or_default();
        assert!(error.contains(why) && error.contains("nothing was written"), "{why}: {said}");
    }
    assert!(fs::read(target).unwrap() == noise(1 << 16, 9) && !set.with_file_name("none").exists());
}

const GPT_NUMBERS: &[(u32, &str)] = &[(2, "ext4"), (3, "fat"), (4, "unknown"), (5, "swap")];
const MBR_NUMBERS: &[(u32, &str)] = &[(1, "ext4"), (5, "fat"), (6, "unknown"), (7, "swap")];

#[test]
fn a_disk_that_clonezilla_saved_comes_back_and_becomes_an_image_of_ours() {
    if !tools(TOOLS) || !tools(MORE_TOOLS) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    let set = clonezilla(&disk, GPT_NUMBERS, "zstd -q -3 -c", "zst.");
    let cut = fs::read_dir(&set)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().unwrap_or_default() == "ab");
    assert!(cut.count() > 0, "an image is cut");
    let sound = |file: &Path| sh(&format!("sgdisk -v {} | grep 'No problems found'", path(file)));

    let said = works(&["restore", "--verify", path(&set), path(&disk.noisy("same", 90))]);
    assert!(said.contains("no image of partition 1, which stays as it is"), "{said}");
    disk.assert_parts(&disk.at("same"));
    sound(&disk.at("same"));
    works(&["restore", path(&set), path(&disk.noisy("larger", 121))]);
    disk.assert_parts(&disk.at("larger"));
    sound(&disk.at("larger"));
    // Without a copy of the GPT it is made anew from sfdisk's script.
    fs::remove_file(set.join("sda-gpt-1st")).unwrap();
    works(&["restore", path(&set), path(&disk.noisy("gdisk", 90))]);
    fs::remove_file(set.join("sda-gpt.gdisk")).unwrap();
    works(&["restore", path(&set), path(&disk.noisy("script", 90))]);
    for name in ["gdisk", "script"] {
        disk.assert_parts(&disk.at(name));
        sound(&disk.at(name));
        let table = |name: &str| fs::read(disk.at(name)).unwrap()[512..34 * 512].to_vec();
        assert!(table(name) == table("disk"), "the GPT of {name}");
    }

    works(&["verify", path(&set)]);
    let shown = shows(&format!("info {}", path(&set)));
    assert!(shown.contains("Clonezilla, disk sda") && shown.contains("sda2.ext4-ptcl-img.zst.aa and "), "{shown}");
    assert!(shown.contains("DISK") && shown.contains("Partition 5:  swap"), "{shown}");
    let listed = shows(&format!("ls {}", path(disk.dir.path())));
    assert!(listed.lines().any(|line| line.contains("/set ") && line.contains("DISK")), "{listed}");
    let listed = shows(&format!("ls {}", path(&set)));
    assert!(listed.contains("sda2.ext4-ptcl-img.zst.aa") && !listed.contains(".ab"), "{listed}");

    works(&["convert", "-c", "zstd", path(&set), "-o", path(&disk.at("ours.dsk"))]);
    works(&["restore", path(&disk.at("ours.dsk")), path(&disk.noisy("ours", 90))]);
    disk.assert_parts(&disk.at("ours"));
    works(&["restore", "--partition", "2", path(&set), path(&disk.at("two"))]);
    assert_holds(&disk.at("two"), &disk.at("tree"));
    works(&["restore", "--partition", "4", path(&set), path(&disk.at("four"))]);
    assert!(fs::read(disk.at("four")).unwrap() == fs::read(disk.at("unknown")).unwrap());
    works(&["restore", "--partition", "5", path(&set), path(&disk.at("five"))]);
    assert!(fs::read(disk.at("five")).unwrap()[..4096] == fs::read(disk.at("swap")).unwrap()[..4096]);
    works(&["convert", "--partition", "2", path(&set), "-o", path(&disk.at("two.img"))]);
    sh(&format!("cd {0}; lzop -dc two.img | partclone.restore -s - -C -O noisy2 -L /dev/null", path(disk.dir.path())));
    assert_holds(&disk.at("noisy2"), &disk.at("tree"));
    let error = fails(&["restore", "--partition", "9", path(&set), path(&disk.at("nine"))]);
    assert!(error.contains("it has no partition 9; it has 2, 3, 4, 5"), "{error}");
}

#[test]
fn a_disk_of_mbr_that_clonezilla_saved_comes_back_with_boot_loader_and_logical_partitions() {
    if !tools(TOOLS) || !tools(MORE_TOOLS) {
        return;
    }
    let disk = Disk::new(90, MBR, MBR_PARTS);
    let set = clonezilla(&disk, MBR_NUMBERS, "gzip -1 -c", "gz");
    for (name, mib) in [("same", 90), ("larger", 121)] {
        works(&["restore", path(&set), path(&disk.noisy(name, mib))]);
        disk.assert_same(&disk.at(name));
        assert!(fs::read(disk.at(name)).unwrap()[440..512] == fs::read(disk.at("disk")).unwrap()[440..512]);
    }
    // Logical partitions in another order than on the disk.
    let swap = |text: String| text.replace("sda5", "sdaX").replace("sda6", "sda5").replace("sdaX", "sda6");
    fs::write(set.join("sda-pt.sf"), swap(fs::read_to_string(set.join("sda-pt.sf")).unwrap())).unwrap();
    for name in ["sda5.vfat-ptcl-img.gz", "sda6.dd-ptcl-img.gz"] {
        fs::rename(set.join(name), set.join(swap(name.to_owned()))).unwrap();
    }
    works(&["restore", path(&set), path(&disk.noisy("swapped", 90))]);
    let table =
        text(&sh(&format!("sfdisk -d {0} | sed -n 's|{0}|/dev/sda|; /start=/p'", path(&disk.at("swapped")))).stdout);
    let mut lines: Vec<&str> = table.lines().map(str::trim).collect();
    lines.sort_unstable();
    let script = fs::read_to_string(set.join("sda-pt.sf")).unwrap();
    let mut wanted: Vec<&str> = script.lines().filter(|line| line.contains("start=")).map(str::trim).collect();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    let (same, swapped) = (fs::read(disk.at("same")).unwrap(), fs::read(disk.at("swapped")).unwrap());
    for range in [MIB..33 * MIB, 35 * MIB..47 * MIB, 48 * MIB..52 * MIB, 70 * MIB..82 * MIB] {
        assert!(same[range.clone()] == swapped[range.clone()], "{range:?}");
    }
}

#[test]
fn partitions_that_clonezilla_saved_are_read_in_each_of_its_compressions() {
    if !tools(TOOLS) || !tools(MORE_TOOLS) || !tools(&["xz", "lz4", "lzop"]) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    for (pack, end) in COMPRESSORS {
        for end in [(*end).to_owned(), format!("{end}.")] {
            let set = clonezilla(&disk, &[(2, "ext4"), (4, "unknown")], pack, &end);
            fs::remove_file(set.join("disk")).unwrap();
            works(&["restore", "--partition", "2", path(&set), path(&disk.at("two"))]);
            assert_holds(&disk.at("two"), &disk.at("tree"));
            works(&["restore", "--partition", "4", path(&set), path(&disk.at("four"))]);
            assert!(fs::read(disk.at("four")).unwrap() == fs::read(disk.at("unknown")).unwrap(), "{pack} {end}");
            // A file by itself, by its first part or by what the parts have in common.
            works(&["verify", path(&set.join(format!("sda2.ext4-ptcl-img.{}", end.trim_end_matches('.'))))]);
            assert_refused(&set, "only single partitions were saved");
            sh(&format!("cd {}; rm -r set two four", path(disk.dir.path())));
        }
    }
}

#[test]
fn a_damaged_set_is_refused_before_the_first_byte() {
    if !tools(TOOLS) || !tools(MORE_TOOLS) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    let set = clonezilla(&disk, GPT_NUMBERS, "zstd -q -3 -c", "zst.");
    let at = |name: &str| set.join(name);
    let with = |name: &str, bytes: &[u8], why: &str| {
        let old = fs::read(at(name)).ok();
        fs::write(at(name), bytes).unwrap();
        assert_refused(&set, why);
        match old {
            Some(old) => fs::write(at(name), old).unwrap(),
            None => fs::remove_file(at(name)).unwrap(),
        }
    };
    let without = |name: &str, why: &str| {
        fs::rename(at(name), disk.at("away")).unwrap();
        assert_refused(&set, why);
        fs::rename(disk.at("away"), at(name)).unwrap();
    };
    without("sda2.ext4-ptcl-img.zst.aa", "sda2.ext4-ptcl-img.zst.aa is lacking");
    without("sda2.ext4-ptcl-img.zst.ab", "sda2.ext4-ptcl-img.zst.ab is lacking (later parts are there)");
    without("parts", "its list of partitions (parts) is lacking");
    with("sda2.ext4-ptcl-img.zst.ab", b"short", "ab has 5 bytes");
    with("sda2.ext4-ptcl-img.gz.aa", b"x", "both sda2.ext4-ptcl-img.gz and sda2.ext4-ptcl-img.zst are there");
    with("parts", b"../sda2", "no name of a device");
    with("disk", b"/etc/passwd", "it holds sda4, which is no partition of -etc-passwd");
    with("disk", b"sda sdb", "it holds the disks sda, sdb: name one by its table, as in sda-pt.sf");
    with("parts", b"sda2 sda3 sda4 md0", "it holds md0, which is no partition of sda");
    with("parts", b"sda2 sda3 sda4 sda5 sda7", "the image of sda5 is lacking");
    with(
        "lvm_vg_dev.list",
        b"vg0 /dev/sda2 Zw1-x\n",
        "belongs to the LVM volume group \"vg0\", which is not supported",
    );
    with("ecryptfs.info", b"", "encrypted");
    let table = fs::read_to_string(at("sda-pt.sf")).unwrap();
    for name in ["sda-gpt-1st", "sda-gpt.gdisk"] {
        fs::remove_file(at(name)).unwrap();
    }
    let shrunk = table.replace("size=       65536", "size=        4096");
    assert_ne!(shrunk, table);
    with("sda-pt.sf", shrunk.as_bytes(), "its partition has 2097152");
    with("sda-pt.sf", table.replace("size=       65536", "size=99999999999999999999").as_bytes(), "is not understood");
    with("sda-pt.sf", table.replace("size=       65536", "size=       72000").as_bytes(), "overlaps");
    with("sda-pt.sf", &vec![b'x'; 2 << 20], "is not a file of at most");
    // The last part is lacking, and the one before it is as long as the others.
    let last = "sda2.ext4-ptcl-img.zst";
    let parts = (0..26).map(|n| format!("{last}.a{}", char::from(b'a' + n))).take_while(|name| at(name).exists());
    without(&parts.last().unwrap(), "is lacking");
    works(&["verify", path(&set)]);
    let mut damaged = fs::read(at("sda3.vfat-ptcl-img.zst.aa")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    fs::write(at("sda3.vfat-ptcl-img.zst.aa"), &damaged).unwrap();
    let said = text(&sh(&format!("! {} image verify {} 2>&1", path(binary()), path(&set))).stdout);
    assert!(said.contains("sda3.vfat-ptcl-img.zst.aa: byte "), "{said}");
}

#[test]
fn a_file_that_was_cut_is_read_from_its_first_part_and_refused_without_its_last() {
    if !tools(&["partclone.extfs", "mkfs.ext4", "debugfs", "split", "zstd", "gzip", "xz", "lz4", "lzop"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    sh(&format!("partclone.extfs -c -s {} -o {} -L /dev/null 2>/dev/null", path(&fs), path(&at("plain"))));
    for (pack, end) in COMPRESSORS {
        for (split, first, second) in [("-a 2", "aa", "ab"), ("-a 3 -d", "000", "001")] {
            let name = |part: &str| at(&format!("img.{end}.{part}"));
            sh(&format!("cd {}; {pack} < plain | split {split} -b 1000000 - img.{end}.", path(dir.path())));
            works(&["restore", path(&name(first)), path(&at("back"))]);
            assert_holds(&at("back"), &at("tree"));
            let error = fails(&["restore", path(&name(second)), path(&at("none"))]);
            assert!(error.contains("name its first part"), "{error}");
            fs::rename(name(second), at("away")).unwrap();
            let error = fails(&["restore", path(&name(first)), path(&at("none"))]);
            assert!(error.contains(&format!("{second} is lacking (later parts are there)")), "{error}");
            sh(&format!("cd {}; mv img.{end}.{first} keep; rm img.*; mv keep img.{end}.{first}", path(dir.path())));
            for target in ["none", "old"] {
                fs::write(at("old"), noise(1 << 16, 4)).unwrap();
                let output = text(
                    &sh(&format!(
                        "! {} image restore {} {} 2>&1",
                        path(binary()),
                        path(&name(first)),
                        path(&at(target))
                    ))
                    .stdout,
                );
                assert!(output.contains(&format!("{second} is lacking")), "{pack}: {output}");
                assert!(fs::read(at("old")).unwrap() == noise(1 << 16, 4) && !at("none").exists());
            }
            sh(&format!("cd {}; rm img.* back away", path(dir.path())));
        }
    }
}

/// The commands that save a disk's table as FOG does.
const FOG: &str = r#"
    sfdisk -d {disk} | sed 's|{disk}|/dev/sda|g' > d1.partitions
    if grep -q gpt d1.partitions; then
        dd if={disk} of=d1.grub.mbr bs=512 count=2048 status=none
        sgdisk -b d1.mbr {disk} > /dev/null
    else dd if={disk} of=d1.mbr bs=512 count=2048 status=none; fi
    echo "1:$(stat -c %s {disk})" > d1.size"#;

/// A disk saved as FOG does it; `pack` compresses into IMG.
fn fog(disk: &Disk, parts: &[(u32, &str)], pack: &str) -> PathBuf {
    let dir = disk.at("set");
    fs::create_dir(&dir).unwrap();
    let all = path(disk.dir.path());
    let mut script = format!("set -e; cd {}\n{}\n", path(&dir), FOG.replace("{disk}", path(&disk.at("disk"))));
    for (number, name) in parts {
        let save = match *name {
            "ext4" => "partclone.extfs -a0 -c",
            "fat" => "partclone.fat -a0 -c",
            "swap" => {
                script += &format!("echo {number} $(blkid -s UUID -o value {all}/swap) >> d1.original.swapuuids\n");
                continue;
            }
            _ => "partclone.imager -c",
        };
        script += &format!("{save} -s {all}/{name} -o - -L /dev/null 2>/dev/null | ");
        script += &pack.replace("IMG", &format!("d1p{number}.img"));
    }
    sh(&script);
    dir
}

#[test]
fn a_disk_that_fog_saved_comes_back() {
    if !tools(TOOLS) || !tools(MORE_TOOLS) {
        return;
    }
    let disk = Disk::new(90, GPT, GPT_PARTS);
    sh(&format!("head -c 2M {0} | tail -c 1M > {1}", path(&disk.at("disk")), path(&disk.at("boot"))));
    let set = fog(&disk, &[&[(1, "boot")], GPT_NUMBERS].concat(), "zstd -q -11 --rsyncable -c > IMG\n");
    for (name, mib) in [("same", 90), ("larger", 121)] {
        works(&["restore", path(&set), path(&disk.noisy(name, mib))]);
        disk.assert_same(&disk.at(name));
        sh(&format!("sgdisk -v {} | grep 'No problems found'", path(&disk.at(name))));
    }
    let shown = shows(&format!("info {}", path(&set.join("d1.partitions"))));
    assert!(shown.contains("FOG, disk d1") && shown.contains("d1p4.img"), "{shown}");
    let without = |name: &str, why: &str| {
        fs::rename(set.join(name), disk.at("away")).unwrap();
        assert_refused(&set, why);
        fs::rename(disk.at("away"), set.join(name)).unwrap();
    };
    without("d1p2.img", "the image of partition 2 is lacking");
    // sgdisk's copy has the table too.
    fs::remove_file(set.join("d1.partitions")).unwrap();
    works(&["restore", path(&set), path(&disk.noisy("sgdisk", 90))]);
    disk.assert_same(&disk.at("sgdisk"));
    works(&["restore", "--partition", "3", path(&set), path(&disk.at("three"))]);
    assert!(fs::read(disk.at("three")).unwrap() == fs::read(disk.at("fat")).unwrap());
}

#[test]
fn a_disk_of_mbr_that_fog_saved_in_parts_comes_back() {
    if !tools(TOOLS) || !tools(MORE_TOOLS) {
        return;
    }
    let disk = Disk::new(90, MBR, MBR_PARTS);
    let set = fog(&disk, MBR_NUMBERS, "gzip -6 -c | split -a 3 -d -b 300000 - IMG.\n");
    // Old sets have an image of the extended partition.
    fs::write(set.join("d1p2.img"), "EBR").unwrap();
    works(&["restore", path(&set), path(&disk.noisy("same", 90))]);
    disk.assert_same(&disk.at("same"));
    fs::remove_file(set.join("d1p1.img.001")).unwrap();
    assert_refused(&set, "d1p1.img.001 is lacking");
}

#[test]
fn an_image_of_opengnsys_3_is_read_and_a_copy_cut_short_refused() {
    if !tools(&["partclone.extfs", "mkfs.ext4", "debugfs", "zstd"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "64M", "");
    sh(&format!(
        "cd {}; partclone.extfs -c -s {} -o - -L /dev/null 2>/dev/null | zstd -q -3 -T0 -c > X.img.zst
        stat -c %s X.img.zst > X.img.zst.size; md5sum < X.img.zst | cut -c-32 > X.img.zst.sum
        echo PARTCLONE:ZSTD:EXTFS:65536 > X.img.zst.info.checked",
        path(dir.path()),
        path(&fs)
    ));
    works(&["restore", path(&at("X.img.zst")), path(&at("back"))]);
    assert_holds(&at("back"), &at("tree"));
    let listed = shows(&format!("ls {}", path(dir.path())));
    assert!(
        listed.lines().any(|line| line.contains("X.img.zst") && line.contains("sum info.checked size")),
        "{listed}"
    );
    works(&["convert", path(&at("X.img.zst")), "-o", path(&at("X.img"))]);
    let file = fs::File::options().write(true).open(at("X.img.zst")).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    file.write_all_at(b"", 0).unwrap();
    let error = fails(&["restore", path(&at("X.img.zst")), path(&at("none"))]);
    assert!(error.contains("X.img.zst.size gives: nothing was written"), "{error}");
}

#[test]
fn frozen_sets_of_each_program_are_restored_by_every_later_build() {
    if !tools(&["sha256sum"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sets");
    for name in ["clonezilla", "fog"] {
        // The sums are of what partclone.restore, sfdisk and mkswap made on a disk of zeroes.
        works(&["restore", path(&sets.join(name)), path(&dir.path().join(name))]);
    }
    sh(&format!("cd {}; sha256sum -c {}", path(dir.path()), path(&sets.join("SHA256.txt"))));
}
