//! Preparing a torrent for seeding: reading it, opening its data and verifying that.

use super::look::Sight;
use crate::storage::{Storage, check};
use crate::sys::cpus;
use crate::torrent::Metainfo;

/// A torrent and its open data, guarded against changes (see [`Storage::guard`]).
#[derive(Debug)]
pub struct Opened {
    /// The torrent.
    pub metainfo: Metainfo,
    /// Its data.
    pub storage: Storage,
}

/// Reads the torrent and opens its data, which must have the right length. Waits a moment if it was written just now.
///
/// # Errors
/// The reason why it cannot be seeded.
pub fn open(sight: &Sight) -> Result<Opened, String> {
    let metainfo = Metainfo::read(&sight.path).map_err(|error| error.to_string())?;
    let mut storage = Storage::open(&metainfo, &sight.data_path()).map_err(|error| error.to_string())?;
    storage.guard().map_err(|error| error.to_string())?;
    Ok(Opened { metainfo, storage })
}

/// Verifies all data against the piece hashes.
///
/// # Errors
/// The reason why it cannot be seeded.
pub fn verify(opened: &Opened) -> Result<(), String> {
    let have = check(&opened.storage, &opened.metainfo, cpus::count(), &|_| {});
    if !opened.storage.is_unchanged() {
        return Err("its data changed while it was verified".to_owned());
    }
    if !have.is_full() {
        return Err(format!("its data does not match it ({} of {} pieces do)", have.count(), have.len()));
    }
    Ok(())
}
