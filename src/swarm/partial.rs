//! A piece that is being fetched: which of its blocks were asked for, from whom, and what came.

use super::PeerKey;
use crate::torrent::{BLOCK, Geometry};

/// What is known of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked of that many peers and not here yet; 0: free to be asked for.
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
    /// Peers that now ask for its blocks in order.
    pub workers: u32,
    /// Is being verified: nothing may be written any more.
    pub verifying: bool,
    states: Vec<State>,
    givers: Vec<PeerKey>,
    free: u32,
    missing: u32,
}

impl Partial {
    /// Starts on `piece`, with nothing of it here.
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

    /// Starts on `piece`, reusing the memory of one that is done.
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

    /// Blocks that nobody was asked for.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// All blocks are written.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Nothing of it is here and nobody is asked for it.
    pub fn is_untouched(&self) -> bool {
        self.free == self.states.len() as u32
    }

    /// Who gave each block.
    pub fn givers(&self) -> &[PeerKey] {
        &self.givers
    }

    /// Takes the first run of at most `most` free blocks, at least one if there is any: first block and count.
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

    /// Takes one block that fewer than `askers` peers were asked for and `mine` does not hold: the endgame.
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

    /// A request for the run of blocks was given up.
    pub fn release(&mut self, first: u32, run: u32) {
        for state in &mut self.states[first as usize..(first + run) as usize] {
            if let State::Asked(asked @ 1..) = state {
                *asked -= 1;
                self.free += u32::from(*asked == 0);
            }
        }
    }

    /// The run of blocks has come from `giver`: the first part of it that is missing, to be written now.
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

    /// The run of blocks is written.
    pub fn end_write(&mut self, first: u32, run: u32) {
        self.states[first as usize..(first + run) as usize].fill(State::Done);
        self.missing -= run;
    }

    /// Nobody writes any more what `giver` gave and was not written yet: it is missing again.
    pub fn abandon(&mut self, giver: PeerKey) {
        for (state, _) in self.states.iter_mut().zip(&self.givers).filter(|(_, of)| **of == giver) {
            if *state == State::Writing {
                *state = State::Asked(0);
                self.free += 1;
            }
        }
    }

    /// A block in the run has not come yet.
    pub fn is_missing(&self, first: u32, run: u32) -> bool {
        self.states[first as usize..(first + run) as usize].iter().any(|state| matches!(state, State::Asked(_)))
    }
}

/// The first block and the number of blocks that the bytes `begin..begin + length` of a piece are.
pub fn blocks(begin: u32, length: u32) -> (u32, u32) {
    (begin / BLOCK, length.div_ceil(BLOCK))
}
