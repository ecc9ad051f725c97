//! Announces and scrapes over HTTP: parsing query strings, bencoding answers.
//!
//! Names, checks and error texts are those of BitTornado's `bttrack`. Only the parameters that decide the answer are
//! read: info_hash, peer_id, port (or cryptoport), left, event, numwant, compact, no_peer_id, ip, key.

use std::net::IpAddr;

use super::peer::Address;
use super::store::{Answer, Counts};
use crate::base::percent;
use crate::torrent::bencode::{Dict, Encoder};
use crate::torrent::{InfoHash, PeerId};
use crate::tracker::message::Event;
use crate::tracker::query;

/// Most peers in a reply.
pub const MOST_PEERS: usize = 1024;

/// The query of an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The other parameters, or their error: a torrent that may not be tracked is refused before such an error counts.
    pub rest: Result<Rest, &'static str>,
}

/// The parameters of an announce besides the torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// The peer's id.
    pub id: PeerId,
    /// The port it listens on; 0 for none.
    pub port: u16,
    /// Bytes it lacks.
    pub left: u64,
    /// The reason of the announce.
    pub event: Event,
    /// The number of peers it wants.
    pub wanted: Option<usize>,
    /// The form in which it wants them.
    pub form: Form,
    /// The address it claims to have.
    pub ip: Option<IpAddr>,
    /// The number made of its `key`; 0 for none.
    pub key: u32,
}

/// The form of a list of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Packed addresses (BEP 23, BEP 7).
    Compact,
    /// Dictionaries with peer ids.
    Dictionaries,
    /// Dictionaries without.
    NoPeerId,
}

impl Query {
    /// Parses the query of an announce.
    ///
    /// # Errors
    /// The info-hash is missing or malformed.
    pub fn read(text: &[u8]) -> Result<Query, &'static str> {
        let (mut info_hash, mut id, mut port, mut cryptoport, mut left) = (None, None, None, None, None);
        let (mut event, mut wanted, mut compact, mut no_peer_id) = (None, None, false, false);
        let (mut ip, mut key) = (None, None);
        for (name, value) in query::pairs(text) {
            let is_set = !value.is_empty() && value != b"0";
            // The first of several counts.
            match name {
                b"info_hash" => _ = info_hash.get_or_insert(value),
                b"peer_id" => _ = id.get_or_insert(value),
                b"port" => _ = port.get_or_insert(value),
                b"cryptoport" => _ = cryptoport.get_or_insert(value),
                b"left" => _ = left.get_or_insert(value),
                b"event" => _ = event.get_or_insert(value),
                b"numwant" => _ = wanted.get_or_insert(value),
                b"ip" => _ = ip.get_or_insert(value),
                b"key" => _ = key.get_or_insert(value),
                b"compact" => compact |= is_set,
                b"no_peer_id" => no_peer_id |= is_set,
                _ => {}
            }
        }
        let hash = info_hash.filter(|hash| !hash.is_empty()).ok_or("no info hash")?;
        let info_hash = twenty(hash).map(InfoHash).ok_or("info hash not of length 20")?;
        let rest = || {
            Ok(Rest {
                id: id.and_then(twenty).map(PeerId).ok_or("id not of length 20")?,
                event: match event {
                    None | Some(b"" | b"snooped" | b"paused") => Event::None,
                    Some(b"started") => Event::Started,
                    Some(b"stopped") => Event::Stopped,
                    Some(b"completed") => Event::Completed,
                    Some(_) => return Err("invalid event"),
                },
                port: cryptoport
                    .or(port)
                    .and_then(query::number)
                    .and_then(|port| u16::try_from(port).ok())
                    .ok_or("invalid port")?,
                left: left.and_then(query::number).ok_or("invalid amount left")?,
                wanted: wanted.and_then(query::number).map(|wanted| usize::try_from(wanted).unwrap_or(usize::MAX)),
                form: match (compact, no_peer_id) {
                    (true, _) => Form::Compact,
                    (false, false) => Form::Dictionaries,
                    (false, true) => Form::NoPeerId,
                },
                ip: ip.and_then(address),
                key: key.map_or(0, key_number),
            })
        };
        Ok(Query { info_hash, rest: rest() })
    }
}

/// The number made of a `key`: its value if it has at most 8 hex digits, as over UDP (BEP 15), else a hash (FNV-1a) of its
/// bytes.
pub fn key_number(key: &[u8]) -> u32 {
    let digits = std::str::from_utf8(key).ok().filter(|key| key.len() <= 8);
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_else(|| {
        key.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    })
}

/// Unescapes a value of exactly 20 bytes.
fn twenty(value: &[u8]) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    (percent::unescape_into(value, &mut bytes)? == 20).then_some(bytes)
}

/// Parses an escaped IP address; `None` unless a peer can be reached at it.
fn address(value: &[u8]) -> Option<IpAddr> {
    let mut text = [0; 45];
    let length = percent::unescape_into(value, &mut text)?;
    let ip: IpAddr = std::str::from_utf8(&text[..length]).ok()?.parse().ok()?;
    let ip = ip.to_canonical();
    let reachable = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::from([255; 4]);
    reachable.then_some(ip)
}

/// The info-hashes in the query of a scrape, without malformed ones. At most one per 20 bytes of the query.
pub fn hashes(text: &[u8]) -> Vec<InfoHash> {
    query::pairs(text)
        .filter(|(name, _)| *name == b"info_hash")
        .filter_map(|(_, hash)| twenty(hash).map(InfoHash))
        .collect()
}

/// The body of the reply to an announce, with the asker's address (BEP 24).
pub fn reply(answer: &Answer, peers: &[(Address, PeerId)], form: Form, asker: IpAddr, out: Vec<u8>) -> Vec<u8> {
    let mut out = Encoder::onto(out);
    out.dict(|reply| {
        reply.int("complete", answer.seeders.into());
        match asker {
            IpAddr::V4(ip) => reply.bytes("external ip", ip.octets()),
            IpAddr::V6(ip) => reply.bytes("external ip", ip.octets()),
        }
        reply.int("incomplete", answer.leechers.into());
        reply.int("interval", answer.interval.into());
        reply.int("min interval", (answer.interval / 2).clamp(1, 60).into());
        match form {
            Form::Compact => compact_peers(reply, peers),
            form => reply.list("peers", |list| {
                for (address, id) in peers {
                    list.dict(|peer| {
                        peer.bytes("ip", address.socket().ip().to_string());
                        if form == Form::Dictionaries {
                            peer.bytes("peer id", id.0);
                        }
                        peer.int("port", address.port().into());
                    });
                }
            }),
        }
        if let Some(warning) = &answer.warning {
            reply.bytes("warning message", warning);
        }
    });
    out.finish()
}

fn compact_peers(reply: &mut Dict, peers: &[(Address, PeerId)]) {
    reply.packed("peers", peers.iter().filter_map(|(address, _)| address.compact_v4()));
    let v6 = peers.iter().filter_map(|(address, _)| address.compact_v6());
    if v6.clone().next().is_some() {
        reply.packed("peers6", v6);
    }
}

/// The body of the reply to a scrape; with `names` it has the torrents' names.
pub fn scrape(counts: &[Counts], names: bool) -> Vec<u8> {
    let mut out = Encoder::new();
    out.dict(|reply| {
        reply.dict("files", |files| {
            for one in counts {
                files.dict(one.info_hash.0, |file| {
                    file.int("complete", one.seeders.into());
                    file.int("downloaded", one.completed.into());
                    file.int("incomplete", one.leechers.into());
                    if let Some(listing) = one.listing.as_ref().filter(|listing| names && !listing.name.is_empty()) {
                        file.bytes("name", &listing.name);
                    }
                });
            }
        });
    });
    out.finish()
}

/// The body of a refusal.
pub fn failure(reason: &str) -> Vec<u8> {
    let mut out = Encoder::new();
    out.dict(|reply| reply.bytes("failure reason", reason));
    out.finish()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::tracker::message::{AnnounceReply, AnnounceRequest, parse_scrape};

    const GOOD: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=%62bbbbbbbbbbbbbbbbbbb&port=6881&left=5";

    fn rest(query: &str) -> Result<Rest, &'static str> {
        Query::read(query.as_bytes()).unwrap().rest
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_in_the_namesakes_words() {
        let without = |part: &str| GOOD.replace(part, "");
        assert_eq!(Query::read(without("info_hash=aaaaaaaaaaaaaaaaaaaa").as_bytes()), Err("no info hash"));
        assert_eq!(Query::read(GOOD.replace("aaaa&", "&").as_bytes()), Err("info hash not of length 20"));
        assert_eq!(Query::read(GOOD.replace("aaaa&", "aaaaa&").as_bytes()), Err("info hash not of length 20"));
        assert_eq!(Query::read(GOOD.replace("aaa&", "%6&").as_bytes()), Err("info hash not of length 20"));
        assert_eq!(rest(&without("%62")), Err("id not of length 20"));
        assert_eq!(rest(&format!("{GOOD}&event=begun")), Err("invalid event"));
        assert_eq!(rest(&without("&port=6881")), Err("invalid port"));
        assert_eq!(rest(&GOOD.replace("6881", "65536")), Err("invalid port"));
        assert_eq!(rest(&GOOD.replace("6881", "-1")), Err("invalid port"));
        assert_eq!(rest(&without("&left=5")), Err("invalid amount left"));
        assert_eq!(rest(&GOOD.replace("left=5", "left=-5")), Err("invalid amount left"));
    }

    #[test]
    fn what_is_said_is_understood() {
        let plain = rest(GOOD).unwrap();
        assert_eq!((plain.port, plain.left, plain.event, plain.wanted), (6881, 5, Event::None, None));
        assert_eq!((plain.form, plain.ip, plain.id), (Form::Dictionaries, None, PeerId([b'b'; 20])));
        let all =
            rest(&format!("{GOOD}&event=completed&numwant=99999999999&compact=1&ip=10.0.0.7&cryptoport=7&port=1"))
                .unwrap();
        assert_eq!((all.port, all.event, all.wanted), (7, Event::Completed, Some(99_999_999_999)));
        assert_eq!((all.form, all.ip), (Form::Compact, Some([10, 0, 0, 7].into())));
        assert_eq!(all.key, 0);
        assert_eq!(rest(&format!("{GOOD}&key=00Ab12ff")).unwrap().key, 0x00ab_12ff);
        assert_eq!(rest(&format!("{GOOD}&key=xyz")).unwrap().key, key_number(b"xyz"));
        assert_ne!(key_number(b"xyz"), key_number(b"xyw"));
        assert_eq!(rest(&format!("{GOOD}&no_peer_id=1&compact=0")).unwrap().form, Form::NoPeerId);
        assert_eq!(rest(&format!("{GOOD}&numwant=-1&event=")).unwrap().wanted, None);
        for ip in ["0.0.0.0", "239.1.1.1", "255.255.255.255", "localhost", "::", "%zz", &"1".repeat(99)] {
            assert_eq!(rest(&format!("{GOOD}&ip={ip}")).unwrap().ip, None, "{ip}");
        }
    }

    fn peers() -> Vec<(Address, PeerId)> {
        ["10.0.0.1:6881", "[2001:db8::1]:80"]
            .map(|text| (text.parse::<SocketAddr>().unwrap().into(), PeerId([b'p'; 20])))
            .to_vec()
    }

    #[test]
    fn replies_are_read_by_the_client_in_every_form() {
        let answer = Answer { interval: 20, seeders: 3, leechers: 4, completed: 5, warning: Some("soon".into()) };
        for form in [Form::Compact, Form::Dictionaries, Form::NoPeerId] {
            let body = reply(&answer, &peers(), form, [10, 0, 0, 9].into(), Vec::new());
            let read = AnnounceReply::parse(&body, "").unwrap();
            let expected = AnnounceReply {
                interval: Duration::from_secs(20),
                min_interval: Some(Duration::from_secs(10)),
                peers: peers().into_iter().map(|(address, _)| address.socket()).collect(),
                complete: Some(3),
                incomplete: Some(4),
                warning: Some("soon".to_owned()),
                external_ip: Some([10, 0, 0, 9].into()),
                tracker_id: None,
            };
            assert_eq!(read, expected, "{form:?}");
            assert_eq!(body.windows(20).any(|part| part == [b'p'; 20]), form == Form::Dictionaries);
        }
    }

    #[test]
    fn an_empty_compact_list_is_an_empty_string() {
        let answer = Answer { interval: 20, seeders: 0, leechers: 0, completed: 0, warning: None };
        let body = reply(&answer, &[], Form::Compact, [10, 0, 0, 9].into(), Vec::new());
        assert!(body.ends_with(b"5:peers0:e"), "{}", body.escape_ascii());
    }

    #[test]
    fn a_scrape_is_read_by_the_client() {
        let counts =
            |n: u8| Counts { info_hash: InfoHash([n; 20]), seeders: 1, leechers: 2, completed: 3, listing: None };
        let read = parse_scrape(&scrape(&[counts(9), counts(1)], true), "").unwrap();
        assert_eq!(read.iter().map(|one| one.info_hash.0[0]).collect::<Vec<_>>(), [1, 9], "sorted");
        assert_eq!((read[0].complete, read[0].incomplete, read[0].downloaded), (1, 2, 3));
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query: Vec<u8>) {
            let _ = Query::read(&query);
            prop_assert!(hashes(&query).len() * 20 <= query.len());
        }

        #[test]
        fn what_the_client_asks_is_what_the_server_reads(hash: [u8; 20], id: [u8; 20], port: u16, left: u64, numwant: u32) {
            let request = AnnounceRequest {
                info_hash: InfoHash(hash), peer_id: PeerId(id), port, uploaded: 1, downloaded: 2, left,
                event: Event::Started, numwant, key: 3, ip: Some("10.0.0.1".into()), tracker_id: None,
            };
            let url = request.url("http://t/announce");
            let query = Query::read(url.split_once('?').unwrap().1.as_bytes()).unwrap();
            prop_assert_eq!(query.info_hash, InfoHash(hash));
            let expected = Rest {
                id: PeerId(id), port, left, event: Event::Started, wanted: Some(numwant as usize),
                form: Form::Compact, ip: Some([10, 0, 0, 1].into()), key: 3,
            };
            prop_assert_eq!(query.rest, Ok(expected));
        }
    }
}
