//! createImage: saves a partition to an image, with its checksums and torrent.

use std::fs;
use std::path::{Path, PathBuf};

use super::fetch::{ensure_mounted, repository};
use super::imaging::watched;
use super::scripts::{begin, care, finish};
use super::swarm::{self, catch_signals};
use super::{Function, paths};
use crate::applets::Io;
use crate::base::leftover::{self, Remove};
use crate::base::signal::Signals;
use crate::client::daemons;
use crate::engine::checksum::Sum;
use crate::engine::imaging::How;
use crate::engine::{Code, Device, Engine, Error, Level, Place, Targets, beside, space};
use crate::image::Watch;

/// createImage.
pub const CREATE: Function = Function {
    format: "int_ndisk int_npartition REPO|CACHE|ip str_image",
    examples: &["1 1 REPO Ubuntu"],
    words: 4..=4,
    run: |engine, words, io| {
        let begun = begin(engine, words, io);
        let signals = catch_signals()?;
        let (place, address) = repository(engine, words[2])?;
        let name = words[3];
        let directory = engine.directory(&place)?;
        let why = || format!("{}: mount the repository", directory.display());
        engine.ensure(place == Place::Cache || directory.is_dir(), Code::NotFound, why())?;
        if place == Place::Repo {
            ensure_mounted(engine, address, "create the image in the mounted share (REPO) or in CACHE")?;
        }
        let device = paths::partition(engine, &words[..2]).map_err(|error| {
            Error::new(if error.code == Code::NotFound { Code::Partition } else { error.code }, error.detail)
        })?;
        let image = image_of(engine, &place, name, &directory)?;
        engine.is_elsewhere(&image, &device)?;
        let _device = engine.lock_device(&device)?;
        let image_lock = engine.lock_image(&image)?;
        // It is locked, so nobody goes on with what was begun by machines that were switched off.
        let left = leftover::of(&image, Remove::All);
        left.iter().for_each(|left| engine.say(io.out, Targets::LOG_SESSION, &left.to_string()));
        let cleaned = engine.clean_os(&device);
        care(engine, "[10] ogCleanOs", &device, cleaned, io)?;
        fits(engine, &device, &place, name, io)?;
        let checked = engine.check_fs(&device, io.out);
        care(engine, "[20] ogCheckFs", &device, checked, io)?;
        if image.exists() {
            let text = engine.text("MSG_SCRIPTS_FILE_RENAME");
            engine.say(io.out, Targets::LOG_SESSION, &format!("[35] {text}{name}.img"));
        }
        save(engine, &signals, &device, &image, words, io)?;
        engine.say(io.out, Targets::LOG_SESSION, &format!("[95] ogCreateTorrent {} {name}", words[2]));
        // OpenGnsys' torrent-creator remakes all files beside an image whose checksums are missing.
        for sum in [Sum::Tail, Sum::Full] {
            let kept = sum.of(&image, &|| signals.ending()).and_then(|hash| sum.store(&image, &hash));
            kept.map_err(|error| Error::new(Code::NotWrite, format!("sum {}: {error}", image.display())))?;
        }
        let sized = beside::store_size(&image);
        sized.map_err(|error| Error::new(Code::NotWrite, format!("size of {}: {error}", image.display())))?;
        let own = engine.address();
        let tracker = if place == Place::Cache || address.is_empty() { &own } else { address };
        swarm::describe(engine, &signals, &image, tracker, io)?;
        // A locked image is not seeded.
        drop(image_lock);
        if place == Place::Cache {
            daemons::start_tracker(engine, &signals, &directory)?;
            daemons::start_seeder(&directory)?;
        }
        let info = engine.image_info(&image)?;
        let file = image.file_name().unwrap_or_default().display();
        engine.say(io.out, Targets::LOG_SESSION, &format!("{file}: {} KB, {info}", space::allocated_kib(&image)));
        finish(engine, begun, io)
    },
};

/// The path of the image `name`, which need not exist; creates its directory.
fn image_of(engine: &Engine, place: &Place, name: &str, directory: &Path) -> Result<PathBuf, Error> {
    engine.ensure(!name.is_empty() && !name.ends_with('/'), Code::Format, format!("`{name}` is not an image name"))?;
    let new = engine.name_of_new_image(place, name, engine.env().get("IMGCOMP"))?;
    let file = crate::engine::env::relative(&new)
        .ok_or_else(|| Error::new(Code::Format, format!("{name} leads out of {}", directory.display())))?;
    let image = engine.find(place, &new)?.unwrap_or_else(|| directory.join(file));
    fs::create_dir_all(image.parent().unwrap_or(directory))
        .map_err(|error| Error::new(Code::NotWrite, format!("{}: {error}", image.display())))?;
    Ok(image)
}

/// Checks that the image will fit, and deletes the old backup if its space is needed.
///
/// # Errors
/// [`Code::CacheSize`]: it will not.
fn fits(engine: &Engine, device: &Device, place: &Place, name: &str, io: &mut Io) -> Result<(), Error> {
    // The size is unknown for an unknown file system.
    let Ok(sizes) = engine.sizes(device, place, name) else { return Ok(()) };
    let text = engine.text("MSG_SCRIPTS_CREATE_SIZE");
    engine.say(io.out, Targets::LOG_SESSION, &format!("[16] {text}{} {}", sizes.required, sizes.free));
    let why = format!("{} KB needed, {} free: delete images that are not needed", sizes.required, sizes.free);
    engine.ensure(sizes.fits(), Code::CacheSize, why)?;
    if sizes.required >= space::room(&engine.directory(place)?)?.free {
        // The old backup's space was counted as free.
        if let Some(backup) = engine.find(place, &format!("{name}.img.ant"))? {
            beside::remove(&backup).map_err(|error| Error::new(Code::NotWrite, error.to_string()))?;
        }
    }
    Ok(())
}

/// Shrinks the file system, saves the partition, and grows the file system again even if saving failed.
fn save(
    engine: &Engine,
    signals: &Signals,
    device: &Device,
    image: &Path,
    words: &[&str],
    io: &mut Io,
) -> Result<(), Error> {
    let reduces = engine.reduces();
    engine.ensure(!signals.ending(), Code::Image, "ended by a signal before anything was written")?;
    let reduced = if reduces {
        let reduced = engine.reduce_fs(device, io.out);
        care(engine, "[30] ogReduceFs", device, reduced, io)
    } else {
        Ok(())
    };
    let saved = reduced.and_then(|()| {
        engine.say(io.out, Targets::LOG_SESSION, &format!("[40] ogCreateImage {}", words.join(" ")));
        let mut warn = |text: &str| engine.echo(io.err, Targets::NONE, Level::Warning, text);
        let how = How { tool: engine.env().get("IMGPROG"), compressor: engine.env().get("IMGCOMP"), keep: true };
        let line = watched("save", signals, |watch: &Watch| engine.save_locked(device, image, &how, watch, &mut warn))?;
        engine.say(io.out, Targets::LOG_SESSION, &line);
        Ok(())
    });
    if reduces {
        let extended = engine.extend_fs(device, io.out);
        let extended = care(engine, "[90] ogExtendFs", device, extended, io);
        return saved.and(extended);
    }
    saved
}
