//! A minute in a network with every kind of hostile neighbour at once: tracker, seeder and 20 peers. All peers get the
//! whole payload; nobody ends, panics, takes much memory or writes long logs.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ogbox::torrent::Metainfo;

use crate::crowd::Crowd;
use crate::neighbours::{ACTORS, CROWDS, get, targets};
use crate::support::{Lab, Program, applet, assert_same_file, eventually, run, text, tools, write_payload};

/// Time for which the neighbours go on, and then at most for the peers to finish, seconds.
const LASTS: u64 = 60;
const REST: u64 = 12;
/// Peers that are to get the payload.
const PEERS: u8 = 20;
/// MiB of the payload, and KiB a second that a peer takes: half of the time, so that a busy machine has as long again.
const MIB: usize = 16;
const RATE: usize = 550;
/// KiB a second that a peer and the seeder send: what the neighbours take would else keep the whole machine busy.
const PEERS_RATE: usize = 2048;
const SEEDERS_RATE: usize = 4096;

/// Resident memory, KiB: a peer is given 16 MiB (`-C`), and the program itself takes some; a seeder needs no more; the
/// tracker's table holds at most 64 peers of each source at some hundred bytes each.
const MEMORY: u64 = 24 << 10;
const TRACKERS_MEMORY: u64 = 16 << 10;
/// Threads of the tracker, each of which counts what it logs by itself.
const WORKERS: u64 = 2;
/// Bytes of a log. The tracker's: four neighbours send all that they can, each has 16 KiB a second, and the others some. A
/// peer's: 256 lines about others at once and four a second, of some 100 bytes, and its own.
const TRACKERS_LOG: u64 = 4 * WORKERS * (LASTS + REST) * (16 << 10) + (4 << 20);
const LOG: u64 = 100 * (256 + 4 * (LASTS + REST)) + (10 << 10);
/// Environment variable of the process that is in the network.
const INSIDE: &str = "OGBOX_TEST_SOAK";

pub const TRACKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 6969);
pub const SEEDER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), 10_000);
/// Where the torrent's web seed is, one of the neighbours.
pub const WEB_SEED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 66, 80), 8080);

/// The address of the peer `n`, from 1 on.
pub fn peer(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, n), 2706)
}

/// What the neighbours know of each other and of the torrent.
pub struct Network {
    pub info_hash: [u8; 20],
    pub pieces: u32,
    over: AtomicBool,
}

impl Network {
    /// Waits for `pause`; false once the minute is over.
    pub fn goes_on(&self, pause: Duration) -> bool {
        std::thread::sleep(pause);
        !self.over.load(Ordering::Relaxed)
    }
}

/// Ends the neighbours' acts when it goes, however that happens.
struct End<'a>(&'a Network);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// All of 10.77.0.0/16 in a network that ends at its own loopback interface, which carries multicast, too.
const SETUP: &str = "set -e; ip link set lo up multicast on; ip address add 10.77.0.1/16 dev lo
    ip route add 224.0.0.0/4 dev lo; exec \"$@\"";

#[test]
fn twenty_peers_become_whole_among_every_kind_of_hostile_neighbour() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if !tools(&["unshare", "ip"]) {
        return;
    }
    // Where tests share a process, its threads cannot enter a network of their own.
    let mut alone = Command::new("unshare");
    alone.args([
        "--map-root-user",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        SETUP,
        "sh",
    ]);
    alone.arg(std::env::current_exe().expect("find this program"));
    let name = "soak::twenty_peers_become_whole_among_every_kind_of_hostile_neighbour";
    let output = run(alone.args(["--exact", name, "--nocapture"]).env(INSIDE, "yes"));
    print!("{}", text(&output.stdout));
}

/// A program and the most that it may come to.
struct Limited {
    program: Program,
    log: PathBuf,
    /// Resident memory, KiB, and length of its log, bytes.
    memory: u64,
    logs: u64,
}

impl Limited {
    /// What it came to: resident memory, KiB, and length of its log, bytes.
    fn came_to(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.id())).expect("look at a process");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the field");
        let memory = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
        (memory, self.log.metadata().expect("look at a log").len())
    }

    fn assert_sound(&mut self, name: &str) {
        assert!(self.program.runs(), "{name} ended");
        let (memory, log) = self.came_to();
        println!("{name}: {memory} KiB, a log of {log} bytes");
        assert!(memory <= self.memory, "{name} came to take {memory} KiB of {}", self.memory);
        assert!(log <= self.logs, "{name} wrote {log} bytes of {}", self.logs);
        let said = self.program.said();
        assert!(!said.contains("panicked"), "{name} panicked:\n{said}");
    }
}

/// Starts a program with its log in the lab.
fn start(lab: &Lab, name: &str, command: &mut Command, memory: u64, logs: u64) -> Limited {
    Limited { program: lab.start(name, command), log: lab.path(&format!("{name}.log")), memory, logs }
}

fn start_tracker(lab: &Lab, images: &Path) -> Limited {
    let mut command = applet("bttrack");
    command.args(["--port", &TRACKER.port().to_string(), "--bind", &TRACKER.ip().to_string(), "--dfile"]);
    command.arg(lab.path("dstate")).args(["--reannounce_interval", "10"]);
    command.args(["--workers", &WORKERS.to_string(), "--allowed_dir"]).arg(images);
    start(lab, "bttrack", &mut command, TRACKERS_MEMORY, TRACKERS_LOG)
}

fn start_seeder(lab: &Lab, images: &Path) -> Limited {
    let mut command = applet("btlaunchmany");
    let port = SEEDER.port().to_string();
    command.args(["--bind", &SEEDER.ip().to_string(), "--minport", &port, "--maxport", &port]);
    command.args(["--max_upload_rate", &SEEDERS_RATE.to_string()]).arg(images);
    start(lab, "btlaunchmany", &mut command, MEMORY, LOG)
}

fn start_peer(lab: &Lab, n: u8, torrent: &Path) -> (Limited, PathBuf) {
    let (at, file) = (peer(n), lab.path(&format!("peer-{n}.img")));
    let mut command = applet("ctorrent");
    command.args(["-i", &at.ip().to_string(), "-p", &at.port().to_string(), "-C", "16", "-D", &RATE.to_string()]);
    command
        .args(["-U", &PEERS_RATE.to_string(), "-b"])
        .arg(lab.path(&format!("bitfield-{n}")))
        .arg("-s")
        .arg(&file)
        .arg(torrent);
    (start(lab, &format!("peer-{n}"), &mut command, MEMORY, LOG), file)
}

fn inside() {
    let begun = Instant::now();
    let lab = Lab::new();
    let images = lab.make_dir("images");
    let (whole, torrent) = (images.join("x.img"), images.join("x.img.torrent"));
    write_payload(&whole, MIB, 77);
    let (tracker, web_seed) = (format!("http://{TRACKER}/announce"), format!("http://{WEB_SEED}/x.img"));
    run(applet("ctorrent").arg("-t").arg(&whole).args(["-u", &tracker, "--web-seed", &web_seed, "-s"]).arg(&torrent));
    let metainfo = Metainfo::read(&torrent).expect("read the torrent");
    let pieces = metainfo.geometry.pieces();
    let network = Network { info_hash: metainfo.info_hash.0, pieces, over: AtomicBool::new(false) };
    let mut tracker = start_tracker(&lab, &images);
    lab.listens(TRACKER, 20);
    let mut seeder = start_seeder(&lab, &images);
    lab.listens(SEEDER, 20);
    let acts: Vec<AtomicU64> = ACTORS.iter().map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        let end = End(&network);
        for (number, ((_, count, act), done)) in ACTORS.iter().zip(&acts).enumerate() {
            let network = &network;
            for own in 0..*count {
                scope.spawn(move || act(network, Ipv4Addr::new(10, 77, 66, (number * 8) as u8 + own), done));
            }
        }
        let hosts: Vec<Ipv4Addr> = (1..=16).map(|n| Ipv4Addr::new(10, 77, 68, n)).collect();
        let crowd = |at| CROWDS.iter().map(move |(deed, many)| (*deed, *many, at));
        let crowds = targets().flat_map(crowd).enumerate().map(|(number, (deed, many, at))| {
            // In turn, so that each has its own address.
            Crowd::new(deed, many, &hosts[number % hosts.len()..][..1], at, network.info_hash, (pieces, 16))
        });
        let crowds: Vec<Crowd> = crowds.collect();
        let mut peers: Vec<(Limited, PathBuf)> = (1..=PEERS).map(|n| start_peer(&lab, n, &torrent)).collect();
        let are_whole = |peers: &[(Limited, PathBuf)]| {
            peers.iter().all(|(peer, _)| peer.program.said().contains("Download complete."))
        };
        let mut whole_after = None;
        while begun.elapsed() < Duration::from_secs(LASTS) {
            std::thread::sleep(Duration::from_millis(500));
            whole_after = whole_after.or_else(|| are_whole(&peers).then(|| begun.elapsed()));
        }
        println!("all peers were whole after {whole_after:?}");
        for ((name, _, _), done) in ACTORS.iter().zip(&acts) {
            println!("{name}: {}", done.load(Ordering::Relaxed));
            assert!(done.load(Ordering::Relaxed) > 0, "{name}: nothing was done");
        }
        eventually("all peers are whole", REST, || are_whole(&peers));
        assert_tracks_all();
        for (n, (peer, file)) in (1..).zip(&mut peers) {
            assert_same_file(&whole, file);
            peer.assert_sound(&format!("peer {n}"));
        }
        tracker.assert_sound("the tracker");
        seeder.assert_sound("the seeder");
        drop((end, crowds));
    });
}

/// Asserts that nobody has removed the seeder or a peer from the tracker.
fn assert_tracks_all() {
    let told = get(Ipv4Addr::new(10, 77, 0, 9), TRACKER, "/scrape").expect("ask the tracker");
    let told = String::from_utf8_lossy(&told);
    let complete = told.split_once("8:completei").and_then(|(_, rest)| rest.split_once('e')).map(|(number, _)| number);
    let complete = complete.and_then(|number| number.parse::<u32>().ok());
    assert!(complete.is_some_and(|number| number > PEERS.into()), "{told}");
}
