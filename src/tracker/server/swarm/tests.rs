use std::collections::HashSet;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;

fn at(text: &str) -> Address {
    text.parse::<SocketAddr>().unwrap().into()
}

/// The `n`-th peer of room `room`.
fn nth(room: u8, n: u16) -> Address {
    SocketAddr::from(([10, 0, room, n as u8], 6881 + n / 256)).into()
}

fn update(address: Address, left: u64, now: u32) -> Update {
    let owner = Owner::new(address.socket().ip(), 0);
    Update { address, owner, id: PeerId([1; 20]), left, completed: false, now, interval: 20 }
}

fn swarm(peers: impl IntoIterator<Item = (Address, u64)>) -> Swarm {
    let (mut swarm, mut rng) = (Swarm::default(), Rng::new(1));
    for (address, left) in peers {
        assert!(swarm.update(update(address, left, 0), &mut rng));
    }
    swarm
}

fn picked(swarm: &mut Swarm, asker: Address, seeder: bool, wanted: usize) -> Vec<Address> {
    let mut out = Vec::new();
    swarm.pick(asker, seeder, wanted, 0, &mut out);
    out.into_iter().map(|(address, _)| address).collect()
}

#[test]
fn a_swarm_that_fits_is_given_whole_but_for_the_asker_near_ones_first() {
    let far = (0..20).map(|n| (nth(2, n), 9));
    let mut swarm = swarm(far.chain((0..30).map(|n| (nth(1, n), 9))));
    let list = picked(&mut swarm, nth(1, 7), false, 50);
    assert_eq!(list.len(), 49);
    assert!(!list.contains(&nth(1, 7)));
    assert!(list[..29].iter().all(|address| address.room() == nth(1, 0).room()));
}

#[test]
fn a_seeder_is_given_leechers_only() {
    let mut swarm = swarm((0..300).map(|n| (nth(1, n), u64::from(n % 3 == 0))));
    let seeders: HashSet<Address> = swarm.peers().filter(|peer| peer.left == 0).map(|peer| peer.address).collect();
    for wanted in [10, 50, 200] {
        let list = picked(&mut swarm, nth(1, 1), true, wanted);
        assert_eq!(list.len(), wanted.min(100));
        assert!(list.iter().all(|address| !seeders.contains(address)));
    }
}

#[test]
fn the_one_seeder_of_another_room_is_always_named() {
    let server = at("10.9.9.9:10000");
    let mut swarm = swarm((0..250).map(|n| (nth(1, n), 9)).chain([(server, 0)]));
    for n in 0..250 {
        assert!(picked(&mut swarm, nth(1, n), false, 50).contains(&server));
    }
}

#[test]
fn every_peer_is_named_as_often_as_the_next() {
    let mut swarm = swarm((0..200).map(|n| (nth(1, n), 9)));
    let mut named: HashMap<Address, u32> = HashMap::new();
    for n in 0..200 {
        let list = picked(&mut swarm, nth(1, n), false, 20);
        assert_eq!(list.len(), 20);
        list.into_iter().for_each(|address| *named.entry(address).or_default() += 1);
    }
    let (least, most) = (named.values().min().unwrap(), named.values().max().unwrap());
    assert_eq!(named.len(), 200);
    assert!(most - least <= 2, "{least} to {most}");
}

#[test]
fn rooms_are_linked_and_far_peers_take_turns_too() {
    let mut swarm = swarm((1..=5).flat_map(|room| (0..100).map(move |n| (nth(room, n), 9))));
    let mut far: HashMap<Address, u32> = HashMap::new();
    for n in 0..100 {
        let list = picked(&mut swarm, nth(1, n), false, 50);
        let (near, others): (Vec<_>, Vec<_>) = list.into_iter().partition(|one| one.room() == nth(1, 0).room());
        assert_eq!((near.len(), others.len()), (40, 10));
        others.into_iter().for_each(|address| *far.entry(address).or_default() += 1);
    }
    let (least, most) = (far.values().min().unwrap(), far.values().max().unwrap());
    assert_eq!(far.len(), 400);
    assert!(most - least <= 2, "{least} to {most}");
}

#[test]
fn a_peer_that_finishes_is_counted_once_and_changes_sides() {
    let (mut swarm, mut rng) = (Swarm::default(), Rng::new(1));
    let one = nth(1, 1);
    let finished = |now| Update { completed: true, ..update(one, 0, now) };
    swarm.update(update(one, 1000, 0), &mut rng);
    assert_eq!((swarm.leechers(), swarm.seeders(), swarm.completed), (1, 0, 0));
    swarm.update(update(one, 200, 8), &mut rng);
    assert_eq!(swarm.get(one).unwrap().rate, 100);
    assert!(!swarm.update(finished(10), &mut rng));
    assert_eq!((swarm.leechers(), swarm.seeders(), swarm.completed), (0, 1, 1));
    swarm.update(finished(20), &mut rng);
    assert_eq!(swarm.completed, 1);
    swarm.update(update(nth(1, 2), 0, 20), &mut rng);
    assert_eq!(swarm.completed, 1, "a seeder from the start has downloaded nothing");
}

#[test]
fn a_pc_that_came_back_under_another_id_takes_its_old_place() {
    let (mut swarm, mut rng) = (Swarm::default(), Rng::new(1));
    swarm.update(update(nth(1, 1), 0, 0), &mut rng);
    let reborn = Update { id: PeerId([2; 20]), ..update(nth(1, 1), 77, 50) };
    assert!(swarm.update(reborn, &mut rng));
    assert_eq!((swarm.len(), swarm.leechers(), swarm.seeders()), (1, 1, 0));
    let peer = swarm.get(nth(1, 1)).unwrap();
    assert_eq!((peer.id, peer.since, peer.rate), (PeerId([2; 20]), 50, 0));
}

#[test]
fn late_peers_come_last_in_small_swarms_and_not_at_all_in_large_ones() {
    let (mut small, mut rng) = (Swarm::default(), Rng::new(1));
    for (n, seen) in [(1, 0), (2, 100), (3, 0), (4, 100)] {
        small.update(update(nth(1, n), 9, seen), &mut rng);
    }
    let mut out = Vec::new();
    small.pick(nth(1, 9), false, 50, 110, &mut out);
    let order: HashSet<Address> = out[..2].iter().map(|(address, _)| *address).collect();
    assert_eq!((out.len(), order), (4, HashSet::from([nth(1, 2), nth(1, 4)])));

    let mut large = swarm((0..200).map(|n| (nth(1, n), 9)));
    for n in 0..100 {
        large.update(update(nth(1, n), 9, 100), &mut rng);
    }
    for _ in 0..20 {
        out.clear();
        large.pick(nth(1, 150), false, 20, 110, &mut out);
        assert!(out.iter().all(|(address, _)| large.get(*address).unwrap().seen == 100), "{out:?}");
    }
}

/// A swarm of `peers`, of which those that `answers` have announced again when they were told to, at 20.
fn answering(peers: impl IntoIterator<Item = (Address, u64)>, answers: impl Fn(Address) -> bool) -> Swarm {
    let peers: Vec<(Address, u64)> = peers.into_iter().collect();
    let (mut swarm, mut rng) = (swarm(peers.iter().copied()), Rng::new(2));
    for (address, left) in peers.into_iter().filter(|(address, _)| answers(*address)) {
        assert!(!swarm.update(update(address, left, 20), &mut rng));
    }
    swarm
}

#[test]
fn a_peer_has_answered_once_it_has_announced_again_neither_at_once_nor_late() {
    let (mut swarm, mut rng) = (Swarm::default(), Rng::new(1));
    // (time, whether it has answered then); it was told to come again after 20 s, and is late after 55 s.
    for (now, answered) in
        [(0, false), (0, false), (9, false), (10, true), (11, true), (66, true), (200, false), (210, true)]
    {
        swarm.update(update(nth(1, 1), 9, now), &mut rng);
        assert_eq!(swarm.get(nth(1, 1)).unwrap().answered, answered, "at {now}");
    }
    // As a seeder it is the same, under another id it is another.
    swarm.update(update(nth(1, 1), 0, 220), &mut rng);
    assert!(swarm.get(nth(1, 1)).unwrap().answered);
    swarm.update(Update { id: PeerId([2; 20]), ..update(nth(1, 1), 0, 230) }, &mut rng);
    assert!(!swarm.get(nth(1, 1)).unwrap().answered);
}

#[test]
fn those_that_answered_come_first_and_have_four_fifths_of_a_reply() {
    let honest = |address: Address| address.socket().port() == 6881;
    // 30 PCs and a server of one room among 3,000 made-up ones of it, most of which say that they are seeders.
    let made_up = (256..3256).map(|n| (nth(1, n), u64::from(n % 5 == 0)));
    let pcs = (0..30).map(|n| (nth(1, n), 9)).chain([(nth(1, 40), 0)]);
    let mut swarm = answering(made_up.chain(pcs), honest);
    for n in 0..30 {
        let list = picked(&mut swarm, nth(1, n), false, 50);
        // The asker has a place that nobody gets.
        assert!(list.len() >= 49, "{}", list.len());
        assert!(list[..30].iter().all(|one| honest(*one)), "{list:?}");
    }
    let list = picked(&mut swarm, nth(1, 40), true, 50);
    assert!(list[..30].iter().all(|one| honest(*one)), "a seeder learns of all leechers");

    let mut swarm = answering((0..200).map(|n| (nth(1, n), 9)).chain((256..300).map(|n| (nth(1, n), 9))), honest);
    for _ in 0..20 {
        let list = picked(&mut swarm, nth(2, 1), false, 50);
        assert!(list.len() == 50 && list[..40].iter().all(|one| honest(*one)), "{list:?}");
        assert!(list[40..].iter().all(|one| !honest(*one)), "those that have only come are told of");
    }
}

#[test]
fn who_answered_once_and_is_late_has_to_answer_anew() {
    let mut swarm = answering((0..200).map(|n| (nth(1, n), 9)), |_| true);
    let mut rng = Rng::new(3);
    (0..50).for_each(|n| assert!(!swarm.update(update(nth(1, n), 9, 60), &mut rng)));
    let due: Vec<Address> = swarm.peers().filter(|peer| peer.overdue(0, 80)).map(|peer| peer.address).collect();
    assert_eq!(due.len(), 150);
    assert!(due.iter().all(|address| swarm.settle(*address, 0, 80, &mut rng).is_none()));
    assert_eq!((swarm.len(), swarm.peers().filter(|peer| peer.answered).count()), (200, 50));
}

#[test]
fn all_peers_are_seen_in_slices() {
    let mut swarm = answering((0..1000).map(|n| (nth((n % 7) as u8, n), u64::from(n % 3))), |one| one.port() % 2 == 0);
    for most in [1, 7, 64, 999, 1000, 1001] {
        let (mut seen, mut next) = (HashSet::new(), Some((0, 0, 0)));
        while let Some(place) = next {
            let before = seen.len();
            next = swarm.some_from(place, most, |peer| assert!(seen.insert(peer.address)));
            assert!(seen.len() - before == most || next.is_none());
        }
        assert_eq!(seen.len(), 1000, "slices of {most}");
    }
    swarm.rooms.clear();
    assert_eq!(swarm.some_from((0, 0, 0), 1, |_| panic!("nobody is there")), None);
}

/// Forgets those last seen before `time`; returns their number.
fn expire(swarm: &mut Swarm, time: u32, rng: &mut Rng) -> usize {
    let due: Vec<Address> = swarm.peers().filter(|peer| peer.overdue(time, 0)).map(|peer| peer.address).collect();
    due.into_iter().filter(|address| swarm.settle(*address, time, 0, rng).is_some()).count()
}

#[test]
fn those_who_are_silent_are_forgotten() {
    let (mut swarm, mut rng) = (Swarm::default(), Rng::new(1));
    for n in 0..100 {
        swarm.update(update(nth(1, n), u64::from(n % 2), u32::from(n)), &mut rng);
    }
    assert_eq!(expire(&mut swarm, 60, &mut rng), 60);
    assert_eq!((swarm.len(), swarm.leechers(), swarm.seeders()), (40, 20, 20));
    assert_eq!(expire(&mut swarm, 1000, &mut rng), 40);
    assert!(swarm.is_empty() && swarm.rooms.is_empty());
}

#[test]
fn addresses_of_both_families_come_back() {
    for text in ["10.1.2.3:6881", "[2001:db8::1]:80"] {
        assert_eq!(at(text).socket().to_string(), text);
    }
    assert_eq!(at("[::ffff:10.1.2.3]:6881"), at("10.1.2.3:6881"));
    assert_eq!(at("10.1.2.3:1").room(), at("10.1.2.200:2").room());
    assert_ne!(at("10.1.2.3:1").room(), at("10.1.3.3:1").room());
    assert_eq!(at("[2001:db8::1]:1").room(), at("[2001:db8::ffff:1]:1").room());
}

proptest! {
    /// After any changes, the counts, the index and the lists agree. A reply never has the asker, a peer twice, a
    /// seeder for a seeder, an absent peer, or more peers than wanted.
    #[test]
    fn the_books_balance(
        steps in prop::collection::vec((0u8..4, 0u8..4, 0u16..40, 0u64..3, 0usize..60), 1..300),
        seed: u64,
    ) {
        let (mut swarm, mut rng) = (Swarm::default(), Rng::new(seed));
        let mut there: HashMap<Address, u64> = HashMap::new();
        for (now, (what, room, n, left, wanted)) in steps.into_iter().enumerate() {
            let (address, now) = (nth(room, n), now as u32);
            match what {
                0 => {
                    let was_there = there.remove(&address).is_some();
                    prop_assert_eq!(swarm.remove(address).is_some(), was_there);
                }
                1 | 2 => {
                    swarm.update(update(address, left, now), &mut rng);
                    there.insert(address, left);
                }
                _ => {
                    let mut out = Vec::new();
                    swarm.pick(address, left == 0, wanted, now, &mut out);
                    let named: HashSet<Address> = out.iter().map(|(address, _)| *address).collect();
                    prop_assert_eq!(named.len(), out.len());
                    prop_assert!(out.len() <= wanted && !named.contains(&address));
                    prop_assert!(named.iter().all(|one| there.get(one).is_some_and(|theirs| left != 0 || *theirs != 0)));
                    let others = there.iter().filter(|(one, theirs)| **one != address && (left != 0 || **theirs != 0));
                    let others = others.count();
                    if others <= wanted {
                        prop_assert_eq!(out.len(), others);
                    }
                }
            }
            prop_assert_eq!(swarm.len(), there.len());
            prop_assert_eq!(swarm.seeders() as usize, there.values().filter(|left| **left == 0).count());
            prop_assert_eq!(swarm.leechers() as usize, there.values().filter(|left| **left != 0).count());
            prop_assert_eq!(swarm.peers().count(), there.len());
            prop_assert!(there.keys().all(|one| swarm.get(*one).is_some_and(|peer| peer.address == *one)));
        }
    }
}
