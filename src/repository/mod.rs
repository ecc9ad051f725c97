//! A server's directory of images: what may be seeded, what was verified, what images still lack.
//!
//! [`look`](look()) scans the directory; [`Catalogue`] decides, without touching it, what to do; [`open`](open()) and
//! [`verify`](verify()) prepare a torrent for seeding; [`make`] makes the files that an image lacks; [`Memory`]
//! remembers verified data over restarts; [`Worker`]s run long jobs. Verified data is trusted as long as its inode,
//! size and time stay the same. Seeding, announcing and messages are the caller's.

mod catalogue;
mod look;
pub mod make;
mod memory;
mod open;
mod worker;

pub use catalogue::{Admission, Catalogue, Lack, State, Step};
pub use look::{Image, Look, Sight, look};
pub use memory::Memory;
pub use open::{Opened, open, verify};
pub use worker::{Worker, attempt};
