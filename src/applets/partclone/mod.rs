//! partclone's programs by their names, with the options of partclone 0.3.47 and the texts and exit codes of 0.3.23.
//!
//! Differences: images may be read compressed, progress does not show the number of the current block, there is no
//! ncurses window (`-N`), and no log unless `-L` names one. A file system whose map is not read here is saved by the program
//! of the same name that is installed, or whole if there is none or the checksums are newer than Debian's.

mod fix_boot;
mod options;

use std::fs::File;
use std::io::Write;

use self::options::{HELP, Options};
use super::image::{input, through, watched};
use super::{Exit, Failure, Io, Outcome};
use crate::base::progress::Style;
use crate::base::{links, namesake};
use crate::image::codec::Input;
use crate::image::container::Header;
pub use crate::image::partclone::Program;
use crate::image::partclone::{self, Mode};
use crate::image::save::Save;
use crate::image::{Error, Watch, checksum, fs, info, unpack};

/// The version of partclone that is imitated.
const VERSION: &str = "v0.3.23";

/// Runs one of the programs, called `name`.
pub fn run(name: &str, program: Program, args: &[String], io: &mut Io) -> Outcome {
    if program == Program::FixBoot {
        return fix_boot::run(args, io);
    }
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
        Program::Restore => options.job.mode = Mode::Restore,
        Program::Imager if options.job.mode == Mode::None => options.job.mode = Mode::Clone,
        Program::Fs(_) if options.job.mode == Mode::None => {
            help(io)?;
            return Ok(Exit::OK);
        }
        _ => {}
    }
    let why = match (program, options.job.mode) {
        _ if options.source.is_none() && options.target.is_none() => {
            "There is no image name. Use --help get more info.".to_owned()
        }
        (_, Mode::Clone) if matches!(options.source.as_deref(), None | Some("-")) => {
            format!("Partclone can't clone from stdin.\nFor help, type: {name} -h")
        }
        (Program::Raw, _) if options.job.offset > 0 => {
            format!("{name} has no option -E: it copies from byte 0 to byte 0")
        }
        _ => String::new(),
    };
    if !why.is_empty() {
        return Err(Failure::new(1, why));
    }
    if let Program::Fs(fs) = program
        && !fs::is_known(fs)
        && options.job.mode != Mode::Restore
        && !matches!(options.job.checksum, Some(checksum::Mode::Xxh64 | checksum::Mode::Xxh128))
        && let Some(original) = namesake::find(name)
    {
        writeln!(io.err, "{name}: which blocks {fs} uses is not known here: running {}", original.display())?;
        let error = namesake::become_it(&original, args);
        return Err(Failure::new(1, format!("run {}: {error}", original.display())));
    }
    let voice = Voice::open(&options)?;
    let done = Work { name, program, options: &options }.run(io, &voice);
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

/// A part of the work that reports to a watch.
type Doing<'a, T> = Box<dyn FnOnce(&Watch) -> Result<T, Error> + 'a>;

/// What is asked for.
struct Work<'a> {
    name: &'a str,
    program: Program,
    options: &'a Options,
}

impl Work<'_> {
    fn run(&self, io: &mut Io, voice: &Voice) -> Outcome {
        let (options, job) = (self.options, &self.options.job);
        voice.say(io, &format!("Partclone {VERSION} http://partclone.org"))?;
        if let Some(note) = &options.note {
            voice.say(io, &format!("note: {note}"))?;
        }
        let source = options.source.as_deref().unwrap_or("-");
        let target = options.target.as_deref().unwrap_or("-");
        let (done, to) = match (self.program, job.mode) {
            (Program::Info, _) => {
                // OpenGnsys counts the words of this line.
                let first = format!("Showing info of image ({source})");
                voice.say(io, if options.source_by_option { &first } else { "Unknown mode" })?;
                let header = unpack::header_alone(input(source)?)?;
                voice.say(io, &format!("{}\n{}", info::file_system(&header), info::image(&header).trim_end()))?;
                return Ok(Exit::OK);
            }
            (Program::Check, _) => {
                voice.say(io, &format!("Starting to check image ({source})"))?;
                let input = input(source)?;
                let job = |watch: &Watch| unpack::read(input, job.ignore_checksums, watch, &mut |_, _| Ok(()));
                self.read(io, voice, Box::new(job))?;
                voice.say(io, &format!("Partclone successfully checked the image ({source})"))?;
                writeln!(io.out, "Checked successfully.")?;
                return Ok(Exit::OK);
            }
            (Program::Raw, _) => {
                let text = match job.block_files {
                    Some(_) => format!("Starting to dd image ({source}) to block files ({target})"),
                    None => format!("Starting to clone/restore ({source}) to ({target}) with dd mode"),
                };
                voice.say(io, &text)?;
                self.watched("copy", voice, Box::new(|watch: &Watch| job.copy(source, target, io.out, watch)))?;
                voice.say(io, "Syncing... OK!")?;
                ("", "")
            }
            (_, Mode::Restore) => {
                let files = job.block_files.map_or("device", |_| "block files");
                voice.say(io, &format!("Starting to restore image ({source}) to {files} ({target})"))?;
                self.put(input(source)?, target, io, voice)?;
                ("restored the image", "device")
            }
            (_, Mode::Copy) => {
                voice.say(io, &format!("Starting to back up device({source}) to device({target})"))?;
                self.pass(source, target, io, voice)?;
                ("cloned the device", "device")
            }
            (_, Mode::Domain) => {
                voice.say(io, &format!("Starting to map device ({source}) to domain log ({target})"))?;
                let save = self.open(source, io, voice)?;
                voice.say(io, info::file_system(save.header()).trim_end())?;
                job.domain(&save, &format!("{} {VERSION}", self.name), target, io.out)?;
                ("mapped the device", "domain log")
            }
            _ => {
                self.clone(source, target, io, voice)?;
                ("cloned the device", "image")
            }
        };
        if !done.is_empty() {
            voice.say(io, &format!("Partclone successfully {done} ({source}) to the {to} ({target})"))?;
        }
        writeln!(io.err, "Cloned successfully.")?;
        Ok(Exit::OK)
    }

    /// Saves a device as an image.
    fn clone(&self, source: &str, target: &str, io: &mut Io, voice: &Voice) -> Result<(), Failure> {
        let job = &self.options.job;
        let kind = if job.compress.is_some() { "compressed image" } else { "image" };
        voice.say(io, &format!("Starting to clone device ({source}) to {kind} ({target})\nReading Super Block"))?;
        if job.block_files.is_some() {
            return self.pass(source, target, io, voice);
        }
        partclone::refuse_terminal(target, "an image")?;
        voice.say(io, "Calculating bitmap... Please wait... ")?;
        let save = self.open(source, io, voice)?;
        voice.say(io, &format!("done!\n{}", info::file_system(save.header()).trim_end()))?;
        self.watched("save", voice, Box::new(|watch: &Watch| job.save(&save, target, io.out, watch)))?;
        voice.say(io, "Syncing... OK!")
    }

    /// Restores an image of a device while it is made.
    fn pass(&self, source: &str, target: &str, io: &mut Io, voice: &Voice) -> Result<(), Failure> {
        let save = self.open(source, io, voice)?;
        through(save, |input| self.put(input, target, io, voice))
    }

    /// Opens the source and tells what there is to say of it.
    fn open(&self, source: &str, io: &mut Io, voice: &Voice) -> Result<Save, Failure> {
        let save = self.options.job.open(self.program, source)?;
        save.notes().iter().try_for_each(|note| voice.say(io, note))?;
        voice.log_checksum(self.options, self.options.job.checksum());
        Ok(save)
    }

    /// Restores an image.
    fn put(&self, input: Input, target: &str, io: &mut Io, voice: &Voice) -> Result<(), Failure> {
        if self.options.job.ignore_checksums {
            voice.say(io, "checksums are not verified (-i)")?;
        }
        self.read(io, voice, Box::new(|watch: &Watch| self.options.job.put(input, target, watch)))?;
        voice.say(io, "Syncing... OK!")
    }

    /// Reads an image by `job`, and prints its file system once the header is read.
    fn read(&self, io: &mut Io, voice: &Voice, job: Doing<Header>) -> Result<(), Failure> {
        voice.say(io, "Calculating bitmap... Please wait...")?;
        let job = |watch: &Watch| {
            let begin = |header: &Header| {
                voice.tell(&format!("done!\n{}", info::file_system(header).trim_end()));
                voice.log_checksum(self.options, header.checksum);
                (watch.begin)(header);
            };
            job(&Watch { begin: &begin, ..*watch }).map(drop)
        };
        self.watched("restore", voice, Box::new(job))
    }

    /// Does `job` with progress and remarks in partclone's way.
    fn watched(&self, step: &str, voice: &Voice, job: impl FnOnce(&Watch) -> Result<(), Error>) -> Result<(), Failure> {
        let Options { binary_prefix: binary, prog_second: second, .. } = *self.options;
        let style = match self.options.quiet {
            true => Style::Quiet,
            false => self.options.progress.unwrap_or(Style::Partclone { binary, second }),
        };
        watched(step, 1, style, |watch| job(&Watch { note: &|text| voice.tell(text), ..*watch }))
    }
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

    fn say(&self, io: &mut Io, line: &str) -> Result<(), Failure> {
        self.write(line);
        writeln!(io.err, "{line}")?;
        Ok(())
    }

    /// Does the same from within a job, where a failure cannot be reported.
    fn tell(&self, line: &str) {
        self.write(line);
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }

    fn write(&self, line: &str) {
        if let Some(mut log) = self.log.as_ref() {
            // A full log must not stop the work.
            let _ = log.write_all(format!("{line}\n").as_bytes());
        }
    }

    fn log_checksum(&self, options: &Options, mode: checksum::Mode) {
        if options.debug > 0 {
            self.write(&format!("CHECKSUM: {}\nCS SIZE: {}", mode.name(), mode.size()));
        }
    }
}
