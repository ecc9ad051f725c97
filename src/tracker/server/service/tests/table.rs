//! A plain model of the tracker's table, which says what each announce changes and whom its answer may name, against ten
//! thousand random events of honest and hostile sources: by HTTP and UDP, under right and wrong keys, for themselves and in
//! others' names, with proxies between, in many torrents, through time that passes and a table that fills.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use super::*;
use crate::tracker::message::{AnnounceReply, AnnounceRequest, Event};
use crate::tracker::server::store::TORRENTS_OF_SOURCE;

const MOST: usize = 400;
const OF_SOURCE: usize = 4;
const LIFE: u32 = 180;
const PROXY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);
const VICTIMS: u8 = 20;

/// An announce.
#[derive(Clone, Debug)]
struct Said {
    udp: bool,
    /// Whether a datagram has a connection id that the tracker did not give.
    forged: bool,
    asker: Ipv4Addr,
    /// The address that it says it has.
    ip: Option<Ipv4Addr>,
    port: u16,
    key: u32,
    id: u8,
    torrent: u8,
    event: Event,
    left: u8,
    wanted: u8,
}

#[derive(Clone, Debug)]
enum Happens {
    Announce(Said),
    /// Seconds pass, and the house is kept.
    Wait(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::None), 2 => Just(Event::Started), 1 => Just(Event::Stopped), 1 => Just(Event::Completed),
    ]
}

/// What a PC of the lab says: mostly itself, sometimes through the proxy or from the server itself.
fn honest() -> impl Strategy<Value = Happens> {
    let asker = prop_oneof![8 => Just(None), 1 => Just(Some(PROXY)), 1 => Just(Some(Ipv4Addr::LOCALHOST))];
    (1..=VICTIMS, asker, 0..3u8, event(), 0..3u8, any::<bool>(), 5..60u8).prop_map(
        |(pc, asker, torrent, event, left, udp, wanted)| {
            let own = Ipv4Addr::new(10, 0, 0, pc);
            let (ip, asker) = (asker.map(|_| own), asker.unwrap_or(own));
            let (port, key) = (6881 + u16::from(torrent), u32::from(pc) * u32::from(pc % 2));
            Happens::Announce(Said { udp, forged: false, asker, ip, port, key, id: pc, torrent, event, left, wanted })
        },
    )
}

/// What others say: anything, of themselves, of PCs of the lab, of addresses that nobody has.
fn hostile() -> impl Strategy<Value = Happens> {
    let asker = prop_oneof![
        12 => (1..30u8).prop_map(|n| Ipv4Addr::new(10, 0, 9, n)),
        1 => Just(PROXY),
        1 => Just(Ipv4Addr::LOCALHOST),
    ];
    let ip = prop_oneof![
        2 => Just(None),
        1 => (1..=VICTIMS).prop_map(|pc| Some(Ipv4Addr::new(10, 0, 0, pc))),
        1 => any::<[u8; 2]>().prop_map(|[a, b]| Some(Ipv4Addr::new(10, 7, a, b))),
    ];
    let port = prop_oneof![1 => 6881..6884u16, 4 => 0..3000u16];
    let torrent = prop_oneof![0..3u8, any::<u8>()];
    let rest = (event(), 0..3u8, any::<bool>(), 0..10u8, any::<u8>());
    (asker, ip, port, 0..30u32, 0..30u8, torrent, rest).prop_map(
        |(asker, ip, port, key, id, torrent, (event, left, udp, forged, wanted))| {
            let forged = forged == 0;
            Happens::Announce(Said { udp, forged, asker, ip, port, key, id, torrent, event, left, wanted })
        },
    )
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![60 => honest(), 60 => hostile(), 1 => (0..25u32).prop_map(Happens::Wait)]
}

#[derive(Clone, Debug)]
struct Known {
    source: Ipv4Addr,
    key: u32,
    id: u8,
    left: u8,
    since: u32,
    seen: u32,
    expected: u32,
    answered: bool,
}

impl Known {
    fn late(&self, now: u32) -> bool {
        now - self.seen > 2 * self.expected + 15
    }
}

type At = (u8, SocketAddr);

/// What the tracker has to know.
#[derive(Debug, Default)]
struct Model {
    peers: BTreeMap<At, Known>,
    completed: HashMap<u8, u32>,
}

/// What was answered: the interval, seeders, leechers, peers.
type Answered = (u32, u32, u32, Vec<SocketAddr>);

impl Model {
    fn of(&self, torrent: u8) -> impl Iterator<Item = (SocketAddr, &Known)> {
        self.peers.iter().filter(move |((of, _), _)| *of == torrent).map(|((_, address), known)| (*address, known))
    }

    /// Takes note of an announce that was answered so. `there` says whether a peer is in the tracker's table.
    fn announce(&mut self, said: &Said, now: u32, answered: &Answered, there: impl Fn(At) -> bool) {
        let trusted = said.asker == PROXY || said.asker.is_loopback();
        let ip = said.ip.filter(|_| trusted).unwrap_or(said.asker);
        let source = if trusted { ip } else { said.asker };
        let (at, (interval, seeders, leechers, peers)) = ((said.torrent, SocketAddr::from((ip, said.port))), answered);
        let old = self.peers.get(&at).cloned();
        let own = old
            .as_ref()
            .is_none_or(|old| (said.key != 0 && said.key == old.key) || source == old.source || source == ip);
        if said.event == Event::Stopped {
            if own && old.is_some_and(|old| old.id == said.id) {
                self.peers.remove(&at);
            }
            assert_eq!((*interval, peers.len()), (60, 0));
        } else {
            assert!((1..=60).contains(interval));
            if own && said.port != 0 && self.finds_room(at, source, old.as_ref(), there) {
                self.put(at, source, old, said, now, *interval);
            }
            self.may_name(said, at, now, peers);
        }
        let is_seeder = |seeder| self.of(said.torrent).filter(|(_, known)| (known.left == 0) == seeder).count() as u32;
        assert_eq!((*seeders, *leechers), (is_seeder(true), is_seeder(false)));
    }

    /// Whether there is room for a peer of `source`, which is made by its oldest if it has too many.
    fn finds_room(&mut self, at: At, source: Ipv4Addr, old: Option<&Known>, there: impl Fn(At) -> bool) -> bool {
        if old.is_none() && self.peers.len() >= MOST {
            return false;
        }
        if source.is_loopback() || old.is_some_and(|old| old.source == source) {
            return true;
        }
        let theirs: Vec<(At, u32)> = self
            .peers
            .iter()
            .filter(|(_, known)| known.source == source)
            .map(|(at, known)| (*at, known.seen))
            .collect();
        let here: Vec<(At, u32)> = theirs.iter().filter(|((torrent, _), _)| *torrent == at.0).copied().collect();
        if here.len() < OF_SOURCE && theirs.len() < OF_SOURCE * TORRENTS_OF_SOURCE {
            return true;
        }
        let Some(oldest) = here.iter().map(|(_, seen)| *seen).min() else { return false };
        let gone: Vec<At> = here.iter().filter(|(one, _)| *one != at && !there(*one)).map(|(one, _)| *one).collect();
        assert_eq!(gone.len(), 1, "one of its source makes room: {here:?}");
        assert_eq!(self.peers.remove(&gone[0]).unwrap().seen, oldest);
        true
    }

    fn put(&mut self, at: At, source: Ipv4Addr, old: Option<Known>, said: &Said, now: u32, interval: u32) {
        let same = old.as_ref().filter(|old| old.id == said.id);
        let left = said.left;
        if left == 0 && same.map_or(said.event == Event::Completed, |old| old.left != 0) {
            *self.completed.entry(at.0).or_default() += 1;
        }
        let known = match same {
            None => Known {
                source,
                key: said.key,
                id: said.id,
                left,
                since: now,
                seen: now,
                expected: interval,
                answered: false,
            },
            Some(old) => Known {
                source,
                key: said.key,
                id: said.id,
                left,
                since: old.since,
                seen: now,
                expected: interval.max((now - old.seen).min(1800)),
                answered: !old.late(now) && (old.answered || 2 * (now - old.since) >= old.expected),
            },
        };
        self.peers.insert(at, known);
    }

    /// Checks whom an answer names.
    fn may_name(&self, said: &Said, (torrent, own): At, now: u32, named: &[SocketAddr]) {
        let others: HashMap<SocketAddr, &Known> =
            self.of(torrent).filter(|(one, known)| *one != own && (said.left != 0 || known.left != 0)).collect();
        let wanted = usize::from(said.wanted);
        assert!(named.len() <= wanted);
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "nobody twice");
        let answered: Vec<bool> = named.iter().map(|one| others.get(one).expect("who is there").answered).collect();
        let first = answered.iter().take_while(|answered| **answered).count();
        assert!(answered[first..].iter().all(|answered| !answered), "those that answered come first");
        if others.len() <= wanted {
            assert_eq!(named.len(), others.len(), "all that fit");
        }
        let could = others.values().filter(|known| known.answered && !known.late(now)).count();
        assert!(first + 1 >= could.min(wanted - wanted / 5), "{first} of {could} among {wanted}");
    }

    /// What `wait` leaves of the table, which `there` tells, after `gone` peers made room.
    fn wait(&mut self, now: u32, gone: usize, there: impl Fn(At) -> bool) {
        self.peers.retain(|_, known| known.seen + LIFE >= now);
        for known in self.peers.values_mut() {
            known.answered &= !known.late(now);
        }
        let over = self.peers.len().saturating_sub(MOST - MOST / 16);
        assert_eq!(gone, if over == 0 { 0 } else { over + MOST / 8 - MOST / 16 });
        let mut of_source: HashMap<Ipv4Addr, u32> = HashMap::new();
        self.peers.values().for_each(|known| *of_source.entry(known.source).or_default() += 1);
        let rank = |known: &Known| (!known.answered, of_source[&known.source].ilog2(), now - known.seen);
        let left = self.peers.iter().filter(|(at, _)| there(**at)).map(|(_, known)| rank(known)).max();
        let went = self.peers.iter().filter(|(at, _)| !there(**at)).map(|(_, known)| rank(known)).min();
        assert!(went.is_none() || left <= went, "{went:?} went before {left:?}");
        self.peers.retain(|at, _| there(*at));
    }
}

/// Announces to `service`; `None` if it refuses.
fn ask(service: &Service, said: &Said, now: u32, scratch: &mut Scratch) -> Option<Answered> {
    let asker = SocketAddr::from((said.asker, 4000));
    let (info_hash, peer_id) = (InfoHash([said.torrent; 20]), PeerId([said.id; 20]));
    if said.udp {
        let period = now / CONNECTION_LIFE;
        let connection = service.connection(asker, period) ^ u64::from(said.forged);
        let announce = udp::Announce {
            info_hash,
            peer_id,
            downloaded: 0,
            left: said.left.into(),
            uploaded: 0,
            event: said.event,
            ip: said.ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
            key: said.key,
            numwant: Some(said.wanted.into()),
            port: said.port,
        };
        let (mut packet, mut out) = (Vec::new(), Vec::new());
        udp::Request::Announce { connection, transaction: 1, announce }.write(&mut packet);
        assert!(service.answer_udp(&packet, asker, now, scratch, &mut out));
        return match udp::Reply::read(&out, asker.ip()) {
            Some(udp::Reply::Announce { interval, leechers, seeders, peers, .. }) => {
                Some((interval, seeders, leechers, peers))
            }
            _ => None,
        };
    }
    let request = AnnounceRequest {
        info_hash,
        peer_id,
        port: said.port,
        uploaded: 0,
        downloaded: 0,
        left: said.left.into(),
        event: said.event,
        numwant: said.wanted.into(),
        key: said.key,
        ip: said.ip.map(|ip| ip.to_string()),
        tracker_id: None,
    };
    let text = format!("GET {} HTTP/1.0\r\n\r\n", request.url("/announce"));
    let made = service.answer(&Head::read(text.as_bytes()).unwrap().unwrap().0, asker.ip(), now, scratch);
    let reply = AnnounceReply::parse(made.bytes(), "").unwrap();
    Some((reply.interval.as_secs() as u32, reply.complete.unwrap(), reply.incomplete.unwrap(), reply.peers))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]
    #[test]
    fn the_table_is_that_of_a_plain_model(events in prop::collection::vec(happens(), 10_000)) {
        let service = serving(|config| {
            let Config { rules, override_ip, proxies, .. } = config;
            (rules.life, rules.reannounce, rules.most, rules.most_of_source) = (LIFE, 60, MOST, OF_SOURCE);
            (*override_ip, *proxies) = (OverrideIp::Trusted, Ranges::read(PROXY.to_string().as_bytes()).0);
        });
        let (mut model, mut now, mut scratch) = (Model::default(), service.store.now(), Scratch::default());
        let table = || -> BTreeSet<At> {
            let of = |n: u8| service.store.swarm_peers(InfoHash([n; 20])).into_iter().map(move |one| (n, one.address.socket()));
            (0..=255).flat_map(of).collect()
        };
        let (mut fullest, mut made_room) = (0, 0);
        for one in &events {
            match one {
                Happens::Announce(said) => match ask(&service, said, now, &mut scratch) {
                    Some(answered) => {
                        let here = service.store.swarm_peers(InfoHash([said.torrent; 20]));
                        let here: BTreeSet<SocketAddr> = here.into_iter().map(|peer| peer.address.socket()).collect();
                        model.announce(said, now, &answered, |(_, address)| here.contains(&address));
                        let known: BTreeSet<SocketAddr> = model.of(said.torrent).map(|(address, _)| address).collect();
                        prop_assert_eq!(known, here);
                    }
                    None => prop_assert!(said.udp && said.forged),
                },
                Happens::Wait(seconds) => {
                    now += seconds;
                    service.store.expire(now);
                    let gone = service.store.make_room(now);
                    made_room += gone;
                    let table = table();
                    model.wait(now, gone, |at| table.contains(&at));
                    prop_assert_eq!(model.peers.keys().copied().collect::<BTreeSet<_>>(), table);
                }
            }
            fullest = fullest.max(model.peers.len());
            prop_assert_eq!(service.store.peers(), model.peers.len());
        }
        prop_assert_eq!(fullest, MOST, "the table was full");
        prop_assert!(made_room > 0);
        for counts in service.store.scrape(None) {
            let known = model.of(counts.info_hash.0[0]).count() as u32;
            prop_assert_eq!(counts.seeders + counts.leechers, known);
        }
    }
}
