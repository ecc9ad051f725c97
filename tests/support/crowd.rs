//! A crowd of hostile peers: bare connections from addresses of their own that take a seeder's places, slots and
//! bandwidth.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ogbox::torrent::BLOCK;

const CHOKE: u8 = 0;
const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const CANCEL: u8 = 8;

/// What each of a crowd does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deed {
    /// Says that it is interested, and nothing more.
    Idle,
    /// Asks for blocks and reads none.
    Deaf,
    /// Asks for more than it may, and comes again when it is dropped.
    Greedy,
    /// Asks for the same four blocks again and again.
    Repeat,
    /// Cancels what it asked for.
    Cancel,
    /// Takes one block after another.
    Take,
}

/// Hostile peers, which go when it is dropped.
pub struct Crowd {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Lets `many` connections from `hosts` in turn do `deed` to the seeder at `at` of a torrent of `pieces` pieces of
    /// `blocks` blocks.
    pub fn new(
        deed: Deed,
        many: usize,
        hosts: &[Ipv4Addr],
        at: SocketAddrV4,
        info_hash: [u8; 20],
        (pieces, blocks): (u32, u32),
    ) -> Crowd {
        let over = Arc::new(AtomicBool::new(false));
        let start = |number: usize| {
            let (over, host) = (over.clone(), hosts[number % hosts.len()]);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut one =
                        Member { deed, number: number as u32, pieces, blocks, next: number as u32 * 97, over: &over };
                    // It is refused or dropped, and comes again.
                    drop(one.visit(host, at, info_hash));
                    thread::sleep(Duration::from_millis(100));
                }
            })
        };
        let threads = (0..many).map(start).collect();
        Crowd { over, threads }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Member<'a> {
    deed: Deed,
    number: u32,
    pieces: u32,
    blocks: u32,
    /// Number of the next block to ask for.
    next: u32,
    over: &'a AtomicBool,
}

impl Member<'_> {
    fn visit(&mut self, host: Ipv4Addr, at: SocketAddrV4, info_hash: [u8; 20]) -> std::io::Result<()> {
        let mut stream = ogbox::sys::net::dial(IpAddr::V4(host), at.into(), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        stream.set_nodelay(true)?;
        let id = format!("-XX0000-{:03}{:05}{:04}", host.octets()[3], stream.local_addr()?.port(), self.number);
        let handshake = [b"\x13BitTorrent protocol", &[0; 8][..], &info_hash, id.as_bytes()].concat();
        stream.write_all(&[&handshake[..], &message(INTERESTED, &[])].concat())?;
        let mut heard = vec![0; 0];
        let (mut greeted, mut unchoked, mut open) = (false, false, 0u32);
        while !self.over.load(Ordering::Relaxed) {
            if unchoked {
                open += self.ask(&mut stream, open)?;
            }
            let mut buffer = [0; 64 << 10];
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => heard.extend_from_slice(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
            if !greeted && heard.len() >= 68 {
                heard.drain(..68);
                greeted = true;
            }
            while greeted && heard.len() >= 4 {
                let length = u32::from_be_bytes([heard[0], heard[1], heard[2], heard[3]]) as usize;
                if heard.len() < 4 + length {
                    break;
                }
                match heard.get(4).filter(|_| length > 0) {
                    Some(&UNCHOKE) => unchoked = true,
                    Some(&CHOKE) => (unchoked, open) = (false, 0),
                    Some(&PIECE) => open = open.saturating_sub(1),
                    _ => {}
                }
                heard.drain(..4 + length);
            }
            if unchoked && self.deed == Deed::Deaf {
                self.ask(&mut stream, 0)?;
                while !self.over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        Ok(())
    }

    /// Asks for what one of its kind asks for with so many requests `open`; returns how many it opens.
    fn ask(&mut self, stream: &mut TcpStream, open: u32) -> std::io::Result<u32> {
        let most = match self.deed {
            Deed::Idle => 0,
            Deed::Greedy => 2000,
            Deed::Repeat => 4,
            Deed::Cancel => 1,
            Deed::Deaf | Deed::Take => 32,
        };
        let mut bytes = Vec::new();
        let more = most - open.min(most);
        for _ in 0..more {
            let number = if self.deed == Deed::Repeat { self.next % 4 } else { self.next };
            let (piece, block) = (number / self.blocks % self.pieces, number % self.blocks);
            let place = [piece, block * BLOCK, BLOCK].map(u32::to_be_bytes);
            bytes.extend(message(REQUEST, &[&place[0], &place[1], &place[2]]));
            if self.deed == Deed::Cancel {
                bytes.extend(message(CANCEL, &[&place[0], &place[1], &place[2]]));
            }
            self.next = self.next.wrapping_add(1);
        }
        stream.write_all(&bytes)?;
        Ok(if self.deed == Deed::Cancel { 0 } else { more })
    }
}

fn message(id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32 + 1).to_be_bytes()[..], &[id], &body].concat()
}
