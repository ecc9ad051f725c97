//! One torrent's peers as the tracker sees them, and the choice of peers for a reply.
//!
//! Pure: the time is passed in (seconds of a monotonic clock), nothing is read or sent. A peer is identified by address
//! and port: a PC that returns under a new peer id after a crash takes its old place instead of leaving a ghost.
//!
//! Peers are kept by room (their /24 or /64), by whether they have answered ([`Peer::answered`]) and by kind (leecher,
//! seeder), each list in random order. Replies take from a list in rotation, so each peer is handed out as often as the
//! next; a swarm that fits into the reply is handed out whole. Those that answered come first: at least four fifths of a
//! reply are theirs, if there are as many, and the rest is for those that have only come.

use std::collections::{BTreeMap, HashMap};

use super::peer::{Address, Owner, Peer, RoomKey};
use crate::base::rng::Rng;
use crate::torrent::PeerId;

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

/// Peers of a kind that have answered or not: one of [`ANSWERED`] and [`NEW`], and one of [`LEECHERS`] and [`SEEDERS`].
type Class = usize;

#[derive(Debug, Default)]
struct Room {
    /// The peers of each class.
    peers: [Vec<Peer>; CLASSES],
    /// The start of the next selection, for each class.
    cursors: [usize; CLASSES],
}

/// A place in a swarm's lists: a room, a class, and an index in that list.
pub type Place = (RoomKey, Class, usize);

/// A torrent's peers.
#[derive(Debug, Default)]
pub struct Swarm {
    rooms: BTreeMap<RoomKey, Room>,
    /// For each peer: its class, and its index in its room's list of that class.
    index: HashMap<Address, (u8, u32)>,
    /// The peers that each source announces, without loopback's; none if `unlimited`.
    sources: HashMap<[u8; 16], Vec<Address>>,
    /// Numbers of peers of each class.
    counts: [u32; CLASSES],
    /// The room from which the next reply takes its far peers, for each class.
    far: [RoomKey; CLASSES],
    /// Completed downloads, ever.
    pub completed: u32,
    /// Whether a source may announce any number of peers, which are not counted then.
    pub unlimited: bool,
}

const LEECHERS: Class = 0;
const SEEDERS: Class = 1;
const ANSWERED: Class = 0;
const NEW: Class = 2;
const CLASSES: usize = 4;

/// The class of `peer`.
fn class(peer: &Peer) -> Class {
    (if peer.answered { ANSWERED } else { NEW }) + if peer.left == 0 { SEEDERS } else { LEECHERS }
}

impl Swarm {
    /// The number of leechers.
    pub fn leechers(&self) -> u32 {
        self.counts[ANSWERED + LEECHERS] + self.counts[NEW + LEECHERS]
    }

    /// The number of seeders.
    pub fn seeders(&self) -> u32 {
        self.counts[ANSWERED + SEEDERS] + self.counts[NEW + SEEDERS]
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
        let (class, at) = *self.index.get(&address)?;
        self.rooms.get(&address.room())?.peers[usize::from(class)].get(at as usize)
    }

    /// Calls `see` with at most `most` peers from `place` on, and returns the place of the next; `None` after the last.
    pub fn some_from(&self, place: Place, most: usize, mut see: impl FnMut(&Peer)) -> Option<Place> {
        let (begin, mut class, mut at) = place;
        let mut most = most;
        for (key, room) in self.rooms.range(begin..) {
            if *key != begin {
                (class, at) = (0, 0);
            }
            while let Some(list) = room.peers.get(class) {
                for peer in &list[at.min(list.len())..] {
                    if most == 0 {
                        return Some((*key, class, at));
                    }
                    (most, at) = (most - 1, at + 1);
                    see(peer);
                }
                (class, at) = (class + 1, 0);
            }
        }
        None
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
        let mut peer =
            Peer { address, owner, id, left, rate: 0, since: now, seen: now, expected: interval, answered: false };
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
            let waited = now.saturating_sub(old.since) >= old.expected.div_ceil(2);
            peer.answered = (old.answered || waited) && !old.late(now);
        }
        let (new, was_leecher) = (old.is_none(), old.is_none_or(|old| old.left != 0));
        match &mut place {
            Some(place) if class(place) == class(&peer) && place.owner.source == owner.source => **place = peer,
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
        let (class, at) = *self.index.get(&address)?;
        self.rooms.get_mut(&address.room())?.peers[usize::from(class)].get_mut(at as usize)
    }

    /// Inserts `peer` at a random index of its list.
    pub fn insert(&mut self, peer: Peer, rng: &mut Rng) {
        let class = class(&peer);
        if !self.unlimited && peer.owner.counts() {
            self.sources.entry(peer.owner.source).or_default().push(peer.address);
        }
        let room = self.rooms.entry(peer.address.room()).or_default();
        let list = &mut room.peers[class];
        let last = list.len();
        list.push(peer);
        let at = rng.below(list.len() as u64) as usize;
        list.swap(at, last);
        for at in [last, at] {
            self.index.insert(list[at].address, (class as u8, at as u32));
        }
        self.counts[class] += 1;
    }

    /// Removes and returns the peer at `address`.
    pub fn remove(&mut self, address: Address) -> Option<Peer> {
        let (class, at) = self.index.remove(&address)?;
        let at = at as usize;
        let key = address.room();
        let room = self.rooms.get_mut(&key)?;
        let list = &mut room.peers[usize::from(class)];
        let peer = list.swap_remove(at);
        if let Some(moved) = list.get(at) {
            self.index.insert(moved.address, (class, at as u32));
        }
        if room.peers.iter().all(Vec::is_empty) {
            self.rooms.remove(&key);
        }
        self.counts[usize::from(class)] -= 1;
        if let Some(theirs) = self.sources.get_mut(&peer.owner.source) {
            theirs.retain(|one| *one != address);
            if theirs.is_empty() {
                self.sources.remove(&peer.owner.source);
            }
        }
        Some(peer)
    }

    /// Removes and returns the peer at `address` if it was last seen before `time`; if it is late, it has to answer anew.
    pub fn settle(&mut self, address: Address, time: u32, now: u32, rng: &mut Rng) -> Option<Peer> {
        let peer = self.get(address)?;
        if peer.seen < time {
            return self.remove(address);
        }
        if peer.overdue(time, now) {
            let peer = self.remove(address)?;
            self.insert(Peer { answered: false, ..peer }, rng);
        }
        None
    }

    /// Appends at most `wanted` peers for `asker` to `out`: never itself, only leechers for a seeder, those that answered
    /// first, its own room first among these, late peers last or not at all.
    pub fn pick(&mut self, asker: Address, seeder: bool, wanted: usize, now: u32, out: &mut Vec<(Address, PeerId)>) {
        let all = (self.leechers() + if seeder { 0 } else { self.seeders() }) as usize;
        if all <= wanted.saturating_add(1) {
            self.give_all(asker, seeder, wanted, now, out);
            return;
        }
        let begin = out.len();
        let seeders = if seeder { 0 } else { self.counts[ANSWERED + SEEDERS] };
        let answered = (self.counts[ANSWERED + LEECHERS] + seeders) as usize;
        // Some of those that have only come, lest nobody learn of them.
        self.pick_some(NEW, asker, seeder, (wanted / 5).max(wanted.saturating_sub(answered)), now, out);
        let new = out.len() - begin;
        if answered > 0 {
            self.pick_some(ANSWERED, asker, seeder, wanted - new, now, out);
            out[begin..].rotate_left(new);
        }
    }

    /// Appends at most `wanted` peers of those that have answered, or of those that have only come.
    fn pick_some(
        &mut self,
        from: Class,
        asker: Address,
        seeder: bool,
        wanted: usize,
        now: u32,
        out: &mut Vec<(Address, PeerId)>,
    ) {
        let [leechers, seeders] = [from + LEECHERS, from + SEEDERS].map(|class| self.counts[class] as usize);
        let all = (leechers + seeders).max(1);
        // Seeders by their share, but at least a few: often there is only one, the server, in another room.
        let share = if seeder { 0 } else { (wanted * seeders / all).max(4).min(seeders).min(wanted) };
        let from_leechers = (wanted - share).min(leechers);
        self.pick_class(from + LEECHERS, asker, from_leechers, now, out);
        if !seeder {
            self.pick_class(from + SEEDERS, asker, wanted - from_leechers, now, out);
        }
    }

    fn give_all(&self, asker: Address, seeder: bool, wanted: usize, now: u32, out: &mut Vec<(Address, PeerId)>) {
        let (begin, near) = (out.len(), asker.room());
        // Those that answered, those that have only come, those that are late.
        let stage = |peer: &Peer| if peer.late(now) { 2 } else { u8::from(!peer.answered) };
        for turn in 0..3 {
            let own = self.rooms.get(&near).into_iter();
            let others = self.rooms.iter().filter(|(key, _)| **key != near).map(|(_, room)| room);
            let peers = own.chain(others).flat_map(|room| room.peers.iter().flatten());
            let peers =
                peers.filter(|peer| peer.address != asker && !(seeder && peer.left == 0) && stage(peer) == turn);
            out.extend(peers.map(|peer| (peer.address, peer.id)));
        }
        // `pick` counts the asker when it decides that all fit.
        out.truncate(begin + wanted);
    }

    /// Appends at most `wanted` peers of one class: four fifths from the asker's room and the rest from others, which
    /// keeps the rooms connected; more from its own room if the others have fewer.
    fn pick_class(&mut self, class: Class, asker: Address, wanted: usize, now: u32, out: &mut Vec<(Address, PeerId)>) {
        let (near, end) = (asker.room(), out.len() + wanted);
        if wanted == 0 || self.counts[class] == 0 {
            return;
        }
        let in_room = self.rooms.get(&near).map_or(0, |room| room.peers[class].len());
        let far = (self.counts[class] as usize - in_room).min(wanted / 5);
        if let Some(room) = self.rooms.get_mut(&near) {
            room.hand_out(class, asker, wanted - far, now, out);
        }
        // Each other room once, from where the last reply ended; a room that was not used up continues next time.
        let from = self.far[class];
        for beyond in [true, false] {
            let rooms = if beyond { self.rooms.range_mut(from..) } else { self.rooms.range_mut(..from) };
            for (key, room) in rooms.filter(|(key, _)| **key != near) {
                if out.len() >= end {
                    return;
                }
                let used_up = room.hand_out(class, asker, end - out.len(), now, out);
                self.far[class] = if used_up { key.saturating_add(1) } else { *key };
            }
        }
    }
}

impl Room {
    /// Appends at most `wanted` peers of one class from the cursor on; returns whether the cursor wrapped around.
    fn hand_out(
        &mut self,
        class: Class,
        asker: Address,
        wanted: usize,
        now: u32,
        out: &mut Vec<(Address, PeerId)>,
    ) -> bool {
        let (list, end) = (&self.peers[class], out.len() + wanted);
        // Bounded, so that a room that was switched off as a whole is not walked through each time.
        let steps = list.len().min(2 * wanted + 64);
        let mut at = self.cursors[class].checked_rem(list.len()).unwrap_or(0);
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
        self.cursors[class] = at;
        round
    }
}

#[cfg(test)]
mod tests;
