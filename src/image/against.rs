//! An image compared with a device: whether each block in it is what the device has there, and whether the device has
//! anything that the image lacks. So a fresh image proves itself, and so does a restored disk.

use std::path::Path;

use super::bitmap::Bitmap;
use super::codec::Input;
use super::container::Header;
use super::fields::is_zero;
use super::fs::raw;
use super::save::{Options, Save};
use super::source::Source;
use super::table::Partition;
use super::unpack::{self, Event};
use super::{Error, Watch, table};

/// Most ranges that are named one by one.
const NAMED: usize = 20;
/// Bytes compared at once.
const STEP: usize = 1 << 20;

/// The result of a comparison.
#[derive(Default)]
pub struct Report {
    name: String,
    partitions: Vec<Partition>,
    notes: Vec<String>,
    /// Beginning and end of what differs, and of what the image lacks; bytes.
    differs: Vec<(u64, u64)>,
    lacks: Vec<(u64, u64)>,
    compared: u64,
}

impl Report {
    /// Whether the device holds what the image does, and nothing else that is in use.
    pub fn is_same(&self) -> bool {
        self.differs.is_empty() && self.lacks.is_empty()
    }

    /// Returns the number of bytes compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Returns a line for each range that is not the same, and each remark.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let named = |ranges: &[(u64, u64)], what: &str| {
            let mut lines: Vec<String> = ranges
                .iter()
                .take(NAMED)
                .map(|(from, to)| {
                    let place = self.partitions.iter().find(|of| (of.start..of.start + of.size).contains(from));
                    let place = place.map_or(String::new(), |of| format!(", in partition {}", of.number));
                    format!("{}: the {} bytes from byte {from} on{place} {what}", self.name, to - from)
                })
                .collect();
            if let Some(more) = ranges.get(NAMED..).filter(|more| !more.is_empty()) {
                let bytes: u64 = more.iter().map(|(from, to)| to - from).sum();
                lines.push(format!("{}: {bytes} bytes more, in {} places, {what}", self.name, more.len()));
            }
            lines
        };
        let mut lines = self.notes.clone();
        lines.extend(named(&self.differs, "are not those of the image"));
        lines.extend(named(&self.lacks, "are in use and not in the image"));
        lines.into_iter()
    }

    fn add(ranges: &mut Vec<(u64, u64)>, from: u64, to: u64) {
        match ranges.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(to),
            _ => ranges.push((from, to)),
        }
    }

    /// Compares bytes of the image with those of the device at offset `at`.
    fn compare(&mut self, device: &Source, mut bytes: &[u8], mut at: u64, block: usize) -> Result<(), Error> {
        let mut theirs = vec![0; STEP.max(block) / block * block];
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(theirs.len()));
            let there = device.size().saturating_sub(at).min(now.len() as u64) as usize;
            device.read_at(&mut theirs[..there], at)?;
            if now != &theirs[..there] {
                for (index, part) in now.chunks(block).enumerate() {
                    let from = index * block;
                    if theirs[..there].get(from..from + part.len()) != Some(part) {
                        let from = at + from as u64;
                        Report::add(&mut self.differs, from, from + part.len() as u64);
                    }
                }
            }
            self.compared += now.len() as u64;
            at += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Adds what is used on the device, by the map of an image that would be made of it now, and not in this image.
    fn beyond(&mut self, save: &Save, header: &Header, map: &Bitmap) {
        let (block, size) = (u64::from(header.block_size), u64::from(save.header().block_size));
        let mut next = 0;
        while let Some((first, count)) = save.map().next_run(next) {
            next = first + count;
            let (mut at, end) = (first * size, next * size);
            while at < end {
                let (start, length) = map.next_run(at / block).unwrap_or((u64::MAX / block, 0));
                let (from, to) = ((start * block).max(at), ((start + length) * block).min(end));
                if at < from.min(end) {
                    Report::add(&mut self.lacks, at, from.min(end));
                }
                at = if from < end { to } else { end };
            }
        }
    }
}

/// Reads the image `input`, verifying its checksums, and compares it with `device`, which may be in use.
///
/// # Errors
/// The image is damaged, the device cannot be read, or an end was asked for.
pub fn against(input: Input, device: &Path, watch: &Watch) -> Result<Report, Error> {
    let source = Source::open(device, true)?;
    let mut report = Report { name: source.name().to_owned(), ..Report::default() };
    let mut read = Bitmap::default();
    let header = unpack::read(input, false, watch, &mut |header, event| match event {
        Event::Begin(map) => {
            read = map.clone();
            Ok(())
        }
        Event::Blocks(first, bytes) => {
            let block = header.block_size;
            report.compare(&source, bytes, first * u64::from(block), block as usize)
        }
    })?;
    if header.disk_sector().is_some() {
        report.partitions = table::sound(&source)?.map_or(Vec::new(), |table| table.partitions);
    }
    if raw::is_raw(&header.fs) {
        rest(&source, &header, &read, &mut report, watch)?;
        return Ok(report);
    }
    let mut now = Save::of(source, &Options { force: true, ..Options::default() })?;
    now.look_behind()?;
    if now.header().fs == header.fs {
        report.notes.extend_from_slice(now.notes());
        report.beyond(&now, &header, &read);
    } else {
        report.notes.push(format!("{} holds {} now, and the image {}", report.name, now.header().fs, header.fs));
        report.lacks.push((0, now.header().device_size));
    }
    Ok(report)
}

/// Adds the blocks that are not zero and not in an image that has all of them.
fn rest(source: &Source, header: &Header, map: &Bitmap, report: &mut Report, watch: &Watch) -> Result<(), Error> {
    let block = u64::from(header.block_size);
    let step = STEP as u64 / block * block;
    let mut bytes = vec![0; STEP];
    let mut at = 0;
    while at < source.size() {
        if (watch.stop)() {
            return Err(Error::Interrupted);
        }
        let (start, count) = map.next_run(at / block).unwrap_or((u64::MAX / block, 0));
        if start * block <= at {
            at = (start + count) * block;
            continue;
        }
        let bytes = &mut bytes[..(start * block - at).min(step).min(source.size() - at) as usize];
        source.read_at(bytes, at)?;
        for (index, part) in bytes.chunks(block as usize).enumerate().filter(|(_, part)| !is_zero(part)) {
            let from = at + index as u64 * block;
            Report::add(&mut report.lacks, from, from + part.len() as u64);
        }
        at += bytes.len() as u64;
    }
    Ok(())
}
