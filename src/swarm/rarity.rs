//! Which piece is the rarest: pieces nobody fetches yet, ordered by how many peers have them, ties random.
//!
//! The order is one array cut into buckets of equal availability. A peer that announces a piece moves it
//! into the next bucket by one swap, so 60 peers with 5,000 pieces each cost nothing to follow.

use crate::sys::rng::Rng;

const OUT: u32 = u32::MAX;

/// The pieces to fetch in rarest-first order.
#[derive(Debug)]
pub struct Rarity {
    /// Wanted pieces, those of bucket 0 first.
    order: Vec<u32>,
    /// Where a piece stands in `order`; [`OUT`] when it is not wanted.
    place: Vec<u32>,
    /// How many peers have a piece, peers that have all of them not counted.
    count: Vec<u16>,
    /// `ends[c]` is where bucket `c` ends in `order`; the last one is `order.len()`.
    ends: Vec<u32>,
}

impl Rarity {
    /// None of `pieces` is held by a peer; `wanted` are those to fetch.
    pub fn new(pieces: u32, wanted: impl Iterator<Item = u32>, rng: &mut Rng) -> Rarity {
        let mut order: Vec<u32> = wanted.collect();
        rng.shuffle(&mut order);
        let mut place = vec![OUT; pieces as usize];
        for (at, &piece) in order.iter().enumerate() {
            place[piece as usize] = at as u32;
        }
        let ends = vec![order.len() as u32];
        Rarity { order, place, count: vec![0; pieces as usize], ends }
    }

    /// No piece is left that nobody fetches.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many peers have `piece`, those not counted that have everything.
    pub fn count(&self, piece: u32) -> u16 {
        self.count[piece as usize]
    }

    /// The wanted pieces, rarest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.order.iter().copied()
    }

    /// One more peer has `piece`.
    pub fn gained(&mut self, piece: u32, rng: &mut Rng) {
        let bucket = self.count[piece as usize] as usize;
        self.count[piece as usize] += 1;
        if self.place[piece as usize] == OUT {
            return;
        }
        if bucket + 1 >= self.ends.len() {
            self.ends.push(self.order.len() as u32);
        }
        let last = self.ends[bucket] - 1;
        self.swap(self.place[piece as usize], last);
        self.ends[bucket] = last;
        self.mix(piece, rng);
    }

    /// One peer fewer has `piece`.
    pub fn lost(&mut self, piece: u32, rng: &mut Rng) {
        let bucket = self.count[piece as usize] as usize;
        if bucket == 0 {
            return;
        }
        self.count[piece as usize] -= 1;
        if self.place[piece as usize] == OUT {
            return;
        }
        let first = self.ends[bucket - 1];
        self.swap(self.place[piece as usize], first);
        self.ends[bucket - 1] = first + 1;
        self.mix(piece, rng);
    }

    /// `piece` is being fetched, or is there: no longer to be picked.
    pub fn remove(&mut self, piece: u32) {
        let mut hole = self.place[piece as usize];
        if hole == OUT {
            return;
        }
        // The hole moves to the end of its bucket, and from there bucket by bucket to the end of all.
        for bucket in self.count[piece as usize] as usize..self.ends.len() {
            let last = self.ends[bucket] - 1;
            self.swap(hole, last);
            self.ends[bucket] = last;
            hole = last;
        }
        self.order.pop();
        self.place[piece as usize] = OUT;
    }

    /// `piece` is to be picked (again).
    pub fn insert(&mut self, piece: u32, rng: &mut Rng) {
        if self.place[piece as usize] != OUT {
            return;
        }
        let bucket = self.count[piece as usize] as usize;
        while self.ends.len() <= bucket {
            self.ends.push(self.order.len() as u32);
        }
        let mut at = self.order.len() as u32;
        self.order.push(piece);
        self.place[piece as usize] = at;
        for above in (bucket + 1..self.ends.len()).rev() {
            let first = self.ends[above - 1];
            self.swap(at, first);
            self.ends[above] += 1;
            at = first;
        }
        self.ends[bucket] += 1;
        self.mix(piece, rng);
    }

    /// Puts `piece` at a random place of its bucket.
    fn mix(&mut self, piece: u32, rng: &mut Rng) {
        let bucket = self.count[piece as usize] as usize;
        let start = if bucket == 0 { 0 } else { self.ends[bucket - 1] };
        let there = start + rng.below(u64::from(self.ends[bucket] - start)) as u32;
        self.swap(self.place[piece as usize], there);
    }

    fn swap(&mut self, a: u32, b: u32) {
        self.order.swap(a as usize, b as usize);
        self.place[self.order[a as usize] as usize] = a;
        self.place[self.order[b as usize] as usize] = b;
    }
}

#[cfg(test)]
mod tests {
    use super::{Rarity, Rng};
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn pieces_always_stand_in_order_of_their_count(steps in prop::collection::vec((0u32..20, 0u8..4), 0..300), seed in any::<u64>()) {
            let mut rng = Rng::new(seed);
            let mut rarity = Rarity::new(20, 0..20, &mut rng);
            let mut count = [0u16; 20];
            let mut wanted = [true; 20];
            for (piece, step) in steps {
                let at = piece as usize;
                match step {
                    0 => { rarity.gained(piece, &mut rng); count[at] += 1; }
                    1 => { rarity.lost(piece, &mut rng); count[at] = count[at].saturating_sub(1); }
                    2 => { rarity.remove(piece); wanted[at] = false; }
                    _ => { rarity.insert(piece, &mut rng); wanted[at] = true; }
                }
                let order: Vec<u32> = rarity.iter().collect();
                let mut expected: Vec<u32> = (0..20).filter(|&p| wanted[p as usize]).collect();
                prop_assert!(order.windows(2).all(|pair| count[pair[0] as usize] <= count[pair[1] as usize]));
                let mut sorted = order.clone();
                sorted.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(sorted, expected);
                prop_assert!((0..20).all(|p| rarity.count[p] == count[p]));
            }
        }
    }

    #[test]
    fn ties_are_broken_differently_for_different_seeds() {
        let first = |seed| Rarity::new(1000, 0..1000, &mut Rng::new(seed)).iter().next();
        assert!((1..10).any(|seed| first(seed) != first(0)));
    }
}
