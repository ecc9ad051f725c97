//! A peer's input: its messages, the payloads of the extension protocol, and datagrams of the local network.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use ogbox::peer::extension;
use ogbox::peer::lsd::Search;
use ogbox::peer::pex::Exchange;
use ogbox::peer::wire::{self, HANDSHAKE, Message};

/// Bytes of the bitfield of a torrent of 33 to 40 pieces.
const BITFIELD: usize = 5;

fuzz_target!(|bytes: &[u8]| {
    if let Some(handshake) = bytes.first_chunk::<HANDSHAKE>()
        && let Ok(handshake) = wire::Handshake::decode(handshake)
    {
        assert_eq!(wire::Handshake::decode(&handshake.encode()), Ok(handshake));
    }
    let mut rest = bytes;
    while let Ok(Some((message, taken))) = Message::decode(rest, BITFIELD) {
        assert!((4..=4 + wire::max_frame(BITFIELD)).contains(&taken) && taken <= rest.len());
        let mut again = Vec::new();
        message.encode(&mut again);
        // Of unknown messages only the id is kept.
        assert!(matches!(message, Message::Other(_)) || again == rest[..taken]);
        rest = &rest[taken..];
    }
    if let Ok(handshake) = extension::Handshake::decode(bytes) {
        assert!(handshake.port != Some(0));
        let ours = extension::Handshake::ours(1, true, true, true, SocketAddr::from(([10, 0, 0, 1], 2)));
        assert!(extension::Handshake::decode(&ours).is_ok());
    }
    if let Ok(exchange) = Exchange::decode(bytes) {
        // At most 100 of each kind are read.
        assert!(exchange.added.len() <= 200 && exchange.dropped.len() <= 200);
        let again = Exchange::decode(&exchange.encode()).expect("our own is understood");
        assert_eq!((again.added.len(), again.dropped.len()), (exchange.added.len(), exchange.dropped.len()));
    }
    if let Some(search) = Search::parse(bytes) {
        assert!(search.port != 0 && !search.info_hashes.is_empty());
    }
});
