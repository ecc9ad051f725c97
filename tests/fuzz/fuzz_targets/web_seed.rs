//! A web seed's answer: the target of its redirections, and the range it claims to send.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ogbox::peer::range::{self, Part};

fuzz_target!(|text: &str| {
    let part = Part { url: None, range: 16..32, of: 100 };
    if range::check(text, &part).is_ok() {
        assert!(text.contains("16-31"));
    }
    for url in ["http://host:80/path/file", "http://host:80", text] {
        if let Some(there) = range::redirected(url, text)
            && url != text
        {
            let rest = there.strip_prefix("http://host:80").expect("it stays at the site");
            assert!(rest.is_empty() || rest.starts_with(['/', '?', '#']), "{there}");
        }
    }
});
