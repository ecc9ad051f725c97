//! Images as read-only exports of the NBD protocol, for `nbdfuse`, `nbd-client`, `qemu-img`, `guestfish` and the like.
//!
//! | file | what it is |
//! |---|---|
//! | `wire` | numbers of the protocol, and reading them from a connection |
//! | `haggling` | the options at the beginning of a connection, until an export is chosen |
//! | `transmission` | requests and replies |
//! | `listener` | the socket and a thread for each connection |
//!
//! Source: `doc/proto.md` of the NBD project: fixed newstyle negotiation, simple replies, no TLS. What a client writes is
//! refused, and lengths that it names are bounded before they are believed.

use super::source::Source;
use super::{Error, disk, table};

mod haggling;
pub mod listener;
mod transmission;
mod wire;

/// A device that clients may read.
pub struct Export {
    /// Its name for clients; empty for the default.
    name: String,
    source: Source,
}

impl Export {
    /// Returns the exports of the device `source`: all of it by the empty name, and each partition of a disk by its number.
    /// With `number`, only that partition, by both names.
    ///
    /// # Errors
    /// There is no such partition, or the partition table is damaged.
    pub fn all(source: Source, number: Option<usize>) -> Result<Vec<Export>, Error> {
        let named = |number: usize| {
            let source = disk::partition(&source, number)?;
            Ok::<Export, Error>(Export { name: number.to_string(), source })
        };
        if let Some(number) = number {
            return Ok(vec![Export { name: String::new(), source: disk::partition(&source, number)? }, named(number)?]);
        }
        let partitions = match source.is_partition() {
            true => Vec::new(),
            // A file system by itself may look like a table; then its partitions make no sense and are left out.
            false => table::sound(&source).ok().flatten().map_or(Vec::new(), |table| table.partitions),
        };
        let parts = partitions.iter().filter(|partition| !partition.kind.is_extended());
        let mut exports: Vec<Export> = parts.filter_map(|part| named(part.number as usize).ok()).collect();
        exports.insert(0, Export { name: String::new(), source });
        Ok(exports)
    }

    /// Returns its name, empty for the default.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its size, bytes.
    pub fn size(&self) -> u64 {
        self.source.size()
    }
}

#[cfg(test)]
mod tests;
