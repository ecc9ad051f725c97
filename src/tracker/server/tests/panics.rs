//! A panic costs a request, a datagram or a connection.

use super::*;

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
