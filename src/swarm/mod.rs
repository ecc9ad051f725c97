//! The decisions of a BitTorrent peer (BEP 3, 6, 21): which block to ask of which peer, and which peer to serve.
//!
//! Pure: events and their times go in, decisions queue up to be taken. No socket, file, clock or thread, so the
//! simulator runs thousands of swarms in one process, and a test can play any peer.
//!
//! Terms: a *piece* is the unit that the metainfo has a hash of; a *block* is 16 KiB of it; a *request* asks one
//! peer for one or more successive blocks of one piece; a peer's *turn* is the time in which we send it one piece.

mod blame;
mod blocks;
mod choker;
mod events;
mod fetch;
mod given;
mod leave;
mod origin;
mod partial;
mod peer;
mod picker;
mod priority;
mod rarity;
mod rate;
mod roster;
mod serve;
mod sight;
mod slots;
mod source;
mod spread;
mod state;
#[cfg(test)]
mod tests;
mod types;

pub use leave::{Leave, Reason, Standing};
pub use priority::priority;
pub use rate::Rate;
pub use roster::Roster;
pub use sight::Sight;
pub use state::Swarm;
pub use types::{
    Action, Block, Config, FRIEND_REQUEST, Offence, PeerKey, REQUEST_QUEUE, STRANGER_REQUEST, Totals, Traits, Verdict,
    Verified,
};
