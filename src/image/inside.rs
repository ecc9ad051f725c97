//! Random access to the device that an image was made of; blocks that the image leaves out read as zero. So a
//! partition is taken out of the image of a disk without reading the others.
//!
//! The unit of reading is what one of partclone's checksums covers, and it is verified. That exposes a wrong index of
//! a compressed image, which is then made anew.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::bitmap::Bitmap;
use super::checksum::{BlockSum, Mode, Sum};
use super::codec::Input;
use super::codec::seek::Pieces;
use super::container::Header;
use super::source::Source;
use super::{Error, unpack};
use crate::base::sync::lock;

/// Most bytes that one checksum may cover, and number of such groups that are kept.
const MOST: u64 = 16 << 20;
const KEPT: usize = 4;
/// Interval at which the number of used blocks before a block is remembered, blocks.
const STEP: u64 = 1 << 16;

/// Opens the image of a device as that device, comparing checksums unless `ignore_checksums`. `say` receives a line if
/// the image's index cannot be used.
///
/// # Errors
/// The file is not an image, cannot be read, or can only be read from beginning to end.
pub fn open(path: &Path, ignore_checksums: bool, say: fn(&str)) -> Result<Source, Error> {
    let name = path.display().to_string();
    let open = || File::open(path).map_err(|error| Error::io(format!("open {name}"), error));
    let (header, map) = unpack::header(Input::new(Box::new(open()?), &name))?;
    let block = u64::from(header.block_size);
    // Without checksums, as many as one usually covers.
    let blocks = match header.checksum {
        Mode::None => (1 << 20) / block,
        _ => u64::from(header.blocks_per_checksum),
    };
    let group = blocks.max(1).saturating_mul(block);
    if group > MOST {
        return Err(Error::Refused(format!(
            "{name}: its checksums cover {group} bytes each, too many for reading a part: make one with the usual ones by \
             `ogbox image convert {name} -o OTHER`"
        )));
    }
    let sum = header.checksum.size() as u64;
    let blocks = group / block;
    let (mut used, mut before) = (0, Vec::new());
    for step in 0..map.blocks().div_ceil(STEP) {
        before.push(used);
        used += map.used_of(step * STEP, STEP);
    }
    let whole = header.front_size() + used * block + used.div_ceil(blocks) * sum;
    if BlockSum::after(header.checksum, [0; 4]).is_none() && sum > 0 && !header.reseed && !ignore_checksums {
        return Err(Error::Refused(format!(
            "{name}: its {} checksums continue each other, so that those of a part cannot be verified: make one with the \
             usual ones by `ogbox image convert {name} -o OTHER`",
            header.checksum.name()
        )));
    }
    // Such a group is an odd multiple of the checksum's size long. In a file with pieces of 256 KiB it takes 65,536 groups
    // with checksums of 4 bytes, 16,384 with those of 16, until one begins where another could: up to there the checksums
    // expose every wrong index.
    let summed = !matches!(header.checksum, Mode::None | Mode::Crc32V1);
    let trust = !ignore_checksums && summed && group % (2 * sum) == 0 && whole < (group + sum) * ((256 << 10) / sum);
    let pieces = Pieces::open(open()?, path, whole, trust, say)?;
    let (size, sector) = (header.target_size(), header.disk_sector().unwrap_or(512));
    let inside = Inside {
        name: name.clone(),
        header,
        map,
        blocks,
        used,
        before,
        pieces,
        ignore_checksums,
        groups: Vec::new(),
        say,
    };
    Ok(Source::over(Arc::new(Shared(Mutex::new(inside))), name, size, sector))
}

struct Shared(Mutex<Inside>);

impl FileExt for Shared {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        let mut inside = lock(&self.0);
        inside.read(to, at).map_err(|error| io::Error::other(error.to_string()))
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

struct Inside {
    name: String,
    header: Header,
    map: Bitmap,
    /// Blocks in a group, which one checksum covers.
    blocks: u64,
    /// Number of used blocks.
    used: u64,
    pieces: Pieces,
    ignore_checksums: bool,
    /// Number of used blocks before each [`STEP`]th block.
    before: Vec<u64>,
    /// The groups read last, by number; the most recent one at the end.
    groups: Vec<(u64, Vec<u8>)>,
    say: fn(&str),
}

impl Inside {
    /// Reads at least one byte at offset `at`; returns how many.
    fn read(&mut self, to: &mut [u8], at: u64) -> Result<usize, Error> {
        let size = u64::from(self.header.block_size);
        let (block, within) = (at / size, at % size);
        let (first, count) = self.map.next_run(block).unwrap_or((u64::MAX / size, 0));
        if first > block {
            let zeroes = (first * size - at).min(to.len() as u64) as usize;
            to[..zeroes].fill(0);
            return Ok(zeroes);
        }
        let step = block - block % STEP;
        let number = self.before[(step / STEP) as usize] + self.map.used_of(step, block - step);
        let place = number % self.blocks;
        let take = (count.min(self.blocks - place) * size - within).min(to.len() as u64) as usize;
        let group = self.group(number / self.blocks)?;
        let from = (place * size + within) as usize;
        to[..take].copy_from_slice(&group[from..from + take]);
        Ok(take)
    }

    /// Returns the bytes of group `number`, which begin with its blocks.
    fn group(&mut self, number: u64) -> Result<&[u8], Error> {
        match self.groups.iter().position(|(have, _)| *have == number) {
            Some(place) => self.groups[place..].rotate_left(1),
            None => {
                let mut bytes = if self.groups.len() < KEPT { Vec::new() } else { self.groups.remove(0).1 };
                if let Err(error) = self.load(number, &mut bytes) {
                    if !self.pieces.table() {
                        return Err(error);
                    }
                    (self.say)(&format!("{error}; in case its index is wrong, it is read once to find its blocks"));
                    self.groups.clear();
                    self.pieces.scan()?;
                    self.load(number, &mut bytes)?;
                }
                self.groups.push((number, bytes));
            }
        }
        Ok(self.groups.last().map_or(&[], |(_, bytes)| bytes))
    }

    fn load(&mut self, number: u64, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let header = &self.header;
        let (size, sum) = (u64::from(header.block_size), header.checksum.size() as u64);
        let first = number * self.blocks;
        let length = self.blocks.min(self.used.saturating_sub(first)) * size;
        let at = header.front_size() + first * size + number * sum;
        bytes.resize((length + sum) as usize, 0);
        self.pieces.read(bytes, at)?;
        let (blocks, stored) = bytes.split_at(length as usize);
        let stored = Sum::of(header.checksum, stored);
        let mut running = BlockSum::new(header.checksum);
        if !header.reseed && number > 0 {
            let mut before = [0; 4];
            self.pieces.read(&mut before, at - sum)?;
            running = BlockSum::after(header.checksum, before).unwrap_or(running);
        }
        running.update(blocks, size as usize);
        if running.value() != stored && !self.ignore_checksums {
            return Err(Error::Damaged {
                what: format!("the image in {}", self.name),
                at: at + length,
                why: format!("the checksum of used blocks {first} and on is {}, not {stored}", running.value()),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
