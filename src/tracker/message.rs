//! What is asked of a tracker and what it answers, as values, and their HTTP form (BEP 3, 7, 23, 24, 31, 48).
//!
//! No socket here. A reply is hostile: lists are cut at [`MAX_PEERS`], texts at 300 characters, times at a
//! day, and an address that is a name instead of a number is left out rather than resolved.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Error, compact, query};
use crate::base::percent;
use crate::torrent::bencode::{self, Value};
use crate::torrent::{InfoHash, PeerId};

/// Peers of one reply that are read; more are ignored.
pub const MAX_PEERS: usize = 4096;
/// Seconds between announces when the tracker does not say.
const DEFAULT_INTERVAL: i64 = 300;
/// Longest interval that is believed, in seconds.
const LONGEST_INTERVAL: i64 = 86_400;
/// Longest text of a tracker that is kept, in characters.
const MAX_TEXT: usize = 300;

/// What happened to a download since the last announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Event {
    /// Nothing: a regular announce.
    #[default]
    None,
    /// The session begins.
    Started,
    /// The session ends.
    Stopped,
    /// The last missing piece came.
    Completed,
}

impl Event {
    /// The word of the protocol; None for a regular announce.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Event::None => None,
            Event::Started => Some("started"),
            Event::Stopped => Some("stopped"),
            Event::Completed => Some("completed"),
        }
    }
}

/// What a peer tells its tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The peer's name for itself.
    pub peer_id: PeerId,
    /// TCP port it listens on.
    pub port: u16,
    /// Bytes sent in this session.
    pub uploaded: u64,
    /// Bytes received in this session.
    pub downloaded: u64,
    /// Bytes still missing after verification; 0 makes it a seeder.
    pub left: u64,
    /// Why it announces.
    pub event: Event,
    /// Peers wanted.
    pub numwant: u32,
    /// A secret that proves the peer to be the same when its address changes.
    pub key: u32,
    /// An address to be published instead of the one the tracker sees; many trackers ignore it.
    pub ip: Option<String>,
    /// What the tracker gave as `tracker id` before.
    pub tracker_id: Option<Vec<u8>>,
}

impl AnnounceRequest {
    /// `url` with this request as its query (after what the URL's own query says).
    pub fn url(&self, url: &str) -> String {
        let mut text = with_query(url);
        text.push_str("info_hash=");
        percent::escape(&self.info_hash.0, &mut text);
        text.push_str("&peer_id=");
        percent::escape(&self.peer_id.0, &mut text);
        if let Some(ip) = &self.ip {
            text.push_str("&ip=");
            percent::escape(ip.as_bytes(), &mut text);
        }
        text.push_str(&format!(
            "&port={}&uploaded={}&downloaded={}&left={}&compact=1&no_peer_id=1&numwant={}&key={:08x}",
            self.port, self.uploaded, self.downloaded, self.left, self.numwant, self.key
        ));
        if let Some(id) = &self.tracker_id {
            text.push_str("&trackerid=");
            percent::escape(id, &mut text);
        }
        if let Some(event) = self.event.name() {
            text.push_str("&event=");
            text.push_str(event);
        }
        text
    }
}

/// `url` up to where another `name=value` can follow.
fn with_query(url: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let joint = match url.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{url}{joint}")
}

/// What a tracker tells a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// Time until the next regular announce, between 1 s and a day.
    pub interval: Duration,
    /// Time to be kept between two announces at least.
    pub min_interval: Option<Duration>,
    /// Other peers of the swarm, perhaps with the asker itself among them; at most [`MAX_PEERS`].
    pub peers: Vec<SocketAddr>,
    /// Seeders.
    pub complete: Option<u32>,
    /// Leechers.
    pub incomplete: Option<u32>,
    /// A text for the user.
    pub warning: Option<String>,
    /// The asker's address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// To be given back with each further announce.
    pub tracker_id: Option<Vec<u8>>,
}

impl AnnounceReply {
    /// Reads the body of an HTTP reply; `url` is for the error.
    ///
    /// # Errors
    /// [`Error::Refused`] when it holds a `failure reason`, [`Error::Reply`] when it is no reply at all.
    pub fn parse(body: &[u8], url: &str) -> Result<AnnounceReply, Error> {
        let reply = dictionary(body, url)?;
        if reply.get(b"interval").is_none() && reply.get(b"peers").is_none() {
            return Err(Error::Reply { url: url.to_owned(), why: "neither interval nor peers in the reply" });
        }
        let mut peers = match reply.get(b"peers") {
            Some(list) => peers(list),
            None => Vec::new(),
        };
        if let Some(list) = reply.get(b"peers6").and_then(|list| list.bytes()) {
            let room = MAX_PEERS - peers.len();
            peers.extend(compact::read_v6(list).take(room));
        }
        Ok(AnnounceReply {
            interval: seconds(reply.get(b"interval")).unwrap_or(Duration::from_secs(DEFAULT_INTERVAL as u64)),
            min_interval: seconds(reply.get(b"min interval")),
            peers,
            complete: count(reply.get(b"complete")),
            incomplete: count(reply.get(b"incomplete")),
            warning: text(reply.get(b"warning message")),
            external_ip: reply.get(b"external ip").and_then(|ip| raw_ip(ip.bytes()?)),
            tracker_id: reply
                .get(b"tracker id")
                .and_then(|id| id.bytes())
                .filter(|id| id.len() <= MAX_TEXT)
                .map(<[u8]>::to_vec),
        })
    }
}

/// What a tracker counts for one torrent (BEP 48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Seeders.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// Downloads that came to their end, ever.
    pub downloaded: u32,
}

/// The scrape URL that belongs to an announce URL, with `hashes` as its query: the last path component must
/// begin with `announce` (BEP 48). None when it does not.
pub fn scrape_url(announce: &str, hashes: &[InfoHash]) -> Option<String> {
    let path = announce.split(['?', '#']).next().unwrap_or_default();
    let slash = path.rfind('/')?;
    let rest = announce[slash + 1..].strip_prefix("announce")?;
    let mut url = with_query(&format!("{}/scrape{rest}", &announce[..slash]));
    for (at, hash) in hashes.iter().enumerate() {
        url.push_str(if at == 0 { "info_hash=" } else { "&info_hash=" });
        percent::escape(&hash.0, &mut url);
    }
    Some(url)
}

/// Reads the body of a reply to a scrape; `url` is for the error.
///
/// # Errors
/// As [`AnnounceReply::parse`].
pub fn parse_scrape(body: &[u8], url: &str) -> Result<Vec<ScrapeEntry>, Error> {
    let reply = dictionary(body, url)?;
    let files = reply.get(b"files").and_then(|files| files.dict());
    let files = files.ok_or_else(|| Error::Reply { url: url.to_owned(), why: "no files in the reply" })?;
    Ok(files
        .filter_map(|(hash, counts)| {
            Some(ScrapeEntry {
                info_hash: InfoHash(hash.try_into().ok()?),
                complete: count(counts.get(b"complete")).unwrap_or(0),
                incomplete: count(counts.get(b"incomplete")).unwrap_or(0),
                downloaded: count(counts.get(b"downloaded")).unwrap_or(0),
            })
        })
        .collect())
}

/// The dictionary that every reply is, unless it is a refusal.
fn dictionary<'a>(body: &'a [u8], url: &str) -> Result<Value<'a>, Error> {
    let wrong = |why| Error::Reply { url: url.to_owned(), why };
    // Some trackers end their reply with a line end.
    let (reply, _) = bencode::decode_prefix(body).map_err(|_| wrong("the reply is not bencoded"))?;
    if reply.dict().is_none() {
        return Err(wrong("the reply is no dictionary"));
    }
    match text(reply.get(b"failure reason")) {
        Some(reason) => Err(Error::Refused { reason, retry_in: reply.get(b"retry in").and_then(retry_in) }),
        None => Ok(reply),
    }
}

/// BEP 31: minutes, or `never`.
fn retry_in(value: Value) -> Option<Duration> {
    if value.bytes() == Some(b"never") {
        return Some(Duration::MAX);
    }
    let minutes = value.int().or_else(|| query::number(value.bytes()?)?.try_into().ok())?;
    u64::try_from(minutes).ok().map(|minutes| Duration::from_secs(minutes.saturating_mul(60)))
}

fn peers(list: Value) -> Vec<SocketAddr> {
    if let Some(compact) = list.bytes() {
        return compact::read_v4(compact).take(MAX_PEERS).collect();
    }
    let dictionaries = list.list().into_iter().flatten().take(MAX_PEERS);
    dictionaries
        .filter_map(|peer| {
            let ip: IpAddr = peer.get(b"ip")?.str()?.parse().ok()?;
            let port = u16::try_from(peer.get(b"port")?.int()?).ok().filter(|port| *port != 0)?;
            Some(SocketAddr::new(ip.to_canonical(), port))
        })
        .collect()
}

fn seconds(value: Option<Value>) -> Option<Duration> {
    let seconds = value?.int().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.min(LONGEST_INTERVAL) as u64))
}

fn count(value: Option<Value>) -> Option<u32> {
    value?.int().map(|count| count.clamp(0, u32::MAX.into()) as u32)
}

/// A text fit for a terminal and a log.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MAX_TEXT)
        .collect()
}

fn text(value: Option<Value>) -> Option<String> {
    value?.bytes().map(printable)
}

fn raw_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests;
