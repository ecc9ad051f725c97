//! nbdkit's filters as judges of what a restore does to its target: that each byte written is right, that none is written
//! more than twice, that requests are large, aligned where they have to be, and end the restore where they fail.
//!
//! The targets are files of FUSE by nbdfuse, which passes each write on as it comes, and loop devices over such. Needs root.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::devices::Loop;
use crate::failing::Failing;
use crate::imaging::{fails, noise, path, sh, works};
use crate::support::{applet, eventually, text, tools};

const MIB: usize = 1 << 20;

/// What a restore overwrites with zeroes before all else (`src/image/seal.rs`) on a device of `size` bytes, in order.
fn heads(size: usize) -> Vec<(usize, usize)> {
    let pages = [256 << 10, 512 << 10, MIB, 2 * MIB, 4 * MIB, 64 * MIB].into_iter().map(|at| (at, at + 4096));
    let back = (size - (128 << 10)) / 4096 * 4096;
    [(0, 132 << 10)].into_iter().chain(pages.filter(|page| page.1 < back)).chain([(back, size)]).collect()
}

/// A directory with a target's bytes in `disk`, and the filters' files.
struct Bench(TempDir);

impl Bench {
    fn new() -> Bench {
        Bench(TempDir::new().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The disk behind these filters, and the words for them.
    fn judged(&self, filters: &[&str], words: &[&str]) -> Failing {
        let filters: Vec<String> = filters.iter().map(|name| format!("--filter={name}")).collect();
        let mut all: Vec<&str> = filters.iter().map(String::as_str).collect();
        let disk = self.at("disk");
        all.extend(["file", path(&disk)]);
        all.extend(words);
        let _ = fs::remove_dir(self.at("fuse"));
        Failing::by(&self.at("fuse"), &all)
    }

    fn log(&self) -> String {
        format!("logfile={}", path(&self.at("log")))
    }

    /// The requests of the log that write, as their offset and size, bytes.
    fn writes(&self) -> Vec<(usize, usize)> {
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        let is_write = |line: &&str| [" Write id=", " Zero id=", " Trim id="].iter().any(|name| line.contains(name));
        let number = |line: &str, name: &str| {
            let (_, rest) = line.split_once(name)?;
            usize::from_str_radix(rest.split_whitespace().next()?, 16).ok()
        };
        // The last line may be half written.
        log.lines()
            .filter(is_write)
            .map_while(|line| Some((number(line, " offset=0x")?, number(line, " count=0x")?)))
            .collect()
    }

    /// An uncompressed image, byte by byte, of noise.
    fn noise(&self, size: usize) -> PathBuf {
        fs::write(self.at("source"), noise(size, 7)).unwrap();
        works(&["save", "--raw", "-c", "none", path(&self.at("source")), "-o", path(&self.at("image"))]);
        self.at("image")
    }

    fn blank(&self, size: usize) {
        fs::write(self.at("disk"), vec![0xaa; size]).unwrap();
    }

    fn is_restored(&self) -> bool {
        fs::read(self.at("disk")).unwrap() == fs::read(self.at("source")).unwrap()
    }
}

/// The file systems whose restore is judged; `$FS` is a file, and `$TREE` a directory.
const KINDS: &[(&str, &str)] = &[
    ("ext4", "truncate -s 80M $FS; mkfs.ext4 -q -d $TREE $FS"),
    ("btrfs", "truncate -s 128M $FS; mkfs.btrfs -q -r $TREE $FS"),
    ("ntfs", "truncate -s 24M $FS; mkfs.ntfs -q -F -f $FS; ntfscp -q $FS $TREE/noise noise"),
    ("fat", "truncate -s 40M $FS; mkfs.fat -F 32 $FS; mcopy -i $FS $TREE/noise ::"),
    (
        "disk",
        "truncate -s 24M $FS; printf 'label: gpt\\nsize=20M\\n' | sfdisk -q $FS; mkfs.ext4 -q -E offset=1048576 -d $TREE $FS 20M",
    ),
];

const MAKERS: &[&str] = &["mkfs.ext4", "mkfs.btrfs", "mkfs.ntfs", "ntfscp", "mkfs.fat", "mcopy", "sfdisk"];

#[test]
fn over_a_copy_of_its_source_a_restore_changes_no_byte_but_the_heads_for_a_while() {
    if !tools(&["nbdkit", "nbdfuse"]) || !tools(MAKERS) {
        return;
    }
    let bench = Bench::new();
    let at = |name: &str| bench.at(name);
    fs::create_dir(at("tree")).unwrap();
    let content = noise(9 * MIB, 3);
    fs::write(at("tree").join("noise"), &content).unwrap();
    for (kind, make) in KINDS {
        let _ = fs::remove_file(at("source"));
        sh(&format!("FS={}; TREE={}; {make}", path(&at("source")), path(&at("tree"))));
        works(&["save", path(&at("source")), "-o", path(&at("image"))]);
        let size = fs::metadata(at("source")).unwrap().len() as usize;
        let heads = heads(size);
        let protect = heads.windows(2).map(|pair| format!("protect={}-{}", pair[0].1, pair[1].0 - 1));
        let protect: Vec<String> = protect.collect();
        let words: Vec<&str> = protect.iter().map(String::as_str).collect();
        fs::copy(at("source"), at("disk")).unwrap();
        let target = bench.judged(&["protect"], &words);
        works(&["restore", path(&at("image")), path(&target.file())]);
        drop(target);
        assert!(bench.is_restored(), "{kind}");
        // And the judge is awake: one byte of the file is another in the copy.
        let mut copy = fs::read(at("source")).unwrap();
        let byte = copy.windows(64).position(|bytes| bytes == &content[4_500_000..][..64]).unwrap();
        copy[byte] ^= 1;
        fs::write(at("disk"), &copy).unwrap();
        let target = bench.judged(&["protect"], &words);
        let error = fails(&["restore", path(&at("image")), path(&target.file())]);
        assert!(error.contains("Operation not permitted") && (byte - MIB..=byte).contains(&place(&error)), "{error}");
    }
}

#[test]
fn every_byte_written_is_what_the_source_has() {
    if !tools(&["nbdkit", "nbdfuse"]) {
        return;
    }
    // `checkwrite` refuses the zeroes that a restore begins with: here they are right, and all else is noise.
    let bench = Bench::new();
    let size = 24 * MIB;
    let mut source = noise(size, 5);
    heads(size).iter().for_each(|(from, to)| source[*from..*to].fill(0));
    fs::write(bench.at("source"), &source).unwrap();
    works(&["save", "--raw", path(&bench.at("source")), "-o", path(&bench.at("image"))]);
    let image = bench.at("image");
    fs::write(bench.at("disk"), &source).unwrap();
    let target = bench.judged(&["checkwrite"], &[]);
    works(&["restore", path(&image), path(&target.file())]);
    drop(target);
    let wrong = 11 * MIB + 77;
    source[wrong] ^= 1;
    fs::write(bench.at("disk"), &source).unwrap();
    let target = bench.judged(&["checkwrite"], &[]);
    let error = fails(&["restore", path(&image), path(&target.file())]);
    let place = place(&error);
    assert!((wrong - MIB..=wrong).contains(&place) && error.contains("I/O error"), "{error}");
}

/// The offset that an error names, bytes.
fn place(error: &str) -> usize {
    let number = |rest: &str| rest.split(':').next()?.parse().ok();
    error.split("at byte ").nth(1).and_then(number).unwrap_or_else(|| panic!("{error}"))
}

#[test]
fn nothing_is_written_more_than_twice_and_only_the_heads_are() {
    if !tools(&["nbdkit", "nbdfuse"]) {
        return;
    }
    let bench = Bench::new();
    let size = 24 * MIB + 512;
    let image = bench.noise(size);
    bench.blank(size);
    let target = bench.judged(&["log"], &[&bench.log()]);
    works(&["restore", path(&image), path(&target.file())]);
    drop(target);
    assert!(bench.is_restored());
    let mut times = vec![0_u8; size];
    for (from, count) in bench.writes() {
        times[from..from + count].iter_mut().for_each(|times| *times += 1);
    }
    let mut wanted = vec![1; size];
    heads(size).iter().for_each(|(from, to)| wanted[*from..*to].fill(2));
    let wrong: BTreeMap<u8, usize> =
        (0..size).rev().filter(|at| times[*at] != wanted[*at]).map(|at| (times[at], at)).collect();
    assert!(wrong.is_empty(), "written so often, first at: {wrong:?}");
}

/// Restores noise of this size onto a device that takes 2 ms for each request; returns the number of requests that write.
fn requests_of_a_slow_device(bench: &Bench, size: usize, is_looped: bool) -> usize {
    let image = bench.noise(size);
    bench.blank(size);
    let target = bench.judged(&["log", "delay"], &[&bench.log(), "wdelay=2ms"]);
    let begun = Instant::now();
    if is_looped {
        let device = Loop::over(&target.file(), 512);
        works(&["restore", path(&image), &device.0]);
    } else {
        works(&["restore", path(&image), path(&target.file())]);
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    drop(target);
    assert!(bench.is_restored());
    bench.writes().len()
}

#[test]
fn a_slow_device_is_written_to_in_few_requests_whatever_its_number_of_sectors() {
    if !tools(&["nbdkit", "nbdfuse", "losetup"]) {
        return;
    }
    let bench = Bench::new();
    let file = requests_of_a_slow_device(&bench, 24 * MIB, false);
    let [even, odd, two] = [0, 512, 1024].map(|more| requests_of_a_slow_device(&bench, 24 * MIB + more, true));
    // One for each sector would be 49,152.
    assert!([file, even, odd, two].iter().all(|requests| *requests < 600), "{file} {even} {odd} {two}");
}

#[test]
fn a_disk_of_4096_byte_sectors_is_sent_nothing_unaligned() {
    if !tools(&["nbdkit", "nbdfuse", "losetup", "mkfs.ext4", "sfdisk"]) {
        return;
    }
    let bench = Bench::new();
    let at = |name: &str| bench.at(name);
    sh(&format!("truncate -s 48M {}", path(&at("source"))));
    let source = Loop::over(&at("source"), 4096);
    sh(&format!(
        "printf 'label: gpt\nstart=256,size=8192\n' | sfdisk -q {0}; mkfs.ext4 -q -b 4096 -E offset=1048576 {0} 32M",
        source.0
    ));
    works(&["save", &source.0, "-o", path(&at("image"))]);
    drop(source);
    fs::write(at("disk"), vec![0; 48 * MIB]).unwrap();
    let words = ["blocksize-minimum=4096", "blocksize-preferred=4096", "blocksize-error-policy=error"];
    let target = bench.judged(&["log", "blocksize-policy"], &[&[bench.log().as_str()], &words[..]].concat());
    let unaligned = format!("dd if=/dev/zero of={} bs=512 count=1 conv=notrunc", path(&target.file()));
    let output = Command::new("sh").args(["-c", &unaligned]).output().unwrap();
    assert!(text(&output.stderr).contains("Invalid argument"), "the judge is asleep: {output:?}");
    let device = Loop::over(&target.file(), 4096);
    works(&["restore", "--verify", path(&at("image")), &device.0]);
    drop(device);
    drop(target);
    assert!(bench.is_restored());
    // libnbd keeps to the policy itself, and the kernel of a loop device makes whole sectors of what it is given.
    let writes = bench.writes();
    assert!(!writes.is_empty() && writes.iter().all(|(from, count)| from % 4096 == 0 && count % 4096 == 0));
    assert!(!fs::read_to_string(at("log")).unwrap().contains("return=-1"));
}

#[test]
fn a_device_that_fails_in_the_middle_ends_the_restore_with_the_place() {
    if !tools(&["nbdkit", "nbdfuse"]) {
        return;
    }
    for (error, said) in [("EIO", "I/O error"), ("ENOSPC", "No space left on device")] {
        let bench = Bench::new();
        let bytes = fs::read(bench.noise(24 * MIB)).unwrap();
        bench.blank(24 * MIB);
        let [inject, log] = [format!("error-pwrite-file={}", path(&bench.at("inject"))), bench.log()];
        let error = format!("error-pwrite={error}");
        let target = bench.judged(&["log", "error"], &[&log, &error, "error-pwrite-rate=100%", &inject]);
        let mut restore = applet("image");
        restore.args(["restore", "--progress", "none", "-"]).arg(target.file());
        let mut restore = restore.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = restore.stdin.take().unwrap();
        let (front, rest) = bytes.split_at(bytes.len() / 2);
        pipe.write_all(front).unwrap();
        eventually("a third is written", 30, || bench.writes().iter().any(|(from, _)| (8..20).contains(&(from / MIB))));
        fs::write(bench.at("inject"), "").unwrap();
        // It may end before it has read all.
        let _ = pipe.write_all(rest);
        drop(pipe);
        let output = restore.wait_with_output().unwrap();
        drop(target);
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(line.contains(said) && line.trim_end().ends_with("was not finished and is unusable"), "{line}");
        let failed = failed_write(&bench.at("log"));
        assert!((place(&line)..place(&line) + MIB).contains(&failed), "byte {failed}: {line}");
        assert!(fs::read(bench.at("disk")).unwrap()[..4096].iter().all(|byte| *byte == 0), "its head is not back");
    }
}

/// The offset of the first request that failed, bytes.
fn failed_write(log: &Path) -> usize {
    let log = fs::read_to_string(log).unwrap();
    let failed = log.lines().find(|line| line.contains("...Write") && line.contains("return=-1")).unwrap();
    let id = failed.split_whitespace().find(|word| word.starts_with("id=")).unwrap();
    let sent = log.lines().find(|line| line.contains(&format!(" Write {id} "))).unwrap();
    usize::from_str_radix(sent.split("offset=0x").nth(1).unwrap().split(' ').next().unwrap(), 16).unwrap()
}
