//! `ctorrent [OPTIONS] X.torrent`: downloads, then seeds; seeds at once what is whole.
//!
//! Texts and exit codes are Enhanced CTorrent's, as scripts read them: the first line with the word "Download"
//! is `Download complete.`, and the line before it sums up (with `-n` lines on files come before, as there). Unlike
//! there, a client that had nothing to download does as one that had: `-X` runs, and it leaves when it is time to.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::{self, Control, Scene};
use super::files::{Guide, Selection};
use super::resume::{self, BitfieldFile, Keeper, Looker};
use super::status::Teller;
use super::{Exit, Io, NAME, Outcome, Run, give_up, info, leave, on};
use crate::applets::Failure;
use crate::applets::announcing::{Announcing, Told, complain};
use crate::peer::{Log, Options, Session, Status, Torrent};
use crate::storage::{Error, Found, Storage};
use crate::swarm::{Config, Leave, Standing};
use crate::sys::signal::Signals;
use crate::torrent::{Bitfield, Metainfo};

pub const PREFIX: &str = "-OG0100-";
pub const USER_AGENT: &str = concat!("ogbox/", env!("CARGO_PKG_VERSION"));
/// Ports that are tried, from the first down to the last; after them whatever the system gives.
const PORTS: (u16, u16) = (2706, 2106);
/// What a connection may cost, KiB: what it has received and not written, what its peer does not read, two stacks.
const CONNECTION: u64 = 576;
/// Memory to use at the most, MiB: the default, and the least that will do.
const MEMORY: (u64, u64) = (64, 16);
/// Pause between two looks at a torrent.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the client, whose command line is `args`.
pub fn run(options: &Run, args: &[String], io: &mut Io) -> Outcome {
    let path = &options.torrent[0];
    let mut metainfo = match Metainfo::read(path) {
        Ok(metainfo) => metainfo,
        Err(error) => return info::unreadable(io, &error),
    };
    let selection = match Selection::parse(options.files.as_deref(), &metainfo) {
        Ok(selection) => selection,
        Err(why) => return give_up(io, &format!("-n: {why}")),
    };
    metainfo.web_seeds.splice(0..0, options.web_seed.iter().cloned());
    let tiers = tiers(options, &metainfo);
    if options.detached {
        rustix::process::setsid().map_err(|error| Failure::new(1, format!("leave the terminal: {error}")))?;
    }
    let signals = Signals::catch_ends()?;
    signals.catch_hangup_as_end()?;
    if options.attached {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT))
            .map_err(io::Error::from)?;
    }
    let mut stderr = io::stderr();
    let (json, mut io) = if options.json {
        let json: &mut (dyn Write + Send) = &mut *io.out;
        (Some(json), Io { out: &mut *io.err, err: &mut stderr })
    } else {
        (None, Io { out: &mut *io.out, err: &mut *io.err })
    };
    let server = options.server.as_deref().and_then(control::server).filter(|_| !options.check || options.force);
    let password = match server {
        Some((_, true)) => match control::password::ask(&signals, &mut io)? {
            Some(password) => Some(password),
            None => return Ok(Exit(1)),
        },
        _ => None,
    };
    if options.daemon > 0 && !options.detached && tiers.is_some() {
        return detach(args, options.daemon > 1, password);
    }
    let control = server.map(|(server, _)| Control::new(server, password, options));
    let teller = Teller::new(json, metainfo.geometry.pieces());
    let target = options.save_as.clone().unwrap_or_else(|| PathBuf::from(&metainfo.name));
    io.out.write_all(&info::text(&metainfo, options.printable, Some(&target)))?;
    let Some(tiers) = tiers else {
        return give_up(&mut io, "error, invalid tracker url format!\nerror, tracker setup failed.");
    };
    if let Some(url) = options.url.as_ref().and(tiers.first()).and_then(|tier| tier.first()) {
        writeln!(io.out, "Using announce URL:  {url}")?;
    }
    let start = Start { options, path, target: &target, selection, signals };
    if options.check && !options.force {
        start.check(&metainfo, teller, &mut io)
    } else {
        start.run(metainfo, tiers, control, teller, &mut io)
    }
}

/// Goes on in a process without a terminal. It is the same command line once more: a process with the name that
/// `pidof` looks for, from its beginning. A `password` it reads from its standard input, where nobody else sees it.
fn detach(args: &[String], keep_output: bool, password: Option<String>) -> Outcome {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).args(args).arg("--detached").stdin(Stdio::null());
    if !keep_output {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    if password.is_some() {
        command.stdin(Stdio::piped());
    }
    match command.spawn() {
        Ok(mut child) => {
            if let (Some(password), Some(mut input)) = (password, child.stdin.take()) {
                writeln!(input, "{password}")?;
            }
            Ok(Exit::OK)
        }
        Err(error) => Err(Failure::new(1, format!("go on in the background: {error}"))),
    }
}

/// The trackers to announce to; none when `-u` names none.
fn tiers(options: &Run, metainfo: &Metainfo) -> Option<Vec<Vec<String>>> {
    let Some(url) = &options.url else { return Some(metainfo.announce.clone()) };
    let url = match url.parse::<usize>() {
        Ok(number) => metainfo.announce.iter().flatten().nth(number)?,
        Err(_) => url,
    };
    (url.starts_with("http://") || url.starts_with("udp://")).then(|| vec![vec![url.clone()]])
}

/// What is known before the torrent's files are looked at.
struct Start<'a> {
    options: &'a Run,
    path: &'a Path,
    target: &'a Path,
    selection: Selection,
    signals: Signals,
}

impl Start<'_> {
    /// `-c`: says what is here, and makes nothing that is not.
    fn check(self, metainfo: &Metainfo, mut teller: Teller, io: &mut Io) -> Outcome {
        let opened = Storage::open_some(metainfo, self.target);
        let opened =
            opened.and_then(|some| if some.is_absent() { Storage::open(metainfo, self.target) } else { Ok(some) });
        let have = match opened {
            Ok(storage) => self.looker(metainfo, &storage).check_all(&mut teller, io)?,
            Err(error) => {
                writeln!(io.err, "{error}")?;
                let have = Bitfield::new(metainfo.geometry.pieces());
                resume::say_already(&have, io)?;
                have
            }
        };
        if self.signals.ending() {
            return Ok(Exit::OK);
        }
        BitfieldFile::of(self.options, self.path).save(&have);
        if let Some(mut child) = execute(self.options, self.target)? {
            child.wait()?;
        }
        Ok(Exit::OK)
    }

    fn looker<'b>(&'b self, metainfo: &'b Metainfo, storage: &'b Storage) -> Looker<'b> {
        Looker { options: self.options, metainfo, storage, target: self.target, signals: &self.signals }
    }

    /// Opens the torrent's files. What nobody may write can be seeded all the same: then the reason is given as well.
    fn open(&self, metainfo: &Metainfo) -> Result<(Storage, Found, Option<Error>), Error> {
        match Storage::create_some(metainfo, self.target, |file| self.selection.needs(file)) {
            Ok((storage, found)) => Ok((storage, found, None)),
            Err(refusal) if is_read_only(&refusal) => match Storage::open_some(metainfo, self.target) {
                Ok(storage) => Ok((storage, Found::Data, Some(refusal))),
                Err(_) => Err(refusal),
            },
            Err(error) => Err(error),
        }
    }

    /// Downloads and seeds.
    fn run(
        self,
        metainfo: Metainfo,
        tiers: Vec<Vec<String>>,
        control: Option<Control>,
        mut teller: Teller,
        io: &mut Io,
    ) -> Outcome {
        let options = self.options;
        let (storage, found, refusal) = match self.open(&metainfo) {
            Ok(opened) => opened,
            Err(error) => return cannot_open(&error, io),
        };
        if found == Found::Nothing {
            writeln!(io.out, "Creating file \"{}\"", self.target.display())?;
        }
        let journal = resume::journal(options, &metainfo, &storage, self.target)?;
        let bitfield = BitfieldFile::of(options, self.path);
        let looker = self.looker(&metainfo, &storage);
        let have = looker.look(found, &bitfield, journal.as_ref(), &mut teller, io)?;
        if self.signals.ending() {
            return Ok(Exit::OK);
        }
        bitfield.forget();
        if found == Found::Data && !options.check && !options.force {
            io.out.write_all(&info::files(&metainfo, options.printable, Some(self.target), Some(&have)))?;
        }
        // Who may not write keeps no journal either.
        let journal = journal.filter(|_| refusal.is_none());
        let lacking = self.selection.lacks(&have);
        if let Some(refusal) = refusal.filter(|_| lacking) {
            return Err(Failure::new(1, refusal));
        }
        if options.allocate && lacking {
            storage.preallocate(|file| self.selection.is_chosen(file)).map_err(|error| Failure::new(1, error))?;
        }
        let mut guide = Guide::new(&self.selection, &metainfo, &have);
        while let Some(what) = guide.next(&have) {
            io.out.write_all(what.as_bytes())?;
        }
        let log = control.as_ref().map_or_else(|| Arc::new(complain) as Log, Control::listener);
        let session =
            start(options, log.clone()).map_err(|e| Failure::new(1, format!("listen on {}: {e}", options.listen)))?;
        if let Some(port) = options.port.filter(|port| ![0, session.port()].contains(port)) {
            writeln!(io.err, "warn, couldn't bind on specified port {port}")?;
        }
        writeln!(io.out, "Listening on {}:{}", options.listen, session.port())?;
        io.out.flush()?;
        let torrent = session.add_some(metainfo, storage, have, &self.selection.pieces());
        let keeper = Keeper::start(journal, &torrent);
        // Bound to one of several addresses, that is where it can be reached.
        let ip = options.ip.clone().or_else(|| (!options.listen.is_unspecified()).then(|| options.listen.to_string()));
        let announcing = Announcing::start(&session, &options.agent, options.max_peers as u32, ip, log);
        announcing.want_at_least(options.min_peers as usize);
        announcing.add(torrent.clone(), tiers);
        let (signals, target) = (self.signals, self.target);
        let client = Client {
            options,
            session: &session,
            torrent: &torrent,
            announcing: &announcing,
            selection: &self.selection,
            signals,
            target,
        };
        let outcome = client.serve(guide, control, &mut teller, io);
        let told = announcing.told(&torrent);
        drop(announcing);
        drop(session);
        if let Some(keeper) = keeper {
            keeper.close();
        }
        bitfield.save(&torrent.have());
        outcome?;
        let status = torrent.status();
        teller.sum_up("end", &status, &told, io)?;
        status.failure.map_or(Ok(Exit::OK), |why| Err(Failure::new(1, why)))
    }
}

/// Says why the torrent's files are of no use; of a wrong length in the namesake's words.
fn cannot_open(error: &Error, io: &mut Io) -> Outcome {
    let why = match error {
        Error::Length { path, wants, .. } => {
            format!("file \"{}\" size doesn't match; must be {wants}", path.display())
        }
        error => error.to_string(),
    };
    give_up(io, &format!("error, {why}\nerror, initial meta info failed."))
}

fn is_read_only(error: &Error) -> bool {
    let Error::Io { cause, .. } = error else { return false };
    matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Memory to use at the most, MiB.
pub fn memory(options: &Run) -> u64 {
    if options.cache == 0 { MEMORY.0 } else { options.cache.max(MEMORY.1) }
}

/// Of `peers` connections those that the memory is enough for.
pub fn connections(options: &Run, peers: u64) -> usize {
    peers.min(memory(options) * 1024 / CONNECTION) as usize
}

fn start(options: &Run, log: Log) -> io::Result<Session> {
    let mut ports = Vec::from_iter(options.port.filter(|port| *port != 0));
    ports.extend((PORTS.1..=PORTS.0).rev());
    ports.push(0);
    Session::start(Options {
        bind: options.listen,
        ports,
        prefix: if options.prefix == "-" { String::new() } else { options.prefix.clone() },
        max_peers: connections(options, options.max_peers),
        limits: (options.up << 10, options.down << 10),
        pex: on(options.pex, options.no_pex),
        lsd: on(options.lsd, options.no_lsd),
        swarm: Config { upload: !options.leech, max_request: (options.slice as u32) << 10, ..Config::default() },
        log,
        ..Options::default()
    })
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

struct Client<'a> {
    options: &'a Run,
    session: &'a Session,
    torrent: &'a Arc<Torrent>,
    announcing: &'a Announcing,
    selection: &'a Selection,
    signals: Signals,
    target: &'a Path,
}

impl Client<'_> {
    /// Goes on until a signal, a failure, or the time to leave.
    fn serve(
        &self,
        mut guide: Guide,
        mut control: Option<Control>,
        teller: &mut Teller,
        io: &mut Io,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        let downloads = !self.torrent.status().whole;
        let mut leave = leave::conditions(self.options);
        let mut whole_since: Option<Instant> = None;
        let mut needed = begin;
        let mut child: Option<Child> = None;
        while !self.signals.ending() {
            self.torrent.wait_change(LOOK);
            let status = self.torrent.status();
            if status.failure.is_some() {
                break;
            }
            let told = self.announcing.told(self.torrent);
            let have = (!guide.is_over()).then(|| self.torrent.have());
            if let Some(what) = have.as_ref().and_then(|have| guide.next(have)) {
                teller.sum_up("fetch", &status, &told, io)?;
                io.out.write_all(what.as_bytes())?;
                io.out.flush()?;
            }
            if status.whole && guide.is_over() && whole_since.is_none() {
                if downloads {
                    if let Err(error) = self.torrent.storage().sync() {
                        self.torrent.fail(error.to_string());
                        break;
                    }
                    if have.is_none() {
                        teller.sum_up("fetch", &status, &told, io)?;
                    }
                    writeln!(io.out, "Download complete.")?;
                    writeln!(io.out, "Total time used: {} minutes.", begin.elapsed().as_secs() / 60)?;
                }
                self.say_how_long(&leave, io)?;
                child = execute(self.options, self.target)?;
                whole_since = Some(Instant::now());
            }
            teller.show(&status, &told, io)?;
            if leave.unneeded.is_some() && self.is_needed(&status, told.incomplete) {
                needed = Instant::now();
            }
            if let Some(control) = &mut control
                && control.turn(&mut self.scene(&status, &told, whole_since, &mut leave))
            {
                teller.sum_up(if status.whole { "seed" } else { "fetch" }, &status, &told, io)?;
                writeln!(io.out, "CTCS sent Quit command")?;
                break;
            }
            if let Some(since) = whole_since {
                let standing = self.standing(&status, since, needed);
                if leave.decide(&standing).is_some() {
                    break;
                }
                // Nothing wakes a seeder: it only looks whether it is to end.
                self.signals.sleep(LOOK);
            }
            if let Some(running) = &mut child
                && running.try_wait()?.is_some()
            {
                child = None;
            }
        }
        if let Some(control) = control {
            let (status, told) = (self.torrent.status(), self.announcing.told(self.torrent));
            control.close(&self.scene(&status, &told, whole_since, &mut leave));
        }
        Ok(())
    }

    /// What a server sees.
    fn scene<'a>(
        &'a self,
        status: &'a Status,
        told: &'a Told,
        whole_since: Option<Instant>,
        leave: &'a mut Leave,
    ) -> Scene<'a> {
        let Client { options, session, torrent, announcing, selection, .. } = *self;
        Scene { options, session, torrent, announcing, selection, status, told, whole_since, leave }
    }

    fn say_how_long(&self, leave: &Leave, io: &mut Io) -> io::Result<()> {
        let hours = leave.after.map_or(0.0, |after| after.as_secs_f64() / 3600.0);
        if self.options.leave.is_some() {
            writeln!(io.out, "Seed for others until it is time to leave")?;
        } else if !self.options.leech {
            let ratio = leave.ratio.map_or(String::new(), |ratio| format!(" or to ratio of {ratio:.2}"));
            writeln!(io.out, "Seed for others {hours} hours{ratio}")?;
        }
        io.out.flush()
    }

    /// Somebody is known who lacks something: a connected peer, or one that the tracker counts, of whom it is asked
    /// again soon when none is connected. To the tracker all lack something that did not choose all files, we as well as
    /// those who have what we have: then only who is connected counts.
    fn is_needed(&self, status: &Status, counted: Option<u32>) -> bool {
        let counted = counted.is_some_and(|lacking| lacking > 0) && (!status.whole || status.lacks == 0);
        if counted && status.whole && status.peers.1 == 0 {
            self.announcing.count_again(self.torrent);
        }
        status.peers.1 > 0 || counted
    }

    fn standing(&self, status: &Status, since: Instant, needed: Instant) -> Standing {
        let length = match status.totals.downloaded {
            0 => self.torrent.metainfo().geometry.length() - status.lacks,
            downloaded => downloaded,
        };
        Standing {
            whole_for: since.elapsed(),
            unneeded_for: needed.elapsed(),
            uploaded: status.totals.uploaded,
            length,
        }
    }
}
