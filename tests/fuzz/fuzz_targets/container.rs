//! Bytes read as an image of partclone, compressed or not, give blocks within the header's bounds, in order, and soon.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../targets.rs"]
#[allow(dead_code)] // What other targets do.
mod targets;

fuzz_target!(|bytes: &[u8]| {
    let _ = targets::container(bytes);
});
