//! Finding and emptying the local cache: OpenGnsys' ogFindCache and ogFormatCache.

use std::fs::{self as files, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Code, Device, Engine, Error, Place, Targets, beside, fs, space};
use crate::base::leftover::{self, Remove};
use crate::image::source::Source;
use crate::image::table::{self, Kind, Partition};
use crate::sys::block;

/// The label of the cache's file system, and its partition's name in a GPT.
const LABEL: &str = "CACHE";
/// The cache partition's types in an MBR.
const MBR_TYPES: [u8; 2] = [0xca, 0xa7];

impl Engine {
    /// The cache's partition: the first whose file system is labelled `CACHE`, else the first named so in a GPT, else
    /// the first of the cache's MBR types.
    pub fn cache_device(&self) -> Option<Device> {
        self.cache.get_or_init(|| self.find_cache()).clone()
    }

    fn find_cache(&self) -> Option<Device> {
        let linked = |by: &str| self.device_of(&Path::new("/dev/disk").join(by).join(LABEL)).ok();
        if let Some(device) = linked("by-label") {
            return Some(device);
        }
        let disks = self.disks().ok()?;
        let partitions = || disks.iter().flatten().filter(|device| device.partition.is_some());
        let labelled = |device: &&Device| fs::recognise(&device.path).is_some_and(|found| found.label == LABEL);
        if let Some(device) = partitions().find(labelled).cloned().or_else(|| linked("by-partlabel")) {
            return Some(device);
        }
        let kinds: [fn(&Partition) -> bool; 2] =
            [|entry| entry.name == LABEL, |entry| matches!(entry.kind, Kind::Mbr(kind) if MBR_TYPES.contains(&kind))];
        kinds.iter().find_map(|is_cache| {
            disks.iter().find_map(|disk| {
                let entry = table(disk.first()?).into_iter().find(is_cache)?;
                disk.iter().find(|device| device.partition == Some(entry.number)).cloned()
            })
        })
    }

    /// The cache's directory where no partition is needed: below `OGBOX_ROOT` a plain directory will do.
    pub fn cache_directory(&self) -> Option<PathBuf> {
        let directory = self.env.path("OGCAC");
        (self.env.is_moved() && directory.is_dir()).then_some(directory)
    }

    /// Whether this machine has a cache.
    pub fn has_cache(&self) -> bool {
        self.cache_device().is_some() || self.cache_directory().is_some()
    }

    /// Makes a new file system on the cache's partition and mounts it (ogFormatCache). All its contents are lost.
    ///
    /// # Errors
    /// [`Code::Locked`], [`Code::Partition`]: the partition is in use. [`Code::NotExec`]: mkfs.ext4 is not installed.
    /// [`Code::DontFormat`]: formatting failed.
    pub fn format_cache(&self, out: &mut dyn Write) -> Result<(), Error> {
        let unmade = |error: io::Error| Error::new(Code::DontFormat, format!("empty the cache: {error}"));
        match self.cache_device() {
            Some(device) => {
                let _lock = self.lock_device(&device)?;
                self.unmount(&device)?;
                let path = device.path.to_string_lossy();
                let words = ["mkfs.ext4", "-q", "-F", "-L", LABEL, "-O", "extent,large_file", &path];
                let done = self.tool(&words, "", out, &mut |_| ())?;
                self.ensure(done == Some(0), Code::DontFormat, words.join(" "))?;
            }
            None => empty(&self.directory(&Place::Cache)?, Path::new("")).map_err(unmade)?,
        }
        files::create_dir_all(self.directory(&Place::Cache)?).map_err(unmade)
    }

    /// Removes what killed commands left beside `image` in the cache, which is this machine's alone: files under way, and
    /// the image's lock if nobody holds it.
    pub fn sweep(&self, image: &Path, out: &mut dyn Write) {
        let left = leftover::within(image.parent().unwrap_or(Path::new("/")), Remove::All);
        left.iter().for_each(|left| self.say(out, Targets::LOG_SESSION, &left.to_string()));
        // A stale one goes with the lock that is taken in its place.
        drop(self.lock_image(image));
    }

    /// Makes room in the cache for `image`, `wanted` KiB of which part may be there already: first deletes the old image
    /// of that name, then obeys `ACTIONCACHEFULL`: DELETE deletes all other images, FORMAT formats the cache.
    ///
    /// # Errors
    /// [`Code::CacheSize`]: there is not enough room. Nothing is deleted if an empty cache would be too small.
    pub fn make_room(&self, image: &Path, wanted: u64, out: &mut dyn Write) -> Result<(), Error> {
        let directory = image.parent().unwrap_or(Path::new("/"));
        let part = beside::with(image, ".part");
        let gone = |error: std::io::Error| Error::new(Code::NotWrite, format!("empty the cache: {error}"));
        let room = || space::room(directory);
        let free = room()?.free + space::allocated_kib(&part);
        if wanted <= free {
            return Ok(());
        }
        self.say(out, Targets::LOG_SESSION, &self.text("MSG_SCRIPTS_UPDATECACHE_CHECKSIZECACHE"));
        let all = room()?.all;
        let full = format!("CACHE FULL, NO SPACE FREE: {wanted} KB wanted");
        let why = format!("{full}, the whole cache has {all}: make its partition larger");
        self.ensure(wanted <= all, Code::CacheSize, why)?;
        self.say(out, Targets::LOG_SESSION, &self.text("MSG_SCRIPTS_UPDATECACHE_IFNOTCACHEDO"));
        if wanted <= free + space::allocated_kib(image) {
            self.say(out, Targets::NONE, "imagen en cache distinta,  borramos la imagen anterior");
            beside::remove(image).and_then(|()| beside::remove_derived(image)).map_err(gone)?;
        } else {
            match self.env().get("ACTIONCACHEFULL").to_ascii_uppercase().as_str() {
                "DELETE" => empty(&self.directory(&Place::Cache)?, image).map_err(gone)?,
                "FORMAT" => {
                    self.format_cache(out)?;
                    files::create_dir_all(directory).map_err(gone)?;
                }
                _ => {}
            }
        }
        let free = room()?.free + space::allocated_kib(&part);
        let why = format!("{full}, {free} free: delete images, or set ACTIONCACHEFULL in engine.cfg");
        self.ensure(wanted <= free, Code::CacheSize, why)
    }
}

/// Deletes everything in `directory` except the files of locked images and the partial download of the image `spared`.
///
/// # Errors
/// A file cannot be deleted.
pub fn empty(directory: &Path, spared: &Path) -> io::Result<()> {
    let entries: Vec<_> = files::read_dir(directory)?.collect::<Result<_, _>>()?;
    let locked = |entry: &files::DirEntry| entry.file_name().to_str()?.strip_suffix(".lock").map(str::to_owned);
    let mut kept: Vec<String> = entries.iter().filter_map(locked).collect();
    if let Some(spared) = spared.file_name().filter(|_| spared.parent() == Some(directory)) {
        kept.extend([".part", ".torrent.bfog"].map(|end| spared.to_string_lossy().into_owned() + end));
    }
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type()?.is_dir() {
            empty(&path, spared)?;
            // Fails for a directory that is not empty, which stays.
            let _ = files::remove_dir(&path);
        } else if !kept.iter().any(|kept| name.starts_with(kept.as_str())) {
            files::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Returns a disk's partitions; none if its table cannot be read.
fn table(disk: &Device) -> Vec<Partition> {
    let read = || {
        let size = disk.size().ok()?;
        let file = File::open(&disk.path).ok()?;
        let sector = block::sector_size(&file).unwrap_or(512);
        let source = Source::opened(&file, &disk.name, size, sector).ok()?;
        Some(table::read(&source).ok()??.partitions)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, symlink};
    use std::process::Command;

    use super::super::tests::moved;

    /// An engine with the disks sda (MBR, fourth partition of type `ca`) and sdb (GPT, second partition called
    /// CACHE if `named`), all of them files.
    fn two_disks(named: bool) -> (tempfile::TempDir, super::Engine) {
        let (dir, engine) = moved(&[]);
        let list = "8 0 0 sda\n8 1 0 sda1\n8 4 0 sda4\n8 16 0 sdb\n8 17 0 sdb1\n8 18 0 sdb2\n";
        std::fs::write(dir.path().join("proc/partitions"), list).unwrap();
        let name = if named { "CACHE" } else { "Data" };
        let script = format!(
            "cd {}/dev; truncate -s 1M sda1 sda4 sdb1 sdb2; truncate -s 32M sda sdb; \
             printf 'label: dos\\nsize=4M, type=7\\n4: type=ca\\n' | sfdisk -q sda; \
             printf 'label: gpt\\nsize=4M, name=Linux\\nname={name}\\n' | sfdisk -q sdb",
            dir.path().display()
        );
        let path = "/usr/sbin:/sbin:/usr/bin:/bin";
        assert!(Command::new("sh").env("PATH", path).args(["-ec", &script]).status().unwrap().success());
        (dir, engine)
    }

    fn found(engine: &super::Engine) -> Option<(usize, Option<u32>)> {
        engine.cache_device().map(|device| (device.disk, device.partition))
    }

    #[test]
    fn a_label_wins_over_a_name_and_that_over_a_type() {
        assert_eq!(found(&two_disks(false).1), Some((1, Some(4))));
        let (_named, engine) = two_disks(true);
        assert_eq!(found(&engine), Some((2, Some(2))));
        let (dir, engine) = two_disks(true);
        let script = format!("mkfs.ext2 -q -F -L CACHE {}/dev/sdb1", dir.path().display());
        assert!(
            Command::new("sh")
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .args(["-c", &script])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(found(&engine), Some((2, Some(1))));
        let (dir, engine) = two_disks(true);
        std::fs::create_dir_all(dir.path().join("dev/disk/by-label")).unwrap();
        symlink("../../sda1", dir.path().join("dev/disk/by-label/CACHE")).unwrap();
        assert_eq!(found(&engine), Some((1, Some(1))));
    }

    #[test]
    fn a_logical_partition_of_the_caches_type_has_the_number_that_linux_gives_it() {
        let (dir, engine) = moved(&[]);
        std::fs::write(dir.path().join("proc/partitions"), "8 0 0 sda\n8 5 0 sda5\n8 6 0 sda6\n").unwrap();
        for name in ["sda5", "sda6"] {
            std::fs::write(dir.path().join("dev").join(name), "").unwrap();
        }
        let disk = std::fs::File::create(dir.path().join("dev/sda")).unwrap();
        disk.set_len(32 << 20).unwrap();
        // The first record of the extended partition has no partition and takes no number.
        for (sector, slot, kind, start, count) in
            [(0, 0, 5, 2048, 40960), (2048, 1, 5, 8192, 8192), (10240, 0, 0xca, 2048, 2048_u32)]
        {
            let mut entry = [0; 16];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&u32::to_le_bytes(start));
            entry[12..].copy_from_slice(&count.to_le_bytes());
            disk.write_all_at(&entry, sector * 512 + 446 + slot * 16).unwrap();
            disk.write_all_at(&[0x55, 0xaa], sector * 512 + 510).unwrap();
        }
        assert_eq!(found(&engine), Some((1, Some(5))));
    }

    #[test]
    fn without_a_cache_none_is_found_but_a_directory_serves_below_another_root() {
        let (dir, engine) = moved(&[]);
        assert!(!engine.has_cache());
        std::fs::create_dir(dir.path().join("opt/opengnsys/cache")).unwrap();
        assert!(engine.has_cache() && engine.cache_device().is_none());
    }

    #[test]
    fn emptying_spares_what_is_locked_and_what_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("aula1")).unwrap();
        std::fs::create_dir_all(at("aula2")).unwrap();
        for name in ["a.img", "b.img", "b.img.lock", "aula1/x.img.part", "aula1/x.img.torrent.bfog", "aula2/x.img.part"]
        {
            std::fs::write(at(name), "").unwrap();
        }
        super::empty(dir.path(), &at("aula1/x.img")).unwrap();
        let script = format!("cd {}; find . ! -name . | sort | tr '\\n' ' '", dir.path().display());
        let left = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
        let wanted = "./aula1 ./aula1/x.img.part ./aula1/x.img.torrent.bfog ./b.img ./b.img.lock ";
        assert_eq!(String::from_utf8(left).unwrap(), wanted);
    }
}
