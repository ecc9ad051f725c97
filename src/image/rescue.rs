//! Going on over bad sectors: what cannot be read is filled with a mark, as partclone's `--rescue` does, what cannot be written
//! is left out, as its `--skip_write_error` does, and either is told.

use rustix::io::Errno;

use super::Error;
use super::source::Source;
use super::target::Target;

/// The beginning of a sector that could not be read; the rest of it is question marks, as partclone has it.
const MARK: &[u8] = b"BADSECTOR\0";

/// Whether `error` is a medium's, not of the program or the file: EIO, and what block devices say past the cache.
pub fn is_of_the_medium(error: &Error) -> bool {
    const MEDIUMS: [Errno; 5] = [Errno::IO, Errno::NODATA, Errno::REMOTEIO, Errno::ILSEQ, Errno::TIMEDOUT];
    matches!(error, Error::Io { error, .. } if Errno::from_io_error(error).is_some_and(|errno| MEDIUMS.contains(&errno)))
}

/// Fills `to` with the bytes from `at` on, sector by sector, and with marked sectors where they cannot be read; `note`
/// receives a line for each run of those.
///
/// # Errors
/// Something else failed than the medium.
pub fn read(source: &Source, to: &mut [u8], at: u64, note: &dyn Fn(&str)) -> Result<(), Error> {
    let sector = u64::from(source.sector_size());
    let (mut done, mut lost) = (0, None);
    let tell = |lost: &mut Option<(u64, u64)>| {
        match lost.take() {
            None => {}
            Some((from, 1)) => note(&format!("WARNING: Can't read sector at {from}, lost data.")),
            Some((from, count)) => note(&format!("WARNING: Can't read {count} sectors at {from}, lost data.")),
        };
    };
    while done < to.len() {
        let from = at + done as u64;
        let within = from % sector;
        let take = ((sector - within) as usize).min(to.len() - done);
        let part = &mut to[done..done + take];
        match source.read_at(part, from) {
            Ok(()) => tell(&mut lost),
            Err(error) if is_of_the_medium(&error) => {
                for (byte, place) in part.iter_mut().zip(within as usize..) {
                    *byte = MARK.get(place).copied().unwrap_or(b'?');
                }
                lost = Some(lost.map_or((from - within, 1), |(first, count)| (first, count + 1)));
            }
            Err(error) => return Err(error),
        }
        done += take;
    }
    tell(&mut lost);
    Ok(())
}

/// Writes what can be written of `bytes`, which go to `at` of the target, block by block; `note` receives a line for each
/// block that is left out.
///
/// # Errors
/// Something else failed than the medium.
pub fn write(target: &mut Target, bytes: &[u8], at: u64, block: u32, note: &dyn Fn(&str)) -> Result<(), Error> {
    let size = u64::from(block);
    for (from, bytes) in (at..).step_by(block as usize).zip(bytes.chunks(block as usize)) {
        match target.write_at(bytes, from) {
            Err(error) if is_of_the_medium(&error) => note(&format!("skip write block {} error: {error}", from / size)),
            done => done?,
        }
    }
    Ok(())
}
