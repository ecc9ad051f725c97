//! One torrent's peers as the tracker sees them, and the choice of peers for a reply.
//!
//! Pure: the time is passed in (seconds of a monotonic clock), nothing is read or sent. A peer is identified by address
//! and port: a PC that returns under a new peer id after a crash takes its old place instead of leaving a ghost.
//!
//! Peers are kept by room (their /24 or /64) and by kind (leecher, seeder), each list in random order. Replies take
//! from a list in rotation, so each peer is handed out as often as the next; a swarm that fits into the reply is
//! handed out whole.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::base::rng::Rng;
use crate::torrent::PeerId;

/// A peer's address and port in 18 bytes, IPv4 as mapped IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    ip: [u8; 16],
    port: u16,
}

/// A peer's subnet: its address with all but the first 64 bits (IPv6) or 24 bits (IPv4) cleared.
type RoomKey = u128;

impl Address {
    /// The socket address, IPv4 unmapped.
    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(IpAddr::from(self.ip).to_canonical(), self.port)
    }

    /// The bytes of the IPv4 address, if it is one.
    pub fn v4(self) -> Option<[u8; 4]> {
        let number = u128::from_be_bytes(self.ip);
        (number >> 32 == 0xffff).then_some((number as u32).to_be_bytes())
    }

    /// Its compact form (BEP 23), if it is an IPv4 address.
    pub fn compact_v4(self) -> Option<[u8; 6]> {
        let ([a, b, c, d], [high, low]) = (self.v4()?, self.port.to_be_bytes());
        Some([a, b, c, d, high, low])
    }

    /// Its compact form (BEP 7), if it is an IPv6 address.
    pub fn compact_v6(self) -> Option<[u8; 18]> {
        if self.v4().is_some() {
            return None;
        }
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&self.ip);
        bytes[16..].copy_from_slice(&self.port.to_be_bytes());
        Some(bytes)
    }

    /// TCP port.
    pub fn port(self) -> u16 {
        self.port
    }

    fn room(self) -> RoomKey {
        let host_bits = if self.v4().is_some() { 8 } else { 64 };
        u128::from_be_bytes(self.ip) >> host_bits << host_bits
    }
}

// Compared and hashed as numbers: the derived implementation calls memcmp, which is slow in musl.
impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        u128::from_ne_bytes(self.ip) == u128::from_ne_bytes(other.ip) && self.port == other.port
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ip = u128::from_ne_bytes(self.ip);
        state.write_u64(ip as u64);
        state.write_u64(((ip >> 64) as u64) ^ (u64::from(self.port) << 48));
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Address { ip, port: address.port() }
    }
}

/// The announcer of a peer, which alone may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The address that its announce came from, IPv4 as mapped IPv6.
    source: [u8; 16],
    /// The number made of its `key`; 0 if it gave none.
    pub key: u32,
}

impl Owner {
    /// The sender of an announce from `source` with `key`; 0 for no key.
    pub fn new(source: IpAddr, key: u32) -> Owner {
        Owner { source: Address::from(SocketAddr::new(source, 0)).ip, key }
    }

    /// The address that its announce came from, IPv4 unmapped.
    pub fn source(self) -> IpAddr {
        IpAddr::from(self.source).to_canonical()
    }

    /// Whether it may change or remove `peer`: it announced it, or `peer` is said to be at its address.
    pub fn owns(self, peer: &Peer) -> bool {
        let same_key = self.key != 0 && self.key == peer.owner.key;
        same_key || self.source == peer.owner.source || self.source == peer.address.ip
    }
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address that it listens on.
    pub address: Address,
    /// Its announcer.
    pub owner: Owner,
    /// Its peer id.
    pub id: PeerId,
    /// Bytes it still lacks; 0 for a seeder.
    pub left: u64,
    /// Download rate between its last two announces, bytes/s.
    pub rate: u32,
    /// Time of its first announce.
    pub since: u32,
    /// Time of its last announce.
    pub seen: u32,
    /// Seconds within which it is expected to announce again.
    pub expected: u32,
}

impl Peer {
    /// Whether its announce is so long overdue that it is most likely switched off.
    pub fn late(&self, now: u32) -> bool {
        now.saturating_sub(self.seen) > self.expected.saturating_mul(2).saturating_add(15)
    }
}

/// The changes that an announce makes.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The address that the peer listens on.
    pub address: Address,
    /// The sender of the announce.
    pub owner: Owner,
    /// The peer's id.
    pub id: PeerId,
    /// Bytes it still lacks.
    pub left: u64,
    /// Whether it reports that it has just become complete.
    pub completed: bool,
    /// Time of the announce.
    pub now: u32,
    /// Seconds until its next announce, as in the reply.
    pub interval: u32,
}

#[derive(Debug, Default)]
struct Room {
    /// Leechers, then seeders.
    peers: [Vec<Peer>; 2],
    /// The start of the next selection, for each kind.
    cursors: [usize; 2],
}

/// A torrent's peers.
#[derive(Debug, Default)]
pub struct Swarm {
    rooms: BTreeMap<RoomKey, Room>,
    /// For each peer: whether it is a seeder, and its index in its room's list of that kind.
    index: HashMap<Address, (bool, u32)>,
    /// The peers that each source announces, without loopback's.
    sources: HashMap<[u8; 16], Vec<Address>>,
    /// Numbers of leechers and seeders.
    counts: [u32; 2],
    /// The room from which the next reply takes its far peers, for each kind.
    far: [RoomKey; 2],
    /// Completed downloads, ever.
    pub completed: u32,
}

const LEECHERS: usize = 0;
const SEEDERS: usize = 1;

impl Swarm {
    /// The number of leechers.
    pub fn leechers(&self) -> u32 {
        self.counts[LEECHERS]
    }

    /// The number of seeders.
    pub fn seeders(&self) -> u32 {
        self.counts[SEEDERS]
    }

    /// The number of peers.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no peers.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// All peers, room by room.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.rooms.values().flat_map(|room| room.peers.iter().flatten())
    }

    /// The peer at `address`.
    pub fn get(&self, address: Address) -> Option<&Peer> {
        let (seeder, at) = *self.index.get(&address)?;
        self.rooms.get(&address.room())?.peers[usize::from(seeder)].get(at as usize)
    }

    /// The number of peers that the source of `owner` announces; 0 for loopback, whose peers are not counted.
    pub fn of_source(&self, owner: Owner) -> usize {
        self.sources.get(&owner.source).map_or(0, Vec::len)
    }

    /// Removes and returns the peer of the source of `owner` that has been silent for the longest time.
    pub fn remove_oldest_of(&mut self, owner: Owner) -> Option<Peer> {
        let theirs = self.sources.get(&owner.source)?.iter();
        let oldest = theirs.min_by_key(|address| self.get(**address).map_or(0, |peer| peer.seen))?;
        self.remove(*oldest)
    }

    /// Records an announce; returns whether the peer is new.
    pub fn update(&mut self, update: Update, rng: &mut Rng) -> bool {
        let Update { address, owner, id, left, now, interval, .. } = update;
        let mut peer = Peer { address, owner, id, left, rate: 0, since: now, seen: now, expected: interval };
        let mut place = self.get_mut(address);
        // Another id at the same address is another session, which inherits nothing.
        let old = place.as_deref().filter(|old| old.id == id);
        if let Some(old) = old {
            let time = now.saturating_sub(old.seen);
            let came = old.left.saturating_sub(left);
            peer.rate = match came.checked_div(u64::from(time)) {
                Some(rate) => u32::try_from(rate).unwrap_or(u32::MAX),
                None => old.rate,
            };
            peer.since = old.since;
            // A client with a longer interval of its own does not count as late.
            peer.expected = interval.max(time.min(1800));
        }
        let (new, was_leecher) = (old.is_none(), old.is_none_or(|old| old.left != 0));
        match &mut place {
            Some(place) if (place.left == 0) == (left == 0) && place.owner.source == owner.source => **place = peer,
            Some(_) => {
                self.remove(address);
                self.insert(peer, rng);
            }
            None => self.insert(peer, rng),
        }
        if left == 0 && was_leecher && (update.completed || !new) {
            self.completed = self.completed.saturating_add(1);
        }
        new
    }

    fn get_mut(&mut self, address: Address) -> Option<&mut Peer> {
        let (seeder, at) = *self.index.get(&address)?;
        self.rooms.get_mut(&address.room())?.peers[usize::from(seeder)].get_mut(at as usize)
    }

    /// Inserts `peer` at a random index of its list.
    pub fn insert(&mut self, peer: Peer, rng: &mut Rng) {
        let kind = usize::from(peer.left == 0);
        if !peer.owner.source().is_loopback() {
            self.sources.entry(peer.owner.source).or_default().push(peer.address);
        }
        let room = self.rooms.entry(peer.address.room()).or_default();
        let list = &mut room.peers[kind];
        let last = list.len();
        list.push(peer);
        let at = rng.below(list.len() as u64) as usize;
        list.swap(at, last);
        for at in [last, at] {
            self.index.insert(list[at].address, (kind == SEEDERS, at as u32));
        }
        self.counts[kind] += 1;
    }

    /// Removes and returns the peer at `address`.
    pub fn remove(&mut self, address: Address) -> Option<Peer> {
        let (seeder, at) = self.index.remove(&address)?;
        let (kind, at) = (usize::from(seeder), at as usize);
        let key = address.room();
        let room = self.rooms.get_mut(&key)?;
        let list = &mut room.peers[kind];
        let peer = list.swap_remove(at);
        if let Some(moved) = list.get(at) {
            self.index.insert(moved.address, (seeder, at as u32));
        }
        if room.peers.iter().all(Vec::is_empty) {
            self.rooms.remove(&key);
        }
        self.counts[kind] -= 1;
        if let Some(theirs) = self.sources.get_mut(&peer.owner.source) {
            theirs.retain(|one| *one != address);
            if theirs.is_empty() {
                self.sources.remove(&peer.owner.source);
            }
        }
        Some(peer)
    }

    /// Removes every peer last seen before `time`; returns their number.
    pub fn expire(&mut self, time: u32) -> usize {
        let gone: Vec<Address> = self.peers().filter(|peer| peer.seen < time).map(|peer| peer.address).collect();
        gone.iter().filter(|address| self.remove(**address).is_some()).count()
    }

    /// Appends at most `wanted` peers for `asker` to `out`: never itself, only leechers for a seeder, its own room
    /// first, late peers last or not at all.
    pub fn pick(&mut self, asker: Address, seeder: bool, wanted: usize, now: u32, out: &mut Vec<(Address, PeerId)>) {
        let [leechers, seeders] = self.counts.map(|count| count as usize);
        let all = if seeder { leechers } else { leechers + seeders };
        if all <= wanted.saturating_add(1) {
            self.give_all(asker, seeder, wanted, now, out);
            return;
        }
        // Seeders by their share, but at least a few: often there is only one, the server, in another room.
        let share = if seeder { 0 } else { (wanted * seeders / all).max(4).min(seeders).min(wanted) };
        let from_leechers = (wanted - share).min(leechers);
        self.pick_kind(LEECHERS, asker, from_leechers, now, out);
        if !seeder {
            self.pick_kind(SEEDERS, asker, wanted - from_leechers, now, out);
        }
    }

    fn give_all(&self, asker: Address, seeder: bool, wanted: usize, now: u32, out: &mut Vec<(Address, PeerId)>) {
        let (begin, near) = (out.len(), asker.room());
        let kinds = if seeder { 1 } else { 2 };
        for late in [false, true] {
            let own = self.rooms.get(&near).into_iter();
            let others = self.rooms.iter().filter(|(key, _)| **key != near).map(|(_, room)| room);
            let peers = own.chain(others).flat_map(|room| room.peers[..kinds].iter().flatten());
            let peers = peers.filter(|peer| peer.address != asker && peer.late(now) == late);
            out.extend(peers.map(|peer| (peer.address, peer.id)));
        }
        // `pick` counts the asker when it decides that all fit.
        out.truncate(begin + wanted);
    }

    /// Appends at most `wanted` peers of one kind: four fifths from the asker's room and the rest from others, which
    /// keeps the rooms connected; more from its own room if the others have fewer.
    fn pick_kind(&mut self, kind: usize, asker: Address, wanted: usize, now: u32, out: &mut Vec<(Address, PeerId)>) {
        let (near, end) = (asker.room(), out.len() + wanted);
        let in_room = self.rooms.get(&near).map_or(0, |room| room.peers[kind].len());
        let far = (self.counts[kind] as usize - in_room).min(wanted / 5);
        if let Some(room) = self.rooms.get_mut(&near) {
            room.hand_out(kind, asker, wanted - far, now, out);
        }
        // Each other room once, from where the last reply ended; a room that was not used up continues next time.
        let from = self.far[kind];
        for beyond in [true, false] {
            let rooms = if beyond { self.rooms.range_mut(from..) } else { self.rooms.range_mut(..from) };
            for (key, room) in rooms.filter(|(key, _)| **key != near) {
                if out.len() >= end {
                    return;
                }
                let used_up = room.hand_out(kind, asker, end - out.len(), now, out);
                self.far[kind] = if used_up { key.saturating_add(1) } else { *key };
            }
        }
    }
}

impl Room {
    /// Appends at most `wanted` peers of one kind from the cursor on; returns whether the cursor wrapped around.
    fn hand_out(
        &mut self,
        kind: usize,
        asker: Address,
        wanted: usize,
        now: u32,
        out: &mut Vec<(Address, PeerId)>,
    ) -> bool {
        let (list, end) = (&self.peers[kind], out.len() + wanted);
        // Bounded, so that a room that was switched off as a whole is not walked through each time.
        let steps = list.len().min(2 * wanted + 64);
        let mut at = self.cursors[kind].checked_rem(list.len()).unwrap_or(0);
        let mut round = list.is_empty();
        for _ in 0..steps {
            if out.len() >= end {
                break;
            }
            let peer = &list[at];
            if peer.address != asker && !peer.late(now) {
                out.push((peer.address, peer.id));
            }
            at += 1;
            if at == list.len() {
                (at, round) = (0, true);
            }
        }
        self.cursors[kind] = at;
        round
    }
}

#[cfg(test)]
mod tests;
