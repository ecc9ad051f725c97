//! The events of a download.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::announcing::Announced;
use super::choice::Group;
use crate::peer::Status;
use crate::storage;
use crate::swarm::Leave;
use crate::torrent::Bitfield;

/// A torrent's numbers at one moment: our own, and the trackers'.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The torrent's own numbers.
    pub status: Status,
    /// The outcome of its last announces.
    pub announced: Announced,
}

/// The evidence by which a download knows which pieces are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing is there.
    Nothing,
    /// The bitfield file, taken at its word.
    BitfieldTrusted,
    /// All data is taken for whole, without a look.
    Trusted,
    /// The bitfield file's pieces are hashed.
    Bitfield,
    /// A journal vouches for `known` of `pieces` pieces, and `doubtful` others are hashed: all that were written, unless
    /// it was closed.
    Journal {
        /// Pieces that need no hashing.
        known: u32,
        /// All pieces.
        pieces: u32,
        /// Pieces to hash.
        doubtful: usize,
    },
    /// Everything is hashed.
    Hash,
}

/// A step of a download, in the order in which they come.
#[derive(Debug)]
pub enum Event<'a> {
    /// None of the data is there: its files are made.
    Creating,
    /// How the download finds out which pieces are here.
    Looking(Evidence),
    /// `done` of `of` pieces were hashed. Comes from several threads, one at a time.
    Hashed {
        /// Pieces hashed.
        done: u32,
        /// Pieces to hash.
        of: u32,
    },
    /// Hashing has come to its end.
    Checked,
    /// The data cannot be opened: none of it is here.
    Absent(&'a storage::Error),
    /// The pieces that are here; `found`: there was data to look at.
    Present {
        /// Pieces on the disk.
        have: &'a Bitfield,
        /// Whether any data was there.
        found: bool,
    },
    /// The next chosen group of files is fetched; `None`: those that were not chosen are left out. With the moment,
    /// once the client runs.
    Group(Option<&'a Group>, Option<&'a Moment>),
    /// The client listens.
    Listening(IpAddr, u16),
    /// Everything that was chosen is here and on the medium.
    Whole {
        /// Whether anything had to be fetched.
        downloaded: bool,
        /// Since when the client runs.
        since: Instant,
        /// When it will leave.
        leave: &'a Leave,
        /// How things stand.
        moment: &'a Moment,
    },
    /// A turn of the client's loop, about ten a second.
    Turn(&'a Moment),
    /// A CTCS server ends the client.
    Quit(&'a Moment),
    /// Everything has ended: connections, announces, the journal.
    Ended(&'a Moment),
}

/// Takes events; an error ends the download.
pub type Face<'a> = &'a mut (dyn FnMut(Event) -> std::io::Result<()> + Send);

/// Pause between two turns of a client's loop.
pub const TURN: Duration = Duration::from_millis(100);
