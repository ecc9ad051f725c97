//! A worker thread: it waits on an epoll instance for the shared listeners, the UDP sockets and the connections it has
//! accepted, and never blocks anywhere else.
//!
//! A connection costs a hundred bytes besides the kernel's share. Buffers belong to the worker and are reused; a
//! connection has one of its own only while a request is incomplete or a reply does not fit the socket. Slow clients
//! lose: a request must be complete within the socket timeout, a reply read within a minute, and if there are too many
//! connections the one nearest to its deadline is closed.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, acceptfrom_with, recv, send, shutdown};

use super::http::{Head, Method, Version};
use super::log::{self, Stamp};
use super::ration::Ration;
use super::service::{Made, Scratch, Service};
use crate::base::boundary::{Panicked, guard};
use crate::base::time::unix_seconds;
use crate::sys::datagrams::Batch;
use crate::tracker::udp::MAX_PACKET;

/// Most bytes read at once.
const INPUT: usize = 16 << 10;
/// Connections accepted before the others get their turn.
const TURN: usize = 64;
/// Reads from one connection before the others get their turn.
const READS: usize = 8;
/// Bytes of replies collected before they are sent.
const OUTPUT: usize = 256 << 10;
/// Most bytes of replies waiting for their readers, of all workers together, besides one reply of each: two pages of
/// 10,000 peers.
pub const PENDING: usize = 8 << 20;
/// Seconds within which a reply must be read.
const REPLY_TIMEOUT: u32 = 60;
/// Bytes of log collected by a worker before it passes them on.
const LINES: usize = 16 << 10;

const LISTENER: u64 = 1 << 63;
const DATAGRAMS: u64 = 1 << 62;

/// Shared by all workers.
pub struct Shared {
    /// Makes the replies.
    pub service: Service,
    /// Listening TCP sockets.
    pub listeners: Vec<OwnedFd>,
    /// UDP sockets.
    pub datagrams: Vec<UdpSocket>,
    /// Bytes of replies waiting for their readers.
    pub pending: AtomicUsize,
    /// Set when the workers are to end.
    pub ending: AtomicBool,
    /// Most connections of a worker.
    pub most_connections: usize,
}

struct Connection<'a> {
    socket: OwnedFd,
    peer: SocketAddr,
    /// The received part of an incomplete request.
    partial: Vec<u8>,
    /// The part of a reply that did not fit the socket.
    pending: Option<Pending<'a>>,
    /// Time at which the connection is closed.
    deadline: u32,
    /// Nothing is read any more; the connection is closed once `pending` is sent.
    closing: bool,
    /// Whether epoll waits for writing instead of reading.
    writes: bool,
    /// Whether a request was answered.
    served: bool,
    /// Whether a body was invited (Expect: 100-continue).
    invited: bool,
}

impl Connection<'_> {
    /// Sends `100 Continue`, once, to a client that waits for it.
    fn invite_body(&mut self, head: &Head, output: &mut Vec<u8>) {
        let waits = head.header("expect").is_some_and(|expect| expect.eq_ignore_ascii_case(b"100-continue"));
        if waits && !std::mem::replace(&mut self.invited, true) {
            output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }
}

/// A reply, or the rest of one, waiting for its reader; counted in `total` until dropped.
struct Pending<'a> {
    bytes: Vec<u8>,
    sent: usize,
    total: &'a AtomicUsize,
}

impl<'a> Pending<'a> {
    fn new(bytes: Vec<u8>, total: &'a AtomicUsize) -> Pending<'a> {
        total.fetch_add(bytes.len(), Ordering::Relaxed);
        Pending { bytes, sent: 0, total }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The next action on a connection.
#[derive(PartialEq, Eq)]
enum Next {
    Read,
    Write,
    Close,
}

/// The state of a worker thread.
pub struct Worker<'a> {
    shared: &'a Shared,
    epoll: OwnedFd,
    connections: Vec<Option<Connection<'a>>>,
    free: Vec<u32>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// A large body to be sent uncopied, after `output`.
    large: Vec<u8>,
    scratch: Scratch,
    batch: Batch,
    lines: Vec<u8>,
    ration: Ration,
    stamp: Stamp,
    /// The store's time.
    now: u32,
    /// Time of day.
    clock: i64,
    /// Second in which a malformed UDP packet was last logged.
    garbage: u32,
}

impl<'a> Worker<'a> {
    /// A worker that waits on the shared listeners and, if `datagrams`, on the UDP sockets.
    ///
    /// # Errors
    /// The error of epoll.
    pub fn new(shared: &'a Shared, datagrams: bool) -> io::Result<Worker<'a>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // A new connection wakes one worker, not all.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        for (at, listener) in shared.listeners.iter().enumerate() {
            epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER | at as u64), flags)?;
        }
        for (at, socket) in shared.datagrams.iter().enumerate().filter(|_| datagrams) {
            epoll::add(&epoll, socket, epoll::EventData::new_u64(DATAGRAMS | at as u64), flags)?;
        }
        let now = shared.service.store.now();
        Ok(Worker {
            shared,
            epoll,
            connections: Vec::new(),
            free: Vec::new(),
            input: Vec::with_capacity(INPUT),
            output: Vec::new(),
            large: Vec::new(),
            scratch: Scratch::default(),
            // One byte more than accepted, so that longer packets are noticed.
            batch: Batch::new(MAX_PACKET + 1),
            lines: Vec::new(),
            ration: Ration::default(),
            stamp: Stamp::default(),
            now,
            clock: unix_seconds(),
            garbage: 0,
        })
    }

    /// Answers requests until `ending` is set.
    ///
    /// # Errors
    /// The error of epoll.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        let patience = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
        while !self.shared.ending.load(Ordering::Relaxed) {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let now = self.shared.service.store.now();
            if now != self.now {
                self.now = now;
                self.clock = unix_seconds();
                self.close_overdue();
                self.ration.turn(self.stamp.at(self.clock), &mut self.lines);
                self.hand_in_lines();
            }
            for event in events.drain(..) {
                let data = event.data.u64();
                if let Err(panicked) = guard("serve a connection", || self.serve(data)) {
                    self.survive(&panicked);
                    self.free_slot(data);
                }
            }
            if self.lines.len() > LINES {
                self.hand_in_lines();
            }
        }
        self.ration.turn(self.stamp.at(self.clock), &mut self.lines);
        self.hand_in_lines();
        Ok(())
    }

    /// Does what an event asks for.
    fn serve(&mut self, data: u64) {
        match data {
            data if data & LISTENER != 0 => self.accept((data & !LISTENER) as usize),
            data if data & DATAGRAMS != 0 => self.answer_datagrams((data & !DATAGRAMS) as usize),
            at => self.wake(at as usize),
        }
    }

    /// Logs a panic, drops what it may have left half written and makes anew what it may have lost.
    fn survive(&mut self, panicked: &Panicked) {
        self.shared.service.log.note(&format!("**error** {panicked}"));
        self.scratch = Scratch::default();
        self.output.clear();
        self.large.clear();
        self.input.clear();
        self.input.reserve(INPUT);
    }

    /// Gives the place of a connection free that a panic closed.
    fn free_slot(&mut self, data: u64) {
        let lost = self.connections.get(data as usize).is_some_and(Option::is_none);
        if lost && !self.free.iter().any(|free| u64::from(*free) == data) {
            self.free.push(data as u32);
        }
    }

    fn hand_in_lines(&mut self) {
        if !self.lines.is_empty() {
            self.shared.service.log.append(&self.lines);
            self.lines.clear();
        }
    }

    fn accept(&mut self, listener: usize) {
        let shared = self.shared;
        let Some(listener) = shared.listeners.get(listener) else { return };
        for _ in 0..TURN {
            let (socket, peer) = match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(accepted) => accepted,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // A connection must be closed before the next can be accepted.
                    if !self.evict() {
                        return;
                    }
                    continue;
                }
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => continue,
                Err(_) => return,
            };
            let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
            let connection = Connection {
                socket,
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                partial: Vec::new(),
                pending: None,
                deadline: self.deadline(),
                closing: false,
                writes: false,
                served: false,
                invited: false,
            };
            self.admit(connection);
        }
    }

    fn deadline(&self) -> u32 {
        let timeout = self.shared.service.config.socket_timeout.as_secs();
        self.now.saturating_add(u32::try_from(timeout).unwrap_or(u32::MAX)).saturating_add(1)
    }

    /// Serves a new connection: most carry their request along and end with its answer.
    fn admit(&mut self, mut connection: Connection<'a>) {
        let next = self.converse(&mut connection);
        if next == Next::Close {
            return;
        }
        if self.connections.len() - self.free.len() >= self.shared.most_connections {
            self.evict();
        }
        let at = self.free.pop().unwrap_or(self.connections.len() as u32) as usize;
        connection.writes = next == Next::Write;
        let flags = if connection.writes { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        if epoll::add(&self.epoll, &connection.socket, epoll::EventData::new_u64(at as u64), flags).is_err() {
            if at < self.connections.len() {
                self.free.push(at as u32);
            }
            return;
        }
        if at == self.connections.len() {
            self.connections.push(Some(connection));
        } else {
            self.connections[at] = Some(connection);
        }
    }

    /// Handles a connection that can be read or written.
    fn wake(&mut self, at: usize) {
        // An earlier event may have evicted it.
        let Some(mut connection) = self.connections.get_mut(at).and_then(Option::take) else { return };
        let next = self.converse(&mut connection);
        let writes = next == Next::Write;
        let mut kept = next != Next::Close;
        if kept && writes != connection.writes {
            connection.writes = writes;
            let flags = if writes { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            kept = epoll::modify(&self.epoll, &connection.socket, epoll::EventData::new_u64(at as u64), flags).is_ok();
        }
        match kept {
            true => self.connections[at] = Some(connection),
            false => self.free.push(at as u32),
        }
    }

    /// Sends the pending reply, reads requests and answers them.
    fn converse(&mut self, connection: &mut Connection<'a>) -> Next {
        // A client that sends without pause gets another turn after the others.
        for _ in 0..READS {
            if connection.pending.is_some() {
                match self.send_pending(connection) {
                    Next::Read => {}
                    next => return next,
                }
                // Requests that arrived with the one whose reply was long.
                self.digest_partial(connection);
                if connection.pending.is_some() {
                    continue;
                }
            }
            if connection.closing {
                return finish(connection);
            }
            self.input.clear();
            let got = match recv(&connection.socket, spare_capacity(&mut self.input), RecvFlags::empty()) {
                Ok((0, _)) => return Next::Close,
                Ok((got, _)) => got,
                Err(Errno::AGAIN) => return Next::Read,
                Err(Errno::INTR) => continue,
                Err(_) => return Next::Close,
            };
            if connection.partial.is_empty() {
                let input = std::mem::take(&mut self.input);
                let taken = self.digest(connection, &input);
                connection.partial.extend_from_slice(&input[taken..]);
                self.input = input;
            } else {
                connection.partial.extend_from_slice(&self.input);
                self.digest_partial(connection);
            }
            if connection.pending.is_none() && !connection.closing && got < INPUT {
                return Next::Read;
            }
        }
        match (connection.pending.is_none(), connection.closing) {
            (false, _) => Next::Write,
            (true, true) => finish(connection),
            (true, false) => Next::Read,
        }
    }

    fn digest_partial(&mut self, connection: &mut Connection<'a>) {
        let mut input = std::mem::take(&mut connection.partial);
        let taken = self.digest(connection, &input);
        if taken < input.len() {
            input.drain(..taken);
            connection.partial = input;
        }
    }

    /// Answers the complete requests at the front of `input` while the replies fit the socket, and returns the number
    /// of bytes consumed: all of them if the connection is to be closed.
    fn digest(&mut self, connection: &mut Connection<'a>, input: &[u8]) -> usize {
        #[cfg(test)]
        crate::base::boundary::panic_if_asked("connection", input);
        let mut output = std::mem::take(&mut self.output);
        let mut taken = 0;
        while taken < input.len() && connection.pending.is_none() && !connection.closing {
            output.clear();
            let before = taken;
            taken += self.answer_some(connection, &input[taken..], &mut output);
            let mut rest = std::mem::take(&mut self.large);
            match send_all(&connection.socket, &output) {
                Some(sent) => {
                    rest.splice(0..0, output[sent..].iter().copied());
                    if !rest.is_empty() {
                        self.keep_pending(connection, rest);
                    }
                }
                None => connection.closing = true,
            }
            if taken == before {
                break;
            }
        }
        output.shrink_to(OUTPUT);
        self.output = output;
        if connection.closing { input.len() } else { taken }
    }

    /// Appends replies to the requests at the front of `input` to `output`, until that is large; returns the number of
    /// bytes consumed.
    fn answer_some(&mut self, connection: &mut Connection<'a>, input: &[u8], output: &mut Vec<u8>) -> usize {
        let shared = self.shared;
        let mut taken = 0;
        while taken < input.len() && output.len() < OUTPUT && self.large.is_empty() && !connection.closing {
            match Head::read(&input[taken..]) {
                Ok(None) => break,
                Ok(Some((head, length))) => {
                    let asker = connection.peer.ip();
                    let mut body = 0;
                    let made = match head.method {
                        Method::Put => match shared.service.body_length(&head, asker) {
                            Ok(wanted) => {
                                let Some(whole) = input[taken + length..].get(..wanted) else {
                                    connection.invite_body(&head, output);
                                    break;
                                };
                                body = wanted;
                                connection.invited = false;
                                self.answered(|service, _, _| service.put(&head, whole))
                            }
                            Err(refused) => refused,
                        },
                        _ => self.answered(|service, now, scratch| service.answer(&head, asker, now, scratch)),
                    };
                    taken += length + body;
                    // After an unread body no request can be found.
                    let unread = body == 0 && head.header("content-length").is_some_and(|length| length != b"0");
                    let stays = head.keeps_alive() && !unread;
                    // As for HEAD, the head alone: a long body is sent from where it is.
                    let long = made.body.len() > INPUT && head.method != Method::Head;
                    let method = if long { Method::Head } else { head.method };
                    connection.closing = !made.reply().write(method, head.version, stays, &made.body, output);
                    self.log(connection, &head, &made);
                    match long {
                        true => self.large = made.body,
                        false => self.keep_body(made.body),
                    }
                    connection.served = true;
                    connection.deadline = self.deadline();
                }
                Err(malformed) => {
                    let made = Made::malformed(malformed);
                    made.reply().write(Method::Get, Version::V10, false, &made.body, output);
                    self.log_closed(connection, &input[taken..], made.code);
                    connection.closing = true;
                }
            }
        }
        taken
    }

    /// Has the service answer a request; a panic answers 500.
    fn answered(&mut self, answer: impl FnOnce(&Service, u32, &mut Scratch) -> Made) -> Made {
        let (service, now, scratch) = (&self.shared.service, self.now, &mut self.scratch);
        guard("answer a request", || answer(service, now, scratch)).unwrap_or_else(|panicked| {
            self.survive(&panicked);
            Made::panicked()
        })
    }

    /// Keeps the buffer of a small body for reuse; that of a large one is freed.
    fn keep_body(&mut self, mut body: Vec<u8>) {
        if body.capacity() <= INPUT {
            body.clear();
            self.scratch.body = body;
        }
    }

    /// Keeps the rest of a reply for its reader. If too much is pending, connections nearest to their deadline are
    /// closed.
    fn keep_pending(&mut self, connection: &mut Connection<'a>, bytes: Vec<u8>) {
        let total = &self.shared.pending;
        // Ends once this worker has none to close; those of other workers are out of reach.
        while total.load(Ordering::Relaxed) + bytes.len() > PENDING && self.evict_where(|one| one.pending.is_some()) {}
        connection.pending = Some(Pending::new(bytes, total));
        connection.deadline = self.now.saturating_add(REPLY_TIMEOUT);
    }

    fn send_pending(&mut self, connection: &mut Connection<'a>) -> Next {
        let Some(pending) = &mut connection.pending else { return Next::Read };
        match send_all(&connection.socket, &pending.bytes[pending.sent..]) {
            None => Next::Close,
            Some(sent) => {
                pending.sent += sent;
                if pending.sent < pending.bytes.len() {
                    return Next::Write;
                }
                connection.pending = None;
                connection.deadline = self.deadline();
                Next::Read
            }
        }
    }

    /// Closes every connection past its deadline.
    fn close_overdue(&mut self) {
        for at in 0..self.connections.len() {
            if self.connections[at].as_ref().is_some_and(|connection| connection.deadline <= self.now) {
                self.close(at, 408);
            }
        }
    }

    /// Closes the connection nearest to its deadline; returns false if there is none.
    fn evict(&mut self) -> bool {
        self.evict_where(|_| true)
    }

    /// Like [`evict`](Self::evict), among the connections that `may_go`.
    fn evict_where(&mut self, may_go: impl Fn(&Connection) -> bool) -> bool {
        let open = self.connections.iter().enumerate();
        let deadlines = open.filter_map(|(at, one)| {
            let one = one.as_ref().filter(|one| may_go(one))?;
            Some((one.deadline, at))
        });
        match deadlines.min() {
            Some((_, at)) => {
                self.close(at, 503);
                true
            }
            None => false,
        }
    }

    /// Closes a connection and logs that, unless it was merely idle after its last answer.
    fn close(&mut self, at: usize, code: u16) {
        let Some(connection) = self.connections[at].take() else { return };
        self.free.push(at as u32);
        if !connection.served || !connection.partial.is_empty() || connection.pending.is_some() {
            self.log_closed(&connection, &connection.partial, code);
        }
    }

    fn log(&mut self, connection: &Connection, head: &Head, made: &Made) {
        let request = log::Request {
            ip: connection.peer.ip(),
            line: head.line,
            code: made.code,
            length: made.body.len(),
            referer: head.header("referer"),
            agent: head.header("user-agent"),
        };
        self.ration.log(&request, self.stamp.at(self.clock), &mut self.lines);
    }

    /// Logs the end of a connection without a complete request, with the start of what it sent.
    fn log_closed(&mut self, connection: &Connection, sent: &[u8], code: u16) {
        let line = sent.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or(b"-");
        let line = line[..line.len().min(200)].trim_ascii_end();
        let request = log::Request { ip: connection.peer.ip(), line, code, length: 0, referer: None, agent: None };
        self.ration.log(&request, self.stamp.at(self.clock), &mut self.lines);
    }

    fn answer_datagrams(&mut self, socket: usize) {
        let shared = self.shared;
        let Some(socket) = shared.datagrams.get(socket) else { return };
        let Ok(count) = self.batch.receive(socket) else { return };
        for at in 0..count {
            let Some((packet, from)) = self.batch.datagram(at) else { continue };
            let asker = SocketAddr::new(from.ip().to_canonical(), from.port());
            let (now, scratch, output) = (self.now, &mut self.scratch, &mut self.output);
            let answer = || shared.service.answer_udp(packet, asker, now, scratch, output);
            let answered = guard("answer a datagram", answer);
            let mut length = 0;
            let (line, code) = match answered {
                Ok(true) => {
                    self.batch.output.extend_from_slice(output);
                    length = self.batch.answer(at);
                    (self.scratch.line.trim_ascii_end(), 200)
                }
                Ok(false) if std::mem::replace(&mut self.garbage, self.now) == self.now => continue,
                Ok(false) => (&b"UDP garbage"[..], 400),
                Err(panicked) => {
                    self.survive(&panicked);
                    (&b"UDP"[..], 500)
                }
            };
            let request = log::Request { ip: asker.ip(), line, code, length, referer: None, agent: None };
            self.ration.log(&request, self.stamp.at(self.clock), &mut self.lines);
        }
        self.batch.send(socket);
    }
}

/// Sends as much of `bytes` as the socket accepts; `None` if it is broken.
fn send_all(socket: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match send(socket, &bytes[sent..], SendFlags::NOSIGNAL) {
            Ok(some) => sent += some,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(sent)
}

/// Closes a connection gracefully: the reply arrives even if input is left unread.
fn finish(connection: &Connection) -> Next {
    let _ = shutdown(&connection.socket, Shutdown::Write);
    Next::Close
}
