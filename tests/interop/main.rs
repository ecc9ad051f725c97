//! ogbox against other people's programs, in both directions.

mod accepted;
mod choose;
mod clients;
mod compressed;
mod control;
mod converted;
#[path = "../support/ctcs.rs"]
mod ctcs;
mod damaged_fs;
mod devices;
mod discovery;
mod disks;
mod drop_in;
mod failing;
mod frozen;
mod imaging;
mod judges;
mod linux_fs;
mod lossless;
mod metainfo;
mod partclone_options;
mod places;
mod sealed;
mod sectors;
mod served;
mod sets;
mod stale;
#[path = "../support/mod.rs"]
mod support;
mod swarm;
mod switches;
mod web_seed;
mod windows_fs;
mod xxhash;
