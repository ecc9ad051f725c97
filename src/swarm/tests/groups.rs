//! Swarms in which only some pieces are wanted, some of them before the rest.

use proptest::prelude::{any, prop};

use super::*;

const PIECES: u32 = 24;

fn field(pieces: impl IntoIterator<Item = u32>) -> Bitfield {
    let mut field = Bitfield::new(PIECES);
    pieces.into_iter().for_each(|piece| _ = field.set(piece));
    field
}

/// Up to four groups, of any pieces.
fn groups() -> impl proptest::strategy::Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..PIECES, 0..12), 1..5)
}

fn fields(groups: &[Vec<u32>]) -> Vec<Bitfield> {
    groups.iter().map(|pieces| field(pieces.iter().copied())).collect()
}

/// A swarm whose peers the test plays; none of them rejects, stalls or lies.
struct Played {
    swarm: Swarm,
    groups: Vec<Bitfield>,
    peers: Vec<(PeerKey, Bitfield)>,
    /// Open requests: blocks of 16 KiB, as strangers are asked for.
    open: Vec<(PeerKey, Block)>,
    done: Vec<Block>,
    /// The piece that each peer was asked for last.
    at: Vec<(PeerKey, u32)>,
}

impl Played {
    fn group(&self, piece: u32) -> Option<usize> {
        self.groups.iter().position(|group| group.get(piece))
    }

    /// Takes the decisions: verifies pieces, and checks each request.
    fn look(&mut self) {
        while let Some((key, action)) = self.swarm.next_action() {
            match action {
                Action::Verify(piece) => self.swarm.verified(Duration::ZERO, piece, Verified::Good, &[]),
                Action::Request(block) => self.check(key, block),
                Action::Cancel(block) => self.open.retain(|asked| *asked != (key, block)),
                _ => {}
            }
        }
    }

    fn check(&mut self, key: PeerKey, block: Block) {
        let group = self.group(block.piece).expect("asked for a piece that nobody wants");
        assert!(!self.swarm.have.get(block.piece), "asked for what is here");
        let goes_on = self.at.contains(&(key, block.piece));
        let (_, has) = self.peers.iter().find(|(peer, _)| *peer == key).expect("a peer");
        assert!(has.get(block.piece), "asked for what the peer lacks");
        if !goes_on {
            for before in has.iter_ones().filter(|piece| self.group(*piece).is_some_and(|other| other < group)) {
                let blocks = (0..self.swarm.geometry.blocks(before)).map(|block| block * BLOCK);
                let taken = |begin| {
                    let same = |block: &Block| (block.piece, block.begin) == (before, begin);
                    self.done.iter().any(same) || self.open.iter().any(|(_, block)| same(block))
                };
                let here = self.swarm.have.get(before);
                assert!(here || blocks.into_iter().all(taken), "asked for {} while {before} comes first", block.piece);
            }
            self.at.retain(|(peer, _)| *peer != key);
            self.at.push((key, block.piece));
        }
        self.open.push((key, block));
    }

    fn join(&mut self, has: Bitfield) {
        let key = self.swarm.join(Duration::ZERO, Traits::stranger(true));
        self.peers.push((key, has.clone()));
        self.swarm.bitfield(Duration::ZERO, key, has).expect("a bitfield that fits");
        self.swarm.unchoke(Duration::ZERO, key);
        self.look();
    }

    /// Answers the open request number `which`.
    fn answer(&mut self, which: usize) {
        if !self.open.is_empty() {
            let (key, block) = self.open.swap_remove(which % self.open.len());
            let verdict = self.swarm.arrived(Duration::ZERO, key, block).expect("it was asked for");
            if let Verdict::Store(part) = verdict {
                self.done.push(part);
                self.swarm.stored(Duration::ZERO, key, part);
            }
            self.look();
        }
    }

    fn leave(&mut self, which: usize) {
        if !self.peers.is_empty() {
            let (key, _) = self.peers.swap_remove(which % self.peers.len());
            self.open.retain(|(peer, _)| *peer != key);
            self.swarm.leave(Duration::ZERO, key);
            self.look();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn of_each_peer_what_comes_first_is_asked_first_and_what_nobody_wants_never(
        groups in groups(), here in prop::collection::vec(0..PIECES, 0..6),
        steps in prop::collection::vec((0u8..12, any::<u16>(), any::<u32>()), 0..250), seed: u64,
    ) {
        let groups = fields(&groups);
        let have = field(here);
        let swarm = Swarm::with_groups(geometry(PIECES, 3, 0), have.clone(), &groups, Config::default(), seed);
        let wanted = field((0..PIECES).filter(|piece| groups.iter().any(|group| group.get(*piece))));
        let mut played =
            Played { swarm, groups, peers: Vec::new(), open: Vec::new(), done: Vec::new(), at: Vec::new() };
        for (step, which, pieces) in steps {
            match step {
                0 => played.join(field((0..PIECES).filter(|piece| pieces >> piece & 1 == 1))),
                1 => played.leave(usize::from(which)),
                _ => played.answer(usize::from(which)),
            }
            let missing = wanted.iter_ones().filter(|piece| !played.swarm.have.get(*piece)).count();
            prop_assert_eq!(played.swarm.missing.count() as usize, missing);
            for (key, has) in &played.peers {
                let useful = has.iter_ones().filter(|piece| played.swarm.missing.get(*piece)).count();
                let at = played.swarm.find(*key).expect("still here");
                prop_assert_eq!(played.swarm.peers[at].1.useful as usize, useful);
                prop_assert_eq!(played.swarm.peers[at].1.wanting, useful > 0);
            }
        }
        // A peer that has everything brings the rest, and no more.
        played.join(Bitfield::full(PIECES));
        while !played.open.is_empty() {
            played.answer(0);
        }
        prop_assert!(played.swarm.is_sated() && played.swarm.left() == 0);
        let all = field(wanted.iter_ones().chain(have.iter_ones()));
        prop_assert_eq!(played.swarm.have(), &all);
        prop_assert_eq!(played.swarm.lacks() == 0, all.is_full());
    }

    #[test]
    fn every_swarm_of_peers_with_wishes_of_their_own_ends_with_what_they_want(
        wishes in prop::collection::vec(groups(), 1..5), slots in prop::option::of(1usize..4), fast: bool, seed: u64,
    ) {
        let geometry = geometry(PIECES, 3, 0);
        let config = Config { slots, ..Config::default() };
        let wishes: Vec<Vec<Bitfield>> = wishes.iter().map(|groups| fields(groups)).collect();
        let swarm = |groups: &Vec<Bitfield>, seed| {
            Swarm::with_groups(geometry, Bitfield::new(PIECES), groups, config.clone(), seed)
        };
        let seeder = Swarm::new(geometry, Bitfield::full(PIECES), config.clone(), seed);
        let leechers = wishes.iter().zip(1..).map(|(groups, index)| swarm(groups, seed ^ index));
        let mut world = World::of(std::iter::once(seeder).chain(leechers), fast, seed);
        world.run();
        for (node, groups) in world.nodes[1..].iter().zip(&wishes) {
            let wanted = field(groups.iter().flat_map(Bitfield::iter_ones));
            prop_assert_eq!(node.swarm.have(), &wanted);
            prop_assert_eq!(node.swarm.totals().downloaded, u64::from(wanted.count() * 3 * BLOCK));
        }
    }
}

#[test]
fn a_piece_that_was_lost_is_wanted_again_only_if_it_ever_was() {
    let groups = [field([3]), field([1])];
    let mut swarm = Swarm::with_groups(geometry(PIECES, 3, 0), Bitfield::full(PIECES), &groups, Config::default(), 1);
    for piece in [0, 1, 2, 3] {
        swarm.lost(Duration::ZERO, piece);
    }
    assert_eq!((swarm.missing.clone(), swarm.have().count()), (field([1, 3]), PIECES - 4));
    let key = swarm.join(Duration::ZERO, Traits::stranger(true));
    swarm.bitfield(Duration::ZERO, key, Bitfield::full(PIECES)).unwrap();
    swarm.unchoke(Duration::ZERO, key);
    let order: Vec<u32> = asked(&mut swarm, key).iter().map(|block| block.piece).collect();
    assert_eq!(order, [3, 3, 3, 1, 1, 1]);
}

#[test]
fn a_seeder_gives_what_is_out_already_to_who_may_want_nothing_else() {
    let mut seeder = Swarm::new(geometry(PIECES, 2, 0), Bitfield::full(PIECES), Config::default(), 1);
    let friend = Traits { fast: true, max_request: FRIEND_REQUEST, queue: 100 };
    let join = |seeder: &mut Swarm, has: &[u32]| {
        let key = seeder.join(Duration::ZERO, friend);
        seeder.bitfield(Duration::ZERO, key, field(has.iter().copied())).unwrap();
        seeder.interested(Duration::ZERO, key, true);
        key
    };
    let _had = join(&mut seeder, &[0]);
    let wants = join(&mut seeder, &[]);
    let block = Block { piece: 0, begin: 0, length: 2 * BLOCK };
    let is_rejected = |seeder: &mut Swarm| {
        seeder.request(Duration::ZERO, wants, block).unwrap();
        told(seeder, wants).contains(&Action::Reject(block))
    };
    assert!(is_rejected(&mut seeder));
    seeder.peer_is_choosy(wants);
    assert!(!is_rejected(&mut seeder));
}
