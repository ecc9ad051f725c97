use std::net::SocketAddr;

use super::*;

pub(in crate::tracker::server) fn open_store() -> Store {
    store(|rules| rules.closed = false)
}

fn store(change: impl FnOnce(&mut Rules)) -> Store {
    let mut rules = Rules { life: 600, ..Rules::default() };
    change(&mut rules);
    Store::new(rules, 1)
}

const HASH: InfoHash = InfoHash([7; 20]);

fn announce(n: u8, left: u64, event: Event) -> Announce {
    let socket = SocketAddr::from(([10, 0, 0, n], 6881));
    let (address, owner) = (socket.into(), Owner::new(socket.ip(), 0));
    Announce { info_hash: HASH, address, owner, id: PeerId([n; 20]), left, event, wanted: None }
}

fn told(store: &Store, announce: &Announce) -> (Answer, Vec<String>) {
    let mut peers = Vec::new();
    let answer = store.announce(announce, store.now(), &mut peers).unwrap();
    let mut peers: Vec<String> = peers.into_iter().map(|(address, _)| address.socket().to_string()).collect();
    peers.sort();
    (answer, peers)
}

fn listing(name: &str) -> HashMap<InfoHash, Arc<Listing>> {
    HashMap::from([(HASH, Arc::new(Listing { name: name.into(), length: 9, ..Listing::default() }))])
}

#[test]
fn peers_meet_and_part() {
    let store = open_store();
    assert_eq!(told(&store, &announce(1, 0, Event::Started)).1, [""; 0]);
    let (answer, peers) = told(&store, &announce(2, 5, Event::Started));
    assert_eq!((answer.seeders, answer.leechers, peers), (1, 1, vec!["10.0.0.1:6881".to_owned()]));
    assert_eq!(told(&store, &announce(1, 0, Event::None)).1, ["10.0.0.2:6881"]);
    let (answer, peers) = told(&store, &announce(2, 5, Event::Stopped));
    assert_eq!((answer.seeders, answer.leechers, peers.len(), store.peers()), (1, 0, 0, 1));
}

#[test]
fn nobody_can_stop_somebody_else() {
    let store = open_store();
    told(&store, &announce(1, 5, Event::Started));
    told(&store, &Announce { id: PeerId([9; 20]), ..announce(1, 5, Event::Stopped) });
    assert_eq!(store.peers(), 1);
}

#[test]
fn a_peer_is_changed_only_by_its_announcer() {
    let from = |source: [u8; 4], key, left, event| Announce {
        owner: Owner::new(source.into(), key),
        ..announce(1, left, event)
    };
    let (own, other, third) = ([10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]);
    let store = open_store();
    let seeders = || (store.peers(), store.scrape(None)[0].seeders, store.scrape(None)[0].completed);
    told(&store, &from(own, 7, 5, Event::Started));
    for event in [Event::Stopped, Event::Completed, Event::None, Event::Started] {
        for key in [0, 8] {
            told(&store, &from(other, key, 0, event));
            assert_eq!(seeders(), (1, 0, 0), "{event:?} with another key");
        }
    }
    told(&store, &from(other, 7, 0, Event::Completed));
    assert_eq!(seeders(), (1, 1, 1), "the same key");
    told(&store, &from(own, 0, 5, Event::Started));
    assert_eq!(seeders(), (1, 0, 1), "the peer itself");
    told(&store, &from(other, 0, 5, Event::Stopped));
    assert_eq!(seeders().0, 1);
    told(&store, &from(own, 0, 5, Event::Stopped));
    assert_eq!(seeders().0, 0);
    told(&store, &from(third, 0, 5, Event::Started));
    told(&store, &from(other, 0, 5, Event::Stopped));
    assert_eq!(seeders().0, 1);
    told(&store, &from(third, 0, 5, Event::Stopped));
    assert_eq!(seeders().0, 0, "whoever announced it for another address");
}

#[test]
fn a_source_of_too_many_peers_loses_its_oldest_and_nobody_elses() {
    let store = store(|rules| (rules.closed, rules.most_of_source) = (false, 3));
    told(&store, &announce(9, 0, Event::Started));
    let made_up = |source: [u8; 4], port: u16| Announce {
        address: SocketAddr::from(([10, 0, 0, 1], port)).into(),
        owner: Owner::new(source.into(), 0),
        ..announce(1, 5, Event::Started)
    };
    let at = |port: u16, late| store.announce(&made_up([10, 0, 0, 1], port), store.now() + late, &mut Vec::new());
    for port in 1..=1000 {
        at(port, u32::from(port)).unwrap();
    }
    // The oldest says that it is still there; then the next one goes.
    at(998, 1001).unwrap();
    at(1001, 1002).unwrap();
    let ports = || {
        let mut ports: Vec<u16> = store.swarm_peers(HASH).iter().map(|peer| peer.address.port()).collect();
        ports.sort();
        ports
    };
    assert_eq!((ports(), store.peers()), (vec![998, 1000, 1001, 6881], 4));
    for port in 2001..=2100 {
        told(&store, &made_up([127, 0, 0, 1], port));
    }
    assert_eq!(store.peers(), 104, "loopback has no limit");
}

#[test]
fn a_closed_tracker_tracks_what_is_listed_and_nothing_else() {
    let store = store(|_| ());
    let refused = |store: &Store| store.announce(&announce(1, 5, Event::None), store.now(), &mut Vec::new());
    assert_eq!(refused(&store), Err(NOT_AUTHORIZED.to_owned()));
    assert_eq!((store.peers(), store.scrape(None).len()), (0, 0));
    store.list(&listing("x.img"));
    assert_eq!(store.scrape(None)[0].listing.as_ref().unwrap().name, "x.img");
    told(&store, &announce(1, 5, Event::None));
    store.list(&HashMap::new());
    assert_eq!(refused(&store), Err(NOT_AUTHORIZED.to_owned()));
    assert_eq!(store.scrape(Some(&[HASH])).len(), 0);
    store.list(&listing("x.img"));
    assert_eq!(told(&store, &announce(2, 5, Event::None)).1, ["10.0.0.1:6881"], "who was there is there");
}

#[test]
fn a_torrent_can_carry_a_refusal_or_a_warning() {
    let store = store(|_| ());
    let listed = |failure: Option<&str>, warning: Option<&str>| {
        let (failure, warning) = (failure.map(str::to_owned), warning.map(str::to_owned));
        store.list(&HashMap::from([(HASH, Arc::new(Listing { failure, warning, ..Listing::default() }))]));
        store.announce(&announce(1, 5, Event::None), store.now(), &mut Vec::new())
    };
    assert_eq!(listed(Some("old"), None), Err("old".to_owned()));
    assert_eq!(listed(None, Some("soon")).unwrap().warning.as_deref(), Some("soon"));
}

#[test]
fn intervals_are_short_while_somebody_downloads_and_never_above_the_rule() {
    let intervals = |store: &Store, now: u32| -> Vec<u32> {
        let ask = |n| store.announce(&announce(n, 0, Event::None), now, &mut Vec::new()).unwrap().interval;
        (1..200).map(ask).collect()
    };
    let within = |found: &[u32], range: std::ops::RangeInclusive<u32>| {
        assert!(found.iter().all(|one| range.contains(one)), "{found:?} in {range:?}");
        assert!(found.iter().any(|one| one != &found[0]), "spread out");
    };
    let store = open_store();
    let now = store.now();
    within(&intervals(&store, now), 10..=30);
    within(&intervals(&store, now + YOUTH), 200..=300);
    store.announce(&announce(250, 5, Event::None), now + YOUTH, &mut Vec::new()).unwrap();
    within(&intervals(&store, now + YOUTH), 10..=30);
    let hasty = Store::new(Rules { reannounce: 10, ..store.rules().clone() }, 1);
    within(&intervals(&hasty, now + YOUTH), 7..=10);
}

#[test]
fn who_does_not_listen_is_not_named() {
    let store = open_store();
    let deaf = Announce { address: SocketAddr::from(([10, 0, 0, 9], 0)).into(), ..announce(9, 5, Event::Started) };
    told(&store, &announce(1, 0, Event::Started));
    assert_eq!(told(&store, &deaf).1, ["10.0.0.1:6881"]);
    assert_eq!(store.peers(), 1);
    assert!(told(&store, &Announce { info_hash: InfoHash([8; 20]), ..deaf }).1.is_empty());
    assert_eq!(store.scrape(None).len(), 1, "and makes no swarm");
}

#[test]
fn a_reply_has_no_more_peers_than_the_rules_allow() {
    let store = open_store();
    (0..250).for_each(|n| drop(told(&store, &announce(n, 5, Event::None))));
    let asks = |wanted| told(&store, &Announce { wanted, ..announce(255, 5, Event::None) }).1.len();
    assert_eq!((asks(None), asks(Some(0)), asks(Some(7)), asks(Some(usize::MAX))), (50, 0, 7, 200));
}

#[test]
fn the_silent_expire_and_so_do_empty_swarms() {
    let store = open_store();
    told(&store, &announce(1, 5, Event::None));
    assert_eq!((store.expire(store.now() + 600), store.peers()), (0, 1));
    assert_eq!((store.expire(store.now() + 601), store.peers()), (1, 0));
    assert_eq!(store.scrape(None).len(), 0);

    let dead = self::store(|rules| (rules.closed, rules.keep_dead) = (false, true));
    told(&dead, &announce(1, 0, Event::Completed));
    dead.expire(dead.now() + 601);
    assert_eq!(dead.scrape(None)[0].completed, 1);
}

/// An announce of the `n`-th of the peers that `source` makes up for `hash`.
fn made_up(hash: InfoHash, source: [u8; 4], n: u32) -> Announce {
    let socket = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 1024 + (n >> 16) as u16));
    let (address, owner) = (socket.into(), Owner::new(source.into(), 0));
    Announce { info_hash: hash, address, owner, wanted: Some(0), ..announce(1, 5, Event::Started) }
}

#[test]
fn made_up_peers_that_fill_the_table_do_not_keep_out_those_that_answer() {
    let most = 50_000;
    let store = store(|rules| (rules.closed, rules.most) = (false, most));
    let mut now = store.now();
    let pcs = |now: u32| -> Vec<usize> {
        let asks = |n| {
            let mut out = Vec::new();
            store.announce(&announce(n, 5, Event::None), now, &mut out).unwrap();
            out.iter().take(40).filter(|(address, _)| address.socket().to_string().starts_with("10.0.0.")).count()
        };
        (1..=50).map(asks).collect()
    };
    pcs(now);
    now += 15;
    pcs(now);
    // By this machine, which has no limit, by many addresses, in one torrent and in as many as there are peers.
    let mut kinds = (0u32..).map(|n| match n % 3 {
        0 => made_up(HASH, [127, 0, 0, 1], n),
        1 => made_up(HASH, [10, 2, (n >> 8) as u8, n as u8], n),
        _ => made_up(
            InfoHash(std::array::from_fn(|at| (n >> (8 * (at % 4))) as u8)),
            [10, 3, (n >> 8) as u8, n as u8],
            n,
        ),
    });
    for round in 0..6 {
        for announce in kinds.by_ref().take(most / 4) {
            store.announce(&announce, now, &mut Vec::new()).unwrap();
        }
        store.make_room(now);
        assert!(store.peers() <= most - most / 16, "{} peers in round {round}", store.peers());
        now += 10;
        assert_eq!(pcs(now), [40; 50], "each learns of others like it first, in round {round}");
    }
    let new = announce(99, 5, Event::Started);
    told(&store, &new);
    assert!(store.swarm_peers(HASH).iter().any(|peer| peer.address == new.address), "and there is room for more");
    let peers: usize = store.scrape(None).iter().map(|one| (one.seeders + one.leechers) as usize).sum();
    assert_eq!(store.peers(), peers);
    assert!(store.expire(now + 601) > 0);
    assert_eq!((store.peers(), lock(&store.sources).len()), (0, 0));
}

#[test]
fn a_full_table_loses_those_first_that_never_answered_of_them_those_of_the_largest_source_then_the_silent() {
    let store = store(|rules| (rules.closed, rules.most, rules.most_of_source) = (false, 160, 100));
    let now = store.now();
    let at = |now: u32, announce: Announce| drop(store.announce(&announce, now, &mut Vec::new()).unwrap());
    let source = |n: u32| [10, 5, 0, n as u8];
    // 40 of one source and 20 of others that answer, 60 of one source and 40 of others that do not.
    for now in [now, now + 15] {
        (0..40).for_each(|n| at(now, made_up(HASH, source(250), n)));
        (0..20).for_each(|n| at(now, made_up(HASH, source(n), 100 + n)));
    }
    (0..60).for_each(|n| at(now + 15, made_up(HASH, source(251), 200 + n)));
    (0..40).for_each(|n| at(now + 15 + n / 20, made_up(HASH, source(100 + n), 300 + n)));
    let left = |from: u32, to: u32| {
        let peers = store.swarm_peers(HASH);
        (from..to).filter(|n| peers.iter().any(|peer| peer.address == made_up(HASH, [0; 4], *n).address)).count()
    };
    assert_eq!(store.peers(), 160);
    assert_eq!((store.make_room(now + 16), left(0, 200), left(200, 260), left(300, 340)), (20, 60, 40, 40));
    for from in [400, 420, 440] {
        (from..from + 20).for_each(|n| at(now + 16, made_up(HASH, source(n - 250), n)));
        assert_eq!(store.make_room(now + 16), 20);
    }
    // Those of the large source are gone, and then the older half of the others.
    assert_eq!([left(0, 200), left(200, 260), left(300, 320), left(320, 340)], [60, 0, 0, 20]);
    assert_eq!(store.make_room(now + 16), 0, "only when it is nearly full");
}

#[test]
fn a_source_that_makes_up_torrents_has_so_many_peers_in_all() {
    let open = store(|rules| (rules.closed, rules.most_of_source) = (false, 4));
    let of = |n: u32| InfoHash(std::array::from_fn(|at| (n >> (8 * (at % 4))) as u8));
    let source = [10, 9, 9, 9];
    for n in 0..1000 {
        open.announce(&made_up(of(n), source, n), open.now(), &mut Vec::new()).unwrap();
    }
    assert_eq!(open.peers(), 4 * TORRENTS_OF_SOURCE);
    // Where it has one, it may have another instead; what it stops makes room.
    told(&open, &made_up(of(1), source, 5000));
    assert_eq!((open.peers(), open.swarm_peers(of(1)).len()), (64, 1));
    let stops = Announce { event: Event::Stopped, ..made_up(of(2), source, 2) };
    told(&open, &stops);
    told(&open, &made_up(of(2000), source, 2000));
    told(&open, &made_up(of(2001), source, 2001));
    assert_eq!((open.peers(), open.swarm_peers(of(2000)).len(), open.swarm_peers(of(2001)).len()), (64, 1, 0));
    told(&open, &made_up(of(2001), [10, 9, 9, 8], 2001));
    assert_eq!(open.peers(), 65, "others have room");
    assert_eq!(lock(&open.sources).values().sum::<u32>() as usize, 65);
}

#[test]
fn who_takes_over_peers_of_other_sources_has_no_more_of_them_than_others() {
    let store = store(|rules| (rules.closed, rules.most_of_source) = (false, 3));
    let keyed = |source: [u8; 4], n| Announce { owner: Owner::new(source.into(), 77), ..made_up(HASH, source, n) };
    for round in 0..10 {
        (0..3).for_each(|n| drop(told(&store, &keyed([10, 9, 9, 1], 3 * round + n))));
        (0..3).for_each(|n| drop(told(&store, &keyed([10, 9, 9, 2], 3 * round + n))));
    }
    assert_eq!(store.peers(), 3);
}
