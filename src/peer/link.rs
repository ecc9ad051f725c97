//! The sending half of a connection: what waits to be sent, and the thread that sends it.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::lock;
use super::pex::Gossip;
use super::session::Shared;
use super::torrent::Torrent;
use super::wire::{Message, PIECE_HEADER};
use crate::swarm::{Block, PeerKey};
use crate::sys;
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
    fn next(&self, messages: &mut Vec<u8>) -> Option<bool> {
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
    fn take_queued(&self, messages: &mut Vec<u8>) -> bool {
        let mut outbox = lock(&self.outbox);
        messages.append(&mut outbox.messages);
        !outbox.closed
    }
}

/// Sends what the swarm decides until the connection ends.
///
/// # Errors
/// What sending gave. A file that is shorter than the torrent says ends the torrent.
pub fn write_loop(shared: &Shared, torrent: &Arc<Torrent>, link: &Link, key: PeerKey) -> io::Result<()> {
    let mut messages = Vec::with_capacity(4096);
    while let Some(upload) = link.next(&mut messages) {
        while upload && let Some(block) = torrent.next_upload(key) {
            if !link.take_queued(&mut messages) {
                return Ok(());
            }
            #[cfg(test)]
            assert_ne!(block.length, 666, "a test's panic");
            put_header(block, &mut messages);
            shared.up.pass(&torrent.shares.0, u64::from(block.length));
            if torrent.storage().is_guarded() {
                put_block(torrent, block, &mut messages)?;
                io::Write::write_all(&mut &link.stream, &messages)?;
            } else {
                sys::io::send_more(&link.stream, &messages)?;
                send_block(torrent, link, block)?;
            }
            messages.clear();
        }
        if !messages.is_empty() {
            io::Write::write_all(&mut &link.stream, &messages)?;
        }
    }
    Ok(())
}

fn put_header(block: Block, out: &mut Vec<u8>) {
    let at = out.len();
    Message::Piece { piece: block.piece, begin: block.begin, data: &[] }.encode(out);
    out[at..at + 4].copy_from_slice(&(block.length + PIECE_HEADER as u32 - 4).to_be_bytes());
}

/// Appends the block's data, which is known to be what it was when it was verified. Sent from the page cache instead,
/// it could still change on its way.
fn put_block(torrent: &Torrent, block: Block, out: &mut Vec<u8>) -> io::Result<()> {
    let offset = torrent.geometry().piece_offset(block.piece) + u64::from(block.begin);
    let at = out.len();
    out.resize(at + block.length as usize, 0);
    torrent.storage().read(offset, &mut out[at..]).inspect_err(|error| {
        torrent.fail(format!("seed {}: its data is no longer what was verified: {error}", torrent.name()));
    })
}

fn send_block(torrent: &Arc<Torrent>, link: &Link, block: Block) -> io::Result<()> {
    let offset = torrent.geometry().piece_offset(block.piece) + u64::from(block.begin);
    for segment in torrent.storage().segments(offset, u64::from(block.length)) {
        match segment.file {
            Some(file) => {
                sys::io::send_file(&link.stream, file, segment.offset, segment.length).inspect_err(|error| {
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        torrent.fail(format!("seed {}: shorter than its torrent says", torrent.name()));
                    }
                })?
            }
            None => {
                let zeros = vec![0; segment.length as usize];
                sys::io::send_more(&link.stream, &zeros)?;
            }
        }
    }
    Ok(())
}
