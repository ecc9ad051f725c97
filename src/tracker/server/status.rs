//! The state of the swarms as the HTML page, `/status.json` and `/metrics` show it.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use nanoserde::SerJson;

use super::peer::Peer;
use super::store::Store;
use crate::base::sort::{sort, sort_by};
use crate::torrent::InfoHash;

/// Seconds without progress after which a leecher counts as stalled.
const PATIENCE: u32 = 30;

/// All torrents.
#[derive(Clone, Debug, PartialEq, SerJson)]
pub struct Status {
    /// Sorted by name, then info-hash.
    pub torrents: Vec<Torrent>,
}

/// One torrent.
#[derive(Clone, Debug, PartialEq, SerJson)]
pub struct Torrent {
    /// 40 hex digits.
    pub info_hash: String,
    /// The name inside the torrent; empty if unknown or not to be shown.
    pub name: String,
    /// Bytes; 0 if unknown.
    pub size: u64,
    /// Complete peers.
    pub seeders: u32,
    /// Incomplete peers.
    pub leechers: u32,
    /// Completed downloads, ever.
    pub completed: u32,
    /// The peers to be shown.
    pub peers: Vec<Row>,
}

/// One peer: one PC.
#[derive(Clone, Debug, PartialEq, SerJson)]
pub struct Row {
    /// Its address.
    pub ip: String,
    /// Its port.
    pub port: u16,
    /// Its name; empty if unknown.
    pub host: String,
    /// Its share of the data, in thousandths rounded down; `None` if the size is unknown.
    pub permille: Option<u32>,
    /// Recent download rate, bytes/s.
    pub rate: u32,
    /// Seconds until it is complete at that rate; 0 if unknown.
    pub time_left: u64,
    /// `complete`, `downloading`, `stalled` or `gone`.
    pub state: String,
}

/// State of a peer that has everything.
pub const COMPLETE: &str = "complete";
/// State of a peer that receives data.
pub const DOWNLOADING: &str = "downloading";
/// State of a peer that has received nothing for a while.
pub const STALLED: &str = "stalled";
/// State of a peer whose announce is overdue.
pub const GONE: &str = "gone";

/// Name and value of a number of a torrent.
type Gauge = (&'static str, fn(&Torrent) -> u64);

const GAUGES: [Gauge; 4] = [
    ("seeders", |torrent| torrent.seeders as u64),
    ("leechers", |torrent| torrent.leechers as u64),
    ("completed", |torrent| torrent.completed as u64),
    ("size_bytes", |torrent| torrent.size),
];

/// Name and value, if known, of a number of a peer.
type PeerGauge = (&'static str, fn(&Row) -> Option<u64>);

const PEER_GAUGES: [PeerGauge; 3] = [
    ("peer_permille", |row| row.permille.map(u64::from)),
    ("peer_rate_bytes", |row| Some(row.rate.into())),
    ("peer_time_left_seconds", |row| Some(row.time_left)),
];

/// The order in which peers are shown.
const RANKS: [&str; 4] = [GONE, STALLED, DOWNLOADING, COMPLETE];

/// The names that a hosts file gives to addresses (hosts(5)).
pub fn hosts(path: &Path) -> HashMap<IpAddr, String> {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut hosts = HashMap::new();
    for mut words in lines.map(str::split_whitespace) {
        if let (Some(Ok(ip)), Some(name)) = (words.next().map(str::parse::<IpAddr>), words.next()) {
            hosts.entry(ip.to_canonical()).or_insert_with(|| name.to_owned());
        }
    }
    hosts
}

impl Status {
    /// The present state; peers only of torrents that `open` selects, at most `most` of each.
    pub fn of(
        store: &Store,
        names: bool,
        host: &dyn Fn(IpAddr) -> String,
        open: &dyn Fn(InfoHash) -> bool,
        most: usize,
    ) -> Status {
        let now = store.now();
        let mut torrents: Vec<Torrent> = Vec::new();
        for counts in store.scrape(None) {
            let (name, size) = match &counts.listing {
                Some(listing) => (listing.name.clone(), listing.length),
                None => Default::default(),
            };
            let peers = if open(counts.info_hash) { store.swarm_peers(counts.info_hash) } else { Vec::new() };
            // Peers that need attention first; then by address, so that a row keeps its place.
            let rank = |peer: &Peer| RANKS.iter().position(|one| *one == state(peer, now));
            let place = |(at, peer): (usize, &Peer)| (rank(peer), peer.address.socket(), at);
            let mut order: Vec<_> = peers.iter().enumerate().map(place).collect();
            sort(&mut order);
            torrents.push(Torrent {
                info_hash: counts.info_hash.to_string(),
                name: if names { name } else { String::new() },
                size,
                seeders: counts.seeders,
                leechers: counts.leechers,
                completed: counts.completed,
                peers: order.iter().take(most).map(|(_, _, at)| row(&peers[*at], size, now, host)).collect(),
            });
        }
        sort_by(&mut torrents, |one: &Torrent, other| (&one.name, &one.info_hash) < (&other.name, &other.info_hash));
        Status { torrents }
    }

    /// The state in Prometheus' text format.
    pub fn metrics(&self, counters: &[(&str, u64)]) -> String {
        let mut out = String::new();
        for (name, value) in counters {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# TYPE bttrack_{name}_total counter\nbttrack_{name}_total {value}");
        }
        for (gauge, value) in GAUGES {
            let _ = writeln!(out, "# TYPE bttrack_{gauge} gauge");
            for torrent in &self.torrents {
                let (hash, name, value) = (&torrent.info_hash, label(&torrent.name), value(torrent));
                let _ = writeln!(out, "bttrack_{gauge}{{info_hash=\"{hash}\",name=\"{name}\"}} {value}");
            }
        }
        for (gauge, value) in PEER_GAUGES {
            let _ = writeln!(out, "# TYPE bttrack_{gauge} gauge");
            for (torrent, row) in
                self.torrents.iter().flat_map(|torrent| torrent.peers.iter().map(move |row| (torrent, row)))
            {
                let (hash, Row { ip, port, state, .. }, host) = (&torrent.info_hash, row, label(&row.host));
                if let Some(value) = value(row) {
                    let of =
                        format!("info_hash=\"{hash}\",ip=\"{ip}\",port=\"{port}\",host=\"{host}\",state=\"{state}\"");
                    let _ = writeln!(out, "bttrack_{gauge}{{{of}}} {value}");
                }
            }
        }
        out
    }
}

/// Escapes `text` for a label's quotes.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn state(peer: &Peer, now: u32) -> &'static str {
    if peer.late(now) {
        GONE
    } else if peer.left == 0 {
        COMPLETE
    } else if peer.rate == 0 && now.saturating_sub(peer.since) > PATIENCE {
        STALLED
    } else {
        DOWNLOADING
    }
}

fn row(peer: &Peer, size: u64, now: u32, host: &dyn Fn(IpAddr) -> String) -> Row {
    let address = peer.address.socket();
    let state = state(peer, now);
    let permille = match size {
        0 => (peer.left == 0).then_some(1000),
        // Rounded down: only a complete peer has 1000.
        size => Some((u128::from(size.saturating_sub(peer.left)) * 1000 / u128::from(size)) as u32),
    };
    let moving = state == DOWNLOADING;
    Row {
        ip: address.ip().to_string(),
        port: address.port(),
        host: host(address.ip()),
        permille,
        rate: if moving { peer.rate } else { 0 },
        time_left: if moving { peer.left.checked_div(peer.rate.into()).unwrap_or(0) } else { 0 },
        state: state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::super::store::tests::open_store;
    use super::super::store::{Announce, Listing};
    use super::*;
    use crate::torrent::PeerId;
    use crate::tracker::message::Event;
    use crate::tracker::server::peer::Owner;

    const HASH: InfoHash = InfoHash([7; 20]);

    fn filled() -> Store {
        let store = open_store();
        let listing = Listing { name: "x \"1\".img".into(), length: 1000, ..Listing::default() };
        store.list(&HashMap::from([(HASH, Arc::new(listing))]));
        let now = store.now();
        for (n, left, time) in [
            (1, 1000, now - 60), // gone
            (2, 500, now - 50),
            (2, 500, now), // stalled
            (3, 800, now - 4),
            (3, 400, now), // downloading
            (4, 0, now),   // complete
        ] {
            let socket = SocketAddr::from(([10, 0, 0, n], 6881));
            let (address, owner) = (socket.into(), Owner::new(socket.ip(), 0));
            let announce = Announce {
                info_hash: HASH,
                address,
                owner,
                id: PeerId([n; 20]),
                left,
                event: Event::None,
                wanted: None,
            };
            store.announce(&announce, time, &mut Vec::new()).unwrap();
        }
        store
    }

    #[test]
    fn each_peer_is_what_its_announces_say() {
        let host = |ip: IpAddr| if ip.to_string() == "10.0.0.3" { "pc3".to_owned() } else { String::new() };
        let status = Status::of(&filled(), true, &host, &|_| true, 10);
        let rows: Vec<_> =
            status.torrents[0].peers.iter().map(|row| (&*row.ip, &*row.state, row.permille.unwrap())).collect();
        let expected = [
            ("10.0.0.1", GONE, 0),
            ("10.0.0.2", STALLED, 500),
            ("10.0.0.3", DOWNLOADING, 600),
            ("10.0.0.4", COMPLETE, 1000),
        ];
        assert_eq!(rows, expected);
        let moving = &status.torrents[0].peers[2];
        assert_eq!((moving.rate, moving.time_left, &*moving.host), (100, 4, "pc3"));
        assert_eq!(Status::of(&filled(), true, &host, &|_| true, 2).torrents[0].peers.len(), 2);
        assert_eq!(Status::of(&filled(), false, &host, &|_| false, 2).torrents[0].name, "");
    }

    #[test]
    fn metrics_have_a_line_a_torrent_and_a_peer_and_escape_names() {
        let metrics = Status::of(&filled(), true, &|_| "pc\"3".to_owned(), &|_| true, 9).metrics(&[("announces", 5)]);
        assert!(metrics.contains("# TYPE bttrack_announces_total counter\nbttrack_announces_total 5\n"), "{metrics}");
        let line = format!("bttrack_leechers{{info_hash=\"{HASH}\",name=\"x \\\"1\\\".img\"}} 3\n");
        assert!(metrics.contains(&line), "{metrics}");
        let peer = |ip: &str| format!("{{info_hash=\"{HASH}\",ip=\"{ip}\",port=\"");
        assert!(metrics.contains(&format!("bttrack_peer_permille{}", peer("10.0.0.3"))), "{metrics}");
        assert!(metrics.contains("host=\"pc\\\"3\",state=\"stalled\"} 500\n"), "{metrics}");
        assert!(metrics.contains("state=\"downloading\"} 100\n"), "{metrics}");
    }

    #[test]
    fn hosts_files_are_read_as_hosts_5_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(
            &path,
            "# comment\n10.0.0.1\tpc1 pc1.lab # x\n\n10.0.0.1 other\n::ffff:10.0.0.2 pc2\nbad line\n",
        )
        .unwrap();
        let found = hosts(&path);
        assert_eq!((&*found[&[10, 0, 0, 1].into()], &*found[&[10, 0, 0, 2].into()], found.len()), ("pc1", "pc2", 2));
        assert!(hosts(Path::new("/nowhere")).is_empty());
    }
}
