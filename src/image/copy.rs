//! Copies byte by byte, as partclone.dd makes them: of a device, a file or a pipe.

use std::io::{Read, Write};

use super::block_files::BlockFiles;
use super::codec::{self, read_full};
use super::format::untyped;
use super::save::pack;
use super::source::Source;
use super::{Error, Watch, rescue};

/// Bytes that are copied to block files at once.
const PART: usize = 1 << 20;

/// What is copied, read from its beginning.
pub enum From {
    /// A device or file.
    Source(Source),
    /// A pipe.
    Pipe(Box<dyn Read + Send>),
}

/// A copy's bytes.
pub struct Bytes {
    from: From,
    at: u64,
    /// The number of bytes to copy; `None` for all that come.
    size: Option<u64>,
    rescue: bool,
}

impl Bytes {
    /// Returns the first `size` bytes, or all.
    ///
    /// # Errors
    /// The source has less.
    pub fn new(from: From, size: Option<u64>, rescue: bool) -> Result<Bytes, Error> {
        let size = match &from {
            From::Pipe(_) => size,
            From::Source(source) => {
                let size = size.unwrap_or(source.size());
                if size > source.size() {
                    return Err(Error::Refused(format!("{} has {} bytes, not {size}", source.name(), source.size())));
                }
                Some(size)
            }
        };
        Ok(Bytes { from, at: 0, size, rescue })
    }

    /// Returns their number; `None` if it is not known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Fills `to` with the next bytes; returns how many, 0 at the end.
    fn fill(&mut self, to: &mut [u8], watch: &Watch) -> Result<usize, Error> {
        let part = self.size.map_or(to.len() as u64, |size| (size - self.at).min(to.len() as u64)) as usize;
        let to = &mut to[..part];
        let got = match &mut self.from {
            From::Source(source) => match source.read_at(to, self.at) {
                Err(error) if self.rescue && rescue::is_of_the_medium(&error) => {
                    rescue::read(source, to, self.at, watch.note)?;
                    part
                }
                done => done.map(|()| part)?,
            },
            From::Pipe(read) => read_full(read, to)
                .map_err(|error| Error::io(format!("read standard input at byte {}", self.at), error))?,
        };
        self.at += got as u64;
        if let (true, Some(size)) = (got < part, self.size) {
            return Err(Error::Refused(format!("standard input ended after {} of {size} bytes", self.at)));
        }
        (watch.progress)(got as u64);
        Ok(got)
    }

    /// Copies everything to `out`, called `name` in errors.
    ///
    /// # Errors
    /// The source cannot be read, `out` cannot be written, or an end was asked for.
    pub fn copy(&mut self, out: &mut (dyn Write + Send), name: &str, watch: &Watch) -> Result<(), Error> {
        (watch.begin)(&untyped(self.size.unwrap_or(0)));
        let plain = codec::named("none").unwrap_or(&codec::CODECS[0]);
        // These bytes are counted when they are read already.
        let quiet = Watch { wrote: &|_| {}, ..*watch };
        pack(out, name, plain, &quiet, &mut |to| self.fill(to, watch)).map(drop)
    }

    /// Copies everything to a directory of block files.
    ///
    /// # Errors
    /// The source cannot be read, the directory cannot be written to, or an end was asked for.
    pub fn to_files(&mut self, mut files: BlockFiles, watch: &Watch) -> Result<(), Error> {
        (watch.begin)(&untyped(self.size.unwrap_or(0)));
        let mut buffer = vec![0; PART];
        loop {
            let at = self.at;
            match self.fill(&mut buffer, watch)? {
                _ if (watch.stop)() => return Err(Error::Interrupted),
                0 => return files.finish(),
                got => files.add(at, &buffer[..got])?,
            }
        }
    }
}
