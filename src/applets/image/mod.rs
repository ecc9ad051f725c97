//! `ogbox image`: partitions to images and back.
//!
//! One file a subcommand: its options, then `run`, then what it alone needs.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write, stdout};
use std::path::Path;
use std::sync::OnceLock;

use super::options::Grammar;
use super::progress::{Progress, Style};
use super::{Exit, Failure, Io, Outcome};
use crate::image::checksum::Mode;
use crate::image::codec::{CODECS, Codec, Input, Piece, asked, named, seek};
use crate::image::container::{Header, Version};
use crate::image::save::{Format, ImageFile, Options, Save};
use crate::image::{Error, Watch, disk, inside};
use crate::sys::signal::Signals;

mod convert;
mod info;
mod ls;
mod restore;
mod save;
mod verify;

/// A subcommand: name, summary, and what runs it.
type Subcommand = (&'static str, &'static str, fn(&[String], &mut Io) -> Outcome);

const SUBCOMMANDS: &[Subcommand] = &[
    ("convert", "an image, or a copy byte by byte, into another compression or format", convert::run),
    ("info", "what an image holds", info::run),
    ("ls", "the images of a directory", ls::run),
    ("restore", "an image back onto a partition or into a file", restore::run),
    ("save", "the used blocks of a partition into an image", save::run),
    ("verify", "whether an image is sound", verify::run),
];

/// Runs the subcommand that the first word names.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let (word, rest) = args.split_first().map_or(("", args), |(word, rest)| (word.as_str(), rest));
    if let Some((_, _, run)) = SUBCOMMANDS.iter().find(|(name, _, _)| *name == word) {
        return run(rest, io);
    }
    if !["--help", "-h", "help"].contains(&word) {
        let names: Vec<&str> = SUBCOMMANDS.iter().map(|(name, _, _)| *name).collect();
        return Err(Failure::new(1, format!("usage: ogbox image {} …, not {word:?}", names.join("|"))));
    }
    writeln!(io.out, "usage: ogbox image SUBCOMMAND [ARGUMENT...]   (--help after a subcommand: its options)\n")?;
    for (name, summary, _) in SUBCOMMANDS {
        writeln!(io.out, "  {name:<10} {summary}")?;
    }
    Ok(Exit::OK)
}

/// How the subcommands' words are read.
const GRAMMAR: Grammar = Grammar {
    valued: "oc",
    valued_long: &["output", "compress", "progress", "format", "checksum", "blocks-per-checksum", "partition"],
    repeated: &[],
    usage_code: 1,
};

/// Exit code of everything that went wrong, as partclone's.
const FAILED: u8 = 1;

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
fn partition(
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
fn scanned(save: &mut Save, style: Style) -> Result<(), Failure> {
    if save.wants_scan() {
        watched("scan", 1, style, |watch| save.scan(watch))?;
    }
    Ok(())
}

/// Opens an image; `-` is standard input.
pub fn input(name: &str) -> Result<Input, Failure> {
    let read: Box<dyn Read + Send> = match name {
        "-" => Box::new(File::from(
            rustix::io::dup(rustix::stdio::stdin())
                .map_err(|error| Failure::new(FAILED, format!("open standard input: {error}")))?,
        )),
        name => Box::new(File::open(name).map_err(|error| Failure::new(FAILED, format!("open {name}: {error}")))?),
    };
    Ok(Input::new(read, if name == "-" { "standard input" } else { name }))
}

/// Reads `--progress`.
fn style(word: Option<&str>) -> Result<Style, Failure> {
    word.map_or(Ok(Style::Auto), str::parse).map_err(|why| Failure::new(FAILED, why))
}

/// Reads `-c`: the codec of that name, at its level if one is given, lzop without `-c`.
fn codec(word: Option<&str>) -> Result<Codec, Failure> {
    asked(word.unwrap_or(CODECS[0].name)).map_err(|why| Failure::new(FAILED, why))
}

/// Reads `--format`, `--checksum` and `--blocks-per-checksum`.
fn format(version: Option<&str>, checksum: Option<&str>, blocks: Option<u32>) -> Result<Format, Failure> {
    let version = match version {
        None | Some("2") => Version::Two,
        Some("1") if checksum.is_none() && blocks.is_none() => Version::One,
        Some("1") => return Err(Failure::new(FAILED, "version 1 has checksums of its own, one a block")),
        Some(other) => return Err(Failure::new(FAILED, format!("format {other} is neither 1 nor 2"))),
    };
    let checksum = match checksum {
        None | Some("crc32") => Mode::Crc32,
        Some("none") => Mode::None,
        Some(other) => return Err(Failure::new(FAILED, format!("checksum {other} is neither crc32 nor none"))),
    };
    Ok(Format { version, checksum, blocks_per_checksum: blocks, ..Format::default() })
}

/// Reads `-o`: a file's name, or none for standard output.
fn output(name: Option<&str>) -> Result<Option<&str>, Failure> {
    let name = name.filter(|name| *name != "-");
    if name.is_none() && stdout().is_terminal() {
        return Err(Failure::new(FAILED, "an image does not go to a terminal: name a file with -o"));
    }
    Ok(name)
}

/// Writes an image to where it is told, which errors call as they are told, and gives its pieces.
type WriteImage<'a> = Box<dyn FnOnce(&mut (dyn Write + Send), &str) -> Result<Vec<Piece>, Error> + 'a>;

/// Has `write` write an image to the file of that name, with an index beside it where `codec` wants one, or to standard
/// output.
fn write_image(io: &mut Io, name: Option<&str>, codec: &Codec, write: WriteImage) -> Result<(), Error> {
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
