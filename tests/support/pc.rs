//! A lab PC in a tree of files (OGBOX_ROOT): repository, cache, logs, and disks that are files or loop devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Lab, applet, run, text};

/// A PC: repository, cache directory, logs, and two disks that are files.
pub struct Pc {
    /// Its directory, which OGBOX_ROOT names.
    pub lab: Lab,
    loops: Vec<String>,
}

impl Pc {
    /// Makes a PC with two disks that are empty files, and no cache.
    pub fn new() -> Pc {
        let lab = Lab::new();
        for dir in ["opt/opengnsys/images/aula1", "opt/opengnsys/log", "opt/opengnsys/etc", "tmp", "dev", "proc"] {
            lab.make_dir(dir);
        }
        lab.make_dir("var/lock");
        let list = "major minor  #blocks  name\n\n 259 0 1 nvme0n1\n 259 1 1 nvme0n1p1\n   8 0 1 sda\n   8 1 1 sda1\n";
        fs::write(lab.path("proc/partitions"), list).expect("write the list of partitions");
        for name in ["sda", "sda1", "nvme0n1", "nvme0n1p1"] {
            fs::write(lab.path("dev").join(name), "").expect("make a device");
        }
        Pc { lab, loops: Vec::new() }
    }

    /// Makes a PC whose disk 1 (sda, `mib` MiB) is a loop device that sfdisk partitioned by `script`. Needs root.
    pub fn with_disk(mib: u64, script: &str) -> Pc {
        assert!(rustix::process::geteuid().is_root(), "loop devices want root: run as root, or with SKIP=losetup");
        let mut pc = Pc::new();
        let file = pc.lab.path("sda.disk");
        fs::File::create(&file).and_then(|disk| disk.set_len(mib << 20)).expect("make a disk");
        let (disk, dev) = (file.display(), pc.lab.path("dev"));
        sh(&format!("printf '{script}' | sfdisk -q {disk}"));
        // Each partition is a loop device of its own: not every kernel looks for partitions on loop devices.
        let mut list = "major minor  #blocks  name\n\n 8 0 1 sda\n".to_owned();
        for name in ["sda", "sda1"] {
            fs::remove_file(dev.join(name)).expect("remove a stand-in");
        }
        pc.attach(&file, "", "sda");
        let dump = text(&sh(&format!("sfdisk -d {disk}")).stdout);
        for line in dump.lines().filter_map(|line| line.strip_prefix(file.to_str()?)) {
            let (number, rest) = line.split_once(" : ").expect("a line of sfdisk -d");
            let sectors = |key: &str| -> u64 {
                let (_, rest) = rest.split_once(key).expect("a field of sfdisk -d");
                rest.split(',').next().and_then(|value| value.trim().parse().ok()).expect("a number of sectors")
            };
            let part = format!("-o {} --sizelimit {}", sectors("start=") * 512, sectors("size=") * 512);
            pc.attach(&file, &part, &format!("sda{number}"));
            list += &format!(" 8 {number} 1 sda{number}\n");
        }
        fs::write(pc.lab.path("proc/partitions"), list).expect("write the list of partitions");
        pc
    }

    /// Makes a loop device over a part of `file`, called `name` on this PC.
    fn attach(&mut self, file: &Path, part: &str, name: &str) {
        let script = format!("losetup --find --show {part} {}", file.display());
        let device = text(&sh(&script).stdout).trim().to_owned();
        symlink(&device, self.lab.path("dev").join(name)).expect("link a device");
        self.loops.push(device);
    }

    /// The node of disk 1's partition `number`.
    pub fn partition(&self, number: u32) -> PathBuf {
        self.lab.path(&format!("dev/sda{number}"))
    }

    /// Adds a directory for its cache.
    pub fn with_cache(self) -> Pc {
        self.lab.make_dir("opt/opengnsys/cache/opt/opengnsys/images");
        self
    }

    /// Path of the repository's file `name`.
    pub fn images(&self, name: &str) -> PathBuf {
        self.lab.path("opt/opengnsys/images").join(name)
    }

    /// Path of the cache's file `name`.
    pub fn cached(&self, name: &str) -> PathBuf {
        self.lab.path("opt/opengnsys/cache/opt/opengnsys/images").join(name)
    }

    /// `NAME WORD…` as in scripts, ready to be run on this PC.
    pub fn command(&self, line: &str) -> Command {
        let mut words = line.split(' ');
        let mut command = applet(words.next().unwrap_or_default());
        command.args(words).env("OGBOX_ROOT", self.lab.path("")).env("IPV4ADDR", "10.0.0.7");
        command.env_remove("LANG").env_remove("DEBUG");
        command
    }

    /// Runs `NAME WORD…`.
    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("run an applet")
    }

    /// Runs a command that must print one line and nothing else; returns the line without this PC's root.
    pub fn told(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{line}");
        text(&output.stdout).trim_end().replace(self.lab.path("").to_str().expect("a path in UTF-8"), "/")
    }

    /// The exit code, and the line on standard error without the time in it.
    pub fn refused(&self, line: &str) -> (Option<i32>, String) {
        refusal(&self.run(line))
    }

    /// Contents of the file `name`; empty if it does not exist.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.lab.path(name)).unwrap_or_default()
    }
}

/// Exit code, and the line on standard error without name, level and time.
pub fn refusal(output: &Output) -> (Option<i32>, String) {
    let line = text(&output.stderr);
    let Some(rest) = line.strip_prefix("OpenGnsys error: ") else { return (output.status.code(), line) };
    // After date and time.
    (output.status.code(), rest.splitn(3, ' ').nth(2).unwrap_or_default().trim_end().to_owned())
}

/// The expected refusal, to compare with.
pub fn error(code: i32, line: &str) -> (Option<i32>, String) {
    (Some(code), line.to_owned())
}

impl Drop for Pc {
    fn drop(&mut self) {
        // Whatever a test or an applet left mounted below this PC's root, the last first.
        let root = self.lab.path("");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(&root)) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        for device in &self.loops {
            let _ = Command::new("losetup").env("PATH", SBIN).args(["-d", device]).status();
        }
    }
}

const SBIN: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// Runs a shell script, which must succeed, with an administrator's PATH.
pub fn sh(script: &str) -> Output {
    run(Command::new("sh").env("PATH", SBIN).args(["-ec", script]))
}
