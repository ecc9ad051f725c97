//! `btlaunchmany DIR`: seeds every torrent of a directory and its subdirectories, BitTornado's save-as style 1:
//! the data of `X.img.torrent` is `X.img` beside it.
//!
//! Data is believed while it is what was verified: the same inode, size and mtime. It never writes into the
//! directory and never downloads.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::announcing::{Announcing, complain};
use super::options::{Grammar, Parsed, parse};
use super::{Exit, Failure, Io, Outcome};
use crate::peer::{Options, Session, Torrent};
use crate::storage::{Storage, check};
use crate::swarm::Config;
use crate::sys::rng::Rng;
use crate::sys::signal::Signals;
use crate::sys::sort::sort;
use crate::torrent::{Bitfield, Metainfo};

/// Seed every torrent of a directory.
#[derive(FromArgs)]
struct LaunchMany {
    /// seconds between two looks at the directory at the most (it is looked at every second) [60]
    #[argh(option, default = "60")]
    parse_dir_interval: u64,
    /// lowest port to listen on
    #[argh(option, default = "10000")]
    minport: u16,
    /// highest port to listen on
    #[argh(option, default = "60000")]
    maxport: u16,
    /// try the ports in random order (1) or from the lowest (0)
    #[argh(option, default = "1")]
    random_port: u8,
    /// local address to listen on
    #[argh(option, default = "IpAddr::V4(Ipv4Addr::UNSPECIFIED)")]
    bind: IpAddr,
    /// send at most this many KiB a second; 0: no limit
    #[argh(option, default = "0")]
    max_upload_rate: u64,
    /// look for peers on the local network by multicast; the default
    #[argh(switch, long = "lsd")]
    _lsd: bool,
    /// do not
    #[argh(switch)]
    no_lsd: bool,
    /// directory of the .torrent files
    #[argh(positional)]
    directory: PathBuf,
}

const GRAMMAR: Grammar = Grammar {
    valued: "",
    valued_long: &["parse-dir-interval", "minport", "maxport", "random-port", "bind", "max-upload-rate"],
    repeated: &[],
    usage_code: 1,
};
/// Pause between two looks at the directory.
const LOOK: Duration = Duration::from_secs(1);
/// How deep subdirectories are followed.
const DEPTH: usize = 8;
/// Connections that one torrent may have.
const MAX_PEERS: usize = 500;

/// Runs the seeder until a signal ends it.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let options: LaunchMany = match parse("btlaunchmany", &GRAMMAR, args, io)? {
        Parsed::Run(options) => options,
        Parsed::Done(exit) => return Ok(exit),
    };
    if !options.directory.is_dir() {
        return Err(Failure::new(1, format!("{}: not a directory", options.directory.display())));
    }
    let signals = Signals::catch_ends()?;
    let session = start(&options).map_err(|e| Failure::new(1, format!("listen on {}: {e}", options.bind)))?;
    let log: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(complain);
    // Bound to one of several addresses, that is where it can be reached.
    let ip = (!options.bind.is_unspecified()).then(|| options.bind.to_string());
    let announcing = Announcing::start(&session, concat!("ogbox/", env!("CARGO_PKG_VERSION")), 50, ip, log);
    let mut seeder = Seeder { session: &session, announcing: &announcing, signals: &signals, known: HashMap::new() };
    while !signals.ending() {
        let begin = Instant::now();
        seeder.look(&options.directory, io)?;
        signals.sleep(LOOK.min(Duration::from_secs(options.parse_dir_interval.max(1))).saturating_sub(begin.elapsed()));
    }
    writeln!(io.out, "shutting down")?;
    for (path, torrent) in seeder.seeding() {
        writeln!(io.out, "{}: uploaded {} bytes", path.display(), torrent.status().totals.uploaded)?;
    }
    Ok(Exit::OK)
}

fn start(options: &LaunchMany) -> std::io::Result<Session> {
    let mut ports: Vec<u16> = (options.minport..=options.maxport.max(options.minport)).collect();
    if options.random_port != 0 {
        Rng::new(u64::from(std::process::id())).shuffle(&mut ports);
    }
    Session::start(Options {
        bind: options.bind,
        ports,
        max_peers: MAX_PEERS,
        limits: (options.max_upload_rate << 10, 0),
        lsd: !options.no_lsd,
        swarm: Config::default(),
        log: Arc::new(complain),
        ..Options::default()
    })
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// A torrent file and its data as they were when last looked at.
struct Known {
    stamps: (Option<Stamp>, Option<Stamp>),
    torrent: Option<Arc<Torrent>>,
}

struct Seeder<'a> {
    session: &'a Session,
    announcing: &'a Announcing,
    signals: &'a Signals,
    known: HashMap<PathBuf, Known>,
}

impl Seeder<'_> {
    /// Drops what is gone or changed, then adds what is new.
    fn look(&mut self, directory: &Path, io: &mut Io) -> Result<(), Failure> {
        let found: HashSet<PathBuf> = torrents_below(directory).into_iter().collect();
        let stale = |path: &PathBuf, known: &Known| !found.contains(path) || known.stamps != stamps(path);
        let gone: Vec<PathBuf> =
            self.known.iter().filter(|(path, known)| stale(path, known)).map(|(path, _)| path.clone()).collect();
        for path in gone {
            if let Some(torrent) = self.known.remove(&path).and_then(|known| known.torrent) {
                self.announcing.remove(&torrent);
                self.session.remove(&torrent.info_hash());
                writeln!(io.out, "{}: uploaded {} bytes", path.display(), torrent.status().totals.uploaded)?;
                writeln!(io.out, "dropped \"{}\"", path.display())?;
            }
        }
        let mut new: Vec<PathBuf> = found.into_iter().filter(|path| !self.known.contains_key(path)).collect();
        sort(&mut new);
        for path in new {
            if self.signals.ending() {
                break;
            }
            let stamps = stamps(&path);
            let torrent = match self.add(&path) {
                Ok(torrent) => {
                    writeln!(io.out, "added \"{}\"", path.display())?;
                    Some(torrent)
                }
                Err(why) => {
                    writeln!(io.err, "{}: not seeded: {why}", path.display())?;
                    None
                }
            };
            io.out.flush()?;
            self.known.insert(path, Known { stamps, torrent });
        }
        Ok(())
    }

    /// Verifies a torrent's data and seeds it.
    fn add(&self, path: &Path) -> Result<Arc<Torrent>, String> {
        let metainfo = Metainfo::read(path).map_err(|e| e.to_string())?;
        if let Some((first, _)) = self.seeding().find(|(_, torrent)| torrent.info_hash() == metainfo.info_hash) {
            return Err(format!("is a duplicate torrent for {}", first.display()));
        }
        let storage = Storage::open(&metainfo, &data_of(path)).map_err(|e| e.to_string())?;
        let threads = crate::sys::cpus::count();
        let have: Bitfield = check(&storage, &metainfo, threads, &|_| {});
        if !have.is_full() {
            return Err(format!("its data is not what it describes ({} of {} pieces are)", have.count(), have.len()));
        }
        let tiers = metainfo.announce.clone();
        let torrent = self.session.add(metainfo, storage, have);
        self.announcing.add(torrent.clone(), tiers);
        Ok(torrent)
    }

    fn seeding(&self) -> impl Iterator<Item = (&PathBuf, &Arc<Torrent>)> {
        self.known.iter().filter_map(|(path, known)| Some((path, known.torrent.as_ref()?)))
    }
}

fn stamps(path: &Path) -> (Option<Stamp>, Option<Stamp>) {
    (Stamp::of(path), Stamp::of(&data_of(path)))
}

/// Save-as style 1: the data is beside its torrent, under the same name without `.torrent`.
fn data_of(path: &Path) -> PathBuf {
    path.with_extension("")
}

/// The .torrent files below `directory`, hidden ones left out; what cannot be read is passed over this time.
fn torrents_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, hidden) = (entry.path(), entry.file_name().to_string_lossy().starts_with('.'));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !hidden && depth < DEPTH => directories.push((path, depth + 1)),
                Ok(kind) if !kind.is_dir() && !hidden && path.extension().is_some_and(|end| end == "torrent") => {
                    found.push(path)
                }
                _ => {}
            }
        }
    }
    found
}
