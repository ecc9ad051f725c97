//! Any contents of a tracker's files, and any answer of a name server, are read or refused: the state, lists of
//! addresses, answers to reverse lookup.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ogbox::tracker::server::ranges::Ranges;
use ogbox::tracker::server::store::{Rules, Store};
use ogbox::tracker::server::{dfile, names};

fuzz_target!(|bytes: &[u8]| {
    let rules = || Rules { closed: false, reannounce: 60, life: 180, ..Rules::default() };
    let store = Store::new(rules(), 1);
    if dfile::restore(bytes, &store, 0).is_some() {
        // The state it writes reads back as the same.
        let (state, again) = (dfile::encode(&store), Store::new(rules(), 2));
        assert_eq!(dfile::restore(&state, &again, 0), Some(store.peers()));
    }
    let (ranges, wrong) = Ranges::read(bytes);
    assert!(wrong.len() <= bytes.len() + 1);
    let _ = ranges.contains([10, 0, 0, 1].into());
    let question = names::question([1, 2], [10, 0, 0, 7].into());
    let mut answer = question.clone();
    (answer[2], answer[7]) = (0x81, 4);
    answer.extend_from_slice(bytes);
    if let Some(Some(name)) = names::read(&answer, &question) {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
    }
    let _ = names::resolvers(bytes);
});
