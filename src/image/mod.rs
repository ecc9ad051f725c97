//! Partition imaging: the used blocks of a file system, in partclone's container, compressed.
//!
//! | file | what it is |
//! |---|---|
//! | [`source`] | what is saved: a device or file, opened read-only |
//! | [`fields`] | raw bytes as numbers |
//! | [`fs`] | which of its blocks are used: one reader a file system |
//! | [`bitmap`] | the map of used blocks |
//! | [`container`] | partclone's image: header, map and checksums ↔ bytes |
//! | [`checksum`] | the checksums in it |
//! | [`format`](mod@format) | the format of a new image, and its header |
//! | [`codec`] | the compressors around it |
//! | [`pipeline`] | pieces in order through several threads |
//! | [`unpack`] | an image taken apart, its checksums verified |
//! | [`table`] | partition tables: MBR, GPT |
//! | [`disk`], [`fit`] | the used blocks of a whole disk, by its partition table; the table on a larger disk |
//! | [`convert`] | an image into another format, as it passes |
//! | [`inside`] | an image as the device it was made of, read from anywhere |
//! | [`info`] | what an image's header says, in partclone.info's words |
//! | [`legacy`] | images of other programs |
//! | [`save`], [`restore`] | the two ways through all of the above |
//! | [`target`] | what is restored to: a device or a sparse file |

pub mod bitmap;
pub mod checksum;
pub mod codec;
pub mod container;
pub mod convert;
pub mod disk;
mod error;
pub mod fields;
pub mod fit;
pub mod format;
pub mod fs;
pub mod info;
pub mod inside;
pub mod legacy;
pub mod pipeline;
pub mod restore;
pub mod save;
pub mod source;
pub mod table;
pub mod target;
pub mod unpack;
mod watch;

pub use error::Error;
pub use watch::Watch;
