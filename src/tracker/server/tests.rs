//! The tracker as its clients see it, over sockets on loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use super::allowed::Source;
use super::config::{OverrideIp, ScrapeAllowed};
use super::ranges::Ranges;
use super::store::Rules;
use super::swarm::Owner;
use super::*;
use crate::torrent::bencode::Encoder;
use crate::torrent::{InfoHash, Metainfo, PeerId};
use crate::tracker::client::{AnnounceRequest, Client, Event};
use crate::tracker::udp;

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
    let path = |name: &str| dir.path().join(name);
    let mut config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        udp: true,
        rules: Rules {
            closed: true,
            reannounce: 60,
            life: 180,
            usual_peers: 50,
            most_peers: 200,
            keep_dead: false,
            most_of_source: 64,
        },
        source: Some(Source::Directory { path: path("images"), controls: false }),
        rescan: Duration::from_secs(600),
        dfile: path("dstate"),
        save_interval: Duration::from_secs(600),
        logfile: Some(path("log")),
        flush_interval: Duration::ZERO,
        socket_timeout: Duration::from_secs(15),
        allowed_ips: None,
        banned_ips: None,
        hosts: path("hosts"),
        resolv_conf: None,
        publish_token: None,
        allow_get: true,
        scrape: ScrapeAllowed::Full,
        compact_required: false,
        override_ip: OverrideIp::Trusted,
        proxies: Ranges::default(),
        show_infopage: true,
        infopage_redirect: None,
        show_names: true,
        favicon: None,
        workers: 2,
        most_connections: 1000,
    };
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

#[test]
fn peers_that_announce_over_http_and_udp_meet() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    let peers = |url: String, n| client().announce(&url, &announce(hash, n)).unwrap().peers;
    assert_eq!(peers(tracker.url(), 1), []);
    assert_eq!(peers(tracker.udp_url(), 2), ["127.0.0.1:7001".parse().unwrap()]);
    assert_eq!(peers(tracker.url(), 3).len(), 2);
    for url in [tracker.url(), tracker.udp_url()] {
        let counts = client().scrape(&url, &[hash, InfoHash([1; 20])]).unwrap();
        assert_eq!((counts[0].info_hash, counts[0].incomplete, counts[0].complete), (hash, 3, 0), "{url}");
    }
    for part in ["\"GET /announce?info_hash=", "\"UDP announce ", "HTTP/1.1\" 200", "\"test/1\""] {
        tracker.until(part, || tracker.log().contains(part));
    }
}

#[test]
fn a_request_that_panics_is_answered_500_and_its_place_logged_and_all_others_go_on() {
    let tracker = tracker(|config| config.workers = 1);
    let hash = tracker.add("x.img");
    let mut kept = tracker.connect();
    for _ in 0..3 {
        let answer = tracker.says(b"GET /!panic-request! HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 500 Internal Server Error"), "{answer}");
    }
    let raw: String = hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
    write!(kept, "GET /scrape?info_hash={raw} HTTP/1.0\r\n\r\n").unwrap();
    let mut said = Vec::new();
    kept.read_to_end(&mut said).unwrap();
    assert!(said.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&said));
    let log = tracker.log();
    assert!(log.contains("**error** answer a request: panicked at src/base/boundary.rs:"), "{log}");
    // Lines of requests are gathered for a second.
    tracker.until("the requests are logged", || tracker.logged("\" 500 ") == 3);
}

#[test]
fn a_datagram_that_panics_is_not_answered_and_the_next_one_is() {
    let tracker = tracker(|config| config.workers = 1);
    let hash = tracker.add("x.img");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"!panic-request!", tracker.address).unwrap();
    assert!(client().announce(&tracker.udp_url(), &announce(hash, 1)).is_ok());
    tracker.until("the panic is logged", || {
        tracker.log().contains("**error** answer a datagram: panicked at src/base/boundary.rs:")
    });
}

#[test]
fn a_connection_that_panics_is_closed_and_its_place_is_given_to_others() {
    let tracker = tracker(|config| (config.workers, config.most_connections) = (1, 3));
    let hash = tracker.add("x.img");
    for turn in 0..10 {
        let mut stream = tracker.connect();
        if turn % 2 == 0 {
            // In two parts, so that the connection has its place before it panics.
            stream.write_all(b"GET /").unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        stream.write_all(b"!panic-connection! HTTP/1.0\r\n\r\n").unwrap();
        let mut said = Vec::new();
        assert!(stream.read_to_end(&mut said).is_err() || said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
    assert!(client().announce(&tracker.url(), &announce(hash, 1)).is_ok());
    let log = tracker.log();
    assert_eq!(log.matches("**error** serve a connection: panicked at src/base/boundary.rs:").count(), 10, "{log}");
}

#[test]
fn a_torrent_that_is_not_listed_is_refused_until_it_is() {
    let tracker = tracker(|_| ());
    let elsewhere = tempfile::tempdir().unwrap();
    let hash = put_file(elsewhere.path(), "x.img");
    for url in [tracker.url(), tracker.udp_url()] {
        let refused = client().announce(&url, &announce(hash, 1)).unwrap_err().to_string();
        assert_eq!(refused, format!("refused by the tracker: {}", store::NOT_AUTHORIZED));
    }
    let deep = tracker.dir.path().join("images/ou");
    fs::create_dir(&deep).unwrap();
    fs::rename(elsewhere.path().join("x.img.torrent"), deep.join("x.img.torrent")).unwrap();
    tracker.until("it is tracked", || client().announce(&tracker.url(), &announce(hash, 1)).is_ok());
    fs::remove_dir_all(&deep).unwrap();
    tracker.until("it is refused again", || client().announce(&tracker.url(), &announce(hash, 1)).is_err());
}

#[test]
fn refusals_have_the_namesakes_form() {
    let tracker = tracker(|config| config.allow_get = false);
    let refused = tracker.get("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa");
    assert!(refused.starts_with("HTTP/1.0 200 Not Authorized\r\n"), "{refused}");
    assert!(refused.ends_with("d14:failure reason63:Requested download is not authorized for use with this tracker.e"));
    let garbage = tracker.get("/announce?port=1");
    assert!(garbage.starts_with("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n"), "{garbage}");
    assert!(garbage.ends_with("\r\n\r\nyou sent me garbage - no info hash"), "{garbage}");
    let lost = tracker.get("/stats");
    assert!(lost.starts_with("HTTP/1.0 404 Not Found\r\n"), "{lost}");
    assert!(lost.ends_with("your file may exist elsewhere in the universe\nbut alas, not here\n"), "{lost}");
    assert!(tracker.get("/favicon.ico").starts_with("HTTP/1.0 404 "));
    let file = tracker.get("/file?name=x");
    assert!(file.starts_with("HTTP/1.0 400 Not Authorized\r\n"), "{file}");
    assert!(file.ends_with("get function is not available with this tracker."), "{file}");
    assert!(tracker.says(b"GET /announce?port=1\n").starts_with("you sent me garbage"), "HTTP/0.9 has no head");
    assert!(tracker.says(b"HEAD /stats HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n"), "HEAD has no body");
}

#[test]
fn scrapes_are_answered_as_far_as_allowed() {
    let tracker = tracker(|config| config.scrape = ScrapeAllowed::Specific);
    let hash = tracker.add("x.img");
    let full = tracker.get("/scrape");
    assert!(
        full.starts_with("HTTP/1.0 400 Not Authorized\r\n") && full.contains("full scrape function is not"),
        "{full}"
    );
    let one = client().scrape(&tracker.url(), &[hash]).unwrap();
    assert_eq!((one.len(), one[0].info_hash), (1, hash));
    assert!(tracker.get("/scrape.php?info_hash=zz").ends_with("d5:filesdee"));
}

#[test]
fn a_torrent_file_is_given_by_hex_by_bytes_and_by_name() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    let whole = fs::read(tracker.dir.path().join("images/x.img.torrent")).unwrap();
    let raw: String = hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
    for query in [format!("info_hash={hash}"), format!("info_hash={raw}"), format!("hash={hash}"), "name=x.img".into()]
    {
        let file = tracker.get(&format!("/file?{query}"));
        assert!(file.contains("Content-Type: application/x-bittorrent\r\n"), "{query}: {file}");
        assert!(file.contains("filename=\"x.img.torrent\""), "{file}");
        assert!(file.ends_with(&*String::from_utf8_lossy(&whole)), "{file}");
    }
    for query in ["", "name=", "info_hash=00", "name=../../etc/passwd", "name=y"] {
        assert!(tracker.get(&format!("/file?{query}")).starts_with("HTTP/1.0 404 "), "{query}");
    }
}

#[test]
fn torrent_files_of_one_name_are_told_apart_by_their_directories() {
    let tracker = tracker(|_| ());
    let images = tracker.dir.path().join("images");
    for room in ["aula1", "aula2"] {
        fs::create_dir_all(images.join(room)).unwrap();
    }
    let [one, two, three] = ["one.img", "two.img", "three.img"].map(|name| tracker.add(name));
    for (from, to) in [("three", "."), ("one", "aula1"), ("two", "aula2")] {
        fs::rename(images.join(format!("{from}.img.torrent")), images.join(to).join("x.img.torrent")).unwrap();
    }
    let asked = |name: &str| tracker.get(&format!("/file?name={name}"));
    let given = |hash: InfoHash| tracker.get(&format!("/file?info_hash={hash}"));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while asked("aula2/x.img").starts_with("HTTP/1.0 404 ") {
        assert!(std::time::Instant::now() < until, "the tracker does not see what was moved");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!([asked("aula1/x.img"), asked("aula2/x.img.torrent")], [given(one), given(two)]);
    assert_eq!(
        [asked("x.img"), asked("three.img")],
        [given(three), given(three)],
        "directories are for who names them"
    );
    assert!(asked("aula3/x.img").starts_with("HTTP/1.0 404 "));
}

#[test]
fn one_connection_serves_many_requests_however_they_are_cut() {
    let tracker = tracker(|_| ());
    let mut stream = tracker.connect();
    let request = b"GET /scrape HTTP/1.1\r\nHost: x\r\n\r\n";
    let many = request.repeat(200);
    for part in many.chunks(33) {
        stream.write_all(part).unwrap();
    }
    stream.write_all(b"GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("HTTP/1.1 200 OK\r\n").count(), 200);
    assert_eq!(said.matches("HTTP/1.1 404 Not Found\r\n").count(), 1);
    assert!(said.contains("Connection: close"));
}

#[test]
fn replies_larger_than_the_socket_takes_arrive_whole() {
    let tracker = tracker(|_| ());
    let images = tracker.dir.path().join("images");
    for n in 0..400 {
        put_file(&images, &format!("{n}-{}", "n".repeat(200)));
    }
    tracker.until("all are listed", || tracker.shared.service.store.scrape(None).len() == 400);
    let mut stream = tracker.connect();
    stream.write_all(&b"GET /scrape HTTP/1.1\r\n\r\n".repeat(100)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    thread::sleep(Duration::from_millis(300));
    let mut reader = BufReader::new(stream);
    for at in 0..100 {
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(number) = line.strip_prefix("Content-Length: ") {
                length = number.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert!(length > 80_000 && body.starts_with(b"d5:filesd") && body.ends_with(b"ee"), "reply {at}");
    }
}

#[test]
fn garbage_is_answered_closed_and_logged() {
    let tracker = tracker(|_| ());
    let endless = [b"GET / HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(4000)].concat();
    for (text, code) in [
        (&b"\x16\x03\x01\x02\x00garbage\n"[..], "400"),
        (b"POST /announce HTTP/1.1\r\n\r\n", "501"),
        (b"GET / HTTP/1.1\r\n\x1b]0;owned\x07\r\n\r\n", "400"),
        (&endless, "431"),
        (&[b'a'; 9000], "431"),
    ] {
        let mut stream = tracker.connect();
        // The tracker may close before all of it is sent, which drops its answer.
        let _ = stream.write_all(text);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.is_empty() || said.starts_with(&format!("HTTP/1.0 {code} ")), "{said}");
        let logged = format!("\" {code} 0 ");
        tracker.until("it is logged", || {
            tracker.log().lines().any(|line| line.starts_with("127.0.0.1 - - [") && line.contains(&logged))
        });
    }
    assert!(!tracker.log().contains('\x1b'));
    assert!(tracker.get("/scrape").contains("200 OK"), "and the tracker goes on");
}

#[test]
fn a_thousand_long_requests_do_not_fill_the_log() {
    let tracker = tracker(|_| ());
    let mut stream = tracker.connect();
    let mut reader = stream.try_clone().unwrap();
    let sends = thread::spawn(move || {
        for n in 0..1000 {
            write!(stream, "GET /{n}{} HTTP/1.1\r\n\r\n", "x".repeat(7000)).unwrap();
        }
        stream.write_all(b"GET /last HTTP/1.0\r\n\r\n").unwrap();
    });
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    sends.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&said).matches("404 Not Found").count(), 1001);
    tracker.until("it is told", || tracker.log().contains(" requests of 127.0.0.1 are left out here\n"));
    let log = tracker.log();
    assert!(log.len() < 256 << 10, "{} bytes", log.len());
    assert!(log.lines().all(|line| line.len() <= log::LONGEST));
}

#[test]
fn wrong_requests_are_answered_one_by_one_in_one_connection() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    let raw: String = hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
    let id = "a".repeat(20);
    let good = format!("info_hash={raw}&peer_id={id}&port=1&left=5");
    let cases = [
        (good.clone(), "8:intervali"),
        (good.replacen('%', "%g", 1), "you sent me garbage - "),
        (good.replacen("%", "%%", 1), "you sent me garbage - "),
        (format!("info_hash={}", "%".repeat(20)), "you sent me garbage - "),
        (format!("{good}&numwant=99999999999999999999999"), "8:intervali"),
        (format!("{good}&numwant=-1"), "8:intervali"),
        (good.replace("port=1", "port=0"), "8:intervali"),
        (good.replace("port=1", "port=65536"), "you sent me garbage - invalid port"),
        (good.replace("left=5", "left=-1"), "you sent me garbage - invalid amount left"),
        (format!("{good}&event=exploded"), "you sent me garbage - invalid event"),
        (format!("{good}{}", "&x".repeat(3000)), "8:intervali"),
    ];
    let requests = cases.iter().map(|(query, _)| format!("GET /announce?{query} HTTP/1.1\r\n\r\n"));
    // A malformed request ends the connection; the rest is not read.
    let whole = requests.collect::<String>() + "\x01\x02 garbage\r\n\r\nGET /scrape HTTP/1.1\r\n\r\n";
    let said = tracker.says(whole.as_bytes());
    let replies: Vec<&str> = said.split("HTTP/1.").skip(1).collect();
    assert_eq!(replies.len(), cases.len() + 1, "{said}");
    for ((query, expected), reply) in cases.iter().zip(&replies) {
        assert!(reply.contains(expected), "{query}: {reply}");
    }
    assert!(replies[cases.len()].starts_with("0 400 "), "{said}");
    assert_eq!(tracker.shared.service.store.peers(), 1, "who gives no port is not told of");
}

#[test]
fn who_sends_too_slowly_is_closed_and_logged() {
    let tracker = tracker(|config| config.socket_timeout = Duration::from_secs(1));
    let mut slow = tracker.connect();
    let begin = Instant::now();
    slow.write_all(b"GET /announce?slow HTTP/1.1\r\n").unwrap();
    let mut reader = slow.try_clone().unwrap();
    let drip = thread::spawn(move || {
        while slow.write_all(b"X: y\r\n").is_ok() && begin.elapsed().as_secs() < 15 {
            thread::sleep(Duration::from_millis(100));
        }
    });
    // A reset ends it as well.
    let _ = reader.read_to_end(&mut Vec::new());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    drip.join().unwrap();
    tracker.until("it is logged", || tracker.log().contains("\"GET /announce?slow HTTP/1.1\" 408 0"));
}

#[test]
fn datagrams_that_are_no_requests_get_no_answer() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(tracker.address).unwrap();
    for garbage in [&b""[..], b"x", &[0; 16], &[0xff; 98], &[7; 1500]] {
        socket.send(garbage).unwrap();
    }
    // An announce needs a connection id from the tracker; the refusal is smaller than the request.
    let mut packet = Vec::new();
    udp::Request::Scrape { connection: 1, transaction: 9, hashes: vec![hash] }.write(&mut packet);
    socket.send(&packet).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer).unwrap();
    let reply = udp::Reply::read(&answer[..length], tracker.address.ip()).unwrap();
    assert!(matches!(reply, udp::Reply::Error { transaction: 9, .. }), "{reply:?}");
    tracker.until("it is logged", || tracker.log().contains("\"UDP garbage\" 400"));
}

#[test]
fn the_state_survives_a_restart() {
    let mut tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    client()
        .announce(&tracker.url(), &AnnounceRequest { left: 0, event: Event::Completed, ..announce(hash, 1) })
        .unwrap();
    tracker.end();
    assert!(tracker.log().contains("# Shutting down:"));
    let dir = std::mem::replace(&mut tracker.dir, tempfile::tempdir().unwrap());
    let again = start(dir, |_| ());
    let counts = client().scrape(&again.url(), &[hash]).unwrap();
    assert_eq!((counts[0].complete, counts[0].downloaded), (1, 1));
    assert_eq!(client().announce(&again.url(), &announce(hash, 2)).unwrap().peers, ["127.0.0.1:7001".parse().unwrap()]);
}

#[test]
fn a_state_that_cannot_be_saved_is_told_of_and_the_tracker_goes_on() {
    let tracker = tracker(|config| {
        config.dfile = "/proc/nowhere/dstate".into();
        config.save_interval = Duration::from_millis(100);
    });
    let hash = tracker.add("x.img");
    client().announce(&tracker.url(), &announce(hash, 1)).unwrap();
    tracker.until("it is told", || tracker.log().contains("**warning** save statefile /proc/nowhere/dstate: "));
    assert!(client().announce(&tracker.url(), &announce(hash, 2)).is_ok());
}

#[test]
fn when_connections_run_out_those_that_wait_longest_go() {
    let tracker = tracker(|config| (config.workers, config.most_connections) = (1, 20));
    let mut slow: Vec<TcpStream> = (0..60).map(|_| tracker.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /slow HTTP/1.1\r\n").unwrap();
    }
    tracker.until("40 of 60 are closed", || tracker.logged("\"GET /slow HTTP/1.1\" 503 0") == 40);
    assert!(tracker.get("/scrape").contains("200 OK"), "who comes after all of them is served");
}

#[test]
fn readers_that_do_not_read_give_way_and_pin_no_memory() {
    let tracker = tracker(|config| config.workers = 1);
    let hash = tracker.add("x.img");
    let store = &tracker.shared.service.store;
    for n in 0..5000u16 {
        let socket = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881));
        store.restore_peer(hash, socket, Owner::new(socket.ip(), 0), PeerId([1; 20]), 0, 1);
    }
    let pages = 12;
    let mut slow: Vec<TcpStream> = (0..pages).map(|_| tracker.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    }
    tracker.until("each was answered", || tracker.logged("\"GET /metrics HTTP/1.0\" 200 ") == pages);
    let whole = tracker.get("/metrics");
    assert_eq!(whole.matches("peer_permille{").count(), 5000, "who reads gets all of it");
    assert!(whole.len() * pages > 2 * worker::PENDING, "{} bytes would not have been too much", whole.len());
    assert!(tracker.shared.pending.load(Ordering::Relaxed) <= worker::PENDING);
    assert!(tracker.log().contains("\"-\" 503 0"), "{}", tracker.log());
    drop(slow);
    tracker.until("what waited is given back", || tracker.shared.pending.load(Ordering::Relaxed) == 0);
}

/// A complete request with a body that closes the connection.
fn put(tracker: &Running, target: &str, token: &str, body: &[u8], extra: &str) -> String {
    let head = format!(
        "PUT {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
        body.len()
    );
    let mut stream = tracker.connect();
    stream.write_all(head.as_bytes()).unwrap();
    if !extra.is_empty() {
        let mut said = [0; 25];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut said = Vec::new();
    // A refused body need not be read.
    let _ = stream.write_all(body);
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn publisher() -> Running {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "secret\n").unwrap();
    start(dir, move |config| config.publish_token = Some(token.clone()))
}

#[test]
fn the_bearer_of_the_token_publishes_a_torrent_that_is_tracked_at_once() {
    let tracker = publisher();
    let bytes = torrent("x.img", 300_000);
    let hash = Metainfo::parse(&bytes).unwrap().info_hash;
    let said = put(&tracker, "/file?name=x.img.torrent", "secret", &bytes, "Expect: 100-continue\r\n");
    assert!(said.starts_with("HTTP/1.1 201 Created\r\n") && said.ends_with(&format!("\r\n\r\n{hash}\n")), "{said}");
    assert!(client().announce(&tracker.url(), &announce(hash, 1)).is_ok());
    assert_eq!(fs::read(tracker.dir.path().join("images/x.img.torrent")).unwrap(), bytes);
    let again = put(&tracker, "/file?name=y.torrent", "secret", &bytes, "");
    assert!(again.starts_with("HTTP/1.1 409 ") && again.ends_with("already, as x.img.torrent\n"), "{again}");
    let mut names: Vec<_> =
        fs::read_dir(tracker.dir.path().join("images")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".x.img.torrent.published", "x.img.torrent"], "nothing but the mark is left beside it");
}

#[test]
fn the_token_replaces_what_it_published_and_no_torrent_of_the_administrator_after_a_restart_too() {
    let mut tracker = publisher();
    let own = tracker.add("own.img");
    let refused = |tracker: &Running| {
        let said = put(tracker, "/file?name=own.img.torrent", "secret", &torrent("evil", 1), "");
        assert!(said.starts_with("HTTP/1.1 409 ") && said.ends_with("the token did not publish it\n"), "{said}");
        assert!(tracker.shared.service.store.listing(own).is_some());
    };
    let published = |tracker: &Running, pieces| {
        let said = put(tracker, "/file?name=x.torrent", "secret", &torrent("x", pieces), "");
        assert!(said.starts_with("HTTP/1.1 201 "), "{said}");
    };
    refused(&tracker);
    published(&tracker, 1);
    published(&tracker, 2);
    tracker.end();
    let dir = std::mem::replace(&mut tracker.dir, tempfile::tempdir().unwrap());
    let token = dir.path().join("token");
    let again = start(dir, move |config| config.publish_token = Some(token.clone()));
    published(&again, 3);
    refused(&again);
}

#[test]
fn nobody_else_publishes_anything() {
    let tracker = publisher();
    let whole = torrent("x.img", 1);
    for (target, token, body, code) in [
        ("/file?name=x.torrent", "wrong", &whole[..], 401),
        ("/file?name=../x.torrent", "secret", &whole, 400),
        ("/file?name=x.img", "secret", &whole, 400),
        ("/file", "secret", &whole, 400),
        ("/file?name=x.torrent", "secret", &whole[..whole.len() - 1], 400),
        ("/announce", "secret", &whole, 405),
    ] {
        let said = put(&tracker, target, token, body, "");
        assert!(said.starts_with(&format!("HTTP/1.1 {code} ")), "{target}: {said}");
    }
    let endless =
        b"PUT /file?name=x.torrent HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Length: 99999999\r\n\r\n";
    assert!(tracker.says(endless).starts_with("HTTP/1.1 413 "));
    let chunked =
        b"PUT /file?name=x.torrent HTTP/1.1\r\nAuthorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(tracker.says(&[chunked.as_slice(), b"Connection: close\r\n"].concat()).starts_with("HTTP/1.1 411 "));
    assert_eq!(fs::read_dir(tracker.dir.path().join("images")).unwrap().count(), 0);
    let closed = self::tracker(|_| ());
    assert!(put(&closed, "/file?name=x.torrent", "secret", &whole, "").starts_with("HTTP/1.1 405 "));
}

#[test]
fn lists_of_addresses_keep_out_whom_they_say_as_soon_as_they_say_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    let (allowed, banned) = (dir.path().join("allowed"), dir.path().join("banned"));
    fs::write(&allowed, "127.0.0.0/8\n").unwrap();
    fs::write(&banned, "some:label:10.0.0.0-10.0.0.9\n").unwrap();
    let lists = (allowed.clone(), banned.clone());
    let tracker = start(dir, move |config| {
        (config.allowed_ips, config.banned_ips) = (Some(lists.0.clone()), Some(lists.1.clone()));
    });
    let hash = tracker.add("x.img");
    let refused = |url: String| {
        let refused = "refused by the tracker: your IP is not allowed on this tracker";
        client().announce(&url, &announce(hash, 1)).is_err_and(|error| error.to_string() == refused)
    };
    assert!(!refused(tracker.url()) && !refused(tracker.udp_url()));
    fs::write(&banned, "127.0.0.1\n").unwrap();
    tracker.until("the ban holds", || refused(tracker.url()) && refused(tracker.udp_url()));
    let file = tracker.get("/file?name=x.img");
    assert!(file.starts_with("HTTP/1.0 400 Not Authorized\r\n"), "{file}");
    fs::write(&banned, "").unwrap();
    tracker.until("the ban is lifted", || !refused(tracker.url()));
    fs::write(&allowed, "10.0.0.0/8\n").unwrap();
    tracker.until("only the others are allowed", || refused(tracker.url()));
}

#[test]
fn a_list_of_who_is_allowed_that_is_not_there_allows_nobody() {
    let tracker = tracker(|config| config.allowed_ips = Some("/nowhere/ips".into()));
    assert!(tracker.get("/scrape").contains("your IP is not allowed on this tracker"));
    assert!(tracker.log().contains("**warning** unable to read IP list /nowhere/ips"));
}

#[test]
fn the_page_the_json_and_the_metrics_tell_the_same() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    fs::write(tracker.dir.path().join("hosts"), "127.0.0.1 pc1.lab\n").unwrap();
    client().announce(&tracker.url(), &announce(hash, 1)).unwrap();
    let closed = tracker.says(b"GET / HTTP/1.0\r\nAccept-Language: ca\r\n\r\n");
    assert!(
        closed.contains("<html lang=\"ca\">") && closed.contains("x.img") && !closed.contains("pc1.lab"),
        "{closed}"
    );
    let open = tracker.get(&format!("/?open={hash}"));
    assert!(open.contains("pc1.lab") && open.contains("0.0&nbsp;%"), "{open}");
    let json = tracker.get("/status.json");
    for part in [
        format!("\"info_hash\":\"{hash}\",\"name\":\"x.img\",\"size\":5,\"seeders\":0,\"leechers\":1"),
        "\"ip\":\"127.0.0.1\",\"port\":7001,\"host\":\"pc1.lab\",\"permille\":0".to_owned(),
    ] {
        assert!(json.contains(&part), "{part} in {json}");
    }
    let metrics = tracker.get("/metrics");
    assert!(metrics.contains("bttrack_announces_total 1\n"), "{metrics}");
    assert!(metrics.contains(&format!("bttrack_leechers{{info_hash=\"{hash}\",name=\"x.img\"}} 1\n")), "{metrics}");
}

#[test]
fn a_pc_is_shown_by_the_name_that_reverse_lookup_gives() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let conf = tempfile::NamedTempFile::new().unwrap();
    fs::write(conf.path(), format!("nameserver {}\n", resolver.local_addr().unwrap())).unwrap();
    let tracker = tracker(|config| config.resolv_conf = Some(conf.path().to_owned()));
    let hash = tracker.add("x.img");
    let ip = Some("10.0.0.7".parse().unwrap());
    client().announce(&tracker.url(), &AnnounceRequest { ip, ..announce(hash, 1) }).unwrap();
    let begin = Instant::now();
    assert!(tracker.get("/status.json").contains("\"ip\":\"10.0.0.7\",\"port\":7001,\"host\":\"\""));
    assert!(begin.elapsed() < Duration::from_secs(1), "the page waits for nobody");
    let mut packet = [0; 512];
    let (length, from) = resolver.recv_from(&mut packet).unwrap();
    assert_eq!(&packet[12..length - 4], b"\x017\x010\x010\x0210\x07in-addr\x04arpa\0");
    (packet[2], packet[7]) = (0x81, 1);
    let record = b"\xc0\x0c\0\x0c\0\x01\0\0\0\x3c\0\x09\x03pc7\x03lab\0";
    resolver.send_to(&[&packet[..length], record].concat(), from).unwrap();
    tracker.until("the name is shown", || tracker.get(&format!("/?open={hash}")).contains("pc7.lab"));
}

#[test]
fn readers_of_pages_share_a_rendering_a_second_and_announces_go_on_beside_them() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    let store = &tracker.shared.service.store;
    for n in 0..20_000u16 {
        let socket = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881));
        store.restore_peer(hash, socket, Owner::new(socket.ip(), 0), PeerId([1; 20]), 0, 1);
    }
    let (begin, pages) = (Instant::now(), AtomicUsize::new(0));
    let reading = AtomicBool::new(true);
    thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                while reading.load(Ordering::Relaxed) {
                    let page = tracker.get("/status.json");
                    // One that is too slow among many may have had to give way.
                    assert!(page.is_empty() || page.starts_with("HTTP/1.0 200 "), "{:.200}", page);
                    pages.fetch_add(usize::from(page.ends_with("}]}]}")), Ordering::Relaxed);
                }
            });
        }
        while begin.elapsed() < Duration::from_secs(3) {
            client().announce(&tracker.udp_url(), &announce(hash, 1)).unwrap();
            client().announce(&tracker.url(), &announce(hash, 2)).unwrap();
        }
        reading.store(false, Ordering::Relaxed);
    });
    let (rendered, seconds) = (tracker.shared.service.pages.rendered(), begin.elapsed().as_secs() as u32);
    assert!((1..=seconds + 1).contains(&rendered), "{rendered} renderings in {seconds} s");
    assert!(pages.load(Ordering::Relaxed) > rendered as usize, "readers share a rendering");
}

#[test]
fn the_page_can_be_elsewhere_or_nowhere() {
    let elsewhere = tracker(|config| config.infopage_redirect = Some("http://lab/".to_owned()));
    assert!(elsewhere.get("/").contains("302 Found\r\n") && elsewhere.get("/").contains("Location: http://lab/\r\n"));
    let nowhere = tracker(|config| config.show_infopage = false);
    assert!(["/", "/status.json", "/metrics"].iter().all(|path| nowhere.get(path).starts_with("HTTP/1.0 404 ")));
}
