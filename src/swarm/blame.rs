//! Who gave the bad data: a piece that failed its hash is fetched again, and block by block what came then is
//! compared with what came before. Only whoever gave a block that differs is to blame.

use std::collections::HashMap;

use super::PeerKey;

/// One try at a piece: who gave each block, and the block's digest.
type Try = Vec<(PeerKey, [u8; 20])>;

/// Tries that failed and await the right data.
#[derive(Debug, Default)]
pub struct Blame {
    failed: HashMap<u32, Vec<Try>>,
}

/// Failed tries kept for one piece; more than that many givers at once is no accident.
const TRIES: usize = 4;

impl Blame {
    /// The piece failed before, so digests of its blocks decide something.
    pub fn suspects(&self, piece: u32) -> bool {
        self.failed.contains_key(&piece)
    }

    /// Takes the outcome of a try; gives those who are now known to have given bad data.
    ///
    /// A piece that one peer gave alone condemns it at once.
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
