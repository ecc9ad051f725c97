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
