//! The map of used blocks: one bit a block, in memory as partclone's version 2 stores it.

/// One bit for each block of a file system: set if the block is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    blocks: u64,
}

impl Bitmap {
    /// Returns a map of `blocks` unused blocks.
    pub fn new(blocks: u64) -> Bitmap {
        Bitmap { words: vec![0; blocks.div_ceil(64) as usize], blocks }
    }

    /// Returns a map of `blocks` blocks from bytes whose lowest bits are the first blocks, ignoring bits past the last
    /// block; `None` if there are too few bytes.
    pub fn from_bytes(bytes: &[u8], blocks: u64) -> Option<Bitmap> {
        if (bytes.len() as u64) < blocks.div_ceil(8) {
            return None;
        }
        let mut map = Bitmap::new(blocks);
        for (word, bytes) in map.words.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(eight);
        }
        if let (Some(last), over @ 1..) = (map.words.last_mut(), blocks % 64) {
            *last &= (1 << over) - 1;
        }
        Some(map)
    }

    /// Appends the map's bytes, the lowest bits being the first blocks, padded with zero bits.
    pub fn write_bytes(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.blocks.div_ceil(8) as usize;
        out.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        out.truncate(end);
    }

    /// Returns the number of blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the number of used blocks.
    pub fn used(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns how many of the `count` blocks from `start` on are used.
    pub fn used_of(&self, start: u64, count: u64) -> u64 {
        let mut used = 0;
        let mut from = start;
        let end = start.saturating_add(count);
        while let Some((first, count)) = self.next_run(from).filter(|(first, _)| *first < end) {
            from = first + count;
            used += from.min(end) - first;
        }
        used
    }

    /// Returns the block after the last used one; 0 if none is used.
    pub fn end(&self) -> u64 {
        let Some(last) = self.words.iter().rposition(|word| *word != 0) else { return 0 };
        (last as u64 + 1) * 64 - u64::from(self.words[last].leading_zeros())
    }

    /// Whether `block` is used; false past the end.
    pub fn get(&self, block: u64) -> bool {
        block < self.blocks && self.words[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    /// Marks `count` blocks from `start` on as used, as far as the map reaches.
    pub fn set(&mut self, start: u64, count: u64) {
        self.change(start, count, |word, mask| word | mask);
    }

    /// Marks `count` blocks from `start` on as unused, as far as the map reaches.
    pub fn clear(&mut self, start: u64, count: u64) {
        self.change(start, count, |word, mask| word & !mask);
    }

    fn change(&mut self, start: u64, count: u64, change: impl Fn(u64, u64) -> u64) {
        let end = start.saturating_add(count).min(self.blocks);
        let mut at = start;
        while at < end {
            let bits = (64 - at % 64).min(end - at);
            let mask = u64::MAX >> (64 - bits) << (at % 64);
            let word = &mut self.words[(at / 64) as usize];
            *word = change(*word, mask);
            at += bits;
        }
    }

    /// Returns the next run of used blocks at or after `from`: its first block and its length.
    pub fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let start = self.find(from, 0);
        (start < self.blocks).then(|| (start, self.find(start, u64::MAX) - start))
    }

    /// Returns the first block from `from` on whose bit, inverted if `flip` is all ones, is set; else the end.
    fn find(&self, from: u64, flip: u64) -> u64 {
        if from >= self.blocks {
            return self.blocks;
        }
        let mut index = (from / 64) as usize;
        let mut word = (self.words[index] ^ flip) & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            match self.words.get(index) {
                Some(next) => word = next ^ flip,
                None => return self.blocks,
            }
        }
        (index as u64 * 64 + u64::from(word.trailing_zeros())).min(self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(map: &Bitmap) -> Vec<(u64, u64)> {
        let mut from = 0;
        std::iter::from_fn(|| {
            let run = map.next_run(from)?;
            from = run.0 + run.1;
            Some(run)
        })
        .collect()
    }

    #[test]
    fn ranges_across_words_become_runs() {
        let mut map = Bitmap::new(300);
        map.set(1, 3);
        map.set(60, 140);
        map.clear(100, 1);
        map.set(299, 50);
        assert_eq!(runs(&map), [(1, 3), (60, 40), (101, 99), (299, 1)]);
        assert_eq!((map.used(), map.end(), Bitmap::new(300).end()), (143, 300, 0));
        assert!(map.get(299) && !map.get(300) && !map.get(100));
    }

    #[test]
    fn bits_past_the_last_block_do_not_count() {
        let map = Bitmap::from_bytes(&[0xff, 0xff], 13).unwrap();
        assert_eq!(runs(&map), [(0, 13)]);
        assert_eq!(Bitmap::from_bytes(&[0xff], 13), None);
    }

    proptest! {
        #[test]
        fn a_map_and_its_bytes_and_its_runs_say_the_same(bits in proptest::collection::vec(any::<bool>(), 0..400)) {
            let mut map = Bitmap::new(bits.len() as u64);
            for (block, _) in bits.iter().enumerate().filter(|(_, used)| **used) {
                map.set(block as u64, 1);
            }
            let mut bytes = Vec::new();
            map.write_bytes(&mut bytes);
            prop_assert_eq!(Bitmap::from_bytes(&bytes, bits.len() as u64).unwrap(), map.clone());
            let mut again = Bitmap::new(bits.len() as u64);
            again.set(0, u64::MAX);
            let mut end = 0;
            for (start, count) in runs(&map) {
                again.clear(end, start - end);
                end = start + count;
            }
            again.clear(end, u64::MAX - end);
            prop_assert_eq!(again, map);
        }
    }
}
