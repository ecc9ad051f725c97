//! NTFS: its `$Bitmap`, and whether Windows left it in order.
//!
//! Layouts after the Linux kernel's fs/ntfs3/ntfs.h documentation and the Linux-NTFS project's description: the
//! boot sector, MFT records with their fixups, attributes and attribute lists, mapping pairs, the restart pages of
//! `$LogFile`, the index of the root directory. Nothing is decompressed or decrypted, as `$Bitmap` never needs it.

use std::collections::{BTreeMap, HashSet};

use super::kind::Used;
use super::steps::Steps;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

/// partclone's name for it.
pub const NAME: &str = "NTFS";

/// Numbers of MFT records.
const MFT: u64 = 0;
const LOG_FILE: u64 = 2;
const VOLUME: u64 = 3;
const ROOT: u64 = 5;
const BITMAP: u64 = 6;

/// Types of attributes.
const ATTRIBUTE_LIST: u32 = 0x20;
const VOLUME_INFORMATION: u32 = 0x70;
const DATA: u32 = 0x80;
const INDEX_ROOT: u32 = 0x90;
const INDEX_ALLOCATION: u32 = 0xa0;
const END: u32 = 0xffff_ffff;

const VOLUME_IS_DIRTY: u16 = 1;
const LOG_IS_CLEAN: u16 = 2;

/// Limits above any real attribute list or root directory (bytes) and number of extents; beyond them, something goes in
/// circles.
const MOST_LIST: u64 = 1 << 20;
const MOST_INDEX: u64 = 64 << 20;
const MOST_PARTS: usize = 64;
/// Most bytes of MFT records that are read, a million of the usual ones: a list may name any, again and again.
const MOST_RECORDS: u64 = 1 << 30;
/// Most extents of a file of NTFS's own.
const MOST_RUNS: u64 = 2 << 20;

/// Whether the source has a boot sector of NTFS.
pub fn detect(source: &Source) -> Result<bool, Error> {
    Ok(source.size() >= 512 && source.read(0, 512)?[3..11] == *b"NTFS    ")
}

/// Returns the boot sector at the beginning of a volume's first cluster; empty if it is not one.
pub fn boot_sector(cluster: &[u8]) -> &[u8] {
    let f = Fields(cluster);
    match cluster.get(..usize::from(f.u16(11)).max(512)) {
        Some(sector) if sector.len() <= 4096 && sector[3..11] == *b"NTFS    " => sector,
        _ => &[],
    }
}

/// Returns the used blocks; a block is a cluster.
///
/// # Errors
/// The boot sector is impossible, or `$Bitmap` cannot be found or is too short.
pub fn used(source: &Source) -> Result<Used, Error> {
    let (volume, copied) = match Volume::open(source, 0) {
        Err(error @ Error::Damaged { .. }) => {
            let Some(volume) = Volume::of_copy(source) else { return Err(error) };
            source.note(format!("the copy of its boot sector was taken: run chkdsk; {error}"));
            (volume, true)
        }
        open => (open?, false),
    };
    let bitmap = volume.attribute(BITMAP, DATA)?;
    let bytes = volume.clusters.div_ceil(8);
    if bitmap.length < bytes {
        return Err(source.damaged(0, format!("$Bitmap has {} bytes for {} clusters", bitmap.length, volume.clusters)));
    }
    // Bounded by the clusters, which fit into the device.
    let map = Bitmap::from_bytes(&volume.content(&bitmap, bytes)?, volume.clusters)
        .ok_or_else(|| source.damaged(0, "$Bitmap is cut short"))?;
    let sector = u64::from(volume.sector);
    let mut device_size = (volume.sectors + 1) * sector;
    if copied {
        // A restore makes the copy of the boot sector behind the clusters anew, but not of a damaged one.
        device_size = volume.clusters * u64::from(volume.cluster);
    } else if device_size > source.size() {
        device_size -= sector;
        source.note(
            "the NTFS volume reaches to the last sector, where the copy of its boot sector should be; taken as it is",
        );
    }
    Ok(Used {
        name: NAME,
        block_size: volume.cluster,
        device_size,
        used_by_super: map.used(),
        map,
        dirty: volume.dirty()?.map(|why| format!("{}: {why}", source.name())),
    })
}

struct Volume<'a> {
    source: &'a Source,
    sector: u32,
    cluster: u32,
    sectors: u64,
    clusters: u64,
    record: u32,
    /// Size of an index block, bytes.
    index: u32,
    mft: Attribute,
    /// Bytes of MFT records that may still be read.
    records: Steps,
}

/// The runs of a file, by their first cluster in the file: their first cluster on the volume (`None` for a hole), and
/// their length.
type Runs = BTreeMap<u64, (Option<u64>, u64)>;

/// An attribute's content: in its record, or in clusters.
enum Content {
    Resident(Vec<u8>),
    Runs(Runs),
}

struct Attribute {
    content: Content,
    length: u64,
}

impl Attribute {
    fn parts(&self) -> usize {
        match &self.content {
            Content::Resident(_) => 0,
            Content::Runs(runs) => runs.len(),
        }
    }
}

impl<'a> Volume<'a> {
    /// Reads the geometry from the boot sector at this offset, and the first records.
    fn open(source: &'a Source, at: u64) -> Result<Volume<'a>, Error> {
        let boot = source.read(at, 512)?;
        let f = Fields(&boot);
        let bad = |at: u64, why: String| Err(source.damaged(at, format!("the NTFS boot sector: {why}")));
        let sector = u32::from(f.u16(11));
        if !sector.is_power_of_two() || !(256..=4096).contains(&sector) {
            return bad(11, format!("sectors of {sector} bytes are impossible"));
        }
        // A power of two, or its negative logarithm.
        let per_cluster = match f.u8(13) {
            count @ ..=128 => u32::from(count),
            log => 1_u32.checked_shl(256 - u32::from(log)).unwrap_or(0),
        };
        let Some(cluster) = per_cluster.checked_mul(sector).filter(|size| size.is_power_of_two() && *size <= 2 << 20)
        else {
            return bad(13, format!("clusters of {per_cluster} sectors are impossible"));
        };
        let sectors = f.u64(40);
        if sectors == 0 || sectors > source.size() / u64::from(sector) {
            return bad(40, format!("{sectors} sectors do not fit into {} bytes", source.size()));
        }
        let size = |at: usize| match f.u8(at) as i8 {
            clusters @ 1.. => (clusters as u32).checked_mul(cluster),
            log => 1_u32.checked_shl(u32::from(log.unsigned_abs())),
        };
        let fits = |size: &u32| (512..=1 << 20).contains(size) && size.is_power_of_two();
        let (Some(record), Some(index)) = (size(64).filter(fits), size(68).filter(fits)) else {
            return bad(64, "impossible sizes of records".to_owned());
        };
        let clusters = sectors / u64::from(per_cluster);
        let mft = f.u64(48);
        if mft >= clusters {
            return bad(48, format!("the MFT begins in cluster {mft} of {clusters}"));
        }
        // Only the first record is needed here, which describes the rest.
        let first = Content::Runs(Runs::from([(0, (Some(mft), u64::from(record.div_ceil(cluster))))]));
        let mft = Attribute { content: first, length: u64::from(record) };
        // Each record is read a few times at most.
        let records = Steps::new(source.size().saturating_mul(4).min(MOST_RECORDS));
        let mut volume = Volume { source, sector, cluster, sectors, clusters, record, index, mft, records };
        // If the MFT has an attribute list, its later parts are found through its earlier ones.
        for _ in 0..MOST_PARTS {
            let before = volume.mft.parts();
            volume.mft = volume.attribute(MFT, DATA)?;
            if volume.mft.parts() == before {
                break;
            }
        }
        Ok(volume)
    }

    /// Reads the geometry from the copy of the boot sector, in the last sector.
    fn of_copy(source: &'a Source) -> Option<Volume<'a>> {
        let ends = [512, 4096].into_iter().filter_map(|sector| source.size().checked_sub(sector));
        let mut copies = ends.filter(|at| source.read(*at, 512).is_ok_and(|boot| boot[3..11] == *b"NTFS    "));
        copies.find_map(|at| Volume::open(source, at).ok())
    }

    fn damaged(&self, record: u64, why: &str) -> Error {
        self.source.damaged(0, format!("NTFS record {record}: {why}"))
    }

    /// Returns an MFT record with its fixups undone.
    fn record(&self, number: u64) -> Result<Vec<u8>, Error> {
        if !self.records.take(self.record.into()) {
            return Err(self.damaged(number, "attribute lists name more records than there can be: run chkdsk"));
        }
        let mut record = vec![0; self.record as usize];
        self.read(&self.mft, number * u64::from(self.record), &mut record)?;
        if !record.starts_with(b"FILE") || !mend(&mut record) {
            return Err(self.damaged(number, "not a sound MFT record"));
        }
        Ok(record)
    }

    /// Returns the unnamed attribute of this type, or the root directory's index, from a record and those it lists.
    fn attribute(&self, number: u64, kind: u32) -> Result<Attribute, Error> {
        self.find(number, kind)?.ok_or_else(|| self.damaged(number, &format!("no attribute {kind:#x}")))
    }

    fn find(&self, number: u64, kind: u32) -> Result<Option<Attribute>, Error> {
        let record = self.record(number)?;
        let mut found: Option<Attribute> = None;
        let mut list = None;
        for bytes in attributes(&record) {
            if Fields(bytes).u32(0) == kind {
                found = Some(self.join(number, found, bytes)?);
            } else if Fields(bytes).u32(0) == ATTRIBUTE_LIST {
                list = Some(self.join(number, None, bytes)?);
            }
        }
        let Some(list) = list else { return Ok(found) };
        if list.length > MOST_LIST {
            return Err(self.damaged(number, "its attribute list is too long"));
        }
        let list = self.content(&list, list.length)?;
        let mut read = HashSet::from([number]);
        let mut rest = list.as_slice();
        while rest.len() >= 26 {
            let entry = Fields(rest);
            let length = usize::from(entry.u16(4));
            let other = entry.u64(16) & 0xffff_ffff_ffff;
            // A record that holds several parts is named once for each.
            if entry.u32(0) == kind && read.insert(other) {
                // While the MFT itself is being found, its later parts cannot be read yet.
                if let Ok(extent) = self.record(other) {
                    for bytes in attributes(&extent).filter(|bytes| Fields(bytes).u32(0) == kind) {
                        found = Some(self.join(number, found, bytes)?);
                    }
                }
            }
            match rest.get(length..) {
                Some(more) if length >= 26 => rest = more,
                _ => break,
            }
        }
        Ok(found)
    }

    /// Adds the extents in an attribute's bytes to those found before.
    fn join(&self, number: u64, found: Option<Attribute>, bytes: &[u8]) -> Result<Attribute, Error> {
        let f = Fields(bytes);
        if f.u8(8) == 0 {
            let (length, start) = (f.u32(16) as usize, usize::from(f.u16(20)));
            let value = bytes.get(start..).and_then(|rest| rest.get(..length));
            let value = value.ok_or_else(|| self.damaged(number, "an attribute reaches past its record"))?.to_vec();
            return Ok(Attribute { length: length as u64, content: Content::Resident(value) });
        }
        let (first, start) = (f.u64(16), usize::from(f.u16(32)));
        let pairs = bytes.get(start..).unwrap_or_default();
        let more = runs(pairs, first, self.clusters).ok_or_else(|| self.damaged(number, "its extents are damaged"))?;
        let (mut all, mut length) = match found {
            Some(Attribute { content: Content::Runs(all), length }) => (all, length),
            _ => (Runs::new(), 0),
        };
        if first == 0 {
            length = f.u64(48);
        }
        // An extent may appear twice, in its record and through the list.
        all.extend(more);
        if all.len() as u64 > self.clusters.min(MOST_RUNS) {
            return Err(self.damaged(number, "more extents than there are clusters"));
        }
        Ok(Attribute { content: Content::Runs(all), length })
    }

    /// Returns the first `length` bytes of an attribute; the caller bounds them.
    fn content(&self, attribute: &Attribute, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length.min(attribute.length.min(self.source.size())) as usize];
        self.read(attribute, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `to` from byte `at` of an attribute on.
    fn read(&self, attribute: &Attribute, at: u64, to: &mut [u8]) -> Result<(), Error> {
        let runs = match &attribute.content {
            Content::Runs(runs) => runs,
            Content::Resident(value) => {
                let from = value.get(at as usize..).and_then(|rest| rest.get(..to.len()));
                return from
                    .map(|from| to.copy_from_slice(from))
                    .ok_or_else(|| self.source.damaged(at, "past its end"));
            }
        };
        let cluster = u64::from(self.cluster);
        let mut done = 0;
        while done < to.len() {
            let at = at + done as u64;
            let run = runs.range(..=at / cluster).next_back();
            let Some((start, (place, count))) = run.filter(|(start, (_, count))| at / cluster - *start < *count) else {
                return Err(self.source.damaged(at, "a file of NTFS's own has no cluster for this byte"));
            };
            let left = (start + count) * cluster - at;
            let part = left.min((to.len() - done) as u64) as usize;
            let piece = &mut to[done..done + part];
            match place {
                Some(place) => self.source.read_at(piece, place * cluster + (at - start * cluster))?,
                None => piece.fill(0),
            }
            done += part;
        }
        Ok(())
    }

    /// Returns the reason not to save the volume as it is.
    fn dirty(&self) -> Result<Option<&'static str>, Error> {
        let information = self.attribute(VOLUME, VOLUME_INFORMATION)?;
        let information = self.content(&information, 12)?;
        if Fields(&information).u16(10) & VOLUME_IS_DIRTY != 0 {
            return Ok(Some("the NTFS volume is marked dirty: run chkdsk /f in Windows"));
        }
        if self.is_hibernated()? {
            return Ok(Some("Windows is hibernated or in fast start-up: shut it down with `shutdown /s /t 0`"));
        }
        if !self.log_is_clean()? {
            return Ok(Some("the NTFS log is not empty: start Windows and shut it down, or run ntfsfix"));
        }
        Ok(None)
    }

    /// Whether the newer of `$LogFile`'s two restart pages says that there is nothing to replay.
    fn log_is_clean(&self) -> Result<bool, Error> {
        let log = self.attribute(LOG_FILE, DATA)?;
        let start = self.content(&log, 128 << 10)?;
        let page = Fields(&start).u32(16) as usize;
        let mut newest = None;
        for at in [0, page] {
            let Some(page) = start.get(at..).filter(|page| page.starts_with(b"RSTR")) else { continue };
            let area = Fields(page.get(usize::from(Fields(page).u16(24))..).unwrap_or_default());
            let clean = area.u16(12) == 0xffff || area.u16(14) & LOG_IS_CLEAN != 0;
            newest = newest.max(Some((area.u64(0), clean)));
        }
        // A log without restart pages is new (all ones) or was emptied.
        Ok(newest.is_none_or(|(_, clean)| clean))
    }

    /// Whether the root directory has a hiberfil.sys that Windows would resume from, by its first bytes.
    fn is_hibernated(&self) -> Result<bool, Error> {
        let Some(root) = self.find(ROOT, INDEX_ROOT)? else { return Ok(false) };
        let root = self.content(&root, MOST_INDEX)?;
        let mut file = named(root.get(16..).unwrap_or_default(), "hiberfil.sys");
        if let (None, Some(blocks)) = (file, self.find(ROOT, INDEX_ALLOCATION)?) {
            let mut block = vec![0; self.index as usize];
            for at in (0..blocks.length.min(MOST_INDEX)).step_by(block.len()) {
                self.read(&blocks, at, &mut block)?;
                if block.starts_with(b"INDX") && mend(&mut block) {
                    file = named(&block[24..], "hiberfil.sys");
                }
                if file.is_some() {
                    break;
                }
            }
        }
        let Some(file) = file else { return Ok(false) };
        let Some(data) = self.find(file, DATA)? else { return Ok(false) };
        let magic = self.content(&data, 4)?;
        Ok(magic.eq_ignore_ascii_case(b"hibr"))
    }
}

/// Undoes a record's fixups: the last two bytes of each 512 were replaced by a number that all share. False if the
/// record is damaged.
fn mend(record: &mut [u8]) -> bool {
    let f = Fields(record);
    let (start, count) = (usize::from(f.u16(4)), usize::from(f.u16(6)));
    if count == 0 || (count - 1) * 512 > record.len() || start + count * 2 > record.len() {
        return false;
    }
    let fixups = record[start..start + count * 2].to_vec();
    let (number, fixups) = fixups.split_at(2);
    for (sector, fixup) in record.chunks_exact_mut(512).zip(fixups.chunks_exact(2)) {
        if sector[510..] != *number {
            return false;
        }
        sector[510..].copy_from_slice(fixup);
    }
    true
}

/// Returns the attributes of a record that have no name or that of a directory's index.
fn attributes(record: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = usize::from(Fields(record).u16(20));
    std::iter::from_fn(move || {
        loop {
            let rest = record.get(at..)?;
            let f = Fields(rest);
            let length = f.u32(4) as usize;
            if f.u32(0) == END || length < 24 {
                return None;
            }
            let attribute = rest.get(..length)?;
            at += length;
            let name = usize::from(f.u16(10));
            let name = attribute.get(name..).and_then(|rest| rest.get(..usize::from(f.u8(9)) * 2));
            if name.is_some_and(|name| name.is_empty() || name == b"$\0I\x003\x000\0") {
                return Some(attribute);
            }
        }
    })
}

/// Parses mapping pairs from the file's cluster `first` on; `None` if they reach outside the volume.
fn runs(mut pairs: &[u8], first: u64, clusters: u64) -> Option<Runs> {
    let (mut at, mut place) = (first, 0_i64);
    let mut all = Runs::new();
    while let Some((head, rest)) = pairs.split_first().filter(|(head, _)| **head != 0) {
        let (length, offset) = (usize::from(head & 15), usize::from(head >> 4));
        if length > 8 || offset > 8 || length == 0 {
            return None;
        }
        let count = u64::try_from(signed(rest.get(..length)?)).ok().filter(|count| (1..=clusters).contains(count))?;
        let delta = rest.get(length..length + offset)?;
        let here = if offset == 0 {
            None
        } else {
            place = place.checked_add(signed(delta))?;
            let here = u64::try_from(place).ok()?;
            here.checked_add(count).filter(|end| *end <= clusters)?;
            Some(here)
        };
        all.insert(at, (here, count));
        at = at.checked_add(count)?;
        pairs = &rest[length + offset..];
    }
    Some(all)
}

/// Returns a signed little-endian number of up to eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut eight = [fill; 8];
    eight[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(eight)
}

/// Returns the record of the file called `name` in an index, given from its header on.
fn named(index: &[u8], name: &str) -> Option<u64> {
    let mut at = Fields(index).u32(0) as usize;
    loop {
        let entry = index.get(at..)?;
        let f = Fields(entry);
        let length = usize::from(f.u16(8));
        let characters = usize::from(f.u8(80));
        let utf16 = entry.get(82..82 + characters * 2);
        if utf16.is_some_and(|utf16| same(utf16, name)) {
            return Some(f.u64(0) & 0xffff_ffff_ffff);
        }
        if f.u16(12) & 2 != 0 || length < 16 {
            return None;
        }
        at += length;
    }
}

fn same(utf16: &[u8], name: &str) -> bool {
    let letters = utf16.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    utf16.len() == name.len() * 2
        && letters
            .zip(name.bytes())
            .all(|(letter, byte)| u8::try_from(letter).is_ok_and(|l| l.eq_ignore_ascii_case(&byte)))
}
