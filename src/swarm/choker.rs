//! Whom to serve: unchoke slots, and turns among the unchoked.
//!
//! A slot is BEP 3's unchoke. A leecher gives its slots to the peers that give it most (tit-for-tat) and keeps
//! every fourth for the one that has waited longest (the optimistic one); a seeder serves in turn. A slot is
//! given up after one piece when somebody waits for it, and not amid a piece: half a piece helps nobody.
//!
//! Turns are ours alone and cost no message: of the unchoked peers only a few are sent to at the same time, each
//! one piece, so that a piece arrives soon and can be passed on, instead of all arriving late together. Every other
//! turn goes to who has least.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Action, Block, PeerKey, Swarm};

/// A peer whose connection takes nothing for this long loses its turn.
const STALLED: Duration = Duration::from_millis(500);
/// Most peers that are sent to at once.
const MOST_TURNS: usize = 32;
/// Turns at once while our own link is the limit: of three that wait two have one, so that there is somebody to
/// choose from, up to this many. With fewer, links idle whenever a few of their receivers are busy with others.
const BUSY_TURNS: usize = 10;
/// Fewest and most unchoke slots when they follow the rate.
const SLOTS: (usize, usize) = (6, 64);
/// A slot's peer gets a piece in this time, seconds.
const PIECE_TIME: f64 = 1.0;
/// How often the number of turns is reviewed, and how many reviews pass between two trials.
const REVIEW: Duration = Duration::from_secs(1);
const PAUSE: u32 = 6;

/// A peer that is being sent to.
#[derive(Clone, Copy, Debug)]
struct Turn {
    key: PeerKey,
    /// Bytes still to send in this turn.
    left: u64,
    /// When it last asked for something to send.
    moved: Duration,
}

/// What the number of turns is compared with at the next review.
#[derive(Clone, Copy, Debug)]
enum Trial {
    /// Nothing for that many reviews.
    None(u32),
    /// That many turns more, or fewer, than when bytes went out at that rate.
    More(usize, f64),
    Fewer(usize, f64),
}

/// State of the choker.
#[derive(Debug)]
pub struct Choker {
    turns: Vec<Turn>,
    line: VecDeque<PeerKey>,
    /// Turns at once, and the fewest.
    width: usize,
    least: usize,
    trial: Trial,
    /// Bytes sent since the last review.
    sent: u64,
    reviewed: Duration,
    /// Slots given, to keep every fourth for the optimistic one.
    given: u64,
    /// Turns given, of which every other goes to who has least.
    begun: u64,
}

impl Choker {
    /// Begins with `width` turns at once, and never has fewer.
    pub fn new(width: usize) -> Choker {
        let width = width.clamp(1, MOST_TURNS);
        Choker {
            turns: Vec::new(),
            line: VecDeque::new(),
            width,
            least: width,
            trial: Trial::None(0),
            sent: 0,
            reviewed: Duration::ZERO,
            given: 0,
            begun: 0,
        }
    }

    /// The peer is gone or choked.
    pub fn forget(&mut self, key: PeerKey) {
        self.turns.retain(|turn| turn.key != key);
        self.line.retain(|waiting| *waiting != key);
    }

    /// Tries more and fewer turns at once: more stay where they send more, that is where the receivers are the
    /// limit, and fewer where they send as much, that is where our own link is.
    fn review(&mut self, now: Duration) {
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
        let least = self.least();
        self.width = self.width.max(least);
        // A quarter of what the step would change if the receivers alone were the limit.
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

    /// Fewest turns at once, with as many peers that want one.
    fn least(&self) -> usize {
        self.least.max(((self.turns.len() + self.line.len()) * 2 / 3).min(BUSY_TURNS))
    }
}

impl Swarm {
    /// What to send the peer now; none when it is not its turn or nothing is asked for. Called by whoever sends
    /// to the peer, again after each block.
    pub fn next_upload(&mut self, now: Duration, key: PeerKey) -> Option<Block> {
        let at = self.find(key)?;
        let turn = self.choker.turns.iter().position(|turn| turn.key == key)?;
        let peer = &mut self.peers[at].1;
        let Some(block) = peer.uploads.pop_front() else {
            self.choker.turns.swap_remove(turn);
            self.begin_turns(now);
            return None;
        };
        let length = u64::from(block.length);
        peer.up.add(now, length);
        peer.served += length;
        peer.sending = Some(block.piece);
        self.up.add(now, length);
        self.totals.uploaded += length;
        self.choker.sent += length;
        let current = &mut self.choker.turns[turn];
        current.moved = now;
        current.left = current.left.saturating_sub(length);
        if current.left == 0 {
            self.choker.turns.swap_remove(turn);
            if !self.peers[at].1.uploads.is_empty() {
                self.choker.line.push_back(key);
            }
            self.rechoke(now);
            self.begin_turns(now);
        }
        Some(block)
    }

    /// The peer asked for something: it gets in line.
    pub(super) fn schedule(&mut self, now: Duration, key: PeerKey) {
        let choker = &mut self.choker;
        if choker.turns.iter().any(|turn| turn.key == key) {
            self.tell(key, Action::Wake);
        } else if !choker.line.contains(&key) {
            choker.line.push_back(key);
            self.begin_turns(now);
        }
    }

    fn begin_turns(&mut self, now: Duration) {
        let width = self.choker.width.max(self.choker.least());
        while self.choker.turns.len() < width {
            let Some(key) = self.next_in_line() else { break };
            let left = u64::from(self.geometry.piece_length());
            self.choker.turns.push(Turn { key, left, moved: now });
            self.tell(key, Action::Wake);
        }
    }

    /// Every other turn goes to who has least, the others to who waits longest: peers that are badly connected
    /// keep up with the others, and slow ones, who always have least, cannot hold all turns.
    fn next_in_line(&mut self) -> Option<PeerKey> {
        let choker = &mut self.choker;
        choker.begun += 1;
        if choker.begun.is_multiple_of(2) {
            return choker.line.pop_front();
        }
        let pieces = |key: &PeerKey| {
            let at = self.peers.binary_search_by_key(key, |(key, _)| *key).ok()?;
            Some(self.peers[at].1.have.count())
        };
        let (at, _) = choker.line.iter().enumerate().min_by_key(|(_, key)| pieces(key))?;
        choker.line.remove(at)
    }

    /// Takes turns from peers that take nothing, and reviews how many there are.
    pub(super) fn review_turns(&mut self, now: Duration) {
        while let Some(at) = self.choker.turns.iter().position(|turn| now.saturating_sub(turn.moved) > STALLED) {
            let key = self.choker.turns.swap_remove(at).key;
            // It gets another one when it has taken what it was given.
            if self.find(key).is_some_and(|at| !self.peers[at].1.uploads.is_empty()) {
                self.choker.line.push_back(key);
            }
            if self.choker.line.front() == Some(&key) {
                break;
            }
        }
        self.choker.review(now);
        self.begin_turns(now);
    }

    fn slots(&self, now: Duration) -> usize {
        self.config.slots.unwrap_or_else(|| {
            let pieces = self.up.per_second(now) * PIECE_TIME / f64::from(self.geometry.piece_length());
            (pieces as usize).clamp(SLOTS.0, SLOTS.1).max(self.choker.width + 2)
        })
    }

    /// Gives out slots: to all that are interested if there are enough, else by rank and in turn.
    pub(super) fn rechoke(&mut self, now: Duration) {
        let slots = if self.config.upload && !self.paused { self.slots(now) } else { 0 };
        for at in 0..self.peers.len() {
            if !self.peers[at].1.choked && !self.peers[at].1.interested {
                self.choke_peer(at);
            }
        }
        let mut taken = self.peers.iter().filter(|(_, peer)| !peer.choked).count();
        let waiting = self.peers.iter().filter(|(_, peer)| peer.choked && peer.interested).count();
        if waiting > 0 && taken + waiting > slots {
            let piece = u64::from(self.geometry.piece_length());
            let excess = (taken + waiting).saturating_sub(slots).min(waiting);
            let done =
                |peer: &super::Peer| !peer.choked && peer.served >= if peer.is_amid() { 2 * piece } else { piece };
            for _ in 0..excess {
                // Of those that had their piece, the one that gives us least makes room.
                let ranked = (0..self.peers.len()).filter(|&at| done(&self.peers[at].1));
                let Some(at) = ranked.min_by(|&a, &b| self.gives(now, a).total_cmp(&self.gives(now, b))) else { break };
                self.choke_peer(at);
                taken -= 1;
            }
        }
        while taken < slots {
            let waiting = (0..self.peers.len()).filter(|&at| {
                let peer = &self.peers[at].1;
                peer.choked && peer.interested
            });
            let optimistic = self.is_sated() || self.choker.given % 4 == 3;
            let next = if optimistic {
                waiting.min_by_key(|&at| self.peers[at].1.choked_since)
            } else {
                waiting.min_by(|&a, &b| {
                    let since = |at: usize| self.peers[at].1.choked_since;
                    self.gives(now, b).total_cmp(&self.gives(now, a)).then(since(a).cmp(&since(b)))
                })
            };
            let Some(at) = next else { break };
            self.choker.given += 1;
            let (key, peer) = &mut self.peers[at];
            peer.choked = false;
            peer.served = 0;
            let key = *key;
            self.tell(key, Action::Unchoke);
            taken += 1;
        }
    }

    /// Bytes a second that the peer gives us; who lacks nothing is given nothing and ranks all alike.
    fn gives(&self, now: Duration, at: usize) -> f64 {
        if self.is_sated() { 0.0 } else { self.peers[at].1.down.per_second(now) }
    }

    pub(super) fn choke_peer(&mut self, at: usize) {
        self.clock += 1;
        let (key, peer) = &mut self.peers[at];
        let key = *key;
        peer.choked = true;
        peer.choked_since = self.clock;
        let fast = peer.traits.fast;
        let queued = std::mem::take(&mut peer.uploads);
        let begun = peer.sending;
        self.choker.forget(key);
        // What it got a part of it comes back for.
        self.spread.take_back(key, |piece| Some(piece) != begun);
        self.tell(key, Action::Choke);
        if fast {
            queued.into_iter().for_each(|block| self.tell(key, Action::Reject(block)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns at once after each of a hundred reviews, where so many turns send at such a rate.
    fn widths(rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut choker = Choker::new(4);
        choker.line.extend((0..40).map(PeerKey));
        let review = |second: u32| {
            choker.sent = rate(choker.width);
            choker.review(REVIEW * second);
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
            choker.review(REVIEW * second);
        });
        assert!(choker.width < BUSY_TURNS + 4, "{}", choker.width);
    }
}
