//! A server's directory of images: what of it may be seeded, what of it was verified, what its images still lack.
//!
//! [`look`](look()) reads the directory, [`Catalogue`] decides, without touching it, what that means, [`open`](open())
//! and [`verify`](verify()) prepare what is to be seeded, [`make`] makes what an image lacks, [`Memory`] keeps what was
//! verified over restarts, and [`Worker`]s do what takes long. Data is believed while it is what was verified: the same inode, size and time. Who
//! seeds, announces and tells people of it is not known here.

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
