//! Any input to a tracker is read or refused: the head of an HTTP request, the query of an announce, a datagram.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ogbox::tracker::server::announce::{Query, hashes};
use ogbox::tracker::server::http::{Head, MAX_HEAD};
use ogbox::tracker::udp::{MAX_PACKET, Reply, Request};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((head, length))) = Head::read(bytes) {
        assert!(length <= bytes.len() && length <= MAX_HEAD + 4 && head.path.starts_with(b"/"));
        let _ = (head.keeps_alive(), head.header("content-length"), Query::read(head.query));
        assert!(hashes(head.query).len() <= head.query.len());
    }
    let _ = Query::read(bytes);
    if let Some(request) = Request::read(&bytes[..bytes.len().min(MAX_PACKET)]) {
        let mut packet = Vec::new();
        request.write(&mut packet);
        assert!(packet.len() <= MAX_PACKET);
        assert_eq!(Request::read(&packet), Some(request));
    }
    let _ = Reply::read(bytes, [127, 0, 0, 1].into());
});
