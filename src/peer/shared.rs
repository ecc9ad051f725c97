//! State shared by all threads of a session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Log;
use super::doorway::Doorway;
use super::limiter::Limiter;
use super::nudge::Nudge;
use super::torrent::Torrent;
use crate::base::sync::lock;
use crate::torrent::{InfoHash, PeerId};

/// State shared by all threads of a session.
pub struct Shared {
    pub id: PeerId,
    pub port: u16,
    pub bind: IpAddr,
    pub up: Limiter,
    pub down: Limiter,
    pub stalled: Duration,
    /// Number of connections that receive into large buffers.
    pub fast: AtomicUsize,
    pub doorway: Arc<Doorway>,
    /// Receives the connections that were refused or dropped, and why.
    pub log: Log,
    pub torrents: Mutex<HashMap<InfoHash, Arc<Torrent>>>,
    /// Set when the session ends.
    pub stop: AtomicBool,
    /// Given when there are new addresses to dial.
    pub nudge: Arc<Nudge>,
}

impl Shared {
    /// Returns the torrent with this info-hash.
    pub fn torrent(&self, info_hash: &InfoHash) -> Option<Arc<Torrent>> {
        lock(&self.torrents).get(info_hash).cloned()
    }
}
