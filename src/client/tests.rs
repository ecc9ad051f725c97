//! Downloads of one process on loopback, judged by their events.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::*;
use crate::base::signal::Signals;
use crate::peer::Options;
use crate::storage::Storage;
use crate::swarm::Leave;
use crate::torrent::Metainfo;
use crate::torrent::create::{self, Source};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PIECES: usize = 8;
const PIECE: usize = 64 << 10;

/// A payload, its torrent, and a tracker that knows one seeder.
struct Scene {
    dir: tempfile::TempDir,
    metainfo: Metainfo,
    tracker: String,
    _seeder: Client,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let payload = dir.path().join("payload");
        std::fs::write(&payload, (0..PIECES * PIECE).map(|at| ((at * at) >> 7) as u8).collect::<Vec<u8>>()).unwrap();
        let options = create::Options { piece_length: Some(PIECE as u32), ..create::Options::default() };
        let bytes = Source::open(&payload).unwrap().describe(&options, 1, &|| false, &|_| {}).unwrap();
        let metainfo = Metainfo::parse(&bytes).unwrap();
        let seeder = Client::start(settings()).unwrap();
        seeder.seed(metainfo.clone(), Storage::open(&metainfo, &payload).unwrap());
        let tracker = tracker(seeder.session().port());
        Scene { dir, metainfo, tracker, _seeder: seeder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a download of the payload to `copy`, and returns its events, one word each.
    fn run(&self, change: impl FnOnce(&mut Download)) -> (Result<(), Error>, Vec<String>) {
        let mut download = Download {
            metainfo: self.metainfo.clone(),
            target: self.path("copy"),
            tiers: vec![vec![self.tracker.clone()]],
            selection: Selection::parse(None, &self.metainfo).unwrap(),
            trust: Trust::Journal,
            bitfield: self.path("copy.bf"),
            journalling: Journalling::Beside,
            allocate: false,
            leave: Leave { after: Some(Duration::ZERO), ..Leave::default() },
            control: None,
            signals: Signals::default(),
            log: Arc::new(|_| {}),
        };
        change(&mut download);
        let mut events: Vec<String> = Vec::new();
        let outcome = download.run(settings(), &mut |event| {
            let word = match event {
                Event::Looking(evidence) => format!("{evidence:?}"),
                Event::Present { have, found } => format!("present {} {found}", have.count()),
                Event::Whole { downloaded, .. } => format!("whole {downloaded}"),
                Event::Ended(moment) => format!("ended {}", moment.status.left),
                event => format!("{event:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
            };
            if events.last() != Some(&word) {
                events.push(word);
            }
            Ok(())
        });
        (outcome, events)
    }
}

fn settings() -> Settings {
    let session = Options { bind: LOOPBACK, ..Options::default() };
    Settings { session, agent: "test".to_owned(), ip: None, numwant: 50, min_peers: 0 }
}

/// A tracker that names the peer at `port` of this machine to everybody.
fn tracker(port: u16) -> String {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let [high, low] = port.to_be_bytes();
    let reply = [b"d8:intervali60e5:peers6:\x7f\0\0\x01".as_slice(), &[high, low], b"e"].concat();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", reply.len());
            let _ = stream.write_all(&[head.as_bytes(), &reply].concat());
        }
    });
    url
}

fn same(one: &Path, other: &Path) -> bool {
    std::fs::read(one).unwrap() == std::fs::read(other).unwrap()
}

#[test]
fn a_download_reports_each_step_and_leaves_when_it_is_time() {
    let scene = Scene::new();
    let (outcome, events) = scene.run(|_| {});
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(same(&scene.path("copy"), &scene.path("payload")));
    let steps: Vec<&str> = events.iter().map(String::as_str).filter(|event| *event != "Turn").collect();
    assert_eq!(steps, ["Creating", "Nothing", "present 0 false", "Listening", "whole true", "ended 0"]);
    assert!(!scene.path("copy.bf").exists(), "nothing is missing");

    let (outcome, events) = scene.run(|_| {});
    assert!(outcome.is_ok(), "{outcome:?}");
    let known = format!("Journal {{ known: {PIECES}, pieces: {PIECES}, doubtful: 0 }}");
    assert_eq!(events[..2], [known, format!("present {PIECES} true")], "the journal vouches for all of it");
    assert!(events.contains(&"whole false".to_owned()), "{events:?}");
}

#[test]
fn damaged_data_is_found_by_hashing_and_fetched_again() {
    let scene = Scene::new();
    let mut bytes = std::fs::read(scene.path("payload")).unwrap();
    bytes[3 * PIECE] ^= 1;
    std::fs::write(scene.path("copy"), bytes).unwrap();
    let (outcome, events) = scene.run(|download| download.journalling = Journalling::Off);
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(events[..4], ["Hash", "Hashed", "Checked", &format!("present {} true", PIECES - 1)].map(str::to_owned));
    assert!(same(&scene.path("copy"), &scene.path("payload")));
    assert!(!scene.path("copy.torrent.journal").exists());
}

#[test]
fn what_ends_a_download_is_returned() {
    let scene = Scene::new();
    std::fs::write(scene.path("copy"), "short").unwrap();
    assert!(matches!(scene.run(|_| {}).0, Err(Error::Open(_))));
    let taken = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let mut settings = settings();
    settings.session.ports = vec![taken.local_addr().unwrap().port()];
    assert!(Client::start(settings).is_err());
}

#[test]
fn a_torrent_that_is_removed_is_announced_as_gone() {
    let scene = Scene::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let ours = heard.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
            let got = stream.read(&mut request).unwrap_or(0);
            ours.lock().unwrap().push(String::from_utf8_lossy(&request[..got]).into_owned());
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 16\r\n\r\nd8:intervali60ee");
        }
    });
    let client = Client::start(settings()).unwrap();
    let mut metainfo = scene.metainfo.clone();
    metainfo.announce = vec![vec![url]];
    let torrent = client.seed(metainfo.clone(), Storage::open(&metainfo, &scene.path("payload")).unwrap());
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while client.announced(&torrent).answers == 0 && std::time::Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    client.remove(&torrent);
    drop(client);
    let heard = heard.lock().unwrap();
    let events = ["event=started", "event=stopped"].map(|event| heard.iter().any(|request| request.contains(event)));
    assert_eq!((heard.len(), events), (2, [true, true]), "{heard:?}");
}
