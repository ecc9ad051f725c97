//! A connection as the torrent sees it: what it is, and what waits to be sent over it.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::lock;
use super::pex::Gossip;
use super::wire::Message;
use crate::torrent::PeerId;

/// Messages that may wait for a peer that does not read, bytes: with what a reader holds, what a connection can cost.
const BACKLOG: usize = 256 << 10;
/// Silence after which a keep-alive is sent (BEP 3: two minutes at most).
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A connection as the rest of the session sees it.
#[derive(Debug)]
pub struct Link {
    pub stream: TcpStream,
    /// The other end.
    pub address: SocketAddr,
    /// Where the other end accepts connections, as far as known.
    pub listens: Mutex<Option<SocketAddr>>,
    pub peer_id: PeerId,
    /// We dialled.
    pub dialled: bool,
    /// Speaks BEP 6.
    pub fast: bool,
    /// Speaks BEP 10.
    pub extended: bool,
    /// Who was told of whom.
    pub gossip: Mutex<Gossip>,
    outbox: Mutex<Outbox>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Outbox {
    messages: Vec<u8>,
    upload: bool,
    closed: bool,
    /// The writer waits and nobody undertook to wake it.
    idle: bool,
}

impl Link {
    /// A connection whose handshake is done.
    pub fn new(
        stream: TcpStream,
        address: SocketAddr,
        peer_id: PeerId,
        dialled: bool,
        fast: bool,
        extended: bool,
    ) -> Link {
        let listens = Mutex::new(dialled.then_some(address));
        let (gossip, outbox, wake) = (Mutex::default(), Mutex::default(), Condvar::new());
        Link { stream, address, listens, peer_id, dialled, fast, extended, gossip, outbox, wake }
    }

    /// Queues a message; the connection of a peer that does not read is closed. True when the writer waits and is to be
    /// woken by [`wake`](Self::wake): once for many messages, for each waking is a system call, and what is sent a packet.
    #[must_use]
    pub fn put(&self, message: Message) -> bool {
        let mut outbox = lock(&self.outbox);
        if outbox.messages.len() > BACKLOG {
            drop(outbox);
            self.close();
            return false;
        }
        message.encode(&mut outbox.messages);
        std::mem::take(&mut outbox.idle)
    }

    /// Has the writer look for something to upload; true as for [`put`](Self::put).
    #[must_use]
    pub fn put_upload(&self) -> bool {
        let mut outbox = lock(&self.outbox);
        outbox.upload = true;
        std::mem::take(&mut outbox.idle)
    }

    /// Has the writer send what was put.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ends the connection: both its threads notice.
    pub fn close(&self) {
        lock(&self.outbox).closed = true;
        self.wake.notify_one();
        // It may be gone already; there is nothing else to do about it then.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The connection is at its end, or soon will be.
    pub fn is_closed(&self) -> bool {
        lock(&self.outbox).closed
    }

    /// Waits for something to send: fills `messages`, says whether to look for an upload; none when closed.
    pub fn next(&self, messages: &mut Vec<u8>) -> Option<bool> {
        messages.clear();
        let mut outbox = lock(&self.outbox);
        loop {
            if outbox.closed {
                return None;
            }
            if !outbox.messages.is_empty() || outbox.upload {
                std::mem::swap(messages, &mut outbox.messages);
                return Some(std::mem::take(&mut outbox.upload));
            }
            outbox.idle = true;
            let (guard, timeout) =
                self.wake.wait_timeout(outbox, KEEP_ALIVE).unwrap_or_else(|poisoned| poisoned.into_inner());
            outbox = guard;
            outbox.idle = false;
            if timeout.timed_out() {
                Message::KeepAlive.encode(&mut outbox.messages);
            }
        }
    }

    /// Takes what was queued meanwhile, so that it is not held up by a long upload.
    pub fn take_queued(&self, messages: &mut Vec<u8>) -> bool {
        let mut outbox = lock(&self.outbox);
        messages.append(&mut outbox.messages);
        !outbox.closed
    }
}
