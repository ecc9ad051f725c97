//! Web seeds (BEP 19): for each a thread that carries the swarm's requests to an HTTP server and its answers back.
//!
//! Consecutive blocks are requested as one range; a block is handed on as soon as it is complete, so a buffer of one
//! block is enough. A server that is unavailable is retried for ever, ever more slowly, as it may be the only source.
//! One that answers wrongly is given up, with the reason in the log; so is one at a loopback or link-local address, by which
//! a torrent could make this machine ask its own services, unless the user asks for it.

pub mod range;

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ureq::Agent;
use ureq::http::Response;
use ureq::unversioned::resolver::DefaultResolver;

use super::limiter::Share;
use super::shared::Shared;
use super::torrent::Torrent;
use crate::base::boundary::guard;
use crate::base::http::Dialer;
use crate::swarm::{Action, Block, FRIEND_REQUEST, PeerKey, Verdict};
use range::Part;

/// Time allowed for each of resolving, connecting, asking and the answer's head.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time allowed for an answer's data.
const BODY: Duration = Duration::from_secs(60);
/// Maximum number of bytes requested at once.
const MOST: u32 = 4 << 20;
/// Maximum number of redirections followed for one request.
const REDIRECTIONS: u32 = 3;
/// Number of consecutive answers cut short after which a server is given up.
const CUT: u32 = 3;
/// First and longest pause after a failure; it doubles each time.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The reason why an answer is unusable.
enum Trouble {
    /// It is not what was requested: the server is given up.
    Wrong(String),
    /// It ended too soon.
    Cut(String),
    /// There is none, or the server has a temporary problem.
    Away(String),
    /// The server is not at fault: our own files failed, or the swarm no longer needs it.
    Over,
}

/// Fetches the blocks that the swarm requests from the web seed `url`, until the torrent is complete or ends. It may be at
/// a loopback or link-local address only if `near`.
pub fn run(shared: &Arc<Shared>, torrent: &Arc<Torrent>, url: &str, near: bool) {
    if !url.starts_with("http://") {
        return (shared.log)(&format!("{url}: given up: only http:// web seeds are supported"));
    }
    let seed = Web { shared, torrent, url, agent: agent(shared.bind, near) };
    let (mut cut, mut pause) = (0, PAUSE.0);
    while let Some((key, orders)) = torrent.join_source() {
        let served = guard("fetch from it", || seed.serve(key, &orders, || (cut, pause) = (0, PAUSE.0)));
        let trouble = served.unwrap_or_else(|panicked| Trouble::Wrong(panicked.to_string()));
        torrent.leave_source(key);
        let (why, last) = match trouble {
            Trouble::Over => return,
            Trouble::Wrong(why) => (why, true),
            Trouble::Cut(why) => {
                cut += 1;
                (why, cut >= CUT)
            }
            Trouble::Away(why) => (why, false),
        };
        if last {
            return (shared.log)(&format!("{url}: given up: {why}"));
        }
        (shared.log)(&format!("{url}: {why}; trying again in {} s", pause.as_secs()));
        torrent.sleep(pause);
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// An agent that connects from `from`, and to addresses of this machine only if `near`.
fn agent(from: IpAddr, near: bool) -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(PATIENCE * 4 + BODY))
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_send_request(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_recv_body(Some(BODY))
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .input_buffer_size(64 << 10)
        .output_buffer_size(8 << 10)
        .max_response_header_size(16 << 10)
        .user_agent(concat!("ogbox/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::with_parts(config, Dialer { from, keep: true, near }, DefaultResolver::default())
}

struct Web<'a> {
    shared: &'a Shared,
    torrent: &'a Arc<Torrent>,
    url: &'a str,
    agent: Agent,
}

impl Web<'_> {
    /// Carries requests until there is trouble; calls `well` after each that was answered.
    fn serve(&self, key: PeerKey, orders: &Receiver<Action>, mut well: impl FnMut()) -> Trouble {
        let mut requests = VecDeque::new();
        let mut buffer = vec![0; FRIEND_REQUEST as usize];
        loop {
            let first = match requests.is_empty() {
                true => orders.recv_timeout(PATIENCE),
                false => orders.try_recv().map_err(|_| RecvTimeoutError::Timeout),
            };
            match first {
                Ok(order) => {
                    for order in std::iter::once(order).chain(orders.try_iter()) {
                        if let Err(trouble) = self.obey(key, order, &mut requests) {
                            return trouble;
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Trouble::Over,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let Some(row) = take_row(&mut requests) else { continue };
            if let Err(trouble) = self.fetch(key, row, &mut buffer) {
                return trouble;
            }
            well();
        }
    }

    fn obey(&self, key: PeerKey, order: Action, requests: &mut VecDeque<Block>) -> Result<(), Trouble> {
        match order {
            Action::Request(block) => requests.push_back(block),
            Action::Cancel(block) => {
                if let Some(at) = requests.iter().position(|request| *request == block) {
                    requests.remove(at);
                    // Cannot fail: the swarm itself requested the block.
                    let _ = self.torrent.with(|state, now| state.swarm.rejected(now, key, block));
                }
            }
            Action::Ban(offence) => return Err(Trouble::Wrong(offence.to_string())),
            Action::Drop(_) => return Err(Trouble::Over),
            _ => {}
        }
        Ok(())
    }

    /// Fetches consecutive blocks of one piece and hands each on.
    fn fetch(&self, key: PeerKey, row: Vec<Block>, buffer: &mut [u8]) -> Result<(), Trouble> {
        let geometry = self.torrent.geometry();
        let begin = geometry.piece_offset(row[0].piece) + u64::from(row[0].begin);
        let length: u64 = row.iter().map(|block| u64::from(block.length)).sum();
        let mut blocks = row.into_iter();
        let (mut block, mut filled) = (blocks.next(), 0);
        for part in range::parts(self.torrent.metainfo(), self.url, begin..begin + length) {
            let mut answer = part.url.as_ref().map(|url| self.ask(url, &part)).transpose()?;
            let mut body = answer.as_mut().map(|answer| answer.body_mut().as_reader());
            let mut left = part.range.end - part.range.start;
            while let Some(wanted) = block
                && left > 0
            {
                let into = &mut buffer[filled..wanted.length as usize];
                let most = into.len().min(left as usize);
                let into = &mut into[..most];
                match &mut body {
                    Some(body) => read(body, into)?,
                    None => into.fill(0),
                }
                self.shared.down.pass(&self.torrent.shares.1, &Share::default(), most as u64);
                (filled, left) = (filled + most, left - most as u64);
                if filled == wanted.length as usize {
                    self.give(key, wanted, &buffer[..filled])?;
                    (block, filled) = (blocks.next(), 0);
                }
            }
            // The connection can be reused only if the answer is read to its end.
            if let Some(body) = &mut body
                && !matches!(body.read(&mut [0]), Ok(0))
            {
                return Err(Trouble::Wrong("sends more than was requested".to_owned()));
            }
        }
        Ok(())
    }

    /// Requests one part, following redirections within the site.
    fn ask(&self, url: &str, part: &Part) -> Result<Response<ureq::Body>, Trouble> {
        let mut url = url.to_owned();
        let range = format!("bytes={}", range::asked(&part.range));
        for _ in 0..=REDIRECTIONS {
            let answer = self.agent.get(&url).header("Range", &range).call().map_err(failure)?;
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            match answer.status().as_u16() {
                206 => {
                    range::check(header("content-range"), part).map_err(Trouble::Wrong)?;
                    return Ok(answer);
                }
                200 => return Err(Trouble::Wrong("sends whole files instead of the requested ranges".to_owned())),
                301 | 302 | 303 | 307 | 308 => {
                    let location = header("location");
                    let elsewhere = || Trouble::Wrong(format!("redirects to another site, `{location}`"));
                    url = range::redirected(&url, location).ok_or_else(elsewhere)?;
                }
                code @ (408 | 429 | 500..=599) => return Err(Trouble::Away(format!("answers with status {code}"))),
                code => return Err(Trouble::Wrong(format!("answers with status {code}"))),
            }
        }
        Err(Trouble::Wrong("redirects endlessly".to_owned()))
    }

    /// Hands a complete block to the swarm and writes what it wants of it.
    fn give(&self, key: PeerKey, block: Block, data: &[u8]) -> Result<(), Trouble> {
        let verdict = self.torrent.with(|state, now| state.swarm.arrived(now, key, block));
        let part = match verdict {
            Ok(Verdict::Store(part)) => part,
            Ok(Verdict::Ignore) => return Ok(()),
            Err(offence) => return Err(Trouble::Wrong(offence.to_string())),
        };
        let from = (part.begin - block.begin) as usize;
        let offset = self.torrent.geometry().piece_offset(part.piece) + u64::from(part.begin);
        let data = &data[from..from + part.length as usize];
        if let Err(error) = self.torrent.storage().write(offset, &mut [IoSlice::new(data)]) {
            self.torrent.fail(error.to_string());
            return Err(Trouble::Over);
        }
        self.torrent.with(|state, now| state.swarm.stored(now, key, part));
        Ok(())
    }
}

/// Takes the requests at the front that are for consecutive bytes of one piece.
fn take_row(requests: &mut VecDeque<Block>) -> Option<Vec<Block>> {
    let mut row = vec![requests.pop_front()?];
    let mut length = row[0].length;
    while let (Some(last), Some(next)) = (row.last(), requests.front())
        && (next.piece, next.begin) == (last.piece, last.begin + last.length)
        && length + next.length <= MOST
    {
        length += next.length;
        row.push(*next);
        requests.pop_front();
    }
    Some(row)
}

fn read(body: &mut impl Read, into: &mut [u8]) -> Result<(), Trouble> {
    body.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Trouble::Cut("its answer is cut short".to_owned()),
        _ => Trouble::Cut(format!("its answer is cut short: {error}")),
    })
}

fn failure(error: ureq::Error) -> Trouble {
    match error {
        // The dialer's own refusal; one of the kernel's has a number.
        ureq::Error::Io(refused)
            if refused.kind() == io::ErrorKind::PermissionDenied && refused.raw_os_error().is_none() =>
        {
            Trouble::Wrong(refused.to_string())
        }
        ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::Protocol(_) => Trouble::Wrong(error.to_string()),
        error => Trouble::Away(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
