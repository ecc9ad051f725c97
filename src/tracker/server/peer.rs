//! A peer as the tracker knows it: its address, its announcer, its state.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::torrent::PeerId;

/// A peer's address and port in 18 bytes, IPv4 as mapped IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    ip: [u8; 16],
    port: u16,
}

/// A peer's subnet: its address with all but the first 64 bits (IPv6) or 24 bits (IPv4) cleared.
pub type RoomKey = u128;

impl Address {
    /// The socket address, IPv4 unmapped.
    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(IpAddr::from(self.ip).to_canonical(), self.port)
    }

    /// The bytes of the IPv4 address, if it is one.
    pub fn v4(self) -> Option<[u8; 4]> {
        let number = u128::from_be_bytes(self.ip);
        (number >> 32 == 0xffff).then_some((number as u32).to_be_bytes())
    }

    /// Its compact form (BEP 23), if it is an IPv4 address.
    pub fn compact_v4(self) -> Option<[u8; 6]> {
        let ([a, b, c, d], [high, low]) = (self.v4()?, self.port.to_be_bytes());
        Some([a, b, c, d, high, low])
    }

    /// Its compact form (BEP 7), if it is an IPv6 address.
    pub fn compact_v6(self) -> Option<[u8; 18]> {
        if self.v4().is_some() {
            return None;
        }
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&self.ip);
        bytes[16..].copy_from_slice(&self.port.to_be_bytes());
        Some(bytes)
    }

    /// TCP port.
    pub fn port(self) -> u16 {
        self.port
    }

    /// The subnet that it is in.
    pub fn room(self) -> RoomKey {
        let host_bits = if self.v4().is_some() { 8 } else { 64 };
        u128::from_be_bytes(self.ip) >> host_bits << host_bits
    }
}

// Compared and hashed as numbers: the derived implementation calls memcmp, which is slow in musl.
impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        u128::from_ne_bytes(self.ip) == u128::from_ne_bytes(other.ip) && self.port == other.port
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ip = u128::from_ne_bytes(self.ip);
        state.write_u64(ip as u64);
        state.write_u64(((ip >> 64) as u64) ^ (u64::from(self.port) << 48));
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Address { ip, port: address.port() }
    }
}

/// The announcer of a peer, which alone may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The address that its announce came from, or that a trusted proxy gave for it; IPv4 as mapped IPv6.
    pub source: [u8; 16],
    /// The number made of its `key`; 0 if it gave none.
    pub key: u32,
}

impl Owner {
    /// The sender of an announce from `source` with `key`; 0 for no key.
    pub fn new(source: IpAddr, key: u32) -> Owner {
        Owner { source: Address::from(SocketAddr::new(source, 0)).ip, key }
    }

    /// The address that its announce came from, IPv4 unmapped.
    pub fn source(self) -> IpAddr {
        IpAddr::from(self.source).to_canonical()
    }

    /// Whether its peers count against the limits of a source: all but this machine's own.
    pub fn counts(self) -> bool {
        !self.source().is_loopback()
    }

    /// Whether it may change or remove `peer`: it announced it, or `peer` is said to be at its address.
    pub fn owns(self, peer: &Peer) -> bool {
        let same_key = self.key != 0 && self.key == peer.owner.key;
        same_key || self.source == peer.owner.source || self.source == peer.address.ip
    }
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address that it listens on.
    pub address: Address,
    /// Its announcer.
    pub owner: Owner,
    /// Its peer id.
    pub id: PeerId,
    /// Bytes it still lacks; 0 for a seeder.
    pub left: u64,
    /// Download rate between its last two announces, bytes/s.
    pub rate: u32,
    /// Time of its first announce.
    pub since: u32,
    /// Time of its last announce.
    pub seen: u32,
    /// Seconds within which it is expected to announce again.
    pub expected: u32,
    /// Whether it has announced again as it was told to, neither at once nor late. Whoever makes up peers by the thousand has
    /// to keep announcing all of them.
    pub answered: bool,
}

impl Peer {
    /// Whether its announce is so long overdue that it is most likely switched off.
    pub fn late(&self, now: u32) -> bool {
        now.saturating_sub(self.seen) > self.expected.saturating_mul(2).saturating_add(15)
    }

    /// Whether it was last seen before `time`, or has answered once and is late.
    pub fn overdue(&self, time: u32, now: u32) -> bool {
        self.seen < time || (self.answered && self.late(now))
    }
}
