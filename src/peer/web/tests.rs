//! Tests of a session that fetches from well- and ill-behaved HTTP servers.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::super::tests::{LOOPBACK, Scene, address, eventually, session};
use super::super::{NearSeeds, Options};

/// The behaviour of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Right,
    /// Sends the whole file, whatever range is requested.
    Whole,
    /// Ends its answers in the middle.
    Short,
    /// Sends other bytes.
    Wrong,
    /// Sends another range.
    Shifted,
    Missing,
    /// Redirects, to its own site or to another.
    Moved,
    OffSite,
    /// Is busy at first.
    Busy,
}

/// An HTTP server with its own port, and counts of what it served.
struct Server {
    url: String,
    sent: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Server {
    fn start(scene: &Scene, manner: Manner) -> Server {
        let data = Arc::new(std::fs::read(scene.path("payload")).expect("read the payload"));
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("listen");
        let url = format!("http://{}/payload", listener.local_addr().expect("an address"));
        let (sent, connections) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let server = Server { url, sent: sent.clone(), connections: connections.clone() };
        // Both kinds of threads end with the process or the connection.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let busy = connections.fetch_add(1, Ordering::Relaxed) == 0;
                let manner = if manner == Manner::Busy && !busy { Manner::Right } else { manner };
                let (data, sent) = (data.clone(), sent.clone());
                std::thread::spawn(move || serve(stream, manner, &data, &sent));
            }
        });
        server
    }
}

/// Answers requests until the other end closes the connection.
fn serve(stream: TcpStream, manner: Manner, data: &[u8], sent: &AtomicU64) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    loop {
        let moved = lines.next()?.starts_with("GET /moved ");
        let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let range =
            headers.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let (first, last) = range.as_ref()?.split_once('-')?;
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let mut body = data[first..=last].to_vec();
        let partial =
            |first: usize, last: usize| format!("206 Part\r\nContent-Range: bytes {first}-{last}/{}", data.len());
        let status = match manner {
            Manner::Right => partial(first, last),
            Manner::Whole => "200 OK".to_owned(),
            Manner::Short => partial(first, last),
            Manner::Wrong => {
                body[0] ^= 1;
                partial(first, last)
            }
            Manner::Shifted => partial(first + 1, last + 1),
            Manner::Missing => "404 Not here".to_owned(),
            Manner::Moved if moved => partial(first, last),
            Manner::Moved => "302 There\r\nLocation: /moved".to_owned(),
            Manner::OffSite => "302 There\r\nLocation: http://127.0.0.2:9/payload".to_owned(),
            Manner::Busy => "503 Later".to_owned(),
        };
        let length = if status.starts_with("206") { body.len() } else { 0 };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = &stream;
        stream.write_all(head.as_bytes()).ok()?;
        let most = if manner == Manner::Short { length / 2 } else { length };
        stream.write_all(&body[..most]).ok()?;
        sent.fetch_add(most as u64, Ordering::Relaxed);
        // A busy server closes the connection, too.
        if most < length || manner == Manner::Busy {
            return None;
        }
    }
}

/// Returns the options of a session that collects its log, and the log.
fn talking() -> (Options, Arc<Mutex<String>>) {
    let said = Arc::new(Mutex::new(String::new()));
    let log = said.clone();
    let log = Arc::new(move |line: &str| *log.lock().expect("one writer at a time") += &format!("{line}\n"));
    (Options { log, pex: false, near_web_seeds: NearSeeds::All, ..Options::default() }, said)
}

#[test]
fn a_web_seed_alone_gives_everything_over_one_connection() {
    for manner in [Manner::Right, Manner::Moved, Manner::Busy] {
        let mut scene = Scene::new(11, 3, false);
        let server = Server::start(&scene, manner);
        scene.metainfo.web_seeds.push(server.url.clone());
        let (options, said) = talking();
        let leecher = session(options);
        let fetching = scene.fetch(&leecher, "fetched");
        eventually("it is whole", || fetching.status().whole);
        scene.assert_is_payload("fetched");
        assert_eq!(server.sent.load(Ordering::Relaxed), 3 << 20, "{manner:?}: nothing is fetched twice");
        assert_eq!(fetching.status().peers, (0, 0), "it is no peer");
        let busy = u64::from(manner == Manner::Busy);
        assert_eq!(server.connections.load(Ordering::Relaxed), 1 + busy, "{manner:?}");
        let said = said.lock().expect("nobody writes");
        assert_eq!(said.contains("answers with status 503; trying again in 1 s"), busy == 1, "{said}");
    }
}

#[test]
fn a_server_that_answers_wrongly_is_given_up_with_a_reason_and_peers_give_the_rest() {
    for (manner, reason) in [
        (Manner::Whole, "sends whole files instead of the requested ranges"),
        (Manner::Short, "its answer is cut short"),
        (Manner::Wrong, "sent data that fail the hash of their piece"),
        (Manner::Shifted, "were requested"),
        (Manner::Missing, "answers with status 404"),
        (Manner::OffSite, "redirects to another site, `http://127.0.0.2:9/payload`"),
    ] {
        let mut scene = Scene::new(12, 2, false);
        let server = Server::start(&scene, manner);
        scene.metainfo.web_seeds = vec!["ftp://127.0.0.1/payload".to_owned(), server.url.clone()];
        let (options, said) = talking();
        let (leecher, seeder) = (session(options), session(Options { pex: false, ..Options::default() }));
        let fetching = scene.fetch(&leecher, "fetched");
        let says = |what: &str| said.lock().expect("one at a time").lines().any(|line| line.contains(what));
        eventually(reason, || says(&format!("{}: given up: ", server.url)) && says(reason));
        assert!(says("ftp://127.0.0.1/payload: given up: only http://"));
        assert!(!fetching.status().whole);
        scene.seed(&seeder);
        fetching.add_addresses(&[address(&seeder)]);
        eventually("it is whole", || fetching.status().whole);
        scene.assert_is_payload("fetched");
    }
}

#[test]
fn a_torrent_does_not_make_us_ask_our_own_machine() {
    let mut scene = Scene::new(14, 2, false);
    let (server, asked) = (Server::start(&scene, Manner::Right), Server::start(&scene, Manner::Right));
    let by_name = server.url.replace("127.0.0.1", "localhost");
    scene.metainfo.web_seeds = vec![server.url.clone(), by_name.clone(), "http://169.254.169.254/x".to_owned()];
    let these = |urls| NearSeeds::These(urls);
    let (options, said) = talking();
    let leecher = session(Options { near_web_seeds: these(Vec::new()), ..options });
    let _fetching = scene.fetch(&leecher, "fetched");
    let given_up = |url: &str, address: &str| {
        let line = format!("{url}: given up: {address} is a loopback or link-local address");
        said.lock().expect("one at a time").lines().any(|said| said.starts_with(&line))
    };
    eventually("the address is refused", || given_up(&server.url, "127.0.0.1"));
    eventually("the name's address is refused", || given_up(&by_name, "127.0.0.1") || given_up(&by_name, "::1"));
    eventually("a link-local one is refused", || given_up("http://169.254.169.254/x", "169.254.169.254"));
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
    scene.metainfo.web_seeds.push(asked.url.clone());
    let other = session(Options { near_web_seeds: these(vec![asked.url.clone()]), ..talking().0 });
    let fetching = scene.fetch(&other, "other");
    eventually("the one that is asked for gives all", || fetching.status().whole);
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
}

#[test]
fn a_web_seed_is_hardly_used_while_peers_give_enough() {
    let mut scene = Scene::new(13, 24, false);
    let server = Server::start(&scene, Manner::Right);
    scene.metainfo.web_seeds.push(server.url.clone());
    let (leecher, seeder) = (session(talking().0), session(Options { limits: (8 << 20, 0), ..talking().0 }));
    scene.seed(&seeder);
    let fetching = scene.fetch(&leecher, "fetched");
    fetching.add_addresses(&[address(&seeder)]);
    eventually("it is whole", || fetching.status().whole);
    scene.assert_is_payload("fetched");
    let sent = server.sent.load(Ordering::Relaxed);
    assert!(sent < 6 << 20, "it gave {sent} bytes");
}
