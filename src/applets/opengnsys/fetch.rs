//! Bringing an image of the repository to the cache: which one is wanted, whether the cache has it, room for it, and its
//! way through the swarm.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child::{Seeding, client, ctorrent, fetch_and_seed};
use super::swarm::{Session, TRACKER_PORT};
use crate::applets::Io;
use crate::base::{percent, whole};
use crate::engine::checksum::Sum;
use crate::engine::{Code, Engine, Error, Place, Targets, beside, cache, space};
use crate::storage::Journal;
use crate::sys::signal::Signals;
use crate::torrent::Metainfo;
use crate::tracker::client::{self as tracker, Client};

/// Bytes of the longest .torrent that a tracker is believed: pieces of 256 KiB of an image of 800 GiB.
const MAX_METAINFO: u64 = 64 << 20;
/// How long a tracker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often, and with which pause, a tracker that does not know an image is asked again.
const LOOKS: u32 = 8;
/// See [`LOOKS`].
const LOOK: Duration = Duration::from_millis(500);

/// The repository's address: ogrepo of the kernel's command line, else ROOTREPO.
pub fn repo_address(engine: &Engine) -> &str {
    match engine.env().get("ogrepo") {
        "" => engine.env().get("ROOTREPO"),
        address => address,
    }
}

/// Sees that the repository at `address` is the one whose share this PC has mounted; `instead` is what else can be done.
///
/// # Errors
/// It is another: OG_ERR_NOTFOUND, as when OpenGnsys cannot change to it.
pub fn ensure_mounted(engine: &Engine, address: &str, instead: &str) -> Result<(), Error> {
    let why = format!("the share of {address} is not mounted here; {instead}");
    engine.ensure(address == repo_address(engine), Code::NotFound, why)
}

/// Reads `REPO`, `CACHE` or an address; this PC's own is its cache. Gives the address to fetch from, too.
///
/// # Errors
/// [`Code::Format`]: it is none of them.
pub fn repository<'a>(engine: &'a Engine, word: &'a str) -> Result<(Place, &'a str), Error> {
    if word.parse::<IpAddr>().is_err() {
        return Ok((engine.named_place(word)?, repo_address(engine)));
    }
    let is_repo = word == repo_address(engine);
    Ok((if engine.is_own_address(word) && !is_repo { Place::Cache } else { Place::Repo }, word))
}

/// The .torrent of the image file `name`: from the repository where it is mounted, else from the tracker at `address`.
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
            // An image that was just made is unknown for the moment until the tracker looks at its directory.
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

/// Why a tracker gave no .torrent, and what to do.
fn refused(error: tracker::Error) -> String {
    match error {
        tracker::Error::Status { code: 400, .. } => {
            "the tracker gives no torrents by name: ogbox's bttrack does with --allow_get 1".to_owned()
        }
        tracker::Error::Status { code: 404, .. } => "the tracker knows no image of this name".to_owned(),
        error => error.to_string(),
    }
}

/// Sees that the .torrent `from` describes one file of the name `base`, in whatever case that is written.
///
/// # Errors
/// [`Code::NotFound`]: it describes another, or a directory.
pub fn ensure_describes(metainfo: &Metainfo, base: &OsStr, from: &str) -> Result<(), Error> {
    let (what, base) = (metainfo.name.as_str(), base.to_string_lossy());
    let what = if metainfo.multi_file { "a directory" } else { what };
    let why = format!("{from}: describes {what}, not {base}: make it anew (ogCreateTorrent)");
    // ogGetPath finds names so.
    if what.to_lowercase() == base.to_lowercase() { Ok(()) } else { Err(Error::new(Code::NotFound, why)) }
}

/// Whether `image` is whole and what `wanted` describes: it was fetched by the same torrent and not changed since.
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
    /// Whether it had to be brought there.
    pub is_fresh: bool,
    /// Who fetched it and seeds it now.
    pub seeding: Option<Seeding>,
}

/// Brings the image file `name` of the repository at `address` to the cache through the swarm, unless the cache has it.
/// Until it is whole it is `X.img.part`, from which a download that broke off goes on. Who may upload seeds from the
/// first piece on and without a break.
///
/// # Errors
/// [`Code::NotCache`], [`Code::CacheSize`]; [`Code::Locked`]: it is being brought. [`Code::NotFound`]: nobody has its torrent. [`Code::UpdateCache`]: the
/// download broke off.
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
    // Before it is locked by a file in the cache, which may have to be formatted.
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
        let why = format!("the download of {name} broke off; called again, it goes on from {}", part.display());
        return Err(Error::new(Code::UpdateCache, why));
    }
    beside::remove_derived(&image).map_err(unwritten)?;
    whole::finish(&part, &image).map_err(unwritten)?;
    // After the image: it is current for as long as its torrent is no older.
    whole::write(&beside::with(&image, ".torrent"), &bytes).map_err(unwritten)?;
    [&new, &journal].into_iter().try_for_each(|path| beside::remove(path)).map_err(unwritten)?;
    keep_sums(&image, &wanted).map_err(unwritten)?;
    Ok(Fetched { image, is_fresh: true, seeding })
}

/// Keeps an image's checksums beside it: that of its end, and that of the whole, which who described it left as the
/// torrent's comment (createImage, `btlaunchmany --create` and OpenGnsys' torrent-creator do). Where there is none it is
/// made when it is first asked for.
fn keep_sums(image: &Path, metainfo: &Metainfo) -> std::io::Result<()> {
    Sum::Tail.of(image, &|| false).and_then(|sum| Sum::Tail.store(image, &sum))?;
    let is_md5 = |text: &&str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    metainfo.comment.as_deref().filter(is_md5).map_or(Ok(()), |sum| Sum::Full.store(image, sum))
}

/// Sees that the cache has room for `image`, `wanted` KiB of which a part may be there: the older image of that name
/// goes first, then what ACTIONCACHEFULL says: with DELETE all other images, with FORMAT whatever the cache holds.
///
/// # Errors
/// [`Code::CacheSize`]: it has not, and would not have when it were empty: then nothing is deleted.
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
