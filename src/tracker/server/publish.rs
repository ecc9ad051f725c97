//! Publishing: a .torrent that its maker sends (`PUT /file?name=X.img.torrent`) is put into the allowed
//! directory, so that a PC which seeds from its cache can be found without an export of that directory.
//!
//! Only who bears the token may; what is sent must be a torrent, and its name a plain file's name. The file
//! appears whole: written under a name that nobody looks at, then renamed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::store::{Listing, Store};
use crate::base::whole::Whole;
use crate::torrent::{InfoHash, Metainfo};

/// Bytes of the largest .torrent that is taken: 800,000 pieces.
pub const LARGEST: usize = 16 << 20;
/// Bytes of the longest name: room for what is put around it while it is written.
const LONGEST_NAME: usize = 200;

/// Whether an Authorization header holds the token that `file` holds in its first line.
pub fn bears(authorization: Option<&[u8]>, file: &Path) -> bool {
    let Ok(text) = fs::read(file) else { return false };
    let token = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    let offered = authorization.and_then(|header| header.strip_prefix(b"Bearer ")).map(<[u8]>::trim_ascii);
    // An empty file is no token that nobody need bear.
    !token.is_empty() && offered.is_some_and(|offered| same(offered, token))
}

/// Compares without telling by the time it takes how much is right.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Puts the torrent `bytes` into `directory` as `name`, and lists it.
///
/// # Errors
/// A status code and why: the name, the torrent or the disk is not good enough.
pub fn publish(directory: &Path, name: &[u8], bytes: &[u8], store: &Store) -> Result<InfoHash, (u16, String)> {
    let name = std::str::from_utf8(name).ok().filter(|name| is_file_name(name));
    let name = name.ok_or((400, "name= must be a plain file name that ends in .torrent".to_owned()))?;
    let metainfo = Metainfo::parse(bytes).map_err(|error| (400, format!("this is no torrent: {error}")))?;
    let (hash, path) = (metainfo.info_hash, directory.join(name));
    if let Some(other) = store.listing(hash).filter(|listing| listing.path != path && listing.path.exists()) {
        let other = other.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err((409, format!("this torrent is here already, as {other}")));
    }
    // A link of that name is replaced: whoever publishes writes nothing outside the directory.
    let put = Whole::create_at(&path).and_then(|mut whole| {
        whole.file().write_all(bytes)?;
        whole.commit()
    });
    put.map_err(|error| (507, format!("keep {name}: {error}")))?;
    let listing =
        Listing { name: metainfo.name.clone(), length: metainfo.geometry.length(), path, ..Listing::default() };
    store.list_one(hash, Arc::new(listing));
    Ok(hash)
}

/// A name in the directory itself that is looked at.
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
