//! Our peers and libtorrent's finding each other without a tracker's help, or over IPv6.

use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::{NAME, Tracker};
use crate::support::{Lab, Program, applet, assert_same_file, eventually, run, tools, write_payload};

const PATIENCE: u64 = 60;
/// MiB of the payload, and the KiB/s of a peer that is too slow to give it in time.
const MIB: usize = 16;
const SLOW: &str = "32";

struct Scene {
    lab: Lab,
    whole: PathBuf,
    torrent: PathBuf,
}

impl Scene {
    /// A scene whose torrent names `tracker`.
    fn new(lab: Lab, tracker: &str, seed: u64) -> Scene {
        let dir = lab.make_dir("images");
        let (whole, torrent) = (dir.join(NAME), dir.join(format!("{NAME}.torrent")));
        write_payload(&whole, MIB, seed);
        run(applet("ctorrent").arg("-t").arg(&whole).args(["-u", tracker, "-s"]).arg(&torrent));
        Scene { lab, whole, torrent }
    }

    /// A directory of host `n`, with the payload in it if it seeds.
    fn home(&self, n: u8, seeds: bool) -> PathBuf {
        let home = self.lab.make_dir(&format!("host-{n}"));
        if seeds {
            fs::hard_link(&self.whole, home.join(NAME)).expect("give a seeder its file");
        }
        home
    }

    fn ours(&self, n: u8, address: &str, seeds: bool, options: &[&str]) -> (Program, PathBuf) {
        let home = self.home(n, seeds);
        let mut command = applet("ctorrent");
        command.args([
            "-e",
            "1",
            "-s",
            NAME,
            "-b",
            "bitfield",
            "-i",
            address,
            "-p",
            &self.lab.free_port(n).to_string(),
        ]);
        let program = self.lab.start(&format!("ours-{n}"), command.args(options).arg(&self.torrent).current_dir(&home));
        (program, home.join(NAME))
    }

    fn theirs(&self, n: u8, interface: &str, seeds: bool, options: &[&str]) -> (Program, PathBuf) {
        let home = self.home(n, seeds);
        let mut command = Command::new("/usr/bin/python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/libtorrent_peer.py"));
        command.arg(&self.torrent).arg(&home).arg(interface).args(seeds.then_some("seed")).args(options);
        (self.lab.start(&format!("theirs-{n}"), &mut command), home.join(NAME))
    }

    fn address(&self, n: u8) -> SocketAddrV4 {
        SocketAddrV4::new(self.lab.host(n), self.lab.free_port(n))
    }
}

/// A tracker's URL at which nobody listens.
const NO_TRACKER: &str = "http://10.77.0.9:1/announce";

fn room() -> Option<Lab> {
    tools(&["unshare", "nsenter", "ip", "bash", "python3"]).then(Lab::in_a_room)
}

#[test]
fn libtorrent_and_ours_find_each_other_by_multicast() {
    let Some(lab) = room() else { return };
    let scene = Scene::new(lab, NO_TRACKER, 1);
    let (_seeder, _) = scene.ours(2, "fd77::2", true, &["--lsd"]);
    let (mut leecher, file) = scene.theirs(3, "[fd77::3]:20001", false, &["lsd"]);
    leecher.wait_for_line("whole", PATIENCE);
    assert_same_file(&scene.whole, &file);

    let Some(lab) = room() else { return };
    let scene = Scene::new(lab, NO_TRACKER, 2);
    let (_seeder, _) = scene.theirs(3, "[fd77::3]:20001", true, &["lsd"]);
    let (mut leecher, file) = scene.ours(2, "fd77::2", false, &["--lsd"]);
    leecher.wait_for_line("Download complete.", PATIENCE);
    assert_same_file(&scene.whole, &file);
}

#[test]
fn libtorrent_hears_of_a_seeder_from_ours() {
    let Some(lab) = room() else { return };
    let tracker = Tracker::planned(&lab);
    let scene = Scene::new(lab, &tracker.url, 3);
    let _tracker = tracker.bttrack(&scene.lab, &scene.lab.path("images"));
    let (_seeder, _) = scene.ours(2, &scene.lab.host(2).to_string(), true, &["--no-lsd"]);
    let (middle_peer, _) = scene.ours(3, &scene.lab.host(3).to_string(), false, &["--no-lsd", "-U", SLOW, "-D", SLOW]);
    // Peer exchange happens once a minute.
    eventually("it is connected to the seeder", PATIENCE, || middle_peer.said().contains(" 1/0/"));
    let middle = scene.address(3);
    let peer = format!("peer={},{}", middle.ip(), middle.port());
    // Without a tracker.
    let scene = Scene { torrent: without_tracker(&scene), ..scene };
    let (mut leecher, file) = scene.theirs(4, &format!("{}:20001", scene.lab.host(4)), false, &[&peer]);
    leecher.wait_for_line("whole", PATIENCE);
    assert_same_file(&scene.whole, &file);
}

#[test]
fn ours_hears_of_a_seeder_from_libtorrent() {
    let Some(lab) = room() else { return };
    let tracker = Tracker::planned(&lab);
    let scene = Scene::new(lab, &tracker.url, 4);
    let _tracker = tracker.bttrack(&scene.lab, &scene.lab.path("images"));
    let (_seeder, _) = scene.ours(2, &scene.lab.host(2).to_string(), true, &["--no-lsd", "-u", NO_TRACKER]);
    let seeder = scene.address(2);
    scene.lab.listens(seeder, PATIENCE);
    let options = [format!("up={SLOW}"), format!("peer={},{}", seeder.ip(), seeder.port())];
    let interface = format!("{}:20001", scene.lab.host(3));
    let (_middle, _) = scene.theirs(3, &interface, false, &[&options[0], &options[1]]);
    let (mut leecher, file) = scene.ours(4, &scene.lab.host(4).to_string(), false, &["--no-lsd"]);
    leecher.wait_for_line("Download complete.", PATIENCE);
    assert_same_file(&scene.whole, &file);
}

#[test]
fn libtorrent_and_ours_meet_over_ipv6_by_our_tracker() {
    for ours_seeds in [true, false] {
        let Some(lab) = room() else { return };
        let scene = Scene::new(lab, "http://[fd77::2]:6969/announce", 5);
        let mut tracker = applet("bttrack");
        tracker.args(["--port", "6969", "--bind", "fd77::2", "--allowed_dir"]).arg(scene.lab.path("images"));
        let mut tracker = scene.lab.start("bttrack", tracker.arg("--dfile").arg(scene.lab.path("dstate")));
        let (mut ours, our_file) = scene.ours(2, "fd77::2", ours_seeds, &["--no-lsd"]);
        let (mut theirs, their_file) = scene.theirs(3, "[fd77::3]:20001", !ours_seeds, &[]);
        let file = if ours_seeds {
            theirs.wait_for_line("whole", PATIENCE);
            their_file
        } else {
            ours.wait_for_line("Download complete.", PATIENCE);
            our_file
        };
        assert_same_file(&scene.whole, &file);
        assert!(tracker.runs());
    }
}

/// The scene's torrent without an announce URL: only its info dictionary.
fn without_tracker(scene: &Scene) -> PathBuf {
    let bytes = fs::read(&scene.torrent).expect("read a torrent");
    let info = bytes.windows(7).position(|window| window == b"4:infod").expect("an info dictionary");
    let alone = scene.lab.path("alone");
    fs::write(&alone, [b"d", &bytes[info..]].concat()).expect("write a torrent");
    alone
}
