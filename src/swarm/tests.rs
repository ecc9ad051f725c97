//! Whole swarms in one thread: messages are delivered in the order of their connection, connections in random order,
//! and the invariants are checked at every step.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::base::rng::Rng;
use crate::torrent::{BLOCK, Bitfield, Geometry};

mod groups;
mod hostile;

/// A message or a wake-up on a connection.
#[derive(Clone, Debug)]
enum Wire {
    Told(Action),
    Bitfield(Bitfield),
    Piece(Block),
}

struct Link {
    to: usize,
    /// The key by which the other end knows us, and the one by which we know it.
    our_key: PeerKey,
    their_key: PeerKey,
    /// On its way to us.
    inbox: VecDeque<Wire>,
    awake: bool,
}

struct Node {
    swarm: Swarm,
    links: Vec<Link>,
    /// Whether it gives wrong data.
    liar: bool,
    /// Per piece, whether each block that was written came from a liar.
    written: Vec<Vec<bool>>,
    banned: Vec<PeerKey>,
}

struct World {
    nodes: Vec<Node>,
    rng: Rng,
    now: Duration,
}

impl World {
    /// A world of `seeds` nodes that have everything and `leechers` that have nothing, all connected.
    fn new(geometry: Geometry, seeds: usize, leechers: usize, config: &Config, fast: bool, seed: u64) -> World {
        let swarm = |index| {
            let have = if index < seeds { Bitfield::full(geometry.pieces()) } else { Bitfield::new(geometry.pieces()) };
            Swarm::new(geometry, have, config.clone(), seed ^ (index as u64 + 1))
        };
        World::of((0..seeds + leechers).map(swarm), fast, seed)
    }

    /// A world of one node for each of the swarms, all connected.
    fn of(swarms: impl Iterator<Item = Swarm>, fast: bool, seed: u64) -> World {
        let mut world = World { nodes: Vec::new(), rng: Rng::new(seed), now: Duration::ZERO };
        for swarm in swarms {
            let geometry = swarm.geometry;
            let written = (0..geometry.pieces()).map(|piece| vec![false; geometry.blocks(piece) as usize]).collect();
            world.nodes.push(Node { swarm, links: Vec::new(), liar: false, written, banned: Vec::new() });
        }
        for a in 0..world.nodes.len() {
            for b in 0..a {
                world.connect(a, b, fast);
            }
        }
        world
    }

    fn connect(&mut self, a: usize, b: usize, fast: bool) {
        let traits = Traits { fast, max_request: if fast { FRIEND_REQUEST } else { STRANGER_REQUEST }, queue: 100 };
        let key_of_b = self.nodes[a].swarm.join(self.now, traits);
        let key_of_a = self.nodes[b].swarm.join(self.now, traits);
        let link = |to, our_key, their_key| Link { to, our_key, their_key, inbox: VecDeque::new(), awake: false };
        for (at, other, key) in [(a, b, key_of_b), (b, a, key_of_a)] {
            if self.nodes[other].swarm.is_choosy() {
                self.nodes[at].swarm.peer_is_choosy(key);
            }
        }
        self.nodes[a].links.push(link(b, key_of_a, key_of_b));
        self.nodes[b].links.push(link(a, key_of_b, key_of_a));
        self.carry_out(a);
        self.carry_out(b);
    }

    fn carry_out(&mut self, at: usize) {
        while let Some((key, action)) = self.nodes[at].swarm.next_action() {
            if let Action::Verify(piece) = action {
                let good = self.nodes[at].written[piece as usize].iter().all(|lied| !lied);
                let verified = if good { Verified::Good } else { Verified::Bad };
                let digests: Vec<[u8; 20]> =
                    self.nodes[at].written[piece as usize].iter().map(|lied| [u8::from(*lied); 20]).collect();
                self.nodes[at].swarm.verified(self.now, piece, verified, &digests);
                continue;
            }
            let Some(link) = self.nodes[at].links.iter_mut().find(|link| link.their_key == key) else { continue };
            let (to, our_key) = (link.to, link.our_key);
            let wire = match action {
                Action::Wake => {
                    link.awake = true;
                    continue;
                }
                Action::Drop(_) | Action::Ban(_) => {
                    if let Action::Ban(_) = action {
                        self.nodes[at].banned.push(key);
                    }
                    self.disconnect(at, to);
                    continue;
                }
                Action::Bitfield => Wire::Bitfield(self.nodes[at].swarm.have().clone()),
                told => Wire::Told(told),
            };
            if let Some(back) = self.nodes[to].links.iter_mut().find(|link| link.their_key == our_key) {
                back.inbox.push_back(wire);
            }
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(at) = self.nodes[from].links.iter().position(|link| link.to == to) {
                let link = self.nodes[from].links.swap_remove(at);
                self.nodes[from].swarm.leave(self.now, link.their_key);
            }
        }
        self.carry_out(b);
    }

    /// Makes one random thing happen; false when nothing can.
    fn step(&mut self) -> bool {
        self.now += Duration::from_micros(200);
        let busy: Vec<(usize, usize)> = (0..self.nodes.len())
            .flat_map(|node| (0..self.nodes[node].links.len()).map(move |link| (node, link)))
            .filter(|&(node, link)| {
                let link = &self.nodes[node].links[link];
                link.awake || !link.inbox.is_empty()
            })
            .collect();
        let Some(&(at, index)) = busy.get(self.rng.below(busy.len() as u64) as usize) else { return false };
        let link = &mut self.nodes[at].links[index];
        let (to, our_key, their_key) = (link.to, link.our_key, link.their_key);
        if link.awake && (link.inbox.is_empty() || self.rng.below(2) == 0) {
            match self.nodes[at].swarm.next_upload(self.now, their_key) {
                Some(block) => {
                    assert!(self.nodes[at].swarm.have().get(block.piece), "sends only what it has");
                    let back = self.nodes[to].links.iter_mut().find(|link| link.their_key == our_key);
                    back.expect("connected both ways").inbox.push_back(Wire::Piece(block));
                }
                None => self.nodes[at].links[index].awake = false,
            }
        } else if let Some(wire) = self.nodes[at].links[index].inbox.pop_front() {
            self.deliver(at, to, their_key, wire);
        }
        self.carry_out(at);
        true
    }

    fn deliver(&mut self, at: usize, from: usize, key: PeerKey, wire: Wire) {
        let (now, liar) = (self.now, self.nodes[from].liar);
        let node = &mut self.nodes[at];
        let swarm = &mut node.swarm;
        let honest: Result<(), Offence> = match wire {
            Wire::Bitfield(have) => swarm.bitfield(now, key, have),
            Wire::Piece(block) => swarm.arrived(now, key, block).map(|verdict| {
                if let Verdict::Store(part) = verdict {
                    assert!(!swarm.have().get(part.piece), "a verified piece is never written again");
                    let (first, run) = partial::blocks(part.begin, part.length);
                    node.written[part.piece as usize][first as usize..(first + run) as usize].fill(liar);
                    swarm.stored(now, key, part);
                }
            }),
            Wire::Told(Action::Have(piece)) => swarm.have_piece(now, key, piece),
            Wire::Told(Action::Choke) => {
                swarm.choke(now, key);
                Ok(())
            }
            Wire::Told(Action::Unchoke) => {
                swarm.unchoke(now, key);
                Ok(())
            }
            Wire::Told(Action::Interested) => {
                swarm.interested(now, key, true);
                Ok(())
            }
            Wire::Told(Action::NotInterested) => {
                swarm.interested(now, key, false);
                Ok(())
            }
            Wire::Told(Action::Request(block)) => swarm.request(now, key, block),
            Wire::Told(Action::Cancel(block)) => swarm.cancel(key, block),
            Wire::Told(Action::Reject(block)) => swarm.rejected(now, key, block),
            Wire::Told(other) => panic!("{other:?} is nothing to send"),
        };
        assert_eq!(honest, Ok(()), "our own kind commits no offence");
    }

    /// Runs until every node has all that it wants.
    fn run(&mut self) {
        for round in 0.. {
            let mut steps = 0;
            while steps < 5_000 && self.step() {
                steps += 1;
            }
            if self.nodes.iter().all(|node| node.swarm.is_sated()) {
                return;
            }
            assert!(round < 2_000, "the swarm does not finish: {:?}", self.progress());
            self.now += Duration::from_millis(100);
            for at in 0..self.nodes.len() {
                self.nodes[at].swarm.tick(self.now);
                self.carry_out(at);
            }
        }
    }

    fn progress(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.swarm.have().count()).collect()
    }
}

fn geometry(pieces: u32, blocks: u32, short: u32) -> Geometry {
    let piece_length = blocks * BLOCK;
    Geometry::new(u64::from(pieces) * u64::from(piece_length) - u64::from(short % piece_length), piece_length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_swarm_finishes_and_no_verified_piece_is_written_again(
        pieces in 1u32..40, blocks in 1u32..9, short in 0u32..u32::MAX, seeds in 1usize..3, leechers in 1usize..7,
        slots in prop::option::of(1usize..4), fast: bool, seed: u64,
    ) {
        let geometry = geometry(pieces, blocks, short);
        let config = Config { slots, ..Config::default() };
        let mut world = World::new(geometry, seeds, leechers, &config, fast, seed);
        world.run();
        for node in &world.nodes[seeds..] {
            prop_assert_eq!(node.swarm.totals().downloaded, geometry.length());
            prop_assert_eq!(node.swarm.left(), 0);
        }
    }

    #[test]
    fn a_liar_is_found_out_and_nobody_honest_is_blamed(
        pieces in 2u32..20, blocks in 1u32..6, leechers in 1usize..4, fast: bool, seed: u64,
    ) {
        let geometry = geometry(pieces, blocks, 0);
        let mut world = World::new(geometry, 2, leechers, &Config::default(), fast, seed);
        world.nodes[1].liar = true;
        world.run();
        for node in &world.nodes {
            for link in &node.links {
                let lied = world.nodes[link.to].liar;
                prop_assert!(lied || !node.banned.contains(&link.their_key));
            }
        }
    }
}

#[test]
fn a_seeder_among_its_own_kind_sends_little_more_than_one_copy() {
    // Once every piece is out it is one of nine that give what is still missing, and no link here is slower than
    // another; pieces of only 64 KiB are passed on the latest.
    for (blocks, most) in [(4, 1.4), (16, 1.3)] {
        let geometry = geometry(200, blocks, 0);
        let mut world = World::new(geometry, 1, 8, &Config::default(), true, 7);
        let copies = |world: &World| world.nodes[0].swarm.totals().uploaded as f64 / geometry.length() as f64;
        let is_out = |world: &World, piece| world.nodes[1..].iter().any(|node| node.swarm.have().get(piece));
        while !(0..geometry.pieces()).all(|piece| is_out(&world, piece)) {
            assert!(world.step(), "nothing happens any more: {:?}", world.progress());
        }
        assert!(copies(&world) < 1.1, "{} copies until every piece was out", copies(&world));
        world.run();
        assert!(copies(&world) < most, "{} copies", copies(&world));
        let wasted: u64 = world.nodes.iter().map(|node| node.swarm.totals().wasted).sum();
        assert!(wasted < 8 * geometry.length() / 20, "{wasted} bytes came twice");
    }
}

#[test]
fn of_sixty_that_start_together_none_is_starved() {
    let geometry = geometry(64, 4, 0);
    let mut world = World::new(geometry, 1, 60, &Config::default(), true, 3);
    let mut steps = 0;
    while world.nodes[1..].iter().any(|node| node.swarm.have().is_empty()) {
        steps += 1;
        assert!(world.step() && steps < 2_000_000, "somebody has nothing: {:?}", world.progress());
        if steps % 500 == 0 {
            (0..world.nodes.len()).for_each(|at| {
                world.nodes[at].swarm.tick(world.now);
                world.carry_out(at);
            });
        }
    }
    let most = world.progress()[1..].iter().copied().max();
    assert!(most < Some(64), "one had everything before another had anything");
}

#[test]
fn what_does_not_fit_the_torrent_is_an_offence() {
    let geometry = geometry(4, 2, 0);
    let mut swarm = Swarm::new(geometry, Bitfield::full(4), Config::default(), 1);
    let now = Duration::ZERO;
    let key = swarm.join(now, Traits::stranger(false));
    let block = |piece, begin, length| Block { piece, begin, length };
    assert_eq!(swarm.have_piece(now, key, 4), Err(Offence::OutOfRange));
    assert_eq!(swarm.request(now, key, block(4, 0, BLOCK)), Err(Offence::OutOfRange));
    assert_eq!(swarm.request(now, key, block(0, BLOCK, 2 * BLOCK)), Err(Offence::OutOfRange));
    assert_eq!(swarm.request(now, key, block(0, u32::MAX, 1)), Err(Offence::OutOfRange));
    assert_eq!(swarm.request(now, key, block(0, 0, 0)), Err(Offence::OutOfRange));
    assert_eq!(swarm.arrived(now, key, block(9, 0, BLOCK)), Err(Offence::OutOfRange));
    assert_eq!(swarm.bitfield(now, key, Bitfield::new(5)), Err(Offence::BadBitfield));
    assert_eq!(swarm.bitfield(now, key, Bitfield::new(4)), Ok(()));
}

#[test]
fn a_bitfield_sent_again_adds_what_is_new_and_takes_nothing() {
    let geometry = geometry(4, 2, 0);
    let mut swarm = Swarm::new(geometry, Bitfield::new(4), Config::default(), 1);
    let now = Duration::ZERO;
    let key = swarm.join(now, Traits::stranger(false));
    let some = |pieces: &[u32]| {
        let mut have = Bitfield::new(4);
        pieces.iter().for_each(|&piece| assert!(have.set(piece)));
        have
    };
    swarm.bitfield(now, key, some(&[])).unwrap();
    swarm.have_piece(now, key, 1).unwrap();
    swarm.bitfield(now, key, some(&[0, 3])).unwrap();
    let at = swarm.find(key).expect("still here");
    assert_eq!(swarm.peers[at].1.have, some(&[0, 1, 3]));
    assert_eq!(swarm.peers[at].1.useful, 3);
    swarm.bitfield(now, key, some(&[0, 1, 2, 3])).unwrap();
    assert!(swarm.peers[at].1.have.is_full());
}

#[test]
fn a_flood_of_blocks_that_nobody_asked_for_ends_the_connection() {
    let geometry = geometry(4, 2, 0);
    let mut swarm = Swarm::new(geometry, Bitfield::new(4), Config::default(), 1);
    let key = swarm.join(Duration::ZERO, Traits::stranger(false));
    let block = Block { piece: 0, begin: 0, length: BLOCK };
    let outcomes: Vec<_> =
        (0..blocks::UNASKED_ALLOWED + 1).map(|_| swarm.arrived(Duration::ZERO, key, block)).collect();
    assert_eq!(outcomes.last(), Some(&Err(Offence::Unasked)));
    assert!(outcomes.iter().rev().skip(1).all(|outcome| *outcome == Ok(Verdict::Ignore)));
}

#[test]
fn a_block_whose_writer_is_gone_is_fetched_from_somebody_else() {
    let geometry = geometry(1, 1, 0);
    let mut swarm = Swarm::new(geometry, Bitfield::new(1), Config::default(), 1);
    let now = Duration::ZERO;
    let asks = |swarm: &mut Swarm| {
        let key = swarm.join(now, Traits::stranger(true));
        swarm.bitfield(now, key, Bitfield::full(1)).unwrap();
        swarm.unchoke(now, key);
        let asked = std::iter::from_fn(|| swarm.next_action())
            .any(|told| matches!(told, (to, Action::Request(_)) if to == key));
        (key, asked)
    };
    let (key, asked) = asks(&mut swarm);
    assert!(asked);
    let block = Block { piece: 0, begin: 0, length: BLOCK };
    assert_eq!(swarm.arrived(now, key, block), Ok(Verdict::Store(block)));
    swarm.leave(now, key);
    assert!(asks(&mut swarm).1, "nobody else is asked");
}

/// Takes the decisions in the queue and returns those for the peer `key`.
fn told(swarm: &mut Swarm, key: PeerKey) -> Vec<Action> {
    std::iter::from_fn(|| swarm.next_action()).filter(|(to, _)| *to == key).map(|(_, action)| action).collect()
}

#[test]
fn who_only_uploads_gets_no_slot_and_lacks_nothing_and_may_change_its_mind() {
    let geometry = geometry(4, 2, 0);
    let mut swarm = Swarm::new(geometry, Bitfield::new(4), Config::default(), 1);
    let now = Duration::ZERO;
    let key = swarm.join(now, Traits::stranger(true));
    let mut half = Bitfield::new(4);
    assert!(half.set(2));
    swarm.bitfield(now, key, half).unwrap();
    swarm.interested(now, key, true);
    assert_eq!(swarm.population(), (0, 1));
    assert_eq!(told(&mut swarm, key), [Action::Bitfield, Action::Interested, Action::Unchoke]);
    swarm.upload_only(now, key, true);
    assert_eq!((swarm.population(), swarm.is_peer_sated(key)), ((1, 0), true));
    assert_eq!(told(&mut swarm, key), [Action::Choke], "it is still of interest");
    swarm.interested(now, key, true);
    assert_eq!((swarm.population(), told(&mut swarm, key)), ((0, 1), vec![Action::Unchoke]));
}

#[test]
fn two_that_only_upload_part_whoever_says_it_first() {
    let geometry = geometry(1, 1, 0);
    let now = Duration::ZERO;
    let useless = [Action::Drop(Offence::Useless)];
    let mut seeder = Swarm::new(geometry, Bitfield::full(1), Config::default(), 1);
    let key = seeder.join(now, Traits::stranger(true));
    seeder.bitfield(now, key, Bitfield::new(1)).unwrap();
    assert_eq!(told(&mut seeder, key), [Action::Bitfield]);
    seeder.upload_only(now, key, true);
    assert_eq!(told(&mut seeder, key), useless);

    let mut leecher = Swarm::new(geometry, Bitfield::new(1), Config::default(), 1);
    let (idle, giver) = (leecher.join(now, Traits::stranger(true)), leecher.join(now, Traits::stranger(true)));
    leecher.upload_only(now, idle, true);
    leecher.bitfield(now, giver, Bitfield::full(1)).unwrap();
    leecher.unchoke(now, giver);
    let block = Block { piece: 0, begin: 0, length: BLOCK };
    assert_eq!(leecher.arrived(now, giver, block), Ok(Verdict::Store(block)));
    leecher.stored(now, giver, block);
    while leecher.next_action().is_some() {}
    leecher.verified(now, 0, Verified::Good, &[]);
    assert!(told(&mut leecher, idle).ends_with(&useless));
}

/// Takes the decisions in the queue and returns the blocks requested from `key`.
fn asked(swarm: &mut Swarm, key: PeerKey) -> Vec<Block> {
    let request = |action| if let Action::Request(block) = action { Some(block) } else { None };
    told(swarm, key).into_iter().filter_map(request).collect()
}

#[test]
fn a_web_seed_is_asked_for_what_nobody_has_and_for_all_when_nobody_gives() {
    let geometry = geometry(6, 8, 0);
    let mut swarm = Swarm::new(geometry, Bitfield::new(6), Config::default(), 1);
    let at = |millis| Duration::from_millis(millis);
    let source = swarm.join_source(at(0));
    let peer = swarm.join(at(0), Traits::stranger(true));
    let mut most = Bitfield::full(6);
    assert!(most.clear(4));
    swarm.bitfield(at(0), peer, most).unwrap();
    swarm.tick(at(500));
    assert_eq!(asked(&mut swarm, source), [], "peers come first");
    assert_eq!(swarm.population(), (0, 1));
    // Pieces that the peer lacks.
    swarm.tick(at(1100));
    let lacked = asked(&mut swarm, source);
    assert_eq!(lacked, [Block { piece: 4, begin: 0, length: 8 * BLOCK }]);
    assert_eq!(swarm.arrived(at(1101), source, lacked[0]), Ok(Verdict::Store(lacked[0])));
    swarm.stored(at(1300), source, lacked[0]);
    assert_eq!(asked(&mut swarm, source), [], "the peer has the rest");
    // The peer gives nothing.
    swarm.tick(at(2100));
    let some = asked(&mut swarm, source);
    assert_eq!(some.len(), 1);
    swarm.unchoke(at(2100), peer);
    let of_peer = asked(&mut swarm, peer);
    assert!(!of_peer.is_empty() && of_peer.iter().all(|block| block.piece != some[0].piece), "asked of both");
    // The peer gives more than the web seed did.
    for block in &of_peer {
        assert_eq!(swarm.arrived(at(2200), peer, *block), Ok(Verdict::Store(*block)));
        swarm.stored(at(2200), peer, *block);
    }
    assert_eq!(swarm.arrived(at(2900), source, some[0]), Ok(Verdict::Store(some[0])));
    swarm.stored(at(2900), source, some[0]);
    assert_eq!(asked(&mut swarm, source), [], "the peer is faster");
    let whole = of_peer.iter().filter(|block| block.begin == 7 * BLOCK).map(|block| block.piece);
    for piece in whole.chain([4, some[0].piece]) {
        swarm.verified(at(2900), piece, Verified::Good, &[]);
    }
    // It has gone: its blocks are requested from the web seed, and are needed to the last.
    swarm.leave(at(3000), peer);
    for round in 0..40 {
        let now = at(3000 + 100 * round);
        swarm.tick(now);
        while let Some((key, action)) = swarm.next_action() {
            match action {
                Action::Request(block) => {
                    assert_eq!(key, source);
                    if let Verdict::Store(part) = swarm.arrived(now, source, block).unwrap() {
                        swarm.stored(now, source, part);
                    }
                }
                Action::Verify(piece) => swarm.verified(now, piece, Verified::Good, &[]),
                _ => {}
            }
        }
    }
    assert!(swarm.is_whole());
}

#[test]
fn a_stranger_that_takes_many_requests_and_answers_twice_a_second_gets_more_and_more() {
    let geometry = geometry(400, 16, 0);
    let ahead = |queue: Option<u32>| {
        let mut swarm = Swarm::new(geometry, Bitfield::new(400), Config::default(), 1);
        let key = swarm.join(Duration::ZERO, Traits::stranger(true));
        swarm.learn(key, None, queue);
        swarm.bitfield(Duration::ZERO, key, Bitfield::full(400)).unwrap();
        swarm.unchoke(Duration::ZERO, key);
        let mut requests = asked(&mut swarm, key);
        for half in 1..8 {
            let now = Duration::from_millis(500 * half);
            let mut next = Vec::new();
            for block in requests.drain(..) {
                if let Verdict::Store(part) = swarm.arrived(now, key, block).unwrap() {
                    swarm.stored(now, key, part);
                }
                next.extend(asked(&mut swarm, key));
            }
            requests = next;
        }
        requests.len()
    };
    assert!(ahead(Some(500)) > 48, "{}", ahead(Some(500)));
    assert_eq!(ahead(Some(20)), 20);
    assert_eq!(ahead(None), 16, "of one that says nothing no more is asked than it may expect");
}
