use proptest::prelude::*;

use super::*;

fn announcer(tiers: &[&[&str]], complete: bool) -> Announcer {
    Announcer::new(tiers.iter().map(|tier| tier.iter().map(|url| url.to_string()).collect()).collect(), 1, complete)
}

fn reply(interval: u64) -> AnnounceReply {
    AnnounceReply { interval: Duration::from_secs(interval), ..AnnounceReply::default() }
}

fn down() -> Error {
    Error::Transport { url: String::new(), why: "down".into() }
}

fn due(announcer: &mut Announcer, now: u64) -> (String, Event) {
    let announce = announcer.due(now).expect("an announce is due");
    (announce.url, announce.event)
}

#[test]
fn started_comes_at_once_then_regular_announces_near_the_interval() {
    let mut one = announcer(&[&["a"]], false);
    assert_eq!(due(&mut one, 0), ("a".into(), Event::Started));
    assert_eq!(one.due(0), None, "one at a time");
    one.succeeded(10, &reply(30));
    let next = one.next().unwrap();
    assert!((10 + 27_000..=10 + 33_000).contains(&next), "{next}");
    assert_eq!(one.due(next - 1), None);
    assert_eq!(due(&mut one, next), ("a".into(), Event::None));
}

#[test]
fn completed_is_told_once_and_only_by_who_was_not_complete() {
    let mut one = announcer(&[&["a"]], false);
    due(&mut one, 0);
    one.completed(5);
    one.succeeded(10, &reply(30));
    assert_eq!(due(&mut one, 10), ("a".into(), Event::Completed), "at once behind started");
    one.succeeded(20, &reply(30));
    one.completed(30);
    assert_eq!(one.due(30), None);
    assert_eq!(due(&mut one, 60_000).1, Event::None);

    let mut whole = announcer(&[&["a"]], true);
    due(&mut whole, 0);
    whole.succeeded(10, &reply(30));
    whole.completed(20);
    assert_eq!(due(&mut whole, 60_000).1, Event::None);
}

#[test]
fn completed_is_told_again_when_the_first_try_failed() {
    let mut one = announcer(&[&["a"]], false);
    due(&mut one, 0);
    one.succeeded(0, &reply(30));
    one.completed(100);
    assert_eq!(due(&mut one, 100).1, Event::Completed);
    one.failed(100, &down());
    let next = one.next().unwrap();
    assert_eq!(due(&mut one, next).1, Event::Completed);
}

#[test]
fn rests_double_from_one_second_to_sixty() {
    let mut one = announcer(&[&["a"]], false);
    let mut now = 0;
    let mut rests = Vec::new();
    for _ in 0..9 {
        due(&mut one, now);
        one.failed(now, &down());
        let next = one.next().unwrap();
        rests.push((next - now + 500) / 1000);
        now = next;
    }
    for (rest, expected) in rests.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        assert!(rest.abs_diff(expected) * 10 <= expected.max(10), "{rests:?}");
    }
    due(&mut one, now);
    one.succeeded(now, &reply(30));
    let now = one.next().unwrap();
    due(&mut one, now);
    one.failed(now, &down());
    assert!(one.next().unwrap() - now < 1_200, "an answer makes it start over");
}

#[test]
fn a_dead_tracker_is_passed_over_at_once() {
    let mut two = announcer(&[&["a"], &["b"]], false);
    assert_eq!(due(&mut two, 0).0, "a");
    two.failed(100, &down());
    assert_eq!(due(&mut two, 100), ("b".into(), Event::Started));
    two.succeeded(200, &reply(30));
    let next = two.next().unwrap();
    assert_eq!(due(&mut two, next), ("a".into(), Event::Started), "the first tier is tried again first");
    two.failed(next, &down());
    assert_eq!(due(&mut two, next), ("b".into(), Event::None));
}

#[test]
fn a_working_tracker_moves_to_the_front_of_its_tier() {
    let mut tier = announcer(&[&["a", "b", "c"]], false);
    let (first, _) = due(&mut tier, 0);
    tier.failed(0, &down());
    let (second, _) = due(&mut tier, 0);
    tier.succeeded(0, &reply(30));
    assert_ne!(first, second);
    assert_eq!(due(&mut tier, 100_000).0, second);
}

#[test]
fn tiers_are_shuffled_inside_and_kept_in_order() {
    let urls: Vec<String> = (0..20).map(|at| at.to_string()).collect();
    let order = |seed| {
        let mut all = Announcer::new(vec![urls.clone(), vec!["last".into()]], seed, false);
        std::iter::from_fn(|| {
            let url = all.due(0)?.url;
            all.failed(0, &down());
            Some(url)
        })
        .collect::<Vec<String>>()
    };
    assert_eq!(order(1).len(), 21);
    assert_eq!(order(1)[20], "last");
    assert_ne!(order(1), order(2));
    assert_eq!(order(3), order(3));
}

#[test]
fn a_tracker_that_says_when_to_come_back_is_obeyed() {
    let wait =
        |minutes: u64| Error::Refused { reason: String::new(), retry_in: Some(Duration::from_secs(60 * minutes)) };
    let mut one = announcer(&[&["a"]], false);
    due(&mut one, 0);
    one.failed(0, &wait(5));
    assert_eq!(one.next(), Some(300_000));
    due(&mut one, 300_000);
    one.failed(300_000, &Error::Refused { reason: String::new(), retry_in: Some(Duration::MAX) });
    assert_eq!((one.next(), one.due(u64::MAX - 1)), (None, None), "never is never");

    let mut two = announcer(&[&["a"], &["b"]], false);
    due(&mut two, 0);
    two.failed(0, &wait(5));
    assert_eq!(due(&mut two, 0).0, "b", "the others are asked meanwhile");
}

#[test]
fn a_lack_of_peers_is_met_early_but_ever_less_so() {
    let mut one = announcer(&[&["a"]], false);
    due(&mut one, 0);
    one.want_peers();
    one.succeeded(0, &reply(1800));
    let mut now = 0;
    for wait in [5_000, 10_000, 20_000, 40_000] {
        one.want_peers();
        one.want_peers();
        assert_eq!(one.next(), Some(now + wait));
        now += wait;
        due(&mut one, now);
        one.succeeded(now, &reply(1800));
    }
    one.has_peers();
    one.want_peers();
    assert_eq!(one.next(), Some(now + 5_000));
}

#[test]
fn the_min_interval_bounds_early_announces() {
    let mut one = announcer(&[&["a"]], false);
    due(&mut one, 0);
    one.succeeded(0, &AnnounceReply { min_interval: Some(Duration::from_secs(60)), ..reply(1800) });
    one.want_peers();
    assert_eq!(one.next(), Some(60_000));
}

#[test]
fn stopped_is_tried_once_where_we_are_known() {
    let mut two = announcer(&[&["a"], &["b"]], false);
    due(&mut two, 0);
    two.failed(0, &down());
    due(&mut two, 0);
    two.succeeded(0, &reply(30));
    two.stop();
    assert!(!two.finished());
    assert_eq!(due(&mut two, 1), ("b".into(), Event::Stopped));
    two.failed(2, &down());
    assert!(two.finished());
    assert_eq!((two.next(), two.due(1_000_000)), (None, None));
}

#[test]
fn who_never_started_has_nothing_to_stop() {
    let mut one = announcer(&[&["a"]], false);
    due(&mut one, 0);
    one.stop();
    assert!(one.finished());
    one.succeeded(5, &reply(30));
    assert!(one.finished(), "an answer that comes after the end changes nothing");
}

#[test]
fn without_trackers_there_is_never_anything_due() {
    for mut none in [announcer(&[], false), announcer(&[&[]], false)] {
        assert_eq!((none.next(), none.due(u64::MAX)), (None, None));
        none.stop();
        assert!(none.finished());
    }
}

#[test]
fn a_url_that_is_listed_twice_is_one_tracker() {
    let mut twice = announcer(&[&["a", "a"], &["a"]], false);
    due(&mut twice, 0);
    twice.failed(0, &down());
    assert_eq!(twice.due(0), None);
}

#[derive(Clone, Debug)]
enum Step {
    Answer(u64),
    Fail,
    RetryIn(u64),
    Want,
    Complete,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..4000).prop_map(Step::Answer),
        Just(Step::Fail),
        (0u64..100).prop_map(Step::RetryIn),
        Just(Step::Want),
        Just(Step::Complete),
        (0u64..100_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Always: `started` comes first at each tracker, `completed` is answered at most once, two announces to a
    /// tracker that answered are at least 5 s apart (except `completed`), and another one follows.
    #[test]
    fn the_order_of_events_holds(steps in prop::collection::vec(step(), 0..200), trackers in 1usize..4, seed: u64) {
        let urls = (0..trackers).map(|at| vec![at.to_string()]).collect();
        let mut one = Announcer::new(urls, seed, false);
        let mut now = 0;
        let mut known: Vec<String> = Vec::new();
        let mut answered: std::collections::HashMap<String, u64> = Default::default();
        let mut completions = 0;
        for step in steps {
            match step {
                Step::Want => one.want_peers(),
                Step::Complete => one.completed(now),
                Step::Wait(time) => now += time,
                _ => {
                    let next = one.next();
                    prop_assert!(next.is_some());
                    now = now.max(next.unwrap_or(0));
                    let Some(announce) = one.due(now) else { return Err(TestCaseError::fail("nothing due at its time")) };
                    prop_assert_eq!(announce.event == Event::Started, !known.contains(&announce.url));
                    if let Some(last) = answered.get(&announce.url)
                        && announce.event == Event::None
                    {
                        prop_assert!(now - last >= 4_500, "{} after {}", now, last);
                    }
                    match step {
                        Step::Answer(interval) => {
                            one.succeeded(now, &reply(interval));
                            answered.insert(announce.url.clone(), now);
                            known.push(announce.url);
                            completions += usize::from(announce.event == Event::Completed);
                        }
                        Step::RetryIn(minutes) => one.failed(now, &Error::Refused {
                            reason: String::new(), retry_in: Some(Duration::from_secs(60 * minutes)),
                        }),
                        _ => one.failed(now, &down()),
                    }
                }
            }
        }
        prop_assert!(completions <= 1);
        one.stop();
        let mut stops = 0;
        while let Some(announce) = one.due(now) {
            prop_assert_eq!(announce.event, Event::Stopped);
            one.failed(now, &down());
            stops += 1;
        }
        prop_assert!(one.finished() && stops <= trackers);
    }
}
