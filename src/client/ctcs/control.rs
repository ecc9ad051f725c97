//! Reports to a CTCS server and carries out its orders ([`super::message`] has the protocol).
//!
//! The client's loop gives it a turn ten times a second; nothing of it ever waits. A server that is not there, goes away
//! or talks nonsense costs the download nothing: it is tried again every five seconds, as Enhanced CTorrent does, and
//! reported once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::link::{Change, Link};
use super::message::{Order, one_line, peer_id, server};
use super::scene::{Facts, Scene};
use super::settings;
use crate::base::sync::lock;
use crate::base::time::unix_seconds;
use crate::peer::Log;
use crate::torrent::Bitfield;

/// Orders that are carried out in one turn.
const ORDERS: usize = 16;
/// Longest time between two reports of the state.
const SILENCE: Duration = Duration::from_secs(45);
/// Pause between two reports of rates and limits.
const BANDWIDTH: Duration = Duration::from_secs(1);
/// A connection that lasted so long was a good one: its end is reported again.
const GOOD: Duration = Duration::from_secs(60);
/// The client's lines that may wait to be passed on.
const MESSAGES: usize = 16;

/// The client's lines on trackers and peers, kept for the server.
type Messages = Arc<Mutex<VecDeque<String>>>;

/// The client's side of CTCS.
pub struct Control {
    link: Link,
    password: Option<String>,
    started: i64,
    facts: Facts,
    /// Takes complaints about the server.
    log: Log,
    messages: Messages,
    /// When CTSTATUS was last sent.
    reported: Instant,
    /// The CTBW that was last sent, and when.
    bandwidth: (String, Instant),
    whole: bool,
    /// Whether it was reported that the server is lost, and that it talks nonsense.
    said: (bool, bool),
}

impl Control {
    /// Connects to `server`, HOST:PORT, in the background; `password` is for it alone, `log` takes complaints about it.
    pub fn new(server: &str, password: Option<String>, facts: Facts, log: Log) -> Control {
        let now = Instant::now();
        Control {
            link: Link::new(server.to_owned()),
            password,
            started: unix_seconds(),
            facts,
            log,
            messages: Messages::default(),
            reported: now,
            bandwidth: (String::new(), now),
            whole: false,
            said: (false, false),
        }
    }

    /// Returns a log that passes its lines on to that of [`Control::new`] and to the server.
    pub fn listener(&self) -> Log {
        let (messages, log) = (self.messages.clone(), self.log.clone());
        Arc::new(move |line| {
            log(line);
            let mut messages = lock(&messages);
            if messages.len() < MESSAGES {
                messages.push_back(line.to_owned());
            }
        })
    }

    /// Reports and carries out orders. True if the client is to end.
    pub fn turn(&mut self, scene: &mut Scene) -> bool {
        match self.link.turn() {
            Change::Up => self.introduce(scene),
            Change::Lost(why, lasted) => {
                self.said.0 &= lasted < GOOD;
                if !std::mem::replace(&mut self.said.0, true) {
                    let server = self.link.server();
                    (self.log)(&format!("warn, CTCS server {server}: {why}; it is tried again and again"));
                }
            }
            Change::None => {}
        }
        for _ in 0..ORDERS {
            let Some(line) = self.link.next_line() else { break };
            if line.contains(|char: char| char == '\u{fffd}' || char.is_control() && char != '\r') {
                self.say_noise();
            }
            if self.obey(Order::parse(&line), &line, scene) {
                return true;
            }
        }
        if self.link.take_noise() {
            self.say_noise();
        }
        if self.link.listens() {
            self.report(scene);
        }
        // A broken connection shows again at the next turn.
        let _ = self.link.flush();
        false
    }

    /// Reports how it ended, if that goes at once.
    pub fn close(mut self, scene: &Scene) {
        if let Some(why) = &scene.moment.status.failure {
            self.link.say(&format!("CTINFO 1 {}", one_line(why)));
        }
        self.link.say(&scene.status_line());
        let _ = self.link.flush();
    }

    fn introduce(&mut self, scene: &Scene) {
        self.link.say("PROTOCOL 0003");
        if let Some(password) = &self.password {
            self.link.say(&format!("AUTH {password}"));
        }
        let (id, torrent) = (peer_id(&scene.client.session().id()), one_line(&self.facts.torrent.to_string_lossy()));
        self.link.say(&format!("CTORRENT {id} {} {} {torrent}", self.started, unix_seconds()));
        self.say_status(scene);
        self.bandwidth = (scene.figures(0).bandwidth(), Instant::now());
    }

    fn say_status(&mut self, scene: &Scene) {
        self.link.say(&scene.status_line());
        (self.reported, self.whole) = (Instant::now(), scene.moment.status.whole);
    }

    /// Sends what goes unasked: messages, and a change of state, rates or limits.
    fn report(&mut self, scene: &Scene) {
        let messages = std::mem::take(&mut *lock(&self.messages));
        for line in messages {
            // 1 is an error, 2 a warning, 3 a remark.
            let severity = match line.split([' ', ',']).next() {
                Some("error") => 1,
                Some("warn") => 2,
                Some("TRACKER") => 1 + u8::from(line.starts_with("TRACKER WARNING")),
                _ => 3,
            };
            self.link.say(&format!("CTINFO {severity} {}", one_line(&line)));
        }
        if self.whole != scene.moment.status.whole || self.reported.elapsed() > SILENCE {
            self.say_status(scene);
        }
        let bandwidth = scene.figures(0).bandwidth();
        let (before, when) = &self.bandwidth;
        if *before != bandwidth && when.elapsed() >= BANDWIDTH {
            self.link.say(&bandwidth);
            self.bandwidth = (bandwidth, Instant::now());
        }
    }

    /// Carries out one order. True if the client is to end.
    fn obey(&mut self, order: Order, line: &str, scene: &mut Scene) -> bool {
        let (up, down) = scene.client.session().limits();
        match order {
            Order::Status => self.say_status(scene),
            Order::Peers => self.say_peers(scene),
            Order::Detail => self.say_detail(scene),
            Order::Settings => {
                self.link.say("CTCONFIGSTART");
                settings::list(scene, &self.facts, self.link.server()).iter().for_each(|line| self.link.say(line));
                self.link.say("CTCONFIGDONE");
            }
            Order::Set(name, value) => {
                if name == "ctcs_server" && server(&value) == Some((&*value, false)) {
                    // The password was meant for the other server.
                    self.password = None;
                    self.link.redirect(value);
                } else if let Err(refusal) = settings::change(scene, &self.facts, &name, &value) {
                    self.object(refusal.as_deref().unwrap_or(&malformed(line)));
                }
            }
            Order::LimitDown(down) => scene.client.session().set_limits((up, down)),
            Order::LimitUp(up) => scene.client.session().set_limits((up, down)),
            Order::Update => scene.client.announcing().hurry(scene.torrent, false),
            Order::Restart => scene.client.announcing().hurry(scene.torrent, true),
            Order::Quit => return true,
            Order::Error(what) => {
                let lost = std::mem::replace(&mut self.said.0, true);
                if !lost {
                    (self.log)(&format!("warn, CTCS server {}: {what}", self.link.server()));
                }
            }
            Order::Malformed => self.object(&malformed(line)),
            Order::Nothing => {}
        }
        false
    }

    /// Reports what is wrong with an order.
    fn object(&mut self, what: &str) {
        self.link.say(&format!("CTINFO 2 {what}"));
    }

    fn say_noise(&mut self) {
        if !std::mem::replace(&mut self.said.1, true) {
            let server = self.link.server();
            (self.log)(&format!("warn, CTCS server {server}: what it sends is not CTCS, and is passed over"));
        }
    }

    fn say_peers(&mut self, scene: &Scene) {
        self.link.say("CTPEERSTART");
        for peer in scene.torrent.peers() {
            let sight = peer.sight;
            let flags = |(choked, interested)| match (choked, interested) {
                (true, true) => "Ci",
                (true, false) => "Cn",
                (false, true) => "Ui",
                (false, false) => "Un",
            };
            self.link.say(&format!(
                "CTPEER {} {} {}{} {} {} {} {} {}",
                peer_id(&peer.id),
                peer.address.ip().to_canonical(),
                flags(sight.down),
                flags(sight.up),
                sight.rates.0 as u64,
                sight.rates.1 as u64,
                sight.totals.0,
                sight.totals.1,
                sight.pieces,
            ));
        }
        self.link.say("CTPEERSDONE");
    }

    fn say_detail(&mut self, scene: &Scene) {
        let (metainfo, now) = (scene.torrent.metainfo(), unix_seconds());
        let seeds = scene.whole_since.map_or(0, |since| now - since.elapsed().as_secs() as i64);
        let (length, piece) = (metainfo.geometry.length(), metainfo.geometry.piece_length());
        self.link.say(&format!("CTDETAIL {length} {piece} {now} {seeds}"));
        self.link.say("CTFILESTART");
        let (have, reach) = scene.torrent.reach();
        let save_as = self.facts.save_as.as_ref().filter(|_| !metainfo.multi_file);
        let current = scene.selection.current(&have);
        for (at, (file, span)) in metainfo.files.iter().zip(metainfo.spans()).enumerate() {
            let count = |of: &Bitfield| span.clone().filter(|piece| of.get(*piece)).count();
            self.link.say(&format!(
                "CTFILE {} {} {current} {} {} {} {} {}",
                at + 1,
                scene.selection.group(at),
                span.len(),
                count(&have),
                count(&reach),
                file.length,
                one_line(&save_as.unwrap_or(&file.path).to_string_lossy()),
            ));
        }
        self.link.say("CTFILESDONE");
    }
}

/// Returns Enhanced CTorrent's words for an order that it cannot carry out.
fn malformed(line: &str) -> String {
    format!("Malformed or invalid input from CTCS: {}", one_line(line.trim_end_matches('\r')))
}
