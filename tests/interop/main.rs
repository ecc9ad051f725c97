//! ogbox against other people's programs, in both directions.

mod imaging;
mod metainfo;
#[path = "../support/mod.rs"]
mod support;
