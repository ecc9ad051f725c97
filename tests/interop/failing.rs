//! Failures in the middle: devices with bad sectors, sources that shrink, full disks, images that are truncated or
//! damaged anywhere. The error names the place, nothing half done has an image's name, and a spoilt target is
//! reported as such.
//!
//! Devices with bad sectors are files of FUSE that nbdfuse makes with nbdkit, alone and under a loop device. Needs
//! root.

use std::fs;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ogbox::image::codec::Input;
use ogbox::image::{Error, Watch, unpack};
use tempfile::TempDir;

use crate::devices::Loop;
use crate::imaging::{fails, noise, path, sh, works};
use crate::support::{binary, eventually, text, tools};

const MIB: u64 = 1 << 20;
/// Offset from which nothing can be read or written, bytes.
const BAD: u64 = 20 * MIB;

/// A file of a directory as FUSE shows it, made by nbdkit; gone at the end.
pub struct Failing {
    dir: PathBuf,
    child: std::process::Child,
}

impl Failing {
    pub fn over(file: &Path, dir: &Path, bad: Range<u64>) -> Failing {
        let Range { start, end } = bad;
        let bad =
            format!("[ $(( $4 + $3 )) -le {start} ] || [ $4 -ge {end} ] || {{ echo EIO bad sector >&2; exit 1; }}");
        let file = path(file);
        let dd = "bs=64k status=none";
        Failing::by(
            dir,
            &[
                "eval",
                &format!("get_size=stat -c %s {file}"),
                &format!("pread={bad}; dd if={file} iflag=skip_bytes,count_bytes skip=$4 count=$3 {dd}"),
                &format!("pwrite={bad}; dd of={file} oflag=seek_bytes seek=$4 conv=notrunc {dd}"),
                "can_write=exit 0",
            ],
        )
    }

    /// The file that nbdkit serves with these arguments.
    pub fn by(dir: &Path, nbdkit: &[&str]) -> Failing {
        fs::create_dir(dir).unwrap();
        let mut command = Command::new("nbdfuse");
        command.arg(dir).args(["--command", "nbdkit", "-s"]).args(nbdkit);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let failing = Failing { dir: dir.to_owned(), child };
        eventually("nbdfuse shows its file", 20, || failing.file().exists());
        failing
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("nbd")
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // Also when the test has failed and a process still has its file open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.dir).status();
        let ended = self.child.wait();
        assert!(std::thread::panicking() || unmounted.is_ok() && ended.is_ok());
    }
}

#[test]
fn bad_sectors_end_a_save_and_a_restore_with_their_place() {
    if !tools(&["nbdkit", "nbdfuse", "losetup"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("whole"), noise(24 << 20, 1)).unwrap();
    works(&["save", path(&at("whole")), "-c", "none", "-o", path(&at("whole.img"))]);
    fs::write(at("disk"), noise(24 << 20, 2)).unwrap();
    fs::create_dir(at("out")).unwrap();
    let failing = Failing::over(&at("disk"), &at("fuse"), BAD..1 << 40);
    let file = failing.file();
    let image = at("out").join("X.img");
    let save = |source: &str| fails(&["save", "--raw", source, "-o", path(&image)]);
    let restore = |target: &str| fails(&["restore", path(&at("whole.img")), target]);
    // One after the other: what a loop device is made of is not restored to.
    let [saved, restored] = [save(path(&file)), restore(path(&file))];
    let looped = Loop::over(&file, 512);
    let device = looped.0.clone();
    let said = [saved, save(&device), restored, restore(&device)];
    drop(looped);
    drop(failing);
    for line in &said {
        assert!(line.ends_with("I/O error (os error 5)") || line.ends_with("is unusable"), "{said:#?}");
        assert!(line.contains("I/O error (os error 5)"), "{said:#?}");
    }
    // In the MiB of the first bad sector; a restore overwrites the end of its target first.
    let place = |line: &str| line.split("at byte ").nth(1)?.split(':').next()?.parse::<u64>().ok();
    for line in &said[..2] {
        assert!(place(line).is_some_and(|at| (BAD - MIB..=BAD).contains(&at)), "{said:#?}");
    }
    assert_eq!(place(&said[2]), Some((24 << 20) - (128 << 10)), "{said:#?}");
    assert!(said[0].contains(path(&file)) && said[1].contains(&device), "{said:#?}");
    assert!(said[2].ends_with(&format!("{} was not finished and is unusable", file.display())), "{said:#?}");
    assert!(said[3].ends_with(&format!("{device} was not finished and is unusable")), "{said:#?}");
    assert_eq!(fs::read_dir(at("out")).unwrap().count(), 0, "nothing half done is left");
}

#[test]
fn a_source_that_shrinks_while_it_is_saved_is_told() {
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("source");
    fs::write(&source, noise(48 << 20, 1)).unwrap();
    let mut save = Command::new(binary())
        .args(["image", "save", "-c", "none", "--progress", "none", path(&source)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = save.stdout.take().unwrap();
    // It has begun to write, and the pipe blocks it.
    out.read_exact(&mut [0; 4096]).unwrap();
    fs::File::options().write(true).open(&source).unwrap().set_len(30 << 20).unwrap();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let output = save.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let place = said.split("source: byte ").nth(1).and_then(|rest| rest.split(':').next()?.parse::<u64>().ok());
    assert!(said.contains("it shrank") && place.is_some_and(|at| (29 * MIB..=30 * MIB).contains(&at)), "{said}");
}

#[test]
fn a_full_disk_leaves_the_older_image_and_nothing_half_done() {
    if !tools(&["mount"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("small")).unwrap();
    fs::write(at("source"), noise(12 << 20, 1)).unwrap();
    works(&["save", path(&at("source")), "-o", path(&at("whole.img"))]);
    sh(&format!("mount -t tmpfs -o size=8M tmpfs {}", path(&at("small"))));
    let image = at("small").join("X.img");
    fs::write(&image, "older").unwrap();
    let said = [
        fails(&["save", "--raw", path(&at("source")), "-o", path(&image)]),
        fails(&["save", "--raw", path(&at("source")), "-c", "none", "-o", path(&image)]),
        fails(&["convert", path(&at("whole.img")), "-c", "none", "-o", path(&image)]),
        fails(&["restore", path(&at("whole.img")), path(&at("small").join("new"))]),
    ];
    fs::write(at("small").join("old"), "").unwrap();
    let spoilt = fails(&["restore", path(&at("whole.img")), path(&at("small").join("old"))]);
    let left: Vec<_> = fs::read_dir(at("small")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let older = fs::read(&image).unwrap();
    sh(&format!("umount {}", path(&at("small"))));
    for line in &said {
        assert!(line.contains("No space left on device") && line.contains("at byte "), "{said:#?}");
    }
    assert!(spoilt.contains("No space left") && spoilt.ends_with("was not finished and is unusable"), "{spoilt}");
    assert_eq!((older, left.len()), (b"older".to_vec(), 2), "{left:?}");
}

/// Reads an image to its end.
fn read(image: &[u8]) -> Result<(), Error> {
    let input = Input::new(Box::new(Cursor::new(image.to_vec())), "image");
    unpack::read(input, false, &Watch::idle(), &mut |_, _| Ok(())).map(drop)
}

#[test]
fn an_image_that_is_cut_anywhere_or_has_a_bit_flipped_is_never_taken_for_whole() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut bytes = noise(3 * 512, 1);
    bytes[512..1024].fill(0);
    fs::write(at("source"), &bytes).unwrap();
    for options in ["-c none", "-c none --format 1", "-c none --blocks-per-checksum 1", "-c lzop", "-c gzip", "-c zstd"]
    {
        let words: Vec<&str> = options.split(' ').collect();
        works(&[&["save", path(&at("source")), "-o", path(&at("image"))], &words[..]].concat());
        let whole = fs::read(at("image")).unwrap();
        read(&whole).unwrap();
        // The seek table behind zstd's last frame is not part of the image.
        let last = if options.ends_with("zstd") { whole.len() - 25 } else { whole.len() };
        for length in 0..last {
            let error = read(&whole[..length]).expect_err(&format!("{options}: {length} of {} bytes", whole.len()));
            let place = match &error {
                Error::Damaged { at, .. } => *at,
                error => panic!("{options}, {length} bytes: {error}"),
            };
            // For data compressed in one piece, only its beginning can be named.
            assert!(place <= length as u64, "{options}, {length} bytes: {error}");
        }
        if options == "-c none" {
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(read(&damaged), Err(Error::Damaged { .. })), "{options}: bit {bit} is flipped");
            }
        }
    }
}
