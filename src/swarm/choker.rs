//! Whom to serve: unchoke slots, and turns among the unchoked.
//!
//! A slot is BEP 3's unchoke. A leecher gives its slots to the peers that give it most (tit-for-tat) and keeps
//! every fourth for the one that has waited longest (the optimistic one); a seeder serves in turn. A slot is
//! given up after one piece when somebody waits for it.
//!
//! Turns are ours alone and cost no message: of the unchoked peers only a few are sent to at the same time, each
//! one piece, so that a piece arrives soon and can be passed on, instead of all arriving late together.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Action, Block, PeerKey, Swarm};

/// A peer whose connection takes nothing for this long loses its turn.
const STALLED: Duration = Duration::from_millis(500);
/// Fewest and most peers that are sent to at once.
const TURNS: (usize, usize) = (2, 32);
/// Fewest and most unchoke slots when they follow the rate.
const SLOTS: (usize, usize) = (6, 64);
/// A slot's peer gets a piece in this time, seconds.
const PIECE_TIME: f64 = 1.0;
/// How often the number of turns is reviewed.
const REVIEW: Duration = Duration::from_millis(500);
/// A turn that keeps this share of the best turn's speed leaves room for another one beside it.
const KEEPS_SPEED: f64 = 0.7;

/// A peer that is being sent to.
#[derive(Clone, Copy, Debug)]
struct Turn {
    key: PeerKey,
    /// Bytes still to send in this turn.
    left: u64,
    /// When it last asked for something to send.
    moved: Duration,
    began: Duration,
    sent: u64,
}

/// State of the choker.
#[derive(Debug)]
pub struct Choker {
    turns: Vec<Turn>,
    line: VecDeque<PeerKey>,
    /// Turns at once.
    width: usize,
    /// Bytes a second that a turn got lately, and the best ever so.
    speed: f64,
    best: f64,
    reviewed: Duration,
    /// Slots given, to keep every fourth for the optimistic one.
    given: u64,
}

impl Choker {
    /// Begins with `width` turns at once.
    pub fn new(width: usize) -> Choker {
        Choker {
            turns: Vec::new(),
            line: VecDeque::new(),
            width: width.clamp(TURNS.0, TURNS.1),
            speed: 0.0,
            best: 0.0,
            reviewed: Duration::ZERO,
            given: 0,
        }
    }

    /// The peer is gone or choked.
    pub fn forget(&mut self, key: PeerKey) {
        self.turns.retain(|turn| turn.key != key);
        self.line.retain(|waiting| *waiting != key);
    }

    fn end_turn(&mut self, now: Duration, at: usize) -> Turn {
        let turn = self.turns.swap_remove(at);
        let seconds = now.saturating_sub(turn.began).as_secs_f64();
        if turn.left == 0 && seconds > 0.001 {
            let speed = turn.sent as f64 / seconds;
            self.speed = if self.speed == 0.0 { speed } else { self.speed * 0.8 + speed * 0.2 };
            self.best = (self.best * 0.98).max(self.speed);
        }
        turn
    }

    /// As many turns at once as keep their speed: more where the receivers are the limit, fewer where we are.
    fn review(&mut self, now: Duration) {
        if now.saturating_sub(self.reviewed) < REVIEW || self.speed == 0.0 {
            return;
        }
        self.reviewed = now;
        if self.line.is_empty() {
            return;
        }
        if self.speed >= self.best * KEEPS_SPEED {
            self.width = (self.width + 1).min(TURNS.1);
        } else if self.width > TURNS.0 {
            self.width -= 1;
        }
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
            self.choker.end_turn(now, turn);
            self.begin_turns(now);
            return None;
        };
        let length = u64::from(block.length);
        peer.up.add(now, length);
        peer.served += length;
        self.up.add(now, length);
        self.totals.uploaded += length;
        let current = &mut self.choker.turns[turn];
        current.moved = now;
        current.sent += length;
        current.left = current.left.saturating_sub(length);
        if current.left == 0 {
            self.choker.end_turn(now, turn);
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
        while self.choker.turns.len() < self.choker.width {
            let Some(key) = self.choker.line.pop_front() else { break };
            let left = u64::from(self.geometry.piece_length());
            self.choker.turns.push(Turn { key, left, moved: now, began: now, sent: 0 });
            self.tell(key, Action::Wake);
        }
    }

    /// Takes turns from peers that take nothing, and reviews how many there are.
    pub(super) fn review_turns(&mut self, now: Duration) {
        while let Some(at) = self.choker.turns.iter().position(|turn| now.saturating_sub(turn.moved) > STALLED) {
            let key = self.choker.end_turn(now, at).key;
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
        let slots = if self.config.upload { self.slots(now) } else { 0 };
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
            let done = |peer: &super::Peer| !peer.choked && peer.served >= piece;
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
            let optimistic = self.have.is_full() || self.choker.given % 4 == 3;
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

    /// Bytes a second that the peer gives us; a seeder is given nothing and ranks all alike.
    fn gives(&self, now: Duration, at: usize) -> f64 {
        if self.have.is_full() { 0.0 } else { self.peers[at].1.down.per_second(now) }
    }

    fn choke_peer(&mut self, at: usize) {
        self.clock += 1;
        let (key, peer) = &mut self.peers[at];
        let key = *key;
        peer.choked = true;
        peer.choked_since = self.clock;
        let fast = peer.traits.fast;
        let queued = std::mem::take(&mut peer.uploads);
        self.choker.forget(key);
        self.tell(key, Action::Choke);
        if fast {
            queued.into_iter().for_each(|block| self.tell(key, Action::Reject(block)));
        }
    }
}
