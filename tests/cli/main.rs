//! Each applet as a process: its options, its texts, its exit codes.

mod btlaunchmany;
mod bttrack;
mod control;
#[path = "../support/crowd.rs"]
mod crowd;
#[path = "../support/ctcs.rs"]
mod ctcs;
mod ctorrent_choose;
mod ctorrent_files;
mod ctorrent_run;
mod ctorrent_words;
mod demo;
mod discovery;
#[path = "../fuzz/targets.rs"]
mod fuzz;
mod hostile;
mod hostile_media;
mod hostile_names;
#[path = "../support/hostile.rs"]
mod hostile_peer;
mod install;
mod leftovers;
mod levels;
mod multicall;
mod neighbours;
mod opengnsys;
mod opengnsys_forms;
mod opengnsys_lab;
mod opengnsys_refusals;
mod opengnsys_scripts;
mod opengnsys_shell;
mod opengnsys_walks;
#[path = "../support/pc.rs"]
mod pc;
mod scene;
mod servers;
mod setup;
mod slots;
mod soak;
mod status_page;
#[path = "../support/mod.rs"]
mod support;
mod zstd;
