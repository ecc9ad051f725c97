//! An image back onto a target: expanded side by side, its checksums verified, written in order.

use std::path::Path;

use super::codec::Input;
use super::container::Header;
use super::fs::ntfs;
use super::target::Target;
use super::unpack::{self, Event};
use super::{Error, Watch};

/// How an image is to be restored.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Do not compare the blocks' checksums.
    pub ignore_checksums: bool,
}

/// Restores the image `input` to `path`.
///
/// # Errors
/// The image is damaged or cut short, the target refused or failing, or an end was asked for. The message says so
/// when the target was written to and is unusable.
pub fn restore(input: Input, path: &Path, options: &Options, watch: &Watch) -> Result<Header, Error> {
    let mut target = None;
    let mut boot = Vec::new();
    let done = unpack::read(input, options.ignore_checksums, watch, &mut |header, event| match event {
        Event::Begin => {
            target = Some(Target::open(path, header)?);
            Ok(())
        }
        Event::Blocks(first, bytes) => {
            if first == 0 && header.fs == ntfs::NAME {
                boot = ntfs::boot_sector(bytes).to_vec();
            }
            match &mut target {
                Some(target) => target.write_at(bytes, first * u64::from(header.block_size)),
                None => Ok(()),
            }
        }
    });
    let done = done.and_then(|header| {
        if let Some(target) = &mut target {
            // NTFS has a copy of its boot sector behind its last cluster, where partclone's images do not reach.
            let copy = header.device_size.saturating_sub(boot.len() as u64);
            if !boot.is_empty() && copy >= header.block_bytes() {
                target.write_at(&boot, copy)?;
            }
            target.finish()?;
        }
        Ok(header)
    });
    match (&target, done) {
        (Some(target), Err(error)) if target.unusable() => {
            Err(Error::Refused(format!("{error}; {} was not finished and is unusable", target.name())))
        }
        (_, done) => done,
    }
}
