//! Finds the giver of bad data: a piece that failed its hash is fetched again, and its blocks are compared with
//! those that came before. Only the givers of blocks that differ are to blame.

use std::collections::HashMap;

use super::PeerKey;

/// One try at a piece: the giver of each block, and the block's digest.
type Try = Vec<(PeerKey, [u8; 20])>;

/// Failed tries that await the right data, by piece.
#[derive(Debug, Default)]
pub struct Blame {
    failed: HashMap<u32, Vec<Try>>,
}

/// Failed tries kept for one piece; more than that many sets of givers are no accident.
const TRIES: usize = 4;

impl Blame {
    /// Whether the piece failed before, so that digests of its blocks decide something.
    pub fn suspects(&self, piece: u32) -> bool {
        self.failed.contains_key(&piece)
    }

    /// Takes the outcome of a try and returns the peers now known to have given bad data.
    ///
    /// A peer that gave all of a bad piece is condemned at once.
    pub fn judge(&mut self, piece: u32, good: bool, givers: &[PeerKey], digests: &[[u8; 20]]) -> Vec<PeerKey> {
        let mut guilty: Vec<PeerKey> = Vec::new();
        if good {
            for tried in self.failed.remove(&piece).unwrap_or_default() {
                let differs = tried.iter().zip(digests).filter(|((_, bad), right)| bad != *right);
                guilty.extend(differs.map(|((giver, _), _)| *giver));
            }
        } else if givers.windows(2).all(|pair| pair[0] == pair[1]) {
            guilty.extend(givers.first());
        } else if digests.len() == givers.len() {
            let tries = self.failed.entry(piece).or_default();
            if tries.len() < TRIES {
                tries.push(givers.iter().copied().zip(digests.iter().copied()).collect());
            }
        }
        crate::base::sort::sort(&mut guilty);
        guilty.dedup();
        guilty.retain(|key| *key != PeerKey::NOBODY);
        guilty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerKey = PeerKey(1);
    const B: PeerKey = PeerKey(2);

    #[test]
    fn a_peer_that_gave_a_bad_piece_alone_is_guilty_at_once() {
        assert_eq!(Blame::default().judge(0, false, &[A, A], &[[1; 20], [2; 20]]), [A]);
    }

    #[test]
    fn of_two_givers_only_the_one_whose_block_differs_is_guilty() {
        let mut blame = Blame::default();
        assert_eq!(blame.judge(7, false, &[A, B], &[[1; 20], [9; 20]]), []);
        assert!(blame.suspects(7));
        assert_eq!(blame.judge(7, true, &[A, A], &[[1; 20], [2; 20]]), [B]);
        assert!(!blame.suspects(7));
    }
}
