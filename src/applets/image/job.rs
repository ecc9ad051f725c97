//! Running the subcommands' jobs: with progress and Ctrl-C, with a disk's partition as the source, into a file.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;

use super::words::{FAILED, say};
use crate::applets::{Failure, Io};
use crate::base::leftover::{self, Remove};
use crate::base::progress::{Progress, Style};
use crate::base::signal::Signals;
use crate::base::whole;
use crate::image::codec::{CODECS, Codec, Input, Piece, named, seek};
use crate::image::container::Header;
use crate::image::format::Format;
use crate::image::save::{ImageFile, Options, Save};
use crate::image::{Error, Watch, disk, inside, place};

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            // A shell's code for a command ended by SIGINT.
            Error::Interrupted => Failure::new(130, error),
            error => Failure::new(FAILED, error),
        }
    }
}

/// Runs `job`, which goes over the used blocks `passes` times, showing progress in this style and taking Ctrl-C as a
/// request to end in order.
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

/// A job that reports to a watch.
type Job<'a, E> = Box<dyn FnOnce(&Watch) -> Result<(), E> + 'a>;

/// Does the same with signals that the caller catches once for several jobs; returns the number of bytes to do.
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
    let note = |text: &str| eprintln!("ogbox image: {text}");
    job(&Watch {
        begin: &begin,
        progress: &advance,
        took: &took,
        wrote: &wrote,
        note: &note,
        stop: &|| signals.ending(),
    })?;
    Ok(progress.get().map_or(0, |(total, _)| *total))
}

/// Passes an image to `read` while it is made, without storing it.
pub fn through(save: Save, read: impl FnOnce(Input) -> Result<(), Failure>) -> Result<(), Failure> {
    let (reader, mut writer) =
        std::io::pipe().map_err(|error| Failure::new(FAILED, format!("make a pipe: {error}")))?;
    let input = Input::new(Box::new(reader), save.name()).lying(place::of(Path::new(save.name())));
    std::thread::scope(|scope| {
        let plain = named("none").unwrap_or(&CODECS[0]);
        let sender = scope.spawn(move || save.write(&mut writer, "a pipe", plain, &Watch::idle()));
        match (read(input), sender.join()) {
            // A broken pipe says less than the reader's error.
            (Err(failure), Ok(Err(Error::Io { error, .. }))) if error.kind() == ErrorKind::BrokenPipe => Err(failure),
            // The reader only saw an image cut short, which is not the cause.
            (Err(failure), Ok(Err(error))) => Err(Failure::new(failure.code, format!("{error}; {}", failure.message))),
            (Ok(()), Ok(Err(error))) => Err(error.into()),
            (done, _) => done,
        }
    })
}

/// Returns partition `number` in the image of a disk, ready to be saved by itself.
pub fn partition(
    io: &mut Io,
    image: &str,
    number: usize,
    ignore_checksums: bool,
    format: Format,
    style: Style,
) -> Result<Save, Failure> {
    if image == "-" {
        return Err(Failure::new(FAILED, "a partition needs random access to the image: name its file"));
    }
    let disk = inside::open(Path::new(image), ignore_checksums, say)?;
    let (part, raw) = disk::part(&disk, number)?;
    // Its state was checked when the disk was saved.
    let options = Options { unclean: true, raw, format, ..Options::default() };
    let mut save = Save::of(part, &options)?;
    save.look_behind()?;
    for note in save.notes() {
        writeln!(io.err, "ogbox image: {note}")?;
    }
    scanned(&mut save, style)?;
    Ok(save)
}

/// Scans a source that requires it.
pub fn scanned(save: &mut Save, style: Style) -> Result<(), Failure> {
    if save.wants_scan() {
        watched("scan", 1, style, |watch| save.scan(watch))?;
    }
    Ok(())
}

/// Writes an image to a stream with this name in errors, and returns its pieces.
type WriteImage<'a> = Box<dyn FnOnce(&mut (dyn Write + Send), &str) -> Result<Vec<Piece>, Error> + 'a>;

/// Writes an image of `source` by `write` to the file `name`, with an index beside it if `codec` has one; to standard output
/// if `name` is `None`.
pub fn write_image(
    io: &mut Io,
    source: &str,
    name: Option<&str>,
    codec: &Codec,
    write: WriteImage,
) -> Result<(), Error> {
    let Some(name) = name else { return write(io.out, "standard output").map(drop) };
    place::apart(&place::of(Path::new(source)), &place::of(Path::new(name)), name)?;
    leftover::of(Path::new(name), Remove::Certain).iter().for_each(|left| eprintln!("ogbox image: {left}"));
    let mut file = ImageFile::create(Path::new(name))?;
    let is_file = !file.is_written_through();
    let pieces = write(file.file(), name)?;
    file.finish()?;
    let index = seek::index_of(Path::new(name));
    let kept = match seek::index(codec, &pieces) {
        _ if !is_file => Ok(()),
        Some(bytes) => whole::write(&index, bytes),
        None if index.exists() => std::fs::remove_file(&index),
        None => Ok(()),
    };
    if let Err(error) = kept {
        // The image is complete without an index.
        eprintln!("ogbox image: write {}: {error}", index.display());
    }
    Ok(())
}
