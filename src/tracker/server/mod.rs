//! The server side: a tracker that replaces BitTornado's or BitTorrent 3.4.2's `bttrack`.
//!
//! [`http`], [`announce`] and [`super::udp`] parse requests; [`swarm`] and [`store`] decide, pure except for a mutex;
//! [`service`] makes the replies; [`worker`]s are threads that wait on sockets. Closed by default: only torrents that
//! [`allowed`] lists are tracked.
//!
//! Not supported, unlike in the namesakes: connecting back to peers (nat_check), exchange with other trackers
//! (multitracker, aggregator), gzip.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt};

pub mod allowed;
pub mod announce;
pub mod config;
pub mod dfile;
pub mod form;
pub mod http;
pub mod log;
pub mod names;
pub mod page;
pub mod pages;
pub mod peer;
pub mod publish;
pub mod ranges;
pub mod ration;
pub mod service;
pub mod status;
pub mod store;
pub mod swarm;
pub mod words;
pub mod worker;

use self::allowed::{Allowed, directory_of};
use self::config::Config;
use self::dfile::Loaded;
use self::ranges::ListFile;
use self::service::{Service, Which};
use self::worker::{Shared, Worker};
use super::Error;
use crate::base::boundary::{Panicked, guard};
use crate::base::log::{self as daemon, Log};
use crate::sys::limits::descriptors;
use crate::sys::priority::be_modest;
use crate::sys::watch::Watch;

/// Most connections waiting to be accepted; the kernel's somaxconn may lower it.
const BACKLOG: i32 = 4096;
/// Seconds that a connection without data is kept from us (TCP_DEFER_ACCEPT).
const DEFER: i32 = 3;
/// Send buffer of a connection, bytes; the kernel doubles it for its own needs.
const SEND_BUFFER: usize = 128 << 10;
/// Period of the housekeeping loop.
const TICK: Duration = Duration::from_millis(100);
/// Time between two searches for peers silent for too long.
const EXPIRY: Duration = Duration::from_secs(5);
/// Most time between two attempts to read a missing directory.
const MISSING: Duration = Duration::from_secs(1);
/// Pause after a panic of a thread that goes on.
const RECOVERY: Duration = Duration::from_secs(1);
/// Least time between two scans of the list's source, however much changes there.
const LOOK: Duration = Duration::from_millis(100);

/// A listening tracker.
pub struct Server {
    shared: Arc<Shared>,
    allowed: Option<Allowed>,
    lists: Vec<(Which, ListFile)>,
    saved: u32,
}

impl Server {
    /// Listens, opens the log, reads the state and the list of torrents. No request is answered yet.
    ///
    /// # Errors
    /// A port or the log cannot be opened.
    pub fn new(config: Config) -> Result<Server, Error> {
        let local = |doing: String| move |error: io::Error| Error::Local { doing, why: error.to_string() };
        let (mut listeners, mut datagrams) = (Vec::new(), Vec::new());
        for address in &config.listen {
            let listener = listen_at(*address).map_err(local(format!("listen on {address}")))?;
            if config.udp {
                let address = bound(&listener).map_err(local(format!("listen on {address}")))?;
                datagrams.push(datagrams_at(address).map_err(local(format!("listen on {address}/udp")))?);
            }
            listeners.push(listener);
        }
        let path = config.logfile.as_deref();
        let name = path.unwrap_or("standard output".as_ref()).display();
        let log = Log::open(path).map_err(local(format!("open log file {name}")))?;
        config.notice.iter().for_each(|line| log.note(line));
        let workers = config.workers.max(1);
        let most_connections = (descriptors(config.most_connections) / workers).max(1);
        let mut allowed = config.source.clone().map(Allowed::new);
        let files = [(Which::Allowed, &config.allowed_ips), (Which::Banned, &config.banned_ips)];
        let files = files.into_iter().filter_map(|(which, path)| Some((which, ListFile::new(path.as_deref()?))));
        let mut lists: Vec<(Which, ListFile)> = files.collect();
        let service = Service::new(config, log);
        let (store, log, dfile) = (&service.store, &service.log, &service.config.dfile);
        // The list comes first, so that the state's peers find their torrents.
        if let Some(allowed) = &mut allowed {
            apply(allowed.look(), &service);
        }
        look_at_lists(&mut lists, &service);
        match dfile::load(dfile, store) {
            Ok(Loaded::Absent | Loaded::Peers(_)) => {}
            Ok(Loaded::SetAside(aside)) => log.note(&format!(
                "**warning** statefile {} corrupt; resetting (it is now {})",
                dfile.display(),
                aside.display()
            )),
            Err(error) => log.note(&format!("**warning** statefile {} unreadable: {error}", dfile.display())),
        }
        let saved = store.version();
        let ending = AtomicBool::new(false);
        Ok(Server {
            shared: Arc::new(Shared {
                service,
                listeners,
                datagrams,
                pending: AtomicUsize::new(0),
                ending,
                most_connections,
            }),
            allowed,
            lists,
            saved,
        })
    }

    /// The addresses that it listens on.
    ///
    /// # Errors
    /// The error of getsockname(2).
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.shared.listeners.iter().map(bound).collect()
    }

    /// Answers requests until `ending`, then saves the state; on `hangup` it reopens the log.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn run(mut self, ending: &dyn Fn() -> bool, hangup: &dyn Fn() -> bool) -> Result<(), Error> {
        let local = |doing: &str| {
            let doing = doing.to_owned();
            move |error: io::Error| Error::Local { doing, why: error.to_string() }
        };
        let shared = self.shared.clone();
        let (allowed, lists) = (self.allowed.take(), std::mem::take(&mut self.lists));
        let ended = thread::scope(|threads| {
            let start = |name: &str| thread::Builder::new().name(name.into()).stack_size(256 << 10);
            let begun = (|| {
                let workers = shared.service.config.workers.max(1);
                for at in 0..workers {
                    // Half of them read datagrams, so that a flood of these leaves threads for connections.
                    let mut worker =
                        Worker::new(&shared, at < workers.div_ceil(2)).map_err(local("wait for connections"))?;
                    let log = &shared.service.log;
                    let run = move || {
                        loop {
                            match guard("wait for requests", || worker.run()) {
                                Ok(Ok(())) => return,
                                Ok(Err(error)) => return log.note(&format!("**warning** a thread gives up: {error}")),
                                Err(panicked) => survive(&panicked, log),
                            }
                        }
                    };
                    start("worker").spawn_scoped(threads, run).map_err(local("start a thread"))?;
                }
                let render = || {
                    // A page of hundreds of thousands of peers takes a second; announces go first.
                    be_modest();
                    while !shared.ending.load(Ordering::Relaxed) {
                        shared.service.render_next(TICK);
                    }
                };
                start("pages").spawn_scoped(threads, render).map_err(local("start a thread"))?;
                if allowed.is_some() || !lists.is_empty() {
                    let look = || keep_looking(allowed, lists, &shared);
                    start("allowed").spawn_scoped(threads, look).map_err(local("start a thread"))?;
                }
                if let Some(path) = &shared.service.config.resolv_conf {
                    let ask = || {
                        while !shared.ending.load(Ordering::Relaxed) {
                            match guard("ask for a name", || shared.service.names.ask_next(path)) {
                                Ok(true) => {}
                                Ok(false) => thread::sleep(TICK),
                                Err(panicked) => survive(&panicked, &shared.service.log),
                            }
                        }
                    };
                    start("names").spawn_scoped(threads, ask).map_err(local("start a thread"))?;
                }
                Ok(())
            })();
            if begun.is_ok() {
                self.keep_house(ending, hangup);
            }
            shared.ending.store(true, Ordering::Relaxed);
            begun
        });
        self.save();
        let log = &self.shared.service.log;
        log.note(&daemon::shutting_down());
        log.flush();
        ended
    }

    fn keep_house(&mut self, ending: &dyn Fn() -> bool, hangup: &dyn Fn() -> bool) {
        let begin = Instant::now();
        let (mut saved, mut flushed, mut expired) = (begin, begin, begin);
        while !ending() {
            thread::sleep(TICK);
            let now = Instant::now();
            let due = |last: &mut Instant, interval: Duration| {
                let due = now.duration_since(*last) >= interval;
                if due {
                    *last = now;
                }
                due
            };
            let shared = self.shared.clone();
            let service = &shared.service;
            let kept = guard("keep house", || {
                if hangup() {
                    service.log.reopen();
                }
                if due(&mut flushed, service.config.flush_interval) {
                    service.log.flush();
                }
                let now = service.store.now();
                if due(&mut expired, EXPIRY) {
                    service.store.expire(now);
                }
                service.store.make_room(now);
                if due(&mut saved, service.config.save_interval) {
                    self.save();
                }
            });
            if let Err(panicked) = kept {
                survive(&panicked, &service.log);
            }
        }
    }

    /// Saves the state if it has changed.
    fn save(&mut self) {
        let Service { store, config, log, .. } = &self.shared.service;
        let version = store.version();
        if version == self.saved {
            return;
        }
        match dfile::save(&dfile::encode(store), &config.dfile) {
            Ok(()) => self.saved = version,
            Err(error) => log.note(&format!("**warning** save statefile {}: {error}", config.dfile.display())),
        }
    }
}

/// Scans the list's source and the IP lists whenever they change, and at intervals.
fn keep_looking(mut allowed: Option<Allowed>, mut lists: Vec<(Which, ListFile)>, shared: &Shared) {
    let service = &shared.service;
    let mut watch = Watch::new(false)
        .inspect_err(|error| service.log.note(&format!("**warning** directories are not watched: {error}")))
        .ok();
    let mut last = None;
    let mut rescan = service.config.rescan;
    while !shared.ending.load(Ordering::Relaxed) {
        let overdue = last.is_none_or(|last: Instant| last.elapsed() >= rescan);
        let told = match &mut watch {
            Some(watch) if !overdue => watch.wait(TICK),
            Some(_) => true,
            None => {
                thread::sleep(TICK);
                false
            }
        };
        if !told && !overdue {
            continue;
        }
        last = Some(Instant::now());
        match guard("look at what may be tracked", || look(&mut allowed, &mut lists, &mut watch, service)) {
            Ok(next) => rescan = next,
            Err(panicked) => survive(&panicked, &service.log),
        }
        thread::sleep(LOOK);
    }
}

/// Looks at what may be tracked and puts it in force; returns the time after which to look again unasked.
fn look(
    allowed: &mut Option<Allowed>,
    lists: &mut [(Which, ListFile)],
    watch: &mut Option<Watch>,
    service: &Service,
) -> Duration {
    loop {
        let mut rescan = service.config.rescan;
        look_at_lists(lists, service);
        let mut directories: Vec<PathBuf> = lists.iter().map(|(_, file)| directory_of(file.path())).collect();
        if let Some(allowed) = allowed {
            let change = allowed.look();
            // Nothing is there to be watched: nobody will report that it is back.
            if change.directories.is_empty() {
                rescan = rescan.min(MISSING);
            }
            directories.extend_from_slice(&change.directories);
            apply(change, service);
        }
        // A second scan finds files that came into a directory before it was watched.
        if !watch.as_mut().is_some_and(|watch| watch.only(&directories)) {
            return rescan;
        }
    }
}

/// Logs a panic, and waits a moment, lest one that comes at every turn fill the log.
fn survive(panicked: &Panicked, log: &Log) {
    log.note(&format!("**error** {panicked}"));
    thread::sleep(RECOVERY);
}

fn look_at_lists(lists: &mut [(Which, ListFile)], service: &Service) {
    for (which, file) in lists {
        if let Some(ranges) = file.look(&|line| service.log.note(line)) {
            service.set_list(*which, ranges);
        }
    }
}

fn apply(change: allowed::Change, service: &Service) {
    change.lines.iter().for_each(|line| service.log.note(line));
    if let Some(listings) = change.listings {
        service.store.list(&listings);
    }
}

fn listen_at(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    // Accepted connections inherit this.
    sockopt::set_tcp_nodelay(&socket, true)?;
    // By default the kernel buffers megabytes for a client that does not read.
    sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
    crate::sys::tcp::defer_accept(&socket, DEFER)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn datagrams_at(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // A whole room starting at once must not be dropped; the kernel's rmem_max may lower it.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, 1 << 20);
    bind(&socket, &address)?;
    Ok(socket.into())
}

fn bound(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?)
}

#[cfg(test)]
mod tests;
