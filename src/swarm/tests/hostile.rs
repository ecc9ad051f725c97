//! What an honest peer gets of a seeder beside connections that want to keep it from that, over an uplink in virtual
//! time that serves all who are sent to alike.

use std::net::IpAddr;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
/// Bytes that the uplink carries a millisecond.
const RATE: u64 = 4096;
const SECONDS: u64 = 12;
/// Blocks of a piece, and requests that an honest peer keeps open.
const BLOCKS: u32 = 16;
const AHEAD: u32 = 32;
/// Bytes that fit into the buffers on the way to a peer that does not read.
const BUFFERS: u64 = 160 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Asks for one block after another and takes them.
    Takes,
    /// Says that it is interested, and nothing more.
    Idles,
    /// Asks, and reads nothing.
    Deaf,
    /// Asks for more than it may, and comes again when it is dropped.
    Greedy,
    /// Asks for the same block, or the same few, again and again.
    Repeats(u32),
    /// Cancels what it asked for.
    Cancels,
}

struct Connection {
    kind: Kind,
    ip: IpAddr,
    key: PeerKey,
    unchoked: bool,
    awake: bool,
    /// The block on its way to it, and the bytes of it that are to come.
    coming: Option<(Block, u64)>,
    /// The next block to ask for, and the number of those that it asked for and did not get.
    next: u32,
    open: u32,
    got: u64,
    /// Time at which it comes again after it was dropped.
    again: Duration,
}

impl Connection {
    fn block(&self, pieces: u32) -> Block {
        let number = if let Kind::Repeats(few) = self.kind { self.next % few } else { self.next };
        Block { piece: number / BLOCKS % pieces, begin: number % BLOCKS * BLOCK, length: BLOCK }
    }

    /// Tells the seeder what one of its kind says in a millisecond.
    fn act(&mut self, swarm: &mut Swarm, now: Duration) -> Result<(), Offence> {
        let most = match self.kind {
            Kind::Idles => 0,
            Kind::Greedy => 2000,
            Kind::Repeats(few) => few.min(AHEAD),
            _ => AHEAD,
        };
        while self.unchoked && self.open < most {
            let block = self.block(swarm.geometry().pieces());
            swarm.request(now, self.key, block)?;
            if self.kind == Kind::Cancels {
                swarm.cancel(self.key, block)?;
                break;
            }
            (self.next, self.open) = (self.next + 1, self.open + 1);
        }
        Ok(())
    }
}

/// A seeder and the connections to it.
struct Room {
    swarm: Swarm,
    now: Duration,
    connections: Vec<Connection>,
}

impl Room {
    fn new() -> Room {
        let geometry = geometry(1000, BLOCKS, 0);
        let swarm = Swarm::new(geometry, Bitfield::full(geometry.pieces()), Config::default(), 1);
        Room { swarm, now: Duration::from_secs(1), connections: Vec::new() }
    }

    fn join(&mut self, kind: Kind, host: u8) {
        let ip = IpAddr::from([10, 0, 0, host]);
        let key = self.enter(ip);
        let (unchoked, awake, coming, next, open, got, again) = (false, false, None, 0, 0, 0, Duration::MAX);
        self.connections.push(Connection { kind, ip, key, unchoked, awake, coming, next, open, got, again });
    }

    fn enter(&mut self, ip: IpAddr) -> PeerKey {
        let key = self.swarm.join_from(self.now, Traits::stranger(false), Some(ip));
        self.swarm.interested(self.now, key, true);
        key
    }

    fn step(&mut self) {
        self.now += MILLISECOND;
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            let ip = connection.ip;
            if connection.act(&mut self.swarm, self.now).is_err() {
                let key = connection.key;
                (connection.unchoked, connection.awake, connection.coming, connection.open) = (false, false, None, 0);
                connection.again = self.now + 500 * MILLISECOND;
                self.swarm.leave(self.now, key);
            } else if connection.again <= self.now {
                connection.again = Duration::MAX;
                self.connections[at].key = self.enter(ip);
            }
        }
        if self.now.subsec_millis().is_multiple_of(100) {
            self.swarm.tick(self.now);
        }
        self.send();
        self.hear();
    }

    fn hear(&mut self) {
        while let Some((key, action)) = self.swarm.next_action() {
            let Some(connection) = self.connections.iter_mut().find(|other| other.key == key) else { continue };
            match action {
                Action::Unchoke => connection.unchoked = true,
                // It voids what is open, and the peer asks for it again.
                Action::Choke => {
                    connection.next -= connection.open.min(connection.next);
                    (connection.unchoked, connection.open) = (false, 0);
                }
                Action::Wake => connection.awake = true,
                _ => {}
            }
        }
    }

    /// Sends a millisecond's bytes, in small parts in turn.
    fn send(&mut self) {
        let mut left = RATE;
        while left > 0 {
            let mut sent = 0;
            for at in 0..self.connections.len() {
                let connection = &mut self.connections[at];
                if connection.coming.is_none() && connection.awake {
                    match self.swarm.next_upload(self.now, connection.key) {
                        Some(block) => connection.coming = Some((block, u64::from(block.length))),
                        None => connection.awake = false,
                    }
                }
                let full = connection.kind == Kind::Deaf && connection.got >= BUFFERS;
                let Some((block, rest)) = connection.coming.filter(|_| !full && left > sent) else { continue };
                let part = rest.min(256).min(left - sent);
                sent += part;
                connection.got += part;
                connection.coming = Some((block, rest - part)).filter(|(_, rest)| *rest > 0);
                if connection.coming.is_none() {
                    connection.open = connection.open.saturating_sub(1);
                    if connection.kind == Kind::Takes && block.begin == (BLOCKS - 1) * BLOCK {
                        self.swarm.have_piece(self.now, connection.key, block.piece).expect("a piece of the torrent");
                    }
                }
            }
            self.hear();
            if sent == 0 {
                break;
            }
            left -= sent;
        }
    }
}

/// Bytes that an honest peer gets beside `many` of a kind from so many addresses, which come before it or, of a `busy`
/// seeder, after it.
fn got(kind: Kind, many: usize, addresses: usize, busy: bool) -> u64 {
    let mut room = Room::new();
    if busy {
        room.join(Kind::Takes, 1);
        (0..2000).for_each(|_| room.step());
    }
    (0..many).for_each(|at| room.join(kind, 10 + (at % addresses) as u8));
    if !busy {
        (0..2000).for_each(|_| room.step());
        room.join(Kind::Takes, 1);
    }
    let honest =
        |room: &Room| room.connections.iter().find(|one| one.ip == IpAddr::from([10, 0, 0, 1])).map(|one| one.got);
    let before = honest(&room);
    (0..SECONDS * 1000).for_each(|_| room.step());
    honest(&room).unwrap_or(0) - before.unwrap_or(0)
}

#[test]
fn who_wastes_what_he_gets_costs_an_honest_peer_less_than_a_fifth() {
    let alone = got(Kind::Idles, 0, 1, false);
    assert!(alone > RATE * SECONDS * 990, "{alone} bytes alone");
    for kind in [Kind::Idles, Kind::Deaf, Kind::Greedy, Kind::Repeats(1), Kind::Repeats(4), Kind::Cancels] {
        for (many, addresses) in [(6, 1), (64, 1), (64, 16), (16, 16)] {
            for busy in [false, true] {
                let share = got(kind, many, addresses, busy) as f64 / alone as f64;
                eprintln!("{kind:?}, {many} of {addresses}, busy {busy}: {share:.3}");
                assert!(share >= 0.8, "{kind:?}, {many} of {addresses}, busy {busy}: {share:.3}");
            }
        }
    }
}

#[test]
fn who_takes_by_many_connections_gets_the_share_of_his_address() {
    let alone = got(Kind::Idles, 0, 1, false);
    for (addresses, connections) in [(1, 1), (1, 8), (1, 64), (3, 8), (7, 8), (16, 1), (16, 6)] {
        for busy in [false, true] {
            let share = got(Kind::Takes, connections * addresses, addresses, busy) as f64 / alone as f64;
            let due = 1.0 / (addresses + 1) as f64;
            eprintln!("{addresses} of {connections} each, busy {busy}: {share:.3} of {due:.3}");
            assert!(share >= 0.8 * due, "{addresses} of {connections} each, busy {busy}: {share:.3} of {due:.3}");
        }
    }
}

#[test]
fn one_address_alone_has_all_slots_and_turns() {
    let mut room = Room::new();
    (0..4).for_each(|_| room.join(Kind::Takes, 1));
    (0..50).for_each(|_| room.step());
    assert!(room.connections.iter().all(|one| one.unchoked && one.got > 0));
}

#[test]
fn a_slot_without_requests_keeps_nobody_out_and_is_still_good() {
    let mut swarm = Swarm::new(geometry(4, 2, 0), Bitfield::full(4), Config { slots: Some(2), ..Config::default() }, 1);
    let unchoked = |swarm: &mut Swarm, now| {
        swarm.tick(now);
        std::iter::from_fn(|| swarm.next_action()).filter(|(_, told)| *told == Action::Unchoke).count()
    };
    let keys: Vec<PeerKey> = (0..5).map(|_| swarm.join(Duration::ZERO, Traits::stranger(true))).collect();
    keys.iter().for_each(|key| swarm.interested(Duration::ZERO, *key, true));
    let at = Duration::from_millis;
    assert_eq!([0, 100, 300, 400, 600].map(|now| unchoked(&mut swarm, at(now))), [2, 0, 2, 0, 1]);
    swarm.request(at(700), keys[0], Block { piece: 0, begin: 0, length: BLOCK }).unwrap();
    assert!(told(&mut swarm, keys[0]).contains(&Action::Wake));
}
