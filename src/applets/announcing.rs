//! Tells trackers of the torrents of a session and the session of the peers they name: the shell around
//! [`Announcer`], one thread for all torrents.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::peer::{Session, Torrent};
use crate::torrent::PeerId;
use crate::tracker::announcer::Announcer;
use crate::tracker::client::{AnnounceReply, AnnounceRequest, Client, Error, Event};

/// Time for a tracker to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the last announce, when somebody waits for the process to end.
const PARTING: Duration = Duration::from_secs(2);
/// Time for all last announces together, as whoever stops a daemon has little patience: a tracker that is gone must not
/// cost it for each of hundreds of torrents.
const FAREWELL: Duration = Duration::from_secs(5);
/// How soon a change of a torrent's state is noticed.
const LOOK: Duration = Duration::from_millis(200);
/// A leecher with fewer connections than this asks for more peers early, whatever is said of how many it wants.
const FEW: usize = 5;

/// Tells standard error a line, from any thread: of peers that were dropped, of trackers that refuse.
pub fn complain(line: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// What the last announce of a torrent gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Peers that have everything, as far as the tracker says.
    pub complete: Option<u32>,
    /// Peers that lack something.
    pub incomplete: Option<u32>,
    /// Announces that failed since the last that did not.
    pub failures: u32,
    /// Announces that were answered.
    pub answers: u32,
}

struct Entry {
    torrent: Arc<Torrent>,
    announcer: Announcer,
    told: Told,
    removed: bool,
}

#[derive(Clone)]
struct Us {
    peer_id: PeerId,
    /// The local address that trackers are asked from.
    address: IpAddr,
    port: u16,
    key: u32,
    numwant: u32,
    /// The address to be announced instead of the one the tracker sees.
    ip: Option<String>,
}

struct Shared {
    entries: Mutex<Vec<Entry>>,
    wake: Condvar,
    ending: AtomicBool,
    /// A leecher with fewer connections asks for more peers early.
    few: AtomicUsize,
    zero: Instant,
    us: Us,
    log: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The announcing thread; ending it tells every tracker that we are gone.
pub struct Announcing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Announcing {
    /// Announces for `session` as `user_agent`, asking for `numwant` peers; `log` gets what trackers complain of.
    pub fn start(
        session: &Session,
        user_agent: &str,
        numwant: u32,
        ip: Option<String>,
        log: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Announcing {
        let peer_id = session.id();
        let key = u32::from_be_bytes(*peer_id.0.last_chunk().unwrap_or(&[0; 4]));
        let us = Us { peer_id, address: session.address(), port: session.port(), key, numwant, ip };
        let shared = Arc::new(Shared {
            entries: Mutex::default(),
            wake: Condvar::new(),
            ending: AtomicBool::new(false),
            few: AtomicUsize::new(FEW),
            zero: Instant::now(),
            us,
            log,
        });
        let (theirs, user_agent) = (shared.clone(), user_agent.to_owned());
        let thread = thread::Builder::new().name("announce".to_owned()).spawn(move || run(&theirs, &user_agent)).ok();
        Announcing { shared, thread }
    }

    /// The least number of connections that leechers do not ask for more with.
    pub fn wanted(&self) -> usize {
        self.shared.few.load(Ordering::Relaxed)
    }

    /// Leechers that have fewer connections than `peers` ask for more early; fewer than five do in any case.
    pub fn want_at_least(&self, peers: usize) {
        self.shared.few.store(peers.max(FEW), Ordering::Relaxed);
    }

    /// Announces `torrent` from now on, at the trackers of `tiers` (BEP 12).
    pub fn add(&self, torrent: Arc<Torrent>, tiers: Vec<Vec<String>>) {
        let seed = u64::from(self.shared.us.key);
        let announcer = Announcer::new(tiers, seed, torrent.status().lacks == 0);
        lock(&self.shared.entries).push(Entry { torrent, announcer, told: Told::default(), removed: false });
        self.shared.wake.notify_all();
    }

    /// Tells the trackers that `torrent` is gone, then forgets it.
    pub fn remove(&self, torrent: &Arc<Torrent>) {
        for entry in lock(&self.shared.entries).iter_mut().filter(|entry| Arc::ptr_eq(&entry.torrent, torrent)) {
            entry.announcer.stop();
            entry.removed = true;
        }
        self.shared.wake.notify_all();
    }

    /// Asks the trackers of `torrent` early how many lack something: each time later, while the answer stays the same.
    pub fn count_again(&self, torrent: &Arc<Torrent>) {
        self.each_announcer(torrent, Announcer::want_peers);
    }

    /// Announces `torrent` as soon as its trackers allow; `anew`: as if it had only just been started.
    pub fn hurry(&self, torrent: &Arc<Torrent>, anew: bool) {
        self.each_announcer(torrent, |announcer| announcer.hurry(anew));
    }

    fn each_announcer(&self, torrent: &Arc<Torrent>, what: impl Fn(&mut Announcer)) {
        let mut entries = lock(&self.shared.entries);
        let theirs = entries.iter_mut().filter(|entry| Arc::ptr_eq(&entry.torrent, torrent));
        theirs.for_each(|entry| what(&mut entry.announcer));
    }

    /// What the trackers said of `torrent` last.
    pub fn told(&self, torrent: &Arc<Torrent>) -> Told {
        let entries = lock(&self.shared.entries);
        let entry = entries.iter().find(|entry| Arc::ptr_eq(&entry.torrent, torrent));
        entry.map_or_else(Told::default, |entry| entry.told.clone())
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        lock(&self.shared.entries).iter_mut().for_each(|entry| entry.announcer.stop());
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn lock(entries: &Mutex<Vec<Entry>>) -> MutexGuard<'_, Vec<Entry>> {
    entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn run(shared: &Shared, user_agent: &str) {
    let patient = Client::new(user_agent, shared.us.address, PATIENCE);
    let parting = Client::new(user_agent, shared.us.address, PARTING);
    let mut end = None;
    loop {
        let ending = shared.ending.load(Ordering::Relaxed);
        if ending && end.get_or_insert_with(Instant::now).elapsed() >= FAREWELL {
            return;
        }
        let mut entries = lock(&shared.entries);
        entries.retain(|entry| !(entry.removed && entry.announcer.finished()));
        if ending && entries.iter().all(|entry| entry.announcer.finished()) {
            return;
        }
        let (now, few) = (shared.zero.elapsed().as_millis() as u64, shared.few.load(Ordering::Relaxed));
        entries.iter_mut().filter(|entry| !entry.removed && !ending).for_each(|entry| review(entry, now, few));
        let due = entries
            .iter_mut()
            .find_map(|entry| entry.announcer.due(now).map(|announce| (entry.torrent.clone(), announce)));
        let Some((torrent, announce)) = due else {
            drop(shared.wake.wait_timeout(entries, LOOK));
            continue;
        };
        drop(entries);
        let request = request(shared, &torrent, announce.event, announce.tracker_id);
        let client = if announce.event == Event::Stopped { &parting } else { &patient };
        let reply = client.announce(&announce.url, &request);
        let now = shared.zero.elapsed().as_millis() as u64;
        let mut entries = lock(&shared.entries);
        if let Some(entry) = entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.torrent, &torrent)) {
            take_in(entry, now, reply, &shared.log);
        }
    }
}

fn review(entry: &mut Entry, now: u64, few: usize) {
    let status = entry.torrent.status();
    if status.lacks == 0 {
        entry.announcer.completed(now);
    } else if !status.whole && status.peers.0 + status.peers.1 + status.spare < few {
        entry.announcer.want_peers();
    } else {
        entry.announcer.has_peers();
    }
}

fn request(shared: &Shared, torrent: &Torrent, event: Event, tracker_id: Option<Vec<u8>>) -> AnnounceRequest {
    let status = torrent.status();
    AnnounceRequest {
        info_hash: torrent.info_hash(),
        peer_id: shared.us.peer_id,
        port: shared.us.port,
        uploaded: status.totals.uploaded,
        downloaded: status.totals.downloaded,
        left: status.lacks,
        event,
        numwant: shared.us.numwant,
        key: shared.us.key,
        ip: shared.us.ip.clone(),
        tracker_id,
    }
}

fn take_in(entry: &mut Entry, now: u64, reply: Result<AnnounceReply, Error>, log: &Arc<dyn Fn(&str) + Send + Sync>) {
    match reply {
        Ok(reply) => {
            if let Some(ip) = reply.external_ip {
                entry.torrent.seen_as(ip);
            }
            entry.torrent.add_addresses(&reply.peers);
            entry.told = Told {
                complete: reply.complete,
                incomplete: reply.incomplete,
                failures: 0,
                answers: entry.told.answers + 1,
            };
            if let Some(warning) = &reply.warning {
                log(&format!("TRACKER WARNING: {warning}"));
            }
            entry.announcer.succeeded(now, &reply);
        }
        Err(error) => {
            entry.told.failures += 1;
            match &error {
                Error::Refused { reason, .. } => log(&format!("TRACKER FAILURE REASON: {reason}")),
                // A tracker that is down is asked again and again; once is enough to say it.
                error if entry.told.failures == 1 => log(&format!("warn, {error}")),
                _ => {}
            }
            entry.announcer.failed(now, &error);
        }
    }
}
