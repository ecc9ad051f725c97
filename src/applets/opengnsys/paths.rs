//! Paths, devices and the cache: ogGetPath, ogGetParentPath, ogDiskToDev, ogDevToDisk, ogFindCache, ogGetFsType.

use std::path::Path;

use super::{FILE, Function, print};
use crate::applets::Exit;
use crate::engine::{Code, Engine, Error, Place};

/// ogGetPath: prints nothing if there is no such file, which is no error.
pub const GET_PATH: Function = Function {
    format: FILE,
    examples: &["/mnt/sda1/windows/system32", "REPO /etc/fstab", "1 1 /windows/system32"],
    words: 1..=3,
    run: |engine, words, io| {
        let (place, name) = engine.place(words)?;
        match engine.find(&place, &name)? {
            Some(path) => print(io, &path.to_string_lossy()),
            None => Ok(Exit::OK),
        }
    },
};

/// ogGetParentPath: likewise for the directory of a file, which need not exist.
pub const GET_PARENT_PATH: Function = Function {
    format: FILE,
    examples: &["REPO /etc/fstab"],
    words: 1..=3,
    run: |engine, words, io| {
        let (place, name) = engine.place(words)?;
        let parent = Path::new(&name).parent().unwrap_or(Path::new("")).to_string_lossy();
        match engine.find(&place, &parent)? {
            Some(path) => print(io, &path.to_string_lossy()),
            None => Ok(Exit::OK),
        }
    },
};

/// ogDiskToDev: without arguments, all disks.
pub const DISK_TO_DEV: Function = Function {
    format: "[int_ndisk [int_npartition]]",
    examples: &["1", "1 1"],
    words: 0..=2,
    run: |engine, words, io| match words {
        [] => {
            let disks = engine.disks()?;
            let paths: Vec<String> =
                disks.iter().filter_map(|disk| Some(disk.first()?.path.display().to_string())).collect();
            print(io, &paths.join(" "))
        }
        [disk, partition @ ..] => {
            let device = engine.device(disk, partition.first().copied())?;
            print(io, &device.path.to_string_lossy())
        }
    },
};

/// ogDevToDisk.
pub const DEV_TO_DISK: Function = Function {
    format: "path_device",
    examples: &["/dev/sda", "/dev/sda1", "LABEL=CACHE"],
    words: 1..=1,
    run: |engine, words, io| {
        let path = match words[0].split_once('=') {
            Some(("LABEL", label)) => Path::new("/dev/disk/by-label").join(label),
            Some(("PARTLABEL", label)) => Path::new("/dev/disk/by-partlabel").join(label),
            _ => Path::new(words[0]).to_owned(),
        };
        let device = engine.device_of(&path)?;
        match device.partition {
            Some(partition) => print(io, &format!("{} {partition}", device.disk)),
            None => print(io, &device.disk.to_string()),
        }
    },
};

/// ogFindCache: without a cache it prints nothing and the exit code is 1.
pub const FIND_CACHE: Function = Function {
    format: "",
    examples: &[],
    words: 0..=0,
    run: |engine, _, io| match engine.cache_device() {
        Some(device) => print(io, &format!("{} {}", device.disk, device.partition.unwrap_or_default())),
        None => Ok(super::NO),
    },
};

/// ogMountCache: prints the cache's mount point.
pub const MOUNT_CACHE: Function = Function {
    format: "",
    examples: &[],
    words: 0..=0,
    run: |engine, _, io| {
        // OpenGnsys' exit code is 3 here, while its other functions have 15.
        let no_cache = |_| Error::new(Code::Partition, engine.text("MSG_NOCACHE"));
        engine.directory(&Place::Cache).map_err(no_cache)?;
        let device = engine.cache_device().and_then(|device| engine.mount_points(&device).pop());
        print(io, &device.or(engine.cache_directory()).unwrap_or_default().to_string_lossy())
    },
};

/// ogUnmountCache.
pub const UNMOUNT_CACHE: Function = Function {
    format: "",
    examples: &[],
    words: 0..=0,
    run: |engine, _, _| {
        if let Some(device) = engine.cache_device() {
            engine.unmount(&device)?;
        }
        Ok(Exit::OK)
    },
};

/// ogGetFsType.
pub const GET_FS_TYPE: Function = Function {
    format: "int_ndisk int_npartition",
    examples: &["1 1"],
    words: 2..=2,
    run: |engine, words, io| {
        let kind = engine.fs_type(&partition(engine, words)?)?;
        if kind.is_empty() { Ok(Exit::OK) } else { print(io, &kind) }
    },
};

/// The partition with the disk and partition numbers `words`.
///
/// # Errors
/// See [`Engine::device`].
pub fn partition(engine: &Engine, words: &[&str]) -> Result<crate::engine::Device, Error> {
    match words {
        [disk, partition] => engine.device(disk, Some(partition)),
        _ => Err(Error::new(Code::Format, words.join(" "))),
    }
}
