//! Restores that are killed: whatever the target held before, the same content included, it is not usable afterwards, by
//! the first superblock or by any other copy.
//!
//! Needs root, for loop devices and mounts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::ioctl_fionread;
use tempfile::TempDir;

use crate::devices::Loop;
use crate::imaging::{noise, path, sh, works};
use crate::support::{applet, eventually, text, tools};

const MIB: u64 = 1 << 20;
const HEAD: usize = 132 << 10;

/// A kind of file system. In the scripts $FS is its device, $TREE a directory with 12 MiB of noise, and $DIR an empty one;
/// `opens` ends well if the file system can be used.
struct Kind {
    name: &'static str,
    /// The least size, MiB.
    size: u64,
    make: &'static str,
    opens: &'static str,
}

const MOUNTS: &str = "mount -o ro $FS $DIR && umount $DIR";

const KINDS: &[Kind] = &[
    Kind { name: "ext4", size: 64, make: "mkfs.ext4 -q -F -d $TREE $FS", opens: MOUNTS },
    Kind {
        name: "xfs",
        size: 320,
        make: "mkfs.xfs -q -f $FS; mount $FS $DIR; cp $TREE/noise $DIR; umount $DIR",
        opens: MOUNTS,
    },
    Kind { name: "btrfs", size: 128, make: "mkfs.btrfs -q -f -r $TREE $FS", opens: MOUNTS },
    // f2fs-tools take the second superblock, too, as the kernel does.
    Kind {
        name: "f2fs",
        size: 128,
        make: "mkfs.f2fs -q -f $FS; sload.f2fs -f $TREE $FS",
        opens: "dump.f2fs -i 3 $FS <<< n",
    },
    Kind {
        name: "ntfs",
        size: 64,
        make: "mkfs.ntfs -q -F -f $FS; ntfscp $FS $TREE/noise noise",
        opens: "ntfs-3g.probe --readonly $FS",
    },
    Kind { name: "fat", size: 64, make: "mkfs.fat -F 32 $FS; mcopy -i $FS $TREE/noise ::", opens: "fsck.fat -n $FS" },
];

const TOOLS: &[&str] = &[
    "losetup",
    "mount",
    "blkid",
    "mkfs.ext4",
    "mkfs.xfs",
    "mkfs.btrfs",
    "mkfs.f2fs",
    "sload.f2fs",
    "dump.f2fs",
    "mkfs.ntfs",
    "ntfscp",
    "ntfs-3g.probe",
    "mkfs.fat",
    "mcopy",
    "fsck.fat",
];

/// A directory with the noise that fills file systems.
struct Bench(TempDir);

impl Bench {
    fn new() -> Bench {
        let bench = Bench(TempDir::new().unwrap());
        fs::create_dir(bench.at("mounted")).unwrap();
        fs::create_dir(bench.at("tree")).unwrap();
        fs::write(bench.at("tree").join("noise"), noise(12 << 20, 5)).unwrap();
        bench
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script; returns whether it ended well, and what it said.
    fn run(&self, script: &str, device: &str) -> (bool, String) {
        let mut shell = Command::new("bash");
        shell.args(["-ec", script]).env("FS", device).env("TREE", self.at("tree")).env("DIR", self.at("mounted"));
        let output = shell.stdin(Stdio::null()).output().unwrap();
        (output.status.success(), text(&output.stderr))
    }

    /// An uncompressed image of the kind, of `mib` MiB with this noise; `fs` is what it was made of.
    fn image(&self, kind: &Kind, mib: u64, seed: u64) -> Vec<u8> {
        let (file, image) = (self.at("fs"), self.at("image"));
        fs::write(self.at("tree").join("noise"), noise(12 << 20, seed)).unwrap();
        sh(&format!("rm -f {0}; truncate -s {mib}M {0}", path(&file)));
        let device = Loop::over(&file, 512);
        let (made, said) = self.run(kind.make, &device.0);
        assert!(made, "{}: {said}", kind.name);
        works(&["save", &device.0, "-c", "none", "-o", path(&image)]);
        fs::read(image).unwrap()
    }

    fn opens(&self, kind: &Kind, device: &str) -> bool {
        self.run(kind.opens, device).0
    }
}

/// What libblkid takes the device for; empty if for nothing.
fn probed(device: &str) -> String {
    text(&Command::new("blkid").args(["-p", device]).output().unwrap().stdout)
}

/// Starts a restore from a pipe.
fn restore(target: &str) -> Child {
    let mut command = applet("image");
    command.args(["restore", "-", target, "--progress", "none"]).stdin(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Sends it the front of an image and waits until it has taken that, and has begun to write.
fn feed(child: &mut Child, front: &[u8], target: &str) {
    let pipe = child.stdin.as_mut().unwrap();
    pipe.write_all(front).unwrap();
    eventually("the image is read", 30, || ioctl_fionread(&*pipe).unwrap() == 0);
    eventually("the target is sealed", 30, || read(target, 0, HEAD).iter().all(|byte| *byte == 0));
}

fn read(target: &str, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open(target).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

#[test]
fn a_target_whose_restore_was_killed_is_usable_as_neither_the_old_content_nor_the_new() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    let images: Vec<Vec<u8>> = KINDS.iter().map(|kind| bench.image(kind, 320, 5)).collect();
    let target = bench.at("target");
    sh(&format!("truncate -s 320M {}", path(&target)));
    let device = Loop::over(&target, 512);
    let put = |image: &[u8]| {
        let mut child = restore(&device.0);
        child.stdin.take().unwrap().write_all(image).unwrap();
        assert!(child.wait().unwrap().success());
    };
    for (index, kind) in KINDS.iter().enumerate() {
        // The worst is the same content: each block that is not written yet is right already.
        for old in [index, (index + 1) % KINDS.len()] {
            let (image, held) = (&images[index], &KINDS[old]);
            for front in [image.len() / 3, image.len() / 2, image.len() - 1] {
                put(&images[old]);
                assert!(bench.opens(held, &device.0), "{}", held.name);
                let mut child = restore(&device.0);
                feed(&mut child, &image[..front], &device.0);
                match front == image.len() / 2 {
                    true => drop(child.stdin.take()),
                    false => child.kill().unwrap(),
                }
                assert!(!child.wait().unwrap().success());
                let place = format!("{} over {}, {front} of {} bytes", kind.name, held.name, image.len());
                assert_eq!(probed(&device.0), "", "{place}");
                assert!(!bench.opens(kind, &device.0) && !bench.opens(held, &device.0), "{place}");
                // Linux' ntfs3 mounts by the copy in the last sector.
                let last = read(&device.0, 320 * MIB - 512, 512);
                assert!(last.iter().all(|byte| *byte == 0), "{place}: the last sector");
            }
            put(image);
            assert!(bench.opens(kind, &device.0), "{}", kind.name);
        }
    }
}

#[test]
fn a_restore_that_is_killed_at_any_moment_leaves_what_was_there_what_comes_or_nothing_usable() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    for kind in KINDS {
        let image = bench.at("image");
        bench.image(kind, kind.size, 6);
        let old = fs::read(bench.at("fs")).unwrap();
        bench.image(kind, kind.size, 7);
        let device = Loop::over(&bench.at("fs"), 512);
        fs::write(&device.0, &old).unwrap();
        works(&["restore", "--verify", path(&image), &device.0]);
        let new = fs::read(&device.0).unwrap();
        for round in 0..4 {
            fs::write(&device.0, &old).unwrap();
            let mut command = applet("image");
            command.args(["restore", path(&image), &device.0]).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(25 * round));
            child.kill().unwrap();
            child.wait().unwrap();
            let found = fs::read(&device.0).unwrap();
            let is_whole = found == old || found == new;
            assert_eq!(bench.opens(kind, &device.0), is_whole, "{} after {} ms", kind.name, 25 * round);
            assert_eq!(probed(&device.0).is_empty(), !is_whole, "{} after {} ms", kind.name, 25 * round);
        }
    }
}

#[test]
fn a_disk_whose_restore_was_killed_has_no_partition_table_and_the_kernel_no_partitions() {
    if !tools(&["losetup", "sfdisk", "partx", "mkfs.ext4", "blkid"]) {
        return;
    }
    let bench = Bench::new();
    let (file, image) = (bench.at("disk"), bench.at("disk.dsk"));
    let script = |label: &str| {
        sh(&format!(
            "rm -f {0}; truncate -s 64M {0}; printf 'label: {label}\\nsize=40M\\nsize=10M' | sfdisk -q {0}",
            path(&file)
        ));
        sh(&format!("mkfs.ext4 -q -F -E offset=1048576 -d {} {} 40M", path(&bench.at("tree")), path(&file)));
        works(&["save", path(&file), "-c", "none", "-o", path(&image)]);
        fs::read(&image).unwrap()
    };
    for label in ["gpt", "dos"] {
        let bytes = script(label);
        let whole = fs::read(&file).unwrap();
        let device = Loop(text(&sh(&format!("losetup -f --show -P {}", path(&file))).stdout).trim().to_owned());
        let partition = format!("{}p1", device.0);
        for front in [bytes.len() / 3, bytes.len() - 1] {
            sh(&format!("partx -u {}", device.0));
            assert!(Path::new(&partition).exists());
            let mut child = restore(&device.0);
            feed(&mut child, &bytes[..front], &device.0);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(probed(&device.0), "", "{label}");
            let found = text(&Command::new("sfdisk").args(["-d", &device.0]).output().unwrap().stdout);
            assert_eq!(found, "", "{label}");
            // The second GPT.
            assert!(read(&device.0, 64 * MIB - 17408, 17408).iter().all(|byte| *byte == 0), "{label}");
            assert!(!Path::new(&partition).exists(), "{label}: the kernel keeps a partition");
            // Whether the kernel finds partitions again is a matter of how it was built.
            works(&["restore", path(&image), &device.0]);
            assert!(fs::read(&device.0).unwrap() == whole, "{label}");
        }
    }
}

#[test]
fn a_byte_by_byte_copy_that_was_killed_is_not_usable_and_leaves_what_is_behind_it() {
    if !tools(&["losetup", "mount", "mkfs.ext4", "blkid", "lzop"]) {
        return;
    }
    let bench = Bench::new();
    let (file, target) = (bench.at("fs"), bench.at("target"));
    sh(&format!("truncate -s 48M {0}; mkfs.ext4 -q -F -d {1} {0}", path(&file), path(&bench.at("tree"))));
    let mut before = [fs::read(&file).unwrap(), noise(16 << 20, 8)].concat();
    let end = before.len() - 512;
    before[end + 3..end + 11].copy_from_slice(b"NTFS    ");
    fs::write(&target, &before).unwrap();
    let device = Loop::over(&target, 512);
    assert!(bench.opens(&KINDS[0], &device.0));
    let packed = sh(&format!("lzop -1 -c {}", path(&file))).stdout;
    let mut child =
        applet("lzop").args(["-d", "-f", "-o", &device.0]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    feed(&mut child, &packed[..packed.len() - 1], &device.0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!bench.opens(&KINDS[0], &device.0));
    assert_eq!(probed(&device.0), "");
    fs::write(&target, &before).unwrap();
    let mut copy = applet("partclone.dd");
    assert!(copy.args(["-s", path(&file), "-o", &device.0]).stderr(Stdio::null()).status().unwrap().success());
    assert!(fs::read(&device.0).unwrap() == before);
    assert!(bench.opens(&KINDS[0], &device.0));
}
