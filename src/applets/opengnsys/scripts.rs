//! createImage, updateCache, restoreImage, deployImage: what the console and people call.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::imaging::watched;
use super::swarm::{self, Seeding, Session, catch_signals};
use super::{Function, paths};
use crate::applets::{Exit, Io};
use crate::engine::checksum::Sum;
use crate::engine::{Code, Device, Engine, Error, Level, Place, Targets, beside, space};

/// The session of who names none.
const SESSION: &str = "peer:60";

/// createImage.
pub const CREATE: Function = Function {
    format: "int_ndisk int_npartition REPO|CACHE|ip str_image",
    examples: &["1 1 REPO Ubuntu"],
    words: 4..=4,
    run: |engine, words, io| {
        let begun = begin(engine, words, io);
        let (place, address) = swarm::repository(engine, words[2])?;
        let name = words[3];
        let directory = engine.directory(&place)?;
        let device = paths::partition(engine, &words[..2]).map_err(|error| {
            Error::new(if error.code == Code::NotFound { Code::Partition } else { error.code }, error.detail)
        })?;
        let file = crate::engine::env::relative(&format!("{name}.img"))
            .ok_or_else(|| Error::new(Code::Format, format!("{name} leads out of {}", directory.display())))?;
        let image = engine.find(&place, &format!("{name}.img"))?.unwrap_or_else(|| directory.join(file));
        fs::create_dir_all(image.parent().unwrap_or(&directory))
            .map_err(|error| Error::new(Code::NotWrite, format!("{}: {error}", image.display())))?;
        if let Ok(sizes) = engine.sizes(&device, &place, name) {
            let text = engine.text("MSG_SCRIPTS_CREATE_SIZE");
            engine.say(io.out, Targets::LOG_SESSION, &format!("[16] {text}{} {}", sizes.required, sizes.free));
            engine.ensure(
                sizes.fits(),
                Code::CacheSize,
                format!("{} KB wanted, {} free", sizes.required, sizes.free),
            )?;
        }
        if engine.image_is_locked(&image) {
            return Err(engine.image_locked(&image));
        }
        let older = image.exists();
        if older {
            let text = engine.text("MSG_SCRIPTS_FILE_RENAME");
            engine.say(io.out, Targets::LOG_SESSION, &format!("[35] {text}{name}.img"));
            beside::keep_as_backup(&image).map_err(|error| Error::new(Code::NotWrite, error.to_string()))?;
        }
        engine.say(io.out, Targets::LOG_SESSION, &format!("[40] ogCreateImage {}", words.join(" ")));
        let (tool, compressor) = (engine.env().get("IMGPROG"), engine.env().get("IMGCOMP"));
        let Io { out, err } = io;
        let mut warn = |text: &str| engine.echo(*err, Targets::NONE, Level::Warning, text);
        let saved =
            watched(engine, "save", |watch| engine.save_image(&device, &image, tool, compressor, watch, &mut warn));
        if saved.is_err() && older {
            // The older image goes on under its name.
            for extension in ["", ".torrent", ".sum", ".full.sum"] {
                let path = beside::with(&image, extension);
                let _ = fs::rename(beside::with(&path, ".ant"), path);
            }
        }
        engine.say(*out, Targets::LOG_SESSION, &saved?);
        engine.say(*out, Targets::LOG_SESSION, &format!("[95] ogCreateTorrent {} {name}", words[2]));
        let signals = catch_signals()?;
        // A lab's torrent-creator makes all that is beside an image anew when its checksums are missing.
        for sum in [Sum::Tail, Sum::Full] {
            let kept = sum.of(&image, &|| signals.ending()).and_then(|hash| sum.store(&image, &hash));
            kept.map_err(|error| Error::new(Code::NotWrite, format!("sum {}: {error}", image.display())))?;
        }
        let own = engine.address();
        let tracker = if place == Place::Cache || address.is_empty() { &own } else { address };
        swarm::describe(engine, &signals, &image, tracker, io)?;
        if place == Place::Cache {
            swarm::start_tracker(engine, &signals, &directory)?;
            swarm::start_seeder(&directory)?;
        }
        let info = engine.image_info(&image)?;
        engine.say(io.out, Targets::LOG_SESSION, &format!("{name}.img: {} KB, {info}", space::allocated_kib(&image)));
        finish(engine, begun, io)
    },
};

/// updateCache.
pub const UPDATE: Function = Function {
    format: "REPO|ip /path_file TORRENT|UNICAST [mode:seconds]",
    examples: &["REPO /win10.img TORRENT peer:60", "REPO /win10.img UNICAST"],
    words: 3..=4,
    run: |engine, words, io| {
        let begun = Instant::now();
        let (place, address) = swarm::repository(engine, words[0])?;
        engine.ensure(place == Place::Repo, Code::NotFound, format!("{} is no repository", words[0]))?;
        let session = Session::parse(words.get(3).copied().unwrap_or(SESSION)).or_else(|error| {
            if words[2].eq_ignore_ascii_case("TORRENT") { Err(error) } else { Session::parse(SESSION) }
        })?;
        let fresh = update(engine, (address, words[1]), words[2], session, io)?;
        let text = engine.text("MSG_SCRIPTS_TIME_PARTIAL");
        engine.say(io.out, Targets::LOG_SESSION, &format!("[50] {text}: {}", clock(begun)));
        if words[2].eq_ignore_ascii_case("TORRENT") && (fresh.1 || session.seeder) {
            seed_for(&fresh.0, session)?;
        }
        Ok(Exit::OK)
    },
};

/// restoreImage: with TORRENT from the cache, to which the image is brought if it is not there or is another.
pub const RESTORE: Function = Function {
    format: "REPO|CACHE|ip str_image int_ndisk int_npartition [TORRENT|UNICAST|UNICAST-DIRECT [mode:seconds]]",
    examples: &["REPO Ubuntu 1 1", "CACHE Ubuntu 1 1 TORRENT peer:60"],
    words: 4..=6,
    run: |engine, words, io| {
        let begun = begin(engine, words, io);
        let device = paths::partition(engine, &words[2..4])?;
        let (place, address) = swarm::repository(engine, words[0])?;
        let protocol = words.get(4).map_or("UNICAST", |word| *word).to_ascii_uppercase();
        let name = format!("{}.img", words[1]);
        let to_cache = protocol == "TORRENT" || (place == Place::Cache && words.len() > 4 && protocol == "UNICAST");
        if !to_cache {
            engine.ensure(protocol.starts_with("UNICAST"), Code::Format, unknown(&protocol))?;
            if place == Place::Repo {
                is_mounted(engine, address)?;
            }
            let image = engine.file(&place, &name)?;
            restore(engine, &image, &device, io)?;
            return finish(engine, begun, io);
        }
        let session = Session::parse(words.get(5).copied().unwrap_or(SESSION))?;
        let address = if place == Place::Cache { swarm::repo_address(engine) } else { address };
        let image = match update(engine, (address, &name), &protocol, session, io) {
            Ok((image, _)) => image,
            // The repository may be switched off: what the cache has is there for that.
            Err(error) if error.code == Code::NotFound && place == Place::Cache => {
                let kept = engine.find(&place, &name)?.filter(|image| image.is_file()).ok_or_else(|| error.clone())?;
                engine.echo(io.err, Targets::LOG_SESSION, Level::Warning, &format!("{error}: as the cache has it"));
                kept
            }
            Err(error) => return Err(error),
        };
        let described = beside::with(&image, ".torrent").exists();
        let seeding = match protocol == "TORRENT" && session.uploads && described {
            true => Some(Seeding::start(&image)?),
            false => None,
        };
        restore(engine, &image, &device, io)?;
        finish(engine, begun, io)?;
        if seeding.is_some() {
            catch_signals()?.sleep(Duration::from_secs(session.seconds));
        }
        Ok(Exit::OK)
    },
};

/// deployImage: through the cache unless the protocol says DIRECT.
pub const DEPLOY: Function = Function {
    format: "REPO|CACHE|ip str_image int_ndisk int_npartition [TORRENT|UNICAST|UNICAST-DIRECT [mode:seconds]]",
    examples: &["REPO win10 1 1 TORRENT peer:60"],
    words: 4..=6,
    run: |engine, words, io| {
        let protocol = words.get(4).map_or("UNICAST", |word| *word).to_ascii_uppercase();
        let (place, _) = swarm::repository(engine, words[0])?;
        let protocol = protocol.strip_suffix("-CACHE").unwrap_or(&protocol);
        let mut through: Vec<&str> = words[..4].to_vec();
        if place == Place::Cache || protocol.ends_with("-DIRECT") {
            return (RESTORE.run)(engine, &through, io);
        }
        if protocol == "UNICAST" {
            through[0] = "CACHE";
        }
        through.push(protocol);
        through.extend(words.get(5));
        match (RESTORE.run)(engine, &through, io) {
            Err(error) if matches!(error.code, Code::NotCache | Code::CacheSize) => {
                engine.ensure(engine.env().get("RESTOREPROTOCOLNOTCACHE") == "UNICAST", error.code, error.detail)?;
                (RESTORE.run)(engine, &words[..4], io)
            }
            done => done,
        }
    },
};

/// Brings `name` of the repository at `address` to the cache; gives where it is, and whether it had to be brought.
fn update(
    engine: &Engine,
    (address, name): (&str, &str),
    protocol: &str,
    session: Session,
    io: &mut Io,
) -> Result<(PathBuf, bool), Error> {
    let text = engine.text("MSG_SCRIPTS_UPDATECACHE_DOUPDATE");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[2] updateCache {name} {protocol}: {text}"));
    let signals = catch_signals()?;
    match protocol.to_ascii_uppercase().as_str() {
        "TORRENT" => {
            let kept = engine.find(&Place::Cache, name)?;
            let before = kept.as_ref().and_then(|image| image.metadata().ok()?.modified().ok());
            let image = swarm::fetch(engine, &signals, (address, name), session, io)?;
            let now = image.metadata().and_then(|image| image.modified()).ok();
            Ok((image, before.is_none() || before != now))
        }
        "UNICAST" => {
            is_mounted(engine, address)?;
            let stop = || signals.ending();
            let necessary = engine.update_is_necessary(name, protocol, io.out, &stop)?;
            let source = engine.file(&Place::Repo, name)?;
            let relative = crate::engine::env::relative(name).unwrap_or_default();
            let image = engine.find(&Place::Cache, name)?.unwrap_or(engine.directory(&Place::Cache)?.join(relative));
            if necessary {
                let unwritten = |error| Error::new(Code::UpdateCache, format!("{}: {error}", image.display()));
                fs::create_dir_all(image.parent().unwrap_or(&image)).map_err(unwritten)?;
                swarm::make_room(engine, &image, space::allocated_kib(&source), io)?;
                let part = beside::with(&image, ".part");
                fs::copy(&source, &part).and_then(|_| fs::rename(&part, &image)).map_err(unwritten)?;
                let again = engine.update_is_necessary(name, protocol, io.out, &stop)?;
                engine.ensure(!again, Code::UpdateCache, format!("{name} changed while it was copied"))?;
            }
            Ok((image, necessary))
        }
        protocol => Err(Error::new(Code::Format, unknown(protocol))),
    }
}

/// Whether the repository at `address` is the one whose share this PC has mounted.
///
/// # Errors
/// It is another: OG_ERR_NOTFOUND, as when OpenGnsys cannot change to it.
fn is_mounted(engine: &Engine, address: &str) -> Result<(), Error> {
    let why = || format!("the share of {address} is not mounted here; TORRENT needs none");
    engine.ensure(address == swarm::repo_address(engine), Code::NotFound, why())
}

fn unknown(protocol: &str) -> String {
    format!("{protocol} is not spoken here: TORRENT and UNICAST are")
}

fn restore(engine: &Engine, image: &std::path::Path, device: &Device, io: &mut Io) -> Result<(), Error> {
    let text = format!("[55] {} -> {}", image.display(), device.path.display());
    engine.say(io.out, Targets::LOG_SESSION, &text);
    let line = watched(engine, "restore", |watch| engine.restore_image(image, device, watch))?;
    engine.say(io.out, Targets::LOG_SESSION, &line);
    Ok(())
}

fn seed_for(image: &std::path::Path, session: Session) -> Result<(), Error> {
    if session.uploads && session.seconds > 0 {
        let _seeding = Seeding::start(image)?;
        catch_signals()?.sleep(Duration::from_secs(session.seconds));
    }
    Ok(())
}

/// Clears the logs of the person before the screen and tells what begins.
fn begin(engine: &Engine, words: &[&str], io: &mut Io) -> Instant {
    for log in ["OGLOGSESSION", "OGLOGCOMMAND"] {
        // A log that cannot be written to is left out.
        let _ = fs::write(engine.env().path(log), "");
    }
    let text = engine.text("MSG_SCRIPTS_START");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[1]{text}{} {}", engine.name(), words.join(" ")));
    Instant::now()
}

fn finish(engine: &Engine, begun: Instant, io: &mut Io) -> Result<Exit, Error> {
    let text = engine.text("MSG_SCRIPTS_TIME_TOTAL");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[100] {text}: {}", clock(begun)));
    Ok(Exit::OK)
}

/// `2m 5s`, as OpenGnsys tells times.
fn clock(begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs();
    format!("{}m {}s", seconds / 60, seconds % 60)
}
