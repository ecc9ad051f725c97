//! State under a torrent's mutex: its swarm and connections, and the execution of the swarm's decisions.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::link::Link;
use super::wire::Message;
use super::{Log, extension, pex};
use crate::base::sync::lock;
use crate::swarm::{Action, Offence, PeerKey, Roster, Swarm, Traits, priority};
use crate::torrent::PeerId;

/// Maximum number of connections of one torrent from one address: a lab behind one router, not a flood.
const PER_ADDRESS: usize = 64;
/// Time without a block after which a connection makes room for another one of its address, if that has as many.
const IDLE: Duration = Duration::from_secs(30);
/// Maximum number of peers that are sent addresses in one tick, as the mutex is held meanwhile.
const TOLD: usize = 16;
/// Reasons to refuse a connection: the torrent is ending, …
pub const CLOSED: &str = "the torrent is closed";
/// … no more connections are wanted, of anybody or of this address, …
pub const ENOUGH: &str = "the torrent has enough connections";
const ENOUGH_OF_ADDRESS: &str = "its address has enough connections";
/// … or two peers dialled each other at once.
pub const TWICE: &str = "it is connected already";
/// Number of untried addresses at which further ones from peers are ignored; trackers may still add some.
const SPARE: usize = 1024;

/// State under a torrent's mutex.
pub struct State {
    pub swarm: Swarm,
    pub roster: Roster,
    pub links: HashMap<PeerKey, Arc<Link>>,
    /// Links whose writers to wake after the current batch of actions; empty between calls.
    waking: Vec<Arc<Link>>,
    /// Where web seeds receive their orders.
    pub sources: HashMap<PeerKey, Sender<Action>>,
    /// The reason if the torrent had to end.
    pub failure: Option<String>,
    pub closed: bool,
    /// Port that we accept connections on.
    port: u16,
    /// Whether peers are sent one another's addresses.
    pex: bool,
    log: Log,
}

impl State {
    /// Creates the state of a torrent without connections.
    pub fn new(swarm: Swarm, roster: Roster, port: u16, pex: bool, log: Log) -> State {
        State {
            swarm,
            roster,
            links: HashMap::new(),
            waking: Vec::new(),
            sources: HashMap::new(),
            failure: None,
            closed: false,
            port,
            pex,
            log,
        }
    }

    /// Notes the address at which other peers see us.
    pub fn we_are(&mut self, ip: IpAddr) {
        self.roster.we_are(SocketAddr::new(ip, self.port));
    }

    /// Admits a connection whose handshake is done, up to a total of `most`; `own` is our peer id. The swarm's
    /// decisions must be carried out before anything else is put on the link: the bitfield must be the first message.
    ///
    /// # Errors
    /// The reason for a refusal.
    pub fn admit(
        &mut self,
        now: Duration,
        link: &Arc<Link>,
        own: PeerId,
        most: usize,
    ) -> Result<PeerKey, &'static str> {
        let ip = link.address.ip();
        if self.closed {
            return Err(CLOSED);
        }
        if self.roster.is_banned(ip) {
            return Err("its address is banned");
        }
        let its = self.connections_of(ip);
        if its >= PER_ADDRESS {
            let (idle, other) = self.idlest(now, ip).ok_or(ENOUGH_OF_ADDRESS)?;
            if idle < IDLE {
                return Err(ENOUGH_OF_ADDRESS);
            }
            other.close();
        }
        if let Some(other) = self.links.values().find(|other| other.peer_id == link.peer_id) {
            // Two peers that dialled each other at once must close the same one of their two connections: the one
            // dialled by the smaller peer id stays.
            let keep_dialled = own < link.peer_id;
            if other.dialled == link.dialled || other.dialled == keep_dialled {
                return Err(TWICE);
            }
            other.close();
        }
        if self.links.len() >= most {
            let crowd = self.of_a_crowd(now, its);
            crowd.or_else(|| self.lowest_below(link)).ok_or(ENOUGH)?.close();
        }
        let neighbour = self.links.values().find(|other| other.address.ip() == ip);
        let share = neighbour.and_then(|other| other.share.get()).cloned().unwrap_or_default();
        link.share.get_or_init(|| share);
        let key = self.swarm.join_from(now, Traits::stranger(link.fast), Some(ip));
        self.links.insert(key, link.clone());
        if link.dialled {
            self.roster.connected(link.address);
        }
        Ok(key)
    }

    /// Number of connections of the address that are not closing already.
    fn connections_of(&self, ip: IpAddr) -> usize {
        self.links.values().filter(|link| link.address.ip() == ip && !link.is_closed()).count()
    }

    /// Returns the connection of the address that no block has passed over for longest, and for how long.
    fn idlest(&self, now: Duration, ip: IpAddr) -> Option<(Duration, &Arc<Link>)> {
        let of_it = self.links.iter().filter(|(_, link)| link.address.ip() == ip && !link.is_closed());
        of_it.map(|(key, link)| (self.swarm.idle_for(now, *key), link)).max_by_key(|(idle, _)| *idle)
    }

    /// Returns the idlest connection of the address that has most, if they are more by two than the `its` of another.
    fn of_a_crowd(&self, now: Duration, its: usize) -> Option<&Arc<Link>> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        let open = self.links.values().filter(|link| !link.is_closed());
        open.for_each(|link| *counts.entry(link.address.ip()).or_default() += 1);
        let (&ip, &most) = counts.iter().max_by_key(|(_, count)| **count)?;
        self.idlest(now, ip).filter(|_| most > its + 1).map(|(_, link)| link)
    }

    /// Returns the connection of the lowest priority (BEP 40) if that of `link` is higher and it is not closing
    /// already.
    fn lowest_below(&self, link: &Link) -> Option<&Arc<Link>> {
        let us = self.roster.us()?;
        let rank = |link: &Link| priority(us, link.address);
        self.links
            .values()
            .min_by_key(|other| rank(other))
            .filter(|other| rank(other) < rank(link) && !other.is_closed())
    }

    /// Sends our extension handshake (BEP 10, 21) to a peer that understands it.
    pub fn introduce(&self, link: &Link) {
        if link.extended {
            let (choosy, sated) = (self.swarm.is_choosy(), self.swarm.is_sated());
            let payload = extension::Handshake::ours(self.port, choosy, sated, self.pex, link.address);
            if link.put(Message::Extended(extension::HANDSHAKE, &payload)) {
                link.wake();
            }
        }
    }

    /// Removes a connection that is over.
    pub fn leave(&mut self, now: Duration, key: PeerKey, link: &Link) {
        let whole = self.swarm.is_peer_sated(key);
        self.links.remove(&key);
        self.swarm.leave(now, key);
        if let Some(address) = *lock(&link.listens) {
            self.roster.gone(now, address, false, whole);
        }
    }

    /// Adds a web seed and returns its orders; `None` if it is no longer needed.
    pub fn join_source(&mut self, now: Duration) -> Option<(PeerKey, Receiver<Action>)> {
        if self.closed || self.swarm.is_sated() {
            return None;
        }
        let key = self.swarm.join_source(now);
        let (orders, taken) = channel();
        self.sources.insert(key, orders);
        Some((key, taken))
    }

    /// Sends peers that are due the addresses of those that are connected and accept connections (BEP 11).
    pub fn tell_of_peers(&self, now: Duration) {
        if !self.pex {
            return;
        }
        let due = || self.links.values().filter(|link| lock(&link.gossip).is_due(now)).take(TOLD);
        if due().next().is_none() {
            return;
        }
        let contact = |(key, link): (&PeerKey, &Arc<Link>)| {
            let whole = if self.swarm.is_peer_sated(*key) { pex::WHOLE } else { 0 };
            let reachable = if link.dialled { pex::REACHABLE } else { 0 };
            // A link-local address means nothing to peers on another link.
            let wide = |address: &SocketAddr| !matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            (*lock(&link.listens)).filter(wide).map(|address| (address, whole | reachable))
        };
        let connected: Vec<(SocketAddr, u8)> = self.links.iter().filter_map(contact).collect();
        for link in due() {
            let listens = *lock(&link.listens);
            if let Some((id, exchange)) = lock(&link.gossip).tell(now, &connected, listens)
                && link.put(Message::Extended(id, &exchange.encode()))
            {
                link.wake();
            }
        }
    }

    /// Adds the addresses that the peer of `link` sent (BEP 11).
    pub fn hear_of_peers(&mut self, now: Duration, link: &Link, payload: &[u8]) {
        if !self.pex || !lock(&link.gossip).may_hear(now) || self.roster.spare() >= SPARE {
            return;
        }
        // An unreadable message is ignored.
        let Ok(exchange) = pex::Exchange::decode(payload) else { return };
        let sated = self.swarm.is_sated();
        for (address, flags) in exchange.added {
            // Two peers that lack nothing cannot help each other.
            if pex::is_plausible(address, link.address.ip()) && !(sated && flags & pex::WHOLE != 0) {
                self.roster.add(address);
            }
        }
    }

    /// Carries out the swarm's decisions: queues messages, instructs web seeds, passes complete pieces to `verify`.
    pub fn carry_out(&mut self, mut verify: impl FnMut(u32)) {
        while let Some((key, action)) = self.swarm.next_action() {
            if let Action::Verify(piece) = action {
                verify(piece);
                continue;
            }
            if let Some(source) = self.sources.get(&key) {
                if let Action::Request(_) | Action::Cancel(_) | Action::Drop(_) | Action::Ban(_) = action {
                    // Fails only for a web seed that is about to leave.
                    let _ = source.send(action);
                }
                continue;
            }
            let Some(link) = self.links.get(&key) else { continue };
            let waits = match action {
                Action::Bitfield => put_bitfield(&self.swarm, link),
                Action::Have(piece) => link.put(Message::Have(piece)),
                Action::Choke => link.put(Message::Choke),
                Action::Unchoke => link.put(Message::Unchoke),
                Action::Interested => link.put(Message::Interested),
                Action::NotInterested => link.put(Message::NotInterested),
                Action::Request(block) => link.put(Message::Request(block)),
                Action::Cancel(block) => link.put(Message::Cancel(block)),
                Action::Reject(block) => link.put(Message::Reject(block)),
                Action::Wake => link.put_upload(),
                Action::Verify(_) => false,
                Action::Drop(offence) => {
                    if offence != Offence::Useless {
                        (self.log)(&format!("{}: dropped: {offence}", link.address));
                    }
                    link.close();
                    false
                }
                Action::Ban(offence) => {
                    (self.log)(&format!("{}: banned: {offence}", link.address));
                    self.roster.ban(link.address.ip());
                    link.close();
                    false
                }
            };
            if waits {
                self.waking.push(link.clone());
            }
        }
        self.waking.drain(..).for_each(|link| link.wake());
    }

    /// Ends every connection.
    pub fn close(&mut self) {
        self.closed = true;
        self.links.values().for_each(|link| link.close());
        // The web seeds' threads notice that their channels are closed.
        self.sources.clear();
    }
}

/// Queues the shortest message that says which pieces are here; returns what [`Link::put`] does.
fn put_bitfield(swarm: &Swarm, link: &Link) -> bool {
    let have = swarm.have();
    match (link.fast, have.is_full(), have.is_empty()) {
        (true, true, _) => link.put(Message::HaveAll),
        (true, _, true) => link.put(Message::HaveNone),
        (false, _, true) => false,
        _ => link.put(Message::Bitfield(have.as_bytes())),
    }
}
