//! What an older content of a target would leave there to be found: signatures in blocks that the new one does not use.
//! libblkid sees swap and the Btrfs below it and knows neither; an array's superblock at the end of a larger disk wins over
//! the table that was just restored.

use super::bitmap::Bitmap;
use super::container::Header;
use super::fields::is_zero;
use super::signature;
use super::target::Target;
use super::{Error, Watch, table};

/// A mark: what it marks, its offset and its length, bytes.
struct Mark {
    name: &'static str,
    at: u64,
    length: usize,
}

/// The marks on a target that an image does not overwrite.
#[derive(Default)]
pub struct Stale(Vec<Mark>);

impl Stale {
    /// Finds those on a target before anything is written.
    ///
    /// # Errors
    /// The target cannot be opened again.
    pub fn find(target: &Target, header: &Header, map: &Bitmap) -> Result<Stale, Error> {
        let mut stale = Stale::default();
        if let Some(source) = target.source()? {
            stale.add(0, &signature::find(&source), header, map);
        }
        Ok(stale)
    }

    /// Adds those that the image has not, `start` being the offset of their source.
    fn add(&mut self, start: u64, found: &[signature::Found], header: &Header, map: &Bitmap) {
        for of in found {
            let (at, length, block) = (start + of.at, of.length(), u64::from(header.block_size));
            let used = map.used_of(at / block, (at + length as u64).div_ceil(block) - at / block) > 0;
            if !used && !self.0.iter().any(|mark| mark.at == at) {
                self.0.push(Mark { name: of.signature.name, at, length });
            }
        }
    }

    /// Clears them once all blocks are written, and those in the partitions of a disk that was restored; a note says so.
    ///
    /// # Errors
    /// The target cannot be read or written.
    pub fn clear(mut self, target: &mut Target, header: &Header, map: &Bitmap, watch: &Watch) -> Result<(), Error> {
        if let Some(source) = target.source()? {
            self.add(0, &signature::find(&source), header, map);
            let disk = header.disk_sector().is_some();
            for of in table::read(&source)?.filter(|_| disk).map_or(Vec::new(), |table| table.partitions) {
                // It may reach past the end of a disk, as its table says.
                let Ok(part) = source.part(String::new(), of.start, of.size) else { continue };
                self.add(of.start, &signature::find(&part), header, map);
            }
        }
        let mut said: Vec<&str> = Vec::new();
        for mark in &self.0 {
            let mut bytes = vec![0; mark.length];
            target.read_at(&mut bytes, mark.at)?;
            if !is_zero(&bytes) {
                target.write_at(&vec![0; mark.length], mark.at)?;
            }
            if !said.contains(&mark.name) {
                said.push(mark.name);
                let more = self.0.iter().filter(|other| other.name == mark.name).count() - 1;
                let more = if more > 0 { format!(", and {more} more,") } else { String::new() };
                let (name, at) = (mark.name, mark.at);
                (watch.note)(&format!(
                    "{}: the signature of {name} at byte {at}{more} was left from before; it is cleared",
                    target.name()
                ));
            }
        }
        Ok(())
    }
}
