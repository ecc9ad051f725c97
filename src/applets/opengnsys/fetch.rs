//! Fetching an image from the repository into the cache through the swarm, unless the cache has it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::swarm::Session;
use crate::applets::Io;
use crate::base::signal::Signals;
use crate::base::whole;
use crate::client::child::{Seeding, client};
use crate::client::pursuit::Pursuit;
use crate::client::source::{Source, Torrent, carry_over};
use crate::engine::checksum::store_lacking;
use crate::engine::{Code, Engine, Error, Place, Targets, beside};
use crate::storage::Journal;
use crate::torrent::Metainfo;

/// Checks that this PC has mounted the share of the repository at `address`; `instead` tells the user what else to do.
///
/// # Errors
/// [`Code::NotFound`] if it is another's, as when OpenGnsys cannot change repositories.
pub fn ensure_mounted(engine: &Engine, address: &str, instead: &str) -> Result<(), Error> {
    let why = format!("the share of {address} is not mounted here; {instead}");
    engine.ensure(address == engine.repo_address(), Code::NotFound, why)
}

/// Parses `REPO`, `CACHE` or an address, where this PC's own means its cache. Also returns the address to fetch from.
///
/// # Errors
/// [`Code::Format`]: `word` is none of them.
pub fn repository<'a>(engine: &'a Engine, word: &'a str) -> Result<(Place, &'a str), Error> {
    if word.parse::<IpAddr>().is_err() {
        return Ok((engine.named_place(word)?, engine.repo_address()));
    }
    let is_repo = word == engine.repo_address();
    Ok((if engine.is_own_address(word) && !is_repo { Place::Cache } else { Place::Repo }, word))
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

/// Fetches the image file `name` of the repository at `address`, or OpenGnsys 3's of that name, into the cache through the
/// swarm, unless the cache has it. Until complete it is `X.img.part`, from which an interrupted download resumes. A session
/// that may upload seeds from the first piece on, without a break at the end of the download. If the image is created anew
/// meanwhile, the new one is fetched, with the pieces that are equal.
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
    let source = Source::of(engine, address, name)?;
    let wanted = source.torrent(signals)?;
    let name = &*wanted.name.clone();
    let relative = crate::engine::env::relative(name)
        .ok_or_else(|| Error::new(Code::Format, format!("{name} leads out of the cache")))?;
    let image = engine.find(&Place::Cache, name)?.unwrap_or_else(|| directory.join(relative));
    if is_current(&image, &wanted.metainfo) {
        engine.sweep(&image, io.out);
        // As the command leaves it that fetched it, which may have been killed at its end. What stays does no harm.
        let _ = beside::remove_traces(&image).and_then(|()| keep_sums(&image, &wanted.metainfo, signals));
        engine.say(io.out, Targets::NONE, "FALSE (1), No es neceario actualizar. Paso5.A la imagen esta en cache");
        return Ok(Fetched { image, is_fresh: false, seeding: None });
    }
    engine.say(io.out, Targets::NONE, "TRUE (0), Si es necesario actualizar.");
    let unwritten = |error: std::io::Error| Error::new(Code::NotWrite, format!("{}: {error}", image.display()));
    fs::create_dir_all(image.parent().unwrap_or(&directory)).map_err(unwritten)?;
    engine.sweep(&image, io.out);
    let room = |wanted: &Torrent| wanted.metainfo.geometry.length().div_ceil(1024);
    // Before the image is locked: the lock is a file in the cache, which may have to be formatted.
    engine.make_room(&image, room(&wanted), io.out)?;
    let _lock = engine.lock_image(&image)?;
    let part = beside::with(&image, ".part");
    let (new, bitfield) = (beside::with(&part, ".torrent.new"), beside::with(&image, ".torrent.bfog"));
    let fetched = Pursuit {
        engine,
        signals,
        source: Some(source),
        data: Some(&part),
        seeds: session.uploads,
        prepare: &|wanted, begun, out| {
            if begun > 0 {
                engine.make_room(&image, room(wanted), out)?;
            }
            let goes_on = Metainfo::read(&new).is_ok_and(|begun| begun.info_hash == wanted.metainfo.info_hash);
            let kept = if goes_on { Ok(()) } else { carry_over(&part, &bitfield, &wanted.metainfo) };
            kept.and_then(|()| whole::write(&new, &wanted.bytes)).map_err(unwritten)
        },
        command: &|| {
            let mut command = client();
            command.args(["--leave", if session.uploads { "never" } else { "0" }, "-C", "64"]);
            if !session.uploads {
                command.arg("--leech");
            }
            command.arg("-s").arg(&part).arg("-b").arg(&bitfield).arg(&new);
            command
        },
    };
    let why = format!("the download of {name} was interrupted: the next call resumes it from {}", part.display());
    let fetched = fetched.run(wanted, io.out)?.ok_or_else(|| Error::new(Code::UpdateCache, why));
    let (wanted, seeding) = fetched?;
    beside::remove_derived(&image).map_err(unwritten)?;
    whole::finish(&part, &image).map_err(unwritten)?;
    // After the image, which is current as long as its torrent is no older.
    whole::write(&beside::with(&image, ".torrent"), &wanted.bytes).map_err(unwritten)?;
    let journal = beside::with(&part, Journal::END);
    [&new, &journal].into_iter().try_for_each(|path| beside::remove(path)).map_err(unwritten)?;
    keep_sums(&image, &wanted.metainfo, signals).map_err(unwritten)?;
    Ok(Fetched { image, is_fresh: true, seeding })
}

/// Stores an image's checksums beside it. That of the whole is the torrent's comment, where createImage,
/// `btlaunchmany --create` and OpenGnsys' torrent-creator made it; else the image is read once more.
fn keep_sums(image: &Path, metainfo: &Metainfo, signals: &Signals) -> std::io::Result<()> {
    let is_md5 = |text: &&str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let done = store_lacking(image, metainfo.comment.as_deref().filter(is_md5), &|| signals.ending());
    // The image is complete, and the sum is made when it is asked for.
    done.or_else(|error| if error.kind() == std::io::ErrorKind::Interrupted { Ok(()) } else { Err(error) })
}
