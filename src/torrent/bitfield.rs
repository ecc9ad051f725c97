//! A peer's set of pieces, in the byte order of the wire (BEP 3: bit 7 of byte 0 is piece 0).

use std::fmt;

use super::Error;

/// A set of piece indices below a fixed length, with a running count of its members.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    /// Padded with zero bytes to whole 64-bit words; spare bits are zero.
    bytes: Vec<u8>,
    bits: u32,
    count: u32,
}

impl Bitfield {
    /// The empty set of pieces below `bits`.
    pub fn new(bits: u32) -> Bitfield {
        Bitfield { bytes: vec![0; bits.div_ceil(64) as usize * 8], bits, count: 0 }
    }

    /// The set of all pieces below `bits`.
    pub fn full(bits: u32) -> Bitfield {
        let mut full = Bitfield::new(bits);
        full.bytes[..bits as usize / 8].fill(0xff);
        if !bits.is_multiple_of(8) {
            full.bytes[bits as usize / 8] = !(0xff >> (bits % 8));
        }
        full.count = bits;
        full
    }

    /// Reads the payload of a bitfield message.
    ///
    /// # Errors
    /// A length other than that of `bits` bits, or a spare bit that is set.
    pub fn from_bytes(bits: u32, bytes: &[u8]) -> Result<Bitfield, Error> {
        if bytes.len() != bits.div_ceil(8) as usize {
            return Err(Error::BitfieldLength { bits, found: bytes.len() });
        }
        let spare = bytes.last().is_some_and(|last| !bits.is_multiple_of(8) && last & (0xff >> (bits % 8)) != 0);
        if spare {
            return Err(Error::BitfieldSpare { bits });
        }
        let mut field = Bitfield::new(bits);
        field.bytes[..bytes.len()].copy_from_slice(bytes);
        field.count = field.words().map(u64::count_ones).sum();
        Ok(field)
    }

    /// The payload of a bitfield message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.bits.div_ceil(8) as usize]
    }

    /// Number of pieces that the set ranges over.
    #[allow(clippy::len_without_is_empty)] // is_empty is about the members, as for any set
    pub fn len(&self) -> u32 {
        self.bits
    }

    /// Whether piece `i` is in the set; false beyond its range.
    pub fn get(&self, i: u32) -> bool {
        i < self.bits && self.bytes[i as usize / 8] & mask(i) != 0
    }

    /// Adds piece `i`; true if it was not there before. Indices beyond the range are ignored.
    pub fn set(&mut self, i: u32) -> bool {
        let new = i < self.bits && !self.get(i);
        if new {
            self.bytes[i as usize / 8] |= mask(i);
            self.count += 1;
        }
        new
    }

    /// Removes piece `i`; true if it was there.
    pub fn clear(&mut self, i: u32) -> bool {
        let old = self.get(i);
        if old {
            self.bytes[i as usize / 8] &= !mask(i);
            self.count -= 1;
        }
        old
    }

    /// Adds the members of `other`, which has the same range.
    pub fn add(&mut self, other: &Bitfield) {
        self.combine(other, |ours, theirs| ours | theirs);
    }

    /// Removes the members of `other`, which has the same range.
    pub fn remove(&mut self, other: &Bitfield) {
        self.combine(other, |ours, theirs| ours & !theirs);
    }

    /// The members that `other`, which has the same range, lacks.
    pub fn without(&self, other: &Bitfield) -> Bitfield {
        let mut rest = self.clone();
        rest.remove(other);
        rest
    }

    fn combine(&mut self, other: &Bitfield, how: fn(u8, u8) -> u8) {
        for (ours, theirs) in self.bytes.iter_mut().zip(&other.bytes) {
            *ours = how(*ours, *theirs);
        }
        self.count = self.words().map(u64::count_ones).sum();
    }

    /// Number of members, in constant time.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.bits
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The members, ascending; a word of 64 without any costs one step.
    pub fn iter_ones(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter(0)
    }

    /// The missing pieces, ascending; a word of 64 without any costs one step.
    pub fn iter_zeros(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter(u64::MAX)
    }

    /// Words of 64 pieces; the highest bit is the first piece, and spare bits are zero.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word))
    }

    fn iter(&self, flip: u64) -> impl Iterator<Item = u32> + '_ {
        let bits = self.bits;
        let words = (0u32..).step_by(64).zip(self.words());
        words
            .flat_map(move |(base, word)| {
                let mut left = word ^ flip;
                std::iter::from_fn(move || {
                    let at = left.leading_zeros();
                    (left != 0).then(|| {
                        left &= !(1 << 63 >> at);
                        base + at
                    })
                })
            })
            .take_while(move |at| *at < bits)
    }
}

fn mask(i: u32) -> u8 {
    0x80 >> (i % 8)
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {}: ", self.count, self.bits)?;
        f.debug_set().entries(self.iter_ones().take(32)).finish()?;
        f.write_str(if self.count > 32 { ", …)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn bit_7_of_byte_0_is_piece_0() {
        let mut field = Bitfield::new(12);
        assert!(field.set(0) && field.set(9) && !field.set(9) && !field.set(12));
        assert_eq!(field.as_bytes(), [0x80, 0x40]);
        assert_eq!(format!("{field:?}"), "Bitfield(2 of 12: {0, 9})");
    }

    #[test]
    fn a_wrong_length_or_a_spare_bit_is_refused() {
        assert!(Bitfield::from_bytes(12, &[0xff, 0xf0]).unwrap().is_full());
        for bytes in [&[0xff][..], &[0xff, 0xf0, 0], &[0xff, 0xf8], &[0, 1], &[]] {
            assert!(Bitfield::from_bytes(12, bytes).is_err(), "{bytes:?}");
        }
        assert!(Bitfield::from_bytes(0, &[]).unwrap().is_full());
        assert!(Bitfield::from_bytes(0, &[0]).is_err());
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_of_numbers(bits in 0u32..300, moves in prop::collection::vec((any::<bool>(), 0u32..320), 0..400)) {
            let mut field = Bitfield::new(bits);
            let mut set = BTreeSet::new();
            for (add, i) in moves {
                if add {
                    prop_assert_eq!(field.set(i), i < bits && set.insert(i));
                } else {
                    prop_assert_eq!(field.clear(i), set.remove(&i));
                }
            }
            prop_assert_eq!(field.count() as usize, set.len());
            prop_assert_eq!(field.iter_ones().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(field.iter_zeros().collect::<Vec<_>>(), (0..bits).filter(|i| !set.contains(i)).collect::<Vec<_>>());
            prop_assert_eq!(field.is_empty(), set.is_empty());
            prop_assert_eq!(&Bitfield::from_bytes(bits, field.as_bytes()).unwrap(), &field);
        }

        #[test]
        fn they_are_added_and_taken_away_as_sets_are(bits in 1u32..200, a in prop::collection::vec(0u32..200, 0..100), b in prop::collection::vec(0u32..200, 0..100)) {
            let field = |pieces: &[u32]| {
                let mut field = Bitfield::new(bits);
                pieces.iter().for_each(|piece| _ = field.set(*piece));
                field
            };
            let (mut sum, mut rest) = (field(&a), field(&a));
            sum.add(&field(&b));
            rest.remove(&field(&b));
            prop_assert_eq!(sum, field(&[&a[..], &b[..]].concat()));
            prop_assert_eq!(rest, field(&a.iter().copied().filter(|piece| !b.contains(piece)).collect::<Vec<_>>()));
        }

        #[test]
        fn a_full_one_has_every_piece_and_no_spare_bit(bits in 0u32..300) {
            let full = Bitfield::full(bits);
            prop_assert!(full.is_full() && full.iter_zeros().next().is_none());
            prop_assert_eq!(&Bitfield::from_bytes(bits, full.as_bytes()).unwrap(), &full);
        }
    }
}
