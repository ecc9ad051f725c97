//! Making the files that belong beside an image: a torrent, `.sum` and `.full.sum`, like those of OpenGnsys' cron job
//! torrent-creator: pieces of 4 MiB, the MD5 of the whole as comment, the image locked meanwhile.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;

use crate::base::lockfile::{self, Lock};
use crate::base::stamp::Stamp;
use crate::base::{time, whole};
use crate::engine::beside;
use crate::engine::checksum::Sum;
use crate::storage::Storage;
use crate::sys::cpus;
use crate::sys::lease::is_being_written;
use crate::torrent::create::{self, Options, Source};
use crate::torrent::{InfoHash, Metainfo};

/// Bytes of a piece: the most that ctorrent supports.
const PIECE: u32 = 4 << 20;
/// The text of our locks.
const OURS: &str = "ogbox btlaunchmany --create\n";

/// Locks `image` against everybody else.
fn lock(image: &Path) -> Result<Lock, String> {
    let path = beside::with(image, ".lock");
    let taken = Lock::take(&path, OURS).and_then(|lock| lock.ok_or_else(|| Errno::EXIST.into()));
    taken.map_err(|error| format!("lock it by {}: {error}", path.display()))
}

/// Removes the lock of `image` if it is one of ours whose maker was killed.
pub fn break_stale_lock(image: &Path) {
    lockfile::break_stale(&beside::with(image, ".lock"), OURS);
}

/// Whether `image` is still being written.
pub fn is_unfinished(image: &Path) -> bool {
    File::open(image).is_ok_and(|file| is_being_written(&file))
}

/// Writes both checksums, and the size where it should be, and returns the MD5 of the whole; `stop` is polled several times a second.
///
/// # Errors
/// The image cannot be read, or a file cannot be written.
pub fn make_sums(image: &Path, stop: &(dyn Fn() -> bool + Sync)) -> Result<String, String> {
    let mut full = String::new();
    for sum in [Sum::Tail, Sum::Full] {
        full = sum.of(image, stop).map_err(|error| format!("read it: {error}"))?;
        let path = beside::with(image, sum.extension());
        let unwritten = |error| format!("write {}: {error}", path.display());
        whole::write(&path, format!("{full}\n")).map_err(unwritten)?;
    }
    beside::store_size(image).map_err(|error| format!("write its .size: {error}"))?;
    Ok(full)
}

/// Makes all files anew; returns the torrent's info-hash and the image's stamp.
///
/// # Errors
/// The image is locked, cannot be read or changes meanwhile, or a file cannot be written. The old torrent, which did
/// not describe the image, is deleted even then.
pub fn make(image: &Path, announce: &str, stop: &(dyn Fn() -> bool + Sync)) -> Result<(InfoHash, Stamp), String> {
    let _lock = lock(image)?;
    let torrent = beside::with(image, ".torrent");
    for old in [&torrent, &beside::with(image, ".sum"), &beside::with(image, ".full.sum")] {
        match fs::remove_file(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("remove {}: {error}", old.display()));
            }
            _ => {}
        }
    }
    let stamp = File::open(image).and_then(|file| Stamp::settled(&file));
    let stamp = stamp.map_err(|error| format!("open it: {error}"))?;
    let full = make_sums(image, stop)?;
    let options = Options {
        announce: vec![vec![announce.to_owned()]],
        piece_length: Some(PIECE),
        comment: Some(full),
        created_by: Some(concat!("ogbox/", env!("CARGO_PKG_VERSION")).to_owned()),
        creation_date: Some(time::unix_seconds()),
        ..Options::default()
    };
    let text = |error: crate::torrent::Error| error.to_string();
    let bytes =
        Source::open(image).and_then(|source| source.describe(&options, cpus::count(), stop, &|_| {})).map_err(text)?;
    let metainfo = Metainfo::parse(&bytes).map_err(text)?;
    let mut storage = Storage::open(&metainfo, image).map_err(|error| error.to_string())?;
    storage.guard().map_err(|error| error.to_string())?;
    if storage.stamps() != [stamp] {
        return Err("it changed while it was read".to_owned());
    }
    create::write(&torrent, &bytes, true).map_err(text)?;
    Ok((metainfo.info_hash, stamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{Sight, open, verify};

    #[test]
    fn an_image_gets_its_torrent_and_checksums() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        fs::write(&image, vec![5; 3 << 20]).unwrap();
        fs::write(beside::with(&image, ".torrent"), "old").unwrap();
        let (hash, stamp) = make(&image, "http://10.0.0.1:6969/announce", &|| false).unwrap();
        let metainfo = Metainfo::read(&beside::with(&image, ".torrent")).unwrap();
        assert_eq!((metainfo.info_hash, metainfo.name.as_str()), (hash, "x.img"));
        assert_eq!(metainfo.geometry.piece_length(), PIECE);
        assert_eq!(metainfo.comment, Sum::Full.stored(&image));
        assert_eq!(Sum::Tail.stored(&image), Sum::Tail.of(&image, &|| false).ok());
        let path = beside::with(&image, ".torrent");
        let opened = open(&Sight { path, torrent: stamp, data: None, locked: false }).unwrap();
        assert_eq!((verify(&opened), opened.storage.stamps()), (Ok(()), vec![stamp]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "no lock and nothing half made is left");
    }

    #[test]
    fn somebody_elses_lock_is_respected_and_a_dead_one_of_ours_broken() {
        let dir = tempfile::tempdir().unwrap();
        let (image, lock) = (dir.path().join("x.img"), dir.path().join("x.img.lock"));
        fs::write(&image, "x").unwrap();
        for theirs in ["", "theirs"] {
            fs::write(&lock, theirs).unwrap();
            assert!(make(&image, "http://x/", &|| false).unwrap_err().starts_with("lock it by "));
            break_stale_lock(&image);
            assert!(lock.exists());
        }
        fs::write(&lock, OURS).unwrap();
        break_stale_lock(&image);
        assert!(!lock.exists());
    }
}
