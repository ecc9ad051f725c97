//! LZO1X, the byte format of lzop's blocks, both ways.
//!
//! The format is described in the Linux kernel's `Documentation/staging/lzo.rst` (version 0 of the bitstream,
//! without run-length marks). The compressor is a greedy one of the LZ4 kind, at the strength of the original's
//! LZO1X-1; LZO1X-999's output is read but not written.
//!
//! A stream is a sequence of instructions: copy some literals, or copy a match of LENGTH bytes from DISTANCE bytes
//! back. The two low bits of a match's penultimate byte give the number of literals (0–3) that follow it directly. A
//! match of distance 16384 ends the stream; no other instruction can express that distance.

use std::fmt;

/// Bytes beyond its end that [`expand`] may write to: copies are made in steps of up to this many.
pub const SLACK: usize = 32;

/// log2 of the entries of the compressor's table: its 8 KiB stay in the first-level cache with the data. Twice as many
/// save 1 % of the size and cost 6 % of the speed.
const HASH_BITS: u32 = 12;
/// The largest distance that the format can express, bytes.
const MAX_DISTANCE: usize = 0xbfff;
/// Matches begin at least this many bytes before the end, so that wide loads stay inside.
const TAIL: usize = 20;
/// Upper bounds of the distances of the kinds of match, bytes.
const NEAR: usize = 0x800;
const MIDDLE: usize = 0x4000;

/// Maximum compressed size of `len` bytes.
pub const fn worst_case(len: usize) -> usize {
    len + len / 16 + 64 + 3
}

/// The compressor's table of earlier positions; made once a thread and reused.
///
/// An entry holds the low 16 bits of a position, and each candidate is compared with the data before it is used. The
/// table is cleared for each block, so that a block's compressed bytes do not depend on earlier blocks: 8 KiB, a
/// thousandth of the time.
pub struct Table(Box<[u16; 1 << HASH_BITS]>);

impl Default for Table {
    fn default() -> Table {
        Table(Box::new([0; 1 << HASH_BITS]))
    }
}

fn load4(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn load8(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// The entry for the five bytes that `wide` begins with. Measured on installed systems' files: five bytes give 800
/// MB/s and 0.488 of the size (lzop 0.495), six bytes 860 MB/s and 0.506.
fn hash(wide: u64) -> usize {
    ((wide << 24).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - HASH_BITS)) as usize
}

/// Compresses `data` into the front of `out`, which must have room for the [`worst_case`]; returns the bytes
/// written.
pub fn compress(data: &[u8], table: &mut Table, out: &mut [u8]) -> usize {
    table.0.fill(0);
    let mut sink = Sink { out, at: 0 };
    let literals = matches(data, table, &mut sink);
    if literals < data.len() {
        sink.literals(data, literals, data.len());
    }
    sink.put(&[0x11, 0, 0]);
    sink.at
}

/// Writes all matches with the literals before them; returns where the literals after the last one begin.
fn matches(data: &[u8], table: &mut Table, sink: &mut Sink) -> usize {
    let table = &mut *table.0;
    let mut literals = 0;
    // The format cannot begin with a match, and position 0 is what an empty entry points at.
    let mut at = 1;
    let Some(limit) = data.len().checked_sub(TAIL) else { return 0 };
    while at < limit {
        let wide = load8(data, at);
        let here = wide as u32;
        let slot = &mut table[hash(wide)];
        // The distance modulo 64 KiB: the high bits that the entry lacks do not matter, as the window is smaller.
        let distance = usize::from((at as u16).wrapping_sub(*slot));
        *slot = at as u16;
        // One branch for every fault of a candidate: separate ones would be mispredicted more often.
        let near = distance.wrapping_sub(1) < at.min(MAX_DISTANCE);
        let candidate = load4(data, at.wrapping_sub(distance).min(at));
        if !(near & (candidate == here)) {
            // Steps grow while nothing matches, so incompressible data passes fast.
            at += 1 + ((at - literals) >> 5);
            continue;
        }
        // Extends the match backwards over bytes that the steps skipped.
        let mut from = at;
        while from > literals && from > distance && data[from - 1] == data[from - distance - 1] {
            from -= 1;
        }
        let mut end = at + 4;
        end += common(data, end - distance, end, limit + TAIL);
        if literals < from {
            sink.literals(data, literals, from);
        }
        sink.copy(distance, end - from);
        literals = end;
        at = end;
        // One position inside the match, so that data after a repeated run is found again.
        if end < limit {
            let inside = end - 2;
            table[hash(load8(data, inside))] = inside as u16;
        }
    }
    literals
}

/// Copies `count` bytes in steps of 16 where both sides have room for the last step: musl's memcpy takes as long for
/// 20 bytes as for 200, and most runs of literals are short.
#[inline(always)]
fn copy_wide(out: &mut [u8], to: usize, data: &[u8], from: usize, count: usize) {
    let wide = count.next_multiple_of(16);
    if count <= 128 && from + wide <= data.len() && to + wide <= out.len() {
        let (data, out) = (&data[from..from + wide], &mut out[to..to + wide]);
        for (out, data) in out.as_chunks_mut::<16>().0.iter_mut().zip(data.as_chunks::<16>().0) {
            *out = *data;
        }
    } else {
        out[to..to + count].copy_from_slice(&data[from..from + count]);
    }
}

/// Number of equal bytes from `a` and from `b` on, with `b` staying below `end`.
fn common(data: &[u8], a: usize, b: usize, end: usize) -> usize {
    let mut same = 0;
    while b + same + 8 <= end {
        let differ = load8(data, a + same) ^ load8(data, b + same);
        if differ != 0 {
            return same + (differ.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    while b + same < end && data[a + same] == data[b + same] {
        same += 1;
    }
    same
}

/// The compressed stream; `out` has room for the worst case from the start.
struct Sink<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Writes the part of a length that does not fit its instruction's bits: a zero byte for each 255, then the
    /// remainder.
    fn rest(&mut self, mut rest: usize) {
        while rest > 255 {
            self.out[self.at] = 0;
            self.at += 1;
            rest -= 255;
        }
        self.out[self.at] = rest as u8;
        self.at += 1;
    }

    /// Writes the literals `from..end` of `data`, at least one.
    fn literals(&mut self, data: &[u8], from: usize, end: usize) {
        let count = end - from;
        if self.at == 0 && count <= 238 {
            self.put(&[17 + count as u8]);
        } else if count <= 3 {
            self.out[self.at - 2] |= count as u8;
        } else if count <= 18 {
            self.put(&[count as u8 - 3]);
        } else {
            self.put(&[0]);
            self.rest(count - 18);
        }
        copy_wide(self.out, self.at, data, from, count);
        self.at += count;
    }

    /// Writes a match of at least 4 bytes (fewer if `distance` is near).
    fn copy(&mut self, distance: usize, len: usize) {
        if len <= 8 && distance <= NEAR {
            let back = distance - 1;
            self.put(&[((len - 1) << 5 | (back & 7) << 2) as u8, (back >> 3) as u8]);
            return;
        }
        let (kind, short, back) = if distance <= MIDDLE {
            (0x20, 33, distance - 1)
        } else {
            let back = distance - MIDDLE;
            (0x10 | (back & 0x4000) >> 11, 9, back & 0x3fff)
        };
        if len <= short {
            self.put(&[(kind | (len - 2)) as u8]);
        } else {
            self.put(&[kind as u8]);
            self.rest(len - short);
        }
        self.put(&((back << 2) as u16).to_le_bytes());
    }
}

/// A fault in a compressed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in the compressed block, bytes.
    pub at: usize,
    /// Description of the fault.
    pub why: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the compressed block", self.why, self.at)
    }
}

/// Expands `data` into the first `len` bytes of `out`, which must be at least [`SLACK`] bytes longer than `len`; the
/// contents of the slack afterwards are undefined.
///
/// # Errors
/// `data` is not an LZO1X stream of exactly `len` bytes.
pub fn expand(data: &[u8], out: &mut [u8], len: usize) -> Result<(), Fault> {
    let mut input = Input { data, at: 0 };
    let mut done = 0;
    // The kind of the last instruction: 0–3 literals after a match, or (4) a run of literals of its own.
    let mut state = 0;
    let first = input.byte()?;
    if first > 17 {
        let count = usize::from(first) - 17;
        input.literals(out, &mut done, len, count)?;
        state = count.min(4);
    } else {
        input.at = 0;
    }
    loop {
        let at = input.at;
        let fault = |why| Err(Fault { at, why });
        let op = usize::from(input.byte()?);
        let (count, distance, next) = match op {
            0..16 if state == 0 => {
                let count = 3 + if op == 0 { 15 + input.rest(len)? } else { op };
                input.literals(out, &mut done, len, count)?;
                state = 4;
                continue;
            }
            0..16 => {
                let high = usize::from(input.byte()?) << 2;
                if state == 4 { (3, high + (op >> 2) + 2049, op & 3) } else { (2, high + (op >> 2) + 1, op & 3) }
            }
            16..32 => {
                let count = 2 + if op & 7 == 0 { 7 + input.rest(len)? } else { op & 7 };
                let low = input.pair()?;
                let distance = MIDDLE + ((op & 8) << 11) + (low >> 2);
                if distance == MIDDLE {
                    return match (count == 3, done == len, input.at == data.len()) {
                        (true, true, true) => Ok(()),
                        (true, true, false) => fault("bytes follow the end mark"),
                        _ => fault("the stream ends before the block is full"),
                    };
                }
                (count, distance, low & 3)
            }
            32..64 => {
                let count = 2 + if op & 31 == 0 { 31 + input.rest(len)? } else { op & 31 };
                let low = input.pair()?;
                (count, (low >> 2) + 1, low & 3)
            }
            _ => {
                let high = usize::from(input.byte()?) << 3;
                ((op >> 5) + 1, high + (op >> 2 & 7) + 1, op & 3)
            }
        };
        if distance > done {
            return fault("a match reaches before the block's start");
        }
        if count > len - done {
            return fault("a match reaches past the block's end");
        }
        repeat(out, done, distance, count);
        done += count;
        state = next;
        if next > 0 {
            input.literals(out, &mut done, len, next)?;
        }
    }
}

/// Copies `count` bytes from `distance` back to `at`, in steps that may write up to [`SLACK`] bytes too many.
#[inline(always)]
fn repeat(out: &mut [u8], at: usize, distance: usize, count: usize) {
    let end = at + count;
    let mut to = at;
    if distance >= 16 {
        while to < end {
            out.copy_within(to - distance..to - distance + 16, to);
            to += 16;
        }
    } else if distance == 1 {
        let byte = out[at - 1];
        out[at..end].fill(byte);
    } else {
        // A pattern that repeats every 3 bytes repeats every 9 as well: from there on, 8 bytes a step.
        let period = distance * 8usize.div_ceil(distance);
        let first = end.min(at + period - distance);
        while to < first {
            out[to] = out[to - distance];
            to += 1;
        }
        while to < end {
            out.copy_within(to - period..to - period + 8, to);
            to += 8;
        }
    }
}

struct Input<'a> {
    data: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn short(&self) -> Fault {
        Fault { at: self.data.len(), why: "the stream is cut short" }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.data.get(self.at).ok_or(self.short())?;
        self.at += 1;
        Ok(byte)
    }

    fn pair(&mut self) -> Result<usize, Fault> {
        let pair = self.data.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(self.short())?;
        self.at += 2;
        Ok(usize::from(u16::from_le_bytes(*pair)))
    }

    /// Reads the rest of a long length; more than `most` is refused before it can overflow.
    fn rest(&mut self, most: usize) -> Result<usize, Fault> {
        let mut rest = 0;
        loop {
            match self.byte()? {
                0 if rest > most => return Err(Fault { at: self.at, why: "a length reaches past the block's end" }),
                0 => rest += 255,
                last => return Ok(rest + usize::from(last)),
            }
        }
    }

    fn literals(&mut self, out: &mut [u8], done: &mut usize, len: usize, count: usize) -> Result<(), Fault> {
        if count > len - *done {
            return Err(Fault { at: self.at, why: "literals reach past the block's end" });
        }
        let (from, to) = (self.at, *done);
        if count > self.data.len() - from {
            return Err(self.short());
        }
        copy_wide(out, to, self.data, from, count);
        self.at += count;
        *done += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
