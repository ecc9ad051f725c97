//! Payloads of the extension protocol, bytes ↔ values: its handshake (BEP 10, 21) and our own additions.

use std::net::{IpAddr, SocketAddr};

use super::pex;
use crate::swarm::{FRIEND_REQUEST, REQUEST_QUEUE, STRANGER_REQUEST};
use crate::torrent::bencode::{self, Encoder};

/// Id of the handshake among extended messages.
pub const HANDSHAKE: u8 = 0;
/// Our key for the longest request that a peer accepts, bytes; without it, requests are of 16 KiB.
const MAX_REQUEST: &[u8] = b"max_request";
/// Our key of peers that want only some pieces, or some before others.
const CHOOSY: &[u8] = b"choosy";

/// A peer's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// Number of requests that it queues (`reqq`).
    pub queue: Option<u32>,
    /// Port that it accepts connections on (`p`).
    pub port: Option<u16>,
    /// Longest request that it accepts, bytes.
    pub max_request: Option<u32>,
    /// Whether it wants only some pieces, or some before others.
    pub choosy: bool,
    /// Whether it wants nothing more (`upload_only`, BEP 21).
    pub upload_only: Option<bool>,
    /// Our address as it sees it (`yourip`).
    pub your_ip: Option<IpAddr>,
    /// Id under which it accepts addresses of peers (BEP 11); 0: no longer.
    pub pex: Option<u8>,
}

impl Handshake {
    /// Returns our handshake for a peer at `address`; `pex` says that we accept addresses of peers.
    pub fn ours(port: u16, choosy: bool, upload_only: bool, pex: bool, address: SocketAddr) -> Vec<u8> {
        let mut out = Encoder::new();
        out.dict(|dict| {
            if choosy {
                dict.int(CHOOSY, 1);
            }
            dict.dict("m", |names| {
                if pex {
                    names.int(pex::NAME, i64::from(pex::ID));
                }
            });
            dict.int(MAX_REQUEST, i64::from(FRIEND_REQUEST));
            dict.int("p", i64::from(port));
            dict.int("reqq", i64::from(REQUEST_QUEUE));
            if upload_only {
                dict.int("upload_only", 1);
            }
            dict.bytes("v", concat!("ogbox ", env!("CARGO_PKG_VERSION")));
            match address.ip() {
                IpAddr::V4(ip) => dict.bytes("yourip", ip.octets()),
                IpAddr::V6(ip) => dict.bytes("yourip", ip.octets()),
            }
        });
        out.finish()
    }

    /// Reads a peer's handshake; entries of the wrong kind count as missing.
    ///
    /// # Errors
    /// It is not bencoded.
    pub fn decode(payload: &[u8]) -> Result<Handshake, crate::torrent::Error> {
        let (value, _) = bencode::decode_prefix(payload)?;
        let number = |key: &[u8]| value.get(key).and_then(|value| value.int());
        let your_ip = value.get(b"yourip").and_then(|value| value.bytes());
        let pex = value.get(b"m").and_then(|names| names.get(pex::NAME.as_bytes())).and_then(|id| id.int());
        Ok(Handshake {
            queue: number(b"reqq").and_then(|queue| u32::try_from(queue).ok()),
            port: number(b"p").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            max_request: number(MAX_REQUEST)
                .and_then(|bytes| u32::try_from(bytes).ok())
                .filter(|bytes| *bytes >= STRANGER_REQUEST),
            choosy: number(CHOOSY).is_some_and(|flag| flag != 0),
            upload_only: number(b"upload_only").map(|flag| flag != 0),
            your_ip: your_ip.and_then(|bytes| {
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
            }),
            pex: pex.and_then(|id| u8::try_from(id).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_own_handshake_is_understood() {
        let bytes = Handshake::ours(2706, true, true, true, SocketAddr::from(([10, 0, 0, 7], 4000)));
        let read = Handshake::decode(&bytes).expect("our own handshake is bencoded");
        let expected = Handshake {
            queue: Some(REQUEST_QUEUE),
            port: Some(2706),
            max_request: Some(FRIEND_REQUEST),
            choosy: true,
            upload_only: Some(true),
            your_ip: Some(IpAddr::from([10, 0, 0, 7])),
            pex: Some(pex::ID),
        };
        assert_eq!(read, expected);
        let silent = Handshake::ours(2706, true, true, false, SocketAddr::from(([10, 0, 0, 7], 4000)));
        assert_eq!(Handshake::decode(&silent).expect("bencode"), Handshake { pex: None, ..expected });
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Handshake::decode(&payload);
        }
    }
}
