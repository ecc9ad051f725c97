//! The reader of the file system that names this build, or of partition tables: any source gives an error or a map
//! that fits, soon.
//!
//! Input is pieces of a device that is zero elsewhere; `tests/fuzz/seed` makes a corpus from file systems of mkfs and from
//! those made up in `tests/fuzz/seeds`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../targets.rs"]
#[allow(dead_code)] // What other targets do.
mod targets;

fuzz_target!(|bytes: &[u8]| {
    let _ = targets::file_system(env!("CARGO_BIN_NAME"), bytes);
});
