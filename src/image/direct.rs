//! A file or device that is read and written past the kernel's cache (O_DIRECT), through one aligned buffer; bytes that do
//! not fill a sector go through the cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Mutex;

use rustix::fs::OFlags;

use crate::base::sync::lock;

/// Bytes that are read or written at once.
const PART: usize = 1 << 20;
/// Alignment of the buffer, bytes: no device wants more.
const ALIGNMENT: usize = 4096;

/// A file open twice: past the cache, and through it for what is no whole sector.
pub struct Direct {
    direct: File,
    cached: File,
    /// Bytes of which all offsets and lengths are multiples.
    sector: u64,
    buffer: Mutex<Vec<u8>>,
}

impl Direct {
    /// Opens `file`, which has sectors of `sector` bytes, once more; for writing too if `write`.
    ///
    /// # Errors
    /// The file system or device cannot go past the cache, or /proc is not mounted.
    pub fn open(file: &File, sector: u32, write: bool) -> io::Result<Direct> {
        let cached = file.try_clone()?;
        Ok(Direct {
            direct: reopen(file, OFlags::DIRECT, write)?,
            cached,
            sector: u64::from(sector),
            buffer: Mutex::new(vec![0; PART + ALIGNMENT]),
        })
    }

    /// Calls `job` with the aligned buffer.
    fn with<T>(&self, job: impl FnOnce(&mut [u8]) -> io::Result<T>) -> io::Result<T> {
        let mut buffer = lock(&self.buffer);
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        job(&mut buffer[start..start + PART])
    }
}

/// Opens an open file once more, with these flags.
///
/// # Errors
/// Its file system does not know the flags, or /proc is not mounted.
pub fn reopen(file: &File, flags: OFlags, write: bool) -> io::Result<File> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(write).custom_flags(flags.bits() as i32).open(name)
}

impl FileExt for Direct {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        let within = (at % self.sector) as usize;
        let want = (within + to.len()).next_multiple_of(self.sector as usize).min(PART);
        self.with(|buffer| {
            let got = self.direct.read_at(&mut buffer[..want], at - within as u64)?;
            let bytes = buffer[..got].get(within..).unwrap_or_default();
            let take = bytes.len().min(to.len());
            to[..take].copy_from_slice(&bytes[..take]);
            Ok(take)
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let sector = self.sector as usize;
        let within = (at % self.sector) as usize;
        if within > 0 || bytes.len() < sector {
            return self.cached.write_at(&bytes[..bytes.len().min(sector - within)], at);
        }
        let whole = (bytes.len() - bytes.len() % sector).min(PART);
        self.with(|buffer| {
            buffer[..whole].copy_from_slice(&bytes[..whole]);
            self.direct.write_at(&buffer[..whole], at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_at_any_place_are_written_and_read() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = File::options().read(true).write(true).create_new(true).open(dir.path().join("file")).unwrap();
        let mut want: Vec<u8> = (0..3 * PART + 777).map(|at| (at / 7) as u8).collect();
        file.write_all_at(&want, 0).unwrap();
        let direct = Direct::open(&file, 4096, true).unwrap();
        for (at, len) in [(0, 4096), (1, 10), (4095, 2), (4000, 9000), (12_288, 2 * PART), (3 * PART, 777), (5, PART)] {
            let bytes = vec![at as u8 ^ 0x5a; len];
            want[at..at + len].copy_from_slice(&bytes);
            direct.write_all_at(&bytes, at as u64).unwrap();
            let mut back = vec![0; want.len() - at];
            direct.read_exact_at(&mut back, at as u64).unwrap();
            assert!(back == want[at..], "{at} {len}");
        }
        assert_eq!(direct.read_at(&mut [0; 9], want.len() as u64 + 5).unwrap(), 0);
    }
}
