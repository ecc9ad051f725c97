//! The rarest pieces: those that nobody fetches yet, ordered by how many peers have them, ties random.
//!
//! The order is one array cut into buckets of equal availability. An announced piece moves into the next bucket by
//! one swap, so 60 peers with 5,000 pieces each cost little to follow. Each group of pieces that are wanted before
//! others has its own order; usually there is one group.

use crate::base::rng::Rng;
use crate::torrent::Bitfield;

const OUT: u32 = u32::MAX;

/// The pieces to fetch: group by group, each in rarest-first order.
#[derive(Debug)]
pub struct Rarity {
    groups: Vec<Group>,
    /// The group that a piece belongs to; [`OUT`] when it is never wanted.
    group: Vec<u32>,
    /// Place of a piece in its group's order; [`OUT`] when it is not to be picked.
    place: Vec<u32>,
    /// Number of peers that have a piece, without peers that have all of them.
    count: Vec<u16>,
}

#[derive(Debug)]
struct Group {
    /// Pieces to pick, those of bucket 0 first.
    order: Vec<u32>,
    /// `ends[c]` is the end of bucket `c` in `order`; the last one is `order.len()`.
    ends: Vec<u32>,
}

impl Rarity {
    /// Creates the order with no piece held by any peer. `groups` come in the order in which they are wanted; a
    /// piece in several counts for the first. Pieces in `have` are not to be picked.
    pub fn new(have: &Bitfield, groups: &[Bitfield], rng: &mut Rng) -> Rarity {
        let pieces = have.len() as usize;
        let mut rarity =
            Rarity { groups: Vec::new(), group: vec![OUT; pieces], place: vec![OUT; pieces], count: vec![0; pieces] };
        for (at, group) in groups.iter().enumerate() {
            let mut order = Vec::new();
            for piece in group.iter_ones() {
                if rarity.group[piece as usize] == OUT {
                    rarity.group[piece as usize] = at as u32;
                    if !have.get(piece) {
                        order.push(piece);
                    }
                }
            }
            rng.shuffle(&mut order);
            for (at, &piece) in order.iter().enumerate() {
                rarity.place[piece as usize] = at as u32;
            }
            let ends = vec![order.len() as u32];
            rarity.groups.push(Group { order, ends });
        }
        rarity
    }

    /// Whether every wanted piece is here or being fetched.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.order.is_empty())
    }

    /// The number of the group that `piece` belongs to; `u32::MAX` when it is never wanted.
    pub fn group(&self, piece: u32) -> u32 {
        self.group[piece as usize]
    }

    /// Number of peers that have `piece`, without those that have everything.
    pub fn count(&self, piece: u32) -> u16 {
        self.count[piece as usize]
    }

    /// The pieces to pick: those of the first group, rarest first, then those of the others.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.groups.iter().flat_map(|group| group.order.iter().copied())
    }

    /// Counts one more peer that has `piece`.
    pub fn gained(&mut self, piece: u32, rng: &mut Rng) {
        let bucket = self.count[piece as usize] as usize;
        self.count[piece as usize] += 1;
        let place = self.place[piece as usize];
        if place == OUT {
            return;
        }
        let Group { order, ends } = &mut self.groups[self.group[piece as usize] as usize];
        if bucket + 1 >= ends.len() {
            ends.push(order.len() as u32);
        }
        let last = ends[bucket] - 1;
        ends[bucket] = last;
        swap(order, &mut self.place, place, last);
        self.mix(piece, rng);
    }

    /// Counts one peer fewer that has `piece`.
    pub fn lost(&mut self, piece: u32, rng: &mut Rng) {
        let bucket = self.count[piece as usize] as usize;
        if bucket == 0 {
            return;
        }
        self.count[piece as usize] -= 1;
        let place = self.place[piece as usize];
        if place == OUT {
            return;
        }
        let Group { order, ends } = &mut self.groups[self.group[piece as usize] as usize];
        let first = ends[bucket - 1];
        ends[bucket - 1] = first + 1;
        swap(order, &mut self.place, place, first);
        self.mix(piece, rng);
    }

    /// Removes `piece`, which is here or being fetched.
    pub fn remove(&mut self, piece: u32) {
        let mut hole = self.place[piece as usize];
        if hole == OUT {
            return;
        }
        let Group { order, ends } = &mut self.groups[self.group[piece as usize] as usize];
        // The hole moves to the end of its bucket, and from there bucket by bucket to the end of all.
        for end in &mut ends[self.count[piece as usize] as usize..] {
            let last = *end - 1;
            swap(order, &mut self.place, hole, last);
            *end = last;
            hole = last;
        }
        order.pop();
        self.place[piece as usize] = OUT;
    }

    /// Makes `piece` one to be picked (again), if it is wanted at all.
    pub fn insert(&mut self, piece: u32, rng: &mut Rng) {
        if self.place[piece as usize] != OUT || self.group[piece as usize] == OUT {
            return;
        }
        let bucket = self.count[piece as usize] as usize;
        let Group { order, ends } = &mut self.groups[self.group[piece as usize] as usize];
        while ends.len() <= bucket {
            ends.push(order.len() as u32);
        }
        let mut at = order.len() as u32;
        order.push(piece);
        self.place[piece as usize] = at;
        for above in (bucket + 1..ends.len()).rev() {
            let first = ends[above - 1];
            swap(order, &mut self.place, at, first);
            ends[above] += 1;
            at = first;
        }
        ends[bucket] += 1;
        self.mix(piece, rng);
    }

    /// Moves `piece` to a random place in its bucket.
    fn mix(&mut self, piece: u32, rng: &mut Rng) {
        let bucket = self.count[piece as usize] as usize;
        let Group { order, ends } = &mut self.groups[self.group[piece as usize] as usize];
        let start = if bucket == 0 { 0 } else { ends[bucket - 1] };
        let there = start + rng.below(u64::from(ends[bucket] - start)) as u32;
        let place = self.place[piece as usize];
        swap(order, &mut self.place, place, there);
    }
}

fn swap(order: &mut [u32], place: &mut [u32], a: u32, b: u32) {
    order.swap(a as usize, b as usize);
    place[order[a as usize] as usize] = a;
    place[order[b as usize] as usize] = b;
}

#[cfg(test)]
mod tests {
    use super::{Bitfield, Rarity, Rng};
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn pieces_always_stand_in_order_of_their_group_and_then_of_their_count(
            groups in prop::collection::vec(prop::collection::vec(0u32..20, 0..20), 1..4),
            steps in prop::collection::vec((0u32..20, 0u8..4), 0..300), seed in any::<u64>(),
        ) {
            let mut rng = Rng::new(seed);
            let field = |pieces: &Vec<u32>| {
                let mut field = Bitfield::new(20);
                pieces.iter().for_each(|piece| _ = field.set(*piece));
                field
            };
            let fields: Vec<Bitfield> = groups.iter().map(field).collect();
            let group = |piece: u32| fields.iter().position(|field| field.get(piece));
            let mut rarity = Rarity::new(&Bitfield::new(20), &fields, &mut rng);
            let mut count = [0u16; 20];
            let mut wanted: Vec<bool> = (0..20).map(|piece| group(piece).is_some()).collect();
            for (piece, step) in steps {
                let at = piece as usize;
                match step {
                    0 => { rarity.gained(piece, &mut rng); count[at] += 1; }
                    1 => { rarity.lost(piece, &mut rng); count[at] = count[at].saturating_sub(1); }
                    2 => { rarity.remove(piece); wanted[at] = false; }
                    _ => { rarity.insert(piece, &mut rng); wanted[at] = group(piece).is_some(); }
                }
                let order: Vec<u32> = rarity.iter().collect();
                let mut expected: Vec<u32> = (0..20).filter(|&p| wanted[p as usize]).collect();
                let rank = |piece: u32| (group(piece), count[piece as usize]);
                prop_assert!(order.windows(2).all(|pair| rank(pair[0]) <= rank(pair[1])));
                let mut sorted = order.clone();
                sorted.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(sorted, expected);
                prop_assert!((0..20).all(|p| rarity.count(p) == count[p as usize]));
            }
        }
    }

    #[test]
    fn ties_are_broken_differently_for_different_seeds() {
        let all = [Bitfield::full(1000)];
        let first = |seed| Rarity::new(&Bitfield::new(1000), &all, &mut Rng::new(seed)).iter().next();
        assert!((1..10).any(|seed| first(seed) != first(0)));
    }
}
