//! A file system's used blocks into an image: read once in large runs, summed, compressed side by side, written
//! in order.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::bitmap::Bitmap;
use super::checksum::{Between, Mode};
use super::codec::{self, Codec, Piece};
use super::container::{self, Header, MapMode, Version};
use super::disk::{self, Table};
use super::fs::{self, Used, raw};
use super::source::Source;
use super::{Error, Watch};
use crate::base::whole::Whole;

/// In the header, where partclone puts its version: the version of the format, and who.
const MADE_BY: &str = "0.3+ogbox";

/// Bytes that one checksum covers unless it is said otherwise: partclone's buffer.
const BYTES_PER_CHECKSUM: u32 = 1 << 20;

/// Of which version an image is, and how its blocks are summed.
#[derive(Clone, Copy)]
pub struct Format {
    /// Of the container.
    pub version: Version,
    /// How blocks are summed, in version 2.
    pub checksum: Mode,
    /// Blocks a checksum; none for as many as make 1 MiB.
    pub blocks_per_checksum: Option<u32>,
    /// Each checksum begins anew.
    pub reseed: bool,
}

impl Default for Format {
    /// As partclone 0.3 does it.
    fn default() -> Format {
        Format { version: Version::Two, checksum: Mode::Crc32, blocks_per_checksum: None, reseed: true }
    }
}

impl Format {
    /// Writes itself into a header whose fields of the file system are right.
    pub fn put(&self, header: &mut Header) {
        header.version = self.version;
        if self.version == Version::One {
            // It has room for one of the two, by which readers count.
            header.used_by_super = header.used_by_map;
        }
        (header.checksum, header.reseed, header.map) = match self.version {
            Version::One => (Mode::Crc32V1, false, MapMode::Byte),
            Version::Two => (self.checksum, self.reseed, MapMode::Bit),
        };
        let usual = BYTES_PER_CHECKSUM / header.block_size;
        header.blocks_per_checksum = match header.checksum {
            Mode::None => 0,
            Mode::Crc32 => self.blocks_per_checksum.unwrap_or(usual).max(1),
            Mode::Crc32V1 => 1,
        };
    }
}

/// The header of an image of these blocks.
pub fn header(used: &Used, format: &Format) -> Header {
    let mut header = Header {
        version: Version::Two,
        made_by: MADE_BY.to_owned(),
        fs: used.name.to_owned(),
        device_size: used.device_size,
        blocks: used.map.blocks(),
        used_by_super: used.used_by_super,
        used_by_map: used.map.used(),
        block_size: used.block_size,
        cpu_bits: 64,
        checksum: Mode::None,
        blocks_per_checksum: 0,
        reseed: false,
        map: MapMode::Bit,
    };
    format.put(&mut header);
    header
}

/// What is told of a job of `bytes` that is about no file system; 0 when nobody knows how many there are.
pub fn untyped(bytes: u64) -> Header {
    let (map, dirty) = (Bitmap::default(), None);
    let used = Used { name: "", block_size: 1, device_size: bytes, used_by_super: bytes, map, dirty };
    Header { used_by_map: bytes, ..header(&used, &Format::default()) }
}

/// How an image is to be made.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Take a source that is in use or not clean.
    pub force: bool,
    /// Take a source that is not clean.
    pub unclean: bool,
    /// Save every block, as partclone.imager does.
    pub whole: bool,
    /// Save every block that is not zero, whatever the source may hold.
    pub raw: bool,
    /// The image's format.
    pub format: Format,
}

/// A source whose used blocks are known.
pub struct Save {
    source: Source,
    used: Used,
    header: Header,
    notes: Vec<String>,
}

impl Save {
    /// Opens a source and reads which of its blocks are used: those of its file system or, if it is a whole disk, of
    /// all in its partitions. What holds neither must be scanned ([`Save::scan`]) for blocks that are not zero.
    ///
    /// # Errors
    /// It cannot be read, is in use or not clean (without force), or its file system or partition table is damaged.
    pub fn open(path: &Path, options: &Options) -> Result<Save, Error> {
        Save::of(Source::open(path, options.force)?, options)
    }

    /// The same of a source that is open.
    ///
    /// # Errors
    /// See [`Save::open`].
    pub fn of(source: Source, options: &Options) -> Result<Save, Error> {
        let mut notes = Vec::new();
        if source.is_in_use() {
            notes.push(format!("{} is mounted or otherwise in use; taken as it is", source.name()));
        }
        let used = if options.whole {
            raw::whole(&source)
        } else if options.raw {
            raw::used(&source)?
        } else if let Some(table) = Table::read(&source)? {
            disk::used(&source, &table, options.force, &mut notes)?
        } else if let Some(fs) = fs::recognise(&source)? {
            (fs.used)(&source)?
        } else {
            let what = fs::unknown(&source)?;
            notes.push(format!("{}: {what}: each block that is not zero is saved", source.name()));
            raw::used(&source)?
        };
        if let Some(why) = used.dirty.as_ref().filter(|_| !options.force && !options.unclean) {
            return Err(Error::Refused(format!("{why}, or take it as it is with --force")));
        }
        if let Some(why) = &used.dirty {
            notes.push(format!("{why}; taken as it is"));
        }
        let header = header(&used, &options.format);
        Ok(Save { source, used, header, notes })
    }

    /// What errors call the source.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// What the image's header will say.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is worth telling: what is not clean and taken by force, what is not known and saved whole.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether the source is to be scanned before it is written.
    pub fn wants_scan(&self) -> bool {
        self.header.fs == raw::NAME
    }

    /// Reads the whole source for blocks that are all zeroes.
    ///
    /// # Errors
    /// The source cannot be read, or an end was asked for.
    pub fn scan(&mut self, watch: &Watch) -> Result<(), Error> {
        (watch.begin)(&self.header);
        raw::scan(&self.source, &mut self.used, watch)?;
        self.header.used_by_map = self.used.map.used();
        self.header.used_by_super = self.header.used_by_map;
        Ok(())
    }

    /// Writes the image to `out`, which errors call `name`; gives its pieces, as [`codec::pack`] does.
    ///
    /// # Errors
    /// The source cannot be read, `out` not be written, or an end was asked for.
    pub fn write(
        &self,
        out: &mut (dyn Write + Send),
        name: &str,
        codec: &Codec,
        watch: &Watch,
    ) -> Result<Vec<Piece>, Error> {
        (watch.begin)(&self.header);
        let mut packer = Packer::new(self);
        pack(out, name, codec, watch, &mut |to| packer.fill(to, watch.progress))
    }
}

/// Compresses what `fill` gives into `out`, which errors call `name`; gives the pieces.
///
/// # Errors
/// What `fill` gave, `out` cannot be written, or an end was asked for.
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

/// The image's bytes, from the first to the last.
struct Packer<'a> {
    save: &'a Save,
    /// Header, map and the map's checksum, then each checksum between the blocks: what is not read from the
    /// source, as far as it was not given out yet (from `ready_from` on).
    ready: Vec<u8>,
    ready_from: usize,
    /// Offset in the source and bytes left of the run of used blocks that is being read.
    run: (u64, u64),
    /// First block behind that run.
    next_block: u64,
    sums: Between,
}

impl<'a> Packer<'a> {
    fn new(save: &'a Save) -> Packer<'a> {
        let ready = container::front(&save.header, &save.used.map);
        Packer { save, ready, ready_from: 0, run: (0, 0), next_block: 0, sums: Between::new(&save.header) }
    }

    /// Fills `to` with the next bytes; gives how many there were, 0 at the end.
    fn fill(&mut self, to: &mut [u8], progress: &dyn Fn(u64)) -> Result<usize, Error> {
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
            self.save.source.read_at(piece, self.run.0)?;
            self.run = (self.run.0 + take, self.run.1 - take);
            filled += take as usize;
            read += take;
            let sum = self.sums.add(piece);
            self.put(sum);
        }
        progress(read);
        Ok(filled)
    }

    /// Goes to the next run of used blocks; at the end false, once the checksum of the last blocks is out too.
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

    /// Makes a checksum ready, if one is due.
    fn put(&mut self, sum: Option<[u8; 4]>) -> bool {
        let Some(sum) = sum else { return false };
        self.ready.clear();
        self.ready.extend(sum);
        self.ready_from = 0;
        true
    }
}

/// An image file under way: beside its final name until it is complete, and gone if it never is.
pub struct ImageFile {
    whole: Whole,
    name: PathBuf,
}

impl ImageFile {
    /// Begins the image `name`, or what the symbolic link of that name leads to.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn create(name: &Path) -> Result<ImageFile, Error> {
        ImageFile::begin(name, Whole::create)
    }

    /// Begins the image `name`, in whose place a symbolic link of that name is replaced.
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

    /// Where the image's bytes go.
    pub fn file(&mut self) -> &mut File {
        self.whole.file()
    }

    /// Brings the image to the disk and under its name, in place of what had that name.
    ///
    /// # Errors
    /// The disk failed, or the name cannot be taken; nothing is left then.
    pub fn finish(self) -> Result<(), Error> {
        let kept = self.whole.commit().map(drop);
        kept.map_err(|error| Error::io(format!("write {}", self.name.display()), error))
    }
}
