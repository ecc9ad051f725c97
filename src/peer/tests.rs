//! Tests with several sessions of one process, connected over loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::wire::{Handshake, Message};
use super::{Log, Options, Session, Torrent};
use crate::base::rng::Rng;
use crate::storage::Storage;
use crate::swarm::{Block, Offence};
use crate::sys::allocations;
use crate::torrent::create::{self, Source};
use crate::torrent::{BLOCK, Bitfield, Metainfo, PeerId};

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Longest time that a test waits for an event.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a file `payload`, and its metainfo.
pub(super) struct Scene {
    dir: tempfile::TempDir,
    pub(super) metainfo: Metainfo,
}

impl Scene {
    pub(super) fn new(seed: u64, mib: usize, private: bool) -> Scene {
        Scene::of_pieces(seed, mib, private, 64 << 10)
    }

    fn of_pieces(seed: u64, mib: usize, private: bool, piece_length: u32) -> Scene {
        let dir = tempfile::tempdir().expect("make a directory");
        let mut rng = Rng::new(seed ^ u64::from(std::process::id()) << 32);
        let bytes: Vec<u8> = (0..mib << 17).flat_map(|_| rng.bits().to_le_bytes()).collect();
        std::fs::write(dir.path().join("payload"), bytes).expect("write the payload");
        let source = Source::open(&dir.path().join("payload")).expect("open the payload");
        let options = create::Options { piece_length: Some(piece_length), private, ..create::Options::default() };
        let described = source.describe(&options, 1, &|| false, &|_| {}).expect("describe the payload");
        Scene { metainfo: Metainfo::parse(&described).expect("understand the description"), dir }
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn seed(&self, session: &Session) -> Arc<Torrent> {
        let storage = Storage::open(&self.metainfo, &self.path("payload")).expect("open the payload");
        session.add(self.metainfo.clone(), storage, Bitfield::full(self.metainfo.geometry.pieces()))
    }

    pub(super) fn fetch(&self, session: &Session, name: &str) -> Arc<Torrent> {
        let (storage, _) = Storage::create(&self.metainfo, &self.path(name)).expect("make a file");
        session.add(self.metainfo.clone(), storage, Bitfield::new(self.metainfo.geometry.pieces()))
    }

    pub(super) fn assert_is_payload(&self, name: &str) {
        let read = |path: &Path| std::fs::read(path).expect("read a file");
        assert!(read(&self.path(name)) == read(&self.path("payload")), "{name} is not the payload");
    }
}

pub(super) fn session(options: Options) -> Session {
    Session::start(Options { bind: LOOPBACK, ..options }).expect("start a session")
}

pub(super) fn address(session: &Session) -> SocketAddr {
    SocketAddr::new(LOOPBACK, session.port())
}

pub(super) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn connections(torrent: &Torrent) -> usize {
    let (whole, others) = torrent.status().peers;
    whole + others
}

#[test]
fn a_peer_learns_of_another_from_a_third_and_downloads_from_it() {
    let scene = Scene::new(1, 6, false);
    // Slow, so that the peers learn of one another before any is complete.
    let seeder = session(Options { limits: (1 << 20, 0), ..Options::default() });
    let (middle, end) = (session(Options::default()), session(Options::default()));
    scene.seed(&seeder);
    let (passing, fetching) = (scene.fetch(&middle, "passing"), scene.fetch(&end, "fetched"));
    passing.add_addresses(&[address(&seeder)]);
    fetching.add_addresses(&[address(&middle)]);
    eventually("the end is connected to both", || connections(&fetching) == 2);
    drop(middle);
    assert!(!fetching.status().whole, "it was whole before it could show from whom it fetches");
    eventually("the end is whole", || fetching.status().whole);
    scene.assert_is_payload("fetched");
}

#[test]
fn a_private_torrent_or_a_session_without_exchange_sends_no_addresses() {
    for (private, pex) in [(true, true), (false, false)] {
        let scene = Scene::new(2, 4, private);
        let options = || Options { limits: (256 << 10, 0), pex, ..Options::default() };
        let (seeder, middle, end) = (session(options()), session(options()), session(options()));
        scene.seed(&seeder);
        let (passing, fetching) = (scene.fetch(&middle, "passing"), scene.fetch(&end, "fetched"));
        passing.add_addresses(&[address(&seeder)]);
        fetching.add_addresses(&[address(&middle)]);
        eventually("the middle is connected to both", || connections(&passing) == 2);
        // Three times as long as it takes to learn of a peer and connect.
        std::thread::sleep(Duration::from_secs(4));
        let status = fetching.status();
        assert_eq!((connections(&fetching), status.spare), (1, 0), "private: {private}, exchange: {pex}");
    }
}

#[test]
fn two_peers_without_addresses_find_each_other_on_the_local_network() {
    let scene = Scene::new(3, 1, false);
    let options = || Options { pex: false, lsd: true, log: Arc::new(|line| panic!("{line}")), ..Options::default() };
    let (seeder, leecher) = (session(options()), session(options()));
    scene.seed(&seeder);
    let fetching = scene.fetch(&leecher, "fetched");
    eventually("the leecher is whole", || fetching.status().whole);
    scene.assert_is_payload("fetched");
}

#[test]
fn a_private_torrent_is_not_announced_on_the_local_network() {
    let scene = Scene::new(4, 1, true);
    let options = || Options { lsd: true, ..Options::default() };
    let (seeder, leecher) = (session(options()), session(options()));
    scene.seed(&seeder);
    let fetching = scene.fetch(&leecher, "fetched");
    // Ten times as long as two peers of a public torrent need.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((connections(&fetching), fetching.status().spare), (0, 0));
}

#[test]
fn a_peer_that_promises_everything_and_sends_nothing_is_dropped() {
    let scene = Scene::new(5, 1, false);
    let (lines, told) = channel();
    let log: Log = Arc::new(move |line| drop(lines.send(line.to_owned())));
    let leecher = session(Options { stalled: Duration::from_secs(1), log, ..Options::default() });
    let fetching = scene.fetch(&leecher, "fetched");
    let mut stalled = TcpStream::connect(address(&leecher)).expect("connect");
    let id = PeerId(*b"-XX0000-000000000000");
    let handshake = Handshake { info_hash: scene.metainfo.info_hash, peer_id: id, fast: true, extended: false };
    let mut promises = handshake.encode().to_vec();
    Message::HaveAll.encode(&mut promises);
    Message::Unchoke.encode(&mut promises);
    stalled.write_all(&promises).expect("promise everything");
    let line = told.recv_timeout(PATIENCE).expect("hear of it");
    let from = stalled.local_addr().expect("an address");
    assert_eq!(line, format!("{from}: dropped: {}", Offence::Stalled));
    let seeder = session(Options::default());
    scene.seed(&seeder);
    fetching.add_addresses(&[address(&seeder)]);
    eventually("the download is whole", || fetching.status().whole);
    scene.assert_is_payload("fetched");
}

/// A peer of the test's own, which has shaken hands.
fn stranger(session: &Session, scene: &Scene, fast: bool, extended: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address(session)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
    let id = PeerId(*b"-XX0000-000000000000");
    let handshake = Handshake { info_hash: scene.metainfo.info_hash, peer_id: id, fast, extended };
    stream.write_all(&handshake.encode()).expect("shake hands");
    stream
}

fn log_to_channel() -> (Log, std::sync::mpsc::Receiver<String>) {
    let (lines, told) = channel();
    (Arc::new(move |line| drop(lines.send(line.to_owned()))), told)
}

#[test]
fn a_peer_whose_message_makes_a_reader_panic_leaves_the_swarm_and_the_download_goes_on() {
    let scene = Scene::new(8, 1, false);
    let (log, told) = log_to_channel();
    let leecher = session(Options { log, ..Options::default() });
    let fetching = scene.fetch(&leecher, "fetched");
    for _ in 0..3 {
        let mut bad = stranger(&leecher, &scene, true, true);
        let mut messages = Vec::new();
        // It is asked for blocks, which others must be asked for afterwards.
        Message::HaveAll.encode(&mut messages);
        Message::Unchoke.encode(&mut messages);
        bad.write_all(&messages).expect("promise everything");
        eventually("it is asked for blocks", || {
            fetching.peers().first().is_some_and(|peer| peer.sight.down == (false, true))
        });
        messages.clear();
        Message::Extended(9, b"!panic").encode(&mut messages);
        bad.write_all(&messages).expect("send what panics");
        let line = told.recv_timeout(PATIENCE).expect("hear of it");
        assert!(line.starts_with("**error** read from a peer: panicked at src/peer/connection.rs:"), "{line}");
        // Its connection ends, whether or not everything it sent was read.
        drop(bad.read_to_end(&mut Vec::new()));
        eventually("it has left", || connections(&fetching) == 0);
    }
    let seeder = session(Options::default());
    scene.seed(&seeder);
    fetching.add_addresses(&[address(&seeder)]);
    eventually("the download is whole", || fetching.status().whole);
    scene.assert_is_payload("fetched");
}

#[test]
fn a_writer_that_panics_ends_its_connection_and_no_other() {
    let scene = Scene::new(9, 1, false);
    let (log, told) = log_to_channel();
    let seeder = session(Options { log, ..Options::default() });
    let seeded = scene.seed(&seeder);
    let mut bad = stranger(&seeder, &scene, false, false);
    let mut messages = Vec::new();
    Message::Interested.encode(&mut messages);
    let line = loop {
        // Requests that come before it is unchoked are passed over.
        Message::Request(Block { piece: 0, begin: 0, length: 666 }).encode(&mut messages);
        if bad.write_all(&messages).is_err() {
            break told.recv_timeout(PATIENCE);
        }
        messages.clear();
        if let Ok(line) = told.recv_timeout(Duration::from_millis(50)) {
            break Ok(line);
        }
    };
    let line = line.expect("hear of it");
    assert!(line.starts_with("**error** send to a peer: panicked at src/peer/sender.rs:"), "{line}");
    drop(bad.read_to_end(&mut Vec::new()));
    eventually("it has left", || connections(&seeded) == 0);
    let leecher = session(Options::default());
    let fetching = scene.fetch(&leecher, "fetched");
    fetching.add_addresses(&[address(&seeder)]);
    eventually("the download is whole", || fetching.status().whole);
    scene.assert_is_payload("fetched");
}

#[test]
fn a_newcomer_gets_the_place_of_a_crowd() {
    let scene = Scene::new(10, 1, false);
    let seeder = session(Options { max_peers: 12, ..Options::default() });
    let seeded = scene.seed(&seeder);
    let join = |host: u8, number: u8| {
        let from = IpAddr::from([127, 0, 10, host]);
        let mut stream = crate::sys::net::dial(from, address(&seeder), PATIENCE).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
        let id = PeerId(std::array::from_fn(|at| if at == 18 { host } else { b'a' + number }));
        let handshake = Handshake { info_hash: scene.metainfo.info_hash, peer_id: id, fast: true, extended: false };
        stream.write_all(&handshake.encode()).expect("shake hands");
        stream.read_exact(&mut [0; 68]).expect("hear a handshake");
        // A connection that is let in hears what is here.
        (stream.read_exact(&mut [0; 5]).is_ok(), stream)
    };
    let of = |host: u8| {
        let ip = IpAddr::from([127, 0, 10, host]);
        seeded.peers().iter().filter(|peer| peer.address.ip() == ip).count()
    };
    let crowd: Vec<_> = (0..12).map(|number| join(1, number)).collect();
    assert!(crowd.iter().all(|(is_in, _)| *is_in));
    assert!(!join(1, 12).0, "an address makes no room for its own");
    let others: Vec<_> = (0..10).map(|number| join(2, number)).collect();
    assert_eq!(others.iter().filter(|(is_in, _)| *is_in).count(), 6, "each has half");
    let honest = join(3, 0);
    assert!(honest.0);
    eventually("the two have made room", || of(1) + of(2) == 11 && of(3) == 1);
    assert!(of(1) >= 5 && of(2) >= 5);
}

#[test]
fn our_address_is_the_one_a_tracker_sees_unless_it_runs_on_this_machine() {
    let scene = Scene::new(6, 1, false);
    let alone = session(Options::default());
    let fetching = scene.fetch(&alone, "fetched");
    let us = || fetching.with(|state, _| state.roster.us());
    fetching.seen_as(LOOPBACK);
    assert_eq!(us(), None);
    fetching.seen_as(IpAddr::from([10, 0, 0, 9]));
    fetching.add_addresses(&[SocketAddr::new(LOOPBACK, 9)]);
    assert_eq!(us(), Some(SocketAddr::from(([10, 0, 0, 9], alone.port()))));
}

/// Environment variable of the process in which [`nothing_is_allocated_for_blocks_on_their_way`] runs alone.
const ALONE: &str = "OGBOX_TEST_ALONE";

#[test]
fn nothing_is_allocated_for_blocks_on_their_way() {
    if std::env::var_os(ALONE).is_none() {
        // Tests that run beside it allocate, too.
        let mut alone = Command::new(std::env::current_exe().expect("find this program"));
        let name = "peer::tests::nothing_is_allocated_for_blocks_on_their_way";
        let ended = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "yes").output().expect("run it alone");
        let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let scene = Scene::of_pieces(7, 128, false, 1 << 20);
    let (seeder, leecher) = (session(Options::default()), session(Options::default()));
    scene.seed(&seeder);
    let fetching = scene.fetch(&leecher, "fetched");
    fetching.add_addresses(&[address(&seeder)]);
    let reach = |mib: u64| loop {
        let downloaded = fetching.status().totals.downloaded;
        if downloaded >= mib << 20 {
            return (downloaded, allocations::count());
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let (before, after) = (reach(48), reach(112));
    let (blocks, allocations) = ((after.0 - before.0) / u64::from(BLOCK), after.1 - before.1);
    eventually("the download is whole", || fetching.status().whole);
    scene.assert_is_payload("fetched");
    assert!(blocks >= 2048, "only {blocks} blocks came between the looks");
    // One for each piece, in the lanes that verify it, and some for lists that grow.
    assert!(allocations <= blocks / 32, "{allocations} allocations for {blocks} blocks");
}
