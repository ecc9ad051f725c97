use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::torrent::create::{Options, Source};

/// Makes a file of `bytes` bytes, its torrent, and its storage, guarded.
fn guarded(bytes: usize) -> (tempfile::TempDir, PathBuf, Metainfo, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.img");
    fs::write(&path, vec![7; bytes]).unwrap();
    let options = Options { piece_length: Some(16384), ..Options::default() };
    let metainfo = Source::open(&path).unwrap().describe(&options, 1, &|| false, &|_| {}).unwrap();
    let metainfo = Metainfo::parse(&metainfo).unwrap();
    let mut storage = Storage::open(&metainfo, &path).unwrap();
    storage.guard().unwrap();
    (dir, path, metainfo, storage)
}

#[test]
fn what_is_guarded_reads_as_it_is_until_it_changes() {
    let changes: [fn(&Path); 5] = [
        |path| File::options().write(true).open(path).unwrap().write_all_at(&[8], 49_999).unwrap(),
        |path| File::options().write(true).open(path).unwrap().set_len(40_000).unwrap(),
        |path| fs::write(path, vec![7; 50_000]).unwrap(),
        |path| {
            File::options().append(true).open(path).and_then(|mut file| io::Write::write_all(&mut file, b"x")).unwrap()
        },
        |path| {
            let file = File::options().write(true).open(path).unwrap();
            let written = file.metadata().and_then(|metadata| metadata.modified()).unwrap();
            file.write_all_at(&[8], 49_999).and_then(|()| file.set_modified(written)).unwrap();
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let (_dir, path, metainfo, storage) = guarded(50_000);
        let mut buffer = vec![0; 20_000];
        assert!(storage.is_unchanged() && storage.read(1, &mut buffer).is_ok() && buffer == vec![7; 20_000]);
        change(&path);
        assert!(!storage.is_unchanged() && storage.read(1, &mut buffer).is_err(), "change {at}");
        assert!(check(&storage, &metainfo, 1, &|_| {}).is_empty(), "change {at}");
    }
}

#[test]
fn a_file_that_was_replaced_is_served_as_it_was() {
    let (dir, path, _, storage) = guarded(50_000);
    let new = dir.path().join("new");
    fs::write(&new, vec![8; 50_000]).unwrap();
    fs::rename(&new, &path).unwrap();
    let mut buffer = vec![0; 50_000];
    // The bytes are right for the requested info-hash; noticing that there is a new image is for others.
    assert!(storage.is_unchanged() && storage.read(0, &mut buffer).is_ok() && buffer == vec![7; 50_000]);
}
