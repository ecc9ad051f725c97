//! `ctorrent [OPTIONS] X.torrent`: downloads, then seeds; seeds at once what is whole.
//!
//! Texts and exit codes are Enhanced CTorrent's, as scripts read them: the first line with the word "Download"
//! is `Download complete.`. Unlike there, `-X` also runs when nothing had to be downloaded.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Exit, Io, Outcome, Run, give_up, info};
use crate::applets::Failure;
use crate::applets::announcing::{Announcing, Told, complain};
use crate::applets::progress::{Progress, Style};
use crate::peer::{Options, Session, Status, Torrent};
use crate::storage::{Found, Storage, check};
use crate::swarm::{Config, Leave, Standing};
use crate::sys::signal::Signals;
use crate::torrent::{Bitfield, Metainfo};

pub const PREFIX: &str = "-OG0100-";
pub const USER_AGENT: &str = concat!("ogbox/", env!("CARGO_PKG_VERSION"));
/// Ports that are tried, from the first down to the last.
const PORTS: (u16, u16) = (2706, 2106);
/// Pause between two status lines: on a terminal, and elsewhere.
const STATUS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Runs the client.
pub fn run(options: &Run, io: &mut Io) -> Outcome {
    let [path] = options.torrent.as_slice() else {
        return give_up(io, "Must specify one torrent file");
    };
    let metainfo = match Metainfo::read(path) {
        Ok(metainfo) => metainfo,
        Err(error) => return info::unreadable(io, &error),
    };
    let tiers = tiers(options, &metainfo)?;
    let signals = Signals::catch_ends()?;
    io.out.write_all(&info::text(&metainfo, options.printable))?;
    let target = options.save_as.clone().unwrap_or_else(|| PathBuf::from(&metainfo.name));
    let bitfield = BitfieldFile::of(options, path);
    if options.check && !options.force {
        return check_only(options, &metainfo, &target, &bitfield, io);
    }
    let (storage, found) = Storage::create(&metainfo, &target).map_err(|e| Failure::new(1, e))?;
    let have = existing(options, &metainfo, &storage, found, &bitfield, io)?;
    let session = start(options).map_err(|e| Failure::new(1, format!("listen on {}: {e}", options.listen)))?;
    writeln!(io.out, "Listening on {}:{}", options.listen, session.port())?;
    io.out.flush()?;
    let torrent = session.add(metainfo, storage, have);
    let log: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(complain);
    // Bound to one of several addresses, that is where it can be reached.
    let ip = options.ip.clone().or_else(|| (!options.listen.is_unspecified()).then(|| options.listen.to_string()));
    let announcing = Announcing::start(&session, &options.agent, options.max_peers as u32, ip, log);
    announcing.add(torrent.clone(), tiers);
    let outcome = Client { options, torrent: &torrent, announcing: &announcing, signals, target: &target }.serve(io);
    drop(announcing);
    let status = torrent.status();
    bitfield.save(&torrent.have())?;
    drop(session);
    outcome?;
    match status.failure {
        Some(why) => Err(Failure::new(1, why)),
        None => Ok(Exit::OK),
    }
}

fn tiers(options: &Run, metainfo: &Metainfo) -> Result<Vec<Vec<String>>, Failure> {
    let Some(url) = &options.url else { return Ok(metainfo.announce.clone()) };
    match url.parse::<usize>() {
        Err(_) => Ok(vec![vec![url.clone()]]),
        Ok(number) => match metainfo.announce.iter().flatten().nth(number) {
            Some(url) => Ok(vec![vec![url.clone()]]),
            None => Err(Failure::new(1, format!("-u {number}: the torrent has no such announce URL"))),
        },
    }
}

fn start(options: &Run) -> io::Result<Session> {
    let ports = options.port.into_iter().chain((PORTS.1..=PORTS.0).rev()).collect();
    Session::start(Options {
        bind: options.listen,
        ports,
        prefix: options.prefix.clone(),
        max_peers: options.max_peers.max(1),
        limits: (options.up << 10, options.down << 10),
        pex: !options.no_pex,
        lsd: !options.no_lsd,
        swarm: Config::default(),
        log: Arc::new(complain),
    })
}

/// `-c`: says what is here, and makes nothing that is not.
fn check_only(options: &Run, metainfo: &Metainfo, target: &Path, bitfield: &BitfieldFile, io: &mut Io) -> Outcome {
    let have = match Storage::open(metainfo, target) {
        Ok(storage) => hash(metainfo, &storage, io)?,
        Err(error) => {
            writeln!(io.err, "{error}")?;
            Bitfield::new(metainfo.geometry.pieces())
        }
    };
    let (pieces, of) = (have.count(), have.len());
    let percent = u64::from(pieces) * 100 / u64::from(of.max(1));
    writeln!(io.out, "Already/Total: {pieces}/{of} ({percent}%)")?;
    io.out.flush()?;
    bitfield.save(&have)?;
    if let Some(mut child) = execute(options, target)? {
        child.wait()?;
    }
    Ok(Exit::OK)
}

/// What of the torrent is here already: believed, or hashed.
fn existing(
    options: &Run,
    metainfo: &Metainfo,
    storage: &Storage,
    found: Found,
    bitfield: &BitfieldFile,
    io: &mut Io,
) -> Result<Bitfield, Failure> {
    let pieces = metainfo.geometry.pieces();
    if found == Found::Nothing {
        return Ok(Bitfield::new(pieces));
    }
    if options.force && !options.check {
        writeln!(io.out, "Skipping hash checks and forcing seed mode.")?;
        return Ok(bitfield.load(pieces).unwrap_or_else(|| Bitfield::full(pieces)));
    }
    hash(metainfo, storage, io)
}

/// Hashes what is here, on all processors.
fn hash(metainfo: &Metainfo, storage: &Storage, io: &mut Io) -> Result<Bitfield, Failure> {
    io.out.flush()?;
    let threads = crate::sys::cpus::count();
    let progress = Progress::start("Check exist", metainfo.geometry.length(), Style::Auto);
    let have = check(storage, metainfo, threads, &|bytes| progress.advance(bytes));
    drop(progress);
    writeln!(io.out, "Checking completed.")?;
    Ok(have)
}

/// Starts the `-X` command, if there is one.
fn execute(options: &Run, target: &Path) -> Result<Option<Child>, Failure> {
    let Some(command) = &options.exec else { return Ok(None) };
    let directory = std::env::current_dir()?;
    let command = command
        .replace("&t", &options.torrent[0].to_string_lossy())
        .replace("&d", &target.to_string_lossy())
        .replace("&w", &directory.to_string_lossy());
    let child = Command::new("sh").arg("-c").arg(&command).spawn();
    child.map(Some).map_err(|e| Failure::new(1, format!("run `{command}`: {e}")))
}

/// The file that remembers an unfinished download's pieces: BEP 3's bitfield, raw.
struct BitfieldFile(PathBuf);

impl BitfieldFile {
    fn of(options: &Run, torrent: &Path) -> BitfieldFile {
        BitfieldFile(options.bitfield.clone().unwrap_or_else(|| {
            let mut name = torrent.to_owned().into_os_string();
            name.push(".bf");
            PathBuf::from(name)
        }))
    }

    fn load(&self, pieces: u32) -> Option<Bitfield> {
        Bitfield::from_bytes(pieces, &fs::read(&self.0).ok()?).ok()
    }

    /// Kept while something is missing, removed when nothing is.
    fn save(&self, have: &Bitfield) -> Result<(), Failure> {
        let done = if have.is_full() {
            fs::remove_file(&self.0).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
        } else {
            fs::write(&self.0, have.as_bytes())
        };
        done.map_err(|e| Failure::new(1, format!("bitfield file {}: {e}", self.0.display())))
    }
}

struct Client<'a> {
    options: &'a Run,
    torrent: &'a Arc<Torrent>,
    announcing: &'a Announcing,
    signals: Signals,
    target: &'a Path,
}

impl Client<'_> {
    /// Goes on until a signal, a failure, or the time to leave.
    fn serve(&self, io: &mut Io) -> Result<(), Failure> {
        let begin = Instant::now();
        let downloads = !self.torrent.status().whole;
        let mut whole_since: Option<Instant> = None;
        let mut child: Option<Child> = None;
        let mut line = StatusLine::new();
        while !self.signals.ending() {
            self.torrent.wait_change(Duration::from_millis(100));
            let status = self.torrent.status();
            if status.failure.is_some() {
                break;
            }
            line.show(&status, self.torrent.metainfo().geometry.pieces(), &self.announcing.told(self.torrent), io)?;
            if status.whole && whole_since.is_none() {
                if downloads {
                    self.torrent.storage().sync().map_err(|e| Failure::new(1, e))?;
                    line.end(io)?;
                    writeln!(io.out, "Download complete.")?;
                    writeln!(io.out, "Total time used: {} minutes.", begin.elapsed().as_secs() / 60)?;
                }
                writeln!(io.out, "Seed for others {} hours", self.options.hours)?;
                io.out.flush()?;
                child = execute(self.options, self.target)?;
                whole_since = Some(Instant::now());
            }
            if whole_since.is_some_and(|since| self.may_leave(since, &status)) {
                break;
            }
            if let Some(running) = &mut child
                && running.try_wait()?.is_some()
            {
                child = None;
            }
            // Nothing wakes a seeder: it only looks whether it is to end.
            if status.whole {
                self.signals.sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    fn may_leave(&self, since: Instant, status: &Status) -> bool {
        let (hours, ratio) = (self.options.hours, self.options.ratio);
        let leave = Leave {
            after: (hours > 0.0 || ratio == 0.0)
                .then(|| Duration::try_from_secs_f64(hours * 3600.0).unwrap_or(Duration::MAX)),
            ratio: (ratio > 0.0).then_some(ratio),
            unneeded: None,
        };
        let standing = Standing {
            whole_for: since.elapsed(),
            unneeded_for: Duration::ZERO,
            uploaded: status.totals.uploaded,
            length: self.torrent.metainfo().geometry.length(),
        };
        leave.decide(&standing).is_some()
    }
}

/// Seeds, leechers, known peers; pieces; bytes; rates; announces that failed and that did not. Redrawn on a
/// terminal.
struct StatusLine {
    terminal: bool,
    last: Instant,
}

impl StatusLine {
    fn new() -> StatusLine {
        StatusLine { terminal: io::stdout().is_terminal(), last: Instant::now() }
    }

    fn show(&mut self, status: &Status, pieces: u32, told: &Told, io: &mut Io) -> io::Result<()> {
        let pause = if self.terminal { STATUS.0 } else { STATUS.1 };
        if self.last.elapsed() < pause {
            return Ok(());
        }
        self.last = Instant::now();
        let (down, up) = (status.rates.0 as u64 >> 10, status.rates.1 as u64 >> 10);
        let known = told.complete.unwrap_or(0) + told.incomplete.unwrap_or(0);
        let line = format!(
            "- {}/{}/{known} [{}/{pieces}] {}MB,{}MB | {down},{up}K/s E:{},{}",
            status.peers.0,
            status.peers.1,
            status.have,
            status.totals.downloaded >> 20,
            status.totals.uploaded >> 20,
            told.failures,
            told.answers,
        );
        if self.terminal {
            write!(io.out, "\r{line:<78}")?
        } else {
            writeln!(io.out, "{line}")?
        }
        io.out.flush()
    }

    /// What follows begins a line of its own.
    fn end(&self, io: &mut Io) -> io::Result<()> {
        if self.terminal { writeln!(io.out) } else { Ok(()) }
    }
}
