//! A BitTorrent client without a face: settings in, events out. ctorrent, btlaunchmany and OpenGnsys' functions put
//! words to it.
//!
//! 1. A [`Client`] listens at one port under one peer id, announces and serves any number of torrents.
//! 2. A [`Download`] takes one torrent from the pieces on the disk to all that are wanted, and seeds it until the conditions
//!    to [`Leave`](crate::swarm::Leave) are met; each step is an [`Event`].
//! 3. A [`Control`] reports to a CTCS server and obeys it meanwhile.
//!
//! OpenGnsys' functions run it in a process of its own: [`source`] finds the torrent of an image in the repository, [`child`]
//! follows the process, [`pursuit`] goes on with an image that is created anew meanwhile; [`daemons`] starts the others.
//!
//! Nothing here reads a command line or asks a person, and only [`child`] prints.

mod announcing;
pub mod child;
mod choice;
mod ctcs;
pub mod daemons;
mod download;
mod error;
mod event;
mod hub;
mod keeper;
mod presence;
pub mod pursuit;
mod report;
pub mod source;
#[cfg(test)]
mod tests;

pub use announcing::{Announced, Announcing};
pub use choice::{Group, Selection};
pub use ctcs::{Control, Facts, one_line, server};
pub use download::{Download, Journalling};
pub use error::Error;
pub use event::{Event, Evidence, Moment};
pub use hub::{Client, MEMORY, Settings, connections};
pub use presence::{Trust, with_end};
pub use report::Report;
