//! The lzop file: a header, then blocks of LZO1X with their checksums, as lzop 1.04 reads and writes it.
//!
//! All numbers are big-endian. A file may hold several members one after the other. Blocks are independent, so all
//! cores compress and expand them. Filters and multi-part files, which lzop itself never writes, are refused.

use super::{Input, Packed, Scratch, Split, Whole};
use crate::image::Error;
use kernels::lzo1x;

/// Bytes of plain data in a block of ours: as lzop writes it, and the most that some readers accept.
pub const BLOCK: usize = 256 << 10;
/// Largest block that lzop reads, bytes.
const MAX_BLOCK: usize = 64 << 20;

const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n'];

/// Flags of the header: which checksums stand before a block (D: of its plain bytes, C: of its packed ones).
const ADLER32_D: u32 = 0x1;
const ADLER32_C: u32 = 0x2;
const STDIN: u32 = 0x4;
const STDOUT: u32 = 0x8;
const EXTRA_FIELD: u32 = 0x40;
const CRC32_D: u32 = 0x100;
const CRC32_C: u32 = 0x200;
const MULTIPART: u32 = 0x400;
const FILTER: u32 = 0x800;
const HEADER_CRC32: u32 = 0x1000;
const OS_UNIX: u32 = 3 << 24;

/// Whether a file that begins with `head` is an lzop file.
pub fn recognise(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// The header of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// 1: LZO1X-1, 2: LZO1X-1(15), 3: LZO1X-999.
    pub method: u8,
    /// Mode of the file that was compressed; 0 if there was none.
    pub mode: u32,
    /// Modification time of that file, seconds since 1970.
    pub time: u64,
    /// Name of that file; empty for standard input.
    pub name: Vec<u8>,
    /// The format's flags; only in headers that were read.
    pub flags: u32,
}

/// Appends the header of an image: no name and no time, so that the same data always gives the same file.
pub fn begin(out: &mut Vec<u8>) {
    begin_member(&Member::default(), out);
}

/// Appends the header of a compressed file: LZO1X-1, an Adler-32 of each block's plain bytes, and the first 255 bytes
/// of the name.
pub fn begin_member(member: &Member, out: &mut Vec<u8>) {
    out.extend(MAGIC);
    let start = out.len();
    for word in [0x1040_u16, 0x20a0, 0x0940] {
        out.extend(word.to_be_bytes());
    }
    out.extend([1, 5]);
    let name = &member.name[..member.name.len().min(255)];
    let flags = ADLER32_D | OS_UNIX | if name.is_empty() { STDIN | STDOUT } else { 0 };
    for word in [flags, member.mode, member.time as u32, (member.time >> 32) as u32] {
        out.extend(word.to_be_bytes());
    }
    out.push(name.len() as u8);
    out.extend(name);
    let sum = simd_adler32::adler32(&&out[start..]);
    out.extend(sum.to_be_bytes());
}

/// Packs one block of up to [`BLOCK`] bytes.
pub fn encode(plain: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> usize {
    const HEAD: usize = 12;
    let room = HEAD + lzo1x::worst_case(plain.len());
    if out.len() < room {
        out.resize(room, 0);
    }
    let mut packed = lzo1x::compress(plain, &mut scratch.lzo, &mut out[HEAD..]);
    if packed >= plain.len() {
        // Equal lengths mark a block as stored.
        packed = plain.len();
        out[HEAD..HEAD + packed].copy_from_slice(plain);
    }
    let words = [plain.len() as u32, packed as u32, simd_adler32::adler32(&plain)];
    for (to, word) in out[..HEAD].chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    HEAD + packed
}

/// Size of the mark after the last block, bytes.
pub const END: u64 = 4;

/// Appends the mark after the last block.
pub fn end(_: &Whole, out: &mut Vec<u8>) {
    out.extend([0; END as usize]);
}

/// Cuts a file into its blocks.
#[derive(Default)]
pub struct Splitter {
    /// The member that is being read; `None` between members.
    member: Option<Member>,
    members: u64,
}

impl Splitter {
    /// Returns the member of the last piece.
    pub fn member(&self) -> Option<&Member> {
        self.member.as_ref()
    }
}

impl Split for Splitter {
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error> {
        loop {
            let Some(&Member { flags, .. }) = self.member.as_ref() else {
                if self.members > 0 && input.at_end()? {
                    return Ok(false);
                }
                self.member = Some(header(input)?);
                self.members += 1;
                continue;
            };
            packed.at = input.at();
            let plain = input.u32_be("the length of an lzop block")? as usize;
            if plain == 0 {
                self.member = None;
                continue;
            }
            let length = input.u32_be("the packed length of an lzop block")? as usize;
            if plain > MAX_BLOCK || length > plain || length == 0 {
                return Err(
                    input.damaged(packed.at, format!("an lzop block of {length} bytes for {plain} is impossible"))
                );
            }
            // LZO expands a byte to at most 255: allocations are bounded by that.
            if plain / 256 > length {
                return Err(input.damaged(packed.at, format!("an lzop block of {length} bytes cannot hold {plain}")));
            }
            packed.stored = length == plain;
            packed.plain = plain;
            packed.sums = Default::default();
            packed.sums.plain_adler = optional(flags & ADLER32_D != 0, input)?;
            packed.sums.plain_crc = optional(flags & CRC32_D != 0, input)?;
            if !packed.stored {
                packed.sums.packed_adler = optional(flags & ADLER32_C != 0, input)?;
                packed.sums.packed_crc = optional(flags & CRC32_C != 0, input)?;
            }
            input.fill(&mut packed.data, length, "an lzop block")?;
            packed.used = length;
            return Ok(true);
        }
    }
}

fn optional(there: bool, input: &mut Input) -> Result<Option<u32>, Error> {
    if there { input.u32_be("the checksum of an lzop block").map(Some) } else { Ok(None) }
}

/// Reads a member's header.
///
/// # Errors
/// It is not a header, or not a supported one.
pub fn header(input: &mut Input) -> Result<Member, Error> {
    let at = input.at();
    let mut head = Vec::with_capacity(64);
    let mut take = |input: &mut Input, count: usize| -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..count {
            let byte = input.byte("the lzop header")?;
            head.push(byte);
            value = value << 8 | u32::from(byte);
        }
        Ok(value)
    };
    for byte in MAGIC {
        if input.byte("the lzop header")? != byte {
            return Err(input.damaged(at, "neither the end nor another lzop member follows".to_owned()));
        }
    }
    let version = take(input, 2)?;
    if version < 0x0900 {
        return Err(input.damaged(at, format!("lzop version {version:#06x} is not known")));
    }
    take(input, 2)?;
    let later = version >= 0x0940;
    if later {
        let needed = take(input, 2)?;
        if !(0x0900..=0x1040).contains(&needed) {
            return Err(input.damaged(at, format!("a reader of lzop version {needed:#06x} is needed")));
        }
    }
    let method = take(input, 1)?;
    if !(1..=3).contains(&method) {
        return Err(input.damaged(at, format!("lzop's method {method} is not known")));
    }
    if later {
        take(input, 1)?;
    }
    let flags = take(input, 4)?;
    if flags & (MULTIPART | FILTER) != 0 {
        return Err(input.damaged(at, "lzop files with a filter or of several parts are not known".to_owned()));
    }
    let mode = take(input, 4)?;
    let mut time = u64::from(take(input, 4)?);
    if later {
        time |= u64::from(take(input, 4)?) << 32;
    }
    let length = take(input, 1)?;
    take(input, length as usize)?;
    let name = head[head.len() - length as usize..].to_vec();
    check_header(input, at, flags, &head)?;
    if flags & EXTRA_FIELD != 0 {
        let at = input.at();
        let length = input.u32_be("the lzop header's extra field")?;
        let mut field = length.to_be_bytes().to_vec();
        for _ in 0..length {
            field.push(input.byte("the lzop header's extra field")?);
        }
        check_header(input, at, flags, &field)?;
    }
    Ok(Member { method: method as u8, mode, time, name, flags })
}

fn check_header(input: &mut Input, at: u64, flags: u32, bytes: &[u8]) -> Result<(), Error> {
    let sum = if flags & HEADER_CRC32 != 0 { crc32fast::hash(bytes) } else { simd_adler32::adler32(&bytes) };
    match input.u32_be("the lzop header's checksum")? {
        stored if stored == sum => Ok(()),
        stored => Err(input.damaged(at, format!("the lzop header's checksum is {sum:#010x}, not {stored:#010x}"))),
    }
}

/// Expands one block into the front of `out`; returns the number of bytes written.
pub fn expand(packed: &Packed, _: &mut Scratch, out: &mut Vec<u8>) -> Result<usize, String> {
    let data = &packed.data[..packed.used];
    check("packed Adler-32", packed.sums.packed_adler, || simd_adler32::adler32(&data))?;
    check("packed CRC-32", packed.sums.packed_crc, || crc32fast::hash(data))?;
    let room = packed.plain + lzo1x::SLACK;
    if out.len() < room {
        out.resize(room, 0);
    }
    if packed.stored {
        out[..packed.plain].copy_from_slice(data);
    } else {
        lzo1x::expand(data, out, packed.plain).map_err(|fault| fault.to_string())?;
    }
    let plain = &out[..packed.plain];
    check("Adler-32", packed.sums.plain_adler, || simd_adler32::adler32(&plain))?;
    check("CRC-32", packed.sums.plain_crc, || crc32fast::hash(plain))?;
    Ok(packed.plain)
}

fn check(name: &str, stored: Option<u32>, sum: impl FnOnce() -> u32) -> Result<(), String> {
    match stored.map(|stored| (stored, sum())) {
        Some((stored, sum)) if stored != sum => {
            Err(format!("the lzop block's {name} is {sum:#010x}, not {stored:#010x}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
