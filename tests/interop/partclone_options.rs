//! The options of partclone's programs that scripts use beside `-c` and `-r`, against Debian's partclone where that has
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use tempfile::TempDir;

use crate::devices::{Loop, Partitions};
use crate::failing::Failing;
use crate::imaging::{make, noise, path, sh};
use crate::support::{applet, binary, run, text, tools};

/// A directory with an ext4 file system, an image of it by us, and what a restore to a new file gives.
struct Place(TempDir);

impl Place {
    fn new() -> Option<Place> {
        if !tools(&["mkfs.ext4", "debugfs", "partclone.extfs"]) {
            return None;
        }
        let place = Place(TempDir::new().unwrap());
        make(place.0.path(), "40M", "");
        place.done("partclone.extfs -c -s fs -o image");
        place.done("partclone.restore -s image -o fresh");
        Some(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn output(&self, words: &str) -> Output {
        let mut words = words.split(' ');
        applet(words.next().unwrap()).args(words).current_dir(self.0.path()).output().unwrap()
    }

    /// Runs an applet that must do its work; returns what it said.
    fn done(&self, words: &str) -> String {
        let output = self.output(words);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{words}: {said}");
        said
    }

    /// Runs an applet that must fail with this code; returns what it said.
    fn refused(&self, words: &str, code: i32) -> String {
        let output = self.output(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        said
    }

    fn sh(&self, script: &str) -> Vec<u8> {
        sh(&format!("cd {}; {script}", path(self.0.path()))).stdout
    }
}

#[test]
fn a_map_for_ddrescue_is_partclones() {
    let Some(place) = Place::new() else { return };
    for offset in ["0", "1048576"] {
        place.sh(&format!("partclone.extfs -D --offset_domain={offset} -s fs -O theirs -L /dev/null"));
        place.done(&format!("partclone.extfs -D --offset_domain={offset} -s fs -O ours"));
        let lines = |name| text(&place.read(name)).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines("ours"), lines("theirs"));
    }
    let same = place.output("partclone.extfs --domain --offset_domain 0x100000 -s fs");
    assert!(same.status.success() && same.stdout == place.read("ours"), "{}", text(&same.stderr));
}

#[test]
fn an_offset_puts_a_file_system_into_a_disk() {
    let Some(place) = Place::new() else { return };
    if !tools(&["sfdisk"]) {
        return;
    }
    let fresh = place.read("fresh");
    for job in ["partclone.restore -s image", "partclone.extfs -b -s fs", "partclone.extfs -r -s image"] {
        place.done(&format!("{job} --offset=1048576 -O new"));
        let new = place.read("new");
        assert!(new.len() == fresh.len() + (1 << 20) && new[1 << 20..] == fresh && new[..1 << 20] == [0; 1 << 20]);
        fs::remove_file(place.at("new")).unwrap();
    }
    place.sh(
        "truncate -s 90M disk; printf 'label: gpt\nstart=2048,size=81920\nstart=90112,size=81920\n' | sfdisk -q disk",
    );
    let table = place.read("disk");
    place.done("partclone.restore -s image -E 46137344 -O disk");
    let disk = place.read("disk");
    assert!(disk[44 << 20..84 << 20] == fresh && disk[..44 << 20] == table[..44 << 20]);
    for wrong in [0x200000, 45 << 20, 60 << 20] {
        let said = place.refused(&format!("partclone.restore -s image -E {wrong} -O disk"), 1);
        assert!(said.contains("nothing was written"), "{said}");
    }
    assert!(place.read("disk") == disk);
    assert!(place.refused("partclone.dd -s fs -E 512 -O new", 1).contains("has no option -E"));
}

#[test]
fn a_restore_to_a_pipe_is_the_whole_device() {
    let Some(place) = Place::new() else { return };
    for job in ["partclone.restore -s image -o -", "partclone.restore -s image", "partclone.ext4 -b -s fs -o -"] {
        let output = place.output(job);
        assert!(output.status.success() && output.stdout == place.read("fresh"), "{job}: {}", text(&output.stderr));
    }
    if tools(&["mkfs.ntfs"]) {
        place.sh("truncate -s 20M n; mkfs.ntfs -qFf n");
        place.done("partclone.ntfs -c -s n -o n.img");
        place.done("partclone.restore -s n.img -o n.file");
        assert!(place.output("partclone.restore -s n.img").stdout == place.read("n.file"));
        // The copy of its boot sector, which the image does not hold.
        assert!(place.read("n.file").ends_with(&place.read("n")[(20 << 20) - 512..]));
    }
}

#[test]
fn an_image_goes_through_a_command() {
    let Some(place) = Place::new() else { return };
    let command = |words: &[&str]| applet("partclone.extfs").args(words).current_dir(place.0.path()).output().unwrap();
    let output = command(&["-c", "-s", "fs", "-o", "packed", "-x", "gzip -c1"]);
    assert!(text(&output.stderr).contains("to compressed image (packed)"), "{}", text(&output.stderr));
    assert!(place.sh("gzip -dc packed") == place.read("image"));
    let output = command(&["-c", "-s", "fs", "-o", "none", "-x", "head -c 1000; exit 3"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("ended with exit status: 3"), "{}", text(&output.stderr));
    assert!(!place.at("none").exists());
}

#[test]
fn block_files_are_partclones() {
    let Some(place) = Place::new() else { return };
    let names = |dir: &str| -> Vec<String> {
        let found = fs::read_dir(place.at(dir)).unwrap();
        let mut names: Vec<String> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for buffer in ["1048576", "16777216"] {
        place.sh(&format!("rm -rf theirs; partclone.extfs -c -T -z {buffer} -s fs -O theirs -L /dev/null"));
        place.done(&format!("partclone.extfs -c -T -z {buffer} -s fs -O ours"));
        assert_eq!(names("ours"), names("theirs"));
        for name in names("ours").iter().filter(|name| *name != "torrent.info") {
            assert!(place.read(&format!("ours/{name}")) == place.read(&format!("theirs/{name}")), "{name}");
        }
        // The lines of each kind in their order; a sum comes as soon as its piece ends.
        let lines = |dir: &str, kind: &str| -> Vec<String> {
            let list = text(&place.read(&format!("{dir}/torrent.info")));
            list.lines().filter(|line| line.starts_with(kind)).map(str::to_owned).collect()
        };
        for kind in ["block_size", "blocks_total", "offset", "length", "sha1"] {
            assert_eq!(lines("ours", kind), lines("theirs", kind));
        }
        place.done(&format!("partclone.restore -T -z {buffer} -s image -O again"));
        assert_eq!(names("again"), names("ours"));
        place.done(&format!("partclone.extfs -r -t -z {buffer} -s image -O list"));
        assert_eq!(names("list"), ["torrent.info"]);
        assert!(place.read("list/torrent.info") == place.read("ours/torrent.info"));
    }
    assert!(place.refused("partclone.extfs -c -T -s fs -o ours", 1).contains("directory ours exists"));
    fs::write(place.at("ours/letter"), "mine").unwrap();
    assert!(place.refused("partclone.extfs -c -T -s fs -O ours", 1).contains("letter is no block file"));
    assert!(place.refused("partclone.extfs -b -T -s fs -O other", 1).contains("go into a directory"));
}

#[test]
fn dd_copies_a_pipe_and_a_part() {
    let Some(place) = Place::new() else { return };
    let size = 40 << 20;
    let piped = |words: &str| {
        let mut command = applet("partclone.dd");
        command.args(words.split(' ')).current_dir(place.0.path()).stdin(fs::File::open(place.at("fs")).unwrap());
        command.output().unwrap()
    };
    assert!(piped("-s - -o copy").status.success() && place.read("copy") == place.read("fs"));
    place.done("partclone.dd -s fs -S 5000 -o part");
    assert!(place.read("part") == place.read("fs")[..5000]);
    let output = piped(&format!("--device-size {size} -d3 -s - --btfiles -z 16777216 -O bt/ -C"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(place.sh(&format!("cat bt/{:032x} bt/{:032x} bt/{:032x}", 0, 16 << 20, 32 << 20)) == place.read("fs"));
    let short = piped(&format!("-S {} -s - -o more", size + 1));
    assert!(text(&short.stderr).contains("ended after 41943040 of 41943041 bytes"), "{}", text(&short.stderr));
    assert!(!short.status.success() && !place.at("more").exists());
    assert!(text(&piped("-s - -T -o set").stderr).contains("name it by -S"));
}

#[test]
fn bad_sectors_are_read_and_written_over_and_listed() {
    let Some(place) = Place::new() else { return };
    if !tools(&["nbdkit", "nbdfuse"]) {
        return;
    }
    let (bad, end) = ((4 << 20) + 8192, (4 << 20) + 16_384);
    fs::write(place.at("disk"), noise(8 << 20, 3)).unwrap();
    let failing = Failing::over(&place.at("disk"), &place.at("fuse"), bad..end);
    assert!(place.refused("partclone.imager -c -s fuse/nbd -O x.img", 1).contains("I/O error"));
    let said = place.done("partclone.imager -c -R -s fuse/nbd -O x.img");
    let dd = place.done("partclone.dd -R -s fuse/nbd -O x.dd");
    place.done("partclone.restore -s x.img -O x");
    let mut want = place.read("disk");
    for sector in want[bad as usize..end as usize].chunks_mut(512) {
        sector.fill(b'?');
        sector[..10].copy_from_slice(b"BADSECTOR\0");
    }
    assert!(place.read("x") == want && place.read("x.dd") == want);
    for said in [said, dd] {
        assert!(said.contains(&format!("WARNING: Can't read 16 sectors at {bad}, lost data.")), "{said}");
    }
    assert!(place.refused("partclone.restore -s x.img -O fuse/nbd", 1).contains("is unusable"));
    place.sh("truncate -s 0 disk; truncate -s 8M disk");
    let said = place.done("partclone.restore -w -s x.img -O fuse/nbd");
    drop(failing);
    let skipped = said.lines().filter(|line| line.starts_with("skip write block ")).count();
    assert_eq!(skipped as u64, (end - bad) / 512, "{said}");
    want[bad as usize..end as usize].fill(0);
    assert!(place.read("disk") == want);
}

#[test]
fn direct_io_gives_the_same() {
    let Some(place) = Place::new() else { return };
    if !tools(&["losetup"]) {
        return;
    }
    // An odd number of sectors, as Windows' partitions have.
    place.sh("cp fs from; truncate -s +512 from; truncate -s 41943552 to");
    let (from, to) = (Loop::over(&place.at("from"), 512), Loop::over(&place.at("to"), 512));
    let fresh = place.read("fresh");
    let zero = || place.sh(&format!("dd if=/dev/zero of={} bs=1M count=40 status=none", to.0));
    for job in [
        format!("partclone.extfs -b -s {} -o {} --read-direct-io --write-direct-io", from.0, to.0),
        format!("partclone.restore -s image -o {} --write-direct-io", to.0),
    ] {
        zero();
        place.done(&job);
        let got = place.sh(&format!("cat {}", to.0));
        assert!(got[..fresh.len()] == fresh, "{job}");
    }
    place.done(&format!("partclone.extfs -c -s {} -o direct.img --read-direct-io", from.0));
    assert!(place.read("direct.img")[110..] == place.read("image")[110..]);
    zero();
    place.done(&format!("partclone.dd -s {} -o {} --read-direct-io --write-direct-io", from.0, to.0));
    assert!(place.sh(&format!("cat {}", to.0)) == place.read("from"));
}

#[test]
fn names_without_a_reader_run_the_original_or_save_all() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.at("bin")).unwrap();
    let script = place.at("bin").join("partclone.jfs");
    fs::write(&script, "#!/bin/sh\necho original $*; exit 7\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let with = |path: PathBuf, words: &str| {
        let mut words = words.split(' ');
        let mut command = applet(words.next().unwrap());
        command.args(words).current_dir(place.0.path()).env("PATH", path).output().unwrap()
    };
    let there = with(place.at("bin"), "partclone.jfs -c -s disk -o x");
    assert_eq!((there.status.code(), text(&there.stdout)), (Some(7), "original -c -s disk -o x\n".to_owned()));
    fs::write(place.at("disk"), [noise(1 << 20, 1), vec![0; 1 << 20], noise(4096, 2)].concat()).unwrap();
    for (name, fs) in [("jfs", "JFS"), ("hfs+", "HFS Plus"), ("vmfs", "VMFS")] {
        let missing = with(place.at("none"), &format!("partclone.{name} -c -s disk -O x"));
        let said = text(&missing.stderr);
        assert!(missing.status.success() && said.contains(&format!("which blocks {fs} uses is not known")), "{said}");
        assert!(place.done("partclone.info -s x").contains(&format!("File system:  {fs}\n")));
        place.done(&format!("partclone.{name} -r -s x -O back"));
        assert!(place.read("back") == place.read("disk"));
        fs::remove_file(place.at("back")).unwrap();
    }
    let other = with(place.at("none"), "partclone.jfs -c -s fs -O x");
    assert!(text(&other.stderr).contains("fs holds EXTFS, not JFS"), "{}", text(&other.stderr));
}

#[test]
fn a_damaged_file_system_keeps_its_name_by_force() {
    let Some(place) = Place::new() else { return };
    place.sh("debugfs -w -R 'set_bg 0 free_blocks_count 5' fs");
    place.refused("partclone.extfs -c -s fs -o y", 1);
    assert!(place.done("partclone.extfs -c -F -s fs -o y").contains("every block is saved"));
    assert!(place.done("partclone.info -s y").contains("File system:  EXTFS\n"));
    place.done("partclone.restore -s y -o back");
    assert!(place.read("back") == place.read("fs"));
}

#[test]
fn the_boot_sector_of_ntfs_fits_its_partition_as_partclones_program_has_it() {
    let Some(place) = Place::new() else { return };
    if !tools(&["mkfs.ntfs", "sfdisk", "losetup", "partx", "partclone.ntfsfixboot"]) {
        return;
    }
    place.sh("truncate -s 30M n; mkfs.ntfs -qFf -p 63 -H 16 -S 32 n; truncate -s 34M disk
         printf 'start=4096,size=61440,type=7\n' | sfdisk -q disk; dd if=n of=disk bs=1M seek=2 conv=notrunc status=none
         cp disk theirs");
    let (ours, theirs) = (Loop::over(&place.at("disk"), 512), Loop::over(&place.at("theirs"), 512));
    let (our_parts, their_parts) = (Partitions::of(&ours), Partitions::of(&theirs));
    let code = |program: &str, words: &str| {
        let script = format!("cd {}; {program} {words} > said; echo $?", path(place.0.path()));
        (text(&sh(&script).stdout).trim().to_owned(), text(&place.read("said")))
    };
    let applet = format!("{} partclone.ntfsfixboot", path(binary()));
    for words in ["", "-w", ""] {
        let (our_code, said) = code(&applet, &format!("{words} {}", our_parts.name(1)));
        // Loop devices tell it no geometry.
        let their_words = format!("-b -s 4096 -h 255 -t 63 {words} {}", their_parts.name(1));
        let (their_code, their_words) = code("partclone.ntfsfixboot", &their_words);
        assert_eq!(our_code, their_code, "{words}: {said} {their_words}");
        assert!(their_words.contains(said.trim()), "{said} {their_words}");
    }
    assert!(place.read("disk") == place.read("theirs"));
    let volume = place.read("disk")[2 << 20..32 << 20].to_vec();
    assert_eq!(volume[28..32], 4096_u32.to_le_bytes());
    assert!(volume.ends_with(&volume[..512]));
    // A file by its words, and a disk not at all.
    let (code, said) = code(&applet, "-b -w -s 2048 -h 255 -t63 n");
    assert_eq!((code.as_str(), said.as_str()), ("0", "done!\n"));
    assert_eq!(place.read("n")[24..32], [63, 0, 255, 0, 0, 8, 0, 0]);
    for wrong in [format!("-w {}", ours.0), "-w n".to_owned(), "-b -w disk".to_owned()] {
        let said = place.refused(&format!("partclone.ntfsfixboot {wrong}"), 2);
        assert!(said.contains("nothing was written"), "{said}");
    }
}

#[test]
fn progress_counts_in_the_units_that_are_asked_for() {
    let Some(place) = Place::new() else { return };
    assert!(place.done("partclone.extfs -c -s fs -O x").contains("/min, 100.00% completed!"));
    let said = place.done("partclone.extfs -c --binary-prefix --prog-second -N -s fs -O x");
    assert!(said.contains("iB/sec, 100.00% completed!"), "{said}");
    run(applet("partclone.extfs").args(["-c", "-d3", "-a3", "-O", "/dev/null", "-L"]).args([
        path(&place.at("log")),
        "-s",
        path(&place.at("fs")),
    ]));
    assert!(text(&place.read("log")).contains("CHECKSUM: XXH128\nCS SIZE: 16\n"));
    assert!(place.refused("partclone.restore", 1).contains("There is no image name."));
    assert!(place.refused("partclone.extfs -c -o x", 1).contains("can't clone from stdin"));
}
