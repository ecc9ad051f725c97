//! The pages that were rendered last. A thread of its own renders them, each at most once a second; the workers hand out what
//! is there, and never wait: a request whose page is too old stays in its connection until there is a new one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::base::sync::{lock, unpoisoned};
use crate::torrent::InfoHash;

/// Time for which a page is handed out as it is.
pub const FRESH: Duration = Duration::from_secs(1);
/// Time after which a page that nobody asks for is forgotten.
const FORGET: Duration = Duration::from_secs(10);
/// Most pages kept, by their keys.
const MOST: usize = 64;
/// Most bytes of pages kept, besides the newest page.
const MOST_BYTES: usize = 64 << 20;

/// The kind of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The page for people, in the language of this code.
    People(&'static str),
    /// `/status.json`.
    Json,
    /// `/metrics`.
    Metrics,
}

/// What decides a page's content, besides the swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// The torrents that are expanded.
    pub open: Vec<InfoHash>,
}

/// A page's bytes; `None` if rendering it has failed.
pub type Rendered = Option<Arc<Vec<u8>>>;

#[derive(Debug)]
struct Kept {
    key: Key,
    page: Option<(Instant, Rendered)>,
    /// Time since when somebody waits for it to be rendered anew.
    wanted: Option<Instant>,
}

/// The pages that were rendered last, and those that are wanted.
#[derive(Debug, Default)]
pub struct Pages {
    kept: Mutex<Vec<Kept>>,
    wanted: Condvar,
    rendered: AtomicU32,
}

impl Pages {
    /// The number of pages rendered so far.
    pub fn rendered(&self) -> u32 {
        self.rendered.load(Ordering::Acquire)
    }

    /// Whether a request for a page has to wait at `now`, because that is to be rendered first; this is arranged. Not if
    /// too many others are wanted, in which case [`last`](Self::last) has none.
    pub fn waits(&self, key: &Key, now: Instant) -> bool {
        let mut kept = lock(&self.kept);
        let at = kept.iter().position(|one| one.key == *key).or_else(|| {
            if kept.len() >= MOST {
                let old = kept.iter().enumerate().filter(|(_, one)| one.wanted.is_none());
                let (oldest, _) = old.min_by_key(|(_, one)| one.page.as_ref().map(|(time, _)| *time))?;
                kept.swap_remove(oldest);
            }
            kept.push(Kept { key: key.clone(), page: None, wanted: None });
            Some(kept.len() - 1)
        });
        let Some(one) = at.map(|at| &mut kept[at]) else { return false };
        if one.page.as_ref().is_some_and(|(time, _)| now.saturating_duration_since(*time) < FRESH) {
            return false;
        }
        one.wanted.get_or_insert(now);
        self.wanted.notify_one();
        true
    }

    /// The page as it was rendered last.
    pub fn last(&self, key: &Key) -> Option<Rendered> {
        let kept = lock(&self.kept);
        let (_, page) = kept.iter().find(|one| one.key == *key)?.page.as_ref()?;
        Some(page.clone())
    }

    /// The page that has been wanted for the longest time; waits for one, at most `patience`.
    pub fn next(&self, patience: Duration) -> Option<Key> {
        let mut kept = lock(&self.kept);
        if kept.iter().all(|one| one.wanted.is_none()) {
            let now = Instant::now();
            kept.retain(|one| one.page.as_ref().is_some_and(|(time, _)| now.saturating_duration_since(*time) < FORGET));
            kept = unpoisoned(self.wanted.wait_timeout(kept, patience)).0;
        }
        let wanted = kept.iter().filter(|one| one.wanted.is_some());
        wanted.min_by_key(|one| one.wanted).map(|one| one.key.clone())
    }

    /// Keeps a page that was rendered at `now`.
    pub fn keep(&self, key: &Key, page: Rendered, now: Instant) {
        let mut kept = lock(&self.kept);
        if let Some(one) = kept.iter_mut().find(|one| one.key == *key) {
            (one.page, one.wanted) = (Some((now, page)), None);
        }
        let bytes = |one: &Kept| one.page.as_ref().and_then(|(_, page)| Some(page.as_ref()?.len())).unwrap_or(0);
        while kept.iter().map(bytes).sum::<usize>() > MOST_BYTES {
            let others = kept.iter_mut().filter(|one| one.key != *key && bytes(one) > 0);
            let Some(oldest) = others.min_by_key(|one| one.page.as_ref().map(|(time, _)| *time)) else { break };
            oldest.page = None;
        }
        self.rendered.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key { kind: Kind::Json, open: vec![InfoHash([n; 20])] }
    }

    #[test]
    fn a_page_is_rendered_once_a_second_however_many_read_it() {
        let (pages, begin) = (Pages::default(), Instant::now());
        let mut served = 0;
        for ms in 0..10_000 {
            let now = begin + Duration::from_millis(ms);
            let waiting = (0..16).filter(|_| pages.waits(&key(1), now)).count();
            served += (16 - waiting) as u64;
            if let Some(wanted) = (waiting > 0).then(|| pages.next(Duration::ZERO)).flatten() {
                pages.keep(&wanted, Some(Arc::new(ms.to_string().into_bytes())), now);
            }
            let last = pages.last(&key(1)).unwrap().unwrap();
            assert_eq!(*last, (ms / 1000 * 1000).to_string().into_bytes());
        }
        assert_eq!((pages.rendered(), served), (10, 16 * 9_990));
    }

    #[test]
    fn pages_that_are_asked_for_in_ever_new_ways_take_bounded_memory() {
        let (pages, now) = (Pages::default(), Instant::now());
        let many = (0..=255).filter(|n| pages.waits(&key(*n), now)).count();
        assert_eq!(many, MOST, "further ones are refused");
        let first = pages.next(Duration::ZERO).unwrap();
        pages.keep(&first, Some(Arc::new(vec![0; MOST_BYTES + 1])), now);
        assert!(pages.last(&first).is_some_and(|page| page.is_some()), "the newest is kept however long");
        let second = pages.next(Duration::ZERO).unwrap();
        pages.keep(&second, Some(Arc::new(vec![0; 1])), now);
        assert!(pages.last(&first).is_none() && pages.last(&second).is_some());
    }
}
