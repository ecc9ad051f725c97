//! Connections: requests however cut, long replies, clients that are slow or too many.

use super::*;

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
