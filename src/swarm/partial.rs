//! A piece that is being fetched: which of its blocks were requested, from whom, and which arrived.

use super::PeerKey;
use crate::torrent::{BLOCK, Geometry};

/// State of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requested from that many peers and not here yet; 0: free to be requested.
    Asked(u8),
    /// Received, being written by the peer that gave it.
    Writing,
    /// Written.
    Done,
}

/// The blocks of a piece that is being fetched.
#[derive(Debug)]
pub struct Partial {
    /// The piece.
    pub piece: u32,
    /// Peers that are now asked for its blocks in order.
    pub workers: u32,
    /// Whether it is being verified: nothing may be written any more.
    pub verifying: bool,
    states: Vec<State>,
    givers: Vec<PeerKey>,
    free: u32,
    missing: u32,
}

impl Partial {
    /// Starts on `piece` with no block of it here.
    pub fn new(geometry: &Geometry, piece: u32) -> Partial {
        let mut partial = Partial {
            piece,
            workers: 0,
            verifying: false,
            states: Vec::new(),
            givers: Vec::new(),
            free: 0,
            missing: 0,
        };
        partial.restart(geometry, piece);
        partial
    }

    /// Starts on `piece`, reusing the memory of a finished one.
    pub fn restart(&mut self, geometry: &Geometry, piece: u32) {
        let blocks = geometry.blocks(piece);
        self.piece = piece;
        self.workers = 0;
        self.verifying = false;
        self.states.clear();
        self.states.resize(blocks as usize, State::Asked(0));
        self.givers.clear();
        self.givers.resize(blocks as usize, PeerKey::NOBODY);
        self.free = blocks;
        self.missing = blocks;
    }

    /// Number of blocks that nobody was asked for.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// Whether all blocks are written.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Whether no block is here or requested.
    pub fn is_untouched(&self) -> bool {
        self.free == self.states.len() as u32
    }

    /// The giver of each block.
    pub fn givers(&self) -> &[PeerKey] {
        &self.givers
    }

    /// Takes the first run of at most `most` free blocks; returns its first block and its length, at least 1, or
    /// `None` if no block is free.
    pub fn take_free(&mut self, most: u32) -> Option<(u32, u32)> {
        if self.free == 0 {
            return None;
        }
        let first = self.states.iter().position(|&state| state == State::Asked(0))?;
        let run = self.states[first..].iter().take(most.max(1) as usize);
        let run = run.take_while(|&&state| state == State::Asked(0)).count();
        self.states[first..first + run].fill(State::Asked(1));
        self.free -= run as u32;
        Some((first as u32, run as u32))
    }

    /// Takes one block that fewer than `askers` peers were asked for and that `mine` does not hold: the endgame.
    pub fn take_again(&mut self, askers: u8, mine: impl Fn(u32) -> bool) -> Option<u32> {
        for (block, state) in self.states.iter_mut().enumerate() {
            if let State::Asked(asked) = state
                && *asked < askers
                && !mine(block as u32)
            {
                self.free -= u32::from(*asked == 0);
                *asked += 1;
                return Some(block as u32);
            }
        }
        None
    }

    /// Gives up a request for the run of blocks.
    pub fn release(&mut self, first: u32, run: u32) {
        for state in &mut self.states[first as usize..(first + run) as usize] {
            if let State::Asked(asked @ 1..) = state {
                *asked -= 1;
                self.free += u32::from(*asked == 0);
            }
        }
    }

    /// Takes the run of blocks from `giver`; returns the first part of it that is missing, to be written now.
    pub fn begin_write(&mut self, first: u32, run: u32, giver: PeerKey) -> Option<(u32, u32)> {
        if self.verifying {
            return None;
        }
        let states = &mut self.states[first as usize..(first + run) as usize];
        let missing = |state: &State| matches!(state, State::Asked(_));
        let start = states.iter().position(missing)?;
        let part = states[start..].iter().take_while(|state| missing(state)).count();
        let part = &mut states[start..start + part];
        self.free -= part.iter().filter(|&&state| state == State::Asked(0)).count() as u32;
        part.fill(State::Writing);
        let (first, run) = (first + start as u32, part.len() as u32);
        self.givers[first as usize..(first + run) as usize].fill(giver);
        Some((first, run))
    }

    /// Marks the run of blocks as written.
    pub fn end_write(&mut self, first: u32, run: u32) {
        self.states[first as usize..(first + run) as usize].fill(State::Done);
        self.missing -= run;
    }

    /// Marks the blocks from `giver` that were not written yet as missing again.
    pub fn abandon(&mut self, giver: PeerKey) {
        for (state, _) in self.states.iter_mut().zip(&self.givers).filter(|(_, of)| **of == giver) {
            if *state == State::Writing {
                *state = State::Asked(0);
                self.free += 1;
            }
        }
    }

    /// Whether a block in the run has not arrived yet.
    pub fn is_missing(&self, first: u32, run: u32) -> bool {
        self.states[first as usize..(first + run) as usize].iter().any(|state| matches!(state, State::Asked(_)))
    }
}

/// The first block and the number of blocks of the bytes `begin..begin + length` of a piece.
pub fn blocks(begin: u32, length: u32) -> (u32, u32) {
    (begin / BLOCK, length.div_ceil(BLOCK))
}
