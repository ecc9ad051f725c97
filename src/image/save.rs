//! Saving a file system's used blocks as an image: read once in large runs, checksummed, compressed on all cores,
//! written in order.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::bitmap::Bitmap;
use super::checksum::{Between, Sum};
use super::codec::{self, Codec, Piece};
use super::container::{self, Header};
use super::fields::is_zero;
use super::format::{self, Format};
use super::fs::{self, Used, raw};
use super::source::Source;
use super::{Error, Watch, disk, rescue, table};
use crate::base::whole::Whole;

/// Most bytes that are looked at behind a file system, and how many at once.
const BEHIND: u64 = 256 << 20;
const STEP: u64 = 1 << 20;

/// Options for making an image.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Accept a source that is in use or not clean.
    pub force: bool,
    /// Accept a source that is not clean.
    pub unclean: bool,
    /// Save every block, as partclone.imager does.
    pub whole: bool,
    /// Save every block that is not zero, whatever the source holds.
    pub raw: bool,
    /// partclone's name of the file system that the source must hold, or its beginning; `None` for whatever it holds.
    /// One whose map is not read here is saved whole.
    pub holds: Option<&'static str>,
    /// Read on over unreadable sectors.
    pub rescue: bool,
    /// Read past the kernel's cache.
    pub direct: bool,
    /// Format of the image.
    pub format: Format,
}

/// A source with its used blocks, ready to be saved.
pub struct Save {
    source: Source,
    used: Used,
    header: Header,
    notes: Vec<String>,
    rescue: bool,
}

impl Save {
    /// Opens a source and determines its used blocks: those of its file system or, on a whole disk, of all its
    /// partitions. A source that holds neither must be scanned ([`Save::scan`]) for blocks that are not zero.
    ///
    /// # Errors
    /// The source cannot be read, is in use or not clean (without force), or its file system or partition table is
    /// damaged.
    pub fn open(path: &Path, options: &Options) -> Result<Save, Error> {
        let open = if options.direct { Source::open_direct } else { Source::open };
        Save::of(open(path, options.force)?, options)
    }

    /// Does the same with a source that is open.
    ///
    /// # Errors
    /// See [`Save::open`].
    pub fn of(source: Source, options: &Options) -> Result<Save, Error> {
        let mut notes = Vec::new();
        if source.is_in_use() {
            notes.push(format!("{} is mounted or otherwise in use; taken as it is", source.name()));
        }
        let used = used(&source, options, &mut notes)?;
        notes.extend(source.notes());
        if let Some(why) = used.dirty.as_ref().filter(|_| !options.force && !options.unclean) {
            return Err(Error::Refused(format!("{why}, or take it as it is with --force")));
        }
        if let Some(why) = &used.dirty {
            notes.push(format!("{why}; taken as it is"));
        }
        let header = format::header(&used, &options.format);
        Ok(Save { source, used, header, notes, rescue: options.rescue })
    }

    /// Returns the name of the source in errors.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Returns the header that the image will have.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns remarks for the user: what is not clean and taken by force, what is unknown and saved whole.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Adds a remark if something comes behind the end of a file system which does not fill its partition, or may: its
    /// image has no room for it. OpenGnsys shrinks a file system itself, and knows that nothing is there.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn look_behind(&mut self) -> Result<(), Error> {
        let (source, used) = (&self.source, &self.used);
        let (from, to) = (used.device_size.max(used.map.blocks() * u64::from(used.block_size)), source.size());
        let looked = to.min(from.saturating_add(BEHIND));
        let mut found = looked < to;
        for at in (from..looked).step_by(STEP as usize) {
            found = found || !is_zero(&source.read(at, STEP.min(looked - at) as usize)?);
        }
        if found {
            self.notes.push(format!(
                "{}: the {} bytes behind the {} file system, from byte {from} on, are left out: --raw keeps what is not zero",
                source.name(),
                to - from,
                used.name
            ));
        }
        Ok(())
    }

    /// Whether the source must be scanned before it is written.
    pub fn wants_scan(&self) -> bool {
        self.header.fs == raw::NAME
    }

    /// Reads the whole source for blocks that are all zeroes.
    ///
    /// # Errors
    /// The source cannot be read, or an end was asked for.
    pub fn scan(&mut self, watch: &Watch) -> Result<(), Error> {
        (watch.begin)(&self.header);
        raw::scan(&self.source, &mut self.used, &mut |done| {
            (watch.progress)(done);
            if (watch.stop)() { Err(Error::Interrupted) } else { Ok(()) }
        })?;
        self.header.used_by_map = self.used.map.used();
        self.header.used_by_super = self.header.used_by_map;
        Ok(())
    }

    /// Writes the image to `out`, called `name` in errors; returns the pieces as [`codec::pack`] does.
    ///
    /// # Errors
    /// The source cannot be read, `out` cannot be written, or an end was asked for.
    pub fn write(
        &self,
        out: &mut (dyn Write + Send),
        name: &str,
        codec: &Codec,
        watch: &Watch,
    ) -> Result<Vec<Piece>, Error> {
        (watch.begin)(&self.header);
        let mut packer = Packer::new(self);
        pack(out, name, codec, watch, &mut |to| packer.fill(to, watch))
    }

    /// Returns the map of the blocks that are saved.
    pub fn map(&self) -> &Bitmap {
        &self.used.map
    }
}

/// Returns the blocks to save, and adds remarks to `notes`.
fn used(source: &Source, options: &Options, notes: &mut Vec<String>) -> Result<Used, Error> {
    if options.whole || options.raw {
        return if options.whole { Ok(raw::whole(source)) } else { raw::used(source) };
    }
    let name = source.name();
    let other = |found: &str, want: &str| Error::Refused(format!("{name} holds {found}, not {want}"));
    if let Some(table) = table::sound(source)? {
        return match options.holds {
            Some(want) => Err(other("a partition table", want)),
            None => disk::used(source, &table, options.force, notes),
        };
    }
    let found = fs::recognise(source)?;
    match (found, options.holds) {
        (Some(fs), Some(want)) if !fs.name.starts_with(want) => Err(other(fs.name, want)),
        (Some(fs), want) => (fs.used)(source).or_else(|error| match (error, want) {
            (error @ Error::Damaged { .. }, Some(_)) if options.force => {
                notes.push(format!("{error}; every block is saved"));
                raw::named(source, fs.name)
            }
            (error @ Error::Damaged { .. }, None) if options.force => {
                notes.push(format!("{error}; each block that is not zero is saved"));
                raw::used(source)
            }
            (error, _) => Err(error),
        }),
        (None, Some(want)) if fs::is_known(want) || fs::owner(source).is_some() => {
            Err(other(&fs::unknown(source)?, want))
        }
        (None, Some(want)) => {
            notes.push(format!("{name}: which blocks {want} uses is not known here: every block is saved"));
            raw::named(source, want)
        }
        (None, None) => {
            let what = fs::unknown(source)?;
            notes.push(format!("{name}: {what}: each block that is not zero is saved"));
            raw::used(source)
        }
    }
}

/// Compresses everything that `fill` reads into `out`, called `name` in errors; returns the pieces.
///
/// # Errors
/// `out` cannot be written, an end was asked for, or an error of `fill`.
pub fn pack(
    out: &mut (dyn Write + Send),
    name: &str,
    codec: &Codec,
    watch: &Watch,
    fill: &mut (dyn FnMut(&mut [u8]) -> Result<usize, Error> + Send),
) -> Result<Vec<Piece>, Error> {
    let mut written = 0;
    let mut send = |bytes: &[u8]| {
        out.write_all(bytes).map_err(|error| Error::io(format!("write {name} at byte {written}"), error))?;
        written += bytes.len() as u64;
        (watch.wrote)(bytes.len() as u64);
        Ok(())
    };
    let mut head = Vec::new();
    (codec.begin)(&mut head);
    let mut fill = |to: &mut [u8]| if (watch.stop)() { Err(Error::Interrupted) } else { fill(to) };
    codec::pack(codec, &head, &mut fill, &mut send)
}

/// The image's bytes before compression, from the first to the last.
struct Packer<'a> {
    save: &'a Save,
    /// Bytes that do not come from the source (header, map and the map's check, then each checksum between blocks);
    /// those from `ready_from` on are still to be passed on.
    ready: Vec<u8>,
    ready_from: usize,
    /// Current run of used blocks: offset in the source of the next byte, and bytes left.
    run: (u64, u64),
    /// First block after that run.
    next_block: u64,
    sums: Between,
}

impl<'a> Packer<'a> {
    fn new(save: &'a Save) -> Packer<'a> {
        let mut ready = Vec::new();
        let Ok(()) = container::front(&save.header, &save.used.map, &mut |bytes| {
            ready.extend_from_slice(bytes);
            Ok::<(), Infallible>(())
        });
        Packer { save, ready, ready_from: 0, run: (0, 0), next_block: 0, sums: save.header.sums() }
    }

    /// Fills `to` with the next bytes; returns how many, 0 at the end.
    fn fill(&mut self, to: &mut [u8], watch: &Watch) -> Result<usize, Error> {
        let mut filled = 0;
        let mut read = 0;
        while filled < to.len() {
            let ready = &self.ready[self.ready_from..];
            if !ready.is_empty() {
                let take = ready.len().min(to.len() - filled);
                to[filled..filled + take].copy_from_slice(&ready[..take]);
                self.ready_from += take;
                filled += take;
                continue;
            }
            if self.run.1 == 0 && !self.next_run() {
                break;
            }
            let take = self.run.1.min(self.sums.room()).min((to.len() - filled) as u64);
            let piece = &mut to[filled..filled + take as usize];
            match self.save.source.read_at(piece, self.run.0) {
                Err(error) if self.save.rescue && rescue::is_of_the_medium(&error) => {
                    rescue::read(&self.save.source, piece, self.run.0, watch.note)?;
                }
                done => done?,
            }
            self.run = (self.run.0 + take, self.run.1 - take);
            filled += take as usize;
            read += take;
            let sum = self.sums.add(piece);
            self.put(sum);
        }
        (watch.progress)(read);
        Ok(filled)
    }

    /// Goes to the next run of used blocks or makes the last checksum ready; false once there is neither.
    fn next_run(&mut self) -> bool {
        let size = u64::from(self.save.header.block_size);
        let Some((start, count)) = self.save.used.map.next_run(self.next_block) else {
            let sum = self.sums.end();
            return self.put(sum);
        };
        self.run = (start * size, count * size);
        self.next_block = start + count;
        true
    }

    /// Makes a checksum ready if one is due; returns whether it is.
    fn put(&mut self, sum: Option<Sum>) -> bool {
        let Some(sum) = sum else { return false };
        self.ready.clear();
        self.ready.extend(sum.bytes());
        self.ready_from = 0;
        true
    }
}

/// An image file in progress: under a temporary name until it is complete, and deleted if it never is.
pub struct ImageFile {
    whole: Whole,
    name: PathBuf,
}

impl ImageFile {
    /// Creates the temporary file for the image `name`; if that is a symbolic link, for its target.
    ///
    /// # Errors
    /// The directory is not writable.
    pub fn create(name: &Path) -> Result<ImageFile, Error> {
        ImageFile::begin(name, Whole::create)
    }

    /// Creates the temporary file for the image `name`, which also replaces a symbolic link.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn create_at(name: &Path) -> Result<ImageFile, Error> {
        ImageFile::begin(name, Whole::create_at)
    }

    fn begin(name: &Path, create: fn(&Path) -> io::Result<Whole>) -> Result<ImageFile, Error> {
        if name.file_name().is_none() {
            return Err(Error::Refused(format!("{} is no file name", name.display())));
        }
        let whole = create(name).map_err(|error| Error::io(format!("create {}", name.display()), error))?;
        Ok(ImageFile { whole, name: name.to_owned() })
    }

    /// Whether what has the name is written to as it is: a pipe or character device.
    pub fn is_written_through(&self) -> bool {
        self.whole.is_written_through()
    }

    /// Returns the file that the image's bytes go to.
    pub fn file(&mut self) -> &mut File {
        self.whole.file()
    }

    /// Syncs the image and renames it, replacing any file of its name.
    ///
    /// # Errors
    /// The disk failed, or the name cannot be taken; nothing is left then.
    pub fn finish(self) -> Result<(), Error> {
        let kept = self.whole.commit().map(drop);
        kept.map_err(|error| Error::io(format!("write {}", self.name.display()), error))
    }
}
