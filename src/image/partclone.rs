//! What partclone's programs do, without their faces: settings in, work done.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Stdio;

use super::block_files::{self, BlockFiles, Layout};
use super::checksum::Mode as Checksum;
use super::codec::{self, Input};
use super::container::Header;
use super::copy::{self, Bytes};
use super::format::Format;
use super::output::Output;
use super::restore::{self, restore};
use super::save::{self, Save};
use super::source::Source;
use super::{Error, Watch, domain, filter, place, stream, table};

/// One of partclone's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The program for a file system, given by the beginning of partclone's name for that.
    Fs(&'static str),
    /// partclone.imager: a whole device into an image.
    Imager,
    /// partclone.dd: a whole device, byte by byte.
    Raw,
    /// partclone.restore.
    Restore,
    /// partclone.chkimg.
    Check,
    /// partclone.info.
    Info,
    /// partclone.ntfsfixboot.
    FixBoot,
}

/// The action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No action was given.
    #[default]
    None,
    /// A device into an image.
    Clone,
    /// An image onto a device.
    Restore,
    /// A device onto another.
    Copy,
    /// The map of a device for ddrescue.
    Domain,
}

/// The settings of a job.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The action.
    pub mode: Mode,
    /// The target may exist.
    pub overwrite: bool,
    /// Checksums; `None` for the default.
    pub checksum: Option<Checksum>,
    /// Blocks that one checksum covers; `None` for the default.
    pub blocks_per_checksum: Option<u32>,
    /// Each checksum continues the one before.
    pub no_reseed: bool,
    /// Accept a source that is mounted or damaged, and replace a partition table.
    pub force: bool,
    /// Accept a source that is not clean.
    pub unclean: bool,
    /// Do not compare checksums.
    pub ignore_checksums: bool,
    /// Do not compare sizes.
    pub no_size_check: bool,
    /// Command that an image goes through.
    pub compress: Option<String>,
    /// Added to the positions of a map for ddrescue, bytes.
    pub offset_domain: u64,
    /// Where in the target the file system begins, bytes.
    pub offset: u64,
    /// Bytes that are copied byte by byte; `None` for all.
    pub device_size: Option<u64>,
    /// Most bytes of a block file.
    pub buffer: Option<u64>,
    /// Block files as target: with the files themselves, or their list alone.
    pub block_files: Option<bool>,
    /// Read on over bad sectors.
    pub rescue: bool,
    /// Go on over blocks that cannot be written.
    pub skip_write_errors: bool,
    /// Read past the cache.
    pub read_direct: bool,
    /// Write past the cache.
    pub write_direct: bool,
}

impl Job {
    /// Returns the checksum that a new image has: none in one that is only passed on.
    pub fn checksum(&self) -> Checksum {
        match self.mode {
            Mode::Clone if self.block_files.is_none() => self.checksum.unwrap_or(Checksum::Crc32),
            _ => Checksum::None,
        }
    }

    /// Opens the source, which must hold the file system of the program.
    ///
    /// # Errors
    /// See [`Save::open`].
    pub fn open(&self, program: Program, source: &str) -> Result<Save, Error> {
        let how = save::Options {
            force: self.force,
            unclean: self.unclean,
            whole: program == Program::Imager,
            holds: if let Program::Fs(fs) = program { Some(fs) } else { None },
            rescue: self.rescue,
            direct: self.read_direct,
            format: Format {
                checksum: self.checksum(),
                blocks_per_checksum: self.blocks_per_checksum,
                reseed: !self.no_reseed,
                ..Format::default()
            },
            ..save::Options::default()
        };
        Save::open(Path::new(source), &how)
    }

    /// Writes the image of `save` to `target`, or to `out` if that is `-`.
    ///
    /// # Errors
    /// The source, the target or the command that it goes through fails; or an end was asked for.
    pub fn save(&self, save: &Save, target: &str, out: &mut (dyn Write + Send), watch: &Watch) -> Result<(), Error> {
        let plain = codec::named("none").unwrap_or(&codec::CODECS[0]);
        let write = |out: &mut (dyn Write + Send), name: &str| save.write(out, name, plain, watch).map(drop);
        match (target, &self.compress) {
            ("-", None) => write(out, "standard output"),
            ("-", Some(command)) => filter::through(command, Stdio::inherit(), &mut |out| write(out, "the command")),
            (name, command) => {
                self.to_file(name, (save.name(), "an image would replace it", 0, self.force), &mut |to| match command {
                    None => write(to, name),
                    Some(command) => filter::through(command, to.descriptor()?, &mut |out| write(out, "the command")),
                })
            }
        }
    }

    /// Writes the map of `save` for ddrescue to `target`, or to `out` if that is `-`; `program` says who did.
    ///
    /// # Errors
    /// The target cannot be written.
    pub fn domain(&self, save: &Save, program: &str, target: &str, out: &mut dyn Write) -> Result<(), Error> {
        let failed = |error| Error::io(format!("write {target}"), error);
        match target {
            "-" => domain::write(save, program, self.offset_domain, out).map_err(failed),
            name => self.to_file(name, (save.name(), "a map would replace it", 0, false), &mut |out| {
                domain::write(save, program, self.offset_domain, out).map_err(failed)
            }),
        }
    }

    /// Restores an image: to a device, a file, block files or, if `target` is `-`, to standard output.
    ///
    /// # Errors
    /// The image is damaged or cut short, the target is refused or fails, or an end was asked for.
    pub fn put(&self, input: Input, target: &str, watch: &Watch) -> Result<Header, Error> {
        if let Some(layout) = self.layout(target)? {
            return block_files::from_image(input, self.ignore_checksums, Path::new(target), &layout, watch);
        }
        if target == "-" {
            refuse_terminal(target, "a file system")?;
            let mut out = again(rustix::stdio::stdout(), "standard output")?;
            return stream::restore(input, self.ignore_checksums, self.offset, &mut out, watch);
        }
        self.refuse_existing(target)?;
        let how = restore::Options {
            ignore_checksums: self.ignore_checksums,
            used_fit: self.no_size_check,
            force: self.force,
            offset: self.offset,
            direct: self.write_direct,
            skip_errors: self.skip_write_errors,
            ..restore::Options::default()
        };
        restore(input, Path::new(target), &how, watch)
    }

    /// Copies `source` to `target` byte by byte, either of which may be `-`.
    ///
    /// # Errors
    /// The source or the target is refused or fails, or an end was asked for.
    pub fn copy(&self, source: &str, target: &str, out: &mut (dyn Write + Send), watch: &Watch) -> Result<(), Error> {
        let mut force = self.force;
        let from = if source == "-" {
            copy::From::Pipe(Box::new(again(rustix::stdio::stdin(), "standard input")?))
        } else {
            let open = if self.read_direct { Source::open_direct } else { Source::open };
            let source = open(Path::new(source), self.force)?;
            source.notes().iter().for_each(|note| (watch.note)(note));
            // A disk may take the place of a disk.
            force |= matches!(table::sound(&source), Ok(Some(_)));
            copy::From::Source(source)
        };
        let mut bytes = Bytes::new(from, self.device_size, self.rescue)?;
        if let Some(layout) = self.layout(target)? {
            let Some(size) = bytes.size() else {
                return Err(Error::Refused("block files of a pipe want its size: name it by -S".to_owned()));
            };
            return bytes.to_files(BlockFiles::create(Path::new(target), 512, size.div_ceil(512), &layout)?, watch);
        }
        if target == "-" {
            return bytes.copy(out, "standard output", watch);
        }
        let why = (source, "the source has none", bytes.size().unwrap_or(0), force);
        self.to_file(target, why, &mut |out| bytes.copy(out, target, watch))
    }

    /// Returns the layout of block files, if those are asked for.
    fn layout(&self, target: &str) -> Result<Option<Layout>, Error> {
        let Some(files) = self.block_files else { return Ok(None) };
        if target == "-" || self.mode == Mode::Copy {
            let why = "block files (-T, -t) go into a directory, by -c, -r or partclone.dd";
            return Err(Error::Refused(why.to_owned()));
        }
        Ok(Some(Layout { files, longest: self.buffer.unwrap_or(1 << 20), overwrite: self.overwrite }))
    }

    /// Writes to a file, which gets its name once it is complete, or to a pipe or device.
    fn to_file(
        &self,
        name: &str,
        (source, why, least, force): (&str, &str, u64, bool),
        write: &mut dyn FnMut(&mut Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.refuse_existing(name)?;
        let mut output = Output::open(Path::new(name), why, least, &place::of(Path::new(source)), force)?;
        if self.write_direct {
            output.bypass_cache();
        }
        let done = write(&mut output);
        output.finish(done)
    }

    fn refuse_existing(&self, name: &str) -> Result<(), Error> {
        if self.overwrite || !Path::new(name).is_file() {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "Output file '{name}' already exists.\nUse option --overwrite if you want to replace its content."
        )))
    }
}

/// Opens standard input or output again, unbuffered.
fn again(stream: BorrowedFd, name: &str) -> Result<File, Error> {
    rustix::io::dup(stream).map(File::from).map_err(|error| Error::io(format!("open {name}"), error))
}

/// Refuses to write `what` to standard output if that is a terminal.
///
/// # Errors
/// It is.
pub fn refuse_terminal(target: &str, what: &str) -> Result<(), Error> {
    if target == "-" && io::stdout().is_terminal() {
        return Err(Error::Refused(format!("{what} does not go to a terminal: name a file with -o")));
    }
    Ok(())
}
