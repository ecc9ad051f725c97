//! The state file.

use super::*;

#[test]
fn the_state_survives_a_restart() {
    let mut tracker = tracker(|_| ());
    let hash = tracker.add("x.img");
    client()
        .announce(&tracker.url(), &AnnounceRequest { left: 0, event: Event::Completed, ..announce(hash, 1) })
        .unwrap();
    tracker.end();
    assert!(tracker.log().contains("# Shutting down:"));
    let dir = std::mem::replace(&mut tracker.dir, tempfile::tempdir().unwrap());
    let again = start(dir, |_| ());
    let counts = client().scrape(&again.url(), &[hash]).unwrap();
    assert_eq!((counts[0].complete, counts[0].downloaded), (1, 1));
    assert_eq!(client().announce(&again.url(), &announce(hash, 2)).unwrap().peers, ["127.0.0.1:7001".parse().unwrap()]);
}

#[test]
fn a_state_that_cannot_be_saved_is_told_of_and_the_tracker_goes_on() {
    let tracker = tracker(|config| {
        config.dfile = "/proc/nowhere/dstate".into();
        config.save_interval = Duration::from_millis(100);
    });
    let hash = tracker.add("x.img");
    client().announce(&tracker.url(), &announce(hash, 1)).unwrap();
    tracker.until("it is told", || tracker.log().contains("**warning** save statefile /proc/nowhere/dstate: "));
    assert!(client().announce(&tracker.url(), &announce(hash, 2)).is_ok());
}
