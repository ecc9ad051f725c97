//! Answers to datagrams (BEP 15): none to one that is not a request, and refusals in the words of the HTTP side.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use super::{Announce, IP_REFUSED, Owner, ScrapeAllowed, Scratch, Service, count};
use crate::torrent::InfoHash;
use crate::tracker::udp::{self, Reply, Request};

/// Least time for which a connection id is valid, seconds; at most twice that.
pub(super) const CONNECTION_LIFE: u32 = 120;

impl Service {
    /// Answers a datagram from `asker`, which must not be an IPv4-mapped address, in `out` and describes it in
    /// `scratch.line`. Returns false, with no answer, if it is not a request.
    pub fn answer_udp(
        &self,
        packet: &[u8],
        asker: SocketAddr,
        now: u32,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        scratch.line.clear();
        #[cfg(test)]
        crate::base::boundary::panic_if_asked("request", packet);
        let Some(request) = Request::read(packet) else { return false };
        let transaction = request.transaction();
        if !self.admits(asker.ip()) {
            refuse(transaction, IP_REFUSED, out);
            scratch.line.extend_from_slice(b"UDP refused");
            return true;
        }
        let known = match &request {
            Request::Connect { .. } => true,
            Request::Announce { connection, .. } | Request::Scrape { connection, .. } => {
                self.is_connection(*connection, asker, now)
            }
        };
        let line: &[u8] = match &request {
            Request::Connect { .. } => b"UDP connect",
            Request::Announce { .. } if known => b"UDP announce ",
            Request::Announce { .. } => b"UDP announce without connection",
            Request::Scrape { .. } if known => b"UDP scrape",
            Request::Scrape { .. } => b"UDP scrape without connection",
        };
        scratch.line.extend_from_slice(line);
        match request {
            _ if !known => refuse(transaction, "connection id unknown or expired", out),
            Request::Connect { .. } => {
                let connection = self.connection(asker, now / CONNECTION_LIFE);
                Reply::Connect { transaction, connection }.write(out);
            }
            Request::Announce { announce, .. } => self.announce_udp(transaction, &announce, asker, now, scratch, out),
            Request::Scrape { .. } if self.config.scrape == ScrapeAllowed::None => {
                refuse(transaction, "specific scrape function is not available with this tracker.", out);
            }
            Request::Scrape { hashes, .. } => self.scrape_udp(transaction, &hashes, out),
        }
        true
    }

    fn announce_udp(
        &self,
        transaction: u32,
        announce: &udp::Announce,
        asker: SocketAddr,
        now: u32,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) {
        let said = Some(IpAddr::V4(announce.ip)).filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
        let ip = said.filter(|_| asker.is_ipv4() && self.believes(asker.ip())).unwrap_or(asker.ip());
        let bytes = if asker.is_ipv4() { 6 } else { 18 };
        let room = (udp::MAX_PACKET - 20) / bytes;
        let question = Announce {
            info_hash: announce.info_hash,
            address: SocketAddr::new(ip, announce.port).into(),
            owner: Owner::new(self.source_of(asker.ip(), ip), announce.key),
            id: announce.peer_id,
            left: announce.left,
            event: announce.event,
            wanted: announce.numwant.map(|wanted| wanted as usize),
        };
        scratch.peers.clear();
        match self.store.announce(&question, now, &mut scratch.peers) {
            Ok(answer) => {
                count(&self.counters.announces);
                udp::announce_reply(out, transaction, answer.interval, answer.leechers, answer.seeders);
                let peers = scratch.peers.iter().map(|(address, _)| address);
                match asker.is_ipv4() {
                    true => peers.filter_map(|peer| peer.compact_v4()).take(room).for_each(|peer| out.extend(peer)),
                    false => peers.filter_map(|peer| peer.compact_v6()).take(room).for_each(|peer| out.extend(peer)),
                }
            }
            Err(why) => {
                count(&self.counters.refusals);
                refuse(transaction, &why, out);
            }
        }
        scratch.line.extend_from_slice(&announce.info_hash.digits());
        scratch.line.push(b' ');
        scratch.line.extend_from_slice(announce.event.name().unwrap_or_default().as_bytes());
    }

    fn scrape_udp(&self, transaction: u32, hashes: &[InfoHash], out: &mut Vec<u8>) {
        count(&self.counters.scrapes);
        let found = self.store.scrape(Some(hashes));
        let mut found = found.iter().peekable();
        // The reply needs an entry for each requested hash, so unknown torrents get zeroes.
        let counts = hashes.iter().map(|hash| {
            let counts = found.next_if(|one| one.info_hash == *hash);
            counts.map_or([0; 3], |one| [one.seeders, one.completed, one.leechers])
        });
        Reply::Scrape { transaction, counts: counts.collect() }.write(out);
    }

    /// The connection id: a keyed hash of the asker's address and the time. It needs no state, and a client that forges
    /// its address cannot know it.
    pub(super) fn connection(&self, asker: SocketAddr, period: u32) -> u64 {
        self.secret.hash_one((asker.ip(), period))
    }

    fn is_connection(&self, connection: u64, asker: SocketAddr, now: u32) -> bool {
        let period = now / CONNECTION_LIFE;
        [period, period.wrapping_sub(1)].into_iter().any(|period| self.connection(asker, period) == connection)
    }
}

fn refuse(transaction: u32, reason: &str, out: &mut Vec<u8>) {
    Reply::Error { transaction, reason: reason.to_owned() }.write(out);
}
