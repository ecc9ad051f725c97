//! Fetching an image from the repository into the cache through the swarm: finding its torrent, checking whether the
//! cache has it, making room.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child::{Seeding, client, ctorrent, fetch_and_seed};
use super::swarm::{Session, TRACKER_PORT};
use crate::applets::Io;
use crate::base::signal::Signals;
use crate::base::{percent, whole};
use crate::engine::checksum::Sum;
use crate::engine::{Code, Engine, Error, Place, Targets, beside, cache, space};
use crate::storage::Journal;
use crate::torrent::Metainfo;
use crate::tracker::client::{self as tracker, Client};

/// Longest .torrent accepted from a tracker, bytes: 800 GiB in pieces of 256 KiB.
const MAX_METAINFO: u64 = 64 << 20;
/// Time-out of a tracker's answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Times that a tracker which does not know an image is asked again.
const LOOKS: u32 = 8;
/// Pause between these.
const LOOK: Duration = Duration::from_millis(500);

/// The repository's address: `ogrepo` of the kernel command line, else `ROOTREPO`.
pub fn repo_address(engine: &Engine) -> &str {
    match engine.env().get("ogrepo") {
        "" => engine.env().get("ROOTREPO"),
        address => address,
    }
}

/// Checks that this PC has mounted the share of the repository at `address`; `instead` tells the user what else to do.
///
/// # Errors
/// [`Code::NotFound`] if it is another's, as when OpenGnsys cannot change repositories.
pub fn ensure_mounted(engine: &Engine, address: &str, instead: &str) -> Result<(), Error> {
    let why = format!("the share of {address} is not mounted here; {instead}");
    engine.ensure(address == repo_address(engine), Code::NotFound, why)
}

/// Parses `REPO`, `CACHE` or an address, where this PC's own means its cache. Also returns the address to fetch from.
///
/// # Errors
/// [`Code::Format`]: `word` is none of them.
pub fn repository<'a>(engine: &'a Engine, word: &'a str) -> Result<(Place, &'a str), Error> {
    if word.parse::<IpAddr>().is_err() {
        return Ok((engine.named_place(word)?, repo_address(engine)));
    }
    let is_repo = word == repo_address(engine);
    Ok((if engine.is_own_address(word) && !is_repo { Place::Cache } else { Place::Repo }, word))
}

/// The .torrent of the image file `name`: from the mounted repository, else from the tracker at `address`.
fn metainfo(engine: &Engine, signals: &Signals, address: &str, name: &str) -> Result<(Vec<u8>, Metainfo), Error> {
    let shared = match address == repo_address(engine) {
        true => engine.find(&Place::Repo, &format!("{name}.torrent"))?,
        false => None,
    };
    let base = Path::new(name).file_name().unwrap_or_default();
    let (from, bytes) = match shared {
        Some(path) => (path.display().to_string(), fs::read(&path).map_err(|error| error.to_string())),
        None if address.is_empty() => {
            let why = format!("REPO {name}.torrent: not in {}, and ", engine.env().path("OGIMG").display());
            return Err(Error::new(Code::NotFound, why + "neither ogrepo nor ROOTREPO names the repository's address"));
        }
        None => {
            let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let mut url = format!("http://{host}:{TRACKER_PORT}/file?name=");
            percent::escape(name.trim_start_matches('/').as_bytes(), &mut url);
            let client =
                Client::new(concat!("ogbox/", env!("CARGO_PKG_VERSION")), Ipv4Addr::UNSPECIFIED.into(), PATIENCE);
            // A new image is unknown until the tracker scans its directory again.
            let mut looks = 0..LOOKS;
            let got = loop {
                match client.fetch(&url, MAX_METAINFO) {
                    Err(tracker::Error::Status { code: 404, .. }) if looks.next().is_some() && signals.sleep(LOOK) => {}
                    got => break got.map_err(refused),
                }
            };
            (url, got)
        }
    };
    let wrong = |why: String| Error::new(Code::NotFound, format!("{from}: {why}"));
    let bytes = bytes.map_err(wrong)?;
    let metainfo = Metainfo::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
    ensure_describes(&metainfo, base, &from)?;
    Ok((bytes, metainfo))
}

/// The reason why a tracker sent no .torrent, and the remedy.
fn refused(error: tracker::Error) -> String {
    match error {
        tracker::Error::Status { code: 400, .. } => {
            "the tracker does not send torrents by name: ogbox's bttrack does with --allow_get 1".to_owned()
        }
        tracker::Error::Status { code: 404, .. } => "the tracker knows no image of this name".to_owned(),
        error => error.to_string(),
    }
}

/// Checks that the .torrent `from` describes a single file named `base`, in any case.
///
/// # Errors
/// [`Code::NotFound`]: it describes another file or a directory.
pub fn ensure_describes(metainfo: &Metainfo, base: &OsStr, from: &str) -> Result<(), Error> {
    let (what, base) = (metainfo.name.as_str(), base.to_string_lossy());
    let what = if metainfo.multi_file { "a directory" } else { what };
    let why = format!("{from}: describes {what}, not {base}: make a new one with ogCreateTorrent");
    // ogGetPath ignores case.
    if what.to_lowercase() == base.to_lowercase() { Ok(()) } else { Err(Error::new(Code::NotFound, why)) }
}

/// Whether `image` is complete and the one `wanted` describes: fetched by the same torrent and not changed since.
fn is_current(image: &Path, wanted: &Metainfo) -> bool {
    let torrent = beside::with(image, ".torrent");
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let unchanged = changed(image).ok().zip(changed(&torrent).ok()).is_some_and(|(image, torrent)| image <= torrent);
    unchanged
        && image.metadata().is_ok_and(|image| image.len() == wanted.geometry.length())
        && !beside::with(image, ".torrent.bf").exists()
        && Metainfo::read(&torrent).is_ok_and(|ours| ours.info_hash == wanted.info_hash)
}

/// An image in the cache.
pub struct Fetched {
    pub image: PathBuf,
    /// Whether it had to be fetched.
    pub is_fresh: bool,
    /// The client that fetched it and seeds it now.
    pub seeding: Option<Seeding>,
}

/// Fetches the image file `name` of the repository at `address` into the cache through the swarm, unless the cache has
/// it. Until complete it is `X.img.part`, from which an interrupted download resumes. A session that may upload seeds
/// from the first piece on, without a break at the end of the download.
///
/// # Errors
/// [`Code::NotCache`], [`Code::CacheSize`]; [`Code::Locked`]: it is being fetched. [`Code::NotFound`]: its torrent is
/// not found. [`Code::UpdateCache`]: the download was interrupted.
pub fn fetch(
    engine: &Engine,
    signals: &Signals,
    (address, name): (&str, &str),
    session: Session,
    io: &mut Io,
) -> Result<Fetched, Error> {
    let directory = engine.directory(&Place::Cache)?;
    let (bytes, wanted) = metainfo(engine, signals, address, name)?;
    let relative = crate::engine::env::relative(name)
        .ok_or_else(|| Error::new(Code::Format, format!("{name} leads out of the cache")))?;
    let image = engine.find(&Place::Cache, name)?.unwrap_or_else(|| directory.join(relative));
    if is_current(&image, &wanted) {
        engine.say(io.out, Targets::NONE, "FALSE (1), No es neceario actualizar. Paso5.A la imagen esta en cache");
        return Ok(Fetched { image, is_fresh: false, seeding: None });
    }
    engine.say(io.out, Targets::NONE, "TRUE (0), Si es necesario actualizar.");
    let unwritten = |error: std::io::Error| Error::new(Code::NotWrite, format!("{}: {error}", image.display()));
    fs::create_dir_all(image.parent().unwrap_or(&directory)).map_err(unwritten)?;
    // Before the image is locked: the lock is a file in the cache, which may have to be formatted.
    make_room(engine, &image, wanted.geometry.length().div_ceil(1024), io)?;
    let _lock = engine.lock_image(&image)?;
    let part = beside::with(&image, ".part");
    let (new, bitfield) = (beside::with(&part, ".torrent.new"), beside::with(&image, ".torrent.bfog"));
    let journal = beside::with(&part, Journal::END);
    let goes_on = Metainfo::read(&new).is_ok_and(|begun| begun.info_hash == wanted.info_hash);
    if !goes_on {
        [&part, &journal, &bitfield].into_iter().try_for_each(|path| beside::remove(path)).map_err(unwritten)?;
    }
    whole::write(&new, &bytes).map_err(unwritten)?;
    let mut command = client();
    command.args(["--leave", if session.uploads { "never" } else { "0" }, "-C", "64"]);
    if !session.uploads {
        command.arg("--leech");
    }
    command.arg("-s").arg(&part).arg("-b").arg(&bitfield).arg(&new);
    let seeding = match session.uploads {
        true => fetch_and_seed(engine, signals, &mut command, &part, io)?,
        false => None,
    };
    if seeding.is_none() && (session.uploads || !ctorrent(engine, signals, &mut command, Some(&part), io)?) {
        let why = format!("the download of {name} was interrupted: the next call resumes it from {}", part.display());
        return Err(Error::new(Code::UpdateCache, why));
    }
    beside::remove_derived(&image).map_err(unwritten)?;
    whole::finish(&part, &image).map_err(unwritten)?;
    // After the image, which is current as long as its torrent is no older.
    whole::write(&beside::with(&image, ".torrent"), &bytes).map_err(unwritten)?;
    [&new, &journal].into_iter().try_for_each(|path| beside::remove(path)).map_err(unwritten)?;
    keep_sums(&image, &wanted).map_err(unwritten)?;
    Ok(Fetched { image, is_fresh: true, seeding })
}

/// Stores an image's checksums beside it: of its last MiB, and of the whole, which createImage, `btlaunchmany --create`
/// and OpenGnsys' torrent-creator put into the torrent's comment. Without such a comment it is computed on first use.
fn keep_sums(image: &Path, metainfo: &Metainfo) -> std::io::Result<()> {
    Sum::Tail.of(image, &|| false).and_then(|sum| Sum::Tail.store(image, &sum))?;
    let is_md5 = |text: &&str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    metainfo.comment.as_deref().filter(is_md5).map_or(Ok(()), |sum| Sum::Full.store(image, sum))
}

/// Makes room in the cache for `image`, `wanted` KiB of which part may be there already: first deletes the old image
/// of that name, then obeys `ACTIONCACHEFULL`: DELETE deletes all other images, FORMAT formats the cache.
///
/// # Errors
/// [`Code::CacheSize`]: there is not enough room. Nothing is deleted if an empty cache would be too small.
pub fn make_room(engine: &Engine, image: &Path, wanted: u64, io: &mut Io) -> Result<(), Error> {
    let directory = image.parent().unwrap_or(Path::new("/"));
    let part = beside::with(image, ".part");
    let gone = |error: std::io::Error| Error::new(Code::NotWrite, format!("empty the cache: {error}"));
    let room = || space::room(directory);
    let free = room()?.free + space::allocated_kib(&part);
    if wanted <= free {
        return Ok(());
    }
    engine.say(io.out, Targets::LOG_SESSION, &engine.text("MSG_SCRIPTS_UPDATECACHE_CHECKSIZECACHE"));
    let all = room()?.all;
    let full = format!("CACHE FULL, NO SPACE FREE: {wanted} KB wanted");
    let why = format!("{full}, the whole cache has {all}: make its partition larger");
    engine.ensure(wanted <= all, Code::CacheSize, why)?;
    engine.say(io.out, Targets::LOG_SESSION, &engine.text("MSG_SCRIPTS_UPDATECACHE_IFNOTCACHEDO"));
    if wanted <= free + space::allocated_kib(image) {
        engine.say(io.out, Targets::NONE, "imagen en cache distinta,  borramos la imagen anterior");
        beside::remove(image).and_then(|()| beside::remove_derived(image)).map_err(gone)?;
    } else {
        match engine.env().get("ACTIONCACHEFULL").to_ascii_uppercase().as_str() {
            "DELETE" => cache::empty(&engine.directory(&Place::Cache)?, image).map_err(gone)?,
            "FORMAT" => {
                engine.format_cache(io.out)?;
                fs::create_dir_all(directory).map_err(gone)?;
            }
            _ => {}
        }
    }
    let free = room()?.free + space::allocated_kib(&part);
    let why = format!("{full}, {free} free: delete images, or set ACTIONCACHEFULL in engine.cfg");
    engine.ensure(wanted <= free, Code::CacheSize, why)
}
