//! An image made of several, while it is read: tables, partitions' images, copies and swaps at their offsets become one
//! image of the whole device, not compressed, which a thread writes into a pipe.
//!
//! Headers and maps of all images are read before the first byte is passed on, so that what lacks is known in time. What
//! of a used block nobody gives is zero.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::thread::{self, JoinHandle};

use super::layout::order;
use super::split::Parts;
use crate::image::bitmap::Bitmap;
use crate::image::checksum::Mode;
use crate::image::codec::{self, Input};
use crate::image::container::{self, Header};
use crate::image::format::{Format, header};
use crate::image::fs::{Used, ntfs, raw};
use crate::image::unpack::{self, Event};
use crate::image::{Error, Watch, place};

/// Capacity of the pipe, bytes: the most that an ordinary user may ask for.
const PIPE: usize = 1 << 20;
/// Most blocks of a device, as of an image's.
const MOST_BLOCKS: u64 = 1 << 37;

/// What lies at an offset of the device.
#[derive(Clone)]
pub enum Item {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The file system of a partclone image; the partition's size, bytes.
    Image(Parts, u64),
    /// A byte-by-byte copy; its size, bytes.
    Copy(Parts, u64),
}

/// A device that is made of items.
pub struct Job {
    name: String,
    header: Header,
    map: Bitmap,
    items: Vec<(u64, Item)>,
}

impl Job {
    /// Plans a device of `size` bytes, called `name` in errors; `fs` is the name of its file system in the header.
    ///
    /// # Errors
    /// An image is damaged at its beginning, does not fit its partition or overlaps another one.
    pub fn plan(name: &str, fs: &'static str, size: u64, mut items: Vec<(u64, Item)>) -> Result<Job, Error> {
        let refused = |why: String| Error::Refused(format!("{name}: {why}: nothing was written"));
        let block_size = raw::block_size(size)
            .ok_or_else(|| refused(format!("a disk of {size} bytes is no whole number of sectors")))?;
        let block = u64::from(block_size);
        if size / block > MOST_BLOCKS {
            return Err(refused(format!("a disk of {size} bytes is not supported")));
        }
        let mut map = Bitmap::new(size / block);
        items.retain(|(_, item)| !matches!(item, Item::Bytes(bytes) if bytes.is_empty()));
        order(&mut items, |(at, _)| *at);
        let mut end = 0;
        for (at, item) in &items {
            let len = match item {
                Item::Bytes(bytes) => bytes.len() as u64,
                Item::Image(_, size) | Item::Copy(_, size) => *size,
            };
            if *at < end || at.checked_add(len).is_none_or(|end| end > size) {
                return Err(refused(format!("what is at byte {at} overlaps something or lies past the end ({size})")));
            }
            end = at + len;
            // Rounded outwards to whole blocks: partitions may begin anywhere.
            let mut keep = |start: u64, len: u64| map.set(start / block, (start + len).div_ceil(block) - start / block);
            match item {
                Item::Bytes(_) | Item::Copy(..) => keep(*at, len),
                Item::Image(parts, _) => image(parts, *at, len, &mut keep)?,
            }
        }
        let used_by_super = map.used();
        let used = Used { name: fs, block_size, device_size: size, used_by_super, map, dirty: None };
        let header = header(&used, &Format { checksum: Mode::None, ..Format::default() });
        Ok(Job { name: name.to_owned(), header, map: used.map, items })
    }

    /// Returns the image, which is made as it is read.
    ///
    /// # Errors
    /// The system has no more pipes or threads.
    pub fn start(self) -> Result<Input, Error> {
        let (reader, pipe) = io::pipe().map_err(|error| Error::io("make a pipe", error))?;
        // A smaller pipe works as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
        let files = self.items.iter().filter_map(|(_, item)| match item {
            Item::Bytes(_) => None,
            Item::Image(parts, _) | Item::Copy(parts, _) => Some(parts),
        });
        let places = files.flat_map(Parts::files).flat_map(|file| place::of(file)).collect();
        let name = self.name.clone();
        let write = thread::Builder::new().name("set".to_owned()).spawn(move || self.write(pipe));
        let writer = Some(write.map_err(|error| Error::io("start a thread", error))?);
        Ok(Input::new(Box::new(Made { reader, writer }), &name).lying(places))
    }

    fn write(self, mut pipe: PipeWriter) -> Result<(), Error> {
        container::front(&self.header, &self.map, &mut |bytes| send(&mut pipe, bytes))?;
        let block = u64::from(self.header.block_size);
        let mut out =
            Device { pipe, map: &self.map, block, size: self.header.device_size, at: 0, zeroes: vec![0; PIPE] };
        for (at, item) in &self.items {
            match item {
                Item::Bytes(bytes) => out.put(*at, bytes)?,
                Item::Image(parts, size) => partition(parts, *at, *size, &mut out)?,
                Item::Copy(parts, size) => copy(parts, *at, *size, &mut out)?,
            }
        }
        out.skip_to(out.size)
    }
}

/// Checks an image for the `len` bytes of a partition at `start`, and keeps its used blocks.
fn image(parts: &Parts, start: u64, len: u64, keep: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
    let (header, map) = unpack::header(parts.open()?)?;
    let size = u64::from(header.block_size);
    let wants = map.end().saturating_mul(size);
    if wants > len {
        let name = parts.first().display();
        return Err(Error::Refused(format!(
            "{name} needs {wants} bytes, its partition has {len}: nothing was written"
        )));
    }
    let mut from = 0;
    while let Some((first, count)) = map.next_run(from) {
        keep(start + first * size, count * size);
        from = first + count;
    }
    if header.fs == ntfs::NAME && header.device_size <= len {
        // The copy of the boot sector, where partclone's images do not reach; its sector may have up to 4 KiB.
        keep(start + header.device_size.saturating_sub(4096), header.device_size.min(4096));
    }
    Ok(())
}

/// Passes on the blocks of an image for the `len` bytes of a partition at `start`.
fn partition(parts: &Parts, start: u64, len: u64, out: &mut Device) -> Result<(), Error> {
    let mut boot = Vec::new();
    let read = unpack::read(parts.open()?, false, &Watch::idle(), &mut |header, event| match event {
        Event::Begin(_) => Ok(()),
        Event::Blocks(first, bytes) => {
            if first == 0 && header.fs == ntfs::NAME {
                boot = ntfs::boot_sector(bytes).to_vec();
            }
            out.put(start + first * u64::from(header.block_size), bytes)
        }
    });
    let header = read?;
    let copy = header.device_size.saturating_sub(boot.len() as u64);
    if !boot.is_empty() && copy >= header.block_bytes() && header.device_size <= len {
        out.put(start + copy, &boot)?;
    }
    Ok(())
}

/// Passes on a byte-by-byte copy of `len` bytes.
fn copy(parts: &Parts, start: u64, len: u64, out: &mut Device) -> Result<(), Error> {
    let mut input = parts.open()?;
    let codec = codec::recognise(input.peek(16)?);
    let mut done = 0;
    let name = parts.first().display();
    codec::unpack(codec, &mut input, &Watch::idle(), &mut |bytes| {
        done += bytes.len() as u64;
        if done > len {
            return Err(Error::Refused(format!("{name} has more than the {len} bytes of its partition")));
        }
        out.put(start + done - bytes.len() as u64, bytes)
    })?;
    match done < len {
        true => Err(Error::Refused(format!("{name} has {done} of the {len} bytes of its partition"))),
        false => Ok(()),
    }
}

/// The device as it passes: its used blocks, in order.
struct Device<'a> {
    pipe: PipeWriter,
    map: &'a Bitmap,
    block: u64,
    size: u64,
    /// Offset up to which everything was passed on.
    at: u64,
    zeroes: Vec<u8>,
}

impl Device<'_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let last = (at + bytes.len() as u64 - 1) / self.block;
        if at < self.at || !self.map.get(at / self.block) || !self.map.get(last) {
            return Err(Error::Refused(format!("byte {at}: an image of the set changed while it was read")));
        }
        self.skip_to(at)?;
        send(&mut self.pipe, bytes)?;
        self.at = at + bytes.len() as u64;
        Ok(())
    }

    /// Passes on zeroes for what of the used blocks before `to` nobody gave.
    fn skip_to(&mut self, to: u64) -> Result<(), Error> {
        while self.at < to {
            let (first, count) = self.map.next_run(self.at / self.block).unwrap_or((self.size / self.block, 0));
            self.at = self.at.max(first * self.block).min(to);
            let end = to.min((first + count) * self.block);
            while self.at < end {
                let step = (end - self.at).min(PIPE as u64);
                send(&mut self.pipe, &self.zeroes[..step as usize])?;
                self.at += step;
            }
        }
        Ok(())
    }
}

fn send(pipe: &mut PipeWriter, bytes: &[u8]) -> Result<(), Error> {
    pipe.write_all(bytes).map_err(|error| Error::io("write to a pipe", error))
}

/// The reading end, which tells the writer's error where the image ends.
struct Made {
    reader: PipeReader,
    writer: Option<JoinHandle<Result<(), Error>>>,
}

impl Read for Made {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(to)?;
        if got > 0 || to.is_empty() {
            return Ok(got);
        }
        match self.writer.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(0),
            Some(Ok(Err(error))) => Err(io::Error::other(error.to_string())),
            Some(Err(_)) => Err(io::Error::other("its reader panicked")),
        }
    }
}
