//! Fuzzing without a fuzzer: valid requests are cut, repeated, mixed and altered, and answered.
//! `PROPTEST_CASES=1000000 cargo test --release requests_however_bent` runs for longer.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::datagrams::CONNECTION_LIFE;
use super::*;
use crate::tracker::server::announce::MOST_PEERS;
use crate::tracker::server::config::tests::config;
use crate::tracker::udp;

mod table;

/// A service that tracks and shows everything.
fn service() -> Service {
    serving(|_| ())
}

/// The same with settings that `change` has changed.
fn serving(change: impl FnOnce(&mut Config)) -> Service {
    let mut config = config(Path::new("/nowhere"));
    (config.rules.closed, config.rules.most_peers, config.rules.keep_dead) = (false, MOST_PEERS, true);
    (config.source, config.logfile, config.override_ip) = (None, None, OverrideIp::Everybody);
    change(&mut config);
    Service::new(config, Log::open(None).unwrap())
}

const HEADS: &[&str] = &[
    "GET /announce?info_hash=%aaaaaaaaaaaaaaaaaaaaaa&peer_id=-XX0000-000000000001&port=6881&left=5&compact=1&numwant=50&event=started&ip=10.0.0.1 HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n",
    "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-XX0000-000000000002&port=6882&left=0&no_peer_id=1 HTTP/1.0\nX-Forwarded-For: 2001:db8::1, 10.0.0.1\n\n",
    "GET /scrape?info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=%00 HTTP/1.1\r\nConnection: keep-alive, close\r\n\r\n",
    "GET /file?info_hash=6161616161616161616161616161616161616161&name=x.img HTTP/1.1\r\n\r\n",
    "HEAD /?open=6161616161616161616161616161616161616161&open=x HTTP/1.1\r\nAccept-Language: es-ES,es;q=0.9,ca;q=0.x\r\n\r\n",
    "GET http://tracker:6969/status.json#x HTTP/1.1\r\n\r\n",
    "GET /metrics\n",
    "POST /register HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 70\r\n\r\n--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nsecret\r\n--x--\r\n",
    "PUT /file?name=x.torrent HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Length: 18446744073709551615\r\n\r\n",
];

/// A change to a request.
#[derive(Clone, Debug)]
enum Bend {
    Cut(prop::sample::Index),
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, prop::sample::Index, u8),
}

fn bend() -> impl Strategy<Value = Bend> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Bend::Cut),
        any::<(prop::sample::Index, u8)>().prop_map(|(at, byte)| Bend::Set(at, byte)),
        (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(at, new)| Bend::Insert(at, new)),
        any::<(prop::sample::Index, prop::sample::Index, u8)>()
            .prop_map(|(from, to, times)| Bend::Repeat(from, to, times)),
    ]
}

fn bent(request: &[u8], bends: &[Bend]) -> Vec<u8> {
    let mut bytes = request.to_vec();
    for bend in bends {
        let size = bytes.len() + 1;
        match bend {
            Bend::Cut(at) => bytes.truncate(at.index(size)),
            Bend::Set(at, byte) => bytes.iter_mut().skip(at.index(size)).take(1).for_each(|place| *place = *byte),
            Bend::Insert(at, new) => {
                let at = at.index(size);
                bytes.splice(at..at, new.iter().copied());
            }
            Bend::Repeat(from, to, times) => {
                let (from, to) = (from.index(size), to.index(size));
                let part = bytes[from.min(to)..from.max(to)].repeat(usize::from(times % 8));
                bytes.extend(part);
            }
        }
    }
    bytes
}

proptest! {
    #[test]
    fn requests_however_bent_are_answered_or_refused(
        requests in prop::collection::vec((prop::sample::select(HEADS), prop::collection::vec(bend(), 0..4)), 1..20),
        forwarded: [u8; 16],
    ) {
        let (service, mut scratch) = (service(), Scratch::default());
        let asker = IpAddr::from(forwarded).to_canonical();
        for (request, bends) in &requests {
            let bytes = bent(request.as_bytes(), bends);
            if let Ok(Some((head, length))) = Head::read(&bytes) {
                prop_assert!(length <= bytes.len());
                let made = match head.method {
                    Method::Put | Method::Post => service.body_length(&head, asker, &bytes[length..]).err(),
                    _ => {
                        if service.page_waits(&head, asker) {
                            service.render_next(Duration::ZERO);
                        }
                        Some(service.answer(&head, asker, service.store.now(), &mut scratch))
                    }
                };
                let made = made.expect("without a token nothing can be put");
                let mut out = Vec::new();
                made.reply().write(head.method, head.version, head.keeps_alive(), made.bytes(), &mut out);
                prop_assert!((200..600).contains(&made.code) && out.len() < 64 << 10, "{} {}", made.code, out.len());
            }
        }
        prop_assert!(service.store.peers() <= requests.len());
    }

    #[test]
    fn datagrams_however_bent_are_answered_in_one_packet_or_not_at_all(
        packets in prop::collection::vec((0usize..3, prop::collection::vec(bend(), 0..3), any::<([u8; 20], u16)>()), 1..40),
        v6: bool,
    ) {
        let (service, mut scratch, mut out) = (service(), Scratch::default(), Vec::new());
        let asker: SocketAddr = if v6 { "[2001:db8::1]:7" } else { "10.0.0.1:7" }.parse().unwrap();
        let connection = service.connection(asker, service.store.now() / CONNECTION_LIFE);
        for (kind, bends, (id, port)) in packets {
            let announce = udp::Announce {
                info_hash: InfoHash([1; 20]), peer_id: PeerId(id), downloaded: 0, left: port.into(), uploaded: 0,
                event: crate::tracker::message::Event::None, ip: [10, 0, id[0], id[1]].into(), key: 0, numwant: Some(u32::from(port) << 8), port,
            };
            let request = match kind {
                0 => udp::Request::Connect { transaction: 1 },
                1 => udp::Request::Announce { connection, transaction: 2, announce },
                _ => udp::Request::Scrape { connection, transaction: 3, hashes: vec![InfoHash([1; 20]); usize::from(id[0])] },
            };
            let mut packet = Vec::new();
            request.write(&mut packet);
            let packet = bent(&packet, &bends);
            let answered = service.answer_udp(&packet, asker, service.store.now(), &mut scratch, &mut out);
            prop_assert_eq!(answered, !out.is_empty());
            prop_assert!(out.len() <= udp::MAX_PACKET);
            if answered {
                prop_assert!(udp::Reply::read(&out, asker.ip()).is_some(), "what is sent is a reply");
            }
        }
    }
}

#[test]
fn a_proxy_is_believed_when_everybody_is() {
    let service = service();
    let head = |text: &'static str| Head::read(text.as_bytes()).unwrap().unwrap().0;
    let forwarded = head("GET / HTTP/1.0\nX-Forwarded-For: 192.0.2.7, 10.0.0.1\n\n");
    let asker = IpAddr::from([10, 0, 0, 1]);
    assert_eq!(service.address_of(&forwarded, asker, None), IpAddr::from([192, 0, 2, 7]));
    assert_eq!(service.address_of(&forwarded, asker, Some([10, 9, 9, 9].into())), IpAddr::from([10, 9, 9, 9]));
    let local = head("GET / HTTP/1.0\nX-Forwarded-For: 192.168.0.7\n\n");
    assert_eq!(service.address_of(&local, asker, None), asker, "a local address behind a proxy is nobody's");
    let mut strict = self::service();
    strict.config.override_ip = OverrideIp::Trusted;
    let said = IpAddr::from([10, 9, 9, 9]);
    let loopback = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(strict.address_of(&forwarded, loopback, Some(said)), said);
    assert_eq!(strict.address_of(&forwarded, asker, Some(said)), asker, "not even from a local network");
    strict.config.proxies = Ranges::read(b"10.0.0.0/30").0;
    assert_eq!(strict.address_of(&forwarded, asker, Some(said)), said, "unless it is a proxy");
    strict.config.override_ip = OverrideIp::Local;
    assert_eq!(strict.address_of(&forwarded, asker, None), asker);
    assert_eq!(strict.address_of(&forwarded, asker, Some(said)), said);
    assert_eq!(
        strict.address_of(&forwarded, [192, 0, 2, 1].into(), Some([10, 9, 9, 9].into())),
        IpAddr::from([192, 0, 2, 1])
    );
    assert_eq!(status::hosts(&strict.config.hosts), HashMap::new());
}
