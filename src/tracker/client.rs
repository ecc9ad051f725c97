//! The client side: one announce or one scrape at a time, over HTTP (BEP 3) or UDP (BEP 15).
//!
//! A call blocks until the answer has come or the client's time-out is over. [`super::announcer`] decides when and
//! where to announce. No TLS: an `https://` tracker is refused with an error.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use ureq::unversioned::resolver::DefaultResolver;

pub use super::error::Error;
use super::message::{self, MAX_PEERS};
pub use super::message::{AnnounceReply, AnnounceRequest, Event, ScrapeEntry};
use super::udp;
use crate::base::http::Dialer;
use crate::torrent::InfoHash;

/// Longest reply that is read, bytes.
const MAX_BODY: u64 = 1 << 20;
/// Time until a UDP request is sent again; doubles each time. BEP 15's 15 s suit the open internet; in a lab's network
/// a reply takes milliseconds.
const FIRST_RETRANSMISSION: Duration = Duration::from_secs(1);

/// A tracker client. Cheap to clone, usable from several threads.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    timeout: Duration,
    from: IpAddr,
}

impl Client {
    /// A client that identifies itself as `user_agent`, sends from the local address `from` (unspecified: any) and
    /// waits at most `timeout` for each answer, name lookup included.
    pub fn new(user_agent: &str, from: IpAddr, timeout: Duration) -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_send_request(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_recv_body(Some(timeout))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(3)
            .max_idle_connections(0)
            .input_buffer_size(16 << 10)
            .output_buffer_size(8 << 10)
            .user_agent(user_agent)
            .build();
        // No connection is kept: the next request comes in seconds at the soonest.
        let dialer = Dialer { from, keep: false, near: true };
        let agent = ureq::Agent::with_parts(config, dialer, DefaultResolver::default());
        Client { agent, timeout, from }
    }

    /// Announces at `url` (`http://` or `udp://`).
    ///
    /// # Errors
    /// No answer, a malformed one, or a refusal.
    pub fn announce(&self, url: &str, request: &AnnounceRequest) -> Result<AnnounceReply, Error> {
        if let Some(tracker) = udp_host(url)? {
            return self.announce_udp(url, tracker, request);
        }
        self.get(url, &request.url(url), |body| AnnounceReply::parse(body, url))
    }

    /// Asks the tracker of announce URL `url` for the counts of `hashes`; at most 74 of them over UDP.
    ///
    /// # Errors
    /// As [`announce`](Self::announce); also a URL without a matching scrape URL (BEP 48).
    pub fn scrape(&self, url: &str, hashes: &[InfoHash]) -> Result<Vec<ScrapeEntry>, Error> {
        if let Some(tracker) = udp_host(url)? {
            return self.scrape_udp(url, tracker, hashes);
        }
        let scrape = message::scrape_url(url, hashes)
            .ok_or_else(|| Error::Url { url: url.to_owned(), why: "no scrape: its path does not end in announce" })?;
        self.get(url, &scrape, |body| message::parse_scrape(body, url))
    }

    /// Downloads `url`, at most `most` bytes: a .torrent that a tracker offers.
    ///
    /// # Errors
    /// No answer, a status other than 200, or a longer body.
    pub fn fetch(&self, url: &str, most: u64) -> Result<Vec<u8>, Error> {
        let failed = |error: ureq::Error| Error::Transport { url: url.to_owned(), why: error.to_string() };
        let mut response = self.agent.get(url).header("Connection", "close").call().map_err(failed)?;
        match response.status().as_u16() {
            200 => response.body_mut().with_config().limit(most).read_to_vec().map_err(failed),
            code => Err(Error::Status { url: url.to_owned(), code }),
        }
    }

    fn get<T>(&self, url: &str, full: &str, parse: impl FnOnce(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
        let failed = |error: ureq::Error| Error::Transport { url: url.to_owned(), why: error.to_string() };
        let mut response = self.agent.get(full).header("Connection", "close").call().map_err(failed)?;
        let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec().map_err(failed)?;
        match response.status().as_u16() {
            200 => parse(&body),
            // Some trackers refuse with another status but still give the reason in the body.
            code => match parse(&body) {
                Err(refused @ Error::Refused { .. }) => Err(refused),
                _ => Err(Error::Status { url: url.to_owned(), code }),
            },
        }
    }

    fn announce_udp(&self, url: &str, tracker: &str, request: &AnnounceRequest) -> Result<AnnounceReply, Error> {
        let ip = request.ip.as_ref().and_then(|ip| ip.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let announce = udp::Announce {
            info_hash: request.info_hash,
            peer_id: request.peer_id,
            downloaded: request.downloaded,
            left: request.left,
            uploaded: request.uploaded,
            event: request.event,
            ip,
            key: request.key,
            numwant: Some(request.numwant),
            port: request.port,
        };
        let ask = |connection, transaction| {
            let announce = announce.clone();
            udp::Request::Announce { connection, transaction, announce }
        };
        match self.converse(url, tracker, ask)? {
            udp::Reply::Announce { interval, leechers, seeders, mut peers, .. } => {
                peers.truncate(MAX_PEERS);
                Ok(AnnounceReply {
                    interval: Duration::from_secs(interval.clamp(1, 86_400).into()),
                    peers,
                    complete: Some(seeders),
                    incomplete: Some(leechers),
                    ..AnnounceReply::default()
                })
            }
            _ => Err(Error::Reply { url: url.to_owned(), why: "not a reply to an announce" }),
        }
    }

    fn scrape_udp(&self, url: &str, tracker: &str, hashes: &[InfoHash]) -> Result<Vec<ScrapeEntry>, Error> {
        let hashes = &hashes[..hashes.len().min(udp::MAX_SCRAPE)];
        let ask = |connection, transaction| udp::Request::Scrape { connection, transaction, hashes: hashes.to_vec() };
        match self.converse(url, tracker, ask)? {
            udp::Reply::Scrape { counts, .. } => Ok(hashes
                .iter()
                .zip(counts)
                .map(|(hash, [complete, downloaded, incomplete])| ScrapeEntry {
                    info_hash: *hash,
                    complete,
                    incomplete,
                    downloaded,
                })
                .collect()),
            _ => Err(Error::Reply { url: url.to_owned(), why: "not a reply to a scrape" }),
        }
    }

    /// Connects to `tracker` (`host:port`) and sends the request that `ask` makes from a connection id and a transaction
    /// id. Each of the tracker's addresses is tried until one answers or the time is over.
    fn converse(&self, url: &str, tracker: &str, ask: impl Fn(u64, u32) -> udp::Request) -> Result<udp::Reply, Error> {
        let failed = |error: io::Error| Error::Transport { url: url.to_owned(), why: error.to_string() };
        let deadline = Instant::now() + self.timeout;
        let mut outcome = Err(Error::Url { url: url.to_owned(), why: "the name has no address" });
        for address in tracker.to_socket_addrs().map_err(failed)? {
            let transaction = RandomState::new().hash_one(address) as u32;
            let conversation = || {
                let socket = connected(self.from, address)?;
                let connect = udp::Request::Connect { transaction };
                match exchange(&socket, address, &connect, transaction, deadline)? {
                    udp::Reply::Connect { connection, .. } => {
                        let transaction = transaction.wrapping_add(1);
                        exchange(&socket, address, &ask(connection, transaction), transaction, deadline)
                    }
                    refused => Ok(refused),
                }
            };
            outcome = match conversation().map_err(failed) {
                Ok(udp::Reply::Error { reason, .. }) => Err(Error::Refused { reason, retry_in: None }),
                Ok(reply) => return Ok(reply),
                Err(error) => Err(error),
            };
        }
        outcome
    }
}

/// The `host:port` of a UDP tracker; `None` if `url` is an HTTP tracker's.
fn udp_host(url: &str) -> Result<Option<&str>, Error> {
    let wrong = |why| Err(Error::Url { url: url.to_owned(), why });
    if url.starts_with("http://") {
        return Ok(None);
    }
    let Some(rest) = url.strip_prefix("udp://") else {
        return wrong("only http:// and udp:// trackers can be asked");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) => Ok(Some(host)),
        _ => wrong("a udp:// tracker needs a host and a port"),
    }
}

/// A socket that receives from `tracker` only, bound to `from` if that is of the same family.
fn connected(from: IpAddr, tracker: SocketAddr) -> io::Result<UdpSocket> {
    let local: IpAddr = match tracker {
        _ if from.is_ipv4() == tracker.is_ipv4() => from,
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(tracker)?;
    Ok(socket)
}

/// Sends `request` until its reply comes or the deadline passes.
fn exchange(
    socket: &UdpSocket,
    tracker: SocketAddr,
    request: &udp::Request,
    transaction: u32,
    deadline: Instant,
) -> io::Result<udp::Reply> {
    let mut packet = Vec::with_capacity(udp::MAX_PACKET);
    request.write(&mut packet);
    let mut patience = FIRST_RETRANSMISSION;
    // Larger than any reply: a longer datagram would be cut by the kernel.
    let mut buffer = vec![0; 64 << 10];
    loop {
        socket.send(&packet)?;
        let until = (Instant::now() + patience).min(deadline);
        patience *= 2;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            let length = match socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            // Anything that does not answer this very request is late or forged.
            if let Some(reply) = udp::Reply::read(&buffer[..length], tracker.ip())
                && reply.transaction() == transaction
            {
                return Ok(reply);
            }
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        }
    }
}

#[cfg(test)]
mod tests;
