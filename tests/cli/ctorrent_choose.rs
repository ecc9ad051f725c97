//! `ctorrent -n`: some files of a torrent, in an order.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::scene::PATIENCE;
use crate::support::{Lab, Program, applet, assert_same_file, eventually, run, write_payload};

/// The files in the order of their numbers, and their sizes; the pieces have 64 KiB.
const FILES: [(&str, u64); 6] =
    [("a", 1_000_000), ("b", 300_000), ("c", 900_000), ("d/e", 0), ("d/f", 700_000), ("g", 1_500_000)];
const PIECES: u32 = 4_400_000u32.div_ceil(65536);

/// A directory of files, its torrent, and a tracker that knows it.
struct Scene {
    lab: Lab,
    whole: PathBuf,
    torrent: PathBuf,
    tracker: SocketAddrV4,
    info_hash: [u8; 20],
    _bttrack: Program,
}

impl Scene {
    fn new() -> Scene {
        let lab = Lab::new();
        let (images, whole) = (lab.make_dir("images"), lab.make_dir("whole"));
        lab.make_dir("whole/d");
        for ((name, bytes), seed) in FILES.iter().zip(70..) {
            write_payload(&whole.join(name), 2, seed);
            fs::File::options().write(true).open(whole.join(name)).unwrap().set_len(*bytes).unwrap();
        }
        let tracker = SocketAddrV4::new(lab.host(1), lab.free_port(1));
        let (url, torrent) = (format!("http://{tracker}/announce"), images.join("x.torrent"));
        run(applet("ctorrent").arg("-t").arg(&whole).args(["-l", "65536", "-u", &url, "-s"]).arg(&torrent));
        let mut command = applet("bttrack");
        command.args(["--port", &tracker.port().to_string(), "--bind", &tracker.ip().to_string()]);
        command.args(["--reannounce_interval", "5", "--dfile"]).arg(lab.path("dstate"));
        let bttrack = lab.start("bttrack", command.arg("--allowed_dir").arg(&images));
        lab.listens(tracker, 60);
        let metainfo = ogbox::torrent::Metainfo::read(&torrent).expect("read the torrent");
        let names: Vec<&Path> = metainfo.files.iter().map(|file| file.path.as_path()).collect();
        assert_eq!(names, FILES.map(|(name, _)| Path::new(name)));
        Scene { lab, whole, torrent, tracker, info_hash: metainfo.info_hash.0, _bttrack: bttrack }
    }

    /// Starts a `ctorrent` on host `n` with the data below `dir`, and further `options`.
    fn start(&self, n: u8, dir: &Path, options: &[&str]) -> Program {
        let mut command = applet("ctorrent");
        let (ip, port) = (self.lab.host(n).to_string(), self.lab.free_port(n).to_string());
        command.args(["--no-lsd", "-i", &ip, "-p", &port, "-b"]).arg(self.bitfield(n));
        self.lab.start(&format!("peer-{n}"), command.args(options).arg("-s").arg(dir).arg(&self.torrent))
    }

    fn bitfield(&self, n: u8) -> PathBuf {
        self.lab.path(&format!("bitfield-{n}"))
    }

    fn seeder(&self) -> Program {
        let mut seeder = self.start(2, &self.whole, &[]);
        seeder.wait_for_line("Seed for others", PATIENCE);
        seeder
    }

    /// Asserts that the `chosen` files, by number, are whole below `dir`, and that of the others only `touched`
    /// exist.
    fn assert_files(&self, dir: &Path, chosen: &[usize], touched: &[usize]) {
        for (number, (name, _)) in (1..).zip(FILES) {
            if chosen.contains(&number) {
                assert_same_file(&self.whole.join(name), &dir.join(name));
            } else {
                assert_eq!(dir.join(name).exists(), touched.contains(&number), "{name}");
            }
        }
    }

    /// A number from the tracker's scrape of the torrent.
    fn scrape(&self, key: &str) -> u32 {
        let mut stream = TcpStream::connect(self.tracker).expect("connect to the tracker");
        let hash: String = self.info_hash.iter().map(|byte| format!("%{byte:02x}")).collect();
        write!(stream, "GET /scrape?info_hash={hash} HTTP/1.0\r\n\r\n").expect("ask the tracker");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("an answer");
        let reply = String::from_utf8_lossy(&reply);
        let (_, number) = reply.split_once(&format!("{}:{key}i", key.len())).expect(key);
        number.split('e').next().and_then(|number| number.parse().ok()).expect("a number")
    }
}

/// The lines about groups and the end, without those between.
fn told(said: &str) -> Vec<&str> {
    let beginnings = ["Found journal", "Downloading", "Pieces:", "End of", "Download complete"];
    said.lines().filter(|line| beginnings.iter().any(|beginning| line.starts_with(beginning))).collect()
}

#[test]
fn groups_come_one_after_the_other_and_another_run_may_choose_otherwise() {
    let scene = Scene::new();
    let _seeder = scene.seeder();
    let dir = scene.lab.path("fetched");
    let ran = scene.lab.path("ran");
    let hook = format!("touch {}", ran.display());
    let mut some = scene.start(3, &dir, &["-D", "4000", "-n", "5,1+4", "-e", "1", "-X", &hook]);
    some.wait_for_line("Downloading file(s): 1+4", PATIENCE);
    assert_same_file(&scene.whole.join("d/f"), &dir.join("d/f"));
    some.wait_for_line("Download complete.", PATIENCE);
    eventually("the hook runs", PATIENCE, || ran.exists());
    // Pieces of `d/f` are in `c` and `g`, and one of `a` is in `b`.
    scene.assert_files(&dir, &[1, 4, 5], &[2, 3, 6]);
    // 2,200,000 is in piece 33, 2,900,000 in piece 44; 1,000,000 is in piece 15.
    let expected = [
        "Downloading file(s): 5",
        "Pieces: 12 (786432 bytes)",
        "Downloading file(s): 1+4",
        "Pieces: 16 (1048576 bytes)",
        "End of download files list.",
        "Download complete.",
    ];
    assert_eq!(told(&some.said()), expected);
    eventually("the tracker knows of both", PATIENCE, || {
        (scene.scrape("complete"), scene.scrape("incomplete")) == (1, 1)
    });
    assert_eq!(scene.scrape("downloaded"), 0, "it has not got everything");
    assert!(some.interrupt().success() && scene.bitfield(3).exists());

    // The seeder gives again what it gave before, although nobody else has it and there are pieces that nobody has.
    let late = scene.lab.path("late");
    assert!(scene.start(4, &late, &["-n", "1", "--leave", "0"]).wait(PATIENCE).success());
    scene.assert_files(&late, &[1], &[2]);

    // Pieces that are here are neither fetched nor hashed again, whatever is chosen.
    let mut again = scene.start(3, &dir, &["-n", "1,5", "-e", "1"]);
    again.wait_for_line("Seed for others", PATIENCE);
    let known = format!("Found journal; 28 of {PIECES} pieces are vouched for, 0 to be hashed.");
    assert_eq!(told(&again.said()), [known.as_str(), "End of download files list."]);
    assert!(again.interrupt().success());
    let mut other = scene.start(3, &dir, &["-n", "5,3", "-e", "1"]);
    other.wait_for_line("Download complete.", PATIENCE);
    // Pieces 19 to 33, of which the last is here.
    let expected = [
        &known,
        "Downloading file(s): 3",
        "Pieces: 14 (917504 bytes)",
        "End of download files list.",
        "Download complete.",
    ];
    assert_eq!(told(&other.said()), expected);
    assert!(other.interrupt().success());
    scene.assert_files(&dir, &[1, 3, 4, 5], &[2, 6]);

    let mut rest = scene.start(3, &dir, &["-e", "1"]);
    rest.wait_for_line("Download complete.", PATIENCE);
    eventually("the tracker knows", PATIENCE, || scene.scrape("downloaded") == 1);
    assert!(rest.interrupt().success() && !scene.bitfield(3).exists());
    assert!(rest.said().contains(&format!("Found journal; 42 of {PIECES} pieces")), "{}", rest.said());
    scene.assert_files(&dir, &[1, 2, 3, 4, 5, 6], &[]);
}

#[test]
fn who_has_all_that_it_wants_gives_it_to_others_and_leaves_when_nobody_needs_it() {
    let scene = Scene::new();
    let seeder = scene.seeder();
    let (first, second) = (scene.lab.path("first"), scene.lab.path("second"));
    let mut some = scene.start(3, &first, &["-a", "-n", "2,6", "--leave", "unneeded=2"]);
    some.wait_for_line("Download complete.", PATIENCE);
    drop(seeder);
    // `a` and `c` have a part of a piece, and the room for that; the other files are untouched.
    scene.assert_files(&first, &[2, 6], &[1, 3, 5]);
    let room = |name: &str| fs::metadata(first.join(name)).expect("a file").blocks() * 512;
    assert!(room("a") < 200_000 && room("d/f") < 200_000 && room("g") >= 1_500_000);

    // Existing data is found, chosen or not.
    fs::create_dir(&second).expect("make a directory");
    fs::copy(scene.whole.join("b"), second.join("b")).expect("copy a file");
    let mut others = scene.start(4, &second, &["-n", "6", "--leave", "0"]);
    assert!(others.wait(PATIENCE).success());
    scene.assert_files(&second, &[2, 6], &[5]);
    // Two peers that lack something, according to the tracker, do not wait for one another.
    let mut twin = scene.start(5, &scene.lab.path("twin"), &["-n", "6,2", "--leave", "unneeded=2"]);
    assert!(twin.wait(PATIENCE).success() && some.wait(PATIENCE).success());
    assert!(twin.said().contains("Download complete."), "{}", twin.said());

    // Files that were not chosen and do not exist are not claimed, and existing ones are found.
    let checked = applet("ctorrent")
        .arg("-c")
        .arg("-b")
        .arg(scene.bitfield(4))
        .arg("-s")
        .arg(&second)
        .arg(&scene.torrent)
        .output();
    let said = crate::support::text(&checked.expect("run ctorrent").stdout);
    assert!(said.contains(&format!("Already/Total: 27/{PIECES} (39%)\n")), "{said}");
    fs::remove_file(scene.bitfield(4)).expect("remove the bitfield file");
    let mut forced = scene.start(4, &second, &["-f", "-n", "6", "-e", "1"]);
    forced.wait_for_line("Seed for others", PATIENCE);
    assert!(forced.interrupt().success());
    let have: u32 = fs::read(scene.bitfield(4)).expect("a bitfield").iter().map(|byte| byte.count_ones()).sum();
    assert!((27..=38).contains(&have), "it claims {have} pieces");
}
