//! `ctorrent [OPTIONS] X.torrent`: downloads a torrent, then seeds it; if it is complete, seeds it at once.
//!
//! Texts and exit codes are Enhanced CTorrent's, as scripts read them: the first line with the word "Download"
//! is `Download complete.`, and the line before it is the summary (with `-n`, lines on files come before, as there).
//! Unlike there, a client that had nothing to download runs `-X` and leaves in time as well.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::arguments::{NAME, Run, give_up, on};
use super::face::Face;
use super::status::Teller;
use super::{info, password};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::base::signal::Signals;
use crate::client::{self, Control, Download, Error, Facts, Journalling, Selection, Settings, Trust};
use crate::peer::{Log, NearSeeds, Options};
use crate::swarm::Config;
use crate::torrent::Metainfo;

/// Ports to try, from the first down to the last; after them any free one.
const PORTS: (u16, u16) = (2706, 2106);

/// Runs the client, whose command line is `args`.
pub fn run(options: &Run, args: &[String], io: &mut Io) -> Outcome {
    let mut metainfo = match Metainfo::read(&options.torrent[0]) {
        Ok(metainfo) => metainfo,
        Err(error) => return info::unreadable(io, &error),
    };
    let selection = match Selection::parse(options.files.as_deref(), &metainfo) {
        Ok(selection) => selection,
        Err(why) => return give_up(io, &format!("-n: {why}")),
    };
    metainfo.web_seeds.splice(0..0, options.web_seed.iter().cloned());
    let tiers = tiers(options, &metainfo);
    let signals = begin(options)?;
    let mut stderr = io::stderr();
    let (json, mut io) = if options.json {
        let json: &mut (dyn Write + Send) = &mut *io.out;
        (Some(json), Io { out: &mut *io.err, err: &mut stderr })
    } else {
        (None, Io { out: &mut *io.out, err: &mut *io.err })
    };
    let checks = options.check && !options.force;
    let server = options.server.as_deref().and_then(client::server).filter(|_| !checks);
    let password = match server {
        Some((_, true)) => match password::ask(&signals, &mut io)? {
            Some(password) => Some(password),
            None => return Ok(Exit(1)),
        },
        _ => None,
    };
    if options.daemon > 0 && !options.detached && tiers.is_some() {
        return detach(args, options.daemon > 1, password);
    }
    let control = server.map(|(server, _)| Control::new(server, password, facts(options), Arc::new(complain)));
    let teller = Teller::new(json, copy(options.json_fd)?, metainfo.geometry.pieces());
    let target = options.save_as.clone().unwrap_or_else(|| PathBuf::from(&metainfo.name));
    io.out.write_all(&info::text(&metainfo, options.printable, Some(&target)))?;
    let Some(tiers) = tiers else {
        return give_up(&mut io, "error, invalid tracker url format!\nerror, tracker setup failed.");
    };
    if let Some(url) = options.url.as_ref().and(tiers.first()).and_then(|tier| tier.first()) {
        writeln!(io.out, "Using announce URL:  {url}")?;
    }
    let mut face = Face::new(options, &metainfo, &target, teller, &mut io);
    let download = download(options, metainfo, &target, tiers, selection, control, signals);
    let outcome = if checks { check(download, &mut face) } else { fetch(options, download, &mut face) };
    match outcome {
        Err(Error::Open(error)) => cannot_open(&error, &mut io),
        Err(Error::Face(error)) => Err(error.into()),
        Err(error) => Err(Failure::new(1, error)),
        Ok(()) => Ok(Exit::OK),
    }
}

/// Carries out `--detached` and `--attached`, and catches the signals that end the process.
fn begin(options: &Run) -> Result<Signals, Failure> {
    if options.detached {
        rustix::process::setsid().map_err(|error| Failure::new(1, format!("leave the terminal: {error}")))?;
    }
    let signals = Signals::catch_ends()?;
    signals.catch_hangup_as_end()?;
    if options.attached {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT))
            .map_err(io::Error::from)?;
    }
    Ok(signals)
}

/// Opens the descriptor of `--json-fd`.
fn copy(descriptor: Option<i32>) -> Result<Option<File>, Failure> {
    let open = |descriptor| File::options().write(true).open(format!("/proc/self/fd/{descriptor}"));
    descriptor.map(open).transpose().map_err(|error| Failure::new(1, format!("--json-fd: {error}")))
}

/// Goes on in a process without a terminal: the same command line once more, so that `pidof` finds the new process by
/// name from its beginning. It reads the `password` from its standard input, where nobody else sees it.
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

/// Returns the trackers to announce to; `None` when `-u` names none.
fn tiers(options: &Run, metainfo: &Metainfo) -> Option<Vec<Vec<String>>> {
    let Some(url) = &options.url else { return Some(metainfo.announce.clone()) };
    let url = match url.parse::<usize>() {
        Ok(number) => metainfo.announce.iter().flatten().nth(number)?,
        Err(_) => url,
    };
    (url.starts_with("http://") || url.starts_with("udp://")).then(|| vec![vec![url.clone()]])
}

/// Returns the parts of the command line that a CTCS server is shown.
fn facts(options: &Run) -> Facts {
    Facts {
        torrent: options.torrent[0].clone(),
        save_as: options.save_as.clone(),
        files: options.files.clone().unwrap_or_default(),
        command: options.exec.clone().unwrap_or_default(),
        memory: options.memory(),
    }
}

/// Writes a line to standard error, from any thread.
fn complain(line: &str) {
    // A closed standard error leaves nowhere to complain.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn download(
    options: &Run,
    metainfo: Metainfo,
    target: &Path,
    tiers: Vec<Vec<String>>,
    selection: Selection,
    control: Option<Control>,
    signals: Signals,
) -> Download {
    let trust = match (options.force, options.check) {
        (_, true) => Trust::Nothing,
        (true, false) => Trust::Everything,
        (false, false) => Trust::Journal,
    };
    let journalling = match &options.journal_file {
        _ if !on(options.journal, options.no_journal) => Journalling::Off,
        Some(path) => Journalling::At(path.clone()),
        None => Journalling::Beside,
    };
    Download {
        metainfo,
        target: target.to_owned(),
        tiers,
        selection,
        trust,
        bitfield: options.bitfield.clone().unwrap_or_else(|| client::with_end(&options.torrent[0], ".bf")),
        journalling,
        allocate: options.allocate,
        leave: options.leave(),
        log: control.as_ref().map_or_else(|| Arc::new(complain) as Log, Control::listener),
        control,
        signals,
    }
}

fn settings(options: &Run, log: Log) -> Settings {
    let mut ports = Vec::from_iter(options.port.filter(|port| *port != 0));
    ports.extend((PORTS.1..=PORTS.0).rev());
    ports.push(0);
    Settings {
        session: Options {
            bind: options.listen,
            ports,
            prefix: if options.prefix == "-" { String::new() } else { options.prefix.clone() },
            max_peers: client::connections(options.memory(), options.max_peers),
            limits: (options.up << 10, options.down << 10),
            pex: on(options.pex, options.no_pex),
            lsd: on(options.lsd, options.no_lsd),
            swarm: Config { upload: !options.leech, max_request: (options.slice as u32) << 10, ..Config::default() },
            near_web_seeds: match options.local_web_seeds {
                true => NearSeeds::All,
                false => NearSeeds::These(options.web_seed.clone()),
            },
            log,
            ..Options::default()
        },
        agent: options.agent.clone(),
        ip: options.ip.clone(),
        numwant: options.max_peers as u32,
        min_peers: options.min_peers as usize,
    }
}

/// Downloads and seeds.
fn fetch(options: &Run, download: Download, face: &mut Face) -> Result<(), Error> {
    let settings = settings(options, download.log.clone());
    download.run(settings, &mut |event| face.take(event))
}

/// `-c`: reports which pieces are here, and creates nothing.
fn check(download: Download, face: &mut Face) -> Result<(), Error> {
    if download.check(&mut |event| face.take(event))? {
        face.execute()?.map_or(Ok(()), |mut child: Child| child.wait().map(drop))?;
    }
    Ok(())
}

/// Reports why the torrent's files cannot be used; a wrong length in the namesake's words.
fn cannot_open(error: &crate::storage::Error, io: &mut Io) -> Outcome {
    let why = match error {
        crate::storage::Error::Length { path, wants, .. } => {
            format!("file \"{}\" size doesn't match; must be {wants}", path.display())
        }
        error => error.to_string(),
    };
    give_up(io, &format!("error, {why}\nerror, initial meta info failed."))
}
