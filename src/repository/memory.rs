//! A record of verified data that outlives restarts: a text file with a line for each torrent, its info-hash, then for
//! each of its files inode, size, and seconds and nanoseconds of mtime and of ctime.
//!
//! Replaced as a whole. Malformed lines are skipped: at worst a damaged file causes data to be verified again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::base::stamp::Stamp;
use crate::base::whole;
use crate::torrent::InfoHash;

/// Name of the file in the directory of the state.
const NAME: &str = "verified";
const TITLE: &str =
    "# verified by ogbox btlaunchmany: info-hash, then inode, size, mtime s, ns, ctime s, ns of each file\n";
/// Largest file that is read, bytes.
const LARGEST: u64 = 16 << 20;
/// Most torrents remembered.
const MOST: usize = 10_000;

/// Torrents whose data was verified.
#[derive(Debug, Default)]
pub struct Memory {
    path: Option<PathBuf>,
    /// Oldest first.
    records: Vec<(InfoHash, Vec<Stamp>)>,
    changed: bool,
}

impl Memory {
    /// Reads the record in `directory`, creating the directory if missing; with `None` nothing outlives the process.
    ///
    /// # Errors
    /// The directory cannot be created, or the record cannot be read.
    pub fn open(directory: Option<&Path>) -> io::Result<Memory> {
        let Some(directory) = directory else { return Ok(Memory::default()) };
        fs::create_dir_all(directory)?;
        let path = directory.join(NAME);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => _ = file.take(LARGEST).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let records = bytes.split(|byte| *byte == b'\n').filter_map(record).take(MOST).collect();
        Ok(Memory { path: Some(path), records, changed: false })
    }

    /// Whether files with these stamps were verified for the torrent.
    pub fn knows(&self, hash: &InfoHash, stamps: &[Stamp]) -> bool {
        self.records.iter().any(|(known, what)| known == hash && what == stamps)
    }

    /// Records that files with these stamps were verified for the torrent.
    pub fn learn(&mut self, hash: InfoHash, stamps: Vec<Stamp>) {
        if self.knows(&hash, &stamps) {
            return;
        }
        self.records.retain(|(known, _)| *known != hash);
        if self.records.len() >= MOST {
            self.records.remove(0);
        }
        self.records.push((hash, stamps));
        self.changed = true;
    }

    /// Writes the record if it has changed since the last time.
    ///
    /// # Errors
    /// The file cannot be written; its old contents stay.
    pub fn save(&mut self) -> io::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let mut text = TITLE.to_owned();
        for (hash, stamps) in &self.records {
            text += &hash.to_string();
            for Stamp { inode, size, modified, changed } in stamps {
                text += &format!(" {inode} {size} {} {} {} {}", modified.0, modified.1, changed.0, changed.1);
            }
            text.push('\n');
        }
        let unwritten = |error: io::Error| io::Error::new(error.kind(), format!("write {}: {error}", path.display()));
        whole::write(path, text).map_err(unwritten)?;
        self.changed = false;
        Ok(())
    }
}

fn record(line: &[u8]) -> Option<(InfoHash, Vec<Stamp>)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let hash = words.next()?.parse().ok()?;
    let mut stamps = Vec::new();
    while let Some(inode) = words.next() {
        let (inode, size) = (inode.parse().ok()?, words.next()?.parse().ok()?);
        let modified = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let changed = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        stamps.push(Stamp { inode, size, modified, changed });
    }
    (!stamps.is_empty()).then_some((hash, stamps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: i64) -> Stamp {
        Stamp { inode: number as u64, size: 1 << 40, modified: (-number, 999_999_999), changed: (number, 1) }
    }

    #[test]
    fn what_was_learned_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("made/on/demand");
        let (one, two) = (InfoHash([1; 20]), InfoHash([2; 20]));
        let mut memory = Memory::open(Some(&state)).unwrap();
        memory.learn(one, vec![stamp(1)]);
        memory.learn(two, vec![stamp(2), stamp(3)]);
        memory.learn(one, vec![stamp(4)]);
        memory.save().unwrap();
        let again = Memory::open(Some(&state)).unwrap();
        assert!(again.knows(&one, &[stamp(4)]) && again.knows(&two, &[stamp(2), stamp(3)]));
        assert!(!again.knows(&one, &[stamp(1)]) && !again.knows(&two, &[stamp(2)]) && !again.knows(&two, &[]));
    }

    #[test]
    fn a_damaged_file_costs_its_damaged_lines() {
        let dir = tempfile::tempdir().unwrap();
        let hash = InfoHash([0xab; 20]);
        let good = format!("{hash} 7 8 9 10 11 12\n");
        for damage in ["", "\n\n", "x", "\0\u{ff}", &hash.to_string(), &format!("{hash} 7 8 9 10"), "# 1 2 3 4 5 6"] {
            fs::write(dir.path().join(NAME), format!("{damage}\n{good}{hash} 99999999999999999999 1 1 1 1 1\n"))
                .unwrap();
            let memory = Memory::open(Some(dir.path())).unwrap();
            assert_eq!(
                memory.records,
                [(hash, vec![Stamp { inode: 7, size: 8, modified: (9, 10), changed: (11, 12) }])],
                "{damage:?}"
            );
        }
    }

    #[test]
    fn without_a_directory_nothing_is_written() {
        let mut memory = Memory::open(None).unwrap();
        memory.learn(InfoHash([1; 20]), vec![stamp(1)]);
        memory.save().unwrap();
        assert!(memory.knows(&InfoHash([1; 20]), &[stamp(1)]));
    }
}
