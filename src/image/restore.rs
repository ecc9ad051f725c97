//! Restoring an image to a target: decompressed on all cores, its checksums verified, written in order.

use std::path::Path;

use super::bitmap::Bitmap;
use super::codec::Input;
use super::container::Header;
use super::fit::fit;
use super::fs::{ntfs, raw};
use super::place::Place;
use super::stale::Stale;
use super::target::{Target, Unused};
use super::unpack::{self, Event};
use super::{Error, Watch, fix_boot, rescue};

/// Options for restoring an image.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Do not compare the blocks' checksums.
    pub ignore_checksums: bool,
    /// Accept a target that holds the last used block, even if the file system is larger.
    pub used_fit: bool,
    /// Treatment of unused blocks.
    pub unused: Unused,
    /// Read the target back, bypassing the cache, and compare.
    pub verify: bool,
    /// Overwrite a partition table with a file system.
    pub force: bool,
    /// Offset in the target that the image's device begins at, bytes.
    pub offset: u64,
    /// Write past the kernel's cache.
    pub direct: bool,
    /// Go on over blocks that cannot be written.
    pub skip_errors: bool,
    /// Fit the boot sector of NTFS to the partition that it is restored to.
    pub fit_boot: bool,
}

/// Restores the image `input` to `path`.
///
/// # Errors
/// The image is damaged or cut short, the target is refused or fails, or an end was asked for. The message says if the
/// target was written to and is unusable.
pub fn restore(input: Input, path: &Path, options: &Options, watch: &Watch) -> Result<Header, Error> {
    let from = input.places().to_vec();
    let mut job = Job {
        path,
        options,
        watch,
        target: None,
        uncleared: None,
        boot: Vec::new(),
        written: Written::default(),
        stale: None,
    };
    let done = unpack::read(input, options.ignore_checksums, watch, &mut |header, event| match event {
        Event::Begin(map) => job.begin(header, map, &from),
        Event::Blocks(first, bytes) => job.put(header, first, bytes),
    });
    let done = done.and_then(|header| job.end(&header).map(|()| header));
    done.map_err(|error| match job.target {
        Some(target) => target.spoilt(error),
        None => error,
    })
}

/// A restore under way.
struct Job<'a> {
    path: &'a Path,
    options: &'a Options,
    watch: &'a Watch<'a>,
    target: Option<Target>,
    /// The map, and what becomes of blocks that it lacks, until the first block has come.
    uncleared: Option<(Bitmap, Unused)>,
    /// The boot sector of NTFS.
    boot: Vec<u8>,
    written: Written,
    /// Signatures of an older content on the target, and the map.
    stale: Option<(Stale, Bitmap)>,
}

impl Job<'_> {
    fn begin(&mut self, header: &Header, map: &Bitmap, from: &[Place]) -> Result<(), Error> {
        let (options, watch) = (self.options, self.watch);
        let target = self.target.insert(open(self.path, header, map, options, from)?);
        if let Some(why) = target.tune(options.direct, options.skip_errors) {
            (watch.note)(&why);
        }
        if options.verify {
            self.written.map = map.clone();
        }
        self.stale = Some((Stale::find(target, header, map)?, map.clone()));
        // Blocks that such an image leaves out were zero and must be zero again, whatever the options say.
        let unused = if raw::is_raw(&header.fs) { Unused::Zero } else { options.unused };
        if unused != Unused::Keep && target.sector().is_some_and(|sector| sector > 512) {
            // The first block may tell that the file system cannot be used there.
            self.uncleared = Some((map.clone(), unused));
            return Ok(());
        }
        clear_unused(target, header, map, unused, watch)
    }

    fn put(&mut self, header: &Header, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some(target) = &mut self.target else { return Ok(()) };
        let (mut fitted, mut bytes) = (Vec::new(), bytes);
        if first == 0 && header.disk_sector().is_none() {
            target.suits(bytes)?;
        }
        if first == 0 && header.fs == ntfs::NAME {
            if self.options.fit_boot {
                fitted.extend_from_slice(bytes);
                if let Some(note) = fix_boot::fit(self.path, &mut fitted) {
                    (self.watch.note)(&note);
                    bytes = &fitted;
                }
            }
            self.boot = ntfs::boot_sector(bytes).to_vec();
        }
        if let Some((map, unused)) = self.uncleared.take() {
            clear_unused(target, header, &map, unused, self.watch)?;
        }
        if self.options.verify {
            self.written.add(bytes);
        }
        let at = first * u64::from(header.block_size);
        match target.write_at(bytes, at) {
            Err(error) if self.options.skip_errors && rescue::is_of_the_medium(&error) => {
                rescue::write(target, bytes, at, header.block_size, self.watch.note)
            }
            done => done,
        }
    }

    fn end(&mut self, header: &Header) -> Result<(), Error> {
        let Some(target) = &mut self.target else { return Ok(()) };
        if let Some((map, unused)) = self.uncleared.take() {
            clear_unused(target, header, &map, unused, self.watch)?;
        }
        let reaches = target.size().is_none_or(|size| header.device_size <= size);
        if let Some(copy) = boot_copy(header, &self.boot).filter(|_| reaches) {
            target.write_at(&self.boot, copy)?;
        }
        if let Some((stale, map)) = self.stale.take() {
            stale.clear(target, header, &map, self.watch)?;
        }
        if self.options.verify {
            target.sync()?;
            self.written.compare(target, header, self.watch)?;
        }
        if header.disk_sector().is_some() {
            fit(target, header)?;
        }
        target.finish(self.options.verify)
    }
}

/// Returns where the copy of NTFS's boot sector belongs: after its last cluster, where partclone's images do not reach.
/// `None` if there is none, or no place for it.
pub fn boot_copy(header: &Header, boot: &[u8]) -> Option<u64> {
    let at = header.device_size.saturating_sub(boot.len() as u64);
    (!boot.is_empty() && at >= header.block_bytes()).then_some(at)
}

/// Opens the target and checks that it suits the image.
fn open(path: &Path, header: &Header, map: &Bitmap, options: &Options, from: &[Place]) -> Result<Target, Error> {
    let least = match options.used_fit {
        true => map.end() * u64::from(header.block_size),
        false => header.target_size(),
    };
    let mut target = Target::open(path, header, least.saturating_add(options.offset), from)?;
    let Some(sector) = header.disk_sector() else {
        if options.offset > 0 {
            target.shift(options.offset, header, least, options.force)?;
        } else if !options.force {
            target.spare_table(&format!("the image holds {}", header.fs))?;
        }
        return Ok(target);
    };
    match target.sector() {
        _ if options.offset > 0 => Err(Error::Refused(
            "the image is of a whole disk, which begins nowhere else: nothing was written".to_owned(),
        )),
        Some(found) if found != sector => Err(Error::Refused(format!(
            "{} has sectors of {found} bytes, the image's partition table counts in {sector}: nothing was written",
            target.name()
        ))),
        _ => Ok(target),
    }
}

/// Clears unused blocks before the first block is written, so that a target that cannot is refused in time.
fn clear_unused(
    target: &mut Target,
    header: &Header,
    map: &Bitmap,
    unused: Unused,
    watch: &Watch,
) -> Result<(), Error> {
    if unused == Unused::Keep {
        return Ok(());
    }
    let size = u64::from(header.block_size);
    // If only the used blocks fit, unused ones may lie beyond the target's end.
    let last = target.size().map_or(map.blocks(), |bytes| map.blocks().min(bytes / size));
    let mut from = 0;
    while from < last {
        if (watch.stop)() {
            return Err(Error::Interrupted);
        }
        let (start, count) = map.next_run(from).unwrap_or((last, 0));
        // In parts, as a disk may take hours.
        let end = start.min(last).min(from + CLEARED.div_ceil(size));
        if from < end {
            target.clear(unused, from * size, (end - from) * size)?;
        }
        from = if end < start { end } else { start + count };
    }
    Ok(())
}

/// Most bytes cleared between two checks of whether to stop.
const CLEARED: u64 = 1 << 30;

/// Bytes that one remembered checksum covers.
const SUMMED: usize = 1 << 20;

/// A record of what was written: the CRC-32 of each [`SUMMED`] bytes of used blocks, 4 KiB of memory for each GiB.
#[derive(Default)]
struct Written {
    map: Bitmap,
    sums: Vec<u32>,
    sum: crc32fast::Hasher,
    filled: usize,
}

impl Written {
    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SUMMED - self.filled));
            self.sum.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == SUMMED {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.sums.push(std::mem::take(&mut self.sum).finalize());
        self.filled = 0;
    }

    /// Reads the target back and compares it with the record.
    fn compare(&mut self, target: &Target, header: &Header, watch: &Watch) -> Result<(), Error> {
        let sums = std::mem::take(&mut self.sums);
        let last = (self.filled > 0).then(|| std::mem::take(&mut self.sum).finalize());
        self.filled = 0;
        let mut sums = sums.into_iter().chain(last);
        let differs = |from: u64, to: u64, name: &str| {
            let why = format!("what was read back up to byte {to} is not what was written");
            Err(Error::Damaged { what: name.to_owned(), at: from, why })
        };
        target.forget()?;
        let size = u64::from(header.block_size);
        let mut buffer = vec![0; SUMMED];
        let (mut run, mut next) = ((0, 0), 0);
        loop {
            if (watch.stop)() {
                return Err(Error::Interrupted);
            }
            let mut from = None;
            while self.filled < SUMMED {
                if run.1 == 0 {
                    let Some((start, count)) = self.map.next_run(next) else { break };
                    run = (start * size, count * size);
                    next = start + count;
                }
                let part = &mut buffer[..run.1.min((SUMMED - self.filled) as u64) as usize];
                target.read_at(part, run.0)?;
                from.get_or_insert(run.0);
                self.sum.update(part);
                self.filled += part.len();
                run = (run.0 + part.len() as u64, run.1 - part.len() as u64);
            }
            let (Some(from), Some(sum)) = (from, sums.next()) else { return Ok(()) };
            (watch.progress)(self.filled as u64);
            self.filled = 0;
            if std::mem::take(&mut self.sum).finalize() != sum {
                return differs(from, run.0, target.name());
            }
        }
    }
}
