//! A small generator of pseudo-random numbers for jitter and shuffling (SplitMix64, Steele, Lea and Flood 2014).
//!
//! Seeded by the caller, so that a test or a simulation sees the same run twice. Not for secrets.

/// SplitMix64: 64 bits of state, every seed is good.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Creates a generator; `seed` determines all its numbers.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A uniform number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of a 128-bit product: no division, and a bias below 2^-32 for every `end` used here.
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// `value` moved by at most `percent` % up or down.
    pub fn jitter(&mut self, value: u64, percent: u64) -> u64 {
        let span = value.saturating_mul(percent) / 100;
        (value - span.min(value)).saturating_add(self.below(span.saturating_mul(2).saturating_add(1)))
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_percentage_and_reaches_both_halves() {
        let mut rng = Rng::new(1);
        let values: Vec<u64> = (0..1000).map(|_| rng.jitter(10_000, 10)).collect();
        assert!(values.iter().all(|value| (9_000..=11_000).contains(value)));
        assert!(values.iter().any(|value| *value < 9_200) && values.iter().any(|value| *value > 10_800));
        assert_eq!(rng.jitter(0, 10), 0);
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new(7).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<u32>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<u32>>());
    }
}
