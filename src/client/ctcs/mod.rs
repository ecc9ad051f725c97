//! CTCS, the protocol of the CTorrent Control Server: reports to a server and does as it says.

mod control;
mod link;
mod message;
mod scene;
mod settings;

pub use control::Control;
pub use message::{one_line, server};
pub use scene::{Facts, Scene};
