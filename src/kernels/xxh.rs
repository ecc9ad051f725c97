//! XXH64 and the 128-bit XXH3 of a stream, with seed 0.
//!
//! `twox-hash`'s loops are inlined into their caller, so they are as fast as the package of that caller.

use std::hash::Hasher;

use twox_hash::{XxHash3_128, XxHash64};

/// XXH64 of the bytes so far.
#[derive(Clone, Default)]
pub struct Xxh64(XxHash64);

impl Xxh64 {
    /// Adds bytes.
    #[inline(never)]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Returns the hash of all bytes so far.
    #[inline(never)]
    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// The 128-bit XXH3 of the bytes so far.
#[derive(Clone, Default)]
pub struct Xxh128(XxHash3_128);

impl Xxh128 {
    /// Adds bytes.
    #[inline(never)]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Returns the hash of all bytes so far.
    #[inline(never)]
    pub fn value(&self) -> u128 {
        self.0.finish_128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_parts_has_the_hash_of_the_whole() {
        let bytes: Vec<u8> = (0..5000_u32).map(|at| ((at * at) >> 3) as u8).collect();
        for part in [1, 63, 64, 257, 5000] {
            let (mut short, mut long) = (Xxh64::default(), Xxh128::default());
            for bytes in bytes.chunks(part) {
                short.update(bytes);
                long.update(bytes);
            }
            assert_eq!(short.value(), XxHash64::oneshot(0, &bytes));
            assert_eq!(long.value(), XxHash3_128::oneshot(&bytes));
        }
        // The values of xxHash's own specification and tests for no bytes.
        assert_eq!(Xxh64::default().value(), 0xef46_db37_51d8_e999);
        assert_eq!(Xxh128::default().value(), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}
