//! Deciding which torrents of a repository are seeded. Pure: takes scans of the directory and the outcome of earlier
//! steps, returns the next steps.

use std::path::{Path, PathBuf};

use super::look::{Image, Sight};
use crate::base::stamp::Stamp;
use crate::engine::beside;
use crate::torrent::InfoHash;

/// The state of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its data is locked.
    Held,
    /// It is being opened and, unless already verified, hashed.
    Checking,
    /// It is seeded.
    Seeding(InfoHash),
    /// Another torrent file has the same info-hash.
    Duplicate(InfoHash),
    /// It cannot be seeded in its present form.
    Refused,
}

/// A step to be taken by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stop seeding this torrent.
    Drop(PathBuf),
    /// Try to open this torrent for seeding, then call [`Catalogue::seed`] or [`Catalogue::refuse`].
    Open(Sight),
}

/// Files that an image lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Its checksums.
    Sums,
    /// A torrent that describes it, and its checksums.
    Everything,
}

/// The decision about a torrent that can be seeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is to be seeded.
    Seed,
    /// It has changed since it was seen.
    Stale,
    /// This torrent file with the same info-hash came first.
    Duplicate(PathBuf),
}

/// All torrents of the repository.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Sorted by the bytes of the paths.
    entries: Vec<(Sight, State)>,
    /// Images for which no torrent could be made, with their stamps.
    given_up: Vec<(PathBuf, Stamp)>,
}

impl Catalogue {
    /// Takes a scan, sorted by path, and returns the steps: drops first, then opens. Nothing changes for paths that are
    /// `unknown` because their directory could not be read.
    pub fn look(&mut self, seen: Vec<Sight>, unknown: &dyn Fn(&Path) -> bool) -> Vec<Step> {
        let stays = |sight: &Sight| match seen.binary_search_by(|one| order(&one.path, &sight.path)) {
            Ok(at) => seen[at] == *sight,
            Err(_) => unknown(&sight.path),
        };
        let old = std::mem::take(&mut self.entries);
        let (kept, gone): (Vec<_>, Vec<_>) = old.into_iter().partition(|(sight, _)| stays(sight));
        let seeding = gone.into_iter().filter(|(_, state)| matches!(state, State::Seeding(_)));
        let mut steps: Vec<Step> = seeding.map(|(sight, _)| Step::Drop(sight.path)).collect();
        let seeded = |hash: InfoHash| kept.iter().any(|(_, state)| *state == State::Seeding(hash));
        let mut entries = Vec::with_capacity(seen.len());
        let mut open = Vec::new();
        let mut known = kept.iter().peekable();
        for sight in seen {
            while let Some(before) = known.next_if(|(one, _)| order(&one.path, &sight.path).is_lt()) {
                entries.push(before.clone());
            }
            let state = match known.next_if(|(one, _)| one.path == sight.path) {
                // The torrent that it duplicates has gone.
                Some((_, State::Duplicate(hash))) if !seeded(*hash) => None,
                Some((_, state)) => Some(*state),
                None if sight.locked => Some(State::Held),
                None => None,
            };
            if state.is_none() {
                open.push(Step::Open(sight.clone()));
            }
            entries.push((sight, state.unwrap_or(State::Checking)));
        }
        entries.extend(known.cloned());
        self.entries = entries;
        steps.extend(open);
        steps
    }

    /// Decides whether `sight`, which can be seeded under `hash`, is to be.
    pub fn seed(&mut self, sight: &Sight, hash: InfoHash) -> Admission {
        let first = self.entries.iter().find(|(_, state)| *state == State::Seeding(hash));
        let first = first.map(|(sight, _)| sight.path.clone());
        let Some(state) = self.checking(sight) else { return Admission::Stale };
        match first {
            None => {
                *state = State::Seeding(hash);
                Admission::Seed
            }
            Some(first) => {
                *state = State::Duplicate(hash);
                Admission::Duplicate(first)
            }
        }
    }

    /// Records that `sight` cannot be seeded; returns false if it has changed since, so that no message is needed.
    pub fn refuse(&mut self, sight: &Sight) -> bool {
        self.checking(sight).map(|state| *state = State::Refused).is_some()
    }

    fn checking(&mut self, sight: &Sight) -> Option<&mut State> {
        let at = self.find(&sight.path)?;
        let (known, state) = &mut self.entries[at];
        (known == sight && *state == State::Checking).then_some(state)
    }

    /// Forgets `path`, which failed while it was seeded, so that the next scan opens it again.
    pub fn forget(&mut self, path: &Path) {
        if let Some(at) = self.find(path) {
            self.entries.remove(at);
        }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        self.entries.binary_search_by(|(one, _)| order(&one.path, path)).ok()
    }

    /// All torrents and their states.
    pub fn states(&self) -> impl Iterator<Item = (&Path, State)> {
        self.entries.iter().map(|(sight, state)| (sight.path.as_path(), *state))
    }

    /// The first image that is `finished` and lacks files, and which.
    pub fn next_lack<'a>(&self, images: &'a [Image], finished: &dyn Fn(&Image) -> bool) -> Option<(&'a Image, Lack)> {
        let lacks = images.iter().filter(|image| image.settled).filter_map(|image| Some((image, self.lack(image)?)));
        lacks.into_iter().find(|(image, _)| finished(image))
    }

    /// Whether an image that lacks files may still be growing.
    pub fn waits(&self, images: &[Image]) -> bool {
        images.iter().any(|image| !image.settled && self.lack(image).is_some())
    }

    fn lack(&self, image: &Image) -> Option<Lack> {
        if image.locked || self.given_up.iter().any(|(path, stamp)| *path == image.path && *stamp == image.stamp) {
            return None;
        }
        let torrent = beside::with(&image.path, ".torrent");
        match self.find(&torrent).map(|at| self.entries[at].1) {
            None | Some(State::Refused) => Some(Lack::Everything),
            Some(State::Seeding(_)) if !image.sums => Some(Lack::Sums),
            _ => None,
        }
    }

    /// Records that the files `image` lacks cannot be made; not retried until it changes or [`Catalogue::try_again`].
    pub fn give_up(&mut self, image: &Image) {
        self.given_up.retain(|(path, _)| *path != image.path);
        self.given_up.push((image.path.clone(), image.stamp));
    }

    /// Allows what was given up to be tried again.
    pub fn try_again(&mut self) {
        self.given_up.clear();
    }
}

fn order(one: &Path, other: &Path) -> std::cmp::Ordering {
    one.as_os_str().cmp(other.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(name: &str, time: i64) -> Sight {
        let stamp = Stamp { inode: 1, size: 1, modified: (time, 0), changed: (time, 0) };
        Sight { path: name.into(), torrent: stamp, data: Some(stamp), locked: false }
    }

    fn hash(number: u8) -> InfoHash {
        InfoHash([number; 20])
    }

    fn see(catalogue: &mut Catalogue, seen: &[Sight]) -> Vec<Step> {
        catalogue.look(seen.to_vec(), &|_| false)
    }

    fn states(catalogue: &Catalogue) -> Vec<State> {
        catalogue.states().map(|(_, state)| state).collect()
    }

    fn image(name: &str, time: i64) -> Image {
        let stamp = Stamp { inode: 1, size: 1, modified: (time, 0), changed: (time, 0) };
        Image { path: name.into(), stamp, torrent: true, sums: true, locked: false, settled: true }
    }

    #[test]
    fn what_changes_is_dropped_before_anything_is_opened() {
        let (a, b, c) = (sight("a", 1), sight("b", 1), sight("c", 1));
        let mut catalogue = Catalogue::default();
        let steps = see(&mut catalogue, &[a.clone(), b.clone()]);
        assert_eq!(steps, [Step::Open(a.clone()), Step::Open(b.clone())]);
        assert_eq!(catalogue.seed(&a, hash(1)), Admission::Seed);
        assert_eq!(catalogue.seed(&b, hash(2)), Admission::Seed);
        assert_eq!(see(&mut catalogue, &[a.clone(), b.clone()]), []);
        let changed = sight("a", 2);
        let steps = see(&mut catalogue, &[changed.clone(), c.clone()]);
        let expected = [Step::Drop("a".into()), Step::Drop("b".into()), Step::Open(changed.clone()), Step::Open(c)];
        assert_eq!(steps, expected);
        assert_eq!(catalogue.seed(&a, hash(1)), Admission::Stale, "what was opened is no longer there");
        assert_eq!(catalogue.seed(&changed, hash(1)), Admission::Seed);
        assert_eq!(catalogue.seed(&changed, hash(1)), Admission::Stale, "once");
    }

    #[test]
    fn a_lock_holds_a_torrent_back_and_drops_one_that_is_seeded() {
        let free = sight("a", 1);
        let locked = Sight { locked: true, ..free.clone() };
        let mut catalogue = Catalogue::default();
        assert_eq!(see(&mut catalogue, std::slice::from_ref(&locked)), []);
        assert_eq!(states(&catalogue), [State::Held]);
        assert_eq!(see(&mut catalogue, std::slice::from_ref(&free)), [Step::Open(free.clone())]);
        assert_eq!(catalogue.seed(&free, hash(1)), Admission::Seed);
        assert_eq!(see(&mut catalogue, std::slice::from_ref(&locked)), [Step::Drop("a".into())]);
    }

    #[test]
    fn a_duplicate_takes_the_place_of_the_first_when_that_goes() {
        let (a, b) = (sight("a", 1), sight("b", 1));
        let mut catalogue = Catalogue::default();
        see(&mut catalogue, &[a.clone(), b.clone()]);
        assert_eq!(catalogue.seed(&a, hash(1)), Admission::Seed);
        assert_eq!(catalogue.seed(&b, hash(1)), Admission::Duplicate("a".into()));
        assert_eq!(see(&mut catalogue, &[a, b.clone()]), []);
        assert_eq!(see(&mut catalogue, std::slice::from_ref(&b)), [Step::Drop("a".into()), Step::Open(b.clone())]);
        assert_eq!(catalogue.seed(&b, hash(1)), Admission::Seed);
    }

    #[test]
    fn what_is_refused_is_opened_again_when_it_changes() {
        let a = sight("a", 1);
        let mut catalogue = Catalogue::default();
        see(&mut catalogue, std::slice::from_ref(&a));
        assert!(catalogue.refuse(&a) && !catalogue.refuse(&a));
        assert_eq!(see(&mut catalogue, std::slice::from_ref(&a)), []);
        assert_eq!(see(&mut catalogue, &[sight("a", 2)]), [Step::Open(sight("a", 2))]);
    }

    #[test]
    fn a_directory_that_cannot_be_read_changes_nothing() {
        let (a, b, c) = (sight("away/a", 1), sight("b", 1), sight("zaway/c", 1));
        let mut catalogue = Catalogue::default();
        see(&mut catalogue, &[a.clone(), b.clone(), c.clone()]);
        for (sight, number) in [(&a, 1), (&b, 2), (&c, 3)] {
            assert_eq!(catalogue.seed(sight, hash(number)), Admission::Seed);
        }
        let away = |path: &Path| path.starts_with("away") || path.starts_with("zaway");
        assert_eq!(catalogue.look(vec![b.clone()], &away), []);
        assert_eq!(states(&catalogue).len(), 3);
        assert_eq!(see(&mut catalogue, &[a, b, c]), []);
    }

    #[test]
    fn what_failed_is_opened_again_though_it_looks_the_same() {
        let a = sight("a", 1);
        let mut catalogue = Catalogue::default();
        see(&mut catalogue, std::slice::from_ref(&a));
        catalogue.seed(&a, hash(1));
        catalogue.forget(Path::new("a"));
        assert_eq!(see(&mut catalogue, std::slice::from_ref(&a)), [Step::Open(a)]);
    }

    #[test]
    fn an_image_lacks_a_torrent_that_describes_it_or_its_checksums() {
        let (mut catalogue, seen) =
            (Catalogue::default(), ["a", "b", "c"].map(|name| sight(&format!("{name}.torrent"), 1)));
        see(&mut catalogue, &seen);
        let lacks = |catalogue: &Catalogue, image: &Image| {
            catalogue.next_lack(std::slice::from_ref(image), &|_| true).map(|(_, lack)| lack)
        };
        assert_eq!(lacks(&catalogue, &image("new", 1)), Some(Lack::Everything));
        assert_eq!(lacks(&catalogue, &image("a", 1)), None, "nobody knows yet");
        catalogue.seed(&seen[0], hash(1));
        catalogue.refuse(&seen[1]);
        assert_eq!(lacks(&catalogue, &image("a", 1)), None);
        assert_eq!(lacks(&catalogue, &Image { sums: false, ..image("a", 1) }), Some(Lack::Sums));
        assert_eq!(lacks(&catalogue, &image("b", 1)), Some(Lack::Everything));
        assert_eq!(lacks(&catalogue, &Image { locked: true, ..image("b", 1) }), None);
        let fresh = Image { settled: false, ..image("b", 1) };
        assert_eq!((lacks(&catalogue, &fresh), catalogue.waits(&[fresh])), (None, true));
        catalogue.give_up(&image("b", 1));
        assert_eq!(lacks(&catalogue, &image("b", 1)), None);
        assert_eq!(lacks(&catalogue, &image("b", 2)), Some(Lack::Everything), "it is another one now");
        catalogue.try_again();
        assert_eq!(lacks(&catalogue, &image("b", 1)), Some(Lack::Everything));
    }
}
