//! Publishing: `PUT /file?name=X.img.torrent` stores a .torrent in the allowed directory, so that a PC which seeds from
//! its cache can be found although that directory is not exported. `/register` does the same by a form of the page.
//!
//! The sender needs the token; the body must be a torrent and the name a plain file name. The file appears complete:
//! it is written under a hidden name, then renamed.
//!
//! The token publishes new names, and replaces what it has published before, never an administrator's torrent: a hidden file
//! beside each of its torrents, the mark, has the SHA-1 of what it put there, and what has another is somebody else's.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::lanes::sha1;

use super::store::{Listing, Store};
use crate::base::whole::{self, Whole};
use crate::torrent::{InfoHash, Metainfo};

/// Largest .torrent accepted, bytes: 800,000 pieces.
pub const LARGEST: usize = 16 << 20;
/// Longest name, bytes: leaves room for the affixes of the temporary name.
const LONGEST_NAME: usize = 200;

/// Whether an Authorization header holds the token in the first line of `file`.
pub fn bears(authorization: Option<&[u8]>, file: &Path) -> bool {
    let offered = authorization.and_then(|header| header.strip_prefix(b"Bearer "));
    offered.is_some_and(|offered| is_token(offered, file))
}

/// Whether `offered` is the token in the first line of `file`.
pub fn is_token(offered: &[u8], file: &Path) -> bool {
    let Ok(text) = fs::read(file) else { return false };
    let token = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    // An empty file must not let every client publish.
    !token.is_empty() && same(offered.trim_ascii(), token)
}

/// Compares in constant time, which reveals nothing about a partial match.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Stores the torrent `bytes` in `directory` as `name`, or by the torrent's own name, and lists it.
///
/// # Errors
/// A status code and the reason: a bad name, a bad torrent, or a failed write.
pub fn publish(
    directory: &Path,
    name: Option<&[u8]>,
    bytes: &[u8],
    store: &Store,
) -> Result<(InfoHash, Arc<Listing>), (u16, String)> {
    let metainfo = Metainfo::parse(bytes).map_err(|error| (400, format!("this is no torrent: {error}")))?;
    let own = format!("{}.torrent", metainfo.name);
    let name = name.map_or(Ok(own.as_str()), std::str::from_utf8).ok().filter(|name| is_file_name(name));
    let name = name.ok_or((400, "name= must be a plain file name that ends in .torrent".to_owned()))?;
    let (hash, path) = (metainfo.info_hash, directory.join(name));
    if let Some(other) = store.listing(hash).filter(|listing| listing.path != path && listing.path.exists()) {
        let other = other.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err((409, format!("this torrent is here already, as {other}")));
    }
    put(&path, bytes).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => (409, format!("{name} is here already, and the token did not publish it")),
        _ => (507, format!("keep {name}: {error}")),
    })?;
    let listing =
        Listing { name: metainfo.name.clone(), length: metainfo.geometry.length(), path, ..Listing::default() };
    let listing = Arc::new(listing);
    store.list_one(hash, listing.clone());
    Ok((hash, listing))
}

/// Puts `bytes` at `path`, where there is nothing or what the token put there before, and marks them as the token's.
///
/// # Errors
/// `AlreadyExists`: something else is there. The disk is full, the directory is not writable …
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let digest = |bytes: &[u8]| InfoHash(sha1(bytes)).to_string();
    let old = match fs::read(path) {
        Ok(old) if old == bytes => return Ok(()),
        Ok(old) => Some(digest(&old)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mark = mark(path);
    if let Some(old) = &old {
        let marked = fs::read_to_string(&mark).unwrap_or_default();
        // A link is an administrator's, whatever it leads to.
        if !marked.lines().any(|line| line == old) || fs::symlink_metadata(path)?.is_symlink() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
    }
    // Both are the token's until the new one is there, and a torrent without a mark never is.
    whole::write(&mark, format!("{}\n{}\n", digest(bytes), old.as_deref().unwrap_or_default()))?;
    let mut whole = Whole::create_at(path)?;
    whole.file().write_all(bytes)?;
    match old {
        Some(_) => whole.commit(),
        None => whole.commit_new(),
    }?;
    Ok(())
}

/// The mark of the torrent `path`.
fn mark(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.published"))
}

/// Whether `name` is a visible .torrent in the directory itself.
fn is_file_name(name: &str) -> bool {
    let plain = name.len() <= LONGEST_NAME && !name.contains('/') && !name.chars().any(char::is_control);
    plain && !name.starts_with('.') && name.len() > ".torrent".len() && name.ends_with(".torrent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_or_hide_are_refused() {
        for name in ["", ".torrent", "x", "../x.torrent", "a/b.torrent", ".x.torrent", "x\n.torrent", "x.torrent/"] {
            assert!(!is_file_name(name), "{name:?}");
        }
        assert!(is_file_name("x.img.torrent") && is_file_name("Ubuntu 24.04 aula ñ.torrent"));
        assert!(!is_file_name(&format!("{}.torrent", "x".repeat(200))));
    }

    #[test]
    fn the_token_replaces_its_own_torrents_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        let refused = |bytes: &[u8]| put(&path, bytes).is_err_and(|why| why.kind() == io::ErrorKind::AlreadyExists);
        fs::write(&path, "the administrator's").unwrap();
        assert!(refused(b"one"));
        assert_eq!(fs::read(&path).unwrap(), b"the administrator's");
        fs::remove_file(&path).unwrap();
        for bytes in ["one", "two", "two", "three"] {
            put(&path, bytes.as_bytes()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes.as_bytes());
        }
        fs::write(&path, "the administrator's again").unwrap();
        assert!(refused(b"four"));
        // The mark of what was there before is no longer worth anything.
        fs::write(&path, "one").unwrap();
        assert!(refused(b"four"));
        let elsewhere = dir.path().join("elsewhere");
        for target in ["three", "nothing"] {
            fs::remove_file(&path).unwrap();
            fs::write(&elsewhere, "three").unwrap();
            std::os::unix::fs::symlink(dir.path().join(if target == "three" { "elsewhere" } else { "no" }), &path)
                .unwrap();
            assert!(refused(b"four"), "a link to {target}");
        }
        assert_eq!(fs::read(&elsewhere).unwrap(), b"three");
    }

    #[test]
    fn only_the_token_opens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(!bears(Some(b"Bearer secret"), &path));
        fs::write(&path, "secret\n").unwrap();
        assert!(bears(Some(b"Bearer secret"), &path));
        for wrong in [&b"secret"[..], b"Bearer ", b"Bearer secre", b"Bearer secret2", b"Basic secret"] {
            assert!(!bears(Some(wrong), &path), "{}", wrong.escape_ascii());
        }
        assert!(!bears(None, &path));
        fs::write(&path, "\n").unwrap();
        assert!(!bears(Some(b"Bearer "), &path));
    }
}
