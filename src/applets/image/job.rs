//! Jobs on images: watched by a person, and with their output where it belongs.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;

use super::words::FAILED;
use crate::applets::progress::{Progress, Style};
use crate::applets::{Failure, Io};
use crate::image::codec::{CODECS, Codec, Input, Piece, named, seek};
use crate::image::container::Header;
use crate::image::format::Format;
use crate::image::save::{ImageFile, Options, Save};
use crate::image::{Error, Watch, disk, inside};
use crate::sys::signal::Signals;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            // As a shell says of a command that SIGINT ended.
            Error::Interrupted => Failure::new(130, error),
            error => Failure::new(FAILED, error),
        }
    }
}

/// Runs `job`, which goes over the used blocks `passes` times, with progress told as `style` says and with Ctrl-C
/// taken as a request to end in order.
pub fn watched<T>(
    step: &str,
    passes: u64,
    style: Style,
    job: impl FnOnce(&Watch) -> Result<T, Error>,
) -> Result<T, Failure> {
    let signals = Signals::catch_ends().map_err(|error| Failure::new(FAILED, format!("catch signals: {error}")))?;
    let mut done = None;
    let job = |watch: &Watch| job(watch).map(|came| done = Some(came));
    watch_over(step, passes, style, &signals, Box::new(job))?;
    Ok(done.ok_or(Error::Interrupted)?)
}

/// What is done while it is watched.
type Job<'a, E> = Box<dyn FnOnce(&Watch) -> Result<(), E> + 'a>;

/// The same with `signals` that are caught; gives the bytes that there were to do. Once for all, and not for each job anew.
///
/// # Errors
/// Those of `job`.
pub fn watch_over<E>(step: &str, passes: u64, style: Style, signals: &Signals, job: Job<E>) -> Result<u64, E> {
    let progress = OnceLock::new();
    let begin = |header: &Header| {
        let total = header.used_by_map.saturating_mul(passes * u64::from(header.block_size));
        progress.get_or_init(|| (total, Progress::start(step, total, style)));
    };
    let count = |count: fn(&Progress, u64)| {
        let progress = &progress;
        move |bytes| {
            if let Some((_, progress)) = progress.get() {
                count(progress, bytes);
            }
        }
    };
    let (advance, took, wrote) = (count(Progress::advance), count(Progress::took), count(Progress::wrote));
    job(&Watch { begin: &begin, progress: &advance, took: &took, wrote: &wrote, stop: &|| signals.ending() })?;
    Ok(progress.get().map_or(0, |(total, _)| *total))
}

/// Has `read` read an image that is never written, but passes as it is made.
pub fn through(save: Save, read: impl FnOnce(Input) -> Result<(), Failure>) -> Result<(), Failure> {
    let (reader, mut writer) =
        std::io::pipe().map_err(|error| Failure::new(FAILED, format!("make a pipe: {error}")))?;
    let input = Input::new(Box::new(reader), save.name());
    std::thread::scope(|scope| {
        let plain = named("none").unwrap_or(&CODECS[0]);
        let sender = scope.spawn(move || save.write(&mut writer, "a pipe", plain, &Watch::idle()));
        match (read(input), sender.join()) {
            // That the pipe broke says less than why the other side let go of it.
            (Err(failure), Ok(Err(Error::Io { error, .. }))) if error.kind() == ErrorKind::BrokenPipe => Err(failure),
            // What was read is cut short, which is not why.
            (Err(failure), Ok(Err(error))) => Err(Failure::new(failure.code, format!("{error}; {}", failure.message))),
            (Ok(()), Ok(Err(error))) => Err(error.into()),
            (done, _) => done,
        }
    })
}

/// Partition `number` out of the image of a disk, as if it were saved by itself.
pub fn partition(
    io: &mut Io,
    image: &str,
    number: usize,
    ignore_checksums: bool,
    format: Format,
    style: Style,
) -> Result<Save, Failure> {
    if image == "-" {
        return Err(Failure::new(FAILED, "a partition is looked for all over an image: name its file"));
    }
    let say = |text: &str| eprintln!("ogbox image: {text}");
    let disk = inside::open(Path::new(image), ignore_checksums, say)?;
    // It was looked at when the disk was saved.
    let options = Options { unclean: true, format, ..Options::default() };
    let mut save = Save::of(disk::partition(&disk, number)?, &options)?;
    for note in save.notes() {
        writeln!(io.err, "ogbox image: {note}")?;
    }
    scanned(&mut save, style)?;
    Ok(save)
}

/// Scans a source that must be.
pub fn scanned(save: &mut Save, style: Style) -> Result<(), Failure> {
    if save.wants_scan() {
        watched("scan", 1, style, |watch| save.scan(watch))?;
    }
    Ok(())
}

/// Writes an image to where it is told, which errors call as they are told, and gives its pieces.
type WriteImage<'a> = Box<dyn FnOnce(&mut (dyn Write + Send), &str) -> Result<Vec<Piece>, Error> + 'a>;

/// Has `write` write an image to the file of that name, with an index beside it where `codec` wants one, or to standard
/// output.
pub fn write_image(io: &mut Io, name: Option<&str>, codec: &Codec, write: WriteImage) -> Result<(), Error> {
    let Some(name) = name else { return write(io.out, "standard output").map(drop) };
    let mut file = ImageFile::create(Path::new(name))?;
    let pieces = write(file.file(), name)?;
    file.finish()?;
    let index = seek::index_of(Path::new(name));
    let kept = match seek::index(codec, &pieces) {
        Some(bytes) => std::fs::write(&index, bytes),
        None if index.exists() => std::fs::remove_file(&index),
        None => Ok(()),
    };
    if let Err(error) = kept {
        // The image is whole without one.
        eprintln!("ogbox image: write {}: {error}", index.display());
    }
    Ok(())
}
