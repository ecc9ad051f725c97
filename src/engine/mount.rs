//! Mounting and unmounting: ogMount, ogUnmount and the like.

use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::device::{Identity, identity};
use super::{Code, Device, Engine, Error, fs};

/// Times that a device is tried again which another command may be mounting.
const WAITS: u32 = 20;
/// Pause between these.
const WAIT: Duration = Duration::from_millis(50);

/// A line of /proc/self/mountinfo.
struct Mounted {
    device: u64,
    source: PathBuf,
    point: PathBuf,
}

/// All mounts, in mount order.
fn mounted() -> Vec<Mounted> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (major, minor) = left.next()?.split_once(':')?;
        let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        let point = unescape(left.nth(1)?);
        let source = unescape(right.split(' ').nth(1)?);
        Some(Mounted { device, source, point })
    };
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(line).collect()
}

/// Undoes the kernel's escapes: blanks and backslashes are written as `\040` and `\134`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

impl Engine {
    /// The mount points of `device`, in mount order.
    pub fn mount_points(&self, device: &Device) -> Vec<PathBuf> {
        let Some(wanted) = device.identity() else { return Vec::new() };
        // A btrfs mount has a device number of its own and is identified by its source.
        let is_it = |line: &Mounted| Identity::Device(line.device) == wanted || identity(&line.source) == Some(wanted);
        mounted().into_iter().filter(is_it).map(|line| line.point).collect()
    }

    /// Mounts `device` unless it is mounted and returns the mount point: `OGCAC` for the cache, else /mnt/NAME.
    ///
    /// # Errors
    /// [`Code::Partition`]: `device` holds no mountable file system.
    pub fn mount(&self, device: &Device) -> Result<PathBuf, Error> {
        if let Some(point) = self.mount_points(device).pop() {
            return Ok(point);
        }
        let usual = self.env.rooted(Path::new("/mnt").join(&device.name));
        let is_cache = self.cache_device().as_ref() == Some(device);
        let point = if is_cache { self.env.path("OGCAC") } else { usual.clone() };
        let failed = |why: String| {
            Error::new(Code::Partition, format!("mount {} on {}: {why}", device.path.display(), point.display()))
        };
        std::fs::create_dir_all(&point).map_err(|error| failed(error.to_string()))?;
        let found = fs::recognise(&device.path).map_or(String::new(), |found| found.kind);
        let mut waits = 0..WAITS;
        while let Err(error) = mount_as(&device.path, &point, &found) {
            // Another command may have mounted it just now, or be about to.
            if let Some(point) = self.mount_points(device).pop() {
                return Ok(point);
            }
            if error.kind() != io::ErrorKind::ResourceBusy || waits.next().is_none() {
                return Err(failed(error.to_string()));
            }
            std::thread::sleep(WAIT);
        }
        if is_cache && !usual.exists() {
            // A link for scripts; the cache works without it.
            let _ = std::fs::create_dir_all(self.env.rooted("/mnt"));
            let _ = std::os::unix::fs::symlink(&point, &usual);
        }
        Ok(point)
    }

    /// Unmounts `device` wherever it is mounted; not being mounted is no error.
    ///
    /// # Errors
    /// [`Code::Partition`]: a process is using it.
    pub fn unmount(&self, device: &Device) -> Result<(), Error> {
        for point in self.mount_points(device).into_iter().rev() {
            unmount(&point, UnmountFlags::empty()).map_err(|error| {
                let point = point.display();
                Error::new(Code::Partition, format!("unmount {point}: {error}: `fuser -vm {point}` lists what uses it"))
            })?;
        }
        let link = self.env.rooted(Path::new("/mnt").join(&device.name));
        if link.is_symlink() {
            let _ = std::fs::remove_file(&link);
        }
        Ok(())
    }
}

/// Mounts a file system of blkid's type `kind`: by the kernel, else by mount(8), which knows helpers (ntfs-3g);
/// read-only if it cannot be written to.
fn mount_as(source: &Path, point: &Path, kind: &str) -> io::Result<()> {
    let kernels = match kind {
        "NTFS" => "ntfs3".to_owned(),
        "FAT12" | "FAT16" | "FAT32" => "vfat".to_owned(),
        kind => kind.to_ascii_lowercase(),
    };
    let by_kernel = |flags| mount(source, point, kernels.as_str(), flags, None);
    let error = match by_kernel(MountFlags::empty()) {
        Err(rustix::io::Errno::ROFS | rustix::io::Errno::ACCESS) => match by_kernel(MountFlags::RDONLY) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let program = Command::new("mount").arg("--").arg(source).arg(point).stdin(Stdio::null()).output();
    match program {
        Ok(output) if output.status.success() => Ok(()),
        _ if kind.is_empty() => Err(io::Error::other("no known file system")),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_escapes_is_read_back() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), Path::new(r"/mnt/a b\c"));
        assert_eq!(unescape(r"/mnt\04"), Path::new(r"/mnt\04"));
    }

    #[test]
    fn the_root_is_mounted_somewhere() {
        assert!(mounted().iter().any(|line| line.point == Path::new("/")));
    }
}
