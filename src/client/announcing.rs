//! Announces the torrents of a session and gives it the peers that trackers name: the shell around [`Announcer`], one
//! thread for all torrents.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::base::boundary::guard;
use crate::base::sync::{lock, unpoisoned};
use crate::peer::{Log, Session, Torrent};
use crate::torrent::PeerId;
use crate::tracker::announcer::Announcer;
use crate::tracker::client::{AnnounceReply, AnnounceRequest, Client, Error, Event};

/// Time for a tracker to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a torrent's last announce, when the process is expected to end.
const PARTING: Duration = Duration::from_secs(2);
/// Time for all last announces together: a tracker that is gone must not cost its time-out for each of hundreds of
/// torrents while a daemon is being stopped.
const FAREWELL: Duration = Duration::from_secs(5);
/// How soon a change of a torrent's state is noticed.
const LOOK: Duration = Duration::from_millis(200);
/// A leecher with fewer connections than this asks for more peers early, however few it is set to want.
const FEW: usize = 5;

/// The outcome of a torrent's announces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Peers that have everything, as the tracker counts them.
    pub complete: Option<u32>,
    /// Peers that lack something, as the tracker counts them.
    pub incomplete: Option<u32>,
    /// Announces that have failed since the last success.
    pub failures: u32,
    /// Announces that were answered.
    pub answers: u32,
    /// Whether a tracker refused the last one.
    pub refused: bool,
}

struct Entry {
    torrent: Arc<Torrent>,
    announcer: Announcer,
    announced: Announced,
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
    /// The address to announce instead of the one that the tracker sees.
    ip: Option<String>,
}

struct Shared {
    entries: Mutex<Vec<Entry>>,
    wake: Condvar,
    ending: AtomicBool,
    /// Connections below which a leecher asks for more peers early.
    few: AtomicUsize,
    zero: Instant,
    us: Us,
    log: Log,
}

/// The announcing thread; dropping it announces every torrent's end.
pub struct Announcing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Announcing {
    /// Starts to announce for `session` as `user_agent`, asking for `numwant` peers; `log` takes trackers' complaints.
    pub fn start(session: &Session, user_agent: &str, numwant: u32, ip: Option<String>, log: Log) -> Announcing {
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

    /// Returns the connections below which leechers ask for more peers early.
    pub fn wanted(&self) -> usize {
        self.shared.few.load(Ordering::Relaxed)
    }

    /// Has leechers with fewer connections than `peers` ask for more early; fewer than five do in any case.
    pub fn want_at_least(&self, peers: usize) {
        self.shared.few.store(peers.max(FEW), Ordering::Relaxed);
    }

    /// Announces `torrent` from now on, at the trackers of `tiers` (BEP 12).
    pub fn add(&self, torrent: Arc<Torrent>, tiers: Vec<Vec<String>>) {
        let seed = u64::from(self.shared.us.key);
        let announcer = Announcer::new(tiers, seed, torrent.status().lacks == 0);
        lock(&self.shared.entries).push(Entry { torrent, announcer, announced: Announced::default(), removed: false });
        self.shared.wake.notify_all();
    }

    /// Announces that `torrent` has ended, then forgets it.
    pub fn remove(&self, torrent: &Arc<Torrent>) {
        for entry in lock(&self.shared.entries).iter_mut().filter(|entry| Arc::ptr_eq(&entry.torrent, torrent)) {
            entry.announcer.stop();
            entry.removed = true;
        }
        self.shared.wake.notify_all();
    }

    /// Asks the trackers of `torrent` early how many peers lack something, ever later while the answer stays the same.
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

    /// Returns the outcome of `torrent`'s last announces.
    pub fn announced(&self, torrent: &Arc<Torrent>) -> Announced {
        let entries = lock(&self.shared.entries);
        let entry = entries.iter().find(|entry| Arc::ptr_eq(&entry.torrent, torrent));
        entry.map_or_else(Announced::default, |entry| entry.announced.clone())
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
            drop(unpoisoned(shared.wake.wait_timeout(entries, LOOK)));
            continue;
        };
        drop(entries);
        let request = request(shared, &torrent, announce.event, announce.tracker_id);
        let client = if announce.event == Event::Stopped { &parting } else { &patient };
        let reply = guard("read its answer", || client.announce(&announce.url, &request));
        let reply = reply.unwrap_or_else(|panicked| {
            (shared.log)(&format!("**error** {}: {panicked}", announce.url));
            Err(Error::Transport { url: announce.url.clone(), why: panicked.to_string() })
        });
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

fn take_in(entry: &mut Entry, now: u64, reply: Result<AnnounceReply, Error>, log: &Log) {
    match reply {
        Ok(reply) => {
            if let Some(ip) = reply.external_ip {
                entry.torrent.seen_as(ip);
            }
            entry.torrent.add_addresses(&reply.peers);
            entry.announced = Announced {
                complete: reply.complete,
                incomplete: reply.incomplete,
                failures: 0,
                answers: entry.announced.answers + 1,
                refused: false,
            };
            if let Some(warning) = &reply.warning {
                log(&format!("TRACKER WARNING: {warning}"));
            }
            entry.announcer.succeeded(now, &reply);
        }
        Err(error) => {
            entry.announced.failures += 1;
            entry.announced.refused = matches!(error, Error::Refused { .. });
            match &error {
                Error::Refused { reason, .. } => log(&format!("TRACKER FAILURE REASON: {reason}")),
                // A tracker that is down is asked again and again; once is enough to say it.
                error if entry.announced.failures == 1 => log(&format!("warn, {error}")),
                _ => {}
            }
            entry.announcer.failed(now, &error);
        }
    }
}
