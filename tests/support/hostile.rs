//! A peer that keeps to no rule: a bare socket with an address of its own, and the messages to send through it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use ogbox::sys::net::dial;

pub const UNCHOKE: u8 = 1;
pub const HAVE: u8 = 4;
pub const BITFIELD: u8 = 5;
pub const REQUEST: u8 = 6;
pub const PIECE: u8 = 7;
pub const EXTENDED: u8 = 20;

/// Longest message that is heard, bytes.
const LONGEST: usize = 1 << 20;

/// A connection of such a peer.
pub struct Wire(pub TcpStream);

impl Wire {
    /// Connects from the address `from`.
    pub fn connect(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<Wire> {
        Wire::over(dial(from.into(), to.into(), Duration::from_secs(2))?)
    }

    /// Takes a connection that is there, neither side of which waits long.
    pub fn over(stream: TcpStream) -> io::Result<Wire> {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        Ok(Wire(stream))
    }

    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    pub fn send(&mut self, id: u8, parts: &[&[u8]]) -> io::Result<()> {
        self.put(&message(id, parts))
    }

    /// Sends a handshake and reads the other's; with `extended`, it has the bit of BEP 10.
    pub fn greet(&mut self, info_hash: [u8; 20], extended: bool) -> io::Result<()> {
        let mut bits = [0; 8];
        bits[5] = if extended { 0x10 } else { 0 };
        let id = format!("-XX0000-{:012}", self.0.local_addr()?.port());
        self.put(&[b"\x13BitTorrent protocol", &bits[..], &info_hash, id.as_bytes()].concat())?;
        self.0.read_exact(&mut [0; 68])
    }

    /// Receives the next message: its id and its payload.
    pub fn hear(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut length = [0; 4];
            self.0.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            if length > LONGEST {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body)?;
            if let Some((&id, rest)) = body.split_first() {
                return Ok((id, rest.to_vec()));
            }
        }
    }

    /// Discards what comes within a second; false once the other end has closed the connection.
    pub fn is_open(&mut self) -> bool {
        let mut bytes = [0; 65536];
        match self.0.read(&mut bytes) {
            Ok(got) => got > 0,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// A message of the wire protocol.
pub fn message(id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32 + 1).to_be_bytes()[..], &[id], &body].concat()
}
