//! `-S HOST:PORT`: reports to a CTorrent Control Server and does as it says ([`message`] has the protocol).
//!
//! The client's loop gives it a turn ten times a second; nothing of it ever waits. A server that is not there, goes away or
//! says nonsense costs the download nothing: it is tried again every five seconds, as the namesake does, and told of once.

mod link;
mod message;
pub mod password;
mod settings;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::files::Selection;
use super::{Run, info};
use crate::applets::announcing::{Announcing, Told, complain};
use crate::base::time::unix_seconds;
use crate::peer::{Session, Status, Torrent};
use crate::swarm::Leave;
use crate::torrent::Bitfield;
use link::{Change, Link};
use message::{Figures, Order, one_line, peer_id};

/// Orders that are carried out in one turn.
const ORDERS: usize = 16;
/// A server that has heard nothing for this long is told how things are.
const SILENCE: Duration = Duration::from_secs(45);
/// Pause between two reports of rates and limits.
const BANDWIDTH: Duration = Duration::from_secs(1);
/// A connection that lasted so long was a good one: its end is worth a word again.
const GOOD: Duration = Duration::from_secs(60);
/// Lines of the client that wait to be passed on.
const MESSAGES: usize = 16;

/// HOST:PORT of a server, and whether it wants a password, which a further colon says.
pub fn server(text: &str) -> Option<(&str, bool)> {
    let (server, asks) = match text.strip_suffix(':') {
        Some(server) => (server, true),
        None => (text, false),
    };
    let (host, port) = server.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some((server, asks))
}

/// The client as a server sees it and may change it.
pub struct Scene<'a> {
    pub options: &'a Run,
    pub session: &'a Session,
    pub torrent: &'a Arc<Torrent>,
    pub announcing: &'a Announcing,
    pub selection: &'a Selection,
    pub status: &'a Status,
    pub told: &'a Told,
    /// When everything was here.
    pub whole_since: Option<Instant>,
    pub leave: &'a mut Leave,
}

impl Scene<'_> {
    /// The numbers; `reach`: pieces within reach.
    fn figures(&self, reach: u32) -> Figures {
        let status = self.status;
        let (up, down) = self.session.limits();
        // The tracker counts us as well.
        let others = |all: Option<u32>, us: bool| all.unwrap_or(0).saturating_sub(u32::from(us));
        Figures {
            seeders: (status.peers.0, others(self.told.complete, status.whole)),
            leechers: (status.peers.1, others(self.told.incomplete, !status.whole)),
            connecting: self.torrent.dialling(),
            pieces: (status.have, self.torrent.metainfo().geometry.pieces(), reach),
            rates: (status.rates.0 as u64, status.rates.1 as u64),
            totals: (status.totals.downloaded, status.totals.uploaded),
            limits: (down, up),
        }
    }

    fn status_line(&self) -> String {
        self.figures(self.torrent.reach().1.count()).status()
    }
}

/// What the client says of trackers and peers, kept for the server.
type Messages = Arc<Mutex<VecDeque<String>>>;

/// The client's end of CTCS.
pub struct Control {
    link: Link,
    password: Option<String>,
    started: i64,
    /// As the command line names it.
    torrent: PathBuf,
    messages: Messages,
    /// When the server was last told how things are, and of which rates and limits when.
    told: Instant,
    bandwidth: (String, Instant),
    whole: bool,
    /// What was said of the server already: that it is lost, that it talks nonsense.
    said: (bool, bool),
}

impl Control {
    /// Connects to `server`, HOST:PORT, in the background; `password` is for it alone.
    pub fn new(server: &str, password: Option<String>, options: &Run) -> Control {
        let now = Instant::now();
        Control {
            link: Link::new(server.to_owned()),
            password,
            started: unix_seconds(),
            torrent: options.torrent[0].clone(),
            messages: Messages::default(),
            told: now,
            bandwidth: (String::new(), now),
            whole: false,
            said: (false, false),
        }
    }

    /// Takes lines for standard error, and has the server told of them.
    pub fn listener(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        let messages = self.messages.clone();
        Arc::new(move |line| {
            complain(line);
            let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
            if messages.len() < MESSAGES {
                messages.push_back(line.to_owned());
            }
        })
    }

    /// Reports and carries out orders; true when the server has us end.
    pub fn turn(&mut self, scene: &mut Scene) -> bool {
        match self.link.turn() {
            Change::Up => self.introduce(scene),
            Change::Lost(why, lasted) => {
                self.said.0 &= lasted < GOOD;
                if !std::mem::replace(&mut self.said.0, true) {
                    complain(&format!("warn, CTCS server {}: {why}; it is tried again and again", self.link.server()));
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
        // What is wrong with the connection shows again at the next turn.
        let _ = self.link.flush();
        false
    }

    /// Tells the server how it ended, if that goes at once.
    pub fn close(mut self, scene: &Scene) {
        if let Some(why) = &scene.status.failure {
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
        let (id, torrent) = (peer_id(&scene.session.id()), one_line(&self.torrent.to_string_lossy()));
        self.link.say(&format!("CTORRENT {id} {} {} {torrent}", self.started, unix_seconds()));
        self.say_status(scene);
        self.bandwidth = (scene.figures(0).bandwidth(), Instant::now());
    }

    fn say_status(&mut self, scene: &Scene) {
        self.link.say(&scene.status_line());
        (self.told, self.whole) = (Instant::now(), scene.status.whole);
    }

    /// Says what the server did not ask for.
    fn report(&mut self, scene: &Scene) {
        let messages = std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner));
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
        if self.whole != scene.status.whole || self.told.elapsed() > SILENCE {
            self.say_status(scene);
        }
        let bandwidth = scene.figures(0).bandwidth();
        let (before, when) = &self.bandwidth;
        if *before != bandwidth && when.elapsed() >= BANDWIDTH {
            self.link.say(&bandwidth);
            self.bandwidth = (bandwidth, Instant::now());
        }
    }

    /// Carries out one order; true when that is to end.
    fn obey(&mut self, order: Order, line: &str, scene: &mut Scene) -> bool {
        let (up, down) = scene.session.limits();
        match order {
            Order::Status => self.say_status(scene),
            Order::Peers => self.say_peers(scene),
            Order::Detail => self.say_detail(scene),
            Order::Settings => {
                self.link.say("CTCONFIGSTART");
                settings::list(scene, self.link.server()).iter().for_each(|line| self.link.say(line));
                self.link.say("CTCONFIGDONE");
            }
            Order::Set(name, value) => {
                if name == "ctcs_server" && server(&value) == Some((&*value, false)) {
                    // The password was given for the other one.
                    self.password = None;
                    self.link.redirect(value);
                } else if let Err(refusal) = settings::change(scene, &name, &value) {
                    self.object(refusal.as_deref().unwrap_or(&malformed(line)));
                }
            }
            Order::LimitDown(down) => scene.session.set_limits((up, down)),
            Order::LimitUp(up) => scene.session.set_limits((up, down)),
            Order::Update => scene.announcing.hurry(scene.torrent, false),
            Order::Restart => scene.announcing.hurry(scene.torrent, true),
            Order::Quit => return true,
            Order::Error(what) => {
                let lost = std::mem::replace(&mut self.said.0, true);
                if !lost {
                    complain(&format!("warn, CTCS server {}: {what}", self.link.server()));
                }
            }
            Order::Malformed => self.object(&malformed(line)),
            Order::Nothing => {}
        }
        false
    }

    /// Tells the server what is wrong with its order.
    fn object(&mut self, what: &str) {
        self.link.say(&format!("CTINFO 2 {what}"));
    }

    fn say_noise(&mut self) {
        if !std::mem::replace(&mut self.said.1, true) {
            complain(&format!(
                "warn, CTCS server {}: what it says is not CTCS, and is passed over",
                self.link.server()
            ));
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
        let save_as = scene.options.save_as.as_ref().filter(|_| !metainfo.multi_file);
        let current = scene.selection.current(&have);
        for (at, (file, span)) in metainfo.files.iter().zip(info::spans(metainfo)).enumerate() {
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

/// What the namesake calls an order that it cannot carry out.
fn malformed(line: &str) -> String {
    format!("Malformed or invalid input from CTCS: {}", one_line(line.trim_end_matches('\r')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port_and_a_colon_asks_for_its_password() {
        assert_eq!(server("host:2780"), Some(("host:2780", false)));
        assert_eq!(server("host:2780:"), Some(("host:2780", true)));
        assert_eq!(server("[::1]:2780:"), Some(("[::1]:2780", true)));
        for wrong in ["host", "host:", "host::", ":1", "host:0", "host:65536", "host:x:", ""] {
            assert_eq!(server(wrong), None, "{wrong}");
        }
    }
}
