//! One torrent of a session: its swarm, its connections, its files.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::extension;
use super::hasher::Queue;
use super::limiter::Share;
use super::link::Link;
use super::nudge::Nudge;
use super::pex;
use super::wire::Message;
use crate::base::sync::{lock, unpoisoned};
use crate::storage::Storage;
use crate::swarm::{Action, Block, PeerKey, Roster, Sight, Swarm, Totals, Verified, priority};
use crate::sys;
use crate::torrent::{Bitfield, Geometry, InfoHash, Metainfo, PeerId};

/// Connections of one torrent from one address: a lab behind one router, not a flood.
const PER_ADDRESS: usize = 64;
/// Peers told of others in one tick: the mutex is held meanwhile.
const TOLD: usize = 16;
/// Why a connection is refused: the torrent ends, …
pub const CLOSED: &str = "the torrent is closed";
/// … no more connections are wanted, …
pub const ENOUGH: &str = "there are connections enough";
/// … or two peers dialled each other at once.
pub const TWICE: &str = "it is connected already";
/// Addresses waiting to be tried that make more of them from peers unwelcome: trackers still have room.
const SPARE: usize = 1024;

/// What is under the torrent's mutex.
pub struct State {
    pub swarm: Swarm,
    pub roster: Roster,
    links: HashMap<PeerKey, Arc<Link>>,
    /// Those whose writers are to be woken once all that was decided is put; empty in between.
    waking: Vec<Arc<Link>>,
    /// What web seeds are to do.
    sources: HashMap<PeerKey, Sender<Action>>,
    failure: Option<String>,
    closed: bool,
}

impl State {
    /// The connection of the lowest priority (BEP 40), if that of `link` is higher and it does not make room already.
    fn lowest_below(&self, link: &Link) -> Option<&Arc<Link>> {
        let us = self.roster.us()?;
        let rank = |link: &Link| priority(us, link.address);
        self.links
            .values()
            .min_by_key(|other| rank(other))
            .filter(|other| rank(other) < rank(link) && !other.is_closed())
    }

    /// Tells peers whose time has come of those that are connected and accept connections.
    fn tell_of_peers(&self, now: Duration) {
        let due = || self.links.values().filter(|link| lock(&link.gossip).is_due(now)).take(TOLD);
        if due().next().is_none() {
            return;
        }
        let contact = |(key, link): (&PeerKey, &Arc<Link>)| {
            let whole = if self.swarm.is_peer_sated(*key) { pex::WHOLE } else { 0 };
            let reachable = if link.dialled { pex::REACHABLE } else { 0 };
            // An address of one link means nothing to those on another.
            let wide = |address: &SocketAddr| !matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            (*lock(&link.listens)).filter(wide).map(|address| (address, whole | reachable))
        };
        let connected: Vec<(SocketAddr, u8)> = self.links.iter().filter_map(contact).collect();
        for link in due() {
            let listens = *lock(&link.listens);
            if let Some((id, exchange)) = lock(&link.gossip).tell(now, &connected, listens)
                && link.put(Message::Extended(id, &exchange.encode()))
            {
                link.wake();
            }
        }
    }
}

/// A torrent that a session downloads or seeds.
pub struct Torrent {
    metainfo: Metainfo,
    storage: Storage,
    state: Mutex<State>,
    changed: Condvar,
    zero: Instant,
    hashing: Arc<Queue>,
    nudge: Arc<Nudge>,
    /// What it had of the session's limits, up and down.
    pub(super) shares: (Share, Share),
    max_peers: AtomicUsize,
    /// Where we listen.
    bind: IpAddr,
    port: u16,
    pex: bool,
    log: Arc<dyn Fn(&str) + Send + Sync>,
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
    pub hashing: Arc<Queue>,
    pub nudge: Arc<Nudge>,
    pub log: Arc<dyn Fn(&str) + Send + Sync>,
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
        let roster = Roster::new(setting.seed);
        let state = State {
            swarm,
            roster,
            links: HashMap::new(),
            sources: HashMap::new(),
            waking: Vec::new(),
            failure: None,
            closed: false,
        };
        Torrent {
            pex: setting.pex && !metainfo.private,
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
            port: setting.port,
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
            state.roster.we_are(SocketAddr::new(ip, self.port));
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
            lock(&self.state).roster.we_are(SocketAddr::new(ip, self.port));
        }
    }

    /// Waits at most `time` for everything that is wanted to be here, or for the torrent to fail.
    pub fn wait_change(&self, time: Duration) {
        let state = lock(&self.state);
        if !state.swarm.is_sated() && state.failure.is_none() {
            drop(unpoisoned(self.changed.wait_timeout(state, time)));
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
        state.closed = true;
        state.links.values().for_each(|link| link.close());
        // That tells their threads.
        state.sources.clear();
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
                state.links.values().for_each(|link| self.introduce(state, link));
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
            let ip = link.address.ip();
            if state.closed {
                return Err(CLOSED);
            }
            if state.roster.is_banned(ip) {
                return Err("its address is banned");
            }
            if state.links.values().filter(|other| other.address.ip() == ip).count() >= PER_ADDRESS {
                return Err("its address has connections enough");
            }
            if let Some(other) = state.links.values().find(|other| other.peer_id == link.peer_id) {
                // Two that dialled each other at once must close the same one of the two connections: the one
                // dialled by the smaller peer id stays.
                let keep_dialled = own < link.peer_id;
                if other.dialled == link.dialled || other.dialled == keep_dialled {
                    return Err(TWICE);
                }
                other.close();
            }
            if state.links.len() >= self.max_peers() {
                state.lowest_below(link).ok_or(ENOUGH)?.close();
            }
            let key = state.swarm.join(now, crate::swarm::Traits::stranger(link.fast));
            state.links.insert(key, link.clone());
            if link.dialled {
                state.roster.connected(link.address);
            }
            // The bitfield has to be the first message.
            self.carry_out(state);
            self.introduce(state, link);
            Ok(key)
        })
    }

    /// Says what we are in the words of BEP 10 and 21, to who understands them.
    fn introduce(&self, state: &State, link: &Link) {
        if link.extended {
            let (choosy, sated) = (state.swarm.is_choosy(), state.swarm.is_sated());
            let payload = extension::Handshake::ours(self.port, choosy, sated, self.pex, link.address);
            if link.put(Message::Extended(extension::HANDSHAKE, &payload)) {
                link.wake();
            }
        }
    }

    /// The connection is over.
    pub(super) fn leave(self: &Arc<Self>, key: PeerKey, link: &Link) {
        self.with(|state, now| {
            let whole = state.swarm.is_peer_sated(key);
            state.links.remove(&key);
            state.swarm.leave(now, key);
            if let Some(address) = *lock(&link.listens) {
                state.roster.gone(now, address, false, whole);
            }
        });
    }

    /// Takes in a web seed, and gives what it is told to do; none when there is no use for it any more.
    pub(super) fn join_source(self: &Arc<Self>) -> Option<(PeerKey, Receiver<Action>)> {
        self.with(|state, now| {
            if state.closed || state.swarm.is_sated() {
                return None;
            }
            let key = state.swarm.join_source(now);
            let (orders, taken) = channel();
            state.sources.insert(key, orders);
            Some((key, taken))
        })
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
            if self.pex {
                state.tell_of_peers(now);
            }
            let sated = state.swarm.is_sated();
            let connections = state.links.len();
            state.roster.next_dial(now, connections, sated)
        })
    }

    /// What the peer of `link` says of others (BEP 11).
    pub(super) fn hear_of_peers(&self, state: &mut State, now: Duration, link: &Link, payload: &[u8]) {
        if !self.pex || !lock(&link.gossip).may_hear(now) || state.roster.spare() >= SPARE {
            return;
        }
        // What cannot be read is as good as not said.
        let Ok(exchange) = pex::Exchange::decode(payload) else { return };
        let sated = state.swarm.is_sated();
        for (address, flags) in exchange.added {
            // Two that lack nothing have nothing to do with one another.
            if pex::is_plausible(address, link.address.ip()) && !(sated && flags & pex::WHOLE != 0) {
                state.roster.add(address);
            }
        }
    }

    fn carry_out(self: &Arc<Self>, state: &mut State) {
        while let Some((key, action)) = state.swarm.next_action() {
            if let Action::Verify(piece) = action {
                self.hashing.push(self.clone(), piece);
                continue;
            }
            if let Some(source) = state.sources.get(&key) {
                if let Action::Request(_) | Action::Cancel(_) | Action::Drop(_) | Action::Ban(_) = action {
                    // One that is about to leave takes no orders any more.
                    let _ = source.send(action);
                }
                continue;
            }
            let Some(link) = state.links.get(&key) else { continue };
            let waits = match action {
                Action::Bitfield => self.put_bitfield(&state.swarm, link),
                Action::Have(piece) => link.put(Message::Have(piece)),
                Action::Choke => link.put(Message::Choke),
                Action::Unchoke => link.put(Message::Unchoke),
                Action::Interested => link.put(Message::Interested),
                Action::NotInterested => link.put(Message::NotInterested),
                Action::Request(block) => link.put(Message::Request(block)),
                Action::Cancel(block) => link.put(Message::Cancel(block)),
                Action::Reject(block) => link.put(Message::Reject(block)),
                Action::Wake => link.put_upload(),
                Action::Verify(_) => false,
                Action::Drop(offence) => {
                    if offence != crate::swarm::Offence::Useless {
                        self.log(&format!("{}: dropped: {offence}", link.address));
                    }
                    link.close();
                    false
                }
                Action::Ban(offence) => {
                    self.log(&format!("{}: banned: {offence}", link.address));
                    state.roster.ban(link.address.ip());
                    link.close();
                    false
                }
            };
            if waits {
                state.waking.push(link.clone());
            }
        }
        state.waking.drain(..).for_each(|link| link.wake());
    }

    fn put_bitfield(&self, swarm: &Swarm, link: &Link) -> bool {
        let have = swarm.have();
        match (link.fast, have.is_full(), have.is_empty()) {
            (true, true, _) => link.put(Message::HaveAll),
            (true, _, true) => link.put(Message::HaveNone),
            (false, _, true) => false,
            _ => link.put(Message::Bitfield(have.as_bytes())),
        }
    }
}
