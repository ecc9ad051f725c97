//! What is done with all of a store's peers: forgetting, making room, copying, restoring.
//!
//! With hundreds of thousands of peers that takes a while, so it is done in slices, each under the lock for some
//! microseconds, and never on a thread that answers requests.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::{Owner, Peer, Shard, Store, locked};
use crate::base::rng::Rng;
use crate::torrent::{InfoHash, PeerId};
use crate::tracker::server::peer::Address;
use crate::tracker::server::swarm::Swarm;

/// Peers handled under one lock.
const SLICE: usize = 2048;
/// Pause between two slices: a thread that unlocks and locks again at once leaves the others no chance.
const BREATH: Duration = Duration::from_micros(50);
/// Of how many parts of the table one is kept free, and one is cleared when it is not.
const FREE: usize = 16;
const CLEARED: usize = 8;
/// Ranks of peers.
const RANKS: usize = 1 << 16;

/// How soon `peer`, whose source announces `theirs` in all, has to go for others: first those that have not answered or are
/// late, of these the ones of a source with many, of these the longest silent. Below [`RANKS`].
fn rank(peer: &Peer, theirs: u32, now: u32) -> usize {
    let doubtful = usize::from(!peer.answered || peer.late(now));
    let many = (u32::BITS - theirs.leading_zeros()).min(15) as usize;
    let silent = now.saturating_sub(peer.seen).min(2047) as usize;
    doubtful << 15 | many << 11 | silent
}

impl Store {
    /// The torrents that have peers or completed downloads.
    fn alive(&self) -> Vec<InfoHash> {
        let mut alive = Vec::new();
        for shard in &self.shards {
            let shard = locked(shard);
            let those = shard.entries.iter().filter(|(_, entry)| !entry.swarm.is_empty() || entry.swarm.completed > 0);
            alive.extend(those.map(|(hash, _)| *hash));
        }
        alive
    }

    /// Calls `see` with each peer of a torrent, slice by slice; returns whether there were several slices. Peers that come
    /// or go meanwhile may be missed or come twice.
    fn each_peer(&self, hash: InfoHash, mut see: impl FnMut(&Peer)) -> bool {
        let mut next = Some((0, 0, 0));
        let mut slices = 0;
        while let Some(place) = next {
            next = self.shard(hash).entries.get(&hash).and_then(|entry| entry.swarm.some_from(place, SLICE, &mut see));
            slices += 1;
            if next.is_some() {
                thread::sleep(BREATH);
            }
        }
        slices > 1
    }

    /// Copies of a torrent's peers, each address once.
    pub fn swarm_peers(&self, hash: InfoHash) -> Vec<Peer> {
        let mut peers = Vec::new();
        if self.each_peer(hash, |peer| peers.push(peer.clone())) {
            let mut seen = HashSet::with_capacity(peers.len());
            peers.retain(|peer| seen.insert(peer.address));
        }
        peers
    }

    /// Calls `see` with each torrent that has peers or completed downloads: its info-hash, the number of these, its peers.
    pub fn each(&self, mut see: impl FnMut(InfoHash, u32, &[Peer])) {
        for hash in self.alive() {
            let completed = self.shard(hash).entries.get(&hash).map_or(0, |entry| entry.swarm.completed);
            see(hash, completed, &self.swarm_peers(hash));
        }
    }

    /// Forgets the peers that were silent for longer than the rules allow, and the torrents that have neither peers nor
    /// a listing; returns the number of peers forgotten. Those that answered once and are late have to answer anew.
    pub fn expire(&self, now: u32) -> usize {
        let time = now.saturating_sub(self.rules.life);
        let mut due = Vec::new();
        for hash in self.alive() {
            self.each_peer(hash, |peer| due.extend(peer.overdue(time, now).then_some((hash, peer.address))));
        }
        let gone = self.in_slices(&due, |swarm, rng, address| swarm.settle(address, time, now, rng));
        self.drop_empty();
        if gone > 0 {
            self.changed();
        }
        gone
    }

    /// Forgets torrents that have neither peers nor a listing.
    fn drop_empty(&self) {
        for shard in &self.shards {
            locked(shard).entries.retain(|_, entry| {
                let kept = self.rules.keep_dead && !self.rules.closed && entry.swarm.completed > 0;
                !entry.swarm.is_empty() || entry.listing.is_some() || kept
            });
        }
    }

    /// Calls `act` with each peer of `due`, slice by slice; counts the peers that it removes.
    fn in_slices(
        &self,
        due: &[(InfoHash, Address)],
        mut act: impl FnMut(&mut Swarm, &mut Rng, Address) -> Option<Peer>,
    ) -> usize {
        let mut gone = 0;
        for slice in due.chunks(SLICE) {
            for (hash, address) in slice {
                let mut shard = self.shard(*hash);
                let Shard { entries, rng } = &mut *shard;
                let peer = entries.get_mut(hash).and_then(|entry| act(&mut entry.swarm, rng, *address));
                gone += usize::from(peer.is_some());
                self.went(peer);
            }
            thread::sleep(BREATH);
        }
        gone
    }

    /// Forgets an eighth of the peers when the table is nearly full, those first that have not answered: made-up ones must not
    /// keep others out. Returns the number of peers forgotten.
    pub fn make_room(&self, now: u32) -> usize {
        let most = self.rules.most;
        let Some(goal) = self.peers().checked_sub(most - most / FREE).filter(|over| *over > 0) else { return 0 };
        let goal = goal + most / CLEARED - most / FREE;
        let alive = self.alive();
        let mut sources: HashMap<[u8; 16], u32> = HashMap::new();
        for hash in &alive {
            self.each_peer(*hash, |peer| *sources.entry(peer.owner.source).or_default() += 1);
        }
        let rank = |peer: &Peer| rank(peer, sources.get(&peer.owner.source).copied().unwrap_or(0), now);
        let mut ranks = vec![0usize; RANKS];
        for hash in &alive {
            self.each_peer(*hash, |peer| ranks[rank(peer)] += 1);
        }
        let (mut least, mut found) = (RANKS, 0);
        while found < goal && least > 0 {
            least -= 1;
            found += ranks[least];
        }
        let mut gone = 0;
        // Of the least rank only some have to go.
        for least in [least + 1, least] {
            let mut due = Vec::new();
            for hash in &alive {
                self.each_peer(*hash, |peer| due.extend((rank(peer) >= least).then_some((*hash, peer.address))));
            }
            due.truncate(goal - gone);
            gone += self.in_slices(&due, |swarm, _, address| {
                let goes = swarm.get(address).is_some_and(|peer| rank(peer) >= least);
                goes.then(|| swarm.remove(address)).flatten()
            });
        }
        self.drop_empty();
        self.changed();
        gone
    }

    /// Restores a peer of a saved state that `owner` announced, last seen `age` seconds ago.
    pub fn restore_peer(&self, hash: InfoHash, socket: SocketAddr, owner: Owner, id: PeerId, left: u64, age: u32) {
        let (address, now) = (Address::from(socket), self.now());
        let seen = now.saturating_sub(age);
        let full = self.peers() >= self.rules.most || self.is_full(owner);
        if age >= self.rules.life || socket.port() == 0 || full {
            return;
        }
        let mut shard = self.shard(hash);
        let Shard { entries, rng } = &mut *shard;
        let entry = entries.entry(hash).or_insert_with(|| self.entry());
        if entry.swarm.is_empty() {
            entry.born = now;
        }
        if entry.swarm.get(address).is_none() && entry.swarm.of_source(owner) < self.rules.most_of_source {
            let expected = self.rules.reannounce.min(60);
            let peer = Peer { address, owner, id, left, rate: 0, since: seen, seen, expected, answered: false };
            entry.swarm.insert(peer, rng);
            self.came(None, owner);
        }
    }

    /// Restores the count of completed downloads of a saved state.
    pub fn restore_completed(&self, hash: InfoHash, completed: u32) {
        self.shard(hash).entries.entry(hash).or_insert_with(|| self.entry()).swarm.completed = completed;
    }
}
