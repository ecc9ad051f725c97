//! The sending half of a connection: the thread that sends messages and blocks.

use std::io::{self, Write};
use std::sync::Arc;

use super::limiter::Share;
use super::link::Link;
use super::shared::Shared;
use super::torrent::Torrent;
use super::wire::{Message, PIECE_HEADER};
use crate::swarm::{Block, PeerKey};
use crate::sys;

/// Unsent bytes that a connection may hold while a limit is in force, so that a peer that does not read is charged with few
/// that nobody else gets.
const UNSENT: i32 = 64 << 10;

/// Sends what the swarm decides until the connection ends.
///
/// # Errors
/// Sending or reading a block failed. A file that is shorter than the torrent says also ends the torrent.
pub fn run(shared: &Shared, torrent: &Arc<Torrent>, link: &Link, key: PeerKey) -> io::Result<()> {
    let mut messages = Vec::with_capacity(4096);
    let share = link.share.get().cloned().unwrap_or_else(|| Arc::new(Share::default()));
    let mut narrow = false;
    while let Some(upload) = link.next(&mut messages) {
        while upload && let Some(block) = torrent.next_upload(key) {
            if !link.take_queued(&mut messages) {
                return Ok(());
            }
            #[cfg(test)]
            assert_ne!(block.length, 666, "a test's panic");
            put_header(block, &mut messages);
            if shared.up.rate() > 0 {
                if !std::mem::replace(&mut narrow, true) {
                    // Without it, such a peer is charged with as many as the socket takes.
                    let _ = sys::tcp::limit_unsent(&link.stream, UNSENT);
                }
                torrent.with(|state, now| state.swarm.hold(now, key, true));
                shared.up.pass(&torrent.shares.0, &share, u64::from(block.length));
                torrent.with(|state, now| state.swarm.hold(now, key, false));
            }
            if torrent.storage().is_guarded() {
                put_block(torrent, block, &mut messages)?;
                (&link.stream).write_all(&messages)?;
            } else {
                sys::io::send_more(&link.stream, &messages)?;
                send_block(torrent, link, block)?;
            }
            messages.clear();
        }
        if !messages.is_empty() {
            (&link.stream).write_all(&messages)?;
        }
    }
    Ok(())
}

fn put_header(block: Block, out: &mut Vec<u8>) {
    let at = out.len();
    Message::Piece { piece: block.piece, begin: block.begin, data: &[] }.encode(out);
    out[at..at + 4].copy_from_slice(&(block.length + PIECE_HEADER as u32 - 4).to_be_bytes());
}

/// Appends the block's data, checked to be unchanged since it was verified. Sent from the page cache instead, it could
/// still change on its way.
fn put_block(torrent: &Torrent, block: Block, out: &mut Vec<u8>) -> io::Result<()> {
    let offset = torrent.geometry().piece_offset(block.piece) + u64::from(block.begin);
    let at = out.len();
    out.resize(at + block.length as usize, 0);
    torrent.storage().read(offset, &mut out[at..]).inspect_err(|error| {
        torrent.fail(format!("seed {}: its data has changed since it was verified: {error}", torrent.name()));
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
