//! partclone's programs by their names, with the options, texts and exit codes of partclone 0.3.23.
//!
//! Differences: images may be read compressed, progress does not show the number of the current block, there is no
//! ncurses window (`-N`), and no log unless `-L` names one.

mod options;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

pub use self::options::Program;
use self::options::{HELP, Mode, Options};
use super::image::{input, through, watched};
use super::{Exit, Failure, Io, Outcome};
use crate::base::links;
use crate::base::progress::Style;
use crate::image::checksum;
use crate::image::codec::{self, Input};
use crate::image::container::Header;
use crate::image::format::{Format, untyped};
use crate::image::output::Output;
use crate::image::restore::{self, restore};
use crate::image::save::{self, Save};
use crate::image::source::Source;
use crate::image::{Error, Watch, info, place, table, unpack};

/// The version of partclone that is imitated.
const VERSION: &str = "v0.3.23";

/// Runs one of the programs.
pub fn run(program: Program, args: &[String], io: &mut Io) -> Outcome {
    let mut options = options::parse(program, args).map_err(|why| Failure::new(1, why))?;
    match program {
        _ if options.help => {
            help(io)?;
            return Ok(Exit::OK);
        }
        _ if options.version => {
            writeln!(io.out, "Partclone : {VERSION} (ogbox {})", env!("CARGO_PKG_VERSION"))?;
            return Ok(Exit::OK);
        }
        Program::Restore => options.mode = Mode::Restore,
        Program::Imager if options.mode == Mode::None => options.mode = Mode::Clone,
        Program::Fs(_) if options.mode == Mode::None => {
            help(io)?;
            return Ok(Exit::OK);
        }
        _ => {}
    }
    let mut voice = Voice::open(&options)?;
    let done = work(program, &options, io, &mut voice);
    match (done, &options.log) {
        (Err(failure), Some(log)) if failure.code == 1 && !failure.message.is_empty() => {
            voice.write(&failure.message);
            Err(Failure::new(1, format!("{}\nPartclone fail, please check {log} !", failure.message)))
        }
        (done, _) => done,
    }
}

/// Prints the help in one write, so that a reader that ends early (`grep -q`) causes no error.
fn help(io: &mut Io) -> Result<(), Failure> {
    Ok(io.err.write_all(format!("{HELP}\n").as_bytes())?)
}

fn work(program: Program, options: &Options, io: &mut Io, voice: &mut Voice) -> Outcome {
    voice.say(io, &format!("Partclone {VERSION} http://partclone.org"))?;
    if let Some(note) = &options.note {
        voice.say(io, &format!("note: {note}"))?;
    }
    let style = if options.quiet { Style::Quiet } else { options.progress.unwrap_or(Style::Partclone) };
    let source = options.source.as_deref().unwrap_or("-");
    let target = options.target.as_deref().unwrap_or("-");
    match (program, options.mode) {
        (Program::Info, _) => {
            // OpenGnsys counts the words of this line.
            let first = format!("Showing info of image ({source})");
            voice.say(io, if options.source_by_option { &first } else { "Unknown mode" })?;
            let header = unpack::header_alone(input(source)?)?;
            voice.say(io, &format!("{}\n{}", info::file_system(&header), info::image(&header).trim_end()))?;
        }
        (Program::Check, _) => {
            voice.say(io, &format!("Starting to check image ({source})"))?;
            let input = input(source)?;
            read(io, voice, style, |watch| unpack::read(input, options.ignore_checksums, watch, &mut |_, _| Ok(())))?;
            voice.say(io, &format!("Partclone successfully checked the image ({source})"))?;
            writeln!(io.out, "Checked successfully.")?;
        }
        (Program::Raw, _) => {
            voice.say(io, &format!("Starting to clone/restore ({source}) to ({target}) with dd mode"))?;
            raw(source, target, options, io, style)?;
            voice.say(io, "Syncing... OK!")?;
            writeln!(io.err, "Cloned successfully.")?;
        }
        (_, Mode::Restore) => {
            voice.say(io, &format!("Starting to restore image ({source}) to device ({target})"))?;
            let input = input(source)?;
            put(input, target, options, io, voice, style)?;
            voice.say(io, &format!("Partclone successfully restored the image ({source}) to the device ({target})"))?;
            writeln!(io.err, "Cloned successfully.")?;
        }
        (program, Mode::Copy) => {
            voice.say(io, &format!("Starting to back up device({source}) to device({target})"))?;
            let save = open(program, source, options, io, voice)?;
            through(save, |input| put(input, target, options, io, voice, style))?;
            voice.say(io, &format!("Partclone successfully cloned the device ({source}) to the device ({target})"))?;
            writeln!(io.err, "Cloned successfully.")?;
        }
        (program, _) => {
            voice.say(io, &format!("Starting to clone device ({source}) to image ({target})\nReading Super Block"))?;
            if target == "-" && std::io::stdout().is_terminal() {
                return Err(Failure::new(1, "an image does not go to a terminal: name a file with -o"));
            }
            voice.say(io, "Calculating bitmap... Please wait... ")?;
            let save = open(program, source, options, io, voice)?;
            voice.say(io, &format!("done!\n{}", info::file_system(save.header()).trim_end()))?;
            let plain = codec::named("none").unwrap_or(&codec::CODECS[0]);
            let out = &mut *io.out;
            watched("save", 1, style, |watch| match target {
                "-" => save.write(out, "standard output", plain, watch).map(drop),
                name => to_file(name, (source, "an image would replace it", 0, options.force), options, |out| {
                    save.write(out, name, plain, watch).map(drop)
                }),
            })?;
            voice.say(io, "Syncing... OK!")?;
            voice.say(io, &format!("Partclone successfully cloned the device ({source}) to the image ({target})"))?;
            writeln!(io.err, "Cloned successfully.")?;
        }
    }
    Ok(Exit::OK)
}

/// Opens the source and checks that its file system is the program's.
fn open(program: Program, source: &str, options: &Options, io: &mut Io, voice: &mut Voice) -> Result<Save, Failure> {
    let checksum = match options.checksum {
        Some(0) => checksum::Mode::None,
        None | Some(1) => checksum::Mode::Crc32,
        Some(mode) => return Err(Failure::new(1, format!("checksum mode {mode} is neither 0 nor 1"))),
    };
    let how = save::Options {
        force: options.force,
        unclean: options.unclean,
        whole: program == Program::Imager,
        raw: false,
        format: Format {
            checksum,
            blocks_per_checksum: options.blocks_per_checksum,
            reseed: !options.no_reseed,
            ..Format::default()
        },
    };
    let save = Save::open(Path::new(source), &how)?;
    if let Program::Fs(fs) = program
        && !save.header().fs.starts_with(fs)
    {
        return Err(Failure::new(1, format!("{source} holds {}, not {fs}", save.header().fs)));
    }
    for note in save.notes() {
        voice.say(io, note)?;
    }
    Ok(save)
}

/// Restores an image.
fn put(
    input: Input,
    target: &str,
    options: &Options,
    io: &mut Io,
    voice: &mut Voice,
    style: Style,
) -> Result<(), Failure> {
    if target == "-" {
        return Err(Failure::new(1, "a file system is not restored to a pipe: name a device or file with -o"));
    }
    if !options.overwrite && Path::new(target).is_file() {
        let why = format!(
            "Output file '{target}' already exists.\nUse option --overwrite if you want to replace its content."
        );
        return Err(Failure::new(1, why));
    }
    if options.ignore_checksums {
        voice.say(io, "checksums are not verified (-i)")?;
    }
    let how = restore::Options {
        ignore_checksums: options.ignore_checksums,
        used_fit: options.no_size_check,
        force: options.force,
        ..restore::Options::default()
    };
    read(io, voice, style, |watch| restore(input, Path::new(target), &how, watch))?;
    voice.say(io, "Syncing... OK!")?;
    Ok(())
}

/// Reads an image by `job`, and prints its file system once the header is read.
fn read(
    io: &mut Io,
    voice: &mut Voice,
    style: Style,
    job: impl FnOnce(&Watch) -> Result<Header, Error>,
) -> Result<(), Failure> {
    voice.say(io, "Calculating bitmap... Please wait...")?;
    let log = voice.log.as_ref();
    watched("restore", 1, style, |watch| {
        let begin = |header: &Header| {
            let text = format!("done!\n{}", info::file_system(header));
            // A failure cannot be reported anywhere else.
            let _ = std::io::stderr().write_all(text.as_bytes());
            if let Some(mut log) = log {
                let _ = log.write_all(text.as_bytes());
            }
            (watch.begin)(header);
        };
        job(&Watch { begin: &begin, ..*watch })
    })?;
    Ok(())
}

/// Copies a source byte by byte.
fn raw(source: &str, target: &str, options: &Options, io: &mut Io, style: Style) -> Result<(), Failure> {
    let plain = codec::named("none").unwrap_or(&codec::CODECS[0]);
    let source = Source::open(Path::new(source), options.force)?;
    // A disk may take the place of a disk.
    let force = options.force || matches!(table::sound(&source), Ok(Some(_)));
    watched("copy", 1, style, |watch| {
        (watch.begin)(&untyped(source.size()));
        let mut at = 0;
        let mut fill = |to: &mut [u8]| {
            let part = (source.size() - at).min(to.len() as u64) as usize;
            source.read_at(&mut to[..part], at)?;
            at += part as u64;
            (watch.progress)(part as u64);
            Ok(part)
        };
        let mut copy = |out: &mut (dyn Write + Send), name: &str| {
            // These bytes are counted when they are read already.
            let quiet = Watch { wrote: &|_| {}, ..*watch };
            save::pack(out, name, plain, &quiet, &mut fill).map(drop)
        };
        match target {
            "-" => copy(io.out, "standard output"),
            name => to_file(name, (source.name(), "the source has none", source.size(), force), options, |out| {
                copy(out, name)
            }),
        }
    })
}

/// Writes to a file, which gets its name once it is complete, or to a pipe or device.
fn to_file(
    name: &str,
    (source, why, least, force): (&str, &str, u64, bool),
    options: &Options,
    write: impl FnOnce(&mut Output) -> Result<(), Error>,
) -> Result<(), Error> {
    let path = Path::new(name);
    if path.is_file() && !options.overwrite {
        return Err(Error::Refused(format!(
            "Output file '{name}' already exists.\nUse option --overwrite if you want to replace its content."
        )));
    }
    let mut output = Output::open(path, why, least, &place::of(Path::new(source)), force)?;
    let done = write(&mut output);
    output.finish(done)
}

/// Output to standard error and to the log.
struct Voice {
    log: Option<File>,
}

impl Voice {
    fn open(options: &Options) -> Result<Voice, Failure> {
        let create = |name: &String| {
            links::open_anew(name.as_ref()).map_err(|error| Failure::new(1, format!("create the log {name}: {error}")))
        };
        Ok(Voice { log: options.log.as_ref().map(create).transpose()? })
    }

    fn say(&mut self, io: &mut Io, line: &str) -> Result<(), Failure> {
        self.write(line);
        writeln!(io.err, "{line}")?;
        Ok(())
    }

    fn write(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            // A full log must not stop the work.
            let _ = log.write_all(format!("{line}\n").as_bytes());
        }
    }
}
