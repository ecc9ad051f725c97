//! Datagrams in batches: one recvmmsg(2) takes those that wait, one sendmmsg(2) answers them.
//!
//! A busy tracker spends most of its time in the kernel; the saving is a system call a datagram. The calls are made
//! directly, because musl's sendmmsg sends the datagrams one by one.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// recvmmsg(2) and sendmmsg(2) on x86-64 and on machines that came after it.
const RECVMMSG: c_long = if cfg!(target_arch = "x86_64") { 299 } else { 243 };
const SENDMMSG: c_long = if cfg!(target_arch = "x86_64") { 307 } else { 269 };

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// MSG_WAITFORONE: a blocking receive waits for the first datagram only.
const WAIT_FOR_ONE: c_long = 0x10000;
const NO_FLAGS: c_long = 0;

/// Maximum number of datagrams in a batch.
const MOST: usize = 64;

/// `struct sockaddr_in6`, which has room for a `struct sockaddr_in` too.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Name {
    family: u16,
    port: [u8; 2],
    /// Flow of IPv6, address of IPv4.
    flow: [u8; 4],
    ip: [u8; 16],
    scope: u32,
}

/// The kernel's `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Part {
    base: *mut c_void,
    length: usize,
}

/// The kernel's `struct msghdr` on 64-bit machines.
#[repr(C)]
#[derive(Clone, Copy)]
struct Head {
    name: *mut c_void,
    name_length: c_int,
    parts: *mut Part,
    part_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

/// The kernel's `struct mmsghdr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    head: Head,
    /// Bytes received or sent.
    length: u32,
}

/// Room for a batch of datagrams and their answers, used again and again.
pub struct Batch {
    /// Length up to which a datagram is received whole, bytes.
    longest: usize,
    /// [`MOST`] places of that many bytes.
    input: Vec<u8>,
    /// Bytes and sender of each datagram received.
    received: Vec<(usize, Name)>,
    /// The answers, one after the other, to be sent by [`send`](Self::send).
    pub output: Vec<u8>,
    /// Range of an answer in `output`, and the datagram it answers.
    answers: Vec<(Range<usize>, usize)>,
}

impl Batch {
    /// Creates a batch for datagrams of at most `longest` bytes; longer ones are truncated.
    pub fn new(longest: usize) -> Batch {
        let (received, answers) = (Vec::with_capacity(MOST), Vec::with_capacity(MOST));
        Batch { longest, input: vec![0; MOST * longest], received, output: Vec::new(), answers }
    }

    /// Receives the datagrams waiting at `socket` in place of the last ones, and returns their number.
    ///
    /// # Errors
    /// The error of recvmmsg(2): `WouldBlock` if none waits.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received.clear();
        self.answers.clear();
        self.output.clear();
        let mut names = [Name::default(); MOST];
        let mut places = self.input.chunks_exact_mut(self.longest);
        let mut parts = [(); MOST].map(|()| match places.next() {
            Some(place) => Part { base: place.as_mut_ptr().cast(), length: place.len() },
            None => Part { base: null_mut(), length: 0 },
        });
        let mut messages = messages(&mut names, &mut parts);
        // SAFETY: `names`, `parts`, `messages` and the places in `input` live until it returns and have the given
        // lengths, nothing else refers to them meanwhile, and the kernel keeps none of the pointers.
        let got = unsafe {
            let none: *mut c_void = null_mut();
            syscall(RECVMMSG, socket.as_raw_fd(), messages.as_mut_ptr(), MOST, WAIT_FOR_ONE, none)
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let lengths = messages.iter().map(|message| (message.length as usize).min(self.longest));
        self.received.extend(lengths.zip(names).take(got));
        Ok(got)
    }

    /// The datagram number `at` and its sender.
    pub fn datagram(&self, at: usize) -> Option<(&[u8], SocketAddr)> {
        let (length, name) = self.received.get(at)?;
        let begin = at * self.longest;
        let port = u16::from_be_bytes(name.port);
        let ip = match name.family {
            AF_INET => IpAddr::V4(Ipv4Addr::from(name.flow)),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(name.ip)),
            _ => return None,
        };
        Some((self.input.get(begin..begin + length)?, SocketAddr::new(ip, port)))
    }

    /// Takes the bytes appended to `output` since the last answer as the answer to the datagram number `at`; returns
    /// their number.
    pub fn answer(&mut self, at: usize) -> usize {
        let begin = self.answers.last().map_or(0, |(range, _)| range.end);
        if self.answers.len() < MOST {
            self.answers.push((begin..self.output.len(), at));
        }
        self.output.len() - begin
    }

    /// Sends the answers. One that the socket refuses is skipped: its receiver will ask again.
    pub fn send(&mut self, socket: &UdpSocket) {
        let mut names = [Name::default(); MOST];
        let mut parts = [Part { base: null_mut(), length: 0 }; MOST];
        let mut count = 0;
        for (range, at) in self.answers.drain(..) {
            if let (Some(answer), Some((_, name))) = (self.output.get_mut(range), self.received.get(at)) {
                names[count] = *name;
                parts[count] = Part { base: answer.as_mut_ptr().cast(), length: answer.len() };
                count += 1;
            }
        }
        let mut messages = messages(&mut names, &mut parts);
        let mut rest = &mut messages[..count];
        while !rest.is_empty() {
            // SAFETY: as in `receive`; the answers lie in `output`, which is not touched until it returns.
            let sent = unsafe { syscall(SENDMMSG, socket.as_raw_fd(), rest.as_mut_ptr(), rest.len(), NO_FLAGS) };
            // A refused one is the first of the rest.
            let done = usize::try_from(sent).unwrap_or(1).clamp(1, rest.len());
            rest = &mut rest[done..];
        }
        self.output.clear();
    }
}

/// Message headers for as many datagrams as there are parts, with pointers to `names` and `parts`.
fn messages(names: &mut [Name; MOST], parts: &mut [Part; MOST]) -> [Message; MOST] {
    let mut pairs = names.iter_mut().zip(parts);
    [(); MOST].map(|()| {
        let (name, name_length, parts) = match pairs.next() {
            Some((name, part)) => {
                // An IPv4 socket takes only the shorter length.
                let length = if name.family == AF_INET { 16 } else { size_of::<Name>() };
                ((&raw mut *name).cast(), length as c_int, &raw mut *part)
            }
            None => (null_mut(), 0, null_mut()),
        };
        let (control, control_length, flags) = (null_mut(), 0, 0);
        let head = Head { name, name_length, parts, part_count: 1, control, control_length, flags };
        Message { head, length: 0 }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_datagram_of_a_batch_is_answered_to_its_sender() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(ip).unwrap();
            socket.set_nonblocking(true).unwrap();
            let askers: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind(ip).unwrap()).collect();
            let mut batch = Batch::new(8);
            assert_eq!(batch.receive(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            for round in 0..2 {
                for (n, asker) in askers.iter().enumerate() {
                    asker.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    asker.send_to(&b"longer than eight"[..n + 7 + round], socket.local_addr().unwrap()).unwrap();
                }
                let expected: Vec<(&[u8], SocketAddr)> = askers
                    .iter()
                    .enumerate()
                    .map(|(n, asker)| (&b"longer t"[..(n + 7 + round).min(8)], asker.local_addr().unwrap()))
                    .collect();
                assert_eq!(batch.receive(&socket).unwrap(), 3);
                let found: Vec<_> = (0..4).filter_map(|at| batch.datagram(at)).collect();
                assert_eq!(found, expected);
                // The second is not answered.
                for at in [0, 2] {
                    batch.output.extend_from_slice(&b"answer"[..4 + at]);
                    assert_eq!(batch.answer(at), 4 + at);
                }
                batch.send(&socket);
                let mut reply = [0; 16];
                assert_eq!(askers[0].recv(&mut reply).unwrap(), 4);
                assert_eq!(askers[2].recv(&mut reply).unwrap(), 6);
                assert_eq!(reply[..6], *b"answer");
                askers[1].set_nonblocking(true).unwrap();
                assert_eq!(askers[1].recv(&mut reply).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            }
        }
    }
}
