//! Partition imaging: the used blocks of a file system, in partclone's container, compressed.
//!
//! | file | what it is |
//! |---|---|
//! | [`source`] | the device or file that is saved, opened read-only |
//! | [`fields`] | raw bytes as numbers |
//! | [`signature`] | the marks by which contents are known |
//! | [`fs`] | the used blocks of a file system; one file for each kind |
//! | [`bitmap`] | the map of used blocks |
//! | [`container`] | partclone's image: header and map ↔ bytes |
//! | [`checksum`] | the checksums between an image's blocks |
//! | [`format`](mod@format) | the format of a new image, and its header |
//! | [`codec`] | the compressors around it |
//! | [`pipeline`] | pieces in order through several threads |
//! | [`unpack`] | reading an image: header, map, blocks, with all checksums verified |
//! | [`table`] | partition tables: MBR, GPT |
//! | [`disk`], [`fit`] | the used blocks of a whole disk, by its partition table; the table on a larger disk |
//! | [`convert`] | an image into another format, in one pass |
//! | [`inside`] | random access to the device that an image was made of |
//! | [`nbd`] | such a device, exported by the NBD protocol |
//! | [`info`] | an image's header in partclone.info's words |
//! | [`legacy`] | images of other programs |
//! | [`save`], [`restore`] | the two directions, through all of the above |
//! | [`copy`] | copies byte by byte |
//! | [`stream`], [`block_files`], [`domain`], [`filter`] | what else partclone makes of an image: the whole device in a pipe, files for BitTorrent, a map for ddrescue, the output of a command |
//! | [`partclone`] | what partclone's programs do of all this |
//! | [`fix_boot`] | the geometry in NTFS's boot sector |
//! | [`direct`], [`rescue`] | past the kernel's cache; over bad sectors |
//! | [`stale`] | signatures that a restore must not leave |
//! | [`against`] | an image compared with a device |
//! | [`sets`] | directories of Clonezilla and FOG, and files that were cut, read where they lie |
//! | [`place`] | where bytes lie, through partitions and loop devices |
//! | [`output`] | the file, pipe or device that an image or a copy goes to |
//! | [`seal`] | the heads of a target, which are gone while it is written and come last |
//! | [`medium`] | what a target's bytes are written to |
//! | [`target`] | the device or sparse file that is restored to |

pub mod against;
pub mod bitmap;
pub mod block_files;
pub mod checksum;
pub mod codec;
pub mod container;
pub mod convert;
pub mod copy;
pub mod direct;
pub mod disk;
pub mod domain;
mod error;
pub mod fields;
pub mod filter;
pub mod fit;
pub mod fix_boot;
pub mod format;
pub mod fs;
pub mod info;
pub mod inside;
pub mod legacy;
pub mod medium;
pub mod nbd;
pub mod output;
pub mod partclone;
pub mod pipeline;
pub mod place;
pub mod rescue;
pub mod restore;
pub mod save;
pub mod seal;
pub mod sets;
pub mod signature;
pub mod source;
pub mod stale;
pub mod stream;
pub mod table;
pub mod target;
pub mod unpack;
mod watch;

pub use error::Error;
pub use watch::Watch;
