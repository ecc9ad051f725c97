use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::torrent::bencode::Encoder;

const URL: &str = "http://tracker/announce";

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\x00\x01&=?%+ ~abcdefghij\xff"),
        peer_id: PeerId(*b"-OG0001-abcdefghijkl"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Event::Started,
        numwant: 50,
        key: 0xabc,
        ip: None,
        tracker_id: None,
    }
}

#[test]
fn an_announce_is_the_url_that_bep_3_describes() {
    assert_eq!(
        request().url(URL),
        "http://tracker/announce?info_hash=%00%01%26%3D%3F%25%2B%20~abcdefghij%FF&peer_id=-OG0001-abcdefghijkl\
         &port=6881&uploaded=1&downloaded=2&left=3&compact=1&no_peer_id=1&numwant=50&key=00000abc&event=started"
    );
    let regular = AnnounceRequest { event: Event::None, tracker_id: Some(b"a b".to_vec()), ..request() };
    assert!(regular.url(URL).ends_with("&key=00000abc&trackerid=a%20b"));
}

#[test]
fn a_url_with_a_query_keeps_it() {
    assert!(request().url("http://t/announce?pass=x").starts_with("http://t/announce?pass=x&info_hash="));
    assert!(request().url("http://t/announce?").starts_with("http://t/announce?info_hash="));
    assert!(request().url("http://t/announce#part").starts_with("http://t/announce?info_hash="));
}

#[test]
fn a_scrape_url_is_made_as_bep_48_says() {
    let scrape = |url| scrape_url(url, &[]);
    assert_eq!(scrape("http://t/announce").as_deref(), Some("http://t/scrape?"));
    assert_eq!(scrape("http://t/x/announce.php?x=2%0644").as_deref(), Some("http://t/x/scrape.php?x=2%0644&"));
    assert_eq!(scrape("http://t/a"), None);
    assert_eq!(scrape("http://t/announce/x"), None);
    let two = scrape_url(URL, &[InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"), InfoHash(*b"bbbbbbbbbbbbbbbbbbbb")]);
    assert_eq!(
        two.as_deref(),
        Some("http://tracker/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=bbbbbbbbbbbbbbbbbbbb")
    );
}

#[test]
fn compact_peers_of_both_families_are_read() {
    let mut body =
        b"d8:completei3e11:external ip4:\x0a\x00\x00\x0910:incompletei4e8:intervali30e12:min intervali5e5:peers12:"
            .to_vec();
    body.extend([10, 0, 0, 1, 0x1a, 0xe1, 10, 0, 0, 2, 0, 0]);
    body.extend(b"6:peers618:");
    body.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1]);
    body.extend(b"10:tracker id2:ab15:warning message5:hi\n\x1b!e");
    let reply = AnnounceReply::parse(&body, URL).unwrap();
    let expected = AnnounceReply {
        interval: Duration::from_secs(30),
        min_interval: Some(Duration::from_secs(5)),
        peers: vec!["10.0.0.1:6881".parse().unwrap(), "[fe80::1]:6881".parse().unwrap()],
        complete: Some(3),
        incomplete: Some(4),
        warning: Some("hi  !".to_owned()),
        external_ip: Some(Ipv4Addr::new(10, 0, 0, 9).into()),
        tracker_id: Some(b"ab".to_vec()),
    };
    assert_eq!(reply, expected);
}

#[test]
fn dictionary_peers_are_read_and_names_left_out() {
    let body = b"d8:intervali60e5:peersld2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
                 d2:ip9:localhost4:porti6881eed2:ip3:::14:porti7eed2:ip8:10.0.0.24:porti65536eed4:porti1eei7eee";
    let reply = AnnounceReply::parse(body, URL).unwrap();
    assert_eq!(reply.peers, ["10.0.0.1:6881".parse().unwrap(), "[::1]:7".parse().unwrap()]);
}

#[test]
fn both_forms_of_an_empty_peer_list_are_read() {
    for body in [&b"d8:intervali60e5:peers0:e"[..], b"d8:intervali60e5:peerslee", b"d8:intervali60ee\r\n"] {
        let reply = AnnounceReply::parse(body, URL).unwrap();
        assert_eq!((reply.peers.len(), reply.interval), (0, Duration::from_secs(60)));
    }
}

#[test]
fn intervals_that_cannot_be_are_not_believed() {
    let interval = |text: &str| {
        AnnounceReply::parse(format!("d8:interval{text}5:peers0:e").as_bytes(), URL).unwrap().interval.as_secs()
    };
    assert_eq!(interval("i0e"), 300);
    assert_eq!(interval("i-5e"), 300);
    assert_eq!(interval("2:10"), 300);
    assert_eq!(interval("i9223372036854775807e"), 86_400);
}

#[test]
fn refusals_say_when_to_come_back() {
    let refused = |body: &[u8]| match AnnounceReply::parse(body, URL) {
        Err(Error::Refused { reason, retry_in }) => (reason, retry_in),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"d14:failure reason2:noe"), ("no".to_owned(), None));
    let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
    assert_eq!(refused(b"d14:failure reason2:no8:retry ini5ee").1, minutes(5));
    assert_eq!(refused(b"d14:failure reason2:no8:retry in1:5e").1, minutes(5));
    assert_eq!(refused(b"d14:failure reason2:no8:retry in5:nevere").1, Some(Duration::MAX));
    assert_eq!(refused(b"d14:failure reason2:no8:retry ini-5ee").1, None);
    assert_eq!(
        parse_scrape(b"d14:failure reason2:noe", URL),
        Err(Error::Refused { reason: "no".into(), retry_in: None })
    );
}

#[test]
fn what_is_no_reply_is_refused() {
    for body in [&b""[..], b"<html>", b"i5e", b"le", b"de", b"d8:completei1ee", b"d8:intervali60e5:peers6:abce"] {
        assert!(matches!(AnnounceReply::parse(body, URL), Err(Error::Reply { .. })), "{}", body.escape_ascii());
    }
    assert!(parse_scrape(b"de", URL).is_err());
    assert!(parse_scrape(b"d5:filesi1ee", URL).is_err());
}

proptest! {
    #[test]
    fn any_body_gives_a_bounded_reply_or_an_error(body: Vec<u8>) {
        if let Ok(reply) = AnnounceReply::parse(&body, URL) {
            prop_assert!(reply.peers.len() <= MAX_PEERS && reply.interval <= Duration::from_secs(86_400));
        }
        let _ = parse_scrape(&body, URL);
    }

    #[test]
    fn scrapes_come_back(entries in prop::collection::btree_map(any::<[u8; 20]>(), any::<[u32; 3]>(), 0..20)) {
        let mut body = Encoder::new();
        body.dict(|reply| reply.dict("files", |files| {
            for (hash, [complete, downloaded, incomplete]) in &entries {
                files.dict(hash, |file| {
                    file.int("complete", i64::from(*complete));
                    file.int("downloaded", i64::from(*downloaded));
                    file.int("incomplete", i64::from(*incomplete));
                });
            }
        }));
        let expected: Vec<ScrapeEntry> = entries.into_iter().map(|(hash, [complete, downloaded, incomplete])| {
            ScrapeEntry { info_hash: InfoHash(hash), complete, incomplete, downloaded }
        }).collect();
        prop_assert_eq!(parse_scrape(&body.finish(), URL).unwrap(), expected);
    }
}

#[test]
fn a_list_of_a_hundred_thousand_peers_is_cut() {
    let mut body = b"d8:intervali60e5:peers600000:".to_vec();
    body.resize(body.len() + 600_000, 7);
    body.push(b'e');
    assert_eq!(AnnounceReply::parse(&body, URL).unwrap().peers.len(), MAX_PEERS);
}
