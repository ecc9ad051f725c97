//! The .torrent files that the tracker hands out.

use super::*;

#[test]
fn a_torrent_file_is_given_by_hex_by_bytes_and_by_name() {
    let tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    let whole = fs::read(tracker.dir.path().join("images/x.img.torrent")).unwrap();
    let raw: String = hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
    for query in [format!("info_hash={hash}"), format!("info_hash={raw}"), format!("hash={hash}"), "name=x.img".into()]
    {
        let file = tracker.get(&format!("/file?{query}"));
        assert!(file.contains("Content-Type: application/x-bittorrent\r\n"), "{query}: {file}");
        assert!(file.contains("filename=\"x.img.torrent\""), "{file}");
        assert!(file.ends_with(&*String::from_utf8_lossy(&whole)), "{file}");
    }
    for query in ["", "name=", "info_hash=00", "name=../../etc/passwd", "name=y"] {
        assert!(tracker.get(&format!("/file?{query}")).starts_with("HTTP/1.0 404 "), "{query}");
    }
}

#[test]
fn torrent_files_of_one_name_are_told_apart_by_their_directories() {
    let tracker = tracker(|_| ());
    let images = tracker.dir.path().join("images");
    for room in ["aula1", "aula2"] {
        fs::create_dir_all(images.join(room)).unwrap();
    }
    let [one, two, three] = ["one.img", "two.img", "three.img"].map(|name| tracker.add(name));
    for (from, to) in [("three", "."), ("one", "aula1"), ("two", "aula2")] {
        fs::rename(images.join(format!("{from}.img.torrent")), images.join(to).join("x.img.torrent")).unwrap();
    }
    let asked = |name: &str| tracker.get(&format!("/file?name={name}"));
    let given = |hash: InfoHash| tracker.get(&format!("/file?info_hash={hash}"));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while asked("aula2/x.img").starts_with("HTTP/1.0 404 ") {
        assert!(std::time::Instant::now() < until, "the tracker does not see what was moved");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!([asked("aula1/x.img"), asked("aula2/x.img.torrent")], [given(one), given(two)]);
    assert_eq!(
        [asked("x.img"), asked("three.img")],
        [given(three), given(three)],
        "directories are for who names them"
    );
    assert!(asked("aula3/x.img").starts_with("HTTP/1.0 404 "));
}

#[test]
fn a_torrent_is_given_by_its_name_to_whoever_may_announce_unless_that_is_forbidden_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    let banned = dir.path().join("banned");
    fs::write(&banned, "").unwrap();
    let list = banned.clone();
    let named = start(dir, move |config| (config.allow_get, config.banned_ips) = (false, Some(list.clone())));
    let hash = named.add("x.img");
    let refused = "HTTP/1.0 400 Not Authorized\r\n";
    for name in ["x.img", "x.img.torrent"] {
        assert!(named.get(&format!("/file?name={name}")).starts_with("HTTP/1.0 200 OK\r\n"), "{name}");
    }
    for query in [format!("info_hash={hash}"), format!("hash={hash}&name=x.img"), String::new()] {
        let said = named.get(&format!("/file?{query}"));
        assert!(
            said.starts_with(refused) && said.ends_with("get function is not available with this tracker."),
            "{said}"
        );
    }
    assert!(named.get("/file?name=y.img").starts_with("HTTP/1.0 404 "));
    assert!(!named.get("/").contains("/file?"), "the page shows no way that is not open");
    fs::write(&banned, "127.0.0.1\n").unwrap();
    named.until("the ban holds", || client().announce(&named.url(), &announce(hash, 1)).is_err());
    assert!(named.get("/file?name=x.img").starts_with(refused));
    let neither = tracker(|config| (config.allow_get, config.get_by_name) = (false, false));
    neither.add("x.img");
    assert!(neither.get("/file?name=x.img").starts_with(refused));
}
