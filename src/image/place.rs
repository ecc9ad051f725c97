//! Where bytes lie: a file or device, what it is a part of and what that is made of, through partitions, loop devices, and
//! what device mapper and RAID join. Two names are the same place by device and inode, whatever they are called.
//!
//! Which bytes of its parts a joined device has is not asked: two volumes of one disk may lie apart. Upwards nothing is
//! followed but loop devices: the kernel itself keeps others from what it has joined.

use std::fs::{self, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::Error;
use crate::sys::block::{self, SYSFS};
use crate::sys::loops::{self, Backing};

/// Places that a device is made of, itself included; more would be a circle.
const MOST_PLACES: usize = 64;

/// The bytes from `from` to `to` of a file or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    of: Backing,
    from: u64,
    to: u64,
    /// Whether a loop device is made of it.
    below_loop: bool,
    /// Whether a loop device or a joined one is on the way to it, so that others may have it too.
    shared: bool,
    /// Whether a joined device is on the way, which has only some of these bytes.
    loose: bool,
}

impl Place {
    fn whole(of: Backing) -> Place {
        Place { of, from: 0, to: u64::MAX, below_loop: false, shared: false, loose: false }
    }

    /// Returns it in what it is made of, of which the device has `size` bytes from `start` on.
    fn within(&self, of: Backing, start: u64, size: u64) -> Place {
        let (from, to) = (self.from.saturating_add(start), self.to.min(size).saturating_add(start));
        Place { of, from, to, ..self.clone() }
    }

    fn overlaps(&self, other: &Place) -> bool {
        self.of == other.of && self.from < other.to && other.from < self.to && !(self.loose && other.loose)
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
    down(Place::whole(of), Path::new(SYSFS))
}

/// Follows a place down to all that it is made of.
fn down(place: Place, sysfs: &Path) -> Vec<Place> {
    let mut places = vec![place];
    let mut at = 0;
    while at < places.len() && places.len() < MOST_PLACES {
        places.extend(beneath(&places[at], sysfs));
        at += 1;
    }
    places
}

fn beneath(place: &Place, sysfs: &Path) -> Vec<Place> {
    let Backing::Device(number) = place.of else { return Vec::new() };
    let at = block::directory(sysfs, number);
    match part_of(place, &at).or_else(|| looped(place, &at)) {
        Some(place) => vec![place],
        None => {
            let slaves = fs::read_dir(at.join("slaves")).into_iter().flatten().flatten();
            let numbers = slaves.filter_map(|slave| read_number(&slave.path().join("dev")));
            let joined = |number| Place { shared: true, loose: true, ..Place::whole(Backing::Device(number)) };
            numbers.take(MOST_PLACES).map(joined).collect()
        }
    }
}

/// Returns where a partition lies on its disk.
fn part_of(place: &Place, at: &Path) -> Option<Place> {
    let sectors = |name: &str| fs::read_to_string(at.join(name)).ok()?.trim().parse::<u64>().ok();
    let disk = at.join("partition").exists().then(|| read_number(&at.join("../dev")))??;
    let (start, size) = (sectors("start")?.checked_mul(512)?, sectors("size")?.checked_mul(512)?);
    Some(Place { below_loop: false, ..place.within(Backing::Device(disk), start, size) })
}

/// Returns where a loop device's bytes lie.
fn looped(place: &Place, at: &Path) -> Option<Place> {
    let found = loops::named(fs::canonicalize(at).ok()?.file_name()?.to_str()?)?;
    let limit = if found.limit > 0 { found.limit } else { u64::MAX };
    Some(Place { below_loop: true, shared: true, ..place.within(found.backing, found.offset, limit) })
}

fn read_number(path: &Path) -> Option<u64> {
    block::number(&fs::read_to_string(path).ok()?)
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
    let sysfs = Path::new(SYSFS);
    for other in loops::all() {
        let itself = Place::whole(Backing::Device(other.number));
        if to.iter().any(|to| to.of == itself.of) {
            continue;
        }
        let under = down(itself, sysfs).split_off(1);
        let overlaps =
            |shared: bool| to.iter().any(|to| to.shared == shared && under.iter().any(|under| under.overlaps(to)));
        let other = other.name;
        if overlaps(false) {
            return Err(Error::Refused(format!(
                "{name} is what /dev/{other} is made of: nothing was written; detach that first (losetup -d /dev/{other})"
            )));
        }
        // Several loop devices over the parts of one file and over the whole are ordinary while they are not used.
        if overlaps(true) && is_busy(&other) {
            return Err(Error::Refused(format!(
                "{name} shares bytes with /dev/{other}, which is mounted or otherwise in use: nothing was written; unmount it \
                 first"
            )));
        }
    }
    for place in to.iter().filter(|place| place.below_loop) {
        let Backing::Device(number) = place.of else { continue };
        let Ok(under) = fs::canonicalize(block::directory(sysfs, number)) else { continue };
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
        let part = |from, to| Place { from, to, ..Place::whole(Backing::Device(7)) };
        assert!(part(0, 10).overlaps(&part(9, 20)) && !part(0, 10).overlaps(&part(10, 20)));
        assert!(!part(0, 10).overlaps(&Place { of: Backing::Device(8), ..part(0, 10) }));
        assert!(unused(&to, "one").is_ok());
    }

    #[test]
    fn what_device_mapper_joins_is_followed_to_each_of_its_parts() {
        let sysfs = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = sysfs.path().join("dev/block").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // A volume over a volume and the first partition of a disk; a mistaken one that is made of itself.
        for (device, part, number) in
            [("253:0", "sda1", "8:1"), ("253:0", "dm-1", "253:1"), ("253:1", "sdb", "8:16"), ("253:2", "dm-2", "253:2")]
        {
            file(&format!("{device}/slaves/{part}/dev"), &format!("{number}\n"));
        }
        file("disk/sda1/partition", "1\n");
        file("disk/sda1/start", "2048\n");
        file("disk/sda1/size", "100\n");
        file("disk/dev", "8:0\n");
        std::os::unix::fs::symlink("disk/sda1", sysfs.path().join("dev/block/8:1")).unwrap();
        let device = |number: &str| Place::whole(Backing::Device(block::number(number).unwrap()));
        let joined = |number: &str| Place { shared: true, loose: true, ..device(number) };
        let mut found = down(device("253:0"), sysfs.path());
        found.sort_by_key(|place| match place.of {
            Backing::Device(number) => number,
            Backing::File(..) => 0,
        });
        let on_disk = Place { from: 2048 * 512, to: 2148 * 512, ..joined("8:0") };
        assert_eq!(found, [on_disk, joined("8:1"), joined("8:16"), device("253:0"), joined("253:1")]);
        assert!(down(device("253:2"), sysfs.path()).len() <= 2 * MOST_PLACES);
        // Another volume of the same disk is another place; the disk itself is not.
        assert!(apart(&[joined("8:16")], &found, "it").is_ok());
        assert!(apart(&[device("8:16")], &found, "it").is_err());
    }
}
