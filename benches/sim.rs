//! The swarm in virtual time: the very [`ogbox::swarm::Swarm`] and [`Roster`] that ship, thousands of them in one
//! thread, over modelled links.
//!
//! The model: a host has an uplink and a downlink, each of which handles its blocks in order. Messages take the
//! latency alone, the haves of a piece go out together, and a piece is verified in a fixed time. A connection gives
//! its next block to the uplink when the one before has left, or has arrived if the receiver is behind. A tracker
//! returns 50 peers and the server; the rosters dial. No disk, no loss, no congestion except at the hosts' own
//! links.
//!
//! Requests may be longer than on the wire, which halves the events (`--request 256`, the default); much longer ones
//! distort (2,048 KiB: a server of 10 Gbit/s sends 8.9 copies instead of 2.7), and `--request 128` is what ships.
//! The bound is the time of an ideal fluid that flows from the first moment on, even where peers come later.
//! `make sim ARGS="[--size GIB] [--peers N,N] [--server GBIT] [--request KIB] [--all]"`; by default it takes some
//! minutes, nearly all of them for 1,000 peers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ogbox::base::rng::Rng;
use ogbox::swarm::{
    Action, Block, Config, FRIEND_REQUEST, PeerKey, REQUEST_QUEUE, Roster, Swarm, Traits, Verdict, Verified,
};
use ogbox::torrent::{Bitfield, Geometry};

/// Bytes of a piece.
const PIECE: u32 = 4 << 20;
/// One-way latency, nanoseconds.
const LATENCY: u64 = 200_000;
/// Time from a piece's last block to its verdict, nanoseconds: 4 MiB at 1 GB/s.
const VERIFY: u64 = 4_000_000;
/// Time between two ticks of a host, nanoseconds.
const TICK: u64 = 100_000_000;
/// Peers in a tracker's answer, and the interval at which a host without further addresses asks again, nanoseconds.
const TOLD: usize = 50;
const ASK_AGAIN: u64 = 5_000_000_000;
/// Connections that a client accepts.
const MAX_PEERS: usize = 100;
const SECOND: f64 = 1e9;
const GBIT: f64 = 1e9 / 8.0;

/// Our end of a connection.
struct Link {
    to: usize,
    /// The key by which the other end knows us.
    back: PeerKey,
    /// Whether a block of it is on the uplink, or held up by the receiver.
    sending: bool,
}

struct Host {
    swarm: Swarm,
    roster: Roster,
    /// Connections by key.
    links: Vec<Option<Link>>,
    connections: usize,
    /// Bytes a second of the uplink.
    up: f64,
    down: f64,
    uplink: VecDeque<(PeerKey, Block)>,
    busy: bool,
    /// Time at which the downlink has taken in all that was sent so far, nanoseconds.
    down_free: u64,
    begins: u64,
    leaves: u64,
    asked: u64,
    whole_at: Option<u64>,
}

/// Events after a fixed delay, so that a queue keeps their order.
enum Message {
    /// An action for the host from the peer of this key.
    Told(usize, PeerKey, Action),
    /// The host's announcement of a piece to all its peers.
    Haves(usize, u32),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Moved {
    /// A host's uplink has sent a block of the connection of this key; true: the connection has the next one ready.
    Sent(usize, PeerKey, bool),
    /// A block arrives at the host from the peer of this key: piece, begin, length; true: the sender waited for it.
    Arrived(usize, PeerKey, (u32, u32, u32), bool),
}

struct World {
    now: u64,
    hosts: Vec<Host>,
    rng: Rng,
    max_request: u32,
    messages: VecDeque<(u64, Message)>,
    verifying: VecDeque<(u64, usize, u32)>,
    ticks: VecDeque<(u64, usize)>,
    moving: BinaryHeap<Reverse<(u64, u64, Moved)>>,
    events: u64,
}

/// Parameters of one run.
#[derive(Clone)]
struct Scenario {
    name: &'static str,
    size: u64,
    peers: usize,
    /// Bytes a second of the server's links.
    server: f64,
    request: u32,
    /// Number of peers with a tenth of the others' link rate.
    slow: usize,
    /// Of a hundred peers, the number that leave at a third of the bound, to be replaced by as many new ones.
    churn: usize,
}

impl World {
    fn new(scenario: &Scenario) -> World {
        let geometry = Geometry::new(scenario.size, PIECE);
        let churn = scenario.peers * scenario.churn / 100;
        let turn = (scenario.bound() * SECOND / 3.0) as u64;
        let mut world = World {
            now: 0,
            hosts: Vec::new(),
            rng: Rng::new(7),
            max_request: scenario.request,
            messages: VecDeque::new(),
            verifying: VecDeque::new(),
            ticks: VecDeque::new(),
            moving: BinaryHeap::new(),
            events: 0,
        };
        let mut begins = Vec::new();
        for at in 0..=scenario.peers + churn {
            let have = if at == 0 { Bitfield::full(geometry.pieces()) } else { Bitfield::new(geometry.pieces()) };
            let config = match scenario.request {
                FRIEND_REQUEST => Config::default(),
                long => Config { max_request: long, request_time: f64::MAX, ..Config::default() },
            };
            let rate = match at {
                0 => scenario.server,
                _ if at <= scenario.slow => GBIT / 10.0,
                _ => GBIT,
            };
            let seed = world.rng.bits();
            let late = at > scenario.peers;
            let begin = if at == 0 { 0 } else { world.rng.below(TICK) + if late { turn } else { 0 } };
            begins.push((begin, at));
            world.hosts.push(Host {
                swarm: Swarm::new(geometry, have, config, seed),
                roster: Roster::new(seed),
                links: Vec::new(),
                connections: 0,
                up: rate,
                down: rate,
                uplink: VecDeque::new(),
                busy: false,
                down_free: 0,
                begins: begin,
                leaves: if at > scenario.peers - churn && !late { turn } else { u64::MAX },
                asked: 0,
                whole_at: None,
            });
        }
        begins.sort_unstable();
        world.ticks.extend(begins);
        world
    }

    fn time(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    fn is_here(&self, at: usize) -> bool {
        (self.hosts[at].begins..self.hosts[at].leaves).contains(&self.now)
    }

    fn run(&mut self) {
        let awaited = |host: &Host| host.whole_at.is_none() && host.leaves == u64::MAX;
        let mut left = self.hosts[1..].iter().filter(|host| awaited(host)).count();
        while left > 0 {
            let next = [
                self.messages.front().map(|event| event.0),
                self.verifying.front().map(|event| event.0),
                self.ticks.front().map(|event| event.0),
                self.moving.peek().map(|event| event.0.0),
            ];
            let (which, now) =
                (0..4).filter_map(|which| Some((which, next[which]?))).min_by_key(|x| x.1).expect("ticks");
            self.now = now;
            self.events += 1;
            match which {
                0 => match self.messages.pop_front().expect("seen").1 {
                    Message::Told(at, key, action) => self.hear(at, key, action),
                    Message::Haves(at, piece) => self.announce(at, piece),
                },
                1 => {
                    let (_, at, piece) = self.verifying.pop_front().expect("seen");
                    let time = self.time();
                    let host = &mut self.hosts[at];
                    host.swarm.verified(time, piece, Verified::Good, &[]);
                    if host.swarm.is_whole() && host.whole_at.is_none() {
                        left -= usize::from(awaited(host));
                        host.whole_at = Some(now);
                    }
                    self.messages.push_back((now + LATENCY, Message::Haves(at, piece)));
                    self.carry_out(at);
                }
                2 => {
                    let at = self.ticks.pop_front().expect("seen").1;
                    self.tick(at);
                }
                _ => match self.moving.pop().expect("seen").0.2 {
                    Moved::Sent(at, key, next) => {
                        self.hosts[at].busy = false;
                        if next {
                            self.release(at, key);
                        }
                        self.transmit(at);
                    }
                    Moved::Arrived(at, key, (piece, begin, length), waited) => {
                        self.receive(at, key, Block { piece, begin, length }, waited);
                    }
                },
            }
            assert!(self.now < 100_000_000_000_000, "the swarm does not finish");
        }
    }

    fn tick(&mut self, at: usize) {
        if self.now >= self.hosts[at].leaves {
            (0..self.hosts[at].links.len() as u32).for_each(|key| self.disconnect(at, PeerKey(key)));
            return;
        }
        self.ticks.push_back((self.now + TICK, at));
        // Hosts that begin later would break the queue's order, so it is sorted then.
        if self.ticks.len() > 1 && self.ticks[self.ticks.len() - 2].0 > self.now + TICK {
            self.ticks.make_contiguous().sort_unstable();
        }
        let time = self.time();
        self.hosts[at].swarm.tick(time);
        self.carry_out(at);
        let host = &self.hosts[at];
        if host.roster.spare() == 0 && (host.asked == 0 || self.now - host.asked > ASK_AGAIN) {
            self.ask_tracker(at);
        }
        loop {
            let host = &mut self.hosts[at];
            let whole = host.swarm.is_whole();
            let Some(address) = host.roster.next_dial(time, host.connections, whole) else { break };
            self.dial(at, address);
        }
    }

    fn ask_tracker(&mut self, at: usize) {
        self.hosts[at].asked = self.now.max(1);
        let mut told: Vec<usize> = (1..self.hosts.len()).filter(|&other| other != at && self.is_here(other)).collect();
        self.rng.shuffle(&mut told);
        told.truncate(TOLD);
        if at != 0 {
            told.push(0);
        }
        for other in told {
            self.hosts[at].roster.add(address(other));
        }
    }

    fn dial(&mut self, at: usize, to: SocketAddr) {
        let other = host_of(to);
        let time = self.time();
        let known = self.hosts[at].links.iter().flatten().any(|link| link.to == other);
        let full = other != 0 && self.hosts[other].connections >= MAX_PEERS;
        if known || full || !self.is_here(other) {
            return self.hosts[at].roster.gone(time, to, true, false);
        }
        let traits = Traits { fast: true, max_request: self.max_request, queue: REQUEST_QUEUE };
        let mut join =
            |host: usize, peer: usize| self.hosts[host].swarm.join_from(time, traits, Some(address(peer).ip()));
        let keys = [join(at, other), join(other, at)];
        for (host, peer, key, back) in [(at, other, keys[0], keys[1]), (other, at, keys[1], keys[0])] {
            let host = &mut self.hosts[host];
            assert_eq!(host.links.len(), key.0 as usize, "keys count up");
            host.links.push(Some(Link { to: peer, back, sending: false }));
            host.connections += 1;
            host.roster.connected(address(peer));
        }
        self.carry_out(at);
        self.carry_out(other);
    }

    fn disconnect(&mut self, at: usize, key: PeerKey) {
        let time = self.time();
        let Some(link) = self.hosts[at].links[key.0 as usize].take() else { return };
        self.hosts[link.to].links[link.back.0 as usize] = None;
        for (host, key, peer) in [(at, key, link.to), (link.to, link.back, at)] {
            let whole = self.hosts[peer].swarm.is_whole();
            let host = &mut self.hosts[host];
            host.connections -= 1;
            host.swarm.leave(time, key);
            host.roster.gone(time, address(peer), false, whole);
        }
        self.carry_out(at);
        self.carry_out(link.to);
    }

    /// Carries out the decisions of the host's swarm.
    fn carry_out(&mut self, at: usize) {
        while let Some((key, action)) = self.hosts[at].swarm.next_action() {
            match action {
                Action::Have(_) => {}
                Action::Verify(piece) => self.verifying.push_back((self.now + VERIFY, at, piece)),
                Action::Wake => self.pull(at, key),
                Action::Drop(_) => self.disconnect(at, key),
                Action::Ban(offence) => panic!("nobody lies here: {offence}"),
                told => {
                    if let Some(link) = &self.hosts[at].links[key.0 as usize] {
                        self.messages.push_back((self.now + LATENCY, Message::Told(link.to, link.back, told)));
                    }
                }
            }
        }
    }

    /// Gives the connection's next block to the uplink, if it is its turn.
    fn pull(&mut self, at: usize, key: PeerKey) {
        let time = self.time();
        let host = &mut self.hosts[at];
        let Some(link) = &mut host.links[key.0 as usize] else { return };
        if link.sending {
            return;
        }
        if let Some(block) = host.swarm.next_upload(time, key) {
            link.sending = true;
            host.uplink.push_back((key, block));
            self.transmit(at);
        }
    }

    fn release(&mut self, at: usize, key: PeerKey) {
        if let Some(link) = &mut self.hosts[at].links[key.0 as usize] {
            link.sending = false;
            self.pull(at, key);
            self.carry_out(at);
        }
    }

    /// Starts on the uplink's next block if it is free.
    fn transmit(&mut self, at: usize) {
        if self.hosts[at].busy {
            return;
        }
        while let Some((key, block)) = self.hosts[at].uplink.pop_front() {
            let host = &mut self.hosts[at];
            let Some(Link { to, back, .. }) = host.links[key.0 as usize] else { continue };
            host.busy = true;
            let length = f64::from(block.length);
            let sent = self.now + (length / host.up * SECOND) as u64;
            let receiver = &mut self.hosts[to];
            receiver.down_free = receiver.down_free.max(self.now + LATENCY) + (length / receiver.down * SECOND) as u64;
            let arrived = receiver.down_free.max(sent + LATENCY);
            let waits = arrived > sent + LATENCY;
            let what = (block.piece, block.begin, block.length);
            self.moving.push(Reverse((sent, self.events, Moved::Sent(at, key, !waits))));
            self.moving.push(Reverse((arrived, self.events, Moved::Arrived(to, back, what, waits))));
            return;
        }
    }

    fn receive(&mut self, at: usize, key: PeerKey, block: Block, waited: bool) {
        let time = self.time();
        let host = &mut self.hosts[at];
        let Some(Link { to, back, .. }) = host.links[key.0 as usize] else { return };
        if let Verdict::Store(part) = host.swarm.arrived(time, key, block).expect("our own kind commits no offence") {
            host.swarm.stored(time, key, part);
        }
        self.carry_out(at);
        if waited {
            self.release(to, back);
        }
    }

    fn announce(&mut self, at: usize, piece: u32) {
        let time = self.time();
        for key in 0..self.hosts[at].links.len() {
            let Some(Link { to, back, .. }) = self.hosts[at].links[key] else { continue };
            self.hosts[to].swarm.have_piece(time, back, piece).expect("a piece of the torrent");
            self.carry_out(to);
        }
    }

    fn hear(&mut self, at: usize, key: PeerKey, action: Action) {
        let time = self.time();
        let Some(Link { to, .. }) = self.hosts[at].links[key.0 as usize] else { return };
        let have = (action == Action::Bitfield).then(|| self.hosts[to].swarm.have().clone());
        let swarm = &mut self.hosts[at].swarm;
        let heard = match action {
            Action::Bitfield => swarm.bitfield(time, key, have.expect("just taken")),
            Action::Choke => {
                swarm.choke(time, key);
                Ok(())
            }
            Action::Unchoke => {
                swarm.unchoke(time, key);
                Ok(())
            }
            Action::Interested | Action::NotInterested => {
                swarm.interested(time, key, action == Action::Interested);
                Ok(())
            }
            Action::Request(block) => swarm.request(time, key, block),
            Action::Cancel(block) => swarm.cancel(key, block),
            Action::Reject(block) => swarm.rejected(time, key, block),
            other => panic!("{other:?} is nothing to send"),
        };
        heard.expect("our own kind commits no offence");
        self.carry_out(at);
    }
}

fn address(host: usize) -> SocketAddr {
    let [_, a, b, c] = (host as u32).to_be_bytes();
    SocketAddr::from(([10, a, b, c], 2706))
}

fn host_of(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(v4) => (u32::from(*v4.ip()) & 0xff_ffff) as usize,
        SocketAddr::V6(_) => panic!("no such host"),
    }
}

impl Scenario {
    /// Seconds of an ideal fluid, a lower bound for every way of sharing.
    fn bound(&self) -> f64 {
        let (size, peers) = (self.size as f64, self.peers as f64);
        let uploads = self.server + GBIT * (peers - 0.9 * self.slow as f64);
        (size / self.server).max(size / GBIT).max(peers * size / uploads)
    }

    fn print(&self) {
        let begin = Instant::now();
        let mut world = World::new(self);
        world.run();
        let ends = |hosts: &[Host]| {
            let mut ends: Vec<f64> = hosts.iter().filter_map(|host| Some(host.whole_at? as f64 / SECOND)).collect();
            ends.sort_by(f64::total_cmp);
            ends
        };
        let (slow, others) = world.hosts[1..].split_at(self.slow);
        let (ends, slow) = (ends(others), ends(slow));
        let (first, last) = (ends[0], ends[ends.len() - 1]);
        let wasted: u64 = world.hosts.iter().map(|host| host.swarm.totals().wasted).sum();
        println!(
            "{:<18}{:>6}{:>8.0}{first:>9.1}{last:>9.1}{:>9.1}{:>7.2}{:>8.2}{:>8.2}%{:>8.1}{}",
            self.name,
            self.peers,
            self.server / GBIT,
            self.bound(),
            last / self.bound(),
            world.hosts[0].swarm.totals().uploaded as f64 / self.size as f64,
            wasted as f64 / self.size as f64 / self.peers as f64 * 100.0,
            begin.elapsed().as_secs_f64(),
            slow.iter().map(|end| format!("  (the slow one: {end:.1} s)")).collect::<String>(),
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{name} wants a value")).as_str())
    };
    let number = |name: &str, default: f64| value(name).map_or(default, |value| value.parse().expect("a number"));
    let all = arguments.iter().any(|argument| argument == "--all");
    let peers: Vec<usize> = match value("--peers") {
        Some(list) => list.split(',').map(|count| count.parse().expect("a number of peers")).collect(),
        None if all => vec![10, 100, 1000, 5000],
        None => vec![10, 100, 1000],
    };
    let base = Scenario {
        name: "all together",
        size: (number("--size", 20.0) * f64::from(1 << 30)) as u64,
        peers: 100,
        server: number("--server", 1.0) * GBIT,
        request: (number("--request", 256.0) as u32) << 10,
        slow: 0,
        churn: 0,
    };
    println!(
        "{} MiB in pieces of {} MiB, requests of {} KiB, peers with 1 Gbit/s each way; virtual seconds",
        base.size >> 20,
        PIECE >> 20,
        base.request >> 10
    );
    println!(
        "{:<18}{:>6}{:>8}{:>9}{:>9}{:>9}{:>7}{:>8}{:>9}{:>8}",
        "scenario", "peers", "server", "first", "last", "bound", "ratio", "copies", "wasted", "CPU s"
    );
    for peers in peers {
        Scenario { peers, ..base.clone() }.print();
    }
    Scenario { name: "server 10 Gbit/s", server: 10.0 * GBIT, ..base.clone() }.print();
    Scenario { name: "one at 100 Mbit/s", slow: 1, ..base.clone() }.print();
    Scenario { name: "20 leave, 20 come", churn: 20, ..base }.print();
}
