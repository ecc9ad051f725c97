//! One torrent of a session: its swarm, its connections, its files.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Log;
use super::gather::Queue;
use super::limiter::Share;
use super::link::Link;
use super::nudge::Nudge;
use super::state::State;
use crate::base::sync::{lock, unpoisoned};
use crate::storage::Storage;
use crate::swarm::{Action, Block, PeerKey, Roster, Sight, Swarm, Totals, Verified};
use crate::sys;
use crate::torrent::{Bitfield, Geometry, InfoHash, Metainfo, PeerId};

/// A torrent that a session downloads or seeds.
pub struct Torrent {
    metainfo: Metainfo,
    storage: Storage,
    state: Mutex<State>,
    changed: Condvar,
    zero: Instant,
    hashing: Arc<Queue<Torrent>>,
    nudge: Arc<Nudge>,
    /// Its shares of the session's limits, up and down.
    pub(super) shares: (Share, Share),
    max_peers: AtomicUsize,
    /// Local address that we listen on and dial from.
    bind: IpAddr,
    log: Log,
}

/// Settings that a torrent takes from its session.
pub struct Setting {
    pub max_peers: usize,
    /// Local address that we listen on and dial from.
    pub bind: IpAddr,
    pub port: u16,
    /// Whether peers are sent one another's addresses, unless the torrent is private.
    pub pex: bool,
    /// Seed of the random choices.
    pub seed: u64,
    /// Origin of the session's clock.
    pub zero: Instant,
    pub hashing: Arc<Queue<Torrent>>,
    pub nudge: Arc<Nudge>,
    pub log: Log,
}

/// A torrent's numbers at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Verified pieces.
    pub have: u32,
    /// Bytes that are wanted and missing.
    pub left: u64,
    /// Bytes that are missing, wanted or not, as reported to trackers (BEP 21).
    pub lacks: u64,
    /// Whether everything that is wanted is here.
    pub whole: bool,
    /// Sums since the start.
    pub totals: Totals,
    /// Bytes a second, in and out.
    pub rates: (f64, f64),
    /// Connected peers that lack nothing, and the others.
    pub peers: (usize, usize),
    /// Known addresses that are not connected.
    pub spare: usize,
    /// The reason if it had to end.
    pub failure: Option<String>,
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Its peer id.
    pub id: PeerId,
    /// Its end of the connection.
    pub address: SocketAddr,
    /// The state of its connection.
    pub sight: Sight,
}

impl Torrent {
    pub(super) fn new(metainfo: Metainfo, storage: Storage, swarm: Swarm, setting: Setting) -> Torrent {
        let pex = setting.pex && !metainfo.private;
        let state = State::new(swarm, Roster::new(setting.seed), setting.port, pex, setting.log.clone());
        Torrent {
            metainfo,
            storage,
            state: Mutex::new(state),
            changed: Condvar::new(),
            zero: setting.zero,
            hashing: setting.hashing,
            nudge: setting.nudge,
            shares: Default::default(),
            max_peers: AtomicUsize::new(setting.max_peers),
            bind: setting.bind,
            log: setting.log,
        }
    }

    /// Its metainfo.
    pub fn metainfo(&self) -> &Metainfo {
        &self.metainfo
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.metainfo.name
    }

    /// Its info-hash.
    pub fn info_hash(&self) -> InfoHash {
        self.metainfo.info_hash
    }

    /// Its files.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.metainfo.geometry
    }

    /// Its current numbers.
    pub fn status(&self) -> Status {
        let now = self.now();
        let state = lock(&self.state);
        Status {
            have: state.swarm.have().count(),
            left: state.swarm.left(),
            lacks: state.swarm.lacks(),
            whole: state.swarm.is_sated(),
            totals: state.swarm.totals(),
            rates: state.swarm.rates(now),
            peers: state.swarm.population(),
            spare: state.roster.spare(),
            failure: state.failure.clone(),
        }
    }

    /// The connected peers, longest connected first.
    pub fn peers(&self) -> Vec<Connected> {
        let now = self.now();
        let state = lock(&self.state);
        let mut links: Vec<(&PeerKey, &Arc<Link>)> = state.links.iter().collect();
        links.sort_unstable_by_key(|(key, _)| **key);
        let connected = |(key, link): (&PeerKey, &Arc<Link>)| {
            Some(Connected { id: link.peer_id, address: link.address, sight: state.swarm.sight(now, *key)? })
        };
        links.into_iter().filter_map(connected).collect()
    }

    /// Pieces verified here; pieces available here or from a connected peer.
    pub fn reach(&self) -> (Bitfield, Bitfield) {
        let state = lock(&self.state);
        (state.swarm.have().clone(), state.swarm.reach())
    }

    /// Number of connections being made.
    pub fn dialling(&self) -> usize {
        lock(&self.state).roster.dialling()
    }

    /// Maximum number of connections.
    pub fn max_peers(&self) -> usize {
        self.max_peers.load(Ordering::Relaxed)
    }

    /// Changes the maximum number of connections; existing ones stay.
    pub fn set_max_peers(&self, peers: usize) {
        self.max_peers.store(peers, Ordering::Relaxed);
    }

    /// Whether it is paused: it requests and serves nothing, though connections stay.
    pub fn is_paused(&self) -> bool {
        lock(&self.state).swarm.is_paused()
    }

    /// Pauses or resumes; blocks requested already still arrive.
    pub fn pause(self: &Arc<Self>, pause: bool) {
        self.with(|state, now| state.swarm.pause(now, pause));
    }

    /// The verified pieces.
    pub fn have(&self) -> Bitfield {
        lock(&self.state).swarm.have().clone()
    }

    /// Adds addresses of peers to try.
    pub fn add_addresses(&self, addresses: &[SocketAddr]) {
        let mut state = lock(&self.state);
        if state.roster.us().is_none()
            && let Some(ip) = addresses.first().and_then(|address| sys::net::local_ip(self.bind, *address))
        {
            state.we_are(ip);
        }
        let news = addresses.iter().filter(|address| state.roster.add(**address)).count();
        drop(state);
        if news > 0 {
            self.nudge.give();
        }
    }

    /// Notes that a tracker sees us as `ip` (BEP 24), as other peers may. A loopback address is ignored: only a
    /// tracker on this machine sees it.
    pub fn seen_as(&self, ip: IpAddr) {
        if !ip.is_loopback() && !ip.is_unspecified() {
            lock(&self.state).we_are(ip);
        }
    }

    /// Waits until everything that is wanted is here or the torrent fails, at most for `time`.
    pub fn wait_change(&self, time: Duration) {
        let state = lock(&self.state);
        if !state.swarm.is_sated() && state.failure.is_none() {
            drop(unpoisoned(self.changed.wait_timeout(state, time)));
        }
    }

    /// Ends every connection because the torrent cannot go on, and keeps the reason.
    pub fn fail(&self, why: String) {
        let mut state = lock(&self.state);
        (self.log)(&why);
        state.failure.get_or_insert(why);
        self.end(&mut state);
    }

    pub(super) fn close(&self) {
        self.end(&mut lock(&self.state));
    }

    fn end(&self, state: &mut State) {
        state.close();
        self.changed.notify_all();
    }

    pub(super) fn now(&self) -> Duration {
        self.zero.elapsed()
    }

    pub(super) fn log(&self, line: &str) {
        (self.log)(line);
    }

    /// Runs `decide` on the state, then carries out what the swarm decided.
    pub(super) fn with<T>(self: &Arc<Self>, decide: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.now();
        let mut state = lock(&self.state);
        let result = decide(&mut state, now);
        self.carry_out(&mut state);
        result
    }

    /// Returns the next block to send to the peer, if it is its turn.
    pub(super) fn next_upload(self: &Arc<Self>, key: PeerKey) -> Option<Block> {
        self.with(|state, now| state.swarm.next_upload(now, key))
    }

    /// Takes in the outcomes of verifying pieces, each with the digests of its blocks where they are needed.
    pub(super) fn verified(self: &Arc<Self>, outcomes: &[(u32, Verified, Vec<[u8; 20]>)]) {
        let sated = self.with(|state, now| {
            let lacked = !state.swarm.is_sated();
            for (piece, verified, digests) in outcomes {
                state.swarm.verified(now, *piece, *verified, digests);
            }
            let sated = state.swarm.is_sated();
            if lacked && sated && !state.swarm.is_whole() {
                // Peers cannot tell that we want nothing more unless we have every piece.
                state.links.values().for_each(|link| state.introduce(link));
            }
            sated
        });
        if sated {
            self.changed.notify_all();
        }
    }

    /// Adds a connection whose handshake is done; `own` is our peer id.
    ///
    /// # Errors
    /// The reason for a refusal.
    pub(super) fn join(self: &Arc<Self>, link: &Arc<Link>, own: PeerId) -> Result<PeerKey, &'static str> {
        self.with(|state, now| {
            let key = state.admit(now, link, own, self.max_peers())?;
            // The bitfield must be the first message.
            self.carry_out(state);
            state.introduce(link);
            Ok(key)
        })
    }

    /// Removes a connection that is over.
    pub(super) fn leave(self: &Arc<Self>, key: PeerKey, link: &Link) {
        self.with(|state, now| state.leave(now, key, link));
    }

    /// Adds a web seed and returns its orders; `None` if it is no longer needed.
    pub(super) fn join_source(self: &Arc<Self>) -> Option<(PeerKey, Receiver<Action>)> {
        self.with(|state, now| state.join_source(now))
    }

    /// Removes a web seed.
    pub(super) fn leave_source(self: &Arc<Self>, key: PeerKey) {
        self.with(|state, now| {
            state.sources.remove(&key);
            state.swarm.leave(now, key);
        });
    }

    /// Sleeps for `time`, or less if the torrent completes or ends.
    pub(super) fn sleep(&self, time: Duration) {
        let over = |state: &mut State| !state.closed && !state.swarm.is_sated();
        drop(self.changed.wait_timeout_while(lock(&self.state), time, over));
    }

    /// Does periodic work; returns an address to dial.
    pub(super) fn tick(self: &Arc<Self>) -> Option<SocketAddr> {
        self.with(|state, now| {
            state.swarm.tick(now);
            if state.closed {
                return None;
            }
            state.tell_of_peers(now);
            let sated = state.swarm.is_sated();
            let connections = state.links.len();
            state.roster.next_dial(now, connections, sated)
        })
    }

    fn carry_out(self: &Arc<Self>, state: &mut State) {
        state.carry_out(|piece| self.hashing.push(self.clone(), piece));
    }
}
