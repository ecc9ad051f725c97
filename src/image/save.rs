//! A file system's used blocks into an image: read once in large runs, summed, compressed side by side, written
//! in order.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::bitmap::Bitmap;
use super::checksum::{Mode, Running};
use super::codec::{self, Codec};
use super::container::{Header, MapMode, Version};
use super::fs::{self, Used};
use super::source::Source;
use super::{Error, Watch, checksum};

/// In the header, where partclone puts its version: the version of the format, and who.
const MADE_BY: &str = "0.3+ogbox";

/// Bytes that one checksum covers unless it is said otherwise: partclone's buffer.
const BYTES_PER_CHECKSUM: u32 = 1 << 20;

/// How an image is to be made.
#[derive(Clone, Copy)]
pub struct Options {
    /// Take a source that is in use or not clean.
    pub force: bool,
    /// Take a source that is not clean.
    pub unclean: bool,
    /// Save every block, whatever file system the source may hold.
    pub whole: bool,
    /// How blocks are summed.
    pub checksum: Mode,
    /// Blocks a checksum; none for as many as make 1 MiB.
    pub blocks_per_checksum: Option<u32>,
    /// Each checksum begins anew.
    pub reseed: bool,
}

impl Default for Options {
    /// As partclone does it.
    fn default() -> Options {
        Options {
            force: false,
            unclean: false,
            whole: false,
            checksum: Mode::Crc32,
            blocks_per_checksum: None,
            reseed: true,
        }
    }
}

/// A source whose used blocks are known.
pub struct Save {
    source: Source,
    used: Used,
    header: Header,
}

impl Save {
    /// Opens a source and reads which of its blocks are used.
    ///
    /// # Errors
    /// It cannot be read, is in use or not clean (without force), or holds no file system that is known.
    pub fn open(path: &Path, options: &Options) -> Result<Save, Error> {
        let source = Source::open(path, options.force)?;
        let used = if options.whole { whole(&source) } else { fs::used(&source)? };
        if let Some(why) = used.dirty.as_ref().filter(|_| !options.force && !options.unclean) {
            return Err(Error::Refused(format!("{why}, or take it as it is with --force")));
        }
        let header = Header {
            version: Version::Two,
            made_by: MADE_BY.to_owned(),
            fs: used.name.to_owned(),
            device_size: used.device_size,
            blocks: used.map.blocks(),
            used_by_super: used.used_by_super,
            used_by_map: used.map.used(),
            block_size: used.block_size,
            cpu_bits: 64,
            checksum: options.checksum,
            blocks_per_checksum: match options.checksum {
                Mode::None => 0,
                _ => options.blocks_per_checksum.unwrap_or(BYTES_PER_CHECKSUM / used.block_size).max(1),
            },
            reseed: options.reseed,
            map: MapMode::Bit,
        };
        Ok(Save { source, used, header })
    }

    /// What the image's header will say.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Why the source should not have been taken, if it was only under force.
    pub fn dirty(&self) -> Option<&str> {
        self.used.dirty.as_deref()
    }

    /// Writes the image to `out`, which errors call `name`; gives the bytes written.
    ///
    /// # Errors
    /// The source cannot be read, `out` not be written, or an end was asked for.
    pub fn write(&self, out: &mut (dyn Write + Send), name: &str, codec: &Codec, watch: &Watch) -> Result<u64, Error> {
        (watch.begin)(&self.header);
        let mut written = 0;
        let mut send = |bytes: &[u8]| {
            written += bytes.len() as u64;
            (watch.wrote)(bytes.len() as u64);
            out.write_all(bytes).map_err(|error| Error::io(format!("write {name}"), error))
        };
        let mut head = Vec::new();
        (codec.begin)(&mut head);
        let mut packer = Packer::new(self);
        let mut fill = |to: &mut [u8]| match (watch.stop)() {
            true => Err(Error::Interrupted),
            false => packer.fill(to, watch.progress),
        };
        codec::pack(codec, &head, &mut fill, &mut send)?;
        Ok(written)
    }
}

/// All sectors, as partclone.imager takes them.
fn whole(source: &Source) -> Used {
    const SECTOR: u32 = 512;
    let blocks = source.size() / u64::from(SECTOR);
    let mut map = Bitmap::new(blocks);
    map.set(0, blocks);
    let device_size = source.size();
    Used { name: "raw", block_size: SECTOR, device_size, used_by_super: blocks, map, dirty: None }
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
    /// Bytes until the next checksum.
    unsummed: u64,
    sum: Running,
}

impl<'a> Packer<'a> {
    fn new(save: &'a Save) -> Packer<'a> {
        let mut ready = save.header.to_bytes();
        let map_at = ready.len();
        save.used.map.write_bytes(&mut ready);
        let sum = checksum::crc32(&ready[map_at..]);
        ready.extend(sum.to_le_bytes());
        let mut packer =
            Packer { save, ready, ready_from: 0, run: (0, 0), next_block: 0, unsummed: 0, sum: Running::default() };
        packer.unsummed = packer.chunk();
        packer
    }

    /// Bytes that one checksum covers.
    fn chunk(&self) -> u64 {
        match self.save.header.checksum {
            Mode::None => u64::MAX,
            _ => u64::from(self.save.header.blocks_per_checksum) * u64::from(self.save.header.block_size),
        }
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
            let take = self.run.1.min(self.unsummed).min((to.len() - filled) as u64);
            let piece = &mut to[filled..filled + take as usize];
            self.save.source.read_at(piece, self.run.0)?;
            self.run = (self.run.0 + take, self.run.1 - take);
            filled += take as usize;
            read += take;
            if self.save.header.checksum != Mode::None {
                self.sum.update(piece);
                self.unsummed -= take;
                if self.unsummed == 0 {
                    self.put_sum();
                }
            }
        }
        progress(read);
        Ok(filled)
    }

    /// Goes to the next run of used blocks; at the end false, once the checksum of the last blocks is out too.
    fn next_run(&mut self) -> bool {
        let size = u64::from(self.save.header.block_size);
        match self.save.used.map.next_run(self.next_block) {
            Some((start, count)) => {
                self.run = (start * size, count * size);
                self.next_block = start + count;
                true
            }
            None if self.save.header.checksum != Mode::None && self.unsummed < self.chunk() => {
                self.put_sum();
                true
            }
            None => false,
        }
    }

    fn put_sum(&mut self) {
        self.ready.clear();
        self.ready.extend(self.sum.value().to_le_bytes());
        self.ready_from = 0;
        self.unsummed = self.chunk();
        if self.save.header.reseed {
            self.sum = Running::default();
        }
    }
}

/// An image file under way: beside its final name until it is complete, and gone if it never is.
pub struct ImageFile {
    file: File,
    name: PathBuf,
    part: Option<PathBuf>,
}

impl ImageFile {
    /// Begins the image `name`.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn create(name: &Path) -> Result<ImageFile, Error> {
        let base = name.file_name().ok_or_else(|| Error::Refused(format!("{} is no file name", name.display())))?;
        let part = name.with_file_name(format!(".{}.{}.part", base.to_string_lossy(), std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&part)
            .map_err(|error| Error::io(format!("create {}", part.display()), error))?;
        Ok(ImageFile { file, name: name.to_owned(), part: Some(part) })
    }

    /// Where the image's bytes go.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Brings the image to the disk and under its name, in place of what had that name.
    ///
    /// # Errors
    /// The disk failed, or the name cannot be taken; nothing is left then.
    pub fn finish(mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| Error::io(format!("write {}", self.name.display()), error))?;
        if let Some(part) = &self.part {
            std::fs::rename(part, &self.name)
                .map_err(|error| Error::io(format!("rename {} to {}", part.display(), self.name.display()), error))?;
        }
        self.part = None;
        Ok(())
    }
}

impl Drop for ImageFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // Nobody is left to tell when it fails.
            let _ = std::fs::remove_file(part);
        }
    }
}
