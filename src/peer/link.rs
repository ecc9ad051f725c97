//! A connection as the torrent sees it, with its queue of messages to send.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use super::limiter::Share;
use super::pex::Gossip;
use super::wire::Message;
use crate::base::sync::{lock, unpoisoned};
use crate::torrent::PeerId;

/// Maximum size of the messages that wait for a peer that does not read, bytes. Besides the reader's buffer, this is
/// the memory that a connection can take.
const BACKLOG: usize = 256 << 10;
/// Time without a message after which a keep-alive is sent (BEP 3: at most two minutes).
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A connection as the rest of the session sees it.
#[derive(Debug)]
pub struct Link {
    pub stream: TcpStream,
    /// Address of the other end.
    pub address: SocketAddr,
    /// Address at which the other end accepts connections, if known.
    pub listens: Mutex<Option<SocketAddr>>,
    pub peer_id: PeerId,
    /// Whether we dialled.
    pub dialled: bool,
    /// Whether the peer speaks BEP 6.
    pub fast: bool,
    /// Whether the peer speaks BEP 10.
    pub extended: bool,
    /// Its address' share of what the torrent may send; set when it is admitted.
    pub share: OnceLock<Arc<Share>>,
    /// The exchange of addresses with the peer.
    pub gossip: Mutex<Gossip>,
    outbox: Mutex<Outbox>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Outbox {
    messages: Vec<u8>,
    upload: bool,
    closed: bool,
    /// Whether the writer waits and has not been promised a wake-up.
    idle: bool,
}

impl Link {
    /// Creates the link of a connection whose handshake is done.
    pub fn new(
        stream: TcpStream,
        address: SocketAddr,
        peer_id: PeerId,
        dialled: bool,
        fast: bool,
        extended: bool,
    ) -> Link {
        let listens = Mutex::new(dialled.then_some(address));
        let (share, gossip, outbox, wake) = (OnceLock::new(), Mutex::default(), Mutex::default(), Condvar::new());
        Link { stream, address, listens, peer_id, dialled, fast, extended, share, gossip, outbox, wake }
    }

    /// Queues a message, or closes the connection of a peer that does not read. Returns true if the writer waits and
    /// must be woken by [`wake`](Self::wake): once for many messages, as each wake-up costs a system call and a packet.
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

    /// Makes the writer look for something to upload; returns what [`put`](Self::put) does.
    #[must_use]
    pub fn put_upload(&self) -> bool {
        let mut outbox = lock(&self.outbox);
        outbox.upload = true;
        std::mem::take(&mut outbox.idle)
    }

    /// Wakes the writer to send what was put.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ends the connection; both its threads notice.
    pub fn close(&self) {
        lock(&self.outbox).closed = true;
        self.wake.notify_one();
        // Fails only if the connection is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether the connection has ended or is about to.
    pub fn is_closed(&self) -> bool {
        lock(&self.outbox).closed
    }

    /// Waits for something to send: fills `messages` and returns whether to look for an upload; `None` when closed.
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
            let (guard, timeout) = unpoisoned(self.wake.wait_timeout(outbox, KEEP_ALIVE));
            outbox = guard;
            outbox.idle = false;
            if timeout.timed_out() {
                Message::KeepAlive.encode(&mut outbox.messages);
            }
        }
    }

    /// Appends what was queued meanwhile, so that a long upload does not delay it; returns false when closed.
    pub fn take_queued(&self, messages: &mut Vec<u8>) -> bool {
        let mut outbox = lock(&self.outbox);
        messages.append(&mut outbox.messages);
        !outbox.closed
    }
}
