//! FOG's directories: `d1.partitions` (by `sfdisk -d`) and `d1.mbr` hold the table of the first disk, `d1p1.img` … its
//! partitions, whole or cut into `.000`, `.001` …, `d1.original.swapuuids` the UUIDs of swaps.
//!
//! `d1.mbr` is the beginning of a disk with an MBR; of one with a GPT, it is the file that `sgdisk -b` writes, and
//! `d1.grub.mbr` the disk's beginning. In a resizable image it has the table of partitions that were shrunk, so that
//! `d1.partitions` decides: file systems are then smaller than their partitions until they are grown.

use super::layout::{Layout, is_guarded, order, saved_gpt, uuid};
use super::set::{Content, Dir, Set};
use super::split::{Parts, base};
use crate::image::Error;

/// Highest number of a partition.
const MOST: u32 = 1024;

/// The end of the name of the file that `sfdisk -d` wrote.
pub const TABLE: &str = ".partitions";

/// Returns the disks whose sets are in a directory, as in `d1`.
pub fn disks(dir: &Dir) -> Vec<&str> {
    let named = |name: &'static str| move |file: &str| file.strip_suffix(name).is_some_and(is_disk);
    let (script, record) = (named(TABLE), named(".mbr"));
    let found = dir.names.iter().filter(|name| script(name) || record(name));
    let mut disks: Vec<&str> = found.filter_map(|name| name.split('.').next()).collect();
    disks.dedup();
    disks
}

/// Whether it is FOG's name of a disk.
pub fn is_disk(name: &str) -> bool {
    let digits = name.strip_prefix('d').unwrap_or_default();
    (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Opens the set of `disk`, or of the only one in the directory.
///
/// # Errors
/// A file of it cannot be read or says what cannot be; a part of an image lacks.
pub fn open(dir: &Dir, disk: Option<&str>) -> Result<Set, Error> {
    let refused = |why: String| Error::Refused(format!("{}: {why}; nothing was written", dir.path().display()));
    let disk = match (disk, &disks(dir)[..]) {
        (Some(disk), _) => disk.to_owned(),
        (None, [disk]) => (*disk).to_owned(),
        (None, disks) => {
            let all = disks.join(", ");
            return Err(refused(format!("it holds the disks {all}: name one by its table, as in d1{TABLE}")));
        }
    };
    let at = |end: &str| format!("{disk}{end}");
    let script = dir.text(&at(TABLE))?.unwrap_or_default();
    let mut layout =
        Layout::of_script(&script, 512).map_err(|line| refused(format!("{} is not understood: {line}", at(TABLE))))?;
    let mut gpt = None;
    let (mut boot, sector) = (dir.boot(&at(".mbr"))?, layout.as_ref().map_or(512, |layout| layout.sector));
    if is_guarded(&boot) {
        if !layout.as_ref().is_some_and(|layout| layout.gpt) {
            let saved = saved_gpt(&boot, sector, true);
            layout = saved.as_ref().map(|(gpt, size)| Layout::of_gpt(gpt, sector, *size));
            gpt = saved.map(|(gpt, _)| gpt);
        }
        let loader = dir.boot(&at(".grub.mbr"))?;
        boot.truncate(512);
        boot = if loader.is_empty() { boot } else { loader };
    } else if layout.is_none() {
        layout = Layout::of_mbr(&boot, sector);
    }
    if let Some(layout) = &mut layout {
        let size = dir.text(&at(".size"))?;
        layout.set_size(size.and_then(|size| size.trim().split(':').next_back()?.parse().ok()));
    }
    let mut contents = images(dir, &disk, layout.as_ref())?;
    for line in dir.text(&at(".original.swapuuids"))?.unwrap_or_default().lines() {
        let found = line.split_once(' ').and_then(|(number, text)| Some((number.parse().ok()?, uuid(text.trim())?)));
        if let Some((number, uuid)) =
            found.filter(|(number, _)| *number <= MOST && contents.iter().all(|(other, _)| other != number))
        {
            contents.push((number, Content::Swap(uuid, String::new())));
        }
    }
    order(&mut contents, |(number, _)| (*number).into());
    let (dir, ebr, partial) = (dir.path().to_owned(), Vec::new(), None);
    Ok(Set { program: "FOG", dir, layout, gpt, boot, ebr, contents, partial, complete: true, disk })
}

/// Finds the images of a disk's partitions. Old sets have one of the extended partition, which holds nothing of its own.
fn images(dir: &Dir, disk: &str, layout: Option<&Layout>) -> Result<Vec<(u32, Content)>, Error> {
    let mut contents: Vec<(u32, Content)> = Vec::new();
    let extended = |number: u32| {
        let mut slots = layout.iter().flat_map(|layout| &layout.slots).map(|slot| &slot.partition);
        slots.any(|partition| partition.number == number && partition.kind.is_extended())
    };
    for name in &dir.names {
        let file = base(name);
        let rest = file.strip_prefix(disk).and_then(|rest| rest.strip_prefix('p'));
        let Some((number, kind)) = rest.and_then(|rest| rest.split_once('.')) else { continue };
        let Some(number) = number.parse().ok().filter(|number| (1..=MOST).contains(number) && !extended(*number))
        else {
            continue;
        };
        let content = match kind {
            "img" if contents.iter().all(|(other, _)| *other != number) => Content::Image(Parts::find(&dir.at(file))?),
            "lvm" => Content::Not("holds LVM volumes, which are not supported".to_owned()),
            _ => continue,
        };
        contents.retain(|(other, _)| *other != number);
        contents.push((number, content));
    }
    Ok(contents)
}
