//! The state file (`--dfile`): the bencoded dictionary of BitTornado and BitTorrent 3.4.2, so that each can read the
//! other's. Replaced atomically; a corrupt one is set aside.
//!
//! `peers` is a dictionary info-hash → peer id → {ip, port, left, …}, `completed` one info-hash → number. The
//! `key` and `source` say who may change the peer: the namesakes know the first and ignore the second, which is left out
//! where it is `ip`. The namesakes' other entries (their parsed directory) are not written, since they are made anew at each start.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::announce::key_number;
use super::peer::Owner;
use super::store::{self, Store};
use crate::base::whole;
use crate::torrent::bencode::{self, Encoder};
use crate::torrent::{InfoHash, PeerId};

/// Largest state that is read, bytes.
const LARGEST: u64 = 256 << 20;

/// The outcome of reading a state.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// There was no state.
    Absent,
    /// This many peers were restored.
    Peers(usize),
    /// It was corrupt and has been renamed to this.
    SetAside(PathBuf),
}

/// The state of `store` as bytes.
pub fn encode(store: &Store) -> Vec<u8> {
    let mut completed: Vec<(InfoHash, u32)> = Vec::new();
    let mut peers = Encoder::new();
    peers.dict(|peers| {
        store.each(|hash, count, present| {
            if count > 0 {
                completed.push((hash, count));
            }
            if present.is_empty() {
                return;
            }
            peers.dict(hash.0, |swarm| {
                for peer in present {
                    let address = peer.address.socket();
                    swarm.dict(peer.id.0, |one| {
                        one.bytes("ip", address.ip().to_string());
                        if peer.owner.key != 0 {
                            one.bytes("key", format!("{:08x}", peer.owner.key));
                        }
                        one.int("left", i64::try_from(peer.left).unwrap_or(i64::MAX));
                        one.int("nat", 0);
                        one.int("port", address.port().into());
                        one.int("requirecrypto", 0);
                        let source = peer.owner.source();
                        if source != address.ip() {
                            one.bytes("source", source.to_string());
                        }
                        one.int("supportcrypto", 0);
                    });
                }
            });
        });
    });
    let peers = peers.finish();
    let mut state = Encoder::new();
    state.dict(|state| {
        state
            .dict("completed", |counts| completed.iter().for_each(|(hash, count)| counts.int(hash.0, (*count).into())));
        state.key("peers").raw(&peers);
    });
    state.finish()
}

/// Writes `state` to `path`, whole or not at all.
///
/// # Errors
/// The disk is full, the directory is not writable …; the old file is untouched then.
pub fn save(state: &[u8], path: &Path) -> io::Result<()> {
    whole::write(path, state)
}

/// Restores the state of `path` into `store`.
///
/// # Errors
/// The file exists and cannot be read, or it is corrupt and cannot be set aside.
pub fn load(path: &Path, store: &Store) -> io::Result<Loaded> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Absent),
        Err(e) => return Err(e),
    };
    if metadata.len() == 0 {
        return Ok(Loaded::Absent);
    }
    let age = metadata.modified().map_or(0, store::age_of);
    let bytes = if metadata.is_file() && metadata.len() <= LARGEST { fs::read(path)? } else { Vec::new() };
    match restore(&bytes, store, age) {
        Some(peers) => Ok(Loaded::Peers(peers)),
        None => {
            let aside = sibling(path, ".corrupt");
            whole::rename(path, &aside)?;
            Ok(Loaded::SetAside(aside))
        }
    }
}

/// Restores the state `bytes`, saved `age` seconds ago, into `store` and returns its number of peers; `None`, with
/// nothing restored, if `bytes` is not a valid state.
pub fn restore(bytes: &[u8], store: &Store, age: u32) -> Option<usize> {
    let state = bencode::decode(bytes).ok()?;
    let (mut completed, mut peers) = (Vec::new(), Vec::new());
    let part = |name: &[u8]| match state.get(name) {
        Some(part) => part.dict().map(|entries| entries.collect()),
        None => state.dict().map(|_| Vec::new()),
    };
    for (hash, count) in part(b"completed")? {
        completed.push((InfoHash(hash.try_into().ok()?), u32::try_from(count.int()?).ok()?));
    }
    for (hash, swarm) in part(b"peers")? {
        let hash = InfoHash(hash.try_into().ok()?);
        for (id, peer) in swarm.dict()? {
            let id = PeerId(id.try_into().ok()?);
            let port = u16::try_from(peer.get(b"port")?.int()?).ok()?;
            let left = u64::try_from(peer.get(b"left")?.int()?).ok()?;
            // The namesake may have host names, which cannot be sent to peers.
            if let Ok(ip) = peer.get(b"ip")?.str()?.parse::<IpAddr>() {
                let key = peer.get(b"key").and_then(|key| key.bytes()).map_or(0, key_number);
                let source = peer.get(b"source").and_then(|source| source.str()?.parse().ok()).unwrap_or(ip);
                peers.push((hash, SocketAddr::new(ip, port), Owner::new(source, key), id, left));
            }
        }
    }
    completed.into_iter().for_each(|(hash, count)| store.restore_completed(hash, count));
    for (hash, socket, owner, id, left) in peers {
        store.restore_peer(hash, socket, owner, id, left, age);
    }
    Some(store.peers())
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::tracker::message::Event;
    use crate::tracker::server::store::{Announce, tests::open_store};

    fn filled() -> Store {
        let store = open_store();
        for (n, address) in ["10.0.0.1:6881", "[2001:db8::1]:80", "10.0.0.2:6881"].into_iter().enumerate() {
            let announce = Announce {
                info_hash: InfoHash([n as u8 / 2; 20]),
                address: address.parse::<SocketAddr>().unwrap().into(),
                owner: Owner::new([127, 0, 0, 1].into(), n as u32),
                id: PeerId([n as u8; 20]),
                left: 5 * n as u64,
                event: Event::Completed,
                wanted: None,
            };
            store.announce(&announce, store.now(), &mut Vec::new()).unwrap();
        }
        store
    }

    #[test]
    fn a_saved_state_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dstate");
        let store = filled();
        save(&encode(&store), &path).unwrap();
        let again = open_store();
        assert_eq!(load(&path, &again).unwrap(), Loaded::Peers(3));
        assert_eq!(encode(&again), encode(&store));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_state_of_the_namesake_is_read() {
        let hash = "\u{1}".repeat(20);
        let id = "a".repeat(20);
        let state = format!(
            "d7:allowedde9:completedd20:{hash}i7ee5:peersd20:{hash}d20:{id}d8:given ip4:none2:ip8:10.0.0.93:key4:abcd\
             4:lefti12e3:nati0e4:porti2706eeeee"
        );
        let store = open_store();
        assert_eq!(restore(state.as_bytes(), &store, 0), Some(1));
        let counts = &store.scrape(None)[0];
        assert_eq!((counts.leechers, counts.completed), (1, 7));
    }

    #[test]
    fn corrupt_states_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dstate");
        let whole = encode(&filled());
        let cases: [&[u8]; 5] = [&whole[..whole.len() - 1], b"i5e", b"not bencode", b"d5:peersd1:xdeee", b"\0"];
        for case in cases {
            fs::write(&path, case).unwrap();
            let aside = dir.path().join("dstate.corrupt");
            assert_eq!(load(&path, &open_store()).unwrap(), Loaded::SetAside(aside.clone()), "{}", case.escape_ascii());
            assert_eq!(fs::read(aside).unwrap(), case);
            assert!(!path.exists());
        }
        assert_eq!(load(&path, &open_store()).unwrap(), Loaded::Absent);
    }

    #[test]
    fn peers_of_an_old_state_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dstate");
        save(&encode(&filled()), &path).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
        let store = open_store();
        assert_eq!(load(&path, &store).unwrap(), Loaded::Peers(0));
        assert_eq!(store.scrape(None).len(), 1, "what was completed stays");
    }
}
