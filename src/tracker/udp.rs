//! The UDP tracker protocol's packets (BEP 15, and BEP 15's IPv6 form), both ends: bytes ↔ values, no socket.
//!
//! All numbers are big-endian. The packet does not name the address family of its peer list: it is that of the
//! packet's own addresses. Extensions after an announce (BEP 41) are ignored.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::compact;
use super::message::{Event, printable};
use crate::torrent::{InfoHash, PeerId};

/// The connection id of a connect request.
pub const MAGIC: u64 = 0x417_2710_1980;
/// Most torrents in a scrape (BEP 15).
pub const MAX_SCRAPE: usize = 74;
/// Largest packet read or written, bytes: the most that fits an Ethernet frame with IPv6 headers.
pub const MAX_PACKET: usize = 1452;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// A client's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks for a connection id.
    Connect {
        /// Returned in the reply.
        transaction: u32,
    },
    /// Reports a download and asks for peers.
    Announce {
        /// The id from the connect reply.
        connection: u64,
        /// Returned in the reply.
        transaction: u32,
        /// The announce.
        announce: Announce,
    },
    /// Asks for counts.
    Scrape {
        /// The id from the connect reply.
        connection: u64,
        /// Returned in the reply.
        transaction: u32,
        /// At most [`MAX_SCRAPE`].
        hashes: Vec<InfoHash>,
    },
}

/// An announce over UDP; see [`super::message::AnnounceRequest`] for the meanings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the same fields as those of AnnounceRequest")]
pub struct Announce {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    pub downloaded: u64,
    pub left: u64,
    pub uploaded: u64,
    pub event: Event,
    /// 0.0.0.0 for the packet's source address.
    pub ip: Ipv4Addr,
    pub key: u32,
    /// `None` (-1 in the packet) for as many as the tracker likes.
    pub numwant: Option<u32>,
    pub port: u16,
}

/// A tracker's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A connection id, valid for two minutes.
    Connect {
        /// The id in the request.
        transaction: u32,
        /// The id for further requests.
        connection: u64,
    },
    /// Peers.
    Announce {
        /// The id in the request.
        transaction: u32,
        /// Seconds until the next announce.
        interval: u32,
        /// Leechers.
        leechers: u32,
        /// Seeders.
        seeders: u32,
        /// Peers of one address family.
        peers: Vec<SocketAddr>,
    },
    /// Counts, in the order asked for.
    Scrape {
        /// The id in the request.
        transaction: u32,
        /// Seeders, downloads completed, leechers.
        counts: Vec<[u32; 3]>,
    },
    /// A refusal.
    Error {
        /// The id in the request.
        transaction: u32,
        /// The reason, printable.
        reason: String,
    },
}

/// Reads numbers from the front of a packet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

impl Request {
    /// Parses a client's packet; `None` if malformed.
    pub fn read(packet: &[u8]) -> Option<Request> {
        let mut packet = Reader(packet);
        let connection = packet.u64()?;
        let (action, transaction) = (packet.u32()?, packet.u32()?);
        match action {
            CONNECT if connection == MAGIC => Some(Request::Connect { transaction }),
            ANNOUNCE => {
                let announce = Announce {
                    info_hash: InfoHash(packet.take()?),
                    peer_id: PeerId(packet.take()?),
                    downloaded: packet.u64()?,
                    left: packet.u64()?,
                    uploaded: packet.u64()?,
                    event: match packet.u32()? {
                        0 => Event::None,
                        1 => Event::Completed,
                        2 => Event::Started,
                        3 => Event::Stopped,
                        _ => return None,
                    },
                    ip: Ipv4Addr::from(packet.take::<4>()?),
                    key: packet.u32()?,
                    numwant: Some(packet.u32()?).filter(|wanted| *wanted <= i32::MAX as u32),
                    port: packet.u16()?,
                };
                Some(Request::Announce { connection, transaction, announce })
            }
            SCRAPE => {
                let (hashes, _) = packet.0.as_chunks();
                let hashes = hashes.iter().take(MAX_SCRAPE).map(|hash| InfoHash(*hash)).collect();
                Some(Request::Scrape { connection, transaction, hashes })
            }
            _ => None,
        }
    }

    /// The request's transaction id.
    pub fn transaction(&self) -> u32 {
        match self {
            Request::Connect { transaction }
            | Request::Announce { transaction, .. }
            | Request::Scrape { transaction, .. } => *transaction,
        }
    }

    /// Appends the packet to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Request::Connect { transaction } => head(out, MAGIC, CONNECT, *transaction),
            Request::Announce { connection, transaction, announce } => {
                head(out, *connection, ANNOUNCE, *transaction);
                out.extend_from_slice(&announce.info_hash.0);
                out.extend_from_slice(&announce.peer_id.0);
                out.extend_from_slice(&announce.downloaded.to_be_bytes());
                out.extend_from_slice(&announce.left.to_be_bytes());
                out.extend_from_slice(&announce.uploaded.to_be_bytes());
                let event: u32 = match announce.event {
                    Event::None => 0,
                    Event::Completed => 1,
                    Event::Started => 2,
                    Event::Stopped => 3,
                };
                out.extend_from_slice(&event.to_be_bytes());
                out.extend_from_slice(&announce.ip.octets());
                out.extend_from_slice(&announce.key.to_be_bytes());
                out.extend_from_slice(&announce.numwant.unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(&announce.port.to_be_bytes());
            }
            Request::Scrape { connection, transaction, hashes } => {
                head(out, *connection, SCRAPE, *transaction);
                hashes.iter().take(MAX_SCRAPE).for_each(|hash| out.extend_from_slice(&hash.0));
            }
        }
    }
}

fn head(out: &mut Vec<u8>, connection: u64, action: u32, transaction: u32) {
    out.extend_from_slice(&connection.to_be_bytes());
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
}

impl Reply {
    /// Parses a packet that came from `tracker`, whose address family is that of the peers; `None` if malformed.
    pub fn read(packet: &[u8], tracker: IpAddr) -> Option<Reply> {
        let mut packet = Reader(packet);
        let (action, transaction) = (packet.u32()?, packet.u32()?);
        match action {
            CONNECT => Some(Reply::Connect { transaction, connection: packet.u64()? }),
            ANNOUNCE => {
                let (interval, leechers, seeders) = (packet.u32()?, packet.u32()?, packet.u32()?);
                let peers = match tracker {
                    IpAddr::V4(_) => compact::read_v4(packet.0).collect(),
                    IpAddr::V6(_) => compact::read_v6(packet.0).collect(),
                };
                Some(Reply::Announce { transaction, interval, leechers, seeders, peers })
            }
            SCRAPE => {
                let mut counts = Vec::new();
                while let (Some(seeders), Some(completed), Some(leechers)) = (packet.u32(), packet.u32(), packet.u32())
                {
                    counts.push([seeders, completed, leechers]);
                }
                Some(Reply::Scrape { transaction, counts })
            }
            ERROR => Some(Reply::Error { transaction, reason: printable(packet.0) }),
            _ => None,
        }
    }

    /// The id of the transaction that it answers.
    pub fn transaction(&self) -> u32 {
        match self {
            Reply::Connect { transaction, .. }
            | Reply::Announce { transaction, .. }
            | Reply::Scrape { transaction, .. }
            | Reply::Error { transaction, .. } => *transaction,
        }
    }

    /// Appends the packet to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Connect { transaction, connection } => {
                words(out, &[CONNECT, *transaction]);
                out.extend_from_slice(&connection.to_be_bytes());
            }
            Reply::Announce { transaction, interval, leechers, seeders, peers } => {
                announce_reply(out, *transaction, *interval, *leechers, *seeders);
                peers.iter().for_each(|peer| compact::write(*peer, out));
            }
            Reply::Scrape { transaction, counts } => {
                words(out, &[SCRAPE, *transaction]);
                counts.iter().for_each(|counts| words(out, counts));
            }
            Reply::Error { transaction, reason } => {
                words(out, &[ERROR, *transaction]);
                out.extend_from_slice(reason.as_bytes());
            }
        }
    }
}

/// Appends the reply to an announce without its peers.
pub fn announce_reply(out: &mut Vec<u8>, transaction: u32, interval: u32, leechers: u32, seeders: u32) {
    words(out, &[ANNOUNCE, transaction, interval, leechers, seeders]);
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = Event> {
        prop::sample::select(vec![Event::None, Event::Started, Event::Stopped, Event::Completed])
    }

    prop_compose! {
        fn announce()(
            (hash, id, downloaded, left, uploaded) in any::<([u8; 20], [u8; 20], u64, u64, u64)>(),
            event in event(),
            (ip, key, wanted, port) in any::<([u8; 4], u32, Option<u32>, u16)>(),
        ) -> Announce {
            Announce {
                info_hash: InfoHash(hash), peer_id: PeerId(id), downloaded, left, uploaded, event,
                ip: ip.into(), key, numwant: wanted.map(|wanted| wanted >> 1), port,
            }
        }
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            any::<u32>().prop_map(|transaction| Request::Connect { transaction }),
            (any::<(u64, u32)>(), announce()).prop_map(|((connection, transaction), announce)| Request::Announce {
                connection,
                transaction,
                announce
            }),
            (any::<(u64, u32)>(), prop::collection::vec(any::<[u8; 20]>(), 0..=MAX_SCRAPE)).prop_map(
                |((connection, transaction), hashes)| Request::Scrape {
                    connection,
                    transaction,
                    hashes: hashes.into_iter().map(InfoHash).collect()
                }
            ),
        ]
    }

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            any::<(u32, u64)>().prop_map(|(transaction, connection)| Reply::Connect { transaction, connection }),
            any::<([u32; 4], Vec<([u8; 4], u16)>)>().prop_map(|([transaction, interval, leechers, seeders], peers)| {
                let peers = peers.into_iter().map(|(ip, port)| (ip, port.max(1)).into()).collect();
                Reply::Announce { transaction, interval, leechers, seeders, peers }
            }),
            any::<(u32, Vec<[u32; 3]>)>().prop_map(|(transaction, counts)| Reply::Scrape { transaction, counts }),
            (any::<u32>(), "[ -~]{0,60}").prop_map(|(transaction, reason)| Reply::Error { transaction, reason }),
        ]
    }

    proptest! {
        #[test]
        fn requests_come_back(request in request()) {
            let mut packet = Vec::new();
            request.write(&mut packet);
            prop_assert_eq!(Request::read(&packet), Some(request));
        }

        #[test]
        fn replies_come_back(reply in reply()) {
            let mut packet = Vec::new();
            reply.write(&mut packet);
            prop_assert_eq!(Reply::read(&packet, Ipv4Addr::LOCALHOST.into()), Some(reply));
        }

        #[test]
        fn a_cut_request_is_none(request in request(), cut: prop::sample::Index) {
            let mut packet = Vec::new();
            request.write(&mut packet);
            packet.truncate(cut.index(packet.len()));
            // A truncated scrape is a scrape of fewer torrents.
            let read = Request::read(&packet);
            prop_assert!(read.as_ref().is_none_or(|read| matches!(read, Request::Scrape { .. })), "{:?}", read);
        }

        #[test]
        fn any_packet_is_read_or_refused(packet: Vec<u8>, v6: bool) {
            let _ = Request::read(&packet);
            let tracker = if v6 { IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() };
            if let Some(Reply::Announce { peers, .. }) = Reply::read(&packet, tracker) {
                prop_assert!(peers.len() * compact::V4 <= packet.len());
            }
        }
    }

    #[test]
    fn an_announce_has_the_98_bytes_of_bep_15() {
        let announce = Announce {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            downloaded: 3,
            left: 4,
            uploaded: 5,
            event: Event::Started,
            ip: Ipv4Addr::UNSPECIFIED,
            key: 6,
            numwant: None,
            port: 6881,
        };
        let mut packet = Vec::new();
        Request::Announce { connection: 7, transaction: 8, announce }.write(&mut packet);
        assert_eq!(packet.len(), 98);
        assert_eq!(packet[..16], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 8]);
        assert_eq!(packet[80..84], [0, 0, 0, 2], "started is 2");
        assert_eq!(packet[92..], [0xff, 0xff, 0xff, 0xff, 0x1a, 0xe1]);
    }

    #[test]
    fn a_connect_without_the_magic_is_none() {
        let mut packet = Vec::new();
        Request::Connect { transaction: 1 }.write(&mut packet);
        assert!(Request::read(&packet).is_some());
        packet[7] ^= 1;
        assert_eq!(Request::read(&packet), None);
    }
}
