//! One port, one peer id, and any number of torrents with their trackers.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::announcing::{Announced, Announcing};
use crate::peer::{Options, Session, Torrent};
use crate::storage::Storage;
use crate::torrent::{Bitfield, Metainfo};

/// Bounds of the memory that a client may use, MiB: the default, and the least that will do.
pub const MEMORY: (u64, u64) = (64, 16);
/// Memory that a connection may take, KiB: blocks received and not yet written, blocks that its peer does not read, two
/// stacks.
const CONNECTION: u64 = 576;

/// Returns how many of `peers` connections `memory` MiB are enough for.
pub fn connections(memory: u64, peers: u64) -> usize {
    peers.min(memory * 1024 / CONNECTION) as usize
}

/// How a client is to be.
pub struct Settings {
    /// Its port, peer id, limits and swarms.
    pub session: Options,
    /// User agent to announce as.
    pub agent: String,
    /// Address to announce instead of the one that the tracker sees; `None`: the one that it is bound to, if it is.
    pub ip: Option<String>,
    /// Peers to ask trackers for.
    pub numwant: u32,
    /// Connections below which a leecher asks for more peers early; fewer than five ask in any case.
    pub min_peers: usize,
}

/// A running client. Dropping it tells every tracker and ends every connection and thread.
pub struct Client {
    // Ended first: the trackers hear the last totals, and nobody is dialled any more.
    announcing: Announcing,
    session: Session,
}

impl Client {
    /// Listens and starts to run.
    ///
    /// # Errors
    /// None of the ports is free, or the system gives no threads.
    pub fn start(settings: Settings) -> io::Result<Client> {
        let Settings { session, agent, ip, numwant, min_peers } = settings;
        let (bind, log) = (session.bind, session.log.clone());
        let session = Session::start(session)?;
        // Bound to one of several addresses, the client can be reached there alone.
        let ip = ip.or_else(|| Some(bind).filter(|bind| !bind.is_unspecified()).map(|bind: IpAddr| bind.to_string()));
        let announcing = Announcing::start(&session, &agent, numwant, ip, log);
        announcing.want_at_least(min_peers);
        Ok(Client { announcing, session })
    }

    /// Returns the peers' side: port, peer id, limits.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the trackers' side.
    pub fn announcing(&self) -> &Announcing {
        &self.announcing
    }

    /// Seeds a torrent of which everything is verified.
    pub fn seed(&self, metainfo: Metainfo, storage: Storage) -> Arc<Torrent> {
        let (tiers, have) = (metainfo.announce.clone(), Bitfield::full(metainfo.geometry.pieces()));
        let torrent = self.session.add(metainfo, storage, have);
        self.announcing.add(torrent.clone(), tiers);
        torrent
    }

    /// Ends a torrent's connections at once, and announces its end.
    pub fn remove(&self, torrent: &Arc<Torrent>) {
        self.announcing.remove(torrent);
        self.session.remove(&torrent.info_hash());
    }

    /// Returns the outcome of a torrent's last announces.
    pub fn announced(&self, torrent: &Arc<Torrent>) -> Announced {
        self.announcing.announced(torrent)
    }
}
