//! The replies to requests: paths, refusals and their texts, as in BitTornado's `bttrack`.
//!
//! A refusal to track is a 200 with a `failure reason`, because clients do not read the body of another status; a
//! malformed request gets a 400 in plain text.

use std::borrow::Cow;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use nanoserde::SerJson;

use super::announce::{self, Form, Query};
use super::config::{Config, OverrideIp, ScrapeAllowed};
use super::http::{Head, Malformed, Method, Reply};
use super::names::Names;
use super::pages::{Key, Kind, Pages};
use super::peer::{Address, Owner};
use super::ranges::Ranges;
use super::status::{self, Status};
use super::store::{Announce, Listing, Store};
use super::{page, words};
use crate::base::boundary::guard;
use crate::base::log::{Log, iso};
use crate::base::percent;
use crate::base::sync::unpoisoned;
use crate::base::time::unix_seconds;
use crate::torrent::{InfoHash, MAX_METAINFO, PeerId};
use crate::tracker::query;

mod datagrams;
mod publishing;

/// The text of the namesake's 404.
const ALAS: &str = "your file may exist elsewhere in the universe\nbut alas, not here\n";
const PLAIN: &str = "text/plain";
const NO_CACHE: &str = "Pragma: no-cache\r\n";
/// Most torrents that the page expands.
const MOST_OPEN: usize = 50;
/// Most rows of a torrent on the page.
const MOST_ROWS: usize = 1000;
const HTML: &str = "text/html; charset=utf-8";
/// The refusal of an address that the lists exclude.
const IP_REFUSED: &str = "your IP is not allowed on this tracker";

/// A reply ready to be written.
pub struct Made {
    /// Status code.
    pub code: u16,
    reason: &'static str,
    kind: &'static str,
    headers: Cow<'static, str>,
    /// The body, unless it is shared.
    pub body: Vec<u8>,
    /// The body, if it is that of several replies.
    shared: Option<Arc<Vec<u8>>>,
}

impl Made {
    fn new(code: u16, reason: &'static str, kind: &'static str, body: impl Into<Vec<u8>>) -> Made {
        Made { code, reason, kind, headers: Cow::Borrowed(""), body: body.into(), shared: None }
    }

    fn with(mut self, headers: impl Into<Cow<'static, str>>) -> Made {
        self.headers += headers.into();
        self
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        self.shared.as_ref().map_or(&self.body, |shared| shared)
    }

    /// The body, uncopied.
    pub fn into_shared(self) -> Arc<Vec<u8>> {
        self.shared.unwrap_or_else(|| Arc::new(self.body))
    }

    /// The reply to a request whose answering panicked.
    pub fn panicked() -> Made {
        Made::new(500, "Internal Server Error", PLAIN, "the tracker failed here; its log says where\n").with(NO_CACHE)
    }

    /// The reply to a malformed head.
    pub fn malformed(why: Malformed) -> Made {
        let (code, text) = why.status();
        Made::new(code, "Bad Request", PLAIN, text)
    }

    fn no_put() -> Made {
        Made::new(405, "Method Not Allowed", PLAIN, "nothing can be put here\n").with("Allow: GET, HEAD\r\n")
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

/// Buffers reused from request to request.
#[derive(Default)]
pub struct Scratch {
    peers: Vec<(Address, PeerId)>,
    /// The buffer of a body that was sent.
    pub body: Vec<u8>,
    /// The description of a datagram for the log.
    pub line: Vec<u8>,
}

/// One of the lists of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Addresses that may send requests.
    Allowed,
    /// Addresses that may not.
    Banned,
}

#[derive(Default)]
struct Lists {
    /// `Some` once an allow list is configured; empty, admitting nobody, until it can be read.
    allowed: Option<Ranges>,
    banned: Ranges,
}

/// Numbers of requests since the start.
#[derive(Default)]
struct Counters {
    announces: AtomicU64,
    scrapes: AtomicU64,
    refusals: AtomicU64,
}

/// Answers requests of every protocol; shared by the threads that read them.
pub struct Service {
    /// The settings.
    pub config: Config,
    /// All swarms.
    pub store: Store,
    /// The log.
    pub log: Log,
    favicon: Option<Vec<u8>>,
    secret: RandomState,
    /// Names of addresses that the hosts file lacks.
    pub names: Names,
    lists: RwLock<Lists>,
    counters: Counters,
    /// The pages.
    pub pages: Pages,
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
        Service { config, store, log, favicon, secret, names, lists, counters, pages: Pages::default() }
    }

    /// Replaces a list of addresses.
    pub fn set_list(&self, which: Which, ranges: Ranges) {
        let mut lists = unpoisoned(self.lists.write());
        match which {
            Which::Allowed => lists.allowed = Some(ranges),
            Which::Banned => lists.banned = ranges,
        }
    }

    /// Whether the lists of addresses let `ip` send requests.
    fn admits(&self, ip: IpAddr) -> bool {
        if self.config.allowed_ips.is_none() && self.config.banned_ips.is_none() {
            return true;
        }
        let lists = unpoisoned(self.lists.read());
        lists.allowed.as_ref().is_none_or(|allowed| allowed.contains(ip)) && !lists.banned.contains(ip)
    }

    /// Answers a request from `asker`, which must not be an IPv4-mapped address.
    pub fn answer(&self, head: &Head, asker: IpAddr, now: u32, scratch: &mut Scratch) -> Made {
        #[cfg(test)]
        crate::base::boundary::panic_if_asked("request", head.path);
        if !self.admits(asker) {
            return Made::refused(400, IP_REFUSED);
        }
        if matches!(head.method, Method::Put | Method::Post) {
            return Made::no_put();
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
            b"/register" if self.publishes() => self.form(head),
            b"/favicon.ico" => match &self.favicon {
                Some(icon) => Made::new(200, "OK", "image/x-icon", icon.clone()),
                None => Made::alas(),
            },
            b"/" | b"/index.html" | b"/status.json" | b"/metrics" if self.config.show_infopage => self.page(head),
            _ => Made::alas(),
        }
    }

    /// The page that a request asks for; `None` if it asks for something else.
    fn page_key(&self, head: &Head) -> Option<Key> {
        let kind = match head.path {
            _ if !self.config.show_infopage => return None,
            b"/status.json" => Kind::Json,
            b"/metrics" => Kind::Metrics,
            b"/" | b"/index.html" if self.config.infopage_redirect.is_none() => {
                Kind::People(words::code(accepted(head)))
            }
            _ => return None,
        };
        let named = query::pairs(head.query).filter(|(name, _)| *name == b"open").take(MOST_OPEN);
        let open = named.filter_map(|(_, hash)| std::str::from_utf8(hash).ok()?.parse().ok());
        Some(Key { kind, open: if kind == Kind::Metrics { Vec::new() } else { open.collect() } })
    }

    /// Whether a request asks for a page that has to be rendered first.
    pub fn page_waits(&self, head: &Head, asker: IpAddr) -> bool {
        let reads = !matches!(head.method, Method::Put | Method::Post);
        let key = if reads { self.page_key(head) } else { None };
        key.is_some_and(|key| self.admits(asker) && self.pages.waits(&key, Instant::now()))
    }

    /// Renders the page that has been wanted for the longest time; waits at most `patience` for one.
    pub fn render_next(&self, patience: Duration) {
        let Some(key) = self.pages.next(patience) else { return };
        let page = guard("render a page", || self.render(&key));
        if let Err(panicked) = &page {
            self.log.note(&format!("**error** {panicked}"));
        }
        self.pages.keep(&key, page.ok().map(Arc::new), Instant::now());
    }

    fn render(&self, key: &Key) -> Vec<u8> {
        let names = self.config.show_names;
        let status = |open: &dyn Fn(InfoHash) -> bool, most| {
            let hosts = status::hosts(&self.config.hosts);
            let asked = |ip| self.config.resolv_conf.as_ref().map_or(String::new(), |_| self.names.of(ip));
            let host = |ip| hosts.get(&ip).cloned().unwrap_or_else(|| asked(ip));
            Status::of(&self.store, names, &host, open, most)
        };
        let open = &key.open;
        match key.kind {
            Kind::Json => {
                status(&|hash| open.is_empty() || open.contains(&hash), usize::MAX).serialize_json().into_bytes()
            }
            Kind::Metrics => {
                let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let Counters { announces, scrapes, refusals } = &self.counters;
                let counters =
                    [("announces", value(announces)), ("scrapes", value(scrapes)), ("refusals", value(refusals))];
                status(&|_| true, usize::MAX).metrics(&counters).into_bytes()
            }
            Kind::People(language) => {
                let clock = iso(unix_seconds());
                let status = status(&|hash| open.contains(&hash), MOST_ROWS);
                let open: Vec<String> = open.iter().map(InfoHash::to_string).collect();
                let view = page::View {
                    open: &open,
                    closed: self.config.tracks_nothing(),
                    link: self.config.allow_get,
                    icon: self.favicon.is_some(),
                    register: self.publishes(),
                    clock: &clock,
                };
                page::page(&status, &view, language).into_bytes()
            }
        }
    }

    fn page(&self, head: &Head) -> Made {
        if let (Some(target), b"/" | b"/index.html") = (&self.config.infopage_redirect, head.path) {
            let location = format!("Location: {}\r\n", target.replace(['\r', '\n'], ""));
            return Made::new(302, "Found", PLAIN, "look there\n").with(location);
        }
        let Some(key) = self.page_key(head) else { return Made::alas() };
        let page = match self.pages.last(&key) {
            Some(Some(page)) => page,
            Some(None) => return Made::panicked(),
            None => {
                let text = "too many pages are wanted at once\n";
                return Made::new(503, "Service Unavailable", PLAIN, text).with("Retry-After: 1\r\n");
            }
        };
        let (kind, headers) = match key.kind {
            Kind::Json => ("application/json", "Cache-Control: no-store\r\n"),
            Kind::Metrics => ("text/plain; version=0.0.4; charset=utf-8", "Cache-Control: no-store\r\n"),
            Kind::People(_) => (HTML, "Cache-Control: no-store\r\nVary: Accept-Language\r\n"),
        };
        Made { shared: Some(page), ..Made::new(200, "OK", kind, "") }.with(headers)
    }

    fn announce(&self, head: &Head, asker: IpAddr, now: u32, scratch: &mut Scratch) -> Made {
        let query = match Query::read(head.query) {
            Ok(query) => query,
            Err(why) => return Made::garbage(why),
        };
        let rest = match query.rest {
            Ok(rest) => rest,
            // The refusal of a torrent takes precedence over other errors.
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
            owner: Owner::new(self.source_of(asker, ip), rest.key),
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

    /// The address that other peers get for this one.
    fn address_of(&self, head: &Head, asker: IpAddr, said: Option<IpAddr>) -> IpAddr {
        match (self.config.override_ip, said) {
            (OverrideIp::Everybody, None) => forwarded(head).unwrap_or(asker),
            (_, said) => said.filter(|_| self.believes(asker)).unwrap_or(asker),
        }
    }

    /// Whether `asker` may say which address a peer has.
    fn believes(&self, asker: IpAddr) -> bool {
        match self.config.override_ip {
            OverrideIp::Everybody => true,
            OverrideIp::Local => is_local(asker),
            OverrideIp::Trusted => self.trusts(asker),
        }
    }

    /// Whether `asker` speaks for others: this machine, and the proxies.
    fn trusts(&self, asker: IpAddr) -> bool {
        asker.is_loopback() || self.config.proxies.contains(asker)
    }

    /// The address that answers for a peer at `ip` which `asker` announced: its own behind those that speak for others.
    fn source_of(&self, asker: IpAddr, ip: IpAddr) -> IpAddr {
        if self.trusts(asker) { ip } else { asker }
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
        let has = |name| query::find(text, name).is_some();
        let by_name = has("name") && !has("info_hash") && !has("hash");
        let given = self.config.allow_get || (by_name && self.config.get_by_name);
        if !given {
            return Made::new(400, "Not Authorized", PLAIN, "get function is not available with this tracker.")
                .with(NO_CACHE);
        }
        let Some(listing) = self.wanted_file(text).filter(|listing| !listing.path.as_os_str().is_empty()) else {
            return Made::alas();
        };
        // The file may have grown since it was listed.
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

    /// The torrent that a query names: by `info_hash` (40 hex digits as in 3.4.2, or 20 bytes as in BitTornado), by
    /// `hash` (as the help texts have it), or by `name`: the file's, with as many parent directories as needed, or
    /// else the torrent's.
    fn wanted_file(&self, text: &[u8]) -> Option<Arc<Listing>> {
        let by_hash = query::find(text, "info_hash").or_else(|| query::find(text, "hash"));
        if let Some(hash) = by_hash {
            let bytes = percent::unescape(hash)?;
            let hash = match <[u8; 20]>::try_from(bytes.as_slice()) {
                Ok(raw) => InfoHash(raw),
                Err(_) => std::str::from_utf8(&bytes).ok()?.parse().ok()?,
            };
            return self.store.listing(hash);
        }
        let name = percent::unescape(query::find(text, "name")?)?;
        let name = std::str::from_utf8(&name).ok().filter(|name| !name.is_empty())?;
        let torrent = format!("{name}.torrent");
        let by_path = |listing: &Listing| listing.path.ends_with(name) || listing.path.ends_with(&torrent);
        self.store.find_listing(by_path).or_else(|| self.store.find_listing(|listing| listing.name == name))
    }
}

/// The languages that a request accepts.
fn accepted<'a>(head: &'a Head) -> &'a str {
    head.header("accept-language").and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The client's address as reported by a proxy, unless it is a local one.
fn forwarded(head: &Head) -> Option<IpAddr> {
    let text = |name| std::str::from_utf8(head.header(name)?).ok();
    let first = text("x-forwarded-for").and_then(|list| list.split(',').next());
    let ip: IpAddr = first.or_else(|| text("client-ip"))?.trim().parse().ok()?;
    Some(ip.to_canonical()).filter(|ip| !is_local(*ip))
}

/// Whether `ip` is on one of the namesake's local networks, or an IPv6 unique local address.
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
