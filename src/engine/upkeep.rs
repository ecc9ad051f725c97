//! What createImage and restoreImage do to a file system before and after copying it: ogCheckFs, ogCleanOs, ogReduceFs
//! and ogExtendFs. External programs do the work; a missing one is reported and the step skipped. The caller holds
//! the partition's lock (see [`super::lock`]).

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{Code, Device, Engine, Error, Targets};

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The step was done.
    Done,
    /// This file system does not need the step.
    Idle,
    /// The program that would do it, or the driver it takes, is not installed.
    Missing(&'static str),
}

/// Files in the root of a Windows partition that Windows creates again when it starts.
const LEFTOVERS: &[&str] = &["pagefile.sys", "hiberfil.sys", "swapfile.sys"];

/// Program and options that repair a file system, which is named as ogGetFsType does, and the exit codes to accept.
fn checker(kind: &str) -> Option<(&'static [&'static str], &'static [i32])> {
    Some(match kind {
        "EXT2" | "EXT3" | "EXT4" | "CACHE" => (&["e2fsck", "-y"], &[0, 1, 2]),
        "NTFS" => (&["ntfsfix"], &[0]),
        "FAT12" | "FAT16" | "FAT32" => (&["dosfsck", "-a"], &[0, 1]),
        "EXFAT" => (&["fsck.exfat", "-y"], &[0, 1]),
        "BTRFS" => (&["btrfs", "check"], &[0]),
        "XFS" => (&["xfs_repair"], &[0]),
        "F2FS" => (&["fsck.f2fs", "-a"], &[0, 1]),
        _ => return None,
    })
}

impl Engine {
    /// Checks and repairs the file system of `device` (ogCheckFs).
    ///
    /// # Errors
    /// [`Code::Partition`]: it cannot be repaired, or is in use.
    pub fn check_fs(&self, device: &Device, out: &mut dyn Write) -> Result<Step, Error> {
        let kind = self.fs_type(device)?;
        let Some((words, accepted)) = checker(&kind) else { return Ok(Step::Idle) };
        if !self.has_program(words[0]) {
            return Ok(Step::Missing(words[0]));
        }
        if kind == "XFS" {
            // Mounting replays its log; xfs_repair reports what cannot be mounted.
            let _ = self.mount(device);
        }
        self.unmount(device)?;
        let path = device.path.to_string_lossy();
        // resize2fs shrinks only a file system that was checked in full, clean or not.
        let all = words[0] == "e2fsck" && self.reduces();
        let words: Vec<&str> = words.iter().copied().chain(all.then_some("-f")).chain([&*path]).collect();
        match self.tool(&words, "", out, &mut |_| ())? {
            Some(code) if accepted.contains(&code) => Ok(Step::Done),
            code => {
                let how = code.map_or("by a signal".to_owned(), |code| format!("with {code}"));
                Err(Error::new(Code::Partition, format!("`{}` ended {how}", words.join(" "))))
            }
        }
    }

    /// Removes files that Windows creates again: page file, hibernation (ogCleanOs).
    ///
    /// # Errors
    /// [`Code::Partition`]: the partition cannot be unmounted again.
    pub fn clean_os(&self, device: &Device) -> Result<Step, Error> {
        if self.fs_type(device)? != "NTFS" {
            return Ok(Step::Idle);
        }
        // This only makes the image smaller, so the image is made even if it cannot be done.
        let Ok(point) = self.mount(device) else { return Ok(Step::Missing("a driver for NTFS")) };
        for entry in std::fs::read_dir(&point).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            if LEFTOVERS.contains(&name.as_str()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        self.unmount(device)?;
        Ok(Step::Done)
    }

    /// Whether engine.cfg asks for file systems to be shrunk before they are saved (`IMGREDUCE`).
    pub fn reduces(&self) -> bool {
        self.env().get("IMGREDUCE").eq_ignore_ascii_case("TRUE")
    }

    /// Shrinks the file system of `device` as far as its files allow, so that its image fits smaller partitions
    /// (ogReduceFs).
    ///
    /// # Errors
    /// [`Code::ReduceFs`]: shrinking failed.
    pub fn reduce_fs(&self, device: &Device, out: &mut dyn Write) -> Result<Step, Error> {
        let path = device.path.to_string_lossy();
        match self.fs_type(device)?.as_str() {
            "EXT2" | "EXT3" | "EXT4" => {
                let size = device.size()?;
                let done = self.resize("resize2fs", &["-f", "-M", &path], "", Code::ReduceFs, out);
                // If the device is a plain file, resize2fs has truncated it.
                if size > device.size()? {
                    let file = OpenOptions::new().write(true).open(&device.path).and_then(|file| file.set_len(size));
                    file.map_err(|error| Error::new(Code::ReduceFs, format!("{path}: {error}")))?;
                }
                done
            }
            "NTFS" if self.env().get("OGWINREDUCE").eq_ignore_ascii_case("TRUE") => self.reduce_ntfs(device, out),
            _ => Ok(Step::Idle),
        }
    }

    /// Shrinks NTFS to ntfsresize's estimate plus a tenth, or to more if a dry run finds that too little.
    fn reduce_ntfs(&self, device: &Device, out: &mut dyn Write) -> Result<Step, Error> {
        const PROGRAM: &str = "ntfsresize";
        if !self.has_program(PROGRAM) {
            return Ok(Step::Missing(PROGRAM));
        }
        let path = device.path.to_string_lossy();
        let mut least: Option<u64> = None;
        self.tool(&[PROGRAM, "-f", "-i", &path], "", out, &mut |line| {
            let number = line.split_once("resize at ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            least = least.or(number);
        })?;
        let why = || Error::new(Code::ReduceFs, format!("{PROGRAM} does not say how small {path} can become"));
        let least = least.ok_or_else(why)?;
        let mut size = least / 10 * 11;
        while size < device.size()? {
            let bytes = size.to_string();
            if self.tool(&[PROGRAM, "-f", "-n", "-s", &bytes, &path], "", out, &mut |_| ())? == Some(0) {
                return self.resize(PROGRAM, &["-f", "-s", &bytes, &path], "y\n", Code::ReduceFs, out);
            }
            size += least / 10 + 1;
        }
        Ok(Step::Idle)
    }

    /// Grows the file system of `device` to the size of its partition (ogExtendFs).
    ///
    /// # Errors
    /// [`Code::ExtendFs`]: growing failed.
    pub fn extend_fs(&self, device: &Device, out: &mut dyn Write) -> Result<Step, Error> {
        let path = device.path.to_string_lossy();
        match self.fs_type(device)?.as_str() {
            "EXT2" | "EXT3" | "EXT4" | "CACHE" => self.resize("resize2fs", &["-f", &path], "", Code::ExtendFs, out),
            "NTFS" => self.resize("ntfsresize", &["-f", &path], "y\n", Code::ExtendFs, out),
            "BTRFS" if self.has_program("btrfs") => {
                let point = self.mount(device)?;
                let words = ["filesystem", "resize", "max", &point.to_string_lossy()];
                let done = self.resize("btrfs", &words, "", Code::ExtendFs, out);
                self.unmount(device)?;
                done
            }
            "BTRFS" => Ok(Step::Missing("btrfs")),
            _ => Ok(Step::Idle),
        }
    }

    fn resize(
        &self,
        program: &'static str,
        words: &[&str],
        answer: &str,
        code: Code,
        out: &mut dyn Write,
    ) -> Result<Step, Error> {
        if !self.has_program(program) {
            return Ok(Step::Missing(program));
        }
        let words: Vec<&str> = std::iter::once(program).chain(words.iter().copied()).collect();
        let mut last = String::new();
        match self.tool(&words, answer, out, &mut |line| last = line.to_owned())? {
            Some(0) => Ok(Step::Done),
            _ => Err(Error::new(code, format!("`{}`: {last}", words.join(" ")))),
        }
    }

    /// Runs a program with `answer` as its input. Its output goes to `out` and the command's log, each line also to
    /// `look`. Returns its exit code, `None` if a signal ended it. The terminal's Ctrl-C does not reach it: that could
    /// leave a file system half resized.
    ///
    /// # Errors
    /// [`Code::NotExec`]: the program cannot be started.
    pub fn tool(
        &self,
        words: &[&str],
        answer: &str,
        out: &mut dyn Write,
        look: &mut dyn FnMut(&str),
    ) -> Result<Option<i32>, Error> {
        let failed = |error| Error::new(Code::NotExec, format!("run {}: {error}", words[0]));
        let (said, says) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("LC_ALL", "C").process_group(0).stdin(Stdio::piped());
        let mut child = command.stdout(says.try_clone().map_err(failed)?).stderr(says).spawn().map_err(failed)?;
        // Closes this process's copy of the pipe, so that the pipe ends when the child does.
        drop(command);
        if let Some(mut stdin) = child.stdin.take() {
            // A program that asks nothing reads nothing.
            let _ = stdin.write_all(answer.as_bytes());
        }
        for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if !line.is_empty() {
                look(line);
                self.say(out, Targets { command: true, ..Targets::NONE }, line);
            }
        }
        child.wait().map(|status| status.code()).map_err(failed)
    }
}
