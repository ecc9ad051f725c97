//! Turns: the number of peers that are sent to at the same time, and the line of those that wait.
//!
//! Turns are local and cost no message: only a few of the unchoked peers are sent to at the same time, each one
//! piece, so that a piece arrives soon and can be passed on, instead of all arriving late together.

use std::collections::VecDeque;
use std::time::Duration;

use super::types::PeerKey;

/// Maximum number of peers that are sent to at once.
const MOST_TURNS: usize = 32;
/// Turns at once while our own link is the limit: two for every three peers that wait, so that there are some to
/// choose from, up to this many. With fewer, links idle whenever a few of their receivers are busy with others.
const BUSY_TURNS: usize = 10;
/// How often the number of turns is reviewed, and how many reviews pass between two trials.
const REVIEW: Duration = Duration::from_secs(1);
const PAUSE: u32 = 6;

/// A peer that is being sent to.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub key: PeerKey,
    /// Bytes left to send in this turn.
    pub left: u64,
    /// Time at which the peer last asked for something to send.
    pub moved: Duration,
}

/// The change that the next review judges.
#[derive(Clone, Copy, Debug)]
enum Trial {
    /// No change for that many reviews.
    None(u32),
    /// That many turns more or fewer than when bytes went out at the given rate.
    More(usize, f64),
    Fewer(usize, f64),
}

/// State of the choker.
#[derive(Debug)]
pub struct Choker {
    pub turns: Vec<Turn>,
    pub line: VecDeque<PeerKey>,
    /// Number of the next place in line.
    pub places: u64,
    /// Whether an address wanted more than one turn beside others at the last count.
    pub shared: bool,
    /// Turns at once, and their minimum.
    pub width: usize,
    least: usize,
    trial: Trial,
    /// Bytes sent since the last review.
    pub sent: u64,
    reviewed: Duration,
    /// Slots given so far; every fourth is the optimistic one.
    pub given: u64,
    /// Turns given so far; every other goes to the peer that has least.
    pub begun: u64,
}

impl Choker {
    /// Creates a choker with `width` turns at once, which is also the minimum.
    pub fn new(width: usize) -> Choker {
        let width = width.clamp(1, MOST_TURNS);
        Choker {
            turns: Vec::new(),
            line: VecDeque::new(),
            places: 0,
            shared: false,
            width,
            least: width,
            trial: Trial::None(0),
            sent: 0,
            reviewed: Duration::ZERO,
            given: 0,
            begun: 0,
        }
    }

    /// Forgets a peer that is gone or choked.
    pub fn forget(&mut self, key: PeerKey) {
        self.turns.retain(|turn| turn.key != key);
        self.line.retain(|waiting| *waiting != key);
    }

    /// Tries more and fewer turns at once: more stay where they send more, which shows that the receivers are the
    /// limit; fewer stay where they send as much, which shows that our own link is. `rivals` is as for
    /// [`least`](Self::least).
    pub fn review(&mut self, now: Duration, rivals: usize) {
        let time = now.saturating_sub(self.reviewed);
        if time < REVIEW {
            return;
        }
        let rate = self.sent as f64 / time.as_secs_f64();
        (self.reviewed, self.sent) = (now, 0);
        if self.line.is_empty() {
            self.trial = Trial::None(0);
            return;
        }
        let least = self.least(rivals);
        self.width = self.width.max(least);
        // A quarter of the change that the step would make if the receivers alone were the limit.
        let share = |step: usize, width: usize| 0.25 * step as f64 / width as f64;
        let step = (self.width / 4).max(1);
        self.trial = match self.trial {
            Trial::More(step, before) if rate < before * (1.0 + share(step, self.width - step)) => {
                self.width = (self.width - step).max(least);
                Trial::None(PAUSE)
            }
            Trial::Fewer(step, before) if rate < before * (1.0 - share(step, self.width + step)) => {
                self.width += step;
                Trial::None(PAUSE)
            }
            Trial::None(0) | Trial::More(..) if self.width < MOST_TURNS => {
                let step = step.min(MOST_TURNS - self.width);
                self.width += step;
                Trial::More(step, rate)
            }
            Trial::None(1) | Trial::Fewer(..) if self.width > least => {
                let step = step.min(self.width - least);
                self.width -= step;
                Trial::Fewer(step, rate)
            }
            Trial::None(left @ 1..) => Trial::None(left - 1),
            _ => Trial::None(PAUSE),
        };
    }

    /// Notes whether an address wants more than one turn beside others: turns that were added before say nothing of
    /// whether it may have more.
    pub fn share(&mut self, shared: bool, least: usize) {
        if shared && !self.shared {
            (self.width, self.trial) = (least, Trial::None(PAUSE));
        }
        self.shared = shared;
    }

    /// The minimum of turns at once if peers of `rivals` addresses want one.
    pub fn least(&self, rivals: usize) -> usize {
        self.least.max((rivals * 2 / 3).min(BUSY_TURNS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns at once after each of a hundred reviews, where `rate` gives the bytes a second of that many turns.
    fn widths(rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut choker = Choker::new(4);
        choker.line.extend((0..40).map(PeerKey));
        let review = |second: u32| {
            choker.sent = rate(choker.width);
            choker.review(REVIEW * second, 40);
            choker.width
        };
        (1..100).map(review).collect()
    }

    #[test]
    fn turns_become_more_where_the_receivers_are_the_limit() {
        assert_eq!(widths(|width| width as u64 * 1_000_000).last(), Some(&MOST_TURNS));
    }

    #[test]
    fn turns_stay_few_where_our_own_link_is_the_limit() {
        let widths = widths(|_| 100_000_000);
        assert!(widths.iter().all(|width| (BUSY_TURNS..BUSY_TURNS + 4).contains(width)), "{widths:?}");
    }

    #[test]
    fn turns_become_fewer_again_when_the_receivers_are_no_longer_the_limit() {
        let mut choker = Choker { width: MOST_TURNS, ..Choker::new(4) };
        choker.line.extend((0..40).map(PeerKey));
        (1..200).for_each(|second| {
            choker.sent = 100_000_000;
            choker.review(REVIEW * second, 40);
        });
        assert!(choker.width < BUSY_TURNS + 4, "{}", choker.width);
    }
}
