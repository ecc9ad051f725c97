//! Preparing a torrent for being seeded: reading it, opening its data, verifying that.

use super::look::Sight;
use crate::storage::{Storage, check};
use crate::sys::cpus;
use crate::torrent::Metainfo;

/// A torrent and its data, open and guarded: whatever is read of it is what it is now.
#[derive(Debug)]
pub struct Opened {
    /// The torrent.
    pub metainfo: Metainfo,
    /// Its data.
    pub storage: Storage,
}

/// Reads the torrent and opens its data, which must be of the right length. Waits a moment when that was written to
/// just now.
///
/// # Errors
/// Why it cannot be seeded.
pub fn open(sight: &Sight) -> Result<Opened, String> {
    let metainfo = Metainfo::read(&sight.path).map_err(|error| error.to_string())?;
    let mut storage = Storage::open(&metainfo, &sight.data_path()).map_err(|error| error.to_string())?;
    storage.guard().map_err(|error| error.to_string())?;
    Ok(Opened { metainfo, storage })
}

/// Hashes all data.
///
/// # Errors
/// Why it cannot be seeded.
pub fn verify(opened: &Opened) -> Result<(), String> {
    let have = check(&opened.storage, &opened.metainfo, cpus::count(), &|_| {});
    if !opened.storage.is_unchanged() {
        return Err("its data changed while it was verified".to_owned());
    }
    if !have.is_full() {
        return Err(format!("its data is not what it describes ({} of {} pieces are)", have.count(), have.len()));
    }
    Ok(())
}
