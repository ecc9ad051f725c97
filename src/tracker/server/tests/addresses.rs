//! The lists of addresses that may ask and that may not.

use super::*;

#[test]
fn lists_of_addresses_keep_out_whom_they_say_as_soon_as_they_say_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    let (allowed, banned) = (dir.path().join("allowed"), dir.path().join("banned"));
    fs::write(&allowed, "127.0.0.0/8\n").unwrap();
    fs::write(&banned, "some:label:10.0.0.0-10.0.0.9\n").unwrap();
    let lists = (allowed.clone(), banned.clone());
    let tracker = start(dir, move |config| {
        (config.allowed_ips, config.banned_ips) = (Some(lists.0.clone()), Some(lists.1.clone()));
    });
    let hash = tracker.add("x.img");
    let refused = |url: String| {
        let refused = "refused by the tracker: your IP is not allowed on this tracker";
        client().announce(&url, &announce(hash, 1)).is_err_and(|error| error.to_string() == refused)
    };
    assert!(!refused(tracker.url()) && !refused(tracker.udp_url()));
    fs::write(&banned, "127.0.0.1\n").unwrap();
    tracker.until("the ban holds", || refused(tracker.url()) && refused(tracker.udp_url()));
    let file = tracker.get("/file?name=x.img");
    assert!(file.starts_with("HTTP/1.0 400 Not Authorized\r\n"), "{file}");
    fs::write(&banned, "").unwrap();
    tracker.until("the ban is lifted", || !refused(tracker.url()));
    fs::write(&allowed, "10.0.0.0/8\n").unwrap();
    tracker.until("only the others are allowed", || refused(tracker.url()));
}

#[test]
fn a_list_of_who_is_allowed_that_is_not_there_allows_nobody() {
    let tracker = tracker(|config| config.allowed_ips = Some("/nowhere/ips".into()));
    assert!(tracker.get("/scrape").contains("your IP is not allowed on this tracker"));
    assert!(tracker.log().contains("**warning** unable to read IP list /nowhere/ips"));
}
