//! Local service discovery (BEP 14): peers on one network find one another by multicast, without a tracker.
//!
//! Works over IPv4 (239.192.152.143:6771) and IPv6 (`[ff15::efc0:988f]:6771`), within one network (TTL 1). A session that
//! is bound to an address uses that address's interface, so one on loopback never leaves the machine.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::sys;
use crate::torrent::InfoHash;

/// Multicast groups: of IPv4, and of IPv6 within the site.
const GROUPS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 192, 152, 143)), 6771),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f)), 6771),
];
/// Size limit of a datagram, bytes (BEP 14: below 1400).
const DATAGRAM: usize = 1400;
/// Maximum number of info-hashes in a datagram: each takes a line of 52 bytes, the other lines take less than 150.
const HASHES: usize = (DATAGRAM - 150) / 52;
/// Time between two announces of the same torrents.
const PAUSE: Duration = Duration::from_secs(300);
/// Minimum time between two announces when there are new torrents.
const LEAST: Duration = Duration::from_secs(60);
/// Maximum number of datagrams read in one turn; the rest wait for the next.
const TURN: usize = 64;

/// A datagram: the torrents of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Port that the sender accepts connections on; not 0.
    pub port: u16,
    /// Value by which the sender recognises its own datagrams.
    pub cookie: Option<String>,
    /// Torrents that the sender has or wants.
    pub info_hashes: Vec<InfoHash>,
}

impl Search {
    /// Returns the datagram to send to `group`.
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n", self.port);
        for info_hash in &self.info_hashes {
            text += &format!("Infohash: {info_hash}\r\n");
        }
        if let Some(cookie) = &self.cookie {
            text += &format!("cookie: {cookie}\r\n");
        }
        text += "\r\n\r\n";
        text.into_bytes()
    }

    /// Reads a datagram; `None` if it is something else, or names no port or no torrent.
    pub fn parse(datagram: &[u8]) -> Option<Search> {
        let text = std::str::from_utf8(datagram).ok()?;
        let mut lines = text.split('\n').map(str::trim);
        if !lines.next()?.starts_with("BT-SEARCH * HTTP/1.") {
            return None;
        }
        let mut search = Search::default();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let (name, value) = (name.trim_end(), value.trim_start());
            if name.eq_ignore_ascii_case("port") {
                search.port = value.parse().ok()?;
            } else if name.eq_ignore_ascii_case("cookie") {
                search.cookie = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("infohash")
                && let Ok(info_hash) = value.parse()
            {
                search.info_hashes.push(info_hash);
            }
        }
        (search.port != 0 && !search.info_hashes.is_empty()).then_some(search)
    }
}

/// The schedule of announces.
#[derive(Debug, Default)]
struct Schedule {
    last: Option<Duration>,
    announced: HashSet<InfoHash>,
}

impl Schedule {
    /// Whether it is time to announce `torrents`; if so, they count as announced.
    fn is_due(&mut self, now: Duration, torrents: &[InfoHash]) -> bool {
        let new = torrents.iter().any(|info_hash| !self.announced.contains(info_hash));
        let pause = if new { LEAST } else { PAUSE };
        if torrents.is_empty() || self.last.is_some_and(|last| now < last + pause) {
            return false;
        }
        self.last = Some(now);
        self.announced = torrents.iter().copied().collect();
        true
    }
}

/// A session's sockets for discovery on the local network.
pub struct Discovery {
    /// Each with its group.
    sockets: Vec<(UdpSocket, SocketAddr)>,
    loopback: bool,
    port: u16,
    cookie: String,
    schedule: Schedule,
    /// Whether a failure to send was reported.
    failed: bool,
}

impl Discovery {
    /// Opens sockets on the network of the local address `bind`, of both families if that is IPv6's unspecified
    /// address, for a session that accepts connections on `port`; `cookie` must be unique.
    ///
    /// # Errors
    /// Neither family can multicast, or another program has the port to itself.
    pub fn open(bind: IpAddr, port: u16, cookie: u64) -> io::Result<Discovery> {
        let any = |group: &SocketAddr| match group {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let both = bind == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let (mut sockets, mut failure) = (Vec::new(), io::Error::other("there is no such network"));
        for group in GROUPS.into_iter().filter(|group| both || group.is_ipv4() == bind.is_ipv4()) {
            match sys::net::multicast(group, if both { any(&group) } else { bind }) {
                Ok(socket) => sockets.push((socket, group)),
                Err(error) => failure = error,
            }
        }
        if sockets.is_empty() {
            return Err(failure);
        }
        let (cookie, schedule) = (format!("{cookie:016x}"), Schedule::default());
        Ok(Discovery { sockets, loopback: bind.is_loopback(), port, cookie, schedule, failed: false })
    }

    /// Reads the announces of others, passes those of `torrents` to `found` with the peer's address, and announces
    /// `torrents` when it is time; never waits.
    ///
    /// # Errors
    /// Sending failed on every network for the first time; later failures are not reported.
    pub fn turn(
        &mut self,
        now: Duration,
        torrents: &[InfoHash],
        mut found: impl FnMut(InfoHash, SocketAddr),
    ) -> io::Result<()> {
        self.sockets.iter().for_each(|(socket, _)| self.listen_on(socket, torrents, &mut found));
        if !self.schedule.is_due(now, torrents) {
            return Ok(());
        }
        for part in torrents.chunks(HASHES) {
            let search = Search { port: self.port, cookie: Some(self.cookie.clone()), info_hashes: part.to_vec() };
            let send = |(socket, group): &(UdpSocket, SocketAddr)| socket.send_to(&search.encode(*group), *group);
            let failures: Vec<io::Error> = self.sockets.iter().filter_map(|at| send(at).err()).collect();
            if failures.len() == self.sockets.len()
                && !std::mem::replace(&mut self.failed, true)
                && let Some(error) = failures.into_iter().next()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    fn listen_on(&self, socket: &UdpSocket, torrents: &[InfoHash], found: &mut impl FnMut(InfoHash, SocketAddr)) {
        let mut datagram = [0; DATAGRAM];
        for _ in 0..TURN {
            let Ok((length, mut from)) = socket.recv_from(&mut datagram) else { return };
            // A socket also gets datagrams of groups that others on this machine joined on other interfaces.
            if from.ip().is_loopback() != self.loopback {
                continue;
            }
            let Some(search) = Search::parse(&datagram[..length]) else { continue };
            if search.cookie.as_ref() == Some(&self.cookie) {
                continue;
            }
            // Only the port is replaced: a link-local address needs its interface.
            from.set_port(search.port);
            let named = torrents.iter().filter(|info_hash| search.info_hashes.contains(info_hash));
            named.for_each(|info_hash| found(*info_hash, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(first: u8) -> InfoHash {
        InfoHash(std::array::from_fn(|at| if at == 0 { first } else { 0xab }))
    }

    proptest! {
        #[test]
        fn a_search_survives_the_wire_within_a_datagram(
            port in 1u16.., cookie in any::<u64>(), hashes in prop::collection::vec(any::<[u8; 20]>(), 1..=HASHES),
        ) {
            let info_hashes = hashes.into_iter().map(InfoHash).collect();
            let search = Search { port, cookie: Some(format!("{cookie:016x}")), info_hashes };
            for group in GROUPS {
                let datagram = search.encode(group);
                prop_assert!(datagram.len() < DATAGRAM);
                prop_assert_eq!(Search::parse(&datagram), Some(search.clone()));
            }
        }

        #[test]
        fn no_datagram_makes_it_panic(tail in prop::collection::vec(any::<u8>(), 0..200), text in "(\\PC|[\r\n:])*") {
            let _ = Search::parse(&tail);
            let _ = Search::parse(format!("BT-SEARCH * HTTP/1.1\r\n{text}").as_bytes());
        }
    }

    #[test]
    fn headers_come_in_any_case_and_order_and_unknown_ones_are_skipped() {
        let (one, other) = (hash(1).to_string().to_uppercase(), hash(2));
        let datagram = format!(
            "BT-SEARCH * HTTP/1.1\r\nINFOHASH: {one}\r\nX-Odd: 1\r\nno header\r\nport:6881\ninfohash: ab\r\n\
             Infohash: {other}\r\n\r\n\r\n"
        );
        let expected = Search { port: 6881, cookie: None, info_hashes: vec![hash(1), hash(2)] };
        assert_eq!(Search::parse(datagram.as_bytes()), Some(expected));
    }

    #[test]
    fn a_datagram_without_port_or_torrent_is_ignored() {
        let hash = hash(1);
        for datagram in [
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nInfohash: {hash}\r\n\r\n"),
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n\r\n".to_owned(),
            format!("M-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hash}\r\n\r\n"),
        ] {
            assert_eq!(Search::parse(datagram.as_bytes()), None, "{datagram}");
        }
    }

    #[test]
    fn new_torrents_are_announced_after_a_minute_at_the_earliest_and_all_every_five() {
        let mut schedule = Schedule::default();
        let mut due = |now, torrents: &[InfoHash]| schedule.is_due(Duration::from_secs(now), torrents);
        assert!(!due(0, &[]));
        assert!(due(1, &[hash(1)]) && !due(2, &[hash(1)]));
        assert!(!due(60, &[hash(1), hash(2)]) && due(61, &[hash(1), hash(2)]));
        assert!(!due(360, &[hash(2)]) && due(361, &[hash(2)]));
    }
}
