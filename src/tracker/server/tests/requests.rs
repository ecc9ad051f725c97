//! Announces, scrapes and refusals, by HTTP and by datagrams.

use super::*;

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
    let tracker = tracker(|config| (config.allow_get, config.get_by_name) = (false, false));
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
