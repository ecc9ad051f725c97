//! Swarms of ours and of others: our torrents fetched by them, theirs by us, and mixed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ogbox::torrent::Metainfo;

use crate::clients::{Client, NAME, Peer, Tracker};
use crate::support::{Lab, Program, applet, assert_same_file, run, tools, write_payload};

/// MiB that each fetching peer moves.
const MIB: usize = 64;

/// Time limit for a peer to fetch them, seconds. ctorrent reviews its unchokes only every 10 seconds; the rest is
/// room for a machine that is busy with other tests.
const PATIENCE: u64 = 300;

/// The program that makes the torrent.
#[derive(Clone, Copy)]
enum Maker {
    Ours,
    Ctorrent,
    Mktorrent,
}

/// A lab with a payload, its torrent in the directory that the tracker allows, and the tracker's place.
struct Scene {
    lab: Lab,
    whole: PathBuf,
    torrent: PathBuf,
    tracker: Tracker,
}

impl Scene {
    fn new(maker: Maker, seed: u64) -> Scene {
        Scene::at(Lab::new(), maker, seed)
    }

    fn at(lab: Lab, maker: Maker, seed: u64) -> Scene {
        let dir = lab.make_dir("images");
        let (whole, torrent) = (dir.join(NAME), dir.join(format!("{NAME}.torrent")));
        write_payload(&whole, MIB, seed);
        let tracker = Tracker::planned(&lab);
        make_torrent(maker, &whole, &tracker.url, &torrent);
        Scene { lab, whole, torrent, tracker }
    }

    /// The same scene with a torrent that names its tracker by UDP.
    fn over_udp(mut self) -> Scene {
        self.tracker.url = self.tracker.url.replace("http:", "udp:");
        fs::remove_file(&self.torrent).expect("remove a torrent");
        make_torrent(Maker::Ours, &self.whole, &self.tracker.url, &self.torrent);
        self
    }

    fn bttrack(&self) -> Program {
        self.tracker.bttrack(&self.lab, &self.lab.path("images"))
    }

    /// Runs a seeder on host 2 and a leecher on each host from 3 on; waits until every leecher is whole, ends all of
    /// them in order, and compares every file to its last byte.
    fn play(&self, seeder: Client, leechers: &[Client]) {
        let seeder = Peer::start(&self.lab, 2, seeder, &self.torrent, Some(&self.whole));
        let start = |(n, client): (u8, &Client)| Peer::start(&self.lab, n, *client, &self.torrent, None);
        let mut leechers: Vec<Peer> = (3..).zip(leechers).map(start).collect();
        for leecher in &mut leechers {
            leecher.wait_until_whole(PATIENCE);
        }
        for leecher in leechers {
            assert_same_file(&self.whole, &leecher.leave());
        }
        seeder.leave();
    }
}

fn make_torrent(maker: Maker, whole: &Path, url: &str, torrent: &Path) {
    let mut command = match maker {
        Maker::Ours => applet("ctorrent"),
        Maker::Ctorrent => Command::new("ctorrent"),
        Maker::Mktorrent => Command::new("mktorrent"),
    };
    command.current_dir(whole.parent().expect("a directory"));
    match maker {
        Maker::Ours | Maker::Ctorrent => command.args(["-t", NAME, "-u", url, "-s"]).arg(torrent),
        Maker::Mktorrent => command.args(["-l", "18", "-a", url, "-o"]).arg(torrent).arg(NAME),
    };
    run(&mut command);
}

fn info_hash(torrent: &Path) -> String {
    let bytes = fs::read(torrent).expect("read a torrent");
    Metainfo::parse(&bytes).expect("understand a torrent").info_hash.to_string()
}

#[test]
fn our_torrent_is_fetched_by_aria2_and_ctorrent_from_our_seeder_through_our_tracker() {
    if !tools(&["aria2c", "ctorrent"]) {
        return;
    }
    let scene = Scene::new(Maker::Ours, 2);
    let _tracker = scene.bttrack();
    scene.play(Client::Ours, &[Client::Aria2, Client::Ctorrent]);
}

#[test]
fn a_torrent_of_mktorrent_is_fetched_by_us_from_aria2() {
    if !tools(&["aria2c", "mktorrent"]) {
        return;
    }
    let scene = Scene::new(Maker::Mktorrent, 3);
    let _tracker = scene.bttrack();
    scene.play(Client::Aria2, &[Client::Ours]);
}

#[test]
fn a_torrent_of_ctorrent_is_fetched_by_us_from_ctorrent() {
    if !tools(&["ctorrent"]) {
        return;
    }
    let scene = Scene::new(Maker::Ctorrent, 4);
    let _tracker = scene.bttrack();
    scene.play(Client::Ctorrent, &[Client::Ours]);
}

#[test]
fn ours_and_theirs_fetch_from_one_another_in_one_swarm() {
    if !tools(&["aria2c", "ctorrent"]) {
        return;
    }
    let scene = Scene::new(Maker::Ours, 5);
    let _tracker = scene.bttrack();
    scene.play(Client::Ours, &[Client::Ours, Client::Aria2, Client::Ctorrent, Client::Ours]);
}

#[test]
fn ours_find_one_another_and_theirs_through_opentracker() {
    if !tools(&["opentracker", "aria2c", "mktorrent"]) {
        return;
    }
    let scene = Scene::new(Maker::Mktorrent, 6);
    let _tracker = scene.tracker.opentracker(&scene.lab, &info_hash(&scene.torrent));
    scene.play(Client::Ours, &[Client::Ours, Client::Ours, Client::Aria2]);
}

#[test]
fn ours_find_one_another_through_opentracker_by_udp() {
    if !tools(&["opentracker"]) {
        return;
    }
    let scene = Scene::new(Maker::Ours, 7).over_udp();
    let _tracker = scene.tracker.opentracker(&scene.lab, &info_hash(&scene.torrent));
    scene.play(Client::Ours, &[Client::Ours]);
}

/// Whether the tools of a lab in a room are there, and `clients`.
fn room_tools(clients: &[&str]) -> bool {
    tools(&["unshare", "nsenter", "ip", "bash"]) && tools(clients)
}

/// `client` fetches from our seeder, and seeds to us.
fn fetches_from_us_and_we_from_it(client: Client, seed: u64) {
    for (seeder, leecher) in [(Client::Ours, client), (client, Client::Ours)] {
        let scene = Scene::at(Lab::in_a_room(), Maker::Ours, seed);
        let _tracker = scene.bttrack();
        scene.play(seeder, &[leecher]);
    }
}

#[test]
fn transmission_fetches_from_us_and_we_from_it() {
    if room_tools(&["transmission-cli"]) {
        fetches_from_us_and_we_from_it(Client::Transmission, 7);
    }
}

#[test]
fn rtorrent_fetches_from_us_and_we_from_it() {
    if room_tools(&["rtorrent"]) {
        fetches_from_us_and_we_from_it(Client::Rtorrent, 8);
    }
}

#[test]
fn libtorrent_fetches_from_us_and_we_from_it() {
    if room_tools(&["python3"]) {
        fetches_from_us_and_we_from_it(Client::Libtorrent, 9);
    }
}

#[test]
fn libtorrent_and_ours_find_one_another_by_udp() {
    if !room_tools(&["python3"]) {
        return;
    }
    let scene = Scene::at(Lab::in_a_room(), Maker::Ours, 11).over_udp();
    let _tracker = scene.bttrack();
    scene.play(Client::Ours, &[Client::Libtorrent]);
}

#[test]
fn all_of_them_fetch_in_one_swarm() {
    if !room_tools(&["aria2c", "ctorrent", "transmission-cli", "rtorrent", "python3"]) {
        return;
    }
    let scene = Scene::at(Lab::in_a_room(), Maker::Ours, 10);
    let _tracker = scene.bttrack();
    let theirs = [Client::Aria2, Client::Ctorrent, Client::Transmission, Client::Rtorrent, Client::Libtorrent];
    scene.play(Client::Libtorrent, &[&theirs[..], &[Client::Ours, Client::Ours]].concat());
}
