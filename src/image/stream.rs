//! An image restored to a pipe: the whole device from its first byte to its last, with zeroes where no block is used.

use std::io::Write;

use super::codec::Input;
use super::container::Header;
use super::fs::ntfs;
use super::restore::boot_copy;
use super::unpack::{self, Event};
use super::{Error, Watch};

/// A pipe and the number of bytes written to it.
struct Stream<'a> {
    out: &'a mut (dyn Write + Send),
    at: u64,
}

impl Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out
            .write_all(bytes)
            .map_err(|error| Error::io(format!("write {} bytes to a pipe at byte {}", bytes.len(), self.at), error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeroes up to byte `end`.
    fn pad(&mut self, end: u64) -> Result<(), Error> {
        let zeroes = [0; 16 << 10];
        while self.at < end {
            self.write(&zeroes[..(end - self.at).min(zeroes.len() as u64) as usize])?;
        }
        Ok(())
    }
}

/// Writes the device of the image `input` to `out`, after `offset` zeroes.
///
/// # Errors
/// The image is damaged or cut short, `out` fails, or an end was asked for.
pub fn restore(
    input: Input,
    ignore_checksums: bool,
    offset: u64,
    out: &mut (dyn Write + Send),
    watch: &Watch,
) -> Result<Header, Error> {
    let mut stream = Stream { out, at: 0 };
    let mut boot = Vec::new();
    let header = unpack::read(input, ignore_checksums, watch, &mut |header, event| {
        let Event::Blocks(first, bytes) = event else { return Ok(()) };
        if first == 0 && header.fs == ntfs::NAME {
            boot = ntfs::boot_sector(bytes).to_vec();
        }
        stream.pad(offset + first * u64::from(header.block_size))?;
        stream.write(bytes)
    })?;
    if let Some(copy) = boot_copy(&header, &boot) {
        stream.pad(offset + copy)?;
        stream.write(&boot)?;
    }
    stream.pad(offset + header.target_size())?;
    stream.out.flush().map_err(|error| Error::io("write to a pipe", error))?;
    Ok(header)
}
