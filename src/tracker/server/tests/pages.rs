//! The pages.

use super::*;

#[test]
fn the_page_the_json_and_the_metrics_tell_the_same() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    fs::write(tracker.dir.path().join("hosts"), "127.0.0.1 pc1.lab\n").unwrap();
    client().announce(&tracker.url(), &announce(hash, 1)).unwrap();
    let closed = tracker.says(b"GET / HTTP/1.0\r\nAccept-Language: ca\r\n\r\n");
    assert!(
        closed.contains("<html lang=\"ca\">") && closed.contains("x.img") && !closed.contains("pc1.lab"),
        "{closed}"
    );
    let open = tracker.get(&format!("/?open={hash}"));
    assert!(open.contains("pc1.lab") && open.contains("0.0&nbsp;%"), "{open}");
    let json = tracker.get("/status.json");
    for part in [
        format!("\"info_hash\":\"{hash}\",\"name\":\"x.img\",\"size\":5,\"seeders\":0,\"leechers\":1"),
        "\"ip\":\"127.0.0.1\",\"port\":7001,\"host\":\"pc1.lab\",\"permille\":0".to_owned(),
    ] {
        assert!(json.contains(&part), "{part} in {json}");
    }
    let metrics = tracker.get("/metrics");
    assert!(metrics.contains("bttrack_announces_total 1\n"), "{metrics}");
    assert!(metrics.contains(&format!("bttrack_leechers{{info_hash=\"{hash}\",name=\"x.img\"}} 1\n")), "{metrics}");
}

#[test]
fn a_pc_is_shown_by_the_name_that_reverse_lookup_gives() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let conf = tempfile::NamedTempFile::new().unwrap();
    fs::write(conf.path(), format!("nameserver {}\n", resolver.local_addr().unwrap())).unwrap();
    let tracker = tracker(|config| config.resolv_conf = Some(conf.path().to_owned()));
    let hash = tracker.add("x.img");
    let ip = Some("10.0.0.7".parse().unwrap());
    client().announce(&tracker.url(), &AnnounceRequest { ip, ..announce(hash, 1) }).unwrap();
    let begin = Instant::now();
    assert!(tracker.get("/status.json").contains("\"ip\":\"10.0.0.7\",\"port\":7001,\"host\":\"\""));
    assert!(begin.elapsed() < Duration::from_secs(1), "the page waits for nobody");
    let mut packet = [0; 512];
    let (length, from) = resolver.recv_from(&mut packet).unwrap();
    assert_eq!(&packet[12..length - 4], b"\x017\x010\x010\x0210\x07in-addr\x04arpa\0");
    (packet[2], packet[7]) = (0x81, 1);
    let record = b"\xc0\x0c\0\x0c\0\x01\0\0\0\x3c\0\x09\x03pc7\x03lab\0";
    resolver.send_to(&[&packet[..length], record].concat(), from).unwrap();
    tracker.until("the name is shown", || tracker.get(&format!("/?open={hash}")).contains("pc7.lab"));
}

#[test]
fn readers_of_pages_share_a_rendering_a_second_and_announces_go_on_beside_them() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    let store = &tracker.shared.service.store;
    for n in 0..20_000u16 {
        let socket = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881));
        store.restore_peer(hash, socket, Owner::new(socket.ip(), 0), PeerId([1; 20]), 0, 1);
    }
    let (begin, pages) = (Instant::now(), AtomicUsize::new(0));
    let reading = AtomicBool::new(true);
    thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                while reading.load(Ordering::Relaxed) {
                    let page = tracker.get("/status.json");
                    // One that is too slow among many may have had to give way.
                    assert!(page.is_empty() || page.starts_with("HTTP/1.0 200 "), "{:.200}", page);
                    pages.fetch_add(usize::from(page.ends_with("}]}]}")), Ordering::Relaxed);
                }
            });
        }
        while begin.elapsed() < Duration::from_secs(3) {
            client().announce(&tracker.udp_url(), &announce(hash, 1)).unwrap();
            client().announce(&tracker.url(), &announce(hash, 2)).unwrap();
        }
        reading.store(false, Ordering::Relaxed);
    });
    let (rendered, seconds) = (tracker.shared.service.pages.rendered(), begin.elapsed().as_secs() as u32);
    assert!((1..=seconds + 1).contains(&rendered), "{rendered} renderings in {seconds} s");
    assert!(pages.load(Ordering::Relaxed) > rendered as usize, "readers share a rendering");
}

#[test]
fn the_page_can_be_elsewhere_or_nowhere() {
    let elsewhere = tracker(|config| config.infopage_redirect = Some("http://lab/".to_owned()));
    assert!(elsewhere.get("/").contains("302 Found\r\n") && elsewhere.get("/").contains("Location: http://lab/\r\n"));
    let nowhere = tracker(|config| config.show_infopage = false);
    assert!(["/", "/status.json", "/metrics"].iter().all(|path| nowhere.get(path).starts_with("HTTP/1.0 404 ")));
}

#[test]
fn a_tracker_that_can_track_nothing_says_so_first() {
    let line = "neither is given: nothing is tracked";
    let tracker = tracker(|config| (config.source, config.notice) = (None, Some(line.to_owned())));
    let log = tracker.log();
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("# Log Started")).collect();
    assert_eq!(lines.first(), Some(&line), "{log}");
    for (language, part) in
        [("en", "Nothing is tracked: "), ("es", "No se sigue nada: "), ("ca", "No se segueix res: ")]
    {
        let page = tracker.says(format!("GET / HTTP/1.0\r\nAccept-Language: {language}\r\n\r\n").as_bytes());
        let begin = page.find("</h1>\n<p class=\"gone\">").expect("a reason");
        assert!(page[begin..].contains(part) && page[begin..].contains("--open 1"), "{page}");
        assert!(page[begin..].contains("--allowed_dir"), "{page}");
    }
}
