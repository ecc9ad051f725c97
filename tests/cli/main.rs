//! Each applet as a process: its options, its texts, its exit codes.

mod multicall;
#[path = "../support/mod.rs"]
mod support;
