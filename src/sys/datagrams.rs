//! Datagrams in batches: one recvmmsg(2) takes those that wait, one sendmmsg(2) answers them.
//!
//! A busy tracker spends most of its time in the kernel; the saving is a system call a datagram. The calls are made
//! directly, because musl's sendmmsg sends the datagrams one by one.

#![allow(unsafe_code)]

use std::ffi::c_long;
use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use libc::{
    AF_INET, AF_INET6, MSG_WAITFORONE, SYS_recvmmsg, SYS_sendmmsg, iovec, mmsghdr, sa_family_t, sockaddr_in,
    sockaddr_in6, socklen_t, syscall, timespec,
};

/// MSG_WAITFORONE: a blocking receive waits for the first datagram only.
const WAIT_FOR_ONE: c_long = MSG_WAITFORONE as c_long;
const NO_FLAGS: c_long = 0;

/// Maximum number of datagrams in a batch.
const MOST: usize = 64;

/// An address as the kernel writes and reads it; its family says which of the two it is.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

/// A name of no family.
const NAMELESS: Name = Name {
    v6: sockaddr_in6 {
        sin6_family: 0,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
        sin6_scope_id: 0,
    },
};

/// No bytes.
const EMPTY: iovec = iovec { iov_base: null_mut(), iov_len: 0 };

impl Name {
    /// The address; `None` where it is of another family.
    fn address(&self) -> Option<SocketAddr> {
        // SAFETY: both are integers, of which all bytes were written and any value is one.
        let (v4, v6) = unsafe { (self.v4, self.v6) };
        let (ip, port) = match v4.sin_family {
            family if family == AF_INET as sa_family_t => {
                (Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)).into(), v4.sin_port)
            }
            family if family == AF_INET6 as sa_family_t => (Ipv6Addr::from(v6.sin6_addr.s6_addr).into(), v6.sin6_port),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be(port)))
    }

    /// Bytes of it: one of IPv4 is the shorter one, and no other is taken for an IPv4 socket's.
    fn length(&self) -> socklen_t {
        // SAFETY: as in `address`.
        let family = unsafe { self.v4.sin_family };
        let length =
            if family == AF_INET as sa_family_t { size_of::<sockaddr_in>() } else { size_of::<sockaddr_in6>() };
        length as socklen_t
    }
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
        let (mut names, mut parts) = ([NAMELESS; MOST], [EMPTY; MOST]);
        for (part, place) in parts.iter_mut().zip(self.input.chunks_exact_mut(self.longest)) {
            *part = iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
        }
        let mut messages = messages(&mut names, &mut parts);
        // SAFETY: `names`, `parts`, `messages` and the places in `input` live until it returns and have the given
        // lengths, nothing else refers to them meanwhile, and the kernel keeps none of the pointers.
        let got = unsafe {
            let none: *mut timespec = null_mut();
            syscall(SYS_recvmmsg, socket.as_raw_fd(), messages.as_mut_ptr(), MOST, WAIT_FOR_ONE, none)
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let lengths = messages.iter().map(|message| (message.msg_len as usize).min(self.longest));
        self.received.extend(lengths.zip(names).take(got));
        Ok(got)
    }

    /// The datagram number `at` and its sender.
    pub fn datagram(&self, at: usize) -> Option<(&[u8], SocketAddr)> {
        let (length, name) = self.received.get(at)?;
        let begin = at * self.longest;
        Some((self.input.get(begin..begin + length)?, name.address()?))
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
        let (mut names, mut parts) = ([NAMELESS; MOST], [EMPTY; MOST]);
        let mut count = 0;
        for (range, at) in self.answers.drain(..) {
            if let (Some(answer), Some((_, name))) = (self.output.get_mut(range), self.received.get(at)) {
                names[count] = *name;
                parts[count] = iovec { iov_base: answer.as_mut_ptr().cast(), iov_len: answer.len() };
                count += 1;
            }
        }
        let mut messages = messages(&mut names, &mut parts);
        let mut rest = &mut messages[..count];
        while !rest.is_empty() {
            // SAFETY: as in `receive`; the answers lie in `output`, which is not touched until it returns.
            let sent = unsafe { syscall(SYS_sendmmsg, socket.as_raw_fd(), rest.as_mut_ptr(), rest.len(), NO_FLAGS) };
            // A refused one is the first of the rest.
            let done = usize::try_from(sent).unwrap_or(1).clamp(1, rest.len());
            rest = &mut rest[done..];
        }
        self.output.clear();
    }
}

/// Message headers for as many datagrams as there are parts, with pointers to `names` and `parts`.
fn messages(names: &mut [Name; MOST], parts: &mut [iovec; MOST]) -> [mmsghdr; MOST] {
    // SAFETY: `mmsghdr` is integers and pointers that are not followed here, for which zeros are values.
    let mut messages: [mmsghdr; MOST] = unsafe { zeroed() };
    for (message, (name, part)) in messages.iter_mut().zip(names.iter_mut().zip(parts)) {
        let head = &mut message.msg_hdr;
        head.msg_namelen = name.length();
        head.msg_name = (&raw mut *name).cast();
        head.msg_iov = part;
        head.msg_iovlen = 1;
    }
    messages
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
