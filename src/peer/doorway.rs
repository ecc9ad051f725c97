//! Connections that came and whose handshake is not done yet: a bounded number, and of one address fewer still, so that
//! who only knocks keeps nobody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::base::sync::lock;

/// Connections in the doorway, and those of one address: a lab behind one router that starts in one second.
const ROOM: (u32, u32) = (256, 64);

/// Who is in the doorway.
#[derive(Debug, Default)]
pub struct Doorway(Mutex<HashMap<IpAddr, u32>>);

/// A place in the doorway.
#[derive(Debug)]
pub struct Guest {
    doorway: Arc<Doorway>,
    ip: IpAddr,
}

impl Doorway {
    /// Lets somebody from `ip` in, if there is room for it.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Guest> {
        let mut guests = lock(&self.0);
        let all: u32 = guests.values().sum();
        let its = guests.get(&ip).copied().unwrap_or(0);
        if all >= ROOM.0 || its >= ROOM.1 {
            return None;
        }
        guests.insert(ip, its + 1);
        Some(Guest { doorway: self.clone(), ip })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = lock(&self.doorway.0);
        match guests.get_mut(&self.ip) {
            Some(its @ 2..) => *its -= 1,
            _ => _ = guests.remove(&self.ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others_and_all_together_are_bounded() {
        let doorway = Arc::new(Doorway::default());
        let from = |last: u8| IpAddr::from([10, 0, 0, last]);
        let enter = |last: u8| std::iter::from_fn(|| doorway.enter(from(last))).collect::<Vec<Guest>>();
        let one = enter(1);
        assert_eq!(one.len(), 64);
        let others: Vec<Guest> = (2..10).flat_map(enter).collect();
        assert_eq!(others.len(), 256 - 64);
        drop(one);
        assert_eq!(enter(1).len(), 64);
        drop(others);
        assert!(lock(&doorway.0).is_empty());
    }
}
