//! updateCache, restoreImage, deployImage: the scripts that OpenGnsys' console calls.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::fetch::{self, Fetched, ensure_mounted, repository};
use super::imaging::watched;
use super::swarm::{Session, catch_signals};
use super::{Function, paths, transfer};
use crate::applets::{Exit, Io};
use crate::base::links;
use crate::base::progress::{Progress, Style};
use crate::base::signal::Signals;
use crate::client::child::Seeding;
use crate::engine::checksum::{Sum, drain};
use crate::engine::upkeep::Step;
use crate::engine::{Code, Device, Engine, Error, Level, Place, Targets, beside, space};
use crate::image::save::ImageFile;

/// Session used when the caller gives none.
const SESSION: &str = "peer:60";

/// updateCache.
pub const UPDATE: Function = Function {
    format: "REPO|ip /path_file TORRENT|UNICAST|MULTICAST [mode:seconds|session]",
    examples: &[
        "REPO /win10.img TORRENT peer:60",
        "REPO /win10.img MULTICAST 9000:full-duplex:239.194.17.2:70M:20:120",
    ],
    words: 3..=4,
    run: |engine, words, io| {
        let begun = Instant::now();
        let signals = catch_signals()?;
        let (place, address) = repository(engine, words[0])?;
        engine.ensure(place == Place::Repo, Code::NotFound, format!("{} is not a repository", words[0]))?;
        let how = Protocol::parse(engine, words[2], words.get(3).copied())?;
        let fetched = update(engine, &signals, (address, words[1]), &how, io)?;
        let text = engine.text("MSG_SCRIPTS_TIME_PARTIAL");
        engine.say(io.out, Targets::LOG_SESSION, &format!("[50] {text}: {}", clock(begun)));
        if let Protocol::Torrent(session) = how
            && session.uploads
            && session.seconds > 0
            && (fetched.is_fresh || session.seeder)
        {
            let _seeding = fetched.seeding.map_or_else(|| Seeding::start(&fetched.image), Ok)?;
            signals.sleep(Duration::from_secs(session.seconds));
        }
        Ok(Exit::OK)
    },
};

/// restoreImage: TORRENT restores from the cache, first fetching an image that is missing there or differs.
pub const RESTORE: Function = Function {
    format: "REPO|CACHE|ip str_image int_ndisk int_npartition \
             [TORRENT|UNICAST|UNICAST-DIRECT|MULTICAST|MULTICAST-DIRECT [mode:seconds|session]]",
    examples: &["REPO Ubuntu 1 1", "CACHE Ubuntu 1 1 TORRENT peer:60"],
    words: 4..=6,
    run: |engine, words, io| {
        let begun = begin(engine, words, io);
        let signals = catch_signals()?;
        let device = paths::partition(engine, &words[2..4])?;
        let (place, address) = repository(engine, words[0])?;
        let word = words.get(4).map_or("UNICAST", |word| *word).to_ascii_uppercase();
        let how = Protocol::parse(engine, word.strip_suffix("-DIRECT").unwrap_or(&word), words.get(5).copied())?;
        let name = format!("{}.img", words[1]);
        // Before anything is fetched, so that a second command for the same partition fails at once.
        let lock = engine.lock_device(&device)?;
        let from_cache = place == Place::Cache && words.len() > 4;
        let seeding = match how {
            Protocol::Torrent(session) => {
                let address = if place == Place::Cache { engine.repo_address() } else { address };
                ensure_fits(engine, address, &name, &device)?;
                let fetched = current(engine, &signals, (address, &name), &how, &place, io)?;
                let image = fetched.image.clone();
                let seeding = seeding(fetched, session)?;
                restore(engine, &signals, &image, &device, io)?;
                seeding
            }
            Protocol::Unicast if from_cache && word == "UNICAST" => {
                ensure_fits(engine, engine.repo_address(), &name, &device)?;
                let image = current(engine, &signals, (engine.repo_address(), &name), &how, &place, io)?.image;
                restore(engine, &signals, &image, &device, io)?;
                None
            }
            Protocol::Multicast(session) if place == Place::Repo => {
                ensure_mounted(engine, address, "TORRENT needs no share")?;
                engine.transfers_by("udp-receiver")?;
                let name = engine.image_name(&place, &name)?;
                let info = engine.image_for(&engine.file(&place, &name)?, &device)?;
                // `receive_partition` takes the lock itself.
                drop(lock);
                engine.request_multicast(address, &format!("/{name}"), session, &|time| signals.sleep(time))?;
                let session = client_session(engine, address, session);
                let tools = [session.as_str(), info.program, &info.compressor];
                transfer::receive_partition(engine, &device, &tools, io)?;
                finish(engine, begun, io)?;
                return Ok(Exit::OK);
            }
            _ => {
                if place == Place::Repo {
                    ensure_mounted(engine, address, "TORRENT needs no share")?;
                }
                let image = engine.image(&place, words[1])?;
                restore(engine, &signals, &image, &device, io)?;
                None
            }
        };
        drop(lock);
        finish(engine, begun, io)?;
        if let Some((_seeding, seconds)) = seeding {
            signals.sleep(Duration::from_secs(seconds));
        }
        Ok(Exit::OK)
    },
};

/// deployImage: through the cache unless the protocol says DIRECT.
pub const DEPLOY: Function = Function {
    format: "REPO|CACHE|ip str_image int_ndisk int_npartition \
             [TORRENT|UNICAST|UNICAST-DIRECT|MULTICAST|MULTICAST-DIRECT [mode:seconds|session]]",
    examples: &["REPO win10 1 1 TORRENT peer:60"],
    words: 4..=6,
    run: |engine, words, io| {
        let begun = begin(engine, words, io);
        let signals = catch_signals()?;
        let device = paths::partition(engine, &words[2..4])?;
        let lock = engine.lock_device(&device)?;
        let (place, address) = repository(engine, words[0])?;
        let word = words.get(4).map_or("UNICAST", |word| *word).to_ascii_uppercase();
        let name = format!("{}.img", words[1]);
        report_image(engine, &place, &name, words[0], io)?;
        // OpenGnsys' script has one exit code for every failure to restore.
        let failed = |error: Error| Error::new(Code::Image, format!("{}: {error}", words[1]));
        let mut seeds = None;
        let cached = if place == Place::Cache {
            Some(engine.image(&place, words[1])?)
        } else if word.ends_with("-DIRECT") {
            None
        } else {
            let how = Protocol::parse(engine, word.strip_suffix("-CACHE").unwrap_or(&word), words.get(5).copied())?;
            ensure_fits(engine, address, &name, &device).map_err(failed)?;
            match update(engine, &signals, (address, &name), &how, io) {
                Ok(fetched) => {
                    let image = fetched.image.clone();
                    if let Protocol::Torrent(session) = how {
                        seeds = seeding(fetched, session)?;
                    }
                    Some(image)
                }
                Err(error) if matches!(error.code, Code::NotCache | Code::CacheSize) => {
                    let instead = engine.env().get("RESTOREPROTOCOLNOTCACHE").to_ascii_uppercase();
                    engine.ensure(["UNICAST", "MULTICAST"].contains(&instead.as_str()), error.code, &error.detail)?;
                    engine.echo(io.err, Targets::LOG_SESSION, Level::Warning, &format!("{error}: {instead}"));
                    None
                }
                Err(error) => return Err(error),
            }
        };
        let multicast = word.starts_with("MULTICAST")
            && (word.ends_with("-DIRECT") || engine.env().get("RESTOREPROTOCOLNOTCACHE") == "MULTICAST");
        if cached.is_none() && multicast {
            drop(lock);
            let mut direct = words.to_vec();
            direct[4] = "MULTICAST-DIRECT";
            (RESTORE.run)(engine, &direct, io).map_err(failed)?;
        } else {
            if cached.is_none() {
                ensure_mounted(engine, address, "TORRENT needs no share")?;
            }
            let image = cached.map_or_else(|| engine.image(&Place::Repo, words[1]), Ok)?;
            restore(engine, &signals, &image, &device, io).map_err(failed)?;
            drop(lock);
        }
        configure(engine, words, io)?;
        finish(engine, begun, io)?;
        if let Some((_seeding, seconds)) = seeds {
            signals.sleep(Duration::from_secs(seconds));
        }
        Ok(Exit::OK)
    },
};

/// The way an image is fetched.
enum Protocol<'a> {
    Torrent(Session),
    Unicast,
    Multicast(&'a str),
}

impl Protocol<'_> {
    /// Parses the protocol's name and its options.
    ///
    /// # Errors
    /// [`Code::Format`]: unknown protocol, or options missing or wrong for it.
    fn parse<'a>(engine: &Engine, word: &str, options: Option<&'a str>) -> Result<Protocol<'a>, Error> {
        match word.to_ascii_uppercase().as_str() {
            "TORRENT" => Session::parse(options.unwrap_or(SESSION)).map(Protocol::Torrent),
            "UNICAST" => Ok(Protocol::Unicast),
            "MULTICAST" => {
                let why = "MULTICAST needs a session: port:method:address:rate:clients:seconds";
                let session = options.ok_or_else(|| Error::new(Code::Format, why))?;
                // The session is passed on to the server.
                engine.multicast_line(crate::engine::multicast::Role::Send, session, None)?;
                Ok(Protocol::Multicast(session))
            }
            "RSYNC" => Err(Error::new(Code::DontSyncImage, "synchronised images are not supported")),
            word => {
                let why = format!("unknown protocol {word}: use TORRENT, UNICAST or MULTICAST");
                Err(Error::new(Code::Format, why))
            }
        }
    }
}

/// Fetches `name` from the repository at `address` into the cache, if necessary.
fn update(
    engine: &Engine,
    signals: &Signals,
    (address, name): (&str, &str),
    how: &Protocol,
    io: &mut Io,
) -> Result<Fetched, Error> {
    let text = engine.text("MSG_SCRIPTS_UPDATECACHE_DOUPDATE");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[2] updateCache {name}: {text}"));
    if let Protocol::Torrent(session) = how {
        return fetch::fetch(engine, signals, (address, name), *session, io);
    }
    let directory = engine.directory(&Place::Cache)?;
    ensure_mounted(engine, address, "TORRENT needs no share")?;
    if let Protocol::Multicast(_) = how {
        engine.transfers_by("udp-receiver")?;
    }
    let name = &*engine.image_name(&Place::Repo, name)?;
    let source = engine.file(&Place::Repo, name)?;
    let stop = || signals.ending();
    let necessary = engine.update_is_necessary(name, "UNICAST", false, io.out, &stop)?;
    let relative = crate::engine::env::relative(name).unwrap_or_default();
    let image = engine.find(&Place::Cache, name)?.unwrap_or(directory.join(relative));
    if !necessary {
        return Ok(Fetched { image, is_fresh: false, seeding: None });
    }
    let unwritten = |error| Error::new(Code::UpdateCache, format!("{}: {error}", image.display()));
    fs::create_dir_all(image.parent().unwrap_or(&directory)).map_err(unwritten)?;
    engine.sweep(&image, io.out);
    engine.make_room(&image, space::allocated_kib(&source), io.out)?;
    let _lock = engine.lock_image(&image)?;
    match how {
        Protocol::Multicast(session) => {
            let text = engine.text("MSG_SCRIPTS_UPDATECACHE_CHECKMCASTSESSION");
            engine.say(io.out, Targets::LOG_SESSION, &format!("{text} {address} {session}"));
            let file = format!("/{}", name.trim_start_matches('/'));
            engine.request_multicast(address, &file, session, &|time| signals.sleep(time))?;
            let arrived = transfer::receive_file(engine, &client_session(engine, address, session), &image, io);
            arrived.and_then(|()| beside::remove_derived(&image).map_err(unwritten))?;
        }
        _ => copy(&source, &image, &stop)?,
    }
    let again = engine.update_is_necessary(name, "UNICAST", true, io.out, &stop)?;
    engine.ensure(!again, Code::UpdateCache, format!("{name} differs from the repository's: try again"))?;
    Ok(Fetched { image, is_fresh: true, seeding: None })
}

/// Copies an image. It gets its name once it is complete and matches the repository's checksum, if there is one.
fn copy(source: &Path, image: &Path, stop: &dyn Fn() -> bool) -> Result<(), Error> {
    let failed = |why: String| Error::new(Code::UpdateCache, format!("copy {}: {why}", source.display()));
    let broken = |error: std::io::Error| match error.kind() {
        // A sparse image occupies fewer blocks than its copy.
        std::io::ErrorKind::StorageFull => {
            Error::new(Code::CacheSize, format!("{}: {error}: delete images that are not needed", image.display()))
        }
        _ => failed(format!("{error}: run this command again once the repository is back")),
    };
    let mut from = File::open(source).map_err(broken)?;
    let length = from.metadata().map_err(broken)?.len();
    let mut to = ImageFile::create(image).map_err(|error| failed(error.to_string()))?;
    let progress = Progress::start("copy", length, Style::Auto);
    let mut copied = 0;
    let take = &mut |chunk: &[u8]| {
        copied += chunk.len() as u64;
        progress.advance(chunk.len() as u64);
        to.file().write_all(chunk)
    };
    let sum = drain(&mut from, take, stop).map_err(broken)?;
    let changed = copied != length || Sum::Full.current(source).is_some_and(|wanted| wanted != sum);
    if changed {
        return Err(failed("it does not match its checksum, or changed meanwhile".to_owned()));
    }
    to.finish().map_err(|error| failed(error.to_string()))?;
    beside::remove_derived(image).and_then(|()| Sum::Full.store(image, &sum)).map_err(broken)
}

/// The receiver's session for a server's `session`: port, server address, time-outs in seconds.
fn client_session(engine: &Engine, address: &str, session: &str) -> String {
    let seconds = |variable| engine.env().get(variable).parse::<u32>().unwrap_or(0);
    let port = session.split(':').next().unwrap_or_default();
    let wait = session.rsplit(':').next().and_then(|wait| wait.parse::<u32>().ok()).unwrap_or(0);
    let start = seconds("MCASTERRORSESSION").max(wait.saturating_add(5));
    format!("{port}:{address}:{start}:{}", seconds("MCASTWAIT"))
}

/// The image to restore: up to date, or the cache's copy if that was asked for and the repository is switched off.
fn current(
    engine: &Engine,
    signals: &Signals,
    (address, name): (&str, &str),
    how: &Protocol,
    place: &Place,
    io: &mut Io,
) -> Result<Fetched, Error> {
    match update(engine, signals, (address, name), how, io) {
        Err(error) if error.code == Code::NotFound && *place == Place::Cache => {
            let name = engine.image_name(place, name)?;
            let kept = engine.find(place, &name)?.filter(|image| image.is_file()).ok_or_else(|| error.clone())?;
            engine.echo(io.err, Targets::LOG_SESSION, Level::Warning, &format!("{error}: using the cached copy"));
            Ok(Fetched { image: kept, is_fresh: false, seeding: None })
        }
        done => done,
    }
}

/// Checks that the image fits the partition before it is fetched, if the mounted repository shows its size.
///
/// # Errors
/// [`Code::ImgSizePartition`]: it does not.
fn ensure_fits(engine: &Engine, address: &str, name: &str, device: &Device) -> Result<(), Error> {
    let find = |name: &str| engine.find(&Place::Repo, &engine.image_name(&Place::Repo, name)?);
    let shared = if address == engine.repo_address() { find(name)? } else { None };
    match shared.map(|image| engine.image_for(&image, device)) {
        Some(Err(error)) if error.code == Code::ImgSizePartition => Err(error),
        // Other errors are reported when it is fetched.
        _ => Ok(()),
    }
}

/// Seeds the image if the session uploads and there is a torrent; also returns the seconds to seed for afterwards: none
/// for what the cache had already, as ogTorrentStart does, unless it is a seeder.
fn seeding(fetched: Fetched, session: Session) -> Result<Option<(Seeding, u64)>, Error> {
    let seconds = if fetched.is_fresh || session.seeder { session.seconds } else { 0 };
    let seeding = match fetched.seeding {
        None if session.uploads && beside::with(&fetched.image, ".torrent").exists() => {
            Some(Seeding::start(&fetched.image)?)
        }
        seeding => seeding,
    };
    Ok(seeding.map(|seeding| (seeding, seconds)))
}

/// Reports the image to be deployed, if it can be read from here.
///
/// # Errors
/// [`Code::ImageFile`]: it is not an image.
fn report_image(engine: &Engine, place: &Place, name: &str, word: &str, io: &mut Io) -> Result<(), Error> {
    let name = engine.image_name(place, name)?;
    let Some(image) = engine.find(place, &name)?.filter(|image| image.is_file()) else { return Ok(()) };
    let info = engine.image_info(&image).map_err(|error| {
        Error::new(if error.code == Code::Image { Code::ImageFile } else { error.code }, error.detail)
    })?;
    let (size, image) = (space::allocated_kib(&image), image.display());
    let text = format!("[1] REPO={word} IMG-FILE={image} SIZE={size} (KB)   METADATA={info}");
    engine.say(io.out, Targets::LOG_SESSION, &text);
    Ok(())
}

/// Configures the restored system with the lab's own script, if there is one.
fn configure(engine: &Engine, words: &[&str], io: &mut Io) -> Result<(), Error> {
    let (custom, usual) = ("configureOsCustom", "configureOs");
    let line = match () {
        () if engine.has_program(custom) => vec![custom, words[2], words[3], words[0], words[1]],
        () if engine.has_program(usual) => vec![usual, words[2], words[3]],
        () => return Ok(()),
    };
    let text = engine.text("MSG_SCRIPTS_OS_CONFIGURE");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[90] {text}: {}", line.join(" ")));
    // As in OpenGnsys, the script's exit code does not matter: the image is restored.
    engine.tool(&line, "", io.out, &mut |_| ()).map(drop)
}

/// Restores the image and grows the file system to the size of its partition.
fn restore(engine: &Engine, signals: &Signals, image: &Path, device: &Device, io: &mut Io) -> Result<(), Error> {
    let info = engine.image_for(image, device)?;
    let text = format!("[55] {} -> {}", image.display(), device.path.display());
    engine.say(io.out, Targets::LOG_SESSION, &text);
    let line = watched("restore", signals, |watch| engine.restore_locked(image, &info, device, watch))?;
    engine.say(io.out, Targets::LOG_SESSION, &line);
    if info.size < device.size()? {
        let extended = engine.extend_fs(device, io.out);
        care(engine, "[90] ogExtendFs", device, extended, io)?;
    }
    Ok(())
}

/// Reports that a step was done, or skipped because a program is missing.
pub fn care(engine: &Engine, step: &str, device: &Device, done: Result<Step, Error>, io: &mut Io) -> Result<(), Error> {
    let text = format!("{step} {} {}", device.disk, device.partition.unwrap_or_default());
    match done? {
        Step::Done => engine.say(io.out, Targets::LOG_SESSION, &text),
        Step::Missing(program) => {
            let text = format!("{text}: {program} is not installed: skipped");
            engine.echo(io.err, Targets::LOG_SESSION, Level::Warning, &text);
        }
        Step::Idle => {}
    }
    Ok(())
}

/// Clears the session's logs and reports the start.
pub fn begin(engine: &Engine, words: &[&str], io: &mut Io) -> Instant {
    for log in ["OGLOGSESSION", "OGLOGCOMMAND"] {
        // A log that cannot be written to is skipped.
        let _ = links::open_anew(&engine.env().path(log));
    }
    let text = engine.text("MSG_SCRIPTS_START");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[1]{text}{} {}", engine.name(), words.join(" ")));
    Instant::now()
}

/// Reports the end and the time taken.
pub fn finish(engine: &Engine, begun: Instant, io: &mut Io) -> Result<Exit, Error> {
    let text = engine.text("MSG_SCRIPTS_TIME_TOTAL");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[100] {text}: {}", clock(begun)));
    Ok(Exit::OK)
}

/// The time since `begun` in OpenGnsys' form: `2m 5s`.
fn clock(begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs();
    format!("{}m {}s", seconds / 60, seconds % 60)
}
