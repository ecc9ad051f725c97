//! Trackers of one answer, on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;
use crate::torrent::PeerId;

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([0xab; 20]),
        peer_id: PeerId(*b"-OG0001-abcdefghijkl"),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 9,
        event: Event::Started,
        numwant: 50,
        key: 1,
        ip: None,
        tracker_id: None,
    }
}

fn client() -> Client {
    Client::new("test/1", Ipv4Addr::UNSPECIFIED.into(), Duration::from_secs(5))
}

/// Answers one connection with `reply` and gives the head of the request.
fn http(reply: Vec<u8>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let head = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        // The client may have gone before it read all of it.
        let _ = stream.write_all(&reply);
        head
    });
    (url, server)
}

fn with_body(status: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[test]
fn an_http_announce_is_asked_and_answered() {
    let (url, server) = http(with_body("200 OK", b"d8:intervali30e5:peers6:\x0a\x00\x00\x01\x1a\xe1e"));
    let reply = client().announce(&url, &request()).unwrap();
    assert_eq!(reply.peers, ["10.0.0.1:6881".parse().unwrap()]);
    let head = server.join().unwrap();
    assert!(head[0].starts_with("GET /announce?info_hash=%AB%AB"), "{head:?}");
    assert!(head.iter().any(|line| line == "user-agent: test/1"), "{head:?}");
}

#[test]
fn a_refusal_is_read_whatever_the_status() {
    for status in ["200 OK", "400 Bad Request"] {
        let (url, server) = http(with_body(status, b"d14:failure reason9:not todaye"));
        let refused = client().announce(&url, &request()).unwrap_err();
        assert_eq!(refused.to_string(), "refused by the tracker: not today", "{status}");
        server.join().unwrap();
    }
    let (url, server) = http(with_body("404 Not Found", b"d8:intervali30e5:peers0:e"));
    assert!(matches!(client().announce(&url, &request()), Err(Error::Status { code: 404, .. })));
    server.join().unwrap();
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let (url, server) = http(with_body("200 OK", &vec![b'1'; (1 << 20) + 1]));
    assert!(matches!(client().announce(&url, &request()), Err(Error::Transport { .. })));
    server.join().unwrap();
}

#[test]
fn a_silent_tracker_costs_the_timeout_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = Client::new("test/1", Ipv4Addr::UNSPECIFIED.into(), Duration::from_millis(300));
    let urls =
        [format!("http://{}/announce", listener.local_addr().unwrap()), format!("udp://{}", udp.local_addr().unwrap())];
    for url in urls {
        let begin = Instant::now();
        assert!(matches!(client.announce(&url, &request()), Err(Error::Transport { .. })), "{url}");
        assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&begin.elapsed()), "{url}");
    }
}

#[test]
fn urls_that_cannot_be_asked_are_refused_with_a_word() {
    for url in ["https://t/announce", "udp://t", "udp://t:0", "udp://:80/announce", "udp://t:x", "wss://t", "", "http"]
    {
        assert!(matches!(client().announce(url, &request()), Err(Error::Url { .. })), "{url}");
    }
    assert!(matches!(client().scrape("http://127.0.0.1:1/x", &[]), Err(Error::Url { .. })));
}

/// A UDP tracker that loses the first packet and sends a forged one before each answer.
fn udp(answer: impl Fn(udp::Request) -> udp::Reply + Send + 'static) -> (String, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut buffer = [0; 2048];
        socket.recv_from(&mut buffer).unwrap();
        for _ in 0..2 {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            let request = udp::Request::read(&buffer[..length]).unwrap();
            let reply = match request {
                udp::Request::Connect { transaction } => udp::Reply::Connect { transaction, connection: 77 },
                request => answer(request),
            };
            let forged = udp::Reply::Error { transaction: reply.transaction() ^ 1, reason: "forged".into() };
            for reply in [forged, reply] {
                let mut packet = Vec::new();
                reply.write(&mut packet);
                socket.send_to(&packet, peer).unwrap();
            }
        }
    });
    (url, server)
}

#[test]
fn a_udp_announce_survives_a_lost_packet_and_a_forged_one() {
    let (url, server) = udp(|request| match request {
        udp::Request::Announce { connection: 77, transaction, announce } => {
            assert_eq!((announce.left, announce.event, announce.numwant), (9, Event::Started, Some(50)));
            let peers = vec!["10.0.0.1:6881".parse().unwrap()];
            udp::Reply::Announce { transaction, interval: 30, leechers: 1, seeders: 2, peers }
        }
        other => panic!("{other:?}"),
    });
    let reply = client().announce(&url, &request()).unwrap();
    assert_eq!(reply.peers, ["10.0.0.1:6881".parse().unwrap()]);
    assert_eq!((reply.complete, reply.incomplete, reply.interval.as_secs()), (Some(2), Some(1), 30));
    server.join().unwrap();
}

#[test]
fn a_udp_scrape_gives_the_counts_in_order() {
    let (url, server) = udp(|request| match request {
        udp::Request::Scrape { transaction, hashes, .. } => {
            udp::Reply::Scrape { transaction, counts: hashes.iter().map(|hash| [hash.0[0].into(), 5, 6]).collect() }
        }
        other => panic!("{other:?}"),
    });
    let scraped = client().scrape(&url, &[InfoHash([1; 20]), InfoHash([2; 20])]).unwrap();
    let expected = [1, 2].map(|at: u8| ScrapeEntry {
        info_hash: InfoHash([at; 20]),
        complete: at.into(),
        incomplete: 6,
        downloaded: 5,
    });
    assert_eq!(scraped, expected);
    server.join().unwrap();
}

#[test]
fn a_udp_refusal_is_a_refusal() {
    let (url, server) = udp(|request| match request {
        udp::Request::Announce { transaction, .. } => udp::Reply::Error { transaction, reason: "no".into() },
        other => panic!("{other:?}"),
    });
    assert_eq!(client().announce(&url, &request()), Err(Error::Refused { reason: "no".into(), retry_in: None }));
    server.join().unwrap();
}

#[test]
fn a_tracker_sees_the_address_that_the_client_asks_from() {
    let from = Ipv4Addr::new(127, 3, 2, 1);
    let client = Client::new("test/1", from.into(), Duration::from_secs(5));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let asking = thread::spawn({
        let client = client.clone();
        move || client.announce(&url, &request())
    });
    let (stream, seen) = listener.accept().unwrap();
    assert_eq!(seen.ip(), from);
    drop(stream);
    asking.join().unwrap().unwrap_err();

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    let asking = thread::spawn(move || client.announce(&url, &request()));
    let (_, seen) = socket.recv_from(&mut [0; 64]).unwrap();
    assert_eq!(seen.ip(), from);
    drop(socket);
    asking.join().unwrap().unwrap_err();
}
