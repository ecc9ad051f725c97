//! XXH32, the checksum of lz4's frames, as the xxHash specification has it, seed 0.

const P1: u32 = 0x9e37_79b1;
const P2: u32 = 0x85eb_ca77;
const P3: u32 = 0xc2b2_ae3d;
const P4: u32 = 0x27d4_eb2f;
const P5: u32 = 0x1656_67b1;

/// A running checksum.
#[derive(Clone)]
pub struct Xxh32 {
    lanes: [u32; 4],
    length: u64,
    /// The bytes that do not fill a stripe yet: the first `length % 16`.
    rest: [u8; 16],
}

impl Default for Xxh32 {
    fn default() -> Xxh32 {
        Xxh32 { lanes: [P1.wrapping_add(P2), P2, 0, 0_u32.wrapping_sub(P1)], length: 0, rest: [0; 16] }
    }
}

fn word(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes)
}

impl Xxh32 {
    /// Adds more bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.length % 16) as usize;
        self.length += bytes.len() as u64;
        if filled > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(16 - filled));
            self.rest[filled..filled + now.len()].copy_from_slice(now);
            bytes = later;
            if filled + now.len() < 16 {
                return;
            }
            let stripe = self.rest;
            self.stripe(&stripe);
        }
        let (stripes, rest) = bytes.as_chunks::<16>();
        for stripe in stripes {
            self.stripe(stripe);
        }
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    #[inline(always)]
    fn stripe(&mut self, stripe: &[u8; 16]) {
        for (lane, bytes) in self.lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
            *lane = lane.wrapping_add(word(bytes).wrapping_mul(P2)).rotate_left(13).wrapping_mul(P1);
        }
    }

    /// Returns the checksum of all bytes so far.
    pub fn value(&self) -> u32 {
        let mut sum = match self.length {
            0..16 => P5,
            _ => self
                .lanes
                .iter()
                .zip([1, 7, 12, 18])
                .fold(0_u32, |sum, (lane, by)| sum.wrapping_add(lane.rotate_left(by))),
        };
        sum = sum.wrapping_add(self.length as u32);
        let (words, bytes) = self.rest[..(self.length % 16) as usize].as_chunks::<4>();
        for four in words {
            sum = sum.wrapping_add(word(four).wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
        }
        for byte in bytes {
            sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
        }
        sum = (sum ^ sum >> 15).wrapping_mul(P2);
        sum = (sum ^ sum >> 13).wrapping_mul(P3);
        sum ^ sum >> 16
    }
}

/// The checksum of `bytes`.
pub fn xxh32(bytes: &[u8]) -> u32 {
    let mut sum = Xxh32::default();
    sum.update(bytes);
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_those_that_xxh32sum_prints() {
        assert_eq!(xxh32(b""), 0x02cc_5d05);
        assert_eq!(xxh32(b"a"), 0x550d_7456);
        assert_eq!(xxh32(b"abc"), 0x32d1_53ff);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xe229_3b2f);
    }

    #[test]
    fn parts_of_any_length_give_the_checksum_of_the_whole() {
        let whole: Vec<u8> = (0..200).collect();
        for part in 1..40 {
            let mut sum = Xxh32::default();
            whole.chunks(part).for_each(|bytes| sum.update(bytes));
            assert_eq!(sum.value(), xxh32(&whole), "{part}");
        }
    }
}
