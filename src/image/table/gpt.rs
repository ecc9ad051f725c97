//! GPT, after the UEFI specification 2.10, section 5.3: a header and an array of entries, each with a checksum, twice
//! on the disk.

use super::partition::{Kind, Partition};
use crate::image::Error;
use crate::image::checksum::crc32;
use crate::image::fields::{Fields, is_zero};

/// The first bytes of a header.
pub const MAGIC: &[u8; 8] = b"EFI PART";
/// Bytes that a header has at least, and an entry.
const HEADER: usize = 92;
const ENTRY: u32 = 128;
/// Largest array of entries that is read, bytes: 32 times the usual.
const MOST_ENTRIES: u64 = 512 << 10;

/// Fills a buffer with the bytes at an offset.
pub type Read<'a> = dyn FnMut(&mut [u8], u64) -> Result<(), Error> + 'a;

/// A header and its entries, whose checksums fit.
pub struct Gpt {
    sector: u32,
    header: Vec<u8>,
    entries: Vec<u8>,
}

impl Gpt {
    /// Reads the copy whose header is sector `lba`, in sectors of `sector` bytes; `None` if it is not sound.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(sector: u32, lba: u64, read: &mut Read) -> Result<Option<Gpt>, Error> {
        let mut header = vec![0; sector as usize];
        read(&mut header, lba * u64::from(sector))?;
        let f = Fields(&header);
        let (length, size) = (f.u32(12) as usize, u64::from(f.u32(80)) * u64::from(f.u32(84)));
        let sound = header.starts_with(MAGIC)
            && (HEADER..=sector as usize).contains(&length)
            && f.u64(24) == lba
            && f.u32(84) >= ENTRY
            && (1..=MOST_ENTRIES).contains(&size);
        if !sound || header_sum(&header) != f.u32(16) {
            return Ok(None);
        }
        let sum = f.u32(88);
        let Some(at) = f.u64(72).checked_mul(u64::from(sector)) else { return Ok(None) };
        let mut entries = vec![0; size as usize];
        // Entries outside the disk only make this copy useless: there is another.
        match read(&mut entries, at) {
            Err(Error::Damaged { .. }) => return Ok(None),
            done => done?,
        }
        Ok((!crc32(&entries) == sum).then_some(Gpt { sector, header, entries }))
    }

    /// Returns the partitions in the order of their entries. Some may lie outside the disk, or have no size.
    pub fn partitions(&self) -> Vec<Partition> {
        let bytes = |lba: u64| lba.saturating_mul(u64::from(self.sector));
        let step = Fields(&self.header).u32(84) as usize;
        let used = self.entries.chunks_exact(step).enumerate().filter(|(_, entry)| !is_zero(&entry[..16]));
        used.map(|(index, entry)| {
            let f = Fields(entry);
            let (first, last) = (f.u64(32), f.u64(40));
            let name: Vec<u16> = (56..128).step_by(2).map(|at| f.u16(at)).take_while(|unit| *unit != 0).collect();
            Partition {
                number: index as u32 + 1,
                start: bytes(first),
                size: bytes(last.saturating_add(1).saturating_sub(first)),
                kind: Kind::Gpt(entry.first_chunk().copied().unwrap_or_default()),
                name: String::from_utf16_lossy(&name),
            }
        })
        .collect()
    }

    /// Returns offset and length of header and entries, bytes.
    pub fn places(&self) -> [(u64, u64); 2] {
        let (f, sector) = (Fields(&self.header), u64::from(self.sector));
        [(f.u64(24) * sector, sector), (f.u64(72) * sector, self.entries.len() as u64)]
    }

    /// Returns the bytes of the entries.
    pub fn entries(&self) -> &[u8] {
        &self.entries
    }

    /// Returns how many sectors the entries take.
    pub fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(u64::from(self.sector))
    }

    /// Returns the sector where the entries of the first copy begin. The second copy does not say: there they are
    /// where everyone puts them.
    pub fn first_entries(&self) -> u64 {
        let f = Fields(&self.header);
        if f.u64(24) == 1 { f.u64(72) } else { 2 }
    }

    /// Returns the header for sector `lba`, with the other copy in sector `other` and the entries from sector `entries`
    /// on.
    pub fn header(&self, lba: u64, other: u64, entries: u64, last_usable: u64) -> Vec<u8> {
        let mut header = self.header.clone();
        for (at, value) in [(24, lba), (32, other), (48, last_usable), (72, entries)] {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = header_sum(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// Returns the checksum of a header, taken with zeroes in its place.
fn header_sum(header: &[u8]) -> u32 {
    let length = (Fields(header).u32(12) as usize).min(header.len());
    let mut bytes = header[..length].to_vec();
    bytes[16..20].fill(0);
    !crc32(&bytes)
}
