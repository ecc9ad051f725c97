//! All swarms, the listed torrents, and the rules by which announces and scrapes are answered.
//!
//! Split into shards by info-hash, each behind a mutex that is held for microseconds and never across I/O. Memory is
//! bounded: beyond [`Rules::most`] new peers are answered but not stored, before that is reached room is made
//! ([`Store::make_room`]), and a swarm exists only while it has peers or its torrent is listed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use super::peer::{Address, Owner, Peer};
use super::swarm::{Swarm, Update};
use crate::base::rng::Rng;
use crate::base::sync::lock;
use crate::torrent::{InfoHash, PeerId};
use crate::tracker::message::Event;

mod keeping;

/// Most peers stored, of all swarms together; some 40 MiB.
pub const MAX_PEERS: usize = 250_000;
/// Where torrents can be made up, the number of them in which a source may have as many peers as in one; further peers
/// have to be in place of its others.
pub const TORRENTS_OF_SOURCE: usize = 16;
/// Seconds during which a swarm counts as young, so that its peers find each other.
const YOUTH: u32 = 600;
/// Shards; a power of two, more than there are threads.
const SHARDS: usize = 64;

/// A torrent that may be tracked, as described by its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The name inside the torrent.
    pub name: String,
    /// Bytes of its content.
    pub length: u64,
    /// The .torrent file; empty if only the info-hash is known.
    pub path: PathBuf,
    /// The reason to refuse it all the same (`failure reason` in the .torrent).
    pub failure: Option<String>,
    /// A message to its peers (`warning message` in the .torrent).
    pub warning: Option<String>,
}

/// The rules for answering announces.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether only listed torrents are tracked.
    pub closed: bool,
    /// Most seconds between announces.
    pub reannounce: u32,
    /// Seconds after which a silent peer is forgotten.
    pub life: u32,
    /// Peers in a reply if the asker gives no number.
    pub usual_peers: usize,
    /// Most peers in a reply.
    pub most_peers: usize,
    /// Whether torrents without peers are kept.
    pub keep_dead: bool,
    /// Most peers of a torrent that one source address may announce, unless it is loopback; `usize::MAX` for no limit. If the
    /// tracker is not `closed`, [`TORRENTS_OF_SOURCE`] times as many in all.
    pub most_of_source: usize,
    /// Most peers stored, of all swarms together.
    pub most: usize,
}

/// The limit that an option states by `number`, where 0 is for none.
pub fn limit(number: u32) -> usize {
    if number == 0 { usize::MAX } else { number as usize }
}

impl Default for Rules {
    /// The rules of a tracker without options: the namesake's numbers, and closed.
    fn default() -> Rules {
        Rules {
            closed: true,
            reannounce: 1800,
            life: 5400,
            usual_peers: 50,
            most_peers: 200,
            keep_dead: false,
            most_of_source: 64,
            most: MAX_PEERS,
        }
    }
}

/// An announce by either protocol.
#[derive(Clone, Copy, Debug)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The address that the peer listens on.
    pub address: Address,
    /// The sender of the announce.
    pub owner: Owner,
    /// The peer's id.
    pub id: PeerId,
    /// Bytes it still lacks.
    pub left: u64,
    /// The reason of the announce.
    pub event: Event,
    /// The number of peers it wants; `None` for the usual number.
    pub wanted: Option<usize>,
}

/// The answer to an announce, besides peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Seconds until the next announce.
    pub interval: u32,
    /// Seeders, the asker included.
    pub seeders: u32,
    /// Leechers, the asker included.
    pub leechers: u32,
    /// Completed downloads, ever.
    pub completed: u32,
    /// A message to the asker.
    pub warning: Option<String>,
}

/// A scrape's counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Seeders.
    pub seeders: u32,
    /// Leechers.
    pub leechers: u32,
    /// Completed downloads, ever.
    pub completed: u32,
    /// The torrent's file, if it is listed.
    pub listing: Option<Arc<Listing>>,
}

/// The refusal of a torrent that is not listed, in the namesake's words.
pub const NOT_AUTHORIZED: &str = "Requested download is not authorized for use with this tracker.";

/// One torrent.
#[derive(Debug, Default)]
pub struct Entry {
    /// Its peers.
    pub swarm: Swarm,
    /// Its file, if it is listed.
    pub listing: Option<Arc<Listing>>,
    /// Time of its first peer.
    born: u32,
}

#[derive(Debug)]
struct Shard {
    entries: HashMap<InfoHash, Entry>,
    rng: Rng,
}

/// All swarms.
#[derive(Debug)]
pub struct Store {
    shards: Vec<Mutex<Shard>>,
    rules: Rules,
    peers: AtomicUsize,
    /// The numbers of peers that the sources announce, in all; only where torrents can be made up.
    sources: Mutex<HashMap<[u8; 16], u32>>,
    /// Counts the changes that a saved state would show.
    version: AtomicU32,
    begin: Instant,
}

impl Store {
    /// A store without swarms; `seed` decides the order of peers in replies and the jitter of intervals.
    pub fn new(rules: Rules, seed: u64) -> Store {
        let mut rng = Rng::new(seed);
        let shards =
            (0..SHARDS).map(|_| Mutex::new(Shard { entries: HashMap::new(), rng: Rng::new(rng.bits()) })).collect();
        let (peers, version) = (AtomicUsize::new(0), AtomicU32::new(0));
        Store { shards, rules, peers, sources: Mutex::default(), version, begin: Instant::now() }
    }

    /// The rules it was made with.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The present time, in the seconds used for peers.
    pub fn now(&self) -> u32 {
        // Far enough from 0 for the age of a saved state to be subtracted.
        let elapsed = u32::try_from(self.begin.elapsed().as_secs()).unwrap_or(u32::MAX);
        (1u32 << 24).saturating_add(elapsed)
    }

    /// The number of peers in all swarms.
    pub fn peers(&self) -> usize {
        self.peers.load(Ordering::Relaxed)
    }

    /// A number that changes whenever a saved state would.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    fn shard(&self, hash: InfoHash) -> MutexGuard<'_, Shard> {
        locked(&self.shards[usize::from(hash.0[0]) % SHARDS])
    }

    /// Records `announce` at `now` and appends peers for the asker to `out`.
    ///
    /// # Errors
    /// The reason of a refusal.
    pub fn announce(&self, announce: &Announce, now: u32, out: &mut Vec<(Address, PeerId)>) -> Result<Answer, String> {
        let Announce { info_hash, address, owner, id, left, event, .. } = *announce;
        let mut shard = self.shard(info_hash);
        let Shard { entries, rng } = &mut *shard;
        let listing = entries.get(&info_hash).and_then(|entry| entry.listing.as_deref());
        match listing {
            None if self.rules.closed => return Err(NOT_AUTHORIZED.to_owned()),
            Some(Listing { failure: Some(failure), .. }) => return Err(failure.clone()),
            _ => {}
        }
        let warning = listing.and_then(|listing| listing.warning.clone());
        if event == Event::Stopped {
            if let Some(entry) = entries.get_mut(&info_hash)
                && entry.swarm.get(address).is_some_and(|peer| peer.id == id && owner.owns(peer))
            {
                self.went(entry.swarm.remove(address));
                self.changed();
            }
            let swarm = entries.get(&info_hash).map(|entry| &entry.swarm);
            return Ok(Answer {
                interval: self.rules.reannounce,
                seeders: swarm.map_or(0, Swarm::seeders),
                leechers: swarm.map_or(0, Swarm::leechers),
                completed: swarm.map_or(0, |swarm| swarm.completed),
                warning,
            });
        }
        // A peer that does not listen, is one too many, or is somebody else's, gets the others all the same.
        let swarm = entries.get(&info_hash).map(|entry| &entry.swarm);
        let peer = swarm.and_then(|swarm| swarm.get(address));
        let (before, own) = (peer.map(|peer| peer.owner), peer.is_none_or(|peer| owner.owns(peer)));
        // One more of its source: then one of the others of that goes, if it has too many.
        let joins = before.is_none_or(|before| before.source != owner.source);
        let theirs = swarm.filter(|_| joins).map_or(0, |swarm| swarm.of_source(owner));
        let crowded = joins && (theirs >= self.rules.most_of_source || self.is_full(owner));
        let room = (before.is_some() || self.peers() < self.rules.most) && (theirs > 0 || !crowded);
        let keeps = own && address.port() != 0 && room;
        let mut passer_by = None;
        let entry = match entries.get_mut(&info_hash) {
            Some(entry) => entry,
            None if keeps => entries.entry(info_hash).or_insert_with(|| self.entry()),
            None => passer_by.insert(Entry::default()),
        };
        if entry.swarm.is_empty() {
            entry.born = now;
        }
        let interval = self.interval(entry, left == 0, now, rng);
        if keeps {
            if crowded {
                self.went(entry.swarm.remove_oldest_of(owner));
            }
            let completed = event == Event::Completed;
            entry.swarm.update(Update { address, owner, id, left, completed, now, interval }, rng);
            self.came(before, owner);
            self.changed();
        }
        let wanted = announce.wanted.unwrap_or(self.rules.usual_peers).min(self.rules.most_peers);
        entry.swarm.pick(address, left == 0, wanted, now, out);
        Ok(Answer {
            interval,
            seeders: entry.swarm.seeders(),
            leechers: entry.swarm.leechers(),
            completed: entry.swarm.completed,
            warning,
        })
    }

    /// A torrent without peers.
    fn entry(&self) -> Entry {
        let mut entry = Entry::default();
        entry.swarm.unlimited = self.rules.most_of_source == usize::MAX;
        entry
    }

    /// Whether the source of `owner` announces as many peers as it may in all.
    fn is_full(&self, owner: Owner) -> bool {
        let most = self.rules.most_of_source.saturating_mul(TORRENTS_OF_SOURCE);
        !self.rules.closed && lock(&self.sources).get(&owner.source).is_some_and(|theirs| *theirs as usize >= most)
    }

    /// Whether the peers of the source of `owner` are counted in all.
    fn counts(&self, owner: Owner) -> bool {
        !self.rules.closed && self.rules.most_of_source != usize::MAX && owner.counts()
    }

    /// Counts a peer of `owner`, which was `before`'s.
    fn came(&self, before: Option<Owner>, owner: Owner) {
        match before {
            None => _ = self.peers.fetch_add(1, Ordering::Relaxed),
            Some(before) if before.source == owner.source => return,
            Some(before) => self.uncount(before),
        }
        if self.counts(owner) {
            *lock(&self.sources).entry(owner.source).or_default() += 1;
        }
    }

    /// Counts peers that were removed.
    fn went(&self, peers: impl IntoIterator<Item = Peer>) {
        for peer in peers {
            self.peers.fetch_sub(1, Ordering::Relaxed);
            self.uncount(peer.owner);
        }
    }

    fn uncount(&self, owner: Owner) {
        if !self.counts(owner) {
            return;
        }
        let mut sources = lock(&self.sources);
        if let Some(theirs) = sources.get_mut(&owner.source) {
            *theirs -= 1;
            if *theirs == 0 {
                sources.remove(&owner.source);
            }
        }
    }

    /// The reason why announces of `hash` are refused, if they are.
    pub fn refuses(&self, hash: InfoHash) -> Option<String> {
        match self.shard(hash).entries.get(&hash).and_then(|entry| entry.listing.as_deref()) {
            None if self.rules.closed => Some(NOT_AUTHORIZED.to_owned()),
            Some(Listing { failure: Some(failure), .. }) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Seconds until a peer's next announce: 10 to 30, rising with the number of peers, while there are leechers or
    /// the swarm is young; minutes if there are only seeders; never more than the rules allow. Jittered by up to a
    /// third, so that a room that was switched on together spreads out.
    fn interval(&self, entry: &Entry, seeder: bool, now: u32, rng: &mut Rng) -> u32 {
        let lively = !seeder || entry.swarm.leechers() > 0 || now.saturating_sub(entry.born) < YOUTH;
        let peers = u32::try_from(entry.swarm.len()).unwrap_or(u32::MAX);
        let longest = if lively { 15u32.saturating_add(peers / 20).min(30) } else { 300 };
        let longest = longest.min(self.rules.reannounce).max(1);
        longest - rng.below(u64::from(longest / 3) + 1) as u32
    }

    /// The counts of `hashes`, or of all torrents, without those that are unknown or may not be tracked.
    pub fn scrape(&self, hashes: Option<&[InfoHash]>) -> Vec<Counts> {
        let shown = |entry: &Entry| !self.rules.closed || entry.listing.is_some();
        let counts = |(hash, entry): (&InfoHash, &Entry)| Counts {
            info_hash: *hash,
            seeders: entry.swarm.seeders(),
            leechers: entry.swarm.leechers(),
            completed: entry.swarm.completed,
            listing: entry.listing.clone(),
        };
        let mut all = Vec::new();
        match hashes {
            Some(hashes) => {
                for hash in hashes {
                    let shard = self.shard(*hash);
                    all.extend(shard.entries.get(hash).filter(|entry| shown(entry)).map(|entry| counts((hash, entry))));
                }
            }
            None => {
                for shard in &self.shards {
                    all.extend(locked(shard).entries.iter().filter(|(_, entry)| shown(entry)).map(counts));
                }
            }
        }
        all
    }

    /// The file of a torrent, if it is listed.
    pub fn listing(&self, hash: InfoHash) -> Option<Arc<Listing>> {
        self.shard(hash).entries.get(&hash)?.listing.clone()
    }

    /// The first file that satisfies `is_it`: with the fewest parent directories, then by path.
    pub fn find_listing(&self, is_it: impl Fn(&Listing) -> bool) -> Option<Arc<Listing>> {
        let found = self.shards.iter().flat_map(|shard| {
            let shard = locked(shard);
            let listings = shard.entries.values().filter_map(|entry| entry.listing.clone());
            listings.filter(|listing| is_it(listing)).collect::<Vec<_>>()
        });
        found.min_by_key(|listing| (listing.path.components().count(), listing.path.clone()))
    }

    /// Replaces the list by `listings`. A torrent that is no longer listed keeps its peers until they expire, so that
    /// it finds them again if it is put back.
    pub fn list(&self, listings: &HashMap<InfoHash, Arc<Listing>>) {
        for shard in &self.shards {
            for (hash, entry) in &mut locked(shard).entries {
                entry.listing = listings.get(hash).cloned();
            }
        }
        for (hash, listing) in listings {
            self.list_one(*hash, listing.clone());
        }
        self.changed();
    }

    /// Lists one more torrent.
    pub fn list_one(&self, hash: InfoHash, listing: Arc<Listing>) {
        self.shard(hash).entries.entry(hash).or_insert_with(|| self.entry()).listing = Some(listing);
        self.changed();
    }
}

/// A panic elsewhere must not end the tracker: the books balance at each unlock.
fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    lock(shard)
}

/// Seconds since `time`; 0 if it is in the future.
pub fn age_of(time: SystemTime) -> u32 {
    let age = SystemTime::now().duration_since(time).unwrap_or(Duration::ZERO);
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests;
