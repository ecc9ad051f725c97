//! Publishing by the bearer of the token.

use super::*;

/// A complete request with a body that closes the connection.
fn put(tracker: &Running, target: &str, token: &str, body: &[u8], extra: &str) -> String {
    let head = format!(
        "PUT {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
        body.len()
    );
    let mut stream = tracker.connect();
    stream.write_all(head.as_bytes()).unwrap();
    if !extra.is_empty() {
        let mut said = [0; 25];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut said = Vec::new();
    // A refused body need not be read.
    let _ = stream.write_all(body);
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn publisher() -> Running {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "secret\n").unwrap();
    start(dir, move |config| config.publish_token = Some(token.clone()))
}

#[test]
fn the_bearer_of_the_token_publishes_a_torrent_that_is_tracked_at_once() {
    let tracker = publisher();
    let bytes = torrent("x.img", 300_000);
    let hash = Metainfo::parse(&bytes).unwrap().info_hash;
    let said = put(&tracker, "/file?name=x.img.torrent", "secret", &bytes, "Expect: 100-continue\r\n");
    assert!(said.starts_with("HTTP/1.1 201 Created\r\n") && said.ends_with(&format!("\r\n\r\n{hash}\n")), "{said}");
    assert!(client().announce(&tracker.url(), &announce(hash, 1)).is_ok());
    assert_eq!(fs::read(tracker.dir.path().join("images/x.img.torrent")).unwrap(), bytes);
    let again = put(&tracker, "/file?name=y.torrent", "secret", &bytes, "");
    assert!(again.starts_with("HTTP/1.1 409 ") && again.ends_with("already, as x.img.torrent\n"), "{again}");
    let mut names: Vec<_> =
        fs::read_dir(tracker.dir.path().join("images")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".x.img.torrent.published", "x.img.torrent"], "nothing but the mark is left beside it");
}

#[test]
fn the_token_replaces_what_it_published_and_no_torrent_of_the_administrator_after_a_restart_too() {
    let mut tracker = publisher();
    let own = tracker.add("own.img");
    let refused = |tracker: &Running| {
        let said = put(tracker, "/file?name=own.img.torrent", "secret", &torrent("evil", 1), "");
        assert!(said.starts_with("HTTP/1.1 409 ") && said.ends_with("the token did not publish it\n"), "{said}");
        assert!(tracker.shared.service.store.listing(own).is_some());
    };
    let published = |tracker: &Running, pieces| {
        let said = put(tracker, "/file?name=x.torrent", "secret", &torrent("x", pieces), "");
        assert!(said.starts_with("HTTP/1.1 201 "), "{said}");
    };
    refused(&tracker);
    published(&tracker, 1);
    published(&tracker, 2);
    tracker.end();
    let dir = std::mem::replace(&mut tracker.dir, tempfile::tempdir().unwrap());
    let token = dir.path().join("token");
    let again = start(dir, move |config| config.publish_token = Some(token.clone()));
    published(&again, 3);
    refused(&again);
}

#[test]
fn nobody_else_publishes_anything() {
    let tracker = publisher();
    let whole = torrent("x.img", 1);
    for (target, token, body, code) in [
        ("/file?name=x.torrent", "wrong", &whole[..], 401),
        ("/file?name=../x.torrent", "secret", &whole, 400),
        ("/file?name=x.img", "secret", &whole, 400),
        ("/file", "secret", &whole, 400),
        ("/file?name=x.torrent", "secret", &whole[..whole.len() - 1], 400),
        ("/announce", "secret", &whole, 405),
    ] {
        let said = put(&tracker, target, token, body, "");
        assert!(said.starts_with(&format!("HTTP/1.1 {code} ")), "{target}: {said}");
    }
    let endless =
        b"PUT /file?name=x.torrent HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Length: 99999999\r\n\r\n";
    assert!(tracker.says(endless).starts_with("HTTP/1.1 413 "));
    let chunked =
        b"PUT /file?name=x.torrent HTTP/1.1\r\nAuthorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(tracker.says(&[chunked.as_slice(), b"Connection: close\r\n"].concat()).starts_with("HTTP/1.1 411 "));
    assert_eq!(fs::read_dir(tracker.dir.path().join("images")).unwrap().count(), 0);
    let closed = self::tracker(|_| ());
    assert!(put(&closed, "/file?name=x.torrent", "secret", &whole, "").starts_with("HTTP/1.1 405 "));
}
