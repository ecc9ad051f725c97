//! Each applet as a process: its options, its texts, its exit codes.

mod bttrack;
mod ctorrent_files;
mod demo;
mod hostile;
mod multicall;
mod opengnsys;
mod setup;
#[path = "../support/mod.rs"]
mod support;
