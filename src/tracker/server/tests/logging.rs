//! The log of what clients send.

use super::*;

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
