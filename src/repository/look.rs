//! Scanning the repository: every torrent with its data, every image with its torrent and checksums.
//!
//! Save-as style 1 of BitTornado: the data of `X.img.torrent` is `X.img`. An `X.img.lock` beside the image means that
//! it is being worked on (OpenGnsys' ogLockImage).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::stamp::Stamp;
use crate::base::tree::{Tree, walk};
use crate::engine::beside;
use crate::engine::path::is_zst;

/// Extensions of the files that OpenGnsys' torrent-creator makes torrents of; OpenGnsys 3 has `.img.zst` as well.
const IMAGES: [&str; 4] = ["img", "pgz", "diff", "dsk"];
/// Time without a write after which an image may be finished.
const SETTLED: Duration = Duration::from_secs(1);

/// A torrent file and its data at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The torrent file.
    pub path: PathBuf,
    /// The torrent file's stamp.
    pub torrent: Stamp,
    /// The stamp of the data: of a file, or of all files of a directory combined.
    pub data: Option<Stamp>,
    /// Whether the data is locked.
    pub locked: bool,
}

impl Sight {
    /// The path of the data.
    pub fn data_path(&self) -> PathBuf {
        self.path.with_extension("")
    }
}

/// An image at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image.
    pub path: PathBuf,
    /// The image's stamp.
    pub stamp: Stamp,
    /// Whether it has a torrent.
    pub torrent: bool,
    /// Whether it has both checksums, and OpenGnsys 3's size if it should.
    pub sums: bool,
    /// Whether it is locked.
    pub locked: bool,
    /// Whether it was not written to for a second.
    pub settled: bool,
}

/// The result of [`look`](look()).
#[derive(Debug)]
pub struct Look {
    /// Torrents, sorted by the bytes of their paths.
    pub torrents: Vec<Sight>,
    /// Images of the directory and its subdirectories; like torrent-creator no deeper.
    pub images: Vec<Image>,
    /// All files.
    pub tree: Tree,
}

/// Scans the repository `top`.
pub fn look(top: &Path) -> Look {
    let tree = walk(top, &|_| true);
    let mut look = Look { torrents: Vec::new(), images: Vec::new(), tree };
    let tree = &look.tree;
    for (path, stamp) in &tree.files {
        let Some(ending) = path.extension() else { continue };
        if ending == "torrent" {
            let data = path.with_extension("");
            let (locked, data) = (tree.stamp(&beside::with(&data, ".lock")).is_some(), stamp_of(tree, &data));
            look.torrents.push(Sight { path: path.clone(), torrent: *stamp, data, locked });
        } else if (IMAGES.iter().any(|image| ending == OsStr::new(image)) || is_zst(path))
            && path.strip_prefix(top).is_ok_and(|below| below.components().count() <= 2)
        {
            let has = |ending| tree.stamp(&beside::with(path, ending)).is_some();
            look.images.push(Image {
                path: path.clone(),
                stamp: *stamp,
                torrent: has(".torrent"),
                sums: has(".sum") && has(".full.sum") && (has(".size") || !beside::has_size(path)),
                locked: has(".lock"),
                // A time in the future says nothing: the image may well be finished.
                settled: stamp.age().is_none_or(|age| age >= SETTLED),
            });
        }
    }
    look
}

/// The stamp of a file, or of all files below a directory combined, which changes with any of them.
fn stamp_of(tree: &Tree, path: &Path) -> Option<Stamp> {
    if let Some(stamp) = tree.stamp(path) {
        return Some(stamp);
    }
    let inside = beside::with(path, "/");
    let inside = inside.as_os_str().as_bytes();
    let first = tree.files.partition_point(|(path, _)| path.as_os_str().as_bytes() < inside);
    let below = tree.files[first..].iter().take_while(|(path, _)| path.as_os_str().as_bytes().starts_with(inside));
    below.map(|(_, stamp)| *stamp).reduce(|all, one| Stamp {
        inode: all.inode.rotate_left(1) ^ one.inode,
        size: all.size.wrapping_add(one.size),
        modified: all.modified.max(one.modified),
        changed: all.changed.max(one.changed),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn torrents_are_seen_with_their_data_and_images_with_what_they_lack() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: usize| fs::write(dir.path().join(name), vec![0; bytes]).unwrap();
        fs::create_dir_all(dir.path().join("ou/deep")).unwrap();
        fs::create_dir(dir.path().join("set")).unwrap();
        for name in ["a.img", "a.img.torrent", "a.img.sum", "a.img.full.sum", "a.img.lock", "a.img.torrent.ant"] {
            put(name, 1);
        }
        for name in [
            "z.img.zst",
            "z.img.zst.sum",
            "z.img.zst.full.sum",
            "other.zst",
            "ou/b.dsk",
            "ou/b.dsk.sum",
            "ou/deep/c.img",
            "ou/deep/c.img.torrent",
            "none.torrent",
            "d.iso",
        ] {
            put(name, 2);
        }
        put("set/one", 3);
        put("set/two", 4);
        put("set.torrent", 5);
        let look = look(dir.path());
        let below = |path: &Path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
        let torrents: Vec<(String, Option<u64>, bool)> =
            look.torrents.iter().map(|one| (below(&one.path), one.data.map(|data| data.size), one.locked)).collect();
        let expected = [
            ("a.img.torrent", Some(1), true),
            ("none.torrent", None, false),
            ("ou/deep/c.img.torrent", Some(2), false),
            ("set.torrent", Some(7), false),
        ];
        assert_eq!(torrents, expected.map(|(path, size, locked)| (path.to_owned(), size, locked)));
        let images: Vec<(String, [bool; 4])> = look
            .images
            .iter()
            .map(|one| (below(&one.path), [one.torrent, one.sums, one.locked, one.settled]))
            .collect();
        let expected = [
            ("a.img", [true, true, true, false]),
            ("ou/b.dsk", [false; 4]),
            // OpenGnsys 3's has its size beside it as well.
            ("z.img.zst", [false; 4]),
        ];
        assert_eq!(images, expected.map(|(path, has)| (path.to_owned(), has)));
    }

    #[test]
    fn a_change_of_any_file_of_a_directory_shows() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("set")).unwrap();
        fs::write(dir.path().join("set.torrent"), "x").unwrap();
        for name in ["one", "two"] {
            fs::write(dir.path().join("set").join(name), "old").unwrap();
        }
        let before = look(dir.path()).torrents;
        assert_eq!(look(dir.path()).torrents, before);
        fs::rename(dir.path().join("set/two"), dir.path().join("set/a")).unwrap();
        assert_ne!(look(dir.path()).torrents, before, "the order of the inodes counts");
    }
}
