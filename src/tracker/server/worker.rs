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
use std::sync::Arc;
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
/// Most bytes of a pending reply sent before the others get their turn.
const PART: usize = 256 << 10;
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
    /// What epoll waits for.
    interest: epoll::EventFlags,
    /// The request in `partial` waits for its page to be rendered; nothing is read meanwhile.
    parked: bool,
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
    head: Vec<u8>,
    body: Arc<Vec<u8>>,
    sent: usize,
    total: &'a AtomicUsize,
}

impl<'a> Pending<'a> {
    fn new(head: Vec<u8>, body: Arc<Vec<u8>>, total: &'a AtomicUsize) -> Pending<'a> {
        total.fetch_add(head.len() + body.len(), Ordering::Relaxed);
        Pending { head, body, sent: 0, total }
    }

    fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The next bytes to be sent; none if all are.
    fn part(&self) -> &[u8] {
        let rest = match self.sent.checked_sub(self.head.len()) {
            None => &self.head[self.sent..],
            Some(sent) => &self.body[sent..],
        };
        &rest[..rest.len().min(PART)]
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.total.fetch_sub(self.length(), Ordering::Relaxed);
    }
}

/// The next action on a connection.
#[derive(PartialEq, Eq)]
enum Next {
    Read,
    Write,
    /// Wait for a page.
    Park,
    Close,
}

impl Next {
    fn interest(&self) -> epoll::EventFlags {
        match self {
            Next::Read => epoll::EventFlags::IN,
            Next::Write => epoll::EventFlags::OUT,
            Next::Park | Next::Close => epoll::EventFlags::empty(),
        }
    }
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
    large: Option<Arc<Vec<u8>>>,
    /// Whether a connection may be parked.
    parked: bool,
    /// The number of pages rendered when parked connections last got their turn.
    rendered: u32,
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
            large: None,
            parked: false,
            rendered: 0,
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
        while !self.shared.ending.load(Ordering::Relaxed) {
            let patience = Timespec { tv_sec: 0, tv_nsec: if self.parked { 20_000_000 } else { 250_000_000 } };
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
            self.resume_parked();
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
            at => self.wake(at as usize, false),
        }
    }

    /// Logs a panic, drops what it may have left half written and makes anew what it may have lost.
    fn survive(&mut self, panicked: &Panicked) {
        self.shared.service.log.note(&format!("**error** {panicked}"));
        self.scratch = Scratch::default();
        self.output.clear();
        self.large = None;
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
                interest: epoll::EventFlags::IN,
                parked: false,
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
        connection.interest = next.interest();
        let data = epoll::EventData::new_u64(at as u64);
        if epoll::add(&self.epoll, &connection.socket, data, connection.interest).is_err() {
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

    /// Gives parked connections another turn if a page has been rendered since the last.
    fn resume_parked(&mut self) {
        let rendered = self.shared.service.pages.rendered();
        if !self.parked || rendered == self.rendered {
            return;
        }
        (self.parked, self.rendered) = (false, rendered);
        for at in 0..self.connections.len() {
            if self.connections[at].as_ref().is_some_and(|connection| connection.parked)
                && let Err(panicked) = guard("serve a connection", || self.wake(at, true))
            {
                self.survive(&panicked);
                self.free_slot(at as u64);
            }
        }
    }

    /// Handles a connection that can be read or written, or is `resumed`.
    fn wake(&mut self, at: usize, resumed: bool) {
        // An earlier event may have evicted it.
        let Some(mut connection) = self.connections.get_mut(at).and_then(Option::take) else { return };
        // Of a parked one epoll reports nothing but its end.
        let over = connection.parked && connection.interest.is_empty() && !resumed;
        let next = if over { Next::Close } else { self.converse(&mut connection) };
        let mut kept = next != Next::Close;
        if kept && next.interest() != connection.interest {
            connection.interest = next.interest();
            let data = epoll::EventData::new_u64(at as u64);
            kept = epoll::modify(&self.epoll, &connection.socket, data, connection.interest).is_ok();
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
            if connection.parked && connection.pending.is_none() {
                self.digest_partial(connection);
            }
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
            if connection.parked {
                return Next::Park;
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
            let idle = connection.pending.is_none() && !connection.closing;
            if idle && (connection.parked || got < INPUT) {
                return if connection.parked { Next::Park } else { Next::Read };
            }
        }
        match (connection.pending.is_none(), connection.closing) {
            (false, _) => Next::Write,
            (true, true) => finish(connection),
            (true, false) if connection.parked => Next::Park,
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
        crate::base::boundary::panic_if_asked("connection", &input[..input.len().min(256)]);
        let mut output = std::mem::take(&mut self.output);
        let mut taken = 0;
        connection.parked = false;
        while taken < input.len() && connection.pending.is_none() && !connection.closing && !connection.parked {
            output.clear();
            let before = taken;
            taken += self.answer_some(connection, &input[taken..], &mut output);
            let large = self.large.take();
            match send_all(&connection.socket, &output) {
                Some(sent) if sent < output.len() || large.is_some() => {
                    self.keep_pending(connection, output[sent..].to_vec(), large.unwrap_or_default());
                }
                Some(_) => {}
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
        while taken < input.len() && output.len() < OUTPUT && self.large.is_none() && !connection.closing {
            match Head::read(&input[taken..]) {
                Ok(None) => break,
                Ok(Some((head, length))) => {
                    let asker = connection.peer.ip();
                    if shared.service.page_waits(&head, asker) {
                        (connection.parked, self.parked) = (true, true);
                        break;
                    }
                    let mut body = 0;
                    let made = match head.method {
                        Method::Put | Method::Post => {
                            match shared.service.body_length(&head, asker, &input[taken + length..]) {
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
                            }
                        }
                        _ => self.answered(|service, now, scratch| service.answer(&head, asker, now, scratch)),
                    };
                    taken += length + body;
                    // After an unread body no request can be found.
                    let unread = body == 0 && head.header("content-length").is_some_and(|length| length != b"0");
                    let stays = head.keeps_alive() && !unread;
                    // As for HEAD, the head alone: a long body is sent from where it is.
                    let long = made.bytes().len() > INPUT && head.method != Method::Head;
                    let method = if long { Method::Head } else { head.method };
                    connection.closing = !made.reply().write(method, head.version, stays, made.bytes(), output);
                    self.log(connection, &head, &made);
                    match long {
                        true => self.large = Some(made.into_shared()),
                        false => self.keep_body(made.body),
                    }
                    connection.served = true;
                    connection.deadline = self.deadline();
                }
                Err(malformed) => {
                    let made = Made::malformed(malformed);
                    made.reply().write(Method::Get, Version::V10, false, made.bytes(), output);
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
    fn keep_pending(&mut self, connection: &mut Connection<'a>, head: Vec<u8>, body: Arc<Vec<u8>>) {
        let total = &self.shared.pending;
        // Ends once this worker has none to close; those of other workers are out of reach.
        let length = head.len() + body.len();
        while total.load(Ordering::Relaxed) + length > PENDING && self.evict_where(|one| one.pending.is_some()) {}
        connection.pending = Some(Pending::new(head, body, total));
        connection.deadline = self.now.saturating_add(REPLY_TIMEOUT);
    }

    fn send_pending(&mut self, connection: &mut Connection<'a>) -> Next {
        let Some(pending) = &mut connection.pending else { return Next::Read };
        match send_all(&connection.socket, pending.part()) {
            None => Next::Close,
            Some(sent) => {
                pending.sent += sent;
                if pending.sent < pending.length() {
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
            length: made.bytes().len(),
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
