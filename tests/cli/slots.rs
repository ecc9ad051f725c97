//! What an honest `ctorrent` gets of a seeder beside crowds of hostile connections, as a part of what it gets without
//! them.
//!
//! Each of a test's two rooms has a seeder with a limit, so that neither this machine nor its network decides. Of a
//! fresh seeder the crowd is there first; to a busy one it comes while the honest peer fetches.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Deed};
use crate::scene::{PATIENCE, PIECE, Peer, Scene};
use crate::support::{applet, eventually};

/// The seeder's limit, KiB a second, and the MiB that last for as long as a room.
const LIMIT: &str = "6144";
const MIB: usize = 90;
/// Time of a measurement beside a crowd, and of one without.
const BESIDE: Duration = Duration::from_secs(8);
const ALONE: Duration = Duration::from_secs(3);

struct Room {
    scene: Scene,
    seeder: Peer,
}

impl Room {
    fn new(seed: u64) -> Room {
        let scene = Scene::of(seed, MIB);
        let mut seeder = scene.start_with(2, &scene.whole, applet("ctorrent"), &["-e", "1", "-U", LIMIT]);
        seeder.program.wait_for_line("Seed for others", PATIENCE);
        Room { scene, seeder }
    }

    fn crowd(&self, deed: Deed, many: usize, addresses: u8) -> Crowd {
        let hosts: Vec<Ipv4Addr> = (0..addresses).map(|n| self.scene.lab.host(10 + n)).collect();
        let torrent = (MIB as u32 * 4, PIECE / ogbox::torrent::BLOCK);
        Crowd::new(deed, many, &hosts, self.seeder.at, self.scene.info_hash, torrent)
    }

    /// An honest peer that is connected to the seeder.
    fn honest(&self) -> Peer {
        let options = ["--json", "-e", "1", "--no-pex"];
        let peer = self.scene.start_with(3, &self.scene.lab.path("fetched.img"), applet("ctorrent"), &options);
        eventually("the honest peer is connected", PATIENCE, || last(&peer, "seeds") == Some(1));
        peer
    }
}

/// The last value of `field` among the objects that the peer printed.
fn last(peer: &Peer, field: &str) -> Option<u64> {
    let said = peer.program.said();
    let (_, after) = said.rsplit_once(&format!("\"{field}\":"))?;
    after.split([',', '}']).next()?.parse().ok()
}

/// Bytes a second that the peer fetches in `time` and up to a second more, as it says once a second.
fn rate(peer: &Peer, time: Duration) -> f64 {
    let fetched = || {
        let lines = peer.program.said().lines().count();
        eventually("it says more", PATIENCE, || peer.program.said().lines().count() > lines);
        (Instant::now(), last(peer, "downloaded").expect("bytes"))
    };
    let (begin, before) = fetched();
    std::thread::sleep(time);
    let (end, after) = fetched();
    (after - before) as f64 / (end - begin).as_secs_f64()
}

/// The part of its rate that an honest peer keeps beside `many` connections from so many addresses.
fn share(seed: u64, deed: Deed, many: usize, addresses: u8, busy: bool) -> f64 {
    let room = Room::new(seed);
    let (beside, alone) = if busy {
        let peer = room.honest();
        let alone = rate(&peer, ALONE);
        let _crowd = room.crowd(deed, many, addresses);
        (rate(&peer, BESIDE), alone)
    } else {
        let crowd = room.crowd(deed, many, addresses);
        std::thread::sleep(Duration::from_secs(4));
        let peer = room.honest();
        let beside = rate(&peer, BESIDE);
        drop(crowd);
        std::thread::sleep(Duration::from_secs(1));
        (beside, rate(&peer, ALONE))
    };
    let seeder = if busy { "a busy" } else { "a fresh" };
    println!("{deed:?}, {many} from {addresses}, {seeder} seeder: {beside:.0} of {alone:.0} bytes a second");
    beside / alone
}

/// Asserts that an honest peer keeps `least` of its rate beside each of two crowds.
fn assert_shares(seed: u64, rooms: [(Deed, usize, u8, bool, f64); 2]) {
    std::thread::scope(|scope| {
        let measure = |(number, (deed, many, addresses, busy, least))| {
            scope.spawn(move || (share(seed + number, deed, many, addresses, busy), least))
        };
        let rooms: Vec<_> = (0..).zip(rooms).map(measure).collect();
        for (share, least) in rooms.into_iter().map(|room| room.join().expect("a room")) {
            assert!(share >= least, "it keeps {share:.2}, and {least:.2} are due");
        }
    });
}

#[test]
fn who_idles_takes_no_slot_from_others() {
    assert_shares(80, [(Deed::Idle, 64, 1, false, 0.8), (Deed::Idle, 64, 16, true, 0.8)]);
}

#[test]
fn who_does_not_read_takes_no_slot_from_others() {
    assert_shares(82, [(Deed::Deaf, 64, 1, false, 0.8), (Deed::Deaf, 64, 16, true, 0.8)]);
}

#[test]
fn who_asks_for_too_much_takes_no_slot_from_others() {
    assert_shares(84, [(Deed::Greedy, 64, 1, true, 0.8), (Deed::Greedy, 64, 16, false, 0.8)]);
}

#[test]
fn who_asks_for_the_same_again_and_again_takes_no_slot_from_others() {
    assert_shares(86, [(Deed::Repeat, 64, 1, true, 0.8), (Deed::Repeat, 64, 16, false, 0.8)]);
}

#[test]
fn who_cancels_takes_no_slot_from_others() {
    assert_shares(88, [(Deed::Cancel, 64, 1, false, 0.8), (Deed::Cancel, 64, 16, true, 0.8)]);
}

#[test]
fn who_takes_by_many_connections_gets_what_one_address_gets() {
    assert_shares(90, [(Deed::Take, 8, 1, true, 0.8 / 2.0), (Deed::Take, 24, 3, false, 0.8 / 4.0)]);
}
