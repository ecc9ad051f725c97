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

/// A form with the token and a torrent, as a browser sends it, cut after `cut` bytes.
fn send_form(tracker: &Running, token: &str, file: &str, bytes: &[u8], cut: usize) -> String {
    let mut form = format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n{token}\r\n\
         --xyz\r\nContent-Disposition: form-data; name=\"torrent\"; filename=\"{file}\"\r\n\
         Content-Type: application/x-bittorrent\r\n\r\n"
    )
    .into_bytes();
    form.extend_from_slice(bytes);
    form.extend_from_slice(b"\r\n--xyz--\r\n");
    let head = format!(
        "POST /register HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=xyz\r\nContent-Length: {}\r\n\
         Accept-Language: es\r\nConnection: close\r\n\r\n",
        form.len()
    );
    let mut stream = tracker.connect();
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = Vec::new();
    // A refused form need not be read.
    let _ = stream.write_all(&form[..cut.min(form.len())]);
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_torrent_is_registered_on_a_page_that_tells_its_name_and_size_at_once() {
    let tracker = publisher();
    assert!(tracker.get("/").contains("<a href=\"/register\">register a torrent</a>"));
    let page = tracker.get("/register");
    assert!(page.starts_with("HTTP/1.0 200 OK\r\n") && page.contains("type=\"password\" name=\"token\""), "{page}");
    let bytes = torrent("<x>.img", 300_000);
    let hash = Metainfo::parse(&bytes).unwrap().info_hash;
    let said = send_form(&tracker, "secret", "C:\\ou\\x.img.torrent", &bytes, usize::MAX);
    assert!(said.starts_with("HTTP/1.1 201 Created\r\n"), "{said}");
    for part in ["lang=\"es\"", "registrado: ", ">&lt;x&gt;.img</a>, 4,5&nbsp;GiB", &hash.to_string()] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(fs::read(tracker.dir.path().join("images/x.img.torrent")).unwrap(), bytes);
    assert!(client().announce(&tracker.url(), &announce(hash, 1)).is_ok());
    let json = tracker.get("/status.json");
    assert!(json.contains("\"name\":\"<x>.img\",\"size\":4915183621"), "{json}");
    let again = send_form(&tracker, "secret", "y.torrent", &bytes, usize::MAX);
    assert!(again.starts_with("HTTP/1.1 409 ") && again.contains("this torrent is here already"), "{again}");
    for (method, name, target) in [("PUT", "y", "/register"), ("POST", "z", "/register?name=other.torrent")] {
        let bytes = torrent(name, 1);
        let head = format!(
            "{method} {target} HTTP/1.0\r\nAuthorization: Bearer secret\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        let said = tracker.says(&[head.as_bytes(), &bytes].concat());
        let hash = Metainfo::parse(&bytes).unwrap().info_hash;
        assert!(said.starts_with("HTTP/1.0 201 ") && said.ends_with(&format!("\r\n{hash} 5 {name}\n")), "{said}");
    }
    for name in ["y", "other"] {
        assert!(tracker.dir.path().join(format!("images/{name}.torrent")).is_file(), "{name}");
    }
}

#[test]
fn a_form_without_the_token_is_refused_before_its_torrent_is_read() {
    let tracker = publisher();
    let bytes = torrent("x.img", 300_000);
    for (token, cut) in [("wrong", 100), ("", 100), (&*"secret".repeat(2000), 5000)] {
        let said = send_form(&tracker, token, "x.torrent", &bytes, cut);
        assert!(said.starts_with("HTTP/1.1 401 ") && said.contains("a token is needed to publish here"), "{said}");
    }
    let form = |kind: &str, body: &str| {
        tracker
            .says(format!("POST /register HTTP/1.0\r\n{kind}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
    };
    let multipart = "Content-Type: multipart/form-data; boundary=xyz\r\n";
    let field =
        |name: &str, data: &str| format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{data}\r\n");
    for (kind, body, code) in [
        (multipart, String::new(), 401),
        (multipart, "--xyz--".to_owned(), 401),
        (multipart, field("torrent", "d4:infoe") + &field("token", "secret"), 401),
        (multipart, field("token", "secret"), 401),
        (multipart, field("token", "secret") + "--xyz--", 400),
        (multipart, field("token", "secret") + &field("torrent", "d4:infoe") + "--xyz--", 400),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "token=secret".to_owned(), 401),
        ("", "token=secret".to_owned(), 401),
    ] {
        let said = form(kind, &body);
        assert!(said.starts_with(&format!("HTTP/1.0 {code} ")), "{kind}{body}: {said}");
    }
    assert_eq!(fs::read_dir(tracker.dir.path().join("images")).unwrap().count(), 0);
    let closed = self::tracker(|_| ());
    assert!(closed.get("/register").starts_with("HTTP/1.0 404 ") && !closed.get("/").contains("/register"));
    assert!(send_form(&closed, "secret", "x.torrent", &bytes, 0).starts_with("HTTP/1.1 405 "));
}
