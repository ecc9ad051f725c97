//! The tracker protocol, both ends: BEP 3 (HTTP), 7 (IPv6), 15 (UDP), 23 (compact), 24 (external IP),
//! 31 (failure with "retry in"), 48 (scrape).
//!
//! [`message`], [`query`], [`compact`] and [`udp`] turn bytes into values and back and know no socket;
//! [`announcer`] decides when and where to announce and knows no clock; [`client`] asks trackers; [`server`] is one.

pub mod announcer;
pub mod client;
mod error;
pub mod message;
pub mod query;
pub mod server;
pub mod udp;

pub use crate::torrent::compact;
pub use error::Error;
