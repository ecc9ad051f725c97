//! Exclusive use. The lock of an image is a file beside it, visible to the server and other machines; that of a
//! partition or disk is a file in /var/lock, visible only on this machine, as are those beside images in the cache.

use std::path::{Path, PathBuf};

use super::{Code, Device, Engine, Error, beside};
use crate::base::lockfile::{Lock, is_held};

/// The content of a lock that a process holds on this machine; those of scripts are empty.
const HELD: &str = "ogbox\n";

impl Engine {
    /// Whether an image is locked.
    pub fn image_is_locked(&self, image: &Path) -> bool {
        is_held(&beside::with(image, ".lock"), HELD)
    }

    /// Locks an image.
    ///
    /// # Errors
    /// [`Code::Locked`]: it is locked already. [`Code::NotWrite`]: no file can be made beside it.
    pub fn lock_image(&self, image: &Path) -> Result<Lock, Error> {
        let path = beside::with(image, ".lock");
        // Images in the cache are local, and locked like its partitions.
        let is_cached = image.starts_with(self.env.path("OGCAC"));
        let taken = if is_cached { Lock::take(&path, HELD) } else { Lock::take_for_good(&path) };
        match taken {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(self.image_locked(image)),
            Err(error) => Err(Error::new(Code::NotWrite, format!("create {}: {error}", path.display()))),
        }
    }

    /// Returns the error of an image that is locked already.
    pub fn image_locked(&self, image: &Path) -> Error {
        let (image, lock) = (image.display(), beside::with(image, ".lock"));
        let why = format!("{image} is in use; if by nobody (a machine was switched off), delete {}", lock.display());
        Error::new(Code::Locked, why)
    }

    /// Returns the path of the file that locks `device` by its existence.
    pub fn device_lock(&self, device: &Device) -> PathBuf {
        self.lock_named(&device.name)
    }

    fn lock_named(&self, name: &str) -> PathBuf {
        self.env.rooted("/var/lock").join(format!("lock-dev-{}", name.replace('/', "-")))
    }

    /// Whether `device` or the disk that it is on is locked.
    pub fn is_locked(&self, device: &Device) -> bool {
        let disk = self.disks().ok().and_then(|disks| Some(disks.get(device.disk - 1)?.first()?.name.clone()));
        [Some(device.name.clone()), disk].into_iter().flatten().any(|name| is_held(&self.lock_named(&name), HELD))
    }

    /// Locks a partition or disk.
    ///
    /// # Errors
    /// [`Code::Locked`]: it is locked already. [`Code::NotWrite`]: /var/lock is not writable.
    pub fn lock_device(&self, device: &Device) -> Result<Lock, Error> {
        let path = self.device_lock(device);
        let locked = || {
            let what = device.path.display();
            let why = format!("{what} is in use; if by nobody, delete {}", path.display());
            Error::new(Code::Locked, why)
        };
        if self.is_locked(device) {
            return Err(locked());
        }
        match Lock::take(&path, HELD) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(locked()),
            Err(error) => Err(Error::new(Code::NotWrite, format!("create {}: {error}", path.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::moved;
    use super::*;

    fn disk() -> (tempfile::TempDir, Engine, Device, Device) {
        let (dir, engine) = moved(&[]);
        std::fs::write(dir.path().join("proc/partitions"), "8 0 0 sda\n8 1 0 sda1\n").unwrap();
        for name in ["sda", "sda1"] {
            std::fs::write(dir.path().join("dev").join(name), "").unwrap();
        }
        let (sda, sda1) = (engine.device("1", None).unwrap(), engine.device("1", Some("1")).unwrap());
        (dir, engine, sda, sda1)
    }

    #[test]
    fn a_partition_is_locked_until_its_lock_is_dropped() {
        let (dir, engine, _, sda1) = disk();
        let lock = engine.lock_device(&sda1).unwrap();
        assert!(dir.path().join("var/lock/lock-dev-sda1").exists());
        assert!(engine.is_locked(&sda1));
        assert_eq!(engine.lock_device(&sda1).unwrap_err().code, Code::Locked);
        drop(lock);
        assert!(!engine.is_locked(&sda1));
        assert!(engine.lock_device(&sda1).is_ok());
        assert!(!dir.path().join("var/lock/lock-dev-sda1").exists());
    }

    #[test]
    fn a_disk_locks_its_partitions() {
        let (_dir, engine, sda, sda1) = disk();
        let _lock = engine.lock_device(&sda).unwrap();
        assert!(engine.is_locked(&sda1));
        assert_eq!(engine.lock_device(&sda1).unwrap_err().code, Code::Locked);
    }

    #[test]
    fn a_scripts_lock_holds_and_that_of_a_killed_process_does_not() {
        let (_dir, engine, _, sda1) = disk();
        std::fs::write(engine.device_lock(&sda1), "").unwrap();
        assert_eq!(engine.lock_device(&sda1).unwrap_err().code, Code::Locked);
        std::fs::write(engine.device_lock(&sda1), HELD).unwrap();
        assert!(!engine.is_locked(&sda1));
        assert!(engine.lock_device(&sda1).is_ok());
    }

    #[test]
    fn an_image_is_locked_by_the_file_beside_it() {
        let (dir, engine) = moved(&[]);
        let image = dir.path().join("x.img");
        let lock = engine.lock_image(&image).unwrap();
        assert!(dir.path().join("x.img.lock").exists() && engine.image_is_locked(&image));
        assert_eq!(engine.lock_image(&image).unwrap_err().code, Code::Locked);
        drop(lock);
        assert!(!engine.image_is_locked(&image));
        let nowhere = engine.lock_image(&dir.path().join("nowhere/x.img"));
        assert_eq!(nowhere.unwrap_err().code, Code::NotWrite);
    }
}
