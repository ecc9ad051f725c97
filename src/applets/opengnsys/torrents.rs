//! ogCreateTorrent, ogTorrentStart, and the wiki's ogShareTorrent, ogReceiveTorrent and ogStartTracker.

use std::path::Path;
use std::time::Duration;

use super::child::{self, Seeding, applet, client};
use super::fetch::ensure_describes;
use super::swarm::{self, Session, catch_signals, is_whole};
use super::{FILE, Function, print, split_file};
use crate::applets::Exit;
use crate::base::{shell, whole};
use crate::engine::{Code, Error, Place, beside};
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
        let shared = place == Place::Repo || name.starts_with(engine.env().get("OGIMG"));
        engine.ensure(!shared, Code::Format, format!("{name}: copy the torrent to the cache first"))?;
        let torrent = engine.file(&place, &name)?;
        let wanted = described(&torrent)?;
        let data = torrent.with_extension("");
        let (begun, bitfield) = (beside::with(&torrent, ".bf"), beside::with(&torrent, ".bfog"));
        let signals = catch_signals()?;
        let mut command = client();
        let leave = session.seconds.to_string();
        if data.exists() && !begun.exists() {
            print(io, "imagen ya descargada")?;
            if !session.seeder {
                return Ok(Exit::OK);
            }
            print(io, "MODE seeder ctorrent")?;
            command.args(["-f", "--leave", &leave, "-s"]).arg(&data).arg(&torrent);
            child::ctorrent(engine, &signals, &mut command, None, io)?;
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
        remove_other(&data, &wanted).and_then(|()| std::fs::write(&begun, "")).map_err(unwritten)?;
        if session.uploads {
            command.args(["--leave", &leave]);
        } else {
            command.args(["--leech", "--leave", "0"]);
        }
        command.args(["-C", "64", "-s"]).arg(&data).arg("-b").arg(&bitfield).arg(&torrent);
        let whole = child::ctorrent(engine, &signals, &mut command, None, io)?;
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

/// ogShareTorrent: seeds in the background for ctorrent's default time.
pub const SHARE: Function = Function {
    format: FILE,
    examples: &["REPO /aula1/winxp", "CACHE /winxp"],
    words: 1..=3,
    run: |engine, words, io| {
        let (place, name) = engine.place(words)?;
        let torrent = engine.file(&place, &format!("{name}.img.torrent")).map_err(no_cache)?;
        print(io, &format!("ctorrent {} -d", shell::word(&torrent.to_string_lossy())))?;
        let mut command = applet("ctorrent");
        command.arg("-s").arg(torrent.with_extension("")).arg(&torrent);
        child::start_daemon("ctorrent", &mut command)?;
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
        let torrent = engine.file(&place, &format!("{name}.img.torrent"))?;
        let wanted = described(&torrent)?;
        let base = torrent.with_extension("");
        let image = directory.join(base.file_name().unwrap_or_default());
        let signals = catch_signals()?;
        let lock = engine.lock_image(&image)?;
        let was_whole = is_whole(&signals, &image, &wanted);
        if !was_whole {
            let (part, bitfield) = (beside::with(&image, ".part"), beside::with(&image, ".torrent.bfog"));
            let unwritten = |error| Error::new(Code::NotWrite, format!("{}: {error}", image.display()));
            remove_other(&part, &wanted).map_err(unwritten)?;
            let mut command = client();
            command.args(["--leave", "0", "-s"]).arg(&part).arg("-b").arg(&bitfield).arg(&torrent);
            let why = format!("the download of {name} was interrupted: the next call resumes it");
            let whole = child::ctorrent(engine, &signals, &mut command, Some(&part), io)?;
            engine.ensure(whole, Code::UpdateCache, why)?;
            beside::remove_derived(&image).and_then(|()| whole::finish(&part, &image)).map_err(unwritten)?;
            beside::remove(&beside::with(&part, Journal::END)).map_err(unwritten)?;
        }
        let ours = beside::with(&image, ".torrent");
        if ours != torrent {
            let unwritten = |error| Error::new(Code::NotWrite, format!("{}: {error}", ours.display()));
            std::fs::read(&torrent).and_then(|bytes| whole::write(&ours, bytes)).map_err(unwritten)?;
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
        let started = swarm::start_tracker(engine, &catch_signals()?, &engine.directory(&place)?)?;
        if started { Ok(Exit::OK) } else { print(io, "bttrack iniciado") }
    },
};

/// Reads a .torrent, which must describe the file it is named after.
fn described(torrent: &Path) -> Result<Metainfo, Error> {
    let metainfo = Metainfo::read(torrent).map_err(|error| Error::new(Code::NotFound, error.to_string()))?;
    let file = torrent.with_extension("");
    ensure_describes(&metainfo, file.file_name().unwrap_or_default(), &torrent.display().to_string())?;
    Ok(metainfo)
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
