//! Incoming connections whose handshake is not done yet: limited in all, and more tightly for each address, so that
//! idle connections do not keep others out. Where there is no room, one of the address with most makes some.

use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::base::sync::lock;

/// Maximum number of connections in the doorway, and from one address: a lab behind one router that starts within a
/// second.
const ROOM: (usize, usize) = (256, 64);
/// Time that a connection has for its handshake before it makes room for another one of its address.
const HASTE: Duration = Duration::from_secs(1);

/// The connections in the doorway, oldest first.
#[derive(Debug, Default)]
pub struct Doorway(Mutex<Guests>);

#[derive(Debug, Default)]
struct Guests {
    came: u64,
    here: Vec<Here>,
}

#[derive(Debug)]
struct Here {
    number: u64,
    ip: IpAddr,
    since: Instant,
    stream: TcpStream,
}

/// A place in the doorway.
#[derive(Debug)]
pub struct Guest {
    doorway: Arc<Doorway>,
    number: u64,
}

impl Guests {
    fn of(&self, ip: IpAddr) -> usize {
        self.here.iter().filter(|guest| guest.ip == ip).count()
    }

    /// Returns the index of the connection that makes room for one from `ip`, if one should.
    fn who_makes_room(&self, ip: IpAddr) -> Option<usize> {
        let its = self.of(ip);
        let oldest = |ip: IpAddr| self.here.iter().position(|guest| guest.ip == ip);
        if its >= ROOM.1 {
            return oldest(ip).filter(|&at| self.here[at].since.elapsed() >= HASTE);
        }
        let most = self.here.iter().map(|guest| (self.of(guest.ip), guest.ip)).max()?;
        oldest(most.1).filter(|_| most.0 > its + 1)
    }
}

impl Doorway {
    /// Admits the connection `stream` from `ip`, and may close one of an address that has many; `None` if there is no
    /// room.
    pub fn enter(self: &Arc<Self>, ip: IpAddr, stream: &TcpStream) -> Option<Guest> {
        let stream = stream.try_clone().ok()?;
        let mut guests = lock(&self.0);
        if guests.here.len() >= ROOM.0 || guests.of(ip) >= ROOM.1 {
            let at = guests.who_makes_room(ip)?;
            // Fails only if the connection is gone already; its thread notices.
            let _ = guests.here.remove(at).stream.shutdown(Shutdown::Both);
        }
        guests.came += 1;
        let number = guests.came;
        guests.here.push(Here { number, ip, since: Instant::now(), stream });
        Some(Guest { doorway: self.clone(), number })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.doorway.0).here.retain(|guest| guest.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn one_address_leaves_room_for_others_and_all_together_are_bounded() {
        let doorway = Arc::new(Doorway::default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let mut dialled = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
        let (stream, _) = listener.accept().expect("accept");
        let from = |last: u8| IpAddr::from([10, 0, 0, last]);
        let enter_one = |last: u8| doorway.enter(from(last), &stream);
        let enter = |last: u8| std::iter::from_fn(|| enter_one(last)).take(100).collect::<Vec<Guest>>();
        let here = |last: u8| lock(&doorway.0).of(from(last));
        let one = enter(1);
        assert_eq!(one.len(), 64);
        let others: Vec<Guest> = (2..5).flat_map(enter).collect();
        assert_eq!(others.len(), 256 - 64);
        dialled.set_nonblocking(true).expect("look at once");
        assert!(dialled.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        // It is full, and those that have many make room.
        let late = enter_one(9).expect("room");
        assert_eq!(dialled.read(&mut [0]).expect("an end"), 0);
        assert_eq!(here(9), 1);
        assert_eq!((1..5).map(here).sum::<usize>(), 255);
        drop((one, others, late));
        assert!(lock(&doorway.0).here.is_empty());
        let many = enter(1);
        lock(&doorway.0).here.iter_mut().for_each(|guest| guest.since -= HASTE);
        assert!(enter_one(1).is_some(), "one that was slow makes room for the next of its address");
        assert_eq!(many.len(), 64);
    }
}
