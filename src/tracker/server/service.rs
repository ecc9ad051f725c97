//! What is answered to whom: paths, refusals and their words, as BitTornado's `bttrack` has them.
//!
//! A refusal to track is a 200 with a `failure reason`, because clients do not read the body of another
//! status; what is malformed is a 400 in plain text.

use std::borrow::Cow;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use nanoserde::SerJson;

use super::allowed::Source;
use super::announce::{self, Form, Query};
use super::config::{Config, OverrideIp, ScrapeAllowed};
use super::http::{Head, Malformed, Method, Reply};
use super::names::Names;
use super::ranges::Ranges;
use super::status::{self, Status};
use super::store::{Announce, Listing, Store};
use super::swarm::Address;
use super::{page, publish};
use crate::base::log::{Log, iso};
use crate::base::time::unix_seconds;
use crate::torrent::{InfoHash, MAX_METAINFO, PeerId};
use crate::tracker::{query, udp};

/// The 404 of the namesake.
const ALAS: &str = "your file may exist elsewhere in the universe\nbut alas, not here\n";
const PLAIN: &str = "text/plain";
const NO_CACHE: &str = "Pragma: no-cache\r\n";
/// Seconds for which a connection id of the UDP protocol is good at least; twice that at most.
const CONNECTION_LIFE: u32 = 120;
/// Torrents that the page opens at most, and rows of each.
const MOST_OPEN: usize = 50;
const MOST_ROWS: usize = 1000;
/// What is said to an address that the lists keep out.
const IP_REFUSED: &str = "your IP is not allowed on this tracker";

/// A reply to be written.
pub struct Made {
    /// Status code.
    pub code: u16,
    reason: &'static str,
    kind: &'static str,
    headers: Cow<'static, str>,
    /// The body.
    pub body: Vec<u8>,
}

impl Made {
    fn new(code: u16, reason: &'static str, kind: &'static str, body: impl Into<Vec<u8>>) -> Made {
        Made { code, reason, kind, headers: Cow::Borrowed(""), body: body.into() }
    }

    fn with(mut self, headers: impl Into<Cow<'static, str>>) -> Made {
        self.headers += headers.into();
        self
    }

    /// What is answered to a request whose answering panicked.
    pub fn panicked() -> Made {
        Made::new(500, "Internal Server Error", PLAIN, "the tracker failed here; its log says where\n").with(NO_CACHE)
    }

    /// What is answered to a head that is none.
    pub fn malformed(why: Malformed) -> Made {
        let (code, text) = why.status();
        Made::new(code, "Bad Request", PLAIN, text)
    }

    fn alas() -> Made {
        Made::new(404, "Not Found", PLAIN, ALAS).with(NO_CACHE)
    }

    fn garbage(why: &str) -> Made {
        Made::new(400, "Bad Request", PLAIN, format!("you sent me garbage - {why}"))
    }

    fn refused(code: u16, why: &str) -> Made {
        Made::new(code, "Not Authorized", PLAIN, announce::failure(why)).with(NO_CACHE)
    }

    /// The reply without its body.
    pub fn reply(&self) -> Reply<'_> {
        Reply { code: self.code, reason: self.reason, kind: self.kind, headers: &self.headers }
    }
}

/// Memory that is used again from request to request.
#[derive(Default)]
pub struct Scratch {
    peers: Vec<(Address, PeerId)>,
    /// A body that was sent.
    pub body: Vec<u8>,
    /// What a datagram was, for the log.
    pub line: Vec<u8>,
}

/// Which list of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Who may ask.
    Allowed,
    /// Who may not.
    Banned,
}

#[derive(Default)]
struct Lists {
    /// Some as soon as there is to be such a list: while it cannot be read, nobody is on it.
    allowed: Option<Ranges>,
    banned: Ranges,
}

/// What has been done since the start.
#[derive(Default)]
struct Counters {
    announces: AtomicU64,
    scrapes: AtomicU64,
    refusals: AtomicU64,
}

/// What answers requests, whatever they come by; shared by the threads that read them.
pub struct Service {
    /// How it is set up.
    pub config: Config,
    /// All swarms.
    pub store: Store,
    /// The log.
    pub log: Log,
    favicon: Option<Vec<u8>>,
    secret: RandomState,
    /// Names of addresses that the hosts file does not give.
    pub names: Names,
    lists: RwLock<Lists>,
    counters: Counters,
    pages: Mutex<()>,
}

impl Service {
    /// A service of `config` that writes to `log`.
    pub fn new(config: Config, log: Log) -> Service {
        let secret = RandomState::new();
        let favicon = config.favicon.as_ref().and_then(|path| match fs::read(path) {
            Ok(icon) => Some(icon),
            Err(error) => {
                log.note(&format!("**warning** specified favicon file -- {} -- {error}", path.display()));
                None
            }
        });
        let store = Store::new(config.rules.clone(), secret.hash_one("seed"));
        let lists =
            Lists { allowed: config.allowed_ips.as_ref().map(|_| Ranges::default()), banned: Ranges::default() };
        let (names, lists, counters) = (Names::default(), RwLock::new(lists), Counters::default());
        Service { config, store, log, favicon, secret, names, lists, counters, pages: Mutex::default() }
    }

    /// Puts a list of addresses in force.
    pub fn set_list(&self, which: Which, ranges: Ranges) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        match which {
            Which::Allowed => lists.allowed = Some(ranges),
            Which::Banned => lists.banned = ranges,
        }
    }

    /// Whether the lists of addresses let `ip` ask for anything at all.
    fn admits(&self, ip: IpAddr) -> bool {
        if self.config.allowed_ips.is_none() && self.config.banned_ips.is_none() {
            return true;
        }
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        lists.allowed.as_ref().is_none_or(|allowed| allowed.contains(ip)) && !lists.banned.contains(ip)
    }

    /// Answers a request of `asker`, an address that is not IPv4 mapped.
    pub fn answer(&self, head: &Head, asker: IpAddr, now: u32, scratch: &mut Scratch) -> Made {
        #[cfg(test)]
        crate::base::boundary::panic_if_asked("request", head.path);
        if !self.admits(asker) {
            return Made::refused(400, IP_REFUSED);
        }
        if head.method == Method::Put {
            return Made::new(405, "Method Not Allowed", PLAIN, "nothing can be put here\n")
                .with("Allow: GET, HEAD\r\n");
        }
        match head.path {
            b"/announce" | b"/announce.php" | b"/tracker.php/announce" => {
                let made = self.announce(head, asker, now, scratch);
                count(if made.reason == "OK" { &self.counters.announces } else { &self.counters.refusals });
                made
            }
            b"/scrape" | b"/scrape.php" | b"/tracker.php/scrape" => {
                count(&self.counters.scrapes);
                self.scrape(head.query)
            }
            b"/file" => self.file(head.query),
            b"/favicon.ico" => match &self.favicon {
                Some(icon) => Made::new(200, "OK", "image/x-icon", icon.clone()),
                None => Made::alas(),
            },
            b"/" | b"/index.html" | b"/status.json" | b"/metrics" if self.config.show_infopage => self.page(head),
            _ => Made::alas(),
        }
    }

    /// What a body that is put needs: how long it is. The token is asked for before anything of it is read.
    ///
    /// # Errors
    /// The reply to a body that is not wanted.
    pub fn body_length(&self, head: &Head, asker: IpAddr) -> Result<usize, Made> {
        if !self.admits(asker) {
            return Err(Made::refused(400, IP_REFUSED));
        }
        let (Some(token), Some(Source::Directory { .. }), b"/file") =
            (&self.config.publish_token, &self.config.source, head.path)
        else {
            let text = "nothing can be put here\n";
            return Err(Made::new(405, "Method Not Allowed", PLAIN, text).with("Allow: GET, HEAD\r\n"));
        };
        if !publish::bears(head.header("authorization"), token) {
            let refused = Made::new(401, "Unauthorized", PLAIN, "a token is needed to publish here\n");
            return Err(refused.with("WWW-Authenticate: Bearer\r\n"));
        }
        let Some(length) = head.header("content-length").and_then(query::number) else {
            return Err(Made::new(411, "Length Required", PLAIN, "say how long it is\n"));
        };
        match usize::try_from(length) {
            Ok(length) if length <= publish::LARGEST => Ok(length),
            _ => Err(Made::new(413, "Content Too Large", PLAIN, "no .torrent is as large as that\n")),
        }
    }

    /// Answers a PUT whose body is there.
    pub fn put(&self, head: &Head, body: &[u8]) -> Made {
        let Some(Source::Directory { path, .. }) = &self.config.source else { return Made::alas() };
        let name = query::find(head.query, "name").and_then(query::unescape).unwrap_or_default();
        match publish::publish(path, &name, body, &self.store) {
            Ok(hash) => Made::new(201, "Created", PLAIN, format!("{hash}\n")),
            Err((code, why)) => Made::new(code, "Not Published", PLAIN, format!("{why}\n")),
        }
    }

    fn page(&self, head: &Head) -> Made {
        // One at a time: each takes memory for every peer that is shown.
        let _turn = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        const JUST_NOW: &str = "Cache-Control: no-store\r\n";
        if let (Some(target), b"/" | b"/index.html") = (&self.config.infopage_redirect, head.path) {
            let location = format!("Location: {}\r\n", target.replace(['\r', '\n'], ""));
            return Made::new(302, "Found", PLAIN, "look there\n").with(location);
        }
        let named = query::pairs(head.query).filter(|(name, _)| *name == b"open").take(MOST_OPEN);
        let open: Vec<InfoHash> = named.filter_map(|(_, hash)| std::str::from_utf8(hash).ok()?.parse().ok()).collect();
        let names = self.config.show_names;
        let status = |open: &dyn Fn(InfoHash) -> bool, most| {
            let hosts = status::hosts(&self.config.hosts);
            let asked = |ip| self.config.resolv_conf.as_ref().map_or(String::new(), |_| self.names.of(ip));
            let host = |ip| hosts.get(&ip).cloned().unwrap_or_else(|| asked(ip));
            Status::of(&self.store, names, &host, open, most)
        };
        match head.path {
            b"/status.json" => {
                let status = status(&|hash| open.is_empty() || open.contains(&hash), usize::MAX);
                Made::new(200, "OK", "application/json", status.serialize_json()).with(JUST_NOW)
            }
            b"/metrics" => {
                let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let Counters { announces, scrapes, refusals } = &self.counters;
                let counters =
                    [("announces", value(announces)), ("scrapes", value(scrapes)), ("refusals", value(refusals))];
                let metrics = status(&|_| true, usize::MAX).metrics(&counters);
                Made::new(200, "OK", "text/plain; version=0.0.4; charset=utf-8", metrics).with(JUST_NOW)
            }
            _ => {
                let accepted = head.header("accept-language").and_then(|text| std::str::from_utf8(text).ok());
                let clock = iso(unix_seconds());
                let status = status(&|hash| open.contains(&hash), MOST_ROWS);
                let open: Vec<String> = open.iter().map(InfoHash::to_string).collect();
                let link = self.config.allow_get;
                let page =
                    page::page(&status, &open, accepted.unwrap_or_default(), link, self.favicon.is_some(), &clock);
                Made::new(200, "OK", "text/html; charset=utf-8", page).with(JUST_NOW).with("Vary: Accept-Language\r\n")
            }
        }
    }

    fn announce(&self, head: &Head, asker: IpAddr, now: u32, scratch: &mut Scratch) -> Made {
        let query = match Query::read(head.query) {
            Ok(query) => query,
            Err(why) => return Made::garbage(why),
        };
        let rest = match query.rest {
            Ok(rest) => rest,
            // That a torrent may not be tracked comes before what else is wrong.
            Err(why) => {
                return self.store.refuses(query.info_hash).map_or(Made::garbage(why), |why| Made::refused(200, &why));
            }
        };
        if self.config.compact_required && rest.form != Form::Compact && asker.is_ipv4() {
            return Made::new(400, "Bad Request", PLAIN, "your client is outdated, please upgrade");
        }
        let ip = self.address_of(head, asker, rest.ip);
        let announce = Announce {
            info_hash: query.info_hash,
            address: SocketAddr::new(ip, rest.port).into(),
            id: rest.id,
            left: rest.left,
            event: rest.event,
            wanted: rest.wanted,
        };
        scratch.peers.clear();
        match self.store.announce(&announce, now, &mut scratch.peers) {
            Ok(answer) => {
                let body = std::mem::take(&mut scratch.body);
                let body = announce::reply(&answer, &scratch.peers, rest.form, asker, body);
                Made::new(200, "OK", PLAIN, body).with(NO_CACHE)
            }
            Err(why) => Made::refused(200, &why),
        }
    }

    /// The address under which a peer is told to others.
    fn address_of(&self, head: &Head, asker: IpAddr, said: Option<IpAddr>) -> IpAddr {
        match (self.config.override_ip, said) {
            (OverrideIp::Everybody, Some(said)) => said,
            (OverrideIp::Everybody, None) => forwarded(head).unwrap_or(asker),
            (OverrideIp::Local, Some(said)) if is_local(asker) => said,
            (OverrideIp::Local, _) => asker,
        }
    }

    fn scrape(&self, text: &[u8]) -> Made {
        let hashes = query::find(text, "info_hash").map(|_| announce::hashes(text));
        let refused = match (self.config.scrape, &hashes) {
            (ScrapeAllowed::None, Some(_)) => "specific scrape function is not available with this tracker.",
            (ScrapeAllowed::None | ScrapeAllowed::Specific, None) => {
                "full scrape function is not available with this tracker."
            }
            _ => {
                let counts = self.store.scrape(hashes.as_deref());
                return Made::new(200, "OK", PLAIN, announce::scrape(&counts, self.config.show_names));
            }
        };
        Made::refused(400, refused)
    }

    fn file(&self, text: &[u8]) -> Made {
        if !self.config.allow_get {
            return Made::new(400, "Not Authorized", PLAIN, "get function is not available with this tracker.")
                .with(NO_CACHE);
        }
        let Some(listing) = self.wanted_file(text).filter(|listing| !listing.path.as_os_str().is_empty()) else {
            return Made::alas();
        };
        // It may have grown since it was listed.
        let small = fs::metadata(&listing.path).is_ok_and(|metadata| metadata.len() <= MAX_METAINFO);
        match fs::read(&listing.path) {
            Ok(bytes) if small => {
                let name = listing.path.file_name().unwrap_or_default().to_string_lossy();
                let name: String = name
                    .chars()
                    .map(|letter| if letter.is_control() || "\"\\".contains(letter) { '_' } else { letter })
                    .collect();
                Made::new(200, "OK", "application/x-bittorrent", bytes)
                    .with(format!("Content-Disposition: attachment; filename=\"{name}\"\r\n"))
            }
            _ => Made::alas(),
        }
    }

    /// The torrent that `info_hash` (40 hex digits as 3.4.2 has it, or 20 bytes as BitTornado has it), `hash` (as
    /// all help texts have it) or `name` names: its file's with as many of the directories above it as tell it from
    /// others, else that of the torrent.
    fn wanted_file(&self, text: &[u8]) -> Option<Arc<Listing>> {
        let by_hash = query::find(text, "info_hash").or_else(|| query::find(text, "hash"));
        if let Some(hash) = by_hash {
            let bytes = query::unescape(hash)?;
            let hash = match <[u8; 20]>::try_from(bytes.as_slice()) {
                Ok(raw) => InfoHash(raw),
                Err(_) => std::str::from_utf8(&bytes).ok()?.parse().ok()?,
            };
            return self.store.listing(hash);
        }
        let name = query::unescape(query::find(text, "name")?)?;
        let name = std::str::from_utf8(&name).ok().filter(|name| !name.is_empty())?;
        let torrent = format!("{name}.torrent");
        let by_path = |listing: &Listing| listing.path.ends_with(name) || listing.path.ends_with(&torrent);
        self.store.find_listing(by_path).or_else(|| self.store.find_listing(|listing| listing.name == name))
    }

    /// Answers a datagram of `asker`, an address that is not IPv4 mapped, into `out` and
    /// says in `scratch.line` what it was; false, and no answer, when it is no request.
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
        let Some(request) = udp::Request::read(packet) else { return false };
        if !self.admits(asker.ip()) {
            udp::Reply::Error { transaction: request.transaction(), reason: IP_REFUSED.to_owned() }.write(out);
            scratch.line.extend_from_slice(b"UDP refused");
            return true;
        }
        let refuse = |transaction, reason: &str, out: &mut Vec<u8>| {
            udp::Reply::Error { transaction, reason: reason.to_owned() }.write(out);
        };
        match request {
            udp::Request::Connect { transaction } => {
                udp::Reply::Connect { transaction, connection: self.connection(asker, now / CONNECTION_LIFE) }
                    .write(out);
                scratch.line.extend_from_slice(b"UDP connect");
            }
            udp::Request::Announce { connection, transaction, announce } => {
                if !self.is_connection(connection, asker, now) {
                    refuse(transaction, "connection id unknown or expired", out);
                    scratch.line.extend_from_slice(b"UDP announce without connection");
                    return true;
                }
                let said = Some(IpAddr::V4(announce.ip)).filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
                let takes_word = self.config.override_ip == OverrideIp::Everybody || is_local(asker.ip());
                let ip = said.filter(|_| takes_word && asker.is_ipv4()).unwrap_or(asker.ip());
                let bytes = if asker.is_ipv4() { 6 } else { 18 };
                let room = (udp::MAX_PACKET - 20) / bytes;
                let question = Announce {
                    info_hash: announce.info_hash,
                    address: SocketAddr::new(ip, announce.port).into(),
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
                            true => {
                                peers.filter_map(|peer| peer.compact_v4()).take(room).for_each(|peer| out.extend(peer))
                            }
                            false => {
                                peers.filter_map(|peer| peer.compact_v6()).take(room).for_each(|peer| out.extend(peer))
                            }
                        }
                    }
                    Err(why) => {
                        count(&self.counters.refusals);
                        refuse(transaction, &why, out);
                    }
                }
                let event = announce.event.name().unwrap_or_default();
                scratch.line.extend_from_slice(b"UDP announce ");
                scratch.line.extend_from_slice(&announce.info_hash.digits());
                scratch.line.push(b' ');
                scratch.line.extend_from_slice(event.as_bytes());
            }
            udp::Request::Scrape { connection, transaction, hashes } => {
                if !self.is_connection(connection, asker, now) {
                    refuse(transaction, "connection id unknown or expired", out);
                    scratch.line.extend_from_slice(b"UDP scrape without connection");
                    return true;
                }
                if self.config.scrape == ScrapeAllowed::None {
                    refuse(transaction, "specific scrape function is not available with this tracker.", out);
                    scratch.line.extend_from_slice(b"UDP scrape");
                    return true;
                }
                count(&self.counters.scrapes);
                let found = self.store.scrape(Some(&hashes));
                let mut found = found.iter().peekable();
                // What is unknown has nobody: the reply has one entry for each hash asked for.
                let counts = hashes.iter().map(|hash| {
                    let counts = found.next_if(|one| one.info_hash == *hash);
                    counts.map_or([0; 3], |one| [one.seeders, one.completed, one.leechers])
                });
                udp::Reply::Scrape { transaction, counts: counts.collect() }.write(out);
                scratch.line.extend_from_slice(b"UDP scrape");
            }
        }
        true
    }

    /// A connection id is a keyed hash of the asker's address and the time: nothing is kept of those who ask, and
    /// who forges a sender's address cannot know it.
    fn connection(&self, asker: SocketAddr, period: u32) -> u64 {
        self.secret.hash_one((asker.ip(), period))
    }

    fn is_connection(&self, connection: u64, asker: SocketAddr, now: u32) -> bool {
        let period = now / CONNECTION_LIFE;
        [period, period.wrapping_sub(1)].into_iter().any(|period| self.connection(asker, period) == connection)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The client's address as a proxy tells it, when it is no local one.
fn forwarded(head: &Head) -> Option<IpAddr> {
    let text = |name| std::str::from_utf8(head.header(name)?).ok();
    let first = text("x-forwarded-for").and_then(|list| list.split(',').next());
    let ip: IpAddr = first.or_else(|| text("client-ip"))?.trim().parse().ok()?;
    Some(ip.to_canonical()).filter(|ip| !is_local(*ip))
}

/// The namesake's local networks, and IPv6's unique local addresses.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local() || ip.segments()[0] == 0xfec0
        }
    }
}

#[cfg(test)]
mod tests;
