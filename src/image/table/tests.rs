//! Tables that sfdisk made and tables made by hand, compared with what partx, libblkid's reader, says of them.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

use super::*;

const MIB: u64 = 1 << 20;
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

fn empty() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(64 * MIB).unwrap();
    file
}

/// A disk of 64 MiB that sfdisk partitioned by `script`.
fn disk(script: &str) -> NamedTempFile {
    let file = empty();
    let mut sfdisk = Command::new("sfdisk");
    let mut child = sfdisk
        .env("PATH", PATH)
        .args(["-q", "--no-reread"])
        .arg(file.path())
        .stdin(Stdio::piped())
        .spawn()
        .expect("sfdisk: `scripts/setup test` brings it");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    file
}

/// A boot record: its sector, and its entries (type, start, count; in sectors).
type Record<'a> = (u64, &'a [(u8, u32, u32)]);

/// A disk of 64 MiB with these boot records.
fn by_hand(records: &[Record]) -> NamedTempFile {
    let file = empty();
    for (sector, entries) in records {
        let mut bytes = [0; 512];
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
        for (slot, (kind, start, count)) in entries.iter().enumerate() {
            let at = 446 + slot * 16;
            bytes[at + 4] = *kind;
            bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        }
        file.as_file().write_all_at(&bytes, sector * 512).unwrap();
    }
    file
}

fn source(disk: &NamedTempFile) -> Source {
    Source::open(disk.path(), false).unwrap()
}

/// Number, start and size in MiB, and type or name of each partition.
fn found(disk: &NamedTempFile) -> Vec<(u32, u64, u64, String)> {
    let line = |partition: Partition| {
        let kind = match partition.kind {
            Kind::Mbr(kind) => format!("{kind:02x}"),
            Kind::Gpt(_) => partition.name,
        };
        (partition.number, partition.start / MIB, partition.size / MIB, kind)
    };
    read(&source(disk)).unwrap().map_or(Vec::new(), |table| table.partitions.into_iter().map(line).collect())
}

/// Number, start and size (bytes) of each partition, as partx has them and as we do.
fn both(disk: &NamedTempFile) -> [Vec<(u32, u64, u64)>; 2] {
    let words = ["--raw", "--bytes", "--noheadings", "-o", "NR,START,SIZE"];
    let output = Command::new("partx").env("PATH", PATH).args(words).arg(disk.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (numbers[0] as u32, numbers[1] * 512, numbers[2])
    };
    let ours = read(&source(disk)).unwrap().map_or(Vec::new(), |table| table.partitions);
    [text.lines().map(line).collect(), ours.iter().map(|of| (of.number, of.start, of.size)).collect()]
}

/// Asserts that the partitions have these numbers, and where they are, as partx says.
fn assert_numbered(disk: &NamedTempFile, numbers: &[u32]) {
    let [theirs, ours] = both(disk);
    assert_eq!(ours, theirs);
    assert_eq!(ours.iter().map(|of| of.0).collect::<Vec<_>>(), numbers);
}

#[test]
fn an_mbr_is_read_with_its_logical_partitions() {
    let script = "label: dos\nsize=8M, type=7\nsize=20M, type=5\nsize=8M, type=83\ntype=ca\nsize=4M, type=82\n\
                  size=4M, type=83\n";
    let is = |number, start, size, kind: &str| (number, start, size, kind.to_owned());
    let disk = disk(script);
    assert_eq!(
        found(&disk),
        [
            is(1, 1, 8, "07"),
            is(2, 9, 20, "05"),
            is(3, 29, 8, "83"),
            is(4, 37, 27, "ca"),
            is(5, 10, 4, "82"),
            is(6, 15, 4, "83"),
        ]
    );
    assert_numbered(&disk, &[1, 2, 3, 4, 5, 6]);
    let numbers = |table: Table| table.partitions.iter().map(|of| of.number).collect::<Vec<_>>();
    assert_eq!(sound(&source(&disk)).unwrap().map(numbers), Some(vec![1, 5, 6, 3, 4]));
}

#[test]
fn a_gpt_is_read_with_its_names_also_from_its_copy() {
    let script = "label: gpt\nsize=8M, name=\"Windows\"\n4: size=20M, name=CACHE\n";
    let is = [(1, 1, 8, "Windows".to_owned()), (4, 9, 20, "CACHE".to_owned())];
    let disk = disk(script);
    assert_eq!(found(&disk), is);
    assert_numbered(&disk, &[1, 4]);
    disk.as_file().write_all_at(b"EFI BART", 512).unwrap();
    assert_eq!(found(&disk), is);
    assert_numbered(&disk, &[1, 4]);
    disk.as_file().write_all_at(&[1], 64 * MIB - 512 + 72).unwrap();
    assert_eq!(found(&disk), [], "neither header fits its checksum");
    assert!(sound(&source(&disk)).is_err());
}

#[test]
fn an_entry_counts_by_its_size_and_not_by_its_type() {
    // A partition without a type, and a type without a partition.
    let disk = by_hand(&[(0, &[(0, 2048, 2048), (7, 4096, 0), (0x83, 8192, 2048)])]);
    assert_numbered(&disk, &[1, 3]);
}

#[test]
fn entries_without_a_type_make_a_table_if_they_are_on_the_disk() {
    assert_numbered(&by_hand(&[(0, &[(0, 2048, 2048), (0, 0, 0), (0, 8192, 2048)])]), &[1, 3]);
    let outside = by_hand(&[(0, &[(0, 2048, 1 << 30)])]);
    assert_eq!(found(&outside), []);
    let boot_sector = by_hand(&[(0, &[(0, 2048, 2048)])]);
    boot_sector.as_file().write_all_at(b"\xeb\x3c\x90MSWIN4.1\0\x02", 0).unwrap();
    assert_eq!(found(&boot_sector), []);
}

#[test]
fn a_record_without_a_partition_takes_no_number() {
    let disk = by_hand(&[
        (0, &[(5, 2048, 40960)]),
        (2048, &[(0, 0, 0), (5, 8192, 8192)]),
        (10240, &[(0x83, 2048, 2048), (5, 16384, 8192)]),
        (18432, &[(0xca, 2048, 2048)]),
    ]);
    assert_numbered(&disk, &[1, 5, 6]);
}

#[test]
fn a_record_may_have_its_entries_in_any_order_and_garbage_in_the_last_two() {
    let disk = by_hand(&[
        (0, &[(5, 2048, 40960)]),
        (2048, &[(5, 8192, 8192), (0x83, 2048, 2048)]),
        (10240, &[(0x83, 2048, 2048), (0, 0, 0), (0x83, 2048, 1 << 30), (0x83, 4096, 2048)]),
    ]);
    assert_numbered(&disk, &[1, 5, 6, 7]);
}

#[test]
fn logical_partitions_of_two_extended_ones_are_numbered_on() {
    let disk = by_hand(&[
        (0, &[(5, 2048, 8192), (0x0f, 16384, 8192)]),
        (2048, &[(0x83, 2048, 2048)]),
        (16384, &[(0x83, 2048, 2048)]),
    ]);
    assert_numbered(&disk, &[1, 2, 5, 6]);
}

#[test]
fn the_boot_sector_of_a_file_system_is_no_table() {
    let file = empty();
    assert_eq!(found(&file), []);
    file.as_file().write_all_at(&[0x55, 0xaa], 510).unwrap();
    file.as_file().write_all_at(b"some boot code", 446).unwrap();
    assert_eq!(found(&file), []);
    // NTFS' has numbers in its last bytes, where the last entry's size would be.
    let ntfs = empty();
    ntfs.as_file().write_all_at(&[0, 0, 0x8a, 1, 0xa7, 1, 0xbf, 1, 0x55, 0xaa], 502).unwrap();
    assert_eq!(found(&ntfs), []);
    let small = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(found(&small), []);
}

#[test]
fn what_cannot_be_a_table_is_none_for_a_whole_disk() {
    let overlapping = by_hand(&[(0, &[(7, 2048, 4096), (7, 4096, 4096)])]);
    let too_long = by_hand(&[(0, &[(7, 2048, 1 << 20)])]);
    let leads_out = by_hand(&[(0, &[(5, 1 << 20, 4096)])]);
    for disk in [overlapping, too_long, leads_out] {
        assert!(read(&source(&disk)).unwrap().is_some());
        assert!(sound(&source(&disk)).unwrap().is_none());
    }
}

#[test]
fn a_list_of_logical_partitions_that_goes_in_circles_or_breaks_off_is_read_that_far() {
    let circle = by_hand(&[(0, &[(5, 2048, 40960)]), (2048, &[(0x83, 2048, 2048), (5, 0, 8192)])]);
    let broken = by_hand(&[(0, &[(5, 2048, 40960)]), (2048, &[(0x83, 2048, 2048), (5, 8192, 8192)])]);
    for (disk, why) in [(circle, "goes in circles"), (broken, "no list of logical partitions")] {
        assert_numbered(&disk, &[1, 5]);
        let error = sound(&source(&disk)).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}
