//! One torrent of a session: its swarm, its connections, its files.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::gather::Queue;
use super::limiter::Share;
use super::link::Link;
use super::nudge::Nudge;
use super::state::State;
use super::{Log, lock};
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
    /// What it had of the session's limits, up and down.
    pub(super) shares: (Share, Share),
    max_peers: AtomicUsize,
    /// Where we listen.
    bind: IpAddr,
    log: Log,
}

/// What a torrent has from its session.
pub struct Setting {
    pub max_peers: usize,
    /// Where we listen.
    pub bind: IpAddr,
    pub port: u16,
    /// Peers are told of one another unless the torrent is private.
    pub pex: bool,
    /// Seed of random choices.
    pub seed: u64,
    /// The moment that the session's time counts from.
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
    /// Bytes that are wanted and not here.
    pub left: u64,
    /// Bytes that are not here, wanted or not: what trackers are told (BEP 21).
    pub lacks: u64,
    /// Everything that is wanted is here.
    pub whole: bool,
    /// Sums since the start.
    pub totals: Totals,
    /// Bytes a second, in and out.
    pub rates: (f64, f64),
    /// Connected peers that lack nothing, and the others.
    pub peers: (usize, usize),
    /// Addresses known and not connected.
    pub spare: usize,
    /// Why it had to end.
    pub failure: Option<String>,
}

/// A peer that is connected.
#[derive(Clone, Debug)]
pub struct Connected {
    /// What it calls itself.
    pub id: PeerId,
    /// The other end of the connection.
    pub address: SocketAddr,
    /// How things stand with it.
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

    /// What it is.
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

    /// Its numbers now.
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

    /// The connected peers, in the order in which they came.
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

    /// The pieces that are verified, and those that are or that somebody has who is connected.
    pub fn reach(&self) -> (Bitfield, Bitfield) {
        let state = lock(&self.state);
        (state.swarm.have().clone(), state.swarm.reach())
    }

    /// Connections that are being made.
    pub fn dialling(&self) -> usize {
        lock(&self.state).roster.dialling()
    }

    /// Connections that it may have.
    pub fn max_peers(&self) -> usize {
        self.max_peers.load(Ordering::Relaxed)
    }

    /// Changes how many connections it may have; those that there are stay.
    pub fn set_max_peers(&self, peers: usize) {
        self.max_peers.store(peers, Ordering::Relaxed);
    }

    /// Nothing is asked for and nothing is served, though connections stay.
    pub fn is_paused(&self) -> bool {
        lock(&self.state).swarm.is_paused()
    }

    /// Pauses, or goes on; what was asked for already still comes.
    pub fn pause(self: &Arc<Self>, pause: bool) {
        self.with(|state, now| state.swarm.pause(now, pause));
    }

    /// The verified pieces.
    pub fn have(&self) -> Bitfield {
        lock(&self.state).swarm.have().clone()
    }

    /// Somebody told of these addresses.
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

    /// A tracker sees us as `ip` (BEP 24), as the other peers may do. One on this very machine sees what no other does.
    pub fn seen_as(&self, ip: IpAddr) {
        if !ip.is_loopback() && !ip.is_unspecified() {
            lock(&self.state).we_are(ip);
        }
    }

    /// Waits at most `time` for everything that is wanted to be here, or for the torrent to fail.
    pub fn wait_change(&self, time: Duration) {
        let state = lock(&self.state);
        if !state.swarm.is_sated() && state.failure.is_none() {
            drop(self.changed.wait_timeout(state, time).unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }

    /// Something makes it useless to go on: ends every connection and remembers why.
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

    /// Runs `decide` on the swarm, then carries out what it decided.
    pub(super) fn with<T>(self: &Arc<Self>, decide: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.now();
        let mut state = lock(&self.state);
        let result = decide(&mut state, now);
        self.carry_out(&mut state);
        result
    }

    /// The next block to send to the peer, if it is its turn.
    pub(super) fn next_upload(self: &Arc<Self>, key: PeerKey) -> Option<Block> {
        self.with(|state, now| state.swarm.next_upload(now, key))
    }

    /// The outcomes of verifying pieces, each with the digests of its blocks where they are wanted.
    pub(super) fn verified(self: &Arc<Self>, outcomes: &[(u32, Verified, Vec<[u8; 20]>)]) {
        let sated = self.with(|state, now| {
            let lacked = !state.swarm.is_sated();
            for (piece, verified, digests) in outcomes {
                state.swarm.verified(now, *piece, *verified, digests);
            }
            let sated = state.swarm.is_sated();
            if lacked && sated && !state.swarm.is_whole() {
                // Of those that have everything peers know by themselves that they want nothing any more.
                state.links.values().for_each(|link| state.introduce(link));
            }
            sated
        });
        if sated {
            self.changed.notify_all();
        }
    }

    /// Takes in a connection whose handshake is done; a refusal says why.
    pub(super) fn join(self: &Arc<Self>, link: &Arc<Link>, own: PeerId) -> Result<PeerKey, &'static str> {
        self.with(|state, now| {
            let key = state.admit(now, link, own, self.max_peers())?;
            // The bitfield has to be the first message.
            self.carry_out(state);
            state.introduce(link);
            Ok(key)
        })
    }

    /// The connection is over.
    pub(super) fn leave(self: &Arc<Self>, key: PeerKey, link: &Link) {
        self.with(|state, now| state.leave(now, key, link));
    }

    /// Takes in a web seed, and gives what it is told to do; none when there is no use for it any more.
    pub(super) fn join_source(self: &Arc<Self>) -> Option<(PeerKey, Receiver<Action>)> {
        self.with(|state, now| state.join_source(now))
    }

    /// The web seed is of no use now.
    pub(super) fn leave_source(self: &Arc<Self>, key: PeerKey) {
        self.with(|state, now| {
            state.sources.remove(&key);
            state.swarm.leave(now, key);
        });
    }

    /// Sleeps for `time`, or until everything that is wanted is here or the torrent has ended.
    pub(super) fn sleep(&self, time: Duration) {
        let over = |state: &mut State| !state.closed && !state.swarm.is_sated();
        drop(self.changed.wait_timeout_while(lock(&self.state), time, over));
    }

    /// What goes by time; gives an address to dial.
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
