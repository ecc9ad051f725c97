//! `ctorrent` among hostile peers and on failing disks: it says what happened, its memory stays bounded, and the
//! download that goes on meanwhile is right to its last byte.
//!
//! The hostile peers are bare sockets that dial from 127.0.0.1; the honest ones have addresses of their own.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use ogbox::torrent::BLOCK;

use crate::scene::{PATIENCE, PIECE, PIECES, Peer, Scene};
use crate::support::{applet, assert_same_file, binary, eventually, tool};

/// Resident memory that no peer's act may drive it over, KiB.
const MEMORY: u64 = 32 << 10;

const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const HAVE: u8 = 4;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE_DATA: u8 = 7;
/// The bitfield of a peer that has all 60 pieces.
const EVERYTHING: [u8; 8] = [255, 255, 255, 255, 255, 255, 255, 0xf0];

impl Scene {
    fn dial(&self, peer: &Peer) -> Hostile {
        let mut hostile = Hostile::connect(peer.at);
        hostile.greet(self.info_hash);
        hostile
    }

    /// Asserts that the download of `leecher` from an honest seeder goes on undisturbed.
    fn assert_unharmed(&self, mut leecher: Peer, mut seeder: Peer) {
        leecher.program.wait_for_line("Download complete.", PATIENCE);
        assert_same_file(&self.whole, &leecher.file);
        for peer in [&mut leecher, &mut seeder] {
            peer.assert_small();
            assert!(peer.program.interrupt().success());
        }
    }
}

impl Peer {
    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).expect("look at a process");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    pub fn assert_small(&self) {
        let most = self.status("VmHWM:");
        assert!(most < MEMORY, "it came to take {most} KiB");
    }
}

/// The connection of a peer that keeps to no rule.
struct Hostile(TcpStream);

impl Hostile {
    fn connect(at: SocketAddrV4) -> Hostile {
        let stream = TcpStream::connect(at).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(PATIENCE))).expect("be patient");
        stream.set_write_timeout(Some(Duration::from_millis(500))).expect("be impatient");
        Hostile(stream)
    }

    /// Sends; false when that is no longer possible, which some tests wait for.
    fn put(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Sends a handshake without extensions and reads the other's.
    fn greet(&mut self, info_hash: [u8; 20]) {
        let port = self.0.local_addr().expect("an address").port();
        let id = format!("-XX0000-{port:012}");
        let handshake = [b"\x13BitTorrent protocol", &[0; 8][..], &info_hash, id.as_bytes()];
        assert!(self.put(&handshake.concat()));
        let mut theirs = [0; 68];
        self.0.read_exact(&mut theirs).expect("hear a handshake");
    }

    fn send(&mut self, id: u8, parts: &[&[u8]]) -> bool {
        self.put(&message(id, parts))
    }

    /// Receives the next message: its id and its payload; `None` when the connection is closed.
    fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let mut length = [0; 4];
            self.0.read_exact(&mut length).ok()?;
            let mut body = vec![0; u32::from_be_bytes(length) as usize];
            self.0.read_exact(&mut body).ok()?;
            if let Some((&id, rest)) = body.split_first() {
                return Some((id, rest.to_vec()));
            }
        }
    }

    fn hear_until(&mut self, id: u8) {
        while self.hear().expect("the connection holds").0 != id {}
    }

    /// Waits until the other end closes the connection.
    fn assert_dropped(mut self) {
        let begin = Instant::now();
        let mut bytes = [0; 65536];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => assert!(begin.elapsed().as_secs() < PATIENCE, "it is still served"),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("it is not dropped: {error}"),
            }
        }
    }
}

fn message(id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32 + 1).to_be_bytes()[..], &[id], &body].concat()
}

fn request(piece: u32, begin: u32, length: u32) -> Vec<u8> {
    message(REQUEST, &[&piece.to_be_bytes(), &begin.to_be_bytes(), &length.to_be_bytes()])
}

#[test]
fn who_breaks_the_protocol_is_dropped_for_a_reason_and_the_download_goes_on() {
    let scene = Scene::new(1);
    let mut leecher = scene.leecher();
    let unasked = message(PIECE_DATA, &[&0u32.to_be_bytes(), &0u32.to_be_bytes(), &[1]]);
    let deeds: [(&str, Vec<u8>); 10] = [
        ("sent a message 7 of 4294967295 bytes", [&[0xff; 4][..], &[PIECE_DATA]].concat()),
        ("sent a message 99 of 2147483647 bytes", [&[0x7f, 0xff, 0xff, 0xff][..], &[99]].concat()),
        ("sent a message 4 of 9 bytes", message(HAVE, &[&[0; 8]])),
        ("sent a message 5 of 8 bytes", message(BITFIELD, &[&[0; 7]])),
        ("sent a bitfield that does not fit the torrent", message(BITFIELD, &[&[255; 8]])),
        ("named a piece or a range that the torrent does not have", message(HAVE, &[&PIECES.to_be_bytes()])),
        ("named a piece or a range that the torrent does not have", request(PIECES, 0, BLOCK)),
        ("named a piece or a range that the torrent does not have", request(0, u32::MAX, BLOCK)),
        ("asked for a longer block than is served", request(0, 0, PIECE)),
        ("sent blocks that were not requested", unasked.repeat(1025)),
    ];
    for (reason, deed) in deeds {
        let before = leecher.program.said().matches(reason).count();
        let mut hostile = scene.dial(&leecher);
        let from = hostile.0.local_addr().expect("an address");
        hostile.put(&deed);
        hostile.assert_dropped();
        leecher.program.wait_for_line(&format!("{from}: dropped: {reason}"), PATIENCE);
        assert_eq!(leecher.program.said().matches(reason).count(), before + 1, "it is said once: {reason}");
    }
    scene.assert_unharmed(leecher, scene.seeder());
}

#[test]
fn what_is_no_handshake_or_of_another_torrent_ends_a_connection_and_so_does_silence() {
    let scene = Scene::new(2);
    let mut leecher = scene.leecher();
    let silent = Hostile::connect(leecher.at);
    let quiet = silent.0.local_addr().expect("an address");
    // A byte now and then does not help.
    let mut slow = Hostile::connect(leecher.at);
    let dripping = slow.0.local_addr().expect("an address");
    let drip = std::thread::spawn(move || {
        let drops = (0..PATIENCE * 2).take_while(|at| {
            std::thread::sleep(Duration::from_millis(500));
            slow.put(&b"\x13BitTorrent protocol"[*at as usize % 20..][..1])
        });
        drops.count()
    });
    let mut garbage = Hostile::connect(leecher.at);
    garbage.put(&[0x47; 4096]);
    let from = garbage.0.local_addr().expect("an address");
    garbage.assert_dropped();
    leecher.program.wait_for_line(&format!("{from}: dropped: "), PATIENCE);
    let mut stranger = Hostile::connect(leecher.at);
    stranger.put(&[b"\x13BitTorrent protocol", &[0; 8][..], &[9; 20], &[b'x'; 20]].concat());
    let from = stranger.0.local_addr().expect("an address");
    stranger.assert_dropped();
    leecher.program.wait_for_line(&format!("{from}: refused: it wants another torrent"), PATIENCE);
    silent.assert_dropped();
    assert!(drip.join().expect("drip to the end") < PATIENCE as usize * 2, "it may take its time");
    for late in [quiet, dripping] {
        leecher.program.wait_for_line(&format!("{late}: refused: it did not finish its handshake in time"), PATIENCE);
    }
    scene.assert_unharmed(leecher, scene.seeder());
}

#[test]
fn a_flood_of_requests_is_dropped_and_costs_no_memory() {
    let scene = Scene::new(3);
    let mut seeder = scene.seeder();
    let mut hostile = scene.dial(&seeder);
    hostile.send(INTERESTED, &[]);
    hostile.hear_until(UNCHOKE);
    // It requests again and again and reads nothing.
    let accepted = (0..4000).take_while(|at| hostile.put(&request(at % PIECES, *at, 8 * BLOCK))).count();
    assert!(accepted > 512, "it is dropped after {accepted} requests, and said to take 512");
    seeder.program.wait_for_line("dropped: left too many requests unanswered", PATIENCE);
    scene.assert_unharmed(scene.leecher(), seeder);
}

#[test]
fn a_flood_of_haves_is_dropped_and_who_promises_everything_and_gives_nothing_does_no_harm() {
    let scene = Scene::new(4);
    let mut leecher = scene.leecher();
    let mut talker = scene.dial(&leecher);
    let from = talker.0.local_addr().expect("an address");
    let haves: Vec<u8> = (0..PIECES).flat_map(|piece| message(HAVE, &[&piece.to_be_bytes()])).collect();
    let accepted = (0..5_000).take_while(|_| talker.put(&haves)).count();
    assert!(accepted > 1, "each piece may be told of, and more than once");
    leecher.program.wait_for_line(&format!("{from}: dropped: announced pieces again and again that it had"), PATIENCE);
    let mut stalled = scene.dial(&leecher);
    stalled.send(BITFIELD, &[&EVERYTHING]);
    stalled.send(UNCHOKE, &[]);
    stalled.hear_until(REQUEST);
    scene.assert_unharmed(leecher, scene.seeder());
}

#[test]
fn who_gives_data_that_fail_the_hash_is_banned() {
    let scene = Scene::new(5);
    let mut leecher = scene.leecher();
    let mut liar = scene.dial(&leecher);
    liar.send(BITFIELD, &[&EVERYTHING]);
    liar.send(UNCHOKE, &[]);
    let mut lies = 0;
    while let Some((id, body)) = liar.hear() {
        if id == REQUEST {
            let length = u32::from_be_bytes([body[8], body[9], body[10], body[11]]);
            lies += u32::from(liar.send(PIECE_DATA, &[&body[..8], &vec![0xee; length as usize]]));
        }
    }
    assert!(lies >= PIECE / BLOCK, "it fell for {lies} blocks");
    leecher.program.wait_for_line("banned: sent data that fail the hash of their piece", PATIENCE);
    // The address is refused from now on: no message follows the handshake.
    let mut again = scene.dial(&leecher);
    assert_eq!(again.hear(), None);
    scene.assert_unharmed(leecher, scene.seeder());
}

/// Number of peers in `crowd` that are still connected.
fn open(crowd: &mut [Hostile]) -> u32 {
    crowd.iter_mut().filter(|hostile| hostile.0.set_nonblocking(true).is_ok()).fold(0, |open, hostile| {
        let ended = match hostile.0.read(&mut [0; 4096]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        open + u32::from(!ended)
    })
}

#[test]
fn hundreds_of_connections_from_one_address_leave_room_for_others() {
    let scene = Scene::new(6);
    let leecher = scene.leecher();
    let mut crowd: Vec<Hostile> = Vec::new();
    for _ in 0..400 {
        let mut hostile = Hostile::connect(leecher.at);
        hostile.greet(scene.info_hash);
        hostile.put(&message(BITFIELD, &[&[0; 8]]));
        crowd.push(hostile);
    }
    eventually("most of them are refused", PATIENCE, || open(&mut crowd) <= 64);
    assert!(open(&mut crowd) > 0, "a lab behind one router is served");
    assert!(leecher.status("Threads:") < 256);
    scene.assert_unharmed(leecher, scene.seeder());
}

#[test]
fn thousands_that_come_and_go_and_hundreds_that_only_knock_keep_nobody_out() {
    let scene = Scene::new(11);
    let mut leecher = scene.leecher();
    let mut knocking: Vec<Hostile> = (0..300).map(|_| Hostile::connect(leecher.at)).collect();
    leecher.program.wait_for_line("refused: too many connections have not finished their handshake", PATIENCE);
    eventually("few of them are let in", PATIENCE, || open(&mut knocking) <= 64);
    let seeder = scene.seeder();
    for _ in 0..3000 {
        drop(Hostile::connect(leecher.at));
    }
    assert!(leecher.status("Threads:") < 256);
    scene.assert_unharmed(leecher, seeder);
}

#[test]
fn the_memory_that_is_given_bounds_the_connections() {
    let scene = Scene::new(10);
    let options = ["-C", "16", "-e", "1"];
    let leecher = scene.start_with(3, &scene.lab.path("fetched.img"), applet("ctorrent"), &options);
    eventually("it listens", PATIENCE, || leecher.program.said().contains("Listening on"));
    let mut crowd: Vec<Hostile> = Vec::new();
    for _ in 0..60 {
        let mut hostile = Hostile::connect(leecher.at);
        hostile.greet(scene.info_hash);
        hostile.put(&message(BITFIELD, &[&[0; 8]]));
        crowd.push(hostile);
    }
    eventually("all but 28 are refused", PATIENCE, || open(&mut crowd) == 28);
    drop(crowd);
    scene.assert_unharmed(leecher, scene.seeder());
}

#[test]
fn a_file_cut_short_under_its_seeder_ends_it_with_an_error() {
    let scene = Scene::new(7);
    let mut seeder = scene.seeder();
    let file = OpenOptions::new().write(true).open(&scene.whole).expect("open the payload");
    file.set_len(1 << 20).expect("cut it");
    let _leecher = scene.leecher();
    assert_eq!(seeder.program.wait(PATIENCE).code(), Some(1));
    let said = seeder.program.said();
    assert!(said.contains("ctorrent: seed x.img: shorter than its torrent says"), "{said}");
}

#[test]
fn a_disk_that_fills_up_ends_the_download_with_an_error() {
    if !tool("unshare") {
        return;
    }
    let scene = Scene::new(8);
    let disk = scene.lab.make_dir("disk");
    // A mount namespace of its own, so that the file system goes with the process.
    let mount = format!("mount -t tmpfs -o size=4m none {}", disk.display());
    let at = scene.address(3);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]);
    command.arg(binary()).args(["ctorrent", "-i", &at.ip().to_string(), "-p", &at.port().to_string(), "-b"]);
    command.arg(scene.lab.path("bitfield")).arg("-s").arg(disk.join("x.img")).arg(&scene.torrent);
    let _seeder = scene.seeder();
    let mut leecher = scene.lab.start("leecher", &mut command);
    assert_eq!(leecher.wait(PATIENCE).code(), Some(1));
    let said = leecher.said();
    assert!(said.contains(&disk.join("x.img").display().to_string()), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn a_target_that_cannot_be_written_is_an_error_before_anything_is_fetched() {
    let scene = Scene::new(9);
    let cut = scene.lab.path("big.img");
    let cases = [
        (scene.torrent.join("x.img"), None, scene.torrent.clone(), "File exists"),
        (scene.lab.path("images"), None, scene.lab.path("images"), "Is a directory"),
        (cut.clone(), Some("trap '' XFSZ; ulimit -f 8"), cut, "File too large"),
    ];
    for (target, limit, named, cause) in cases {
        let mut peer = scene.start(3, target, limit);
        assert_eq!(peer.program.wait(PATIENCE).code(), Some(1));
        let said = peer.program.said();
        assert!(said.contains(&named.display().to_string()) && said.contains(cause), "{said}");
        assert!(!said.contains("Listening on"), "{said}");
    }
}
