//! Conversion of an image into another format or compression, in one pass, with its checksums verified.
//!
//! Two pipelines run at once with a pipe between them, so that expanding and compressing both use all cores.

use std::io::{PipeWriter, Write};

use super::bitmap::Bitmap;
use super::checksum::Between;
use super::codec::{self, Codec, Input, Piece, read_full};
use super::container::{self, Header};
use super::fields::is_zero;
use super::format::{Format, header, untyped};
use super::fs::{Used, raw};
use super::save::pack;
use super::unpack::{self, Event};
use super::{Error, Watch};

/// Capacity of the pipe, bytes: the most that an ordinary user may ask for.
const PIPE: usize = 1 << 20;

/// Writes the image `input` to `out`, called `name` in errors, in this format; returns the pieces as [`codec::pack`]
/// does.
///
/// # Errors
/// The image is damaged or cut short, `out` cannot be written, or an end was asked for.
pub fn convert(
    input: Input,
    format: &Format,
    out: &mut (dyn Write + Send),
    name: &str,
    codec: &Codec,
    watch: &Watch,
) -> Result<Vec<Piece>, Error> {
    through_pipe(out, name, codec, watch, |pipe| {
        let mut sums = None;
        let read = unpack::read(input, false, watch, &mut |header, event| match event {
            Event::Begin(map) => {
                let mut header = Header { used_by_map: map.used(), ..header.clone() };
                format.put(&mut header);
                sums = Some(header.sums());
                container::front(&header, map, &mut |bytes| send(&mut &pipe, bytes))
            }
            Event::Blocks(_, bytes) => match &mut sums {
                Some(sums) => blocks(&mut &pipe, sums, bytes),
                None => Ok(()),
            },
        });
        read?;
        match sums.and_then(|mut sums| sums.end()) {
            Some(sum) => send(&mut &pipe, sum.bytes()),
            None => Ok(()),
        }
    })
}

/// Returns the blocks that are not zero in a byte-by-byte copy of a device (dd, partclone.dd), compressed or not.
///
/// # Errors
/// The copy is damaged or not a whole number of sectors, or an end was asked for.
pub fn scan_raw(mut input: Input, watch: &Watch) -> Result<Used, Error> {
    (watch.begin)(&untyped(0));
    let mut scan = Scan::default();
    let codec = codec::recognise(input.peek(16)?);
    codec::unpack(codec, &mut input, watch, &mut |bytes| {
        scan.take(bytes);
        (watch.progress)(bytes.len() as u64);
        Ok(())
    })?;
    scan.finish().ok_or_else(|| Error::Refused(format!("{} expands to no whole number of sectors", input.name())))
}

/// Writes a byte-by-byte copy of a device as an image of the blocks `used`, which [`scan_raw`] found in it.
///
/// # Errors
/// The copy changed since or is damaged, `out` cannot be written, or an end was asked for.
pub fn convert_raw(
    mut input: Input,
    used: &Used,
    format: &Format,
    out: &mut (dyn Write + Send),
    name: &str,
    codec: &Codec,
    watch: &Watch,
) -> Result<Vec<Piece>, Error> {
    let header = header(used, format);
    let changed = Error::Refused(format!("{} changed while it was read", input.name()));
    let packed = codec::recognise(input.peek(16)?);
    (watch.begin)(&header);
    through_pipe(out, name, codec, watch, |pipe| {
        let pipe = &mut &pipe;
        container::front(&header, &used.map, &mut |bytes| send(pipe, bytes))?;
        let mut sums = header.sums();
        let (block, mut at) = (u64::from(header.block_size), 0);
        codec::unpack(packed, &mut input, watch, &mut |mut bytes| {
            while !bytes.is_empty() {
                // To the end of its block.
                let take = (block - at % block).min(bytes.len() as u64);
                let (now, later) = bytes.split_at(take as usize);
                if used.map.get(at / block) {
                    blocks(pipe, &mut sums, now)?;
                    (watch.progress)(take);
                }
                at += take;
                bytes = later;
            }
            Ok(())
        })?;
        if at != used.device_size {
            return Err(changed);
        }
        sums.end().map_or(Ok(()), |sum| send(pipe, sum.bytes()))
    })
}

/// A search for sectors that are not zero, in bytes as they pass.
#[derive(Default)]
struct Scan {
    /// One bit a sector: set if it is not zero.
    bits: Vec<u8>,
    sectors: u64,
    /// Bytes seen of the current sector, and whether any of them is not zero.
    part: usize,
    used: bool,
}

impl Scan {
    const SECTOR: usize = 512;

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(Self::SECTOR - self.part));
            self.used |= !is_zero(now);
            self.part += now.len();
            if self.part == Self::SECTOR {
                if self.sectors.is_multiple_of(8) {
                    self.bits.push(0);
                }
                if let Some(last) = self.bits.last_mut().filter(|_| self.used) {
                    *last |= 1 << (self.sectors % 8);
                }
                self.sectors += 1;
                (self.part, self.used) = (0, false);
            }
            bytes = later;
        }
    }

    fn finish(self) -> Option<Used> {
        let size = self.sectors * Self::SECTOR as u64 + self.part as u64;
        let block = u64::from(raw::block_size(size)?);
        let each = block / Self::SECTOR as u64;
        let sectors = Bitmap::from_bytes(&self.bits, self.sectors)?;
        let mut map = Bitmap::new(size / block);
        let mut from = 0;
        while let Some((start, count)) = sectors.next_run(from) {
            from = start + count;
            map.set(start / each, from.div_ceil(each) - start / each);
        }
        let used_by_super = map.used();
        Some(Used { name: raw::NAME, block_size: block as u32, device_size: size, used_by_super, map, dirty: None })
    }
}

/// Compresses everything that `write` sends through the pipe into `out`.
fn through_pipe(
    out: &mut (dyn Write + Send),
    name: &str,
    codec: &Codec,
    watch: &Watch,
    write: impl FnOnce(PipeWriter) -> Result<(), Error> + Send,
) -> Result<Vec<Piece>, Error> {
    let (mut from, to) = std::io::pipe().map_err(|error| Error::io("make a pipe", error))?;
    // A smaller pipe works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&to, PIPE);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(to));
        let packed = pack(out, name, codec, watch, &mut |to| {
            read_full(&mut from, to).map_err(|error| Error::io("read from a pipe", error))
        });
        // The writer notices the closed pipe.
        drop(from);
        match (writer.join(), packed) {
            (Ok(Err(Error::Io { error, .. })), Err(packed)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(packed)
            }
            (Ok(Err(error)), _) => Err(error),
            (Ok(Ok(())), packed) => packed,
            (Err(panic), _) => std::panic::resume_unwind(panic),
        }
    })
}

/// Sends bytes of blocks with the checksums that are due between them.
fn blocks(pipe: &mut &PipeWriter, sums: &mut Between, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(sums.room().min(bytes.len() as u64) as usize);
        send(pipe, now)?;
        if let Some(sum) = sums.add(now) {
            send(pipe, sum.bytes())?;
        }
        bytes = later;
    }
    Ok(())
}

fn send(pipe: &mut &PipeWriter, bytes: &[u8]) -> Result<(), Error> {
    pipe.write_all(bytes).map_err(|error| Error::io("write to a pipe", error))
}
