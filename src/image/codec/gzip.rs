//! gzip (RFC 1952), written as members of 256 KiB, each with its length in an extra field `OG`, so that all
//! cores compress and expand them; gzip reads them as one file. Files of other programs are one long stream, which is
//! inflated in order while earlier pieces are written.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::{Codec, Input, Packed, Scratch, Split, u32_le};
use crate::image::Error;

/// The line of the table.
pub const CODEC: Codec = Codec {
    name: "gzip",
    levels: Some((1, 9)),
    level: None,
    piece: PIECE,
    summed: false,
    recognise,
    begin: |_| {},
    encode: Some(encode),
    end: |_, _| {},
    split: || Box::<Splitter>::default(),
    expand: Some(expand),
};

/// Bytes of plain data in a member of ours: eight windows, so that starting each anew costs about 1 %.
const PIECE: usize = 256 << 10;
/// Longest member that is expanded as a whole, bytes.
const MAX_MEMBER: usize = 4 << 20;
/// Largest ratio of deflate.
const MAX_RATIO: usize = 1032;
/// The level unless another is asked for: above it this compressor takes twice the time for 2 %.
const LEVEL: u8 = 4;

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
/// Size of our members' headers, and of their trailers, bytes.
const HEAD: usize = 20;
const TAIL: usize = 8;

fn recognise(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

fn encode(plain: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> usize {
    let flags = create_comp_flags_from_zip_params(scratch.level.unwrap_or(LEVEL).into(), -15, 0);
    let make = || Box::new(CompressorOxide::new(flags));
    let deflate = scratch.deflate.get_or_insert_with(make);
    let mut room = plain.len() + plain.len() / 8 + 1024;
    let packed = loop {
        if out.len() < HEAD + room + TAIL {
            out.resize(HEAD + room + TAIL, 0);
        }
        deflate.reset();
        match compress(deflate, plain, &mut out[HEAD..HEAD + room], TDEFLFlush::Finish) {
            (TDEFLStatus::Done, _, packed) => break packed,
            _ => room *= 2,
        }
    };
    let length = HEAD + packed + TAIL;
    out[..3].copy_from_slice(&MAGIC);
    out[3..16].copy_from_slice(&[EXTRA, 0, 0, 0, 0, 0, 3, 8, 0, b'O', b'G', 4, 0]);
    out[16..HEAD].copy_from_slice(&(length as u32).to_le_bytes());
    out[HEAD + packed..length - 4].copy_from_slice(&crc32fast::hash(plain).to_le_bytes());
    out[length - 4..length].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    length
}

/// Cuts a file into its members, or into pieces of their expanded content.
#[derive(Default)]
struct Splitter {
    members: u64,
    /// The long member that is being inflated, with checksum and length so far.
    stream: Option<(Box<InflateState>, crc32fast::Hasher, u32)>,
}

impl Split for Splitter {
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error> {
        packed.at = input.at();
        packed.used = 0;
        while packed.used == 0 {
            if let Some(stream) = &mut self.stream {
                if piece(stream, input, packed)? {
                    self.stream = None;
                }
                continue;
            }
            // gzip ignores zeroes after the last member, which tapes leave.
            if self.members > 0 && (input.at_end()? || only_zeroes(input)?) {
                return Ok(false);
            }
            self.members += 1;
            packed.at = input.at();
            match header(input)? {
                Some(length) => {
                    input.fill(&mut packed.data, length, "a gzip member")?;
                    packed.used = length;
                    packed.streamed = false;
                    let size = &packed.data[length - 4..length];
                    packed.plain = size.iter().rev().fold(0, |size, byte| size << 8 | usize::from(*byte));
                    packed.sums.plain_crc = Some(u32_le(&packed.data[length - TAIL..]));
                    if packed.plain > MAX_MEMBER || packed.plain / MAX_RATIO > length {
                        let why = format!("a gzip member of {length} bytes cannot hold {}", packed.plain);
                        return Err(input.damaged(packed.at, why));
                    }
                }
                None => self.stream = Some((InflateState::new_boxed(DataFormat::Raw), Default::default(), 0)),
            }
        }
        Ok(true)
    }
}

/// Inflates the next piece of a long member; true once the member has ended.
fn piece(
    (state, crc, size): &mut (Box<InflateState>, crc32fast::Hasher, u32),
    input: &mut Input,
    packed: &mut Packed,
) -> Result<bool, Error> {
    packed.streamed = true;
    packed.data.resize(PIECE.max(packed.data.len()), 0);
    let mut ended = false;
    while packed.used < PIECE && !ended {
        let at = input.at();
        let ahead = input.peek(1)?;
        if ahead.is_empty() {
            return Err(input.damaged(at, "cut short within a gzip member".to_owned()));
        }
        let step = inflate(state, ahead, &mut packed.data[packed.used..PIECE], MZFlush::None);
        let plain = &packed.data[packed.used..packed.used + step.bytes_written];
        crc.update(plain);
        *size = size.wrapping_add(plain.len() as u32);
        packed.used += step.bytes_written;
        input.skip(step.bytes_consumed);
        match step.status {
            Ok(MZStatus::StreamEnd) => ended = true,
            Ok(_) if step.bytes_consumed + step.bytes_written > 0 => {}
            Err(MZError::Buf) if step.bytes_consumed + step.bytes_written > 0 => {}
            _ => return Err(input.damaged(at, "not a deflated stream".to_owned())),
        }
    }
    if ended {
        let at = input.at();
        let tail: [u8; TAIL] = input.array("a gzip member's checksum")?;
        let (stored, sum) = (u32_le(&tail), crc.clone().finalize());
        if stored != sum || u32_le(&tail[4..]) != *size {
            let why = format!("the gzip member's CRC-32 is {sum:#010x}, not {stored:#010x}");
            return Err(input.damaged(at, why));
        }
    }
    Ok(ended)
}

/// Reads a member's header; returns the number of bytes after it if the member is ours.
fn header(input: &mut Input) -> Result<Option<usize>, Error> {
    const WHAT: &str = "a gzip header";
    let at = input.at();
    let head: [u8; 10] = input.array(WHAT)?;
    if !recognise(&head) {
        return Err(input.damaged(at, "neither the end nor another gzip member follows".to_owned()));
    }
    let flags = head[3];
    let mut length = None;
    if flags & EXTRA != 0 {
        let size = input.array::<2>(WHAT)?;
        let mut extra = Vec::new();
        input.fill(&mut extra, usize::from(u16::from_le_bytes(size)), WHAT)?;
        if flags == EXTRA && size == [8, 0] && extra.starts_with(&[b'O', b'G', 4, 0]) {
            let all = u32_le(&extra[4..]) as usize;
            length = all.checked_sub(HEAD).filter(|rest| (TAIL + 1..=2 * MAX_MEMBER).contains(rest));
        }
    }
    for flag in [NAME, COMMENT] {
        while flags & flag != 0 && input.byte(WHAT)? != 0 {}
    }
    if flags & HEADER_CRC != 0 {
        input.array::<2>(WHAT)?;
    }
    Ok(length)
}

fn only_zeroes(input: &mut Input) -> Result<bool, Error> {
    while let Some(byte) = input.peek(1)?.first() {
        if *byte != 0 {
            return Ok(false);
        }
        input.skip(1);
    }
    Ok(true)
}

fn expand(packed: &Packed, _: &mut Scratch, out: &mut Vec<u8>) -> Result<usize, String> {
    if out.len() < packed.plain {
        out.resize(packed.plain, 0);
    }
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let data = &packed.data[..packed.used - TAIL];
    let done = inflate(&mut state, data, &mut out[..packed.plain], MZFlush::Finish);
    if done.status != Ok(MZStatus::StreamEnd) || done.bytes_written != packed.plain || done.bytes_consumed != data.len()
    {
        return Err("a gzip member that does not expand to its size".to_owned());
    }
    let sum = crc32fast::hash(&out[..packed.plain]);
    match packed.sums.plain_crc {
        Some(stored) if stored != sum => Err(format!("the gzip member's CRC-32 is {sum:#010x}, not {stored:#010x}")),
        _ => Ok(packed.plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::codec::tests::{packed, unpacked};

    fn sample() -> Vec<u8> {
        (0..700_000_u32).map(|at| (at.wrapping_mul(at) >> 9) as u8 & 15).collect()
    }

    /// Returns `plain` as gzip itself packs it: one member without a length.
    fn foreign(plain: &[u8]) -> Vec<u8> {
        let mut file = [&MAGIC[..], &[NAME, 0, 0, 0, 0, 0, 3], b"name\0"].concat();
        file.extend(miniz_oxide::deflate::compress_to_vec(plain, 6));
        file.extend(crc32fast::hash(plain).to_le_bytes());
        file.extend((plain.len() as u32).to_le_bytes());
        file
    }

    #[test]
    fn members_and_long_streams_expand_to_what_they_were() {
        let plain = sample();
        for file in [
            packed(&CODEC, &plain),
            foreign(&plain),
            [packed(&CODEC, &plain[..9]), foreign(&plain[9..]), vec![0; 99]].concat(),
        ] {
            assert!(file.len() < plain.len() && unpacked(&file).as_ref() == Ok(&plain));
        }
        assert_eq!(unpacked(&foreign(b"")), Ok(vec![]));
    }

    #[test]
    fn damage_and_cuts_are_told() {
        let plain = sample();
        for file in [packed(&CODEC, &plain), foreign(&plain)] {
            for cut in [9, 15, 25, 1000, file.len() - 9, file.len() - 1] {
                let error = unpacked(&file[..cut]).unwrap_err();
                assert!(error.contains("cut short within"), "{error}");
            }
            for at in (20..file.len()).step_by(file.len() / 50) {
                let mut bad = file.clone();
                bad[at] ^= 16;
                assert!(unpacked(&bad).is_err(), "byte {at}");
            }
            assert!(unpacked(&[&file[..], b"x"].concat()).is_err());
        }
    }
}
