//! The receiving half of a connection, from its handshake to its end.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::doorway::Guest;
use super::limiter::Share;
use super::link::Link;
use super::shared::Shared;
use super::state::{self, State};
use super::torrent::Torrent;
use super::wire::{self, HANDSHAKE, Handshake, Message};
use super::{extension, pex, sender, spawn, survive};
use crate::base::sync::lock;
use crate::swarm::{Block, Offence, PeerKey, Verdict};
use crate::sys;
use crate::torrent::{BLOCK, Bitfield, InfoHash};

/// Time allowed to connect, and to finish the handshake.
const PATIENCE: Duration = Duration::from_secs(8);
/// Time without even a keep-alive after which a peer is taken for gone (BEP 3: a little over two minutes).
const SILENCE: Duration = Duration::from_secs(150);
/// Interval at which a silent peer is checked.
const LOOK: Duration = Duration::from_secs(5);
/// Maximum number of bytes received at once, …
const RECEIVE: usize = 256 << 10;
/// … and from a peer that fills that. Each call acknowledges the data, which makes the sender send in small parts, and
/// then moves an incomplete block. Receiving and writing take both ends 1.15 CPU seconds a GiB with 256 KiB and 0.97
/// with 1 MiB; splice(2) into the file would take 0.93, but messages would have to be parsed within a pipe.
const RECEIVE_FAST: usize = 1 << 20;
/// Maximum number of consecutive blocks written at once: as many as fit in a buffer.
const ROW: usize = RECEIVE_FAST / BLOCK as usize;
/// Maximum number of connections with a buffer of [`RECEIVE_FAST`] bytes at a time.
const FAST: usize = 16;

/// The reason why a connection ended.
enum End {
    /// The socket failed or was closed.
    Io,
    /// The peer broke the protocol.
    Wire(wire::Error),
    /// The peer broke the swarm's rules.
    Offence(Offence),
    /// Our own files failed.
    Storage,
    /// Handling a message panicked, as the log says.
    Panicked,
    /// The connection was not wanted.
    Refused(&'static str),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Io
    }
}

/// Dials `address` and serves the connection to its end.
pub fn dial(shared: &Arc<Shared>, torrent: &Arc<Torrent>, address: SocketAddr) {
    let end = survive("dial a peer", &shared.log, || dial_and_talk(shared, torrent, address)).unwrap_or(End::Panicked);
    let (failed, forget) = match &end {
        End::Refused(LATE) | End::Io => (true, false),
        End::Refused(why) => (false, *why == OURSELVES),
        _ => (false, false),
    };
    torrent.with(
        |state, now| {
            if forget { state.roster.forget(address) } else { state.roster.gone(now, address, failed, false) }
        },
    );
    report(shared, address, end);
}

const OURSELVES: &str = "it is this very session";
const LATE: &str = "it did not finish its handshake in time";
/// Refusals that are not logged, as every swarm has many.
const USUAL: [&str; 4] = [OURSELVES, state::CLOSED, state::ENOUGH, state::TWICE];

fn dial_and_talk(shared: &Arc<Shared>, torrent: &Arc<Torrent>, address: SocketAddr) -> End {
    let open = || -> Result<(TcpStream, Handshake), End> {
        let mut stream = sys::net::dial(shared.bind, address, PATIENCE)?;
        sys::net::tune(&stream, PATIENCE)?;
        stream.write_all(&ours(shared, torrent.info_hash()))?;
        let mut bytes = [0; HANDSHAKE];
        read_until(&mut stream, &mut bytes, Instant::now() + PATIENCE)?;
        Ok((stream, Handshake::decode(&bytes).map_err(End::Wire)?))
    };
    match open() {
        Ok((stream, theirs)) => talk(shared, torrent, stream, address, theirs, true),
        Err(end) => end,
    }
}

/// Serves an incoming connection to its end; it is in the doorway as `guest` until its handshake is done.
pub fn answer(shared: &Arc<Shared>, mut stream: TcpStream, address: SocketAddr, guest: Guest) {
    let mut torrent = None;
    let greeted = greet(shared, &mut stream, &mut torrent);
    drop(guest);
    let end = match (torrent, greeted) {
        (Some(torrent), Ok(theirs)) => talk(shared, &torrent, stream, address, theirs, false),
        (_, Err(end)) => end,
        (None, Ok(_)) => return,
    };
    report(shared, address, end);
}

/// Reads a handshake and answers it. Ours is sent as soon as the info-hash is known: a tracker that only checks whether
/// we can be reached never sends the rest.
fn greet(shared: &Shared, stream: &mut TcpStream, torrent: &mut Option<Arc<Torrent>>) -> Result<Handshake, End> {
    sys::net::tune(stream, PATIENCE)?;
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = [0; HANDSHAKE];
    read_until(stream, &mut bytes[..48], deadline)?;
    let asked = Handshake::decode(&bytes).map_err(End::Wire)?;
    let found = torrent.insert(shared.torrent(&asked.info_hash).ok_or(End::Refused("it wants another torrent"))?);
    stream.write_all(&ours(shared, found.info_hash()))?;
    read_until(stream, &mut bytes[48..], deadline)?;
    Handshake::decode(&bytes).map_err(End::Wire)
}

/// Fills `bytes` before `deadline`, however slowly they come.
fn read_until(stream: &mut TcpStream, mut bytes: &mut [u8], deadline: Instant) -> Result<(), End> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(End::Refused(LATE));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(bytes) {
            Ok(0) => return Err(End::Io),
            Ok(read) => bytes = &mut bytes[read..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn ours(shared: &Shared, info_hash: InfoHash) -> [u8; HANDSHAKE] {
    Handshake { info_hash, peer_id: shared.id, fast: true, extended: true }.encode()
}

fn talk(
    shared: &Arc<Shared>,
    torrent: &Arc<Torrent>,
    stream: TcpStream,
    address: SocketAddr,
    theirs: Handshake,
    dialled: bool,
) -> End {
    if theirs.info_hash != torrent.info_hash() {
        return End::Refused("it answered for a different torrent");
    }
    if theirs.peer_id == shared.id {
        return End::Refused(OURSELVES);
    }
    let reading = match stream.try_clone() {
        Ok(reading) => reading,
        Err(error) => return error.into(),
    };
    let link = Arc::new(Link::new(stream, address, theirs.peer_id, dialled, theirs.fast, theirs.extended));
    let key = match torrent.join(&link, shared.id) {
        Ok(key) => key,
        Err(why) => return End::Refused(why),
    };
    let writer = (shared.clone(), torrent.clone(), link.clone());
    let started = spawn("send", &shared.log, move || {
        let (shared, torrent, link) = writer;
        // The reader learns of it from the socket.
        let _ = survive("send to a peer", &shared.log, || sender::run(&shared, &torrent, &link, key));
        link.close();
    });
    let _joined = Joined { torrent, link: &link, key };
    let mut reader = Reader { shared, torrent, link: &link, key, stored: Vec::new() };
    if !started {
        return End::Refused("no more threads are available");
    }
    // The place in the swarm is given up outside the guard: a second panic while the first unwinds would end the process.
    survive("read from a peer", &shared.log, || reader.run(reading)).unwrap_or(End::Panicked)
}

/// A place in the swarm, given up whichever way the connection's thread ends.
struct Joined<'a> {
    torrent: &'a Arc<Torrent>,
    link: &'a Link,
    key: PeerKey,
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.link.close();
        self.torrent.leave(self.key, self.link);
    }
}

fn report(shared: &Shared, address: SocketAddr, end: End) {
    match end {
        End::Io | End::Storage | End::Panicked => {}
        End::Wire(error) => (shared.log)(&format!("{address}: dropped: {error}")),
        End::Offence(offence) => (shared.log)(&format!("{address}: dropped: {offence}")),
        End::Refused(why) if USUAL.contains(&why) => {}
        End::Refused(why) => (shared.log)(&format!("{address}: refused: {why}")),
    }
}

/// A place among the [`FAST`] connections, given up when dropped.
struct Fast<'a>(&'a AtomicUsize);

impl Fast<'_> {
    fn take(taken: &AtomicUsize) -> Option<Fast<'_>> {
        let fast = Fast(taken);
        // If there is no place left, dropping `fast` undoes the addition.
        (taken.fetch_add(1, Ordering::Relaxed) < FAST).then_some(fast)
    }
}

impl Drop for Fast<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Reader<'a> {
    shared: &'a Shared,
    torrent: &'a Arc<Torrent>,
    link: &'a Link,
    key: PeerKey,
    /// Blocks to write, with the offset of each in the buffer.
    stored: Vec<(Block, usize)>,
}

impl Reader<'_> {
    fn run(&mut self, mut stream: TcpStream) -> End {
        let bitfield = self.torrent.geometry().pieces().div_ceil(8) as usize;
        // Pages are allocated only when data is received into them.
        let mut buffer = vec![0; RECEIVE_FAST.max(wire::max_frame(bitfield) + 4)];
        let mut most = RECEIVE.max(wire::max_frame(bitfield) + 4);
        let mut fast = None;
        let (mut start, mut end) = (0, 0);
        let look = LOOK.min(self.shared.stalled);
        if stream.set_read_timeout(Some(look)).is_err() {
            return End::Io;
        }
        let mut silent = Duration::ZERO;
        loop {
            if start == end {
                (start, end) = (0, 0);
            } else if end > most / 2 {
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
            }
            match stream.read(&mut buffer[end..most]) {
                Ok(0) => return End::Io,
                Ok(received) => {
                    silent = Duration::ZERO;
                    if received == most - end && fast.is_none() {
                        fast = Fast::take(&self.shared.fast);
                        most = if fast.is_some() { buffer.len() } else { most };
                    }
                    end += received;
                    self.shared.down.pass(&self.torrent.shares.1, &Share::default(), received as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && silent < SILENCE => {
                    silent += look;
                    if silent >= self.shared.stalled && self.torrent.with(|state, _| state.swarm.is_owed(self.key)) {
                        return End::Offence(Offence::Stalled);
                    }
                    continue;
                }
                Err(_) => return End::Io,
            }
            match self.take_in(&buffer[..end], start, bitfield) {
                Ok(taken) => start = taken,
                Err(end) => return end,
            }
        }
    }

    /// Handles the complete messages in `buffer` from `start`; returns the offset of the first incomplete one.
    fn take_in(&mut self, buffer: &[u8], mut start: usize, bitfield: usize) -> Result<usize, End> {
        let torrent = self.torrent;
        let result = torrent.with(|state, now| {
            while let Some((message, taken)) = Message::decode(&buffer[start..], bitfield).map_err(End::Wire)? {
                let data = start + wire::PIECE_HEADER;
                self.handle(state, now, message, data).map_err(End::Offence)?;
                start += taken;
            }
            Ok(start)
        });
        // Accepted blocks must be written and reported even if a later message ended the connection: the swarm
        // waits for them.
        self.write(buffer)?;
        result
    }

    fn write(&mut self, buffer: &[u8]) -> Result<(), End> {
        let geometry = *self.torrent.geometry();
        let mut at = 0;
        while at < self.stored.len() {
            // Consecutive blocks are written in one call.
            let offset_of = |block: &Block| geometry.piece_offset(block.piece) + u64::from(block.begin);
            let offset = offset_of(&self.stored[at].0);
            let mut next = offset;
            let mut parts = [IoSlice::new(&[]); ROW];
            let mut row = 0;
            for (part, (block, from)) in parts.iter_mut().zip(&self.stored[at..]) {
                if offset_of(block) != next {
                    break;
                }
                *part = IoSlice::new(&buffer[*from..][..block.length as usize]);
                next += u64::from(block.length);
                row += 1;
            }
            if let Err(error) = self.torrent.storage().write(offset, &mut parts[..row]) {
                self.stored.clear();
                self.torrent.fail(error.to_string());
                return Err(End::Storage);
            }
            at += row;
        }
        if !self.stored.is_empty() {
            let (key, stored) = (self.key, &mut self.stored);
            self.torrent.with(|state, now| stored.drain(..).for_each(|(block, _)| state.swarm.stored(now, key, block)));
        }
        Ok(())
    }

    /// Passes a message on to the swarm; `data` is the offset in the buffer of the data of a piece message.
    fn handle(&mut self, state: &mut State, now: Duration, message: Message, data: usize) -> Result<(), Offence> {
        let (swarm, key) = (&mut state.swarm, self.key);
        match message {
            Message::KeepAlive | Message::Other(_) => Ok(()),
            Message::Choke => {
                swarm.choke(now, key);
                Ok(())
            }
            Message::Unchoke => {
                swarm.unchoke(now, key);
                Ok(())
            }
            Message::Interested | Message::NotInterested => {
                swarm.interested(now, key, message == Message::Interested);
                Ok(())
            }
            Message::Have(piece) => swarm.have_piece(now, key, piece),
            Message::Bitfield(bits) => {
                let bits = Bitfield::from_bytes(swarm.geometry().pieces(), bits).map_err(|_| Offence::BadBitfield)?;
                swarm.bitfield(now, key, bits)
            }
            Message::HaveAll => swarm.bitfield(now, key, Bitfield::full(swarm.geometry().pieces())),
            Message::HaveNone => swarm.bitfield(now, key, Bitfield::new(swarm.geometry().pieces())),
            Message::Request(block) => swarm.request(now, key, block),
            Message::Cancel(block) => swarm.cancel(key, block),
            Message::Reject(block) => swarm.rejected(now, key, block),
            Message::Piece { piece, begin, data: bytes } => {
                let block = Block { piece, begin, length: bytes.len() as u32 };
                if let Verdict::Store(part) = swarm.arrived(now, key, block)? {
                    self.stored.push((part, data + (part.begin - begin) as usize));
                }
                Ok(())
            }
            Message::Extended(extension::HANDSHAKE, payload) => {
                self.learn(state, now, payload);
                Ok(())
            }
            #[cfg(test)]
            Message::Extended(_, payload) if payload.starts_with(b"!panic") => panic!("a test's panic"),
            Message::Extended(pex::ID, payload) => {
                state.hear_of_peers(now, self.link, payload);
                Ok(())
            }
            Message::Extended(..) => Ok(()),
        }
    }

    fn learn(&self, state: &mut State, now: Duration, payload: &[u8]) {
        // A peer whose handshake is unreadable stays a stranger.
        let Ok(theirs) = extension::Handshake::decode(payload) else { return };
        state.swarm.learn(self.key, theirs.max_request, theirs.queue);
        if theirs.choosy {
            state.swarm.peer_is_choosy(self.key);
        }
        if let Some(upload_only) = theirs.upload_only {
            state.swarm.upload_only(now, self.key, upload_only);
        }
        lock(&self.link.gossip).learn(now, theirs.pex);
        if let Some(port) = theirs.port
            && !self.link.dialled
        {
            let listens = SocketAddr::new(self.link.address.ip().to_canonical(), port);
            *lock(&self.link.listens) = Some(listens);
            state.roster.connected(listens);
        }
    }
}
