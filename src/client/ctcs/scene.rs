//! The client as a CTCS server sees it and may change it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::message::Figures;
use crate::client::choice::Selection;
use crate::client::event::Moment;
use crate::client::hub::Client;
use crate::peer::Torrent;
use crate::swarm::Leave;

/// Parts of the command line that a server sees and cannot change.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The metainfo file's path.
    pub torrent: PathBuf,
    /// Where the data of a torrent of one file is saved, if not under the torrent's own name.
    pub save_as: Option<PathBuf>,
    /// The choice of files.
    pub files: String,
    /// The command to run once everything is here.
    pub command: String,
    /// Memory to use at the most, MiB.
    pub memory: u64,
}

/// The client at one turn of its loop.
pub struct Scene<'a> {
    pub client: &'a Client,
    pub torrent: &'a Arc<Torrent>,
    pub selection: &'a Selection,
    pub moment: &'a Moment,
    /// When everything was here.
    pub whole_since: Option<Instant>,
    pub leave: &'a mut Leave,
}

impl Scene<'_> {
    /// Returns the numbers of CTSTATUS and CTBW; `reach`: pieces within reach.
    pub fn figures(&self, reach: u32) -> Figures {
        let Moment { status, announced } = self.moment;
        let (up, down) = self.client.session().limits();
        // The tracker counts us as well.
        let others = |all: Option<u32>, us: bool| all.unwrap_or(0).saturating_sub(u32::from(us));
        Figures {
            seeders: (status.peers.0, others(announced.complete, status.whole)),
            leechers: (status.peers.1, others(announced.incomplete, !status.whole)),
            connecting: self.torrent.dialling(),
            pieces: (status.have, self.torrent.metainfo().geometry.pieces(), reach),
            rates: (status.rates.0 as u64, status.rates.1 as u64),
            totals: (status.totals.downloaded, status.totals.uploaded),
            limits: (down, up),
        }
    }

    /// Returns CTSTATUS.
    pub fn status_line(&self) -> String {
        self.figures(self.torrent.reach().1.count()).status()
    }
}
