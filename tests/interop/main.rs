//! ogbox against other people's programs, in both directions.

mod damaged_fs;
mod imaging;
mod metainfo;
#[path = "../support/mod.rs"]
mod support;
mod windows_fs;
