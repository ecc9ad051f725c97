//! The map of used blocks: one bit a block, in pages.
//!
//! A page whose blocks are all used or all unused takes no memory of its own, nor does one like the page before it, so
//! that a long map that says little is small.

use std::sync::Arc;

/// Words of 64 blocks in a page.
const WORDS: usize = 128;
/// Blocks in a page.
const PAGE: u64 = WORDS as u64 * 64;
/// Bytes of a page's bits.
const PAGE_BYTES: usize = WORDS * 8;

/// One bit for each block of a file system: set if the block is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    pages: Vec<Page>,
    blocks: u64,
}

/// The bits of [`PAGE`] blocks; those past the last block are not set.
#[derive(Clone, Debug)]
enum Page {
    /// All words are this one: no block is used, or all are.
    Same(u64),
    Own(Box<[u64; WORDS]>),
    /// Words that pages before and after have, too.
    Shared(Arc<[u64; WORDS]>),
}

impl Page {
    /// Returns the page with these bytes, whose lowest bits are the first blocks; missing ones are zero.
    fn from_bytes(bytes: &[u8]) -> Page {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(eight);
        }
        match words[0] {
            first @ (0 | u64::MAX) if words.iter().all(|word| *word == first) => Page::Same(first),
            _ => Page::Own(Box::new(words)),
        }
    }

    /// Returns the words, or the one that all of them are.
    fn words(&self) -> Result<&[u64; WORDS], u64> {
        match self {
            Page::Same(word) => Err(*word),
            Page::Own(words) => Ok(words),
            Page::Shared(words) => Ok(words),
        }
    }

    fn word(&self, index: usize) -> u64 {
        self.words().map_or_else(|same| same, |words| words[index])
    }

    /// Makes the bits from `from` to before `to` those of `fill`.
    fn put(&mut self, from: u64, to: u64, fill: u64) {
        match self {
            Page::Own(words) => put(words, from, to, fill),
            Page::Same(word) if *word == fill => {}
            Page::Same(_) | Page::Shared(_) => {
                let mut words = Box::new(self.words().map_or_else(|same| [same; WORDS], |words| *words));
                put(&mut words, from, to, fill);
                *self = Page::Own(words);
            }
        }
    }

    /// Returns the first bit from `from` on that, inverted if `flip` is all ones, is set.
    fn find(&self, from: u64, flip: u64) -> Option<u64> {
        let words = match self.words() {
            Ok(words) => words,
            Err(same) => return (same ^ flip != 0).then_some(from),
        };
        let first = (from / 64) as usize;
        let mut kept = u64::MAX << (from % 64);
        words[first..].iter().zip(first as u64..).find_map(|(word, index)| {
            let word = (word ^ flip) & std::mem::replace(&mut kept, u64::MAX);
            (word != 0).then(|| index * 64 + u64::from(word.trailing_zeros()))
        })
    }
}

/// Makes the bits from `from` to before `to` of `words` those of `fill`.
fn put(words: &mut [u64; WORDS], from: u64, to: u64, fill: u64) {
    let (first, last) = ((from / 64) as usize, ((to - 1) / 64) as usize);
    let (begin, end) = (u64::MAX << (from % 64), u64::MAX >> (63 - (to - 1) % 64));
    let put = |word: &mut u64, mask: u64| *word = *word & !mask | fill & mask;
    if first == last {
        return put(&mut words[first], begin & end);
    }
    put(&mut words[first], begin);
    words[first + 1..last].fill(fill);
    put(&mut words[last], end);
}

impl PartialEq for Page {
    fn eq(&self, other: &Page) -> bool {
        (0..WORDS).all(|index| self.word(index) == other.word(index))
    }
}

impl Eq for Page {}

impl Bitmap {
    /// Returns a map of `blocks` unused blocks.
    pub fn new(blocks: u64) -> Bitmap {
        Bitmap { pages: vec![Page::Same(0); blocks.div_ceil(PAGE) as usize], blocks }
    }

    /// Returns a map of `blocks` blocks from bytes whose lowest bits are the first blocks, ignoring bits past the last
    /// block; `None` if there are too few bytes.
    pub fn from_bytes(bytes: &[u8], blocks: u64) -> Option<Bitmap> {
        let bytes = bytes.get(..usize::try_from(blocks.div_ceil(8)).ok()?)?;
        let mut growing = Growing::new(blocks);
        growing.push(bytes);
        growing.finish()
    }

    /// Calls `take` with the map's bytes in parts, the lowest bits being the first blocks, padded with zero bits.
    ///
    /// # Errors
    /// An error of `take`.
    pub fn bytes<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut left = self.blocks.div_ceil(8);
        let mut bytes = [0; PAGE_BYTES];
        for page in &self.pages {
            for (index, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *word = page.word(index).to_le_bytes();
            }
            let here = left.min(PAGE_BYTES as u64);
            take(&bytes[..here as usize])?;
            left -= here;
        }
        Ok(())
    }

    /// Returns the number of blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the number of used blocks.
    pub fn used(&self) -> u64 {
        let used = |page: &Page| match page.words() {
            Err(same) => u64::from(same.count_ones()) * WORDS as u64,
            Ok(words) => words.iter().map(|word| u64::from(word.count_ones())).sum(),
        };
        self.pages.iter().map(used).sum()
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
        for (number, page) in self.pages.iter().enumerate().rev() {
            if let Some(last) = (0..WORDS).rev().find(|index| page.word(*index) != 0) {
                return number as u64 * PAGE + (last as u64 + 1) * 64 - u64::from(page.word(last).leading_zeros());
            }
        }
        0
    }

    /// Whether `block` is used; false past the end.
    pub fn get(&self, block: u64) -> bool {
        let page = self.pages.get((block / PAGE) as usize);
        page.is_some_and(|page| page.word((block % PAGE / 64) as usize) >> (block % 64) & 1 == 1)
    }

    /// Marks `count` blocks from `start` on as used, as far as the map reaches.
    pub fn set(&mut self, start: u64, count: u64) {
        self.change(start, count, u64::MAX);
    }

    /// Marks those of `count` blocks from `start` on as used whose bits, lowest first, are set, as far as the map reaches;
    /// returns their number.
    pub fn add(&mut self, start: u64, bits: &[u8], count: u64) -> u64 {
        let count = count.min(self.blocks.saturating_sub(start));
        let mut used = 0;
        for (bytes, at) in bits.chunks(8).zip((0..count).step_by(64)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            let word = u64::from_le_bytes(eight) & u64::MAX >> 64u64.saturating_sub(count - at);
            used += u64::from(word.count_ones());
            let (index, shift) = ((start + at) / 64, (start + at) % 64);
            self.add_word(index, word << shift);
            // Nothing of the word is left where no bit was pushed out of it.
            self.add_word(index + 1, word.checked_shr(64 - shift as u32).unwrap_or(0));
        }
        used
    }

    fn add_word(&mut self, index: u64, word: u64) {
        if word == 0 {
            return;
        }
        let (page, index) = (&mut self.pages[index as usize / WORDS], index as usize % WORDS);
        match page {
            Page::Own(words) => words[index] |= word,
            Page::Same(u64::MAX) => {}
            _ => {
                let mut words = Box::new(page.words().map_or_else(|same| [same; WORDS], |words| *words));
                words[index] |= word;
                *page = Page::Own(words);
            }
        }
    }

    /// Marks `count` blocks from `start` on as unused, as far as the map reaches.
    pub fn clear(&mut self, start: u64, count: u64) {
        self.change(start, count, 0);
    }

    fn change(&mut self, start: u64, count: u64, fill: u64) {
        let end = start.saturating_add(count).min(self.blocks);
        let mut at = start;
        while at < end {
            let (number, from) = (at / PAGE, at % PAGE);
            let to = (end - number * PAGE).min(PAGE);
            let page = &mut self.pages[number as usize];
            if to - from == PAGE {
                *page = Page::Same(fill);
            } else {
                page.put(from, to, fill);
            }
            at += to - from;
        }
    }

    /// Returns the next run of used blocks at or after `from`: its first block and its length.
    pub fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let start = self.find(from, 0);
        (start < self.blocks).then(|| (start, self.find(start, u64::MAX) - start))
    }

    /// Returns the first block from `from` on whose bit, inverted if `flip` is all ones, is set; else the end.
    fn find(&self, from: u64, flip: u64) -> u64 {
        let mut within = from % PAGE;
        for (number, page) in self.pages.iter().enumerate().skip((from / PAGE) as usize) {
            if let Some(found) = page.find(within, flip) {
                return (number as u64 * PAGE + found).min(self.blocks);
            }
            within = 0;
        }
        self.blocks
    }
}

/// A map whose bytes arrive in parts: it takes memory for what has arrived, whatever its length is said to be.
#[derive(Default)]
pub struct Growing {
    map: Bitmap,
    /// Bytes of an incomplete page.
    part: Vec<u8>,
    /// Bits of an incomplete byte, and their number.
    bits: (u8, u32),
    mixed: usize,
}

impl Growing {
    /// Begins a map of `blocks` blocks.
    pub fn new(blocks: u64) -> Growing {
        Growing { map: Bitmap { pages: Vec::new(), blocks }, ..Growing::default() }
    }

    /// Adds bytes whose lowest bits are the next blocks; the caller bounds them.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_BYTES - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() == PAGE_BYTES {
                self.close();
            }
        }
    }

    /// Adds bytes of which each stands for a block, which is used if the byte is 1; the caller bounds them.
    pub fn push_flags(&mut self, flags: &[u8]) {
        let mut bytes = Vec::with_capacity(flags.len() / 8 + 1);
        for flag in flags {
            self.bits.0 |= u8::from(*flag == 1) << self.bits.1;
            self.bits.1 += 1;
            if self.bits.1 == 8 {
                bytes.push(std::mem::take(&mut self.bits).0);
            }
        }
        self.push(&bytes);
    }

    /// Returns the memory of the pages whose blocks are neither all used nor all unused, bytes.
    pub fn mixed(&self) -> usize {
        self.mixed
    }

    fn close(&mut self) {
        let mut page = Page::from_bytes(&self.part);
        if let Page::Own(words) = &page {
            match self.map.pages.last_mut() {
                Some(last) if *last == page => {
                    if let Page::Own(_) = last {
                        *last = Page::Shared(Arc::new(**words));
                    }
                    page = last.clone();
                }
                _ => self.mixed += PAGE_BYTES,
            }
        }
        self.map.pages.push(page);
        self.part.clear();
    }

    /// Returns the map without the bits past its last block; `None` if bytes are missing.
    pub fn finish(mut self) -> Option<Bitmap> {
        if self.bits.1 > 0 {
            self.push(&[self.bits.0]);
        }
        if !self.part.is_empty() {
            self.close();
        }
        let (pages, over) = (self.map.blocks.div_ceil(PAGE), self.map.blocks % PAGE);
        if let (Some(last), 1..) = (self.map.pages.last_mut(), over) {
            last.put(over, PAGE, 0);
        }
        (self.map.pages.len() as u64 == pages).then_some(self.map)
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

    proptest! {
        #[test]
        fn bits_that_are_added_are_those_set_one_by_one(
            start in 0u64..20_000, bits in prop::collection::vec(any::<u8>(), 0..40), count in 0u64..400, before in 0u64..20_000,
        ) {
            let (mut map, mut other) = (Bitmap::new(20_000), Bitmap::new(20_000));
            map.set(before, 9_000);
            other.set(before, 9_000);
            let set = |at: &u64| bits.get((at / 8) as usize).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
            let ones: Vec<u64> = (0..count).filter(set).filter(|at| start + at < 20_000).collect();
            ones.iter().for_each(|at| other.set(start + at, 1));
            prop_assert_eq!(map.add(start, &bits, count), ones.len() as u64);
            prop_assert_eq!(map, other);
        }
    }

    #[test]
    fn bits_past_the_last_block_do_not_count() {
        let map = Bitmap::from_bytes(&[0xff, 0xff], 13).unwrap();
        assert_eq!(runs(&map), [(0, 13)]);
        assert_eq!(Bitmap::from_bytes(&[0xff], 13), None);
    }

    #[test]
    fn a_long_map_that_says_little_takes_little_memory() {
        let mut growing = Growing::new(u64::MAX);
        for part in [[0; PAGE_BYTES], [0xff; PAGE_BYTES], [0xaa; PAGE_BYTES]] {
            (0..100).for_each(|_| growing.push(&part));
        }
        assert_eq!((growing.mixed(), growing.map.pages.len()), (PAGE_BYTES, 300));
        assert_eq!(growing.finish(), None);
    }

    proptest! {
        #[test]
        fn a_map_and_its_bytes_and_its_runs_say_the_same(
            bits in proptest::collection::vec(any::<bool>(), 0..400),
            before in 0_u64..3 * PAGE,
        ) {
            let blocks = before + bits.len() as u64;
            let mut map = Bitmap::new(blocks);
            map.set(0, before);
            for (block, _) in (before..).zip(&bits).filter(|(_, used)| **used) {
                map.set(block, 1);
            }
            let mut bytes = Vec::new();
            map.bytes(|part| std::io::Write::write_all(&mut bytes, part)).unwrap();
            prop_assert_eq!(Bitmap::from_bytes(&bytes, blocks).unwrap(), map.clone());
            let mut flags = Growing::new(blocks);
            let bits: Vec<u8> = (0..blocks).map(|block| u8::from(map.get(block))).collect();
            bits.chunks(1021).for_each(|part| flags.push_flags(part));
            prop_assert_eq!(flags.finish().unwrap(), map.clone());
            let used = (0..blocks).filter(|block| map.get(*block)).count() as u64;
            prop_assert_eq!((map.used(), map.used_of(0, blocks)), (used, used));
            let mut again = Bitmap::new(blocks);
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
