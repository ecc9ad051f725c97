//! The torrents that may be tracked: the .torrent files below a directory (`--allowed_dir`) or the info-hashes of a
//! list (`--allowed_list`).
//!
//! A file is read again only if its inode, size or time has changed, so that a scan of ten thousand files costs as
//! many stat(2)s. A half-written or hostile file is refused once, with a warning, and read again when it changes. If
//! a directory cannot be read, its torrents stay listed: a file server's short absence must not end every swarm.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::store::Listing;
use crate::base::sort::sort_by;
use crate::base::stamp::Stamp;
use crate::base::tree::walk;
use crate::torrent::bencode::{self, Value};
use crate::torrent::{InfoHash, Metainfo};

/// The source of the list of torrents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The .torrent files below a directory.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Whether `failure reason` and `warning message` in the files apply (`--allowed_controls`).
        controls: bool,
    },
    /// A file of info-hashes, one per line in 40 hex digits.
    List(PathBuf),
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// `None` if it is not a valid torrent, which has been logged.
    torrent: Option<(InfoHash, Arc<Listing>)>,
}

/// The list of torrents that may be tracked, and the state needed to notice changes.
#[derive(Debug)]
pub struct Allowed {
    source: Source,
    files: HashMap<PathBuf, Known>,
    /// Stamp of the list file.
    list: Option<Stamp>,
    /// Warnings of the last scan, so that each is logged once.
    complained: HashSet<String>,
}

/// The result of a scan of the source.
#[derive(Debug, Default)]
pub struct Change {
    /// All torrents that may be tracked now; `None` if nothing has changed.
    pub listings: Option<HashMap<InfoHash, Arc<Listing>>>,
    /// Directories that were read.
    pub directories: Vec<PathBuf>,
    /// Lines for the log.
    pub lines: Vec<String>,
}

impl Allowed {
    /// An empty list, to be filled by [`look`](Self::look).
    pub fn new(source: Source) -> Allowed {
        Allowed { source, files: HashMap::new(), list: None, complained: HashSet::new() }
    }

    /// Scans the source.
    pub fn look(&mut self) -> Change {
        match self.source.clone() {
            Source::Directory { path, controls } => self.look_below(&path, controls),
            Source::List(path) => self.look_at_list(&path),
        }
    }

    fn look_below(&mut self, top: &Path, controls: bool) -> Change {
        let mut change = Change::default();
        let mut complaints = HashSet::new();
        let is_torrent = |name: &OsStr| Path::new(name).extension().is_some_and(|extension| extension == "torrent");
        let tree = walk(top, &is_torrent);
        complaints.extend(
            tree.unreadable.iter().map(|(path, error)| format!("**warning** read {}: {error}", path.display())),
        );
        if tree.cut {
            complaints.insert("**warning** there are too many torrents; the rest is not tracked".to_owned());
        }
        let before = self.files.len();
        self.files.retain(|path, _| tree.stamp(path).is_some() || tree.is_unknown(path));
        let mut changed = self.files.len() != before;
        for (path, stamp) in tree.files {
            if self.files.get(&path).is_some_and(|known| known.stamp == stamp) {
                continue;
            }
            let torrent = match read(&path, controls) {
                Ok(torrent) => Some(torrent),
                Err(why) => {
                    change.lines.push(format!("**warning** {} has errors: {why}", path.display()));
                    None
                }
            };
            changed = true;
            self.files.insert(path, Known { stamp, torrent });
        }
        let mut listings: HashMap<InfoHash, Arc<Listing>> = HashMap::new();
        let mut files: Vec<(&PathBuf, &Known)> = self.files.iter().collect();
        sort_by(&mut files, |one, other| one.0 < other.0);
        for (hash, listing) in files.into_iter().filter_map(|(_, known)| known.torrent.as_ref()) {
            match listings.get(hash) {
                None => _ = listings.insert(*hash, listing.clone()),
                Some(first) => {
                    let (one, other) = (listing.path.display(), first.path.display());
                    complaints.insert(format!("**warning** {one} is a duplicate torrent for {other}"));
                }
            }
        }
        self.complain(complaints, &mut change);
        change.directories = tree.directories;
        change.listings = changed.then_some(listings);
        change
    }

    fn look_at_list(&mut self, path: &Path) -> Change {
        let mut change = Change::default();
        let mut complaints = HashSet::new();
        let read = fs::metadata(path).and_then(|metadata| {
            let stamp = Stamp::from(&metadata);
            if self.list == Some(stamp) {
                return Ok(None);
            }
            let text = fs::read(path)?;
            self.list = Some(stamp);
            Ok(Some(text))
        });
        match read {
            Ok(None) => {}
            Ok(Some(text)) => {
                let mut listings = HashMap::new();
                for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
                    let line = line.trim_ascii();
                    if line.is_empty() || line.starts_with(b"#") {
                        continue;
                    }
                    match std::str::from_utf8(line).ok().and_then(|line| line.parse::<InfoHash>().ok()) {
                        Some(hash) => _ = listings.insert(hash, Arc::new(Listing::default())),
                        None => change.lines.push(format!(
                            "**warning** line {} of {} is not an info-hash; skipped",
                            at + 1,
                            path.display()
                        )),
                    }
                }
                change.listings = Some(listings);
            }
            Err(error) => {
                complaints
                    .insert(format!("**warning** unable to read allowed torrent list {}: {error}", path.display()));
            }
        }
        change.directories.push(super::directory_of(path));
        self.complain(complaints, &mut change);
        change
    }

    /// Logs the warnings that the last scan did not have.
    fn complain(&mut self, complaints: HashSet<String>, change: &mut Change) {
        change.lines.extend(complaints.difference(&self.complained).cloned());
        self.complained = complaints;
    }
}

fn read(path: &Path, controls: bool) -> Result<(InfoHash, Arc<Listing>), String> {
    let metainfo = Metainfo::read(path).map_err(|error| error.to_string())?;
    let mut listing = Listing {
        name: metainfo.name.clone(),
        length: metainfo.geometry.length(),
        path: path.to_owned(),
        failure: None,
        warning: None,
    };
    if controls {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let text = |value: Option<Value>| Some(String::from_utf8_lossy(value?.bytes()?).into_owned());
        if let Ok(top) = bencode::decode(&bytes) {
            listing.failure = text(top.get(b"failure reason"));
            listing.warning = text(top.get(b"warning message"));
        }
    }
    Ok((metainfo.info_hash, Arc::new(listing)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::bencode::Encoder;

    fn torrent(name: &str, extra: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Encoder::new();
        out.dict(|top| {
            extra.iter().for_each(|(key, value)| top.bytes(key, value));
            top.dict("info", |info| {
                info.int("length", 5);
                info.bytes("name", name);
                info.int("piece length", 16384);
                info.bytes("pieces", [7; 20]);
            });
        });
        out.finish()
    }

    fn in_directory(path: &Path) -> Allowed {
        Allowed::new(Source::Directory { path: path.to_owned(), controls: true })
    }

    fn names(change: &Change) -> Vec<String> {
        let mut names: Vec<String> =
            change.listings.as_ref().unwrap().values().map(|listing| listing.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn torrents_are_found_however_deep_and_looked_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("ou1/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(dir.path().join("x.img.torrent"), torrent("x.img", &[])).unwrap();
        fs::write(deep.join("y.img.torrent"), torrent("y.img", &[])).unwrap();
        fs::write(dir.path().join("z.img"), b"no torrent").unwrap();
        fs::write(dir.path().join(".hidden.torrent"), torrent("hidden", &[])).unwrap();
        std::os::unix::fs::symlink(dir.path(), deep.join("round")).unwrap();
        let mut allowed = in_directory(dir.path());
        let first = allowed.look();
        assert_eq!((names(&first), first.directories.len()), (vec!["x.img".to_owned(), "y.img".to_owned()], 3));
        assert!(allowed.look().listings.is_none(), "nothing has changed");
        fs::remove_file(deep.join("y.img.torrent")).unwrap();
        assert_eq!(names(&allowed.look()), ["x.img"]);
    }

    #[test]
    fn a_half_written_torrent_is_refused_once_and_taken_when_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole) = (dir.path().join("x.torrent"), torrent("x", &[]));
        fs::write(&path, &whole[..30]).unwrap();
        let mut allowed = in_directory(dir.path());
        let first = allowed.look();
        assert!(first.lines.len() == 1 && first.lines[0].contains("x.torrent has errors"), "{:?}", first.lines);
        assert!(allowed.look().lines.is_empty());
        fs::write(&path, &whole).unwrap();
        assert_eq!(names(&allowed.look()), ["x"]);
    }

    #[test]
    fn two_files_of_one_torrent_are_one_torrent_and_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.torrent"), torrent("x", &[])).unwrap();
        fs::write(dir.path().join("b.torrent"), torrent("x", &[])).unwrap();
        let mut allowed = in_directory(dir.path());
        let first = allowed.look();
        let listings = first.listings.unwrap();
        assert!(listings.values().all(|listing| listing.path.ends_with("a.torrent")) && listings.len() == 1);
        assert!(first.lines[0].contains("b.torrent is a duplicate torrent for"), "{:?}", first.lines);
        assert!(allowed.look().lines.is_empty());
    }

    #[test]
    fn a_directory_that_vanishes_keeps_what_was_known() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("images");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("x.torrent"), torrent("x", &[])).unwrap();
        let mut allowed = in_directory(&top);
        allowed.look();
        fs::rename(&top, dir.path().join("away")).unwrap();
        let gone = allowed.look();
        assert!(gone.listings.is_none() && gone.lines.len() == 1, "{gone:?}");
        assert!(allowed.look().lines.is_empty(), "said once");
        fs::create_dir(&top).unwrap();
        assert_eq!(names(&allowed.look()), [""; 0], "an empty directory is one that can be read");
    }

    #[test]
    fn controls_in_a_torrent_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let extra = [("failure reason", "old"), ("warning message", "soon")];
        fs::write(dir.path().join("x.torrent"), torrent("x", &extra)).unwrap();
        let listings = in_directory(dir.path()).look().listings.unwrap();
        let listing = listings.values().next().unwrap();
        assert_eq!((listing.failure.as_deref(), listing.warning.as_deref()), (Some("old"), Some("soon")));
    }

    #[test]
    fn a_list_is_read_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let mut allowed = Allowed::new(Source::List(path.clone()));
        let absent = allowed.look();
        assert!(absent.listings.is_none() && absent.lines.len() == 1 && allowed.look().lines.is_empty());
        let hash = "0123456789abcdef0123456789ABCDEF01234567";
        fs::write(&path, format!("# images\n {hash}\r\n\nnonsense\n")).unwrap();
        let change = allowed.look();
        assert_eq!(change.listings.unwrap().into_keys().collect::<Vec<_>>(), [hash.parse().unwrap()]);
        assert!(change.lines[0].contains("line 4"), "{:?}", change.lines);
        assert!(allowed.look().listings.is_none());
    }
}
