//! A session: one port, one peer id, any number of torrents.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::complaints::rationed;
use super::gather::Queue;
use super::limiter::Limiter;
use super::lsd::Discovery;
use super::shared::Shared;
use super::torrent::{Setting, Torrent};
use super::{Log, connection, hasher, spawn, survive, web};
use crate::base::rng::Rng;
use crate::base::sync::lock;
use crate::storage::Storage;
use crate::swarm::{Config, Swarm};
use crate::torrent::{Bitfield, InfoHash, Metainfo, PeerId};

/// Interval of periodic work.
const TICK: Duration = Duration::from_millis(100);
/// Minimum time between two lines about refused connections.
const COMPLAINT: Duration = Duration::from_secs(10);
/// Maximum number of web seeds used for one torrent, as each takes a thread.
const WEB_SEEDS: usize = 4;

/// Settings of a session.
pub struct Options {
    /// Local address to listen on and to dial from.
    pub bind: IpAddr,
    /// Ports to try, in this order.
    pub ports: Vec<u16>,
    /// First bytes of the peer id.
    pub prefix: String,
    /// Maximum number of connections of a torrent.
    pub max_peers: usize,
    /// Limits for sending and receiving, bytes a second; 0: no limit.
    pub limits: (u64, u64),
    /// Whether peers exchange addresses (BEP 11), except for private torrents.
    pub pex: bool,
    /// Whether to look for peers on the local network by multicast (BEP 14), except for private torrents.
    pub lsd: bool,
    /// Time for which a peer may be silent while it owes us blocks. More than the time between two of our keep-alives,
    /// so that a peer that only waits for its turn to send is not dropped.
    pub stalled: Duration,
    /// Settings of each torrent's swarm.
    pub swarm: Config,
    /// Web seeds that may be at loopback and link-local addresses.
    pub near_web_seeds: NearSeeds,
    /// Receives the peers that are dropped, and why.
    pub log: Log,
}

/// Web seeds that may be at loopback and link-local addresses.
#[derive(Clone, Debug)]
pub enum NearSeeds {
    /// Those with these URLs.
    These(Vec<String>),
    /// All.
    All,
}

impl NearSeeds {
    /// Whether the web seed `url` is one of them.
    pub fn include(&self, url: &str) -> bool {
        match self {
            NearSeeds::These(urls) => urls.iter().any(|one| one == url),
            NearSeeds::All => true,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ports: vec![0],
            prefix: concat!("-OG", "0100-").to_owned(),
            max_peers: 100,
            limits: (0, 0),
            pex: true,
            lsd: false,
            stalled: Duration::from_secs(75),
            swarm: Config::default(),
            near_web_seeds: NearSeeds::These(Vec::new()),
            log: Arc::new(|_| {}),
        }
    }
}

/// A running peer. Dropping it ends every connection and thread.
pub struct Session {
    shared: Arc<Shared>,
    hashing: Arc<Queue<Torrent>>,
    listener: Arc<TcpListener>,
    threads: Vec<JoinHandle<()>>,
    options: Options,
    zero: Instant,
}

impl Session {
    /// Starts a session that listens on the first free port.
    ///
    /// # Errors
    /// None of the ports is free, or no thread can be started.
    pub fn start(options: Options) -> io::Result<Session> {
        let options = Options { log: rationed(options.log), ..options };
        let listener = Arc::new(listen(options.bind, &options.ports)?);
        let mut seed = [0; 8];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        let shared = Arc::new(Shared {
            id: peer_id(&options.prefix, u64::from_ne_bytes(seed)),
            port: listener.local_addr()?.port(),
            bind: options.bind,
            up: Limiter::new(options.limits.0),
            down: Limiter::new(options.limits.1),
            stalled: options.stalled,
            fast: AtomicUsize::new(0),
            doorway: Arc::default(),
            log: options.log.clone(),
            torrents: Mutex::default(),
            stop: AtomicBool::new(false),
            nudge: Arc::default(),
        });
        let hashing = Arc::new(Queue::new());
        let (accepting, ticking, queue) = (shared.clone(), shared.clone(), hashing.clone());
        let door = listener.clone();
        let seeking = options.lsd.then(|| options.log.clone());
        let mut session = Session { shared, hashing, listener, threads: Vec::new(), options, zero: Instant::now() };
        session.run("accept", move || accept(&accepting, &door))?;
        session.run("tick", move || tick(&ticking, seeking))?;
        session.run("hash", move || hasher::run(&queue))?;
        Ok(session)
    }

    fn run(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(())
    }

    /// Our peer id.
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// The local address that we listen on and dial from; unspecified: any.
    pub fn address(&self) -> IpAddr {
        self.shared.bind
    }

    /// The port that peers connect to.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// The limits for sending and receiving, bytes a second; 0: no limit.
    pub fn limits(&self) -> (u64, u64) {
        (self.shared.up.rate(), self.shared.down.rate())
    }

    /// Changes the limits for sending and receiving, bytes a second; 0: no limit.
    pub fn set_limits(&self, (up, down): (u64, u64)) {
        self.shared.up.set_rate(up);
        self.shared.down.set_rate(down);
    }

    /// Adds a torrent of which the pieces `have` are verified; missing ones are fetched from its web seeds too.
    pub fn add(&self, metainfo: Metainfo, storage: Storage, have: Bitfield) -> Arc<Torrent> {
        let all = Bitfield::full(metainfo.geometry.pieces());
        self.add_some(metainfo, storage, have, &[all])
    }

    /// Adds a torrent like [`add`](Self::add), but only the pieces of `groups` are wanted, those of an earlier group
    /// first. `storage` needs no room for other pieces.
    pub fn add_some(&self, metainfo: Metainfo, storage: Storage, have: Bitfield, groups: &[Bitfield]) -> Arc<Torrent> {
        let info_hash = metainfo.info_hash;
        let seed = Rng::new(u64::from_be_bytes(*self.shared.id.0.last_chunk().unwrap_or(&[0; 8]))).bits();
        let setting = Setting {
            max_peers: self.options.max_peers,
            bind: self.shared.bind,
            port: self.shared.port,
            pex: self.options.pex,
            seed,
            zero: self.zero,
            hashing: self.hashing.clone(),
            nudge: self.shared.nudge.clone(),
            log: self.options.log.clone(),
        };
        let swarm = Swarm::with_groups(metainfo.geometry, have, groups, self.options.swarm.clone(), seed);
        let torrent = Arc::new(Torrent::new(metainfo, storage, swarm, setting));
        lock(&self.shared.torrents).insert(info_hash, torrent.clone());
        if !torrent.status().whole {
            for url in torrent.metainfo().web_seeds.iter().take(WEB_SEEDS) {
                let (shared, torrent, url) = (self.shared.clone(), torrent.clone(), url.clone());
                let near = self.options.near_web_seeds.include(&url);
                spawn("web seed", &self.shared.log, move || web::run(&shared, &torrent, &url, near));
            }
        }
        torrent
    }

    /// Removes a torrent and ends its connections.
    pub fn remove(&self, info_hash: &InfoHash) {
        if let Some(torrent) = lock(&self.shared.torrents).remove(info_hash) {
            torrent.close();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes accept(2), which then fails.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.hashing.stop();
        for torrent in lock(&self.shared.torrents).drain().map(|(_, torrent)| torrent) {
            torrent.close();
        }
        for thread in self.threads.drain(..) {
            // A panic has been reported already.
            let _ = thread.join();
        }
    }
}

fn listen(bind: IpAddr, ports: &[u16]) -> io::Result<TcpListener> {
    let mut last = io::Error::other("no port to listen on was given");
    for port in ports {
        match crate::sys::net::listen(SocketAddr::new(bind, *port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn peer_id(prefix: &str, seed: u64) -> PeerId {
    const SYMBOLS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rng = Rng::new(seed);
    let mut id = PeerId([0; 20]);
    id.0.iter_mut().for_each(|byte| *byte = SYMBOLS[rng.below(SYMBOLS.len() as u64) as usize]);
    let prefix = &prefix.as_bytes()[..prefix.len().min(20)];
    id.0[..prefix.len()].copy_from_slice(prefix);
    id
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut said = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((stream, address)) = listener.accept() else {
            // Out of descriptors, or the session ends: trying again at once helps in neither case.
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let Some(guest) = shared.doorway.enter(address.ip(), &stream) else {
            let _ = stream.shutdown(Shutdown::Both);
            if said.is_none_or(|said: Instant| said.elapsed() > COMPLAINT) {
                said = Some(Instant::now());
                (shared.log)(&format!("{address}: refused: too many connections have not finished their handshake"));
            }
            continue;
        };
        let answering = shared.clone();
        spawn("peer", &shared.log, move || connection::answer(&answering, stream, address, guest));
    }
}

/// Does periodic work. With `seeking`, looks for peers on the local network and logs there why that fails.
fn tick(shared: &Arc<Shared>, seeking: Option<Log>) {
    let zero = Instant::now();
    let complain = |error: io::Error| {
        if let Some(log) = seeking.as_ref().filter(|_| !has_no_multicast(&error)) {
            log(&format!("look for peers on the local network: {error}"));
        }
    };
    let cookie = u64::from_be_bytes(*shared.id.0.last_chunk().unwrap_or(&[0; 8]));
    let open = || Discovery::open(shared.bind, shared.port, cookie).map_err(complain).ok();
    let mut discovery = seeking.as_ref().and_then(|_| open());
    let mut torrents: Vec<Arc<Torrent>> = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        torrents.extend(lock(&shared.torrents).values().cloned());
        if let Some(seeker) = &mut discovery {
            match survive("look for peers", &shared.log, || seek(seeker, zero.elapsed(), &torrents)) {
                Some(Ok(())) => {}
                Some(Err(error)) => complain(error),
                None => discovery = None,
            }
        }
        for torrent in torrents.drain(..) {
            while let Some(address) = next_dial(shared, &torrent) {
                let (dialling, dialled) = (shared.clone(), torrent.clone());
                spawn("peer", &shared.log, move || connection::dial(&dialling, &dialled, address));
            }
        }
        shared.nudge.pause(TICK);
    }
}

/// Whether `error` says that no network here takes multicast, as on a PC without a default route: that is no news.
fn has_no_multicast(error: &io::Error) -> bool {
    let none = [Errno::NODEV, Errno::NETUNREACH, Errno::NETDOWN];
    none.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Announces the public torrents on the local network and adds peers found there.
fn seek(discovery: &mut Discovery, now: Duration, torrents: &[Arc<Torrent>]) -> io::Result<()> {
    let public = || torrents.iter().filter(|torrent| !torrent.metainfo().private);
    let info_hashes: Vec<InfoHash> = public().map(|torrent| torrent.info_hash()).collect();
    discovery.turn(now, &info_hashes, |info_hash, address| {
        if let Some(torrent) = public().find(|torrent| torrent.info_hash() == info_hash) {
            torrent.add_addresses(&[address]);
        }
    })
}

/// Takes a torrent's turn and returns an address to dial. A torrent that panics is given up, for it would do so at each
/// turn.
fn next_dial(shared: &Shared, torrent: &Arc<Torrent>) -> Option<SocketAddr> {
    survive("look after a torrent", &shared.log, || torrent.tick()).unwrap_or_else(|| {
        lock(&shared.torrents).remove(&torrent.info_hash());
        torrent.fail(format!("{}: given up after a panic", torrent.name()));
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_multicast_is_no_news_and_other_failures_are() {
        let is_silent = |errno: Errno| has_no_multicast(&errno.into());
        assert!([Errno::NODEV, Errno::NETUNREACH, Errno::NETDOWN].into_iter().all(is_silent));
        assert!(![Errno::ADDRINUSE, Errno::PERM, Errno::NOBUFS].into_iter().any(is_silent));
    }
}
