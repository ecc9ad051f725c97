//! ogCreateTorrent, ogTorrentStart, and the wiki's ogShareTorrent, ogReceiveTorrent and ogStartTracker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::swarm::{self, Session, catch_signals, is_whole};
use super::{FILE, Function, print, split_file};
use crate::applets::{Exit, Io};
use crate::base::signal::Signals;
use crate::base::{shell, whole};
use crate::client::child::{Fetching, Seeding, applet, client, start_daemon};
use crate::client::daemons::start_tracker;
use crate::client::pursuit::Pursuit;
use crate::client::source::{Source, Torrent, carry_over};
use crate::engine::{Code, Engine, Error, Place, beside};
use crate::storage::Journal;
use crate::torrent::Metainfo;

/// ogCreateTorrent: the image is named without its extension.
pub const CREATE: Function = Function {
    format: "[str_REPOSITORY] [int_ndisk int_npart] Relative_path_file IpBttrack",
    examples: &["1 1 /aula1/winxp 10.1.15.23", "REPO /aula1/winxp 10.1.15.45"],
    words: 2..=4,
    run: |engine, words, io| {
        let (file, tracker) = split_file(words);
        let [tracker] = tracker else { return Err(Error::usage(engine.name(), CREATE.format)) };
        let (place, name) = engine.place(file)?;
        let image = engine.image(&place, &name).map_err(no_cache)?;
        swarm::describe(engine, &catch_signals()?, &image, tracker, io)?;
        Ok(Exit::OK)
    },
};

/// ogTorrentStart: only for this machine's own files, never the repository's.
pub const START: Function = Function {
    format: "[ CACHE | int_ndisk int_npart ] path_torrent mode:seconds",
    examples: &["CACHE /PS1_PH1.img.torrent seeder:10000", "/opt/opengnsys/cache/linux.iso.torrent peer:60"],
    words: 2..=4,
    run: |engine, words, io| {
        let (file, session) = split_file(words);
        let [session] = session else { return Err(Error::usage(engine.name(), START.format)) };
        let session = Session::parse(session)?;
        let (place, name) = engine.place(file)?;
        let refused = || Error::new(Code::Format, format!("{name}: copy the torrent to the cache first"));
        if place == Place::Repo || place == Place::Root && name.starts_with(engine.env().get("OGIMG")) {
            return Err(refused());
        }
        let torrent = engine.file(&place, &name)?;
        // Judged by where it leads: the cache's images are below a directory that is called like the repository's.
        if leads_into(engine, &torrent, "OGIMG") && !leads_into(engine, &torrent, "OGCAC") {
            return Err(refused());
        }
        let signals = catch_signals()?;
        let mut wanted = Source::file(torrent.clone()).torrent(&signals)?;
        let data = torrent.with_extension("");
        let begun = beside::with(&torrent, ".bf");
        if data.exists() && !begun.exists() {
            print(io, "imagen ya descargada")?;
            if !session.seeder {
                return Ok(Exit::OK);
            }
            print(io, "MODE seeder ctorrent")?;
            let mut command = client();
            command.args(["-f", "--leave", &session.seconds.to_string(), "-s"]).arg(&data).arg(&torrent);
            Fetching { engine, signals: &signals, data: None, renewal: None }.run(&mut command, false, io.out)?;
            return Ok(Exit::OK);
        }
        // A lock in the cache ends with its process, so a killed one locks nobody out.
        let cached = data.starts_with(engine.env().path("OGCAC"));
        let _lock = cached.then(|| engine.lock_image(&data)).transpose()?;
        print(io, if data.exists() { "Continuar con Descargar inicial no terminada." } else { "descarga inicial" })?;
        print(
            io,
            match session {
                Session { seeder: true, .. } => "MODE seeder ctorrent",
                Session { uploads: true, .. } => "Donwloading Torrent as peer",
                _ => "Donwloading Torrent as leecher",
            },
        )?;
        let unwritten = |error| Error::new(Code::NotWrite, format!("{}: {error}", begun.display()));
        remove_other(&data, &wanted.metainfo).and_then(|()| std::fs::write(&begun, "")).map_err(unwritten)?;
        // What stands in the cache may be created anew in the repository meanwhile.
        let source = match data.strip_prefix(engine.directory(&Place::Cache).unwrap_or_default()) {
            Ok(name) if cached => {
                wanted.name = name.to_string_lossy().into_owned();
                Some(Source::of(engine, engine.repo_address(), &wanted.name)?)
            }
            _ => None,
        };
        let whole = download(engine, &signals, session, source, (&torrent, wanted), io)?;
        let why = format!("{}: the download was interrupted: the next call resumes it", data.display());
        engine.ensure(whole, Code::UpdateCache, why)?;
        // A complete image needs neither.
        [&beside::with(&data, Journal::END), &begun]
            .into_iter()
            .try_for_each(|path| beside::remove(path))
            .map_err(unwritten)?;
        Ok(Exit::OK)
    },
};

/// Downloads `wanted`, whose file is `torrent`, beside it, and seeds it as the session says; whether it is complete.
fn download(
    engine: &Engine,
    signals: &Signals,
    session: Session,
    source: Option<Source>,
    (torrent, wanted): (&Path, Torrent),
    io: &mut Io,
) -> Result<bool, Error> {
    let (data, bitfield) = (torrent.with_extension(""), beside::with(torrent, ".bfog"));
    let unwritten = |error| Error::new(Code::NotWrite, format!("{}: {error}", torrent.display()));
    let pursuit = Pursuit {
        engine,
        signals,
        source,
        data: None,
        seeds: false,
        prepare: &|wanted, begun, _| match begun {
            0 => Ok(()),
            _ => carry_over(&data, &bitfield, &wanted.metainfo)
                .and_then(|()| whole::write(torrent, &wanted.bytes))
                .map_err(unwritten),
        },
        command: &|| {
            let mut command = client();
            match session.uploads {
                true => command.args(["--leave", &session.seconds.to_string()]),
                false => command.args(["--leech", "--leave", "0"]),
            };
            command.args(["-C", "64", "-s"]).arg(&data).arg("-b").arg(&bitfield).arg(torrent);
            command
        },
    };
    Ok(pursuit.run(wanted, io.out)?.is_some())
}

/// Whether `path` leads into the directory that `variable` holds.
fn leads_into(engine: &Engine, path: &Path, variable: &str) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or(path.to_owned());
    real(path).starts_with(real(&engine.env().path(variable)))
}

/// ogShareTorrent: seeds in the background for ctorrent's default time.
pub const SHARE: Function = Function {
    format: FILE,
    examples: &["REPO /aula1/winxp", "CACHE /winxp"],
    words: 1..=3,
    run: |engine, words, io| {
        let (place, name) = engine.place(words)?;
        let torrent = torrent_of(engine, &place, &name).map_err(no_cache)?;
        print(io, &format!("ctorrent {} -d", shell::word(&torrent.to_string_lossy())))?;
        let mut command = applet("ctorrent");
        command.arg("-s").arg(torrent.with_extension("")).arg(&torrent);
        start_daemon("ctorrent", &mut command)?;
        Ok(Exit::OK)
    },
};

/// ogReceiveTorrent: downloads into the cache, then seeds for 20 seconds. Like its namesake it does not seed an image
/// that was there already.
pub const RECEIVE: Function = Function {
    format: FILE,
    examples: &["REPO /aula1/winxp"],
    words: 1..=3,
    run: |engine, words, io| {
        let (place, name) = engine.place(words)?;
        let directory = engine.directory(&Place::Cache).map_err(no_cache)?;
        engine.ensure(directory.is_dir(), Code::NotFound, directory.display().to_string())?;
        let torrent = torrent_of(engine, &place, &name)?;
        let signals = catch_signals()?;
        let source = Source::file(torrent.clone());
        let mut wanted = source.torrent(&signals)?;
        let base = torrent.with_extension("");
        let image = directory.join(base.file_name().unwrap_or_default());
        let lock = engine.lock_image(&image)?;
        let unwritten = |error| Error::new(Code::NotWrite, format!("{}: {error}", image.display()));
        let was_whole = is_whole(&signals, &image, &wanted.metainfo);
        if !was_whole {
            let (part, bitfield) = (beside::with(&image, ".part"), beside::with(&image, ".torrent.bfog"));
            remove_other(&part, &wanted.metainfo).map_err(unwritten)?;
            let pursuit = Pursuit {
                engine,
                signals: &signals,
                source: Some(source),
                data: Some(&part),
                seeds: false,
                prepare: &|wanted, begun, _| match begun {
                    0 => Ok(()),
                    _ => carry_over(&part, &bitfield, &wanted.metainfo).map_err(unwritten),
                },
                command: &|| {
                    let mut command = client();
                    command.args(["--leave", "0", "-s"]).arg(&part).arg("-b").arg(&bitfield).arg(&torrent);
                    command
                },
            };
            let why = format!("the download of {name} was interrupted: the next call resumes it");
            let fetched = pursuit.run(wanted, io.out)?;
            wanted = fetched.ok_or_else(|| Error::new(Code::UpdateCache, why))?.0;
            beside::remove_derived(&image).and_then(|()| whole::finish(&part, &image)).map_err(unwritten)?;
            beside::remove(&beside::with(&part, Journal::END)).map_err(unwritten)?;
        }
        let ours = beside::with(&image, ".torrent");
        if ours != torrent {
            whole::write(&ours, &wanted.bytes).map_err(unwritten)?;
        }
        drop(lock);
        if was_whole {
            return Ok(Exit::OK);
        }
        let _seeding = Seeding::start(&image)?;
        signals.sleep(Duration::from_secs(20));
        Ok(Exit::OK)
    },
};

/// ogStartTracker: for the cache's torrents, or the repository's if there is no cache.
pub const START_TRACKER: Function = Function {
    format: "",
    examples: &[],
    words: 0..=0,
    run: |engine, _, io| {
        let place = if engine.has_cache() { Place::Cache } else { Place::Repo };
        let started = start_tracker(engine, &catch_signals()?, &engine.directory(&place)?)?;
        if started { Ok(Exit::OK) } else { print(io, "bttrack iniciado") }
    },
};

/// The torrent of the image `name` of `place`, named without its extension.
fn torrent_of(engine: &Engine, place: &Place, name: &str) -> Result<PathBuf, Error> {
    let [usual, other] = [".img.torrent", ".img.zst.torrent"].map(|end| engine.file(place, &format!("{name}{end}")));
    usual.or_else(|error| other.map_err(|_| error))
}

/// Removes a partial download of another image of the same name, recognised by its length.
fn remove_other(begun: &Path, wanted: &Metainfo) -> std::io::Result<()> {
    let is_other = begun.metadata().is_ok_and(|metadata| metadata.len() != wanted.geometry.length());
    if is_other { beside::remove(begun) } else { Ok(()) }
}

/// Maps a missing cache to the exit code that the torrent functions have for it.
fn no_cache(error: Error) -> Error {
    if error.code == Code::NotCache { Error::new(Code::NotFound, error.detail) } else { error }
}
