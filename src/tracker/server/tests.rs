//! The tracker as its clients see it, over sockets on loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use super::config::ScrapeAllowed;
use super::peer::Owner;
use super::*;
use crate::torrent::bencode::Encoder;
use crate::torrent::{InfoHash, Metainfo, PeerId};
use crate::tracker::client::{AnnounceRequest, Client, Event};
use crate::tracker::udp;

mod addresses;
mod connections;
mod files;
mod logging;
mod pages;
mod panics;
mod publishing;
mod requests;
mod state;

/// A tracker in a thread, and its directory.
struct Running {
    dir: tempfile::TempDir,
    address: SocketAddr,
    shared: Arc<Shared>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A tracker of the torrents in its directory `images`, its settings modified by `change`.
fn tracker(change: impl Fn(&mut Config)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    start(dir, change)
}

fn start(dir: tempfile::TempDir, change: impl Fn(&mut Config)) -> Running {
    let mut config = config::tests::config(dir.path());
    change(&mut config);
    // Another process may have the UDP port with the same number as the TCP port.
    let server = (0..20).find_map(|_| Server::new(config.clone()).ok()).unwrap();
    let (address, shared) = (server.addresses().unwrap()[0], server.shared.clone());
    let ending = Arc::new(AtomicBool::new(false));
    let end = ending.clone();
    let thread = thread::spawn(move || server.run(&|| end.load(Ordering::Relaxed), &|| false).unwrap());
    Running { dir, address, shared, ending, thread: Some(thread) }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Running {
    fn end(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    fn udp_url(&self) -> String {
        format!("udp://{}/announce", self.address)
    }

    /// Puts a torrent into the directory and waits until it is tracked.
    fn add(&self, name: &str) -> InfoHash {
        let hash = put_file(&self.dir.path().join("images"), name);
        self.until("the torrent is listed", || self.shared.service.store.listing(hash).is_some());
        hash
    }

    fn log(&self) -> String {
        self.shared.service.log.flush();
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The number of requests in the log that contain `part`, repeated ones included.
    fn logged(&self, part: &str) -> usize {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(part));
        let times = lines.map(|line| match line.split_once(" ... repeated ") {
            Some((_, times)) => times.trim_end_matches(" times").parse().unwrap(),
            None => 1,
        });
        times.sum()
    }

    fn until(&self, what: &str, state: impl Fn() -> bool) {
        let begin = Instant::now();
        while !state() {
            assert!(begin.elapsed() < Duration::from_secs(20), "not within 20 s: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends `text` and returns everything received until the tracker closes.
    fn says(&self, text: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(text).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    fn get(&self, target: &str) -> String {
        self.says(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes())
    }
}

/// A torrent of `pieces` pieces.
fn torrent(name: &str, pieces: usize) -> Vec<u8> {
    let mut out = Encoder::new();
    out.dict(|top| {
        top.dict("info", |info| {
            info.int("length", (pieces as i64 - 1) * 16384 + 5);
            info.bytes("name", name);
            info.int("piece length", 16384);
            info.bytes("pieces", vec![7; 20 * pieces]);
        });
    });
    out.finish()
}

fn put_file(dir: &Path, name: &str) -> InfoHash {
    let bytes = torrent(name, 1);
    fs::write(dir.join(format!("{name}.torrent")), &bytes).unwrap();
    Metainfo::parse(&bytes).unwrap().info_hash
}

fn announce(hash: InfoHash, n: u8) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: hash,
        peer_id: PeerId([n; 20]),
        port: 7000 + u16::from(n),
        uploaded: 0,
        downloaded: 0,
        left: 5,
        event: Event::Started,
        numwant: 50,
        key: 0,
        ip: None,
        tracker_id: None,
    }
}

fn client() -> Client {
    Client::new("test/1", Ipv4Addr::UNSPECIFIED.into(), Duration::from_secs(10))
}
