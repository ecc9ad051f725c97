//! Peer exchange (BEP 11, `ut_pex`): its messages, bytes ↔ values, and their schedule. No I/O.
//!
//! A peer is sent the addresses of those that are connected to us and accept connections: soon after the handshake,
//! then changes at most once a minute. "Dropped" addresses are sent but ignored when received: they only mean that the
//! sender is no longer connected to them.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::torrent::bencode::{self, Encoder, Value};
use crate::torrent::compact;

/// Name of the extension in the handshake's `m`.
pub const NAME: &str = "ut_pex";
/// Id under which we accept its messages.
pub const ID: u8 = 1;
/// Flag in `added.f`: the peer has everything or only uploads.
pub const WHOLE: u8 = 0x02;
/// Flag in `added.f`: the peer was dialled, so it can be reached.
pub const REACHABLE: u8 = 0x10;
/// Maximum number of addresses sent at once, added and dropped each.
const TOLD: usize = 50;
/// Maximum number of addresses read of each kind; some clients' first message is longer than BEP 11 recommends.
const READ: usize = 100;
/// Pause between the peer's handshake and the first message, in which more peers connect.
const FIRST: Duration = Duration::from_secs(1);
/// Pause between two messages.
const PAUSE: Duration = Duration::from_secs(60);
/// Pause before checking again when there was nothing to send.
const LOOK: Duration = Duration::from_secs(5);
/// Minimum time between two messages of a peer; earlier ones are ignored.
const LEAST: Duration = Duration::from_secs(30);

/// The contents of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Peers that the sender is connected to, with their flags.
    pub added: Vec<(SocketAddr, u8)>,
    /// Peers that it is no longer connected to.
    pub dropped: Vec<SocketAddr>,
}

impl Exchange {
    /// Returns the message's payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        let (mut added, mut flags, mut dropped) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
        for (address, flag) in &self.added {
            compact::write(*address, &mut added[usize::from(address.is_ipv6())]);
            flags[usize::from(address.is_ipv6())].push(*flag);
        }
        for address in &self.dropped {
            compact::write(*address, &mut dropped[usize::from(address.is_ipv6())]);
        }
        out.dict(|dict| {
            dict.bytes("added", &added[0]);
            dict.bytes("added.f", &flags[0]);
            dict.bytes("added6", &added[1]);
            dict.bytes("added6.f", &flags[1]);
            dict.bytes("dropped", &dropped[0]);
            dict.bytes("dropped6", &dropped[1]);
        });
        out.finish()
    }

    /// Reads a payload; missing lists are empty, missing flags 0, and addresses beyond the bounds are left out.
    ///
    /// # Errors
    /// It is not bencoded.
    pub fn decode(payload: &[u8]) -> Result<Exchange, crate::torrent::Error> {
        let (value, _) = bencode::decode_prefix(payload)?;
        let mut added = flagged::<{ compact::V4 }>(&value, b"added", b"added.f", |peer| compact::read_v4(peer).next());
        added.extend(flagged::<{ compact::V6 }>(&value, b"added6", b"added6.f", |peer| compact::read_v6(peer).next()));
        let dropped = compact::read_v4(bytes(&value, b"dropped")).take(READ);
        let dropped = dropped.chain(compact::read_v6(bytes(&value, b"dropped6")).take(READ)).collect();
        Ok(Exchange { added, dropped })
    }
}

fn bytes<'a>(value: &Value<'a>, key: &[u8]) -> &'a [u8] {
    value.get(key).and_then(|value| value.bytes()).unwrap_or_default()
}

/// Returns the peers of `SIZE` bytes each under `key`, with their flags; those that `read` rejects are left out.
fn flagged<const SIZE: usize>(
    value: &Value,
    key: &[u8],
    flags: &[u8],
    read: impl Fn(&[u8]) -> Option<SocketAddr>,
) -> Vec<(SocketAddr, u8)> {
    let flags = bytes(value, flags).iter().copied().chain(std::iter::repeat(0));
    let peers = bytes(value, key).chunks_exact(SIZE).take(READ).zip(flags);
    peers.filter_map(|(peer, flags)| Some((read(peer)?, flags))).collect()
}

/// Whether `address`, sent by a peer at `teller`, may be a peer's: a remote host must not make us dial this machine.
pub fn is_plausible(address: SocketAddr, teller: IpAddr) -> bool {
    let (ip, teller) = (address.ip().to_canonical(), teller.to_canonical());
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]);
    !nobody && (!ip.is_loopback() || teller.is_loopback())
}

/// The exchange with one peer.
#[derive(Debug, Default)]
pub struct Gossip {
    /// Id under which it accepts messages; 0: it accepts none.
    id: u8,
    next: Duration,
    heard: Option<Duration>,
    told: HashSet<SocketAddr>,
}

impl Gossip {
    /// Notes that the peer's handshake gave `id` for its messages; `None` changes nothing.
    pub fn learn(&mut self, now: Duration, id: Option<u8>) {
        let Some(id) = id else { return };
        self.id = id;
        self.next = self.next.max(now + FIRST);
    }

    /// Whether it is time to send the peer what is new.
    pub fn is_due(&self, now: Duration) -> bool {
        self.id != 0 && self.next <= now
    }

    /// Returns the message for the peer at `address` given the `connected` peers, and its id there; `None` if nothing
    /// is new.
    pub fn tell(
        &mut self,
        now: Duration,
        connected: &[(SocketAddr, u8)],
        address: Option<SocketAddr>,
    ) -> Option<(u8, Exchange)> {
        let news = |(other, _): &&(SocketAddr, u8)| Some(*other) != address && !self.told.contains(other);
        let added: Vec<(SocketAddr, u8)> = connected.iter().filter(news).take(TOLD).copied().collect();
        let here: HashSet<SocketAddr> = connected.iter().map(|(other, _)| *other).collect();
        let dropped: Vec<SocketAddr> = self.told.difference(&here).take(TOLD).copied().collect();
        if added.is_empty() && dropped.is_empty() {
            self.next = now + LOOK;
            return None;
        }
        self.next = now + PAUSE;
        self.told.retain(|other| !dropped.contains(other));
        self.told.extend(added.iter().map(|(other, _)| *other));
        Some((self.id, Exchange { added, dropped }))
    }

    /// Whether a message that came now may be read, or came too soon.
    pub fn may_hear(&mut self, now: Duration) -> bool {
        let may = self.heard.is_none_or(|last| now >= last + LEAST);
        if may {
            self.heard = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 2706))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    proptest! {
        #[test]
        fn a_message_survives_the_wire(
            v4 in prop::collection::vec((any::<[u8; 4]>(), 1u16.., any::<u8>()), 0..READ),
            v6 in prop::collection::vec((any::<[u8; 15]>(), 1u16.., any::<u8>()), 0..READ),
        ) {
            let v4 = v4.into_iter().map(|(ip, port, flags)| (SocketAddr::from((ip, port)), flags));
            // Not an IPv4-mapped address, which would be read back as IPv4.
            let long = |ip: [u8; 15]| std::array::from_fn::<u8, 16, _>(|at| if at == 0 { 0xfd } else { ip[at - 1] });
            let v6 = v6.into_iter().map(|(ip, port, flags)| (SocketAddr::from((long(ip), port)), flags));
            let added: Vec<_> = v4.chain(v6).collect();
            let dropped = added.iter().map(|(address, _)| *address).collect();
            let exchange = Exchange { added, dropped };
            prop_assert_eq!(Exchange::decode(&exchange.encode()).unwrap(), exchange);
        }

        #[test]
        fn no_payload_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Exchange::decode(&payload);
        }

        #[test]
        fn no_lists_make_it_read_more_than_the_bounds(
            lists in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 6),
        ) {
            let mut out = Encoder::new();
            out.dict(|dict| {
                let keys = ["added", "added.f", "added6", "added6.f", "dropped", "dropped6"];
                keys.iter().zip(&lists).for_each(|(key, list)| dict.bytes(key, list));
            });
            let read = Exchange::decode(&out.finish()).unwrap();
            prop_assert!(read.added.len() <= 2 * READ && read.dropped.len() <= 2 * READ);
            prop_assert!(read.added.iter().all(|(address, _)| address.port() != 0));
        }
    }

    #[test]
    fn a_peer_that_accepts_no_messages_gets_none_and_none_come_early() {
        let mut gossip = Gossip::default();
        assert!(!gossip.is_due(seconds(100)));
        gossip.learn(seconds(100), Some(7));
        assert!(!gossip.is_due(seconds(100)) && gossip.is_due(seconds(101)));
        gossip.learn(seconds(101), Some(0));
        assert!(!gossip.is_due(seconds(200)));
    }

    #[test]
    fn a_peer_is_sent_changes_and_never_its_own_address() {
        let mut gossip = Gossip::default();
        gossip.learn(seconds(0), Some(7));
        let connected = [(address(1), 0), (address(2), WHOLE), (address(3), 0)];
        let (id, told) = gossip.tell(seconds(1), &connected, Some(address(1))).expect("two are new");
        assert_eq!((id, told), (7, Exchange { added: connected[1..].to_vec(), dropped: vec![] }));
        assert!(!gossip.is_due(seconds(60)) && gossip.is_due(seconds(61)));
        let (_, told) = gossip.tell(seconds(61), &connected[..2], Some(address(1))).expect("one is gone");
        assert_eq!(told, Exchange { added: vec![], dropped: vec![address(3)] });
        assert_eq!(gossip.tell(seconds(200), &connected[..2], Some(address(1))), None);
    }

    #[test]
    fn many_addresses_are_sent_in_parts() {
        let mut gossip = Gossip::default();
        gossip.learn(seconds(0), Some(1));
        let crowd: Vec<_> = (1..=120).map(|last| (address(last), 0)).collect();
        let told = |now, gossip: &mut Gossip| gossip.tell(seconds(now), &crowd, None).map_or(0, |(_, e)| e.added.len());
        assert_eq!([1, 61, 121, 181].map(|now| told(now, &mut gossip)), [TOLD, TOLD, 20, 0]);
    }

    #[test]
    fn messages_that_come_too_often_are_ignored() {
        let mut gossip = Gossip::default();
        let heard = [0, 1, 29, 30, 31, 60].map(|now| gossip.may_hear(seconds(now)));
        assert_eq!(heard, [true, false, false, true, false, true]);
    }

    #[test]
    fn only_a_peer_on_this_machine_may_send_an_address_of_it() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        let loopback = SocketAddr::from(([127, 0, 0, 9], 22));
        assert!(is_plausible(loopback, here) && !is_plausible(loopback, there));
        assert!(is_plausible(address(2), there) && is_plausible(address(2), here));
        assert!(!is_plausible(SocketAddr::from(([239, 0, 0, 1], 22)), there));
    }
}
