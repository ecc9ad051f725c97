//! Where bytes lie: a file or device, what it is a part of and what that is made of, through partitions and loop devices.
//! Two names are the same place by device and inode, whatever they are called.
//!
//! Device-mapper devices are an end of the way: the kernel itself holds what they are made of.

use std::fs::{self, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::Error;
use crate::sys::block;
use crate::sys::loops::{self, Backing};

/// Steps from a device to what it is made of; more would be a circle.
const MOST_STEPS: usize = 16;

/// The bytes from `from` to `to` of a file or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    of: Backing,
    from: u64,
    to: u64,
    /// Whether a loop device is made of it.
    below_loop: bool,
}

impl Place {
    fn overlaps(&self, other: &Place) -> bool {
        self.of == other.of && self.from < other.to && other.from < self.to
    }
}

/// Returns where the bytes of `path` lie, itself first; nothing for pipes and what is not there.
pub fn of(path: &Path) -> Vec<Place> {
    let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    path.metadata().map_or_else(|_| Vec::new(), |found| of_found(&found))
}

/// Returns where the bytes of a file or device with this metadata lie.
pub fn of_found(found: &Metadata) -> Vec<Place> {
    let kind = found.file_type();
    let of = match () {
        () if kind.is_file() => Backing::File(found.dev(), found.ino()),
        () if kind.is_block_device() => Backing::Device(found.rdev()),
        () => return Vec::new(),
    };
    down(Place { of, from: 0, to: u64::MAX, below_loop: false })
}

/// Follows a place down to what it is made of.
fn down(place: Place) -> Vec<Place> {
    let mut places = vec![place];
    while let Some(next) = places.last().filter(|_| places.len() < MOST_STEPS).and_then(beneath) {
        places.push(next);
    }
    places
}

fn beneath(place: &Place) -> Option<Place> {
    let Backing::Device(number) = place.of else { return None };
    let at = block::directory(number);
    let sectors = |name: &str| fs::read_to_string(at.join(name)).ok()?.trim().parse::<u64>().ok();
    let (of, offset, limit, below_loop) = if at.join("partition").exists() {
        let disk = block::number(&fs::read_to_string(at.join("../dev")).ok()?)?;
        (Backing::Device(disk), sectors("start")? * 512, sectors("size")? * 512, false)
    } else {
        let found = loops::named(fs::canonicalize(&at).ok()?.file_name()?.to_str()?)?;
        (found.backing, found.offset, if found.limit > 0 { found.limit } else { u64::MAX }, true)
    };
    let to = place.to.min(limit).saturating_add(offset);
    Some(Place { of, from: place.from.saturating_add(offset), to, below_loop })
}

/// Refuses to write `to`, called `name`, while the bytes are read `from`.
///
/// # Errors
/// They lie in the same place.
pub fn apart(from: &[Place], to: &[Place], name: &str) -> Result<(), Error> {
    if from.iter().any(|from| to.iter().any(|to| from.overlaps(to))) {
        return Err(Error::Refused(format!("{name} is where the bytes are read from: nothing was written")));
    }
    Ok(())
}

/// Refuses to write `to`, called `name`, while somebody has its bytes in another way: by a loop device that is made of it,
/// or by a mount of what it is made of.
///
/// # Errors
/// Somebody does.
pub fn unused(to: &[Place], name: &str) -> Result<(), Error> {
    let (own, shared) = to.split_at(to.iter().position(|place| place.below_loop).unwrap_or(to.len()));
    for other in loops::all() {
        let itself = Place { of: Backing::Device(other.number), from: 0, to: u64::MAX, below_loop: false };
        if to.iter().any(|to| to.of == itself.of) {
            continue;
        }
        let under = down(itself).split_off(1);
        let overlaps = |to: &[Place]| to.iter().any(|to| under.iter().any(|under| under.overlaps(to)));
        let other = other.name;
        if overlaps(own) {
            return Err(Error::Refused(format!(
                "{name} is what /dev/{other} is made of: nothing was written; detach that first (losetup -d /dev/{other})"
            )));
        }
        // Several loop devices over the parts of one file and over the whole are ordinary while they are not used.
        if overlaps(shared) && is_busy(&other) {
            return Err(Error::Refused(format!(
                "{name} shares bytes with /dev/{other}, which is mounted or otherwise in use: nothing was written; unmount it \
                 first"
            )));
        }
    }
    for place in to.iter().filter(|place| place.below_loop) {
        let Backing::Device(number) = place.of else { continue };
        let Ok(under) = fs::canonicalize(block::directory(number)) else { continue };
        let Some(under) = under.file_name().and_then(|name| name.to_str()) else { continue };
        if is_busy(under) {
            return Err(Error::Refused(format!(
                "{name} is made of /dev/{under}, which is mounted or otherwise in use: nothing was written; unmount it first"
            )));
        }
    }
    Ok(())
}

/// Whether somebody has the block device of this name in /dev for himself alone.
fn is_busy(name: &str) -> bool {
    let node = Path::new("/dev").join(name);
    let open = OpenOptions::new().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(node);
    open.is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_by_inode_and_range() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("one"), "x").unwrap();
        fs::write(at("two"), "x").unwrap();
        fs::hard_link(at("one"), at("same")).unwrap();
        let to = of(&at("one"));
        assert!(apart(&of(&at("two")), &to, "one").is_ok() && apart(&of(&at("none")), &to, "one").is_ok());
        assert!(apart(&of(&at("same")), &to, "one").is_err());
        let part = |from, to| Place { of: Backing::Device(7), from, to, below_loop: false };
        assert!(part(0, 10).overlaps(&part(9, 20)) && !part(0, 10).overlaps(&part(10, 20)));
        assert!(!part(0, 10).overlaps(&Place { of: Backing::Device(8), ..part(0, 10) }));
        assert!(unused(&to, "one").is_ok());
    }
}
