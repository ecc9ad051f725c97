//! Clonezilla's directories: `disk` and `parts` name what was saved, `sda-pt.sf`, `sda-mbr`, `sda-gpt-1st` and others hold
//! the table, `sda1.ext4-ptcl-img.zst.aa` … the partitions, `swappt-sda3.info` what a swap is made anew with.
//!
//! A slash in a device's name is a dash in names of files.

use super::layout::{Layout, is_guarded, order, saved_gpt, uuid};
use super::set::{Content, Dir, Set};
use super::split::{Parts, base};
use crate::image::Error;

/// Whether a directory is a set of Clonezilla.
pub fn is_one(dir: &Dir) -> bool {
    let images = || dir.names.iter().any(|name| name.contains("-img"));
    dir.names.iter().any(|name| name.ends_with(TABLE)) || dir.has("parts") && images()
}

/// Highest number of a partition.
const MOST: u32 = 1024;

/// The end of the name of the file that `sfdisk -d` wrote.
pub const TABLE: &str = "-pt.sf";

/// Opens the set of `disk`, or of the only one in the directory.
///
/// # Errors
/// A file of it cannot be read or says what cannot be; an image lacks, or a part of one.
pub fn open(dir: &Dir, disk: Option<&str>) -> Result<Set, Error> {
    let refused = |why: String| Error::Refused(format!("{}: {why}; nothing was written", dir.path().display()));
    if dir.has("ecryptfs.info") {
        return Err(refused("it is encrypted, which is not supported: decrypt it by Clonezilla".to_owned()));
    }
    let tables = || dir.names.iter().filter_map(|name| name.strip_suffix(TABLE));
    let (saved, parts) = (words(dir, "disk")?, words(dir, "parts")?);
    let disks: Vec<String> = if saved.is_empty() { tables().map(str::to_owned).collect() } else { saved.clone() };
    let disk = match (disk, &disks[..]) {
        (Some(disk), _) => disk.to_owned(),
        (None, [disk]) => disk.clone(),
        (None, []) => return Err(refused(format!("no file DISK{TABLE} is there"))),
        (None, [first, ..]) => {
            let all = disks.join(", ");
            return Err(refused(format!("it holds the disks {all}: name one by its table, as in {first}{TABLE}")));
        }
    };
    let number = |part: &str| number(&disk, part);
    let mut contents = volumes(dir, &disk)?;
    let mut partial = match (parts.is_empty(), saved.is_empty()) {
        (true, _) => Some("its list of partitions (parts) is lacking"),
        (_, true) => Some("only single partitions were saved"),
        _ => None,
    }
    .map(str::to_owned);
    for part in &parts {
        let Some(number) = number(part) else {
            if !disks.iter().any(|other| self::number(other, part).is_some()) {
                partial = Some(format!("it holds {part}, which is no partition of {disk}"));
            }
            continue;
        };
        if contents.iter().all(|(other, _)| *other != number) {
            let found = image(dir, part)?;
            contents.push((
                number,
                found.ok_or_else(|| refused(format!("the image of {part} is lacking ({part}.*-img*)")))?,
            ));
        }
    }
    for name in &dir.names {
        let part = name.strip_prefix("swappt-").and_then(|name| name.strip_suffix(".info"));
        let Some((part, number)) = part.and_then(|part| Some((part, number(part)?))) else { continue };
        if contents.iter().all(|(other, _)| *other != number) {
            let text = dir.text(&format!("swappt-{part}.info"))?.unwrap_or_default();
            contents.push((number, swap(&text)));
        }
    }
    order(&mut contents, |(number, _)| (*number).into());
    let mut set = Set {
        program: "Clonezilla",
        dir: dir.path().to_owned(),
        layout: None,
        gpt: None,
        boot: dir.boot(&format!("{disk}-mbr"))?,
        ebr: Vec::new(),
        contents,
        partial,
        complete: false,
        disk,
    };
    table(dir, &mut set).map_err(|why| refused(why.to_string()))?;
    Ok(set)
}

/// Returns the partitions of `disk` that are in LVM's volume groups: lines like `vg0 /dev/sda3 UUID`.
fn volumes(dir: &Dir, disk: &str) -> Result<Vec<(u32, Content)>, Error> {
    let text = dir.text("lvm_vg_dev.list")?.unwrap_or_default();
    let found = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (group, device) = (words.next()?, words.next()?.strip_prefix("/dev/")?);
        let why = format!("belongs to the LVM volume group {group:?}, which is not supported");
        Some((number(disk, &device.replace('/', "-"))?, Content::Not(why)))
    });
    Ok(found.collect())
}

/// Reads the disk's table and boot loader.
fn table(dir: &Dir, set: &mut Set) -> Result<(), Error> {
    let at = |end: &str| format!("{}{end}", set.disk);
    let parted = dir.text(&at("-pt.parted"))?.unwrap_or_default();
    let line = |start: &str| {
        let found = parted.lines().find_map(|line| line.strip_prefix(start));
        found.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
    };
    let sector = line("Sector size").split('B').next().and_then(|bytes| bytes.parse().ok()).unwrap_or(512);
    let script = dir.text(&at(TABLE))?.unwrap_or_default();
    let script = Layout::of_script(&script, sector)
        .map_err(|line| Error::Refused(format!("{} is not understood: {line}", at(TABLE))))?;
    let sector = script.as_ref().map_or(sector, |layout| layout.sector);
    let size =
        line("Disk ").trim_end_matches('s').parse::<u64>().ok().and_then(|count| count.checked_mul(sector.into()));
    set.layout = script;
    if is_guarded(&set.boot) || set.layout.as_ref().is_some_and(|layout| layout.gpt) {
        let first = saved_gpt(&dir.boot(&at("-gpt-1st"))?, sector, false);
        let saved = match first {
            Some(first) => Some(first),
            None => saved_gpt(&dir.boot(&at("-gpt.gdisk"))?, sector, true),
        };
        if let Some((gpt, disk)) = saved {
            set.layout = Some(Layout::of_gpt(&gpt, sector, disk));
            set.gpt = Some(gpt);
        }
    } else if set.layout.is_none() {
        set.layout = Layout::of_mbr(&set.boot, sector);
    }
    set.boot.resize(if set.boot.is_empty() { 0 } else { 512 }, 0);
    let hidden = dir.boot(&at("-hidden-data-after-mbr"))?;
    if !hidden.is_empty() {
        set.boot.resize(512, 0);
        set.boot.extend(hidden);
    }
    if let Some(layout) = &mut set.layout {
        layout.set_size(size);
        let extended = layout.slots.iter().map(|slot| &slot.partition).find(|partition| partition.kind.is_extended());
        if let Some(extended) = extended {
            set.ebr = dir.boot(&format!("{}-ebr", partition(&set.disk, extended.number)))?;
        }
    }
    Ok(())
}

/// Returns the words of a file that names devices.
fn words(dir: &Dir, name: &str) -> Result<Vec<String>, Error> {
    let text = dir.text(name)?.unwrap_or_default();
    let words: Vec<String> = text.split_whitespace().map(|word| word.replace('/', "-")).collect();
    let plain = |word: &String| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!:".contains(&byte));
    match words.iter().find(|word| !plain(word) || word.starts_with('.')) {
        Some(word) => Err(Error::Refused(format!(
            "{}: {word:?} is no name of a device; nothing was written",
            dir.at(name).display()
        ))),
        None => Ok(words),
    }
}

/// Returns the number of a partition of `disk` by its name, as in `sda1` and `nvme0n1p1`.
fn number(disk: &str, part: &str) -> Option<u32> {
    let rest = part.strip_prefix(disk)?;
    let rest = if disk.ends_with(|last: char| last.is_ascii_digit()) { rest.strip_prefix('p')? } else { rest };
    rest.parse().ok().filter(|number| (1..=MOST).contains(number) && !rest.starts_with('+'))
}

fn partition(disk: &str, number: u32) -> String {
    let joint = if disk.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{joint}{number}")
}

/// Finds the image of a partition; `None` if there is none.
fn image(dir: &Dir, part: &str) -> Result<Option<Content>, Error> {
    let kind =
        |name: &str| name.strip_prefix(part)?.strip_prefix('.').filter(|kind| kind.contains("-img")).map(str::to_owned);
    let mut images: Vec<&str> = dir.names.iter().filter(|name| kind(name).is_some()).map(|name| base(name)).collect();
    images.dedup();
    let Some(image) = images.first() else { return Ok(None) };
    if let Some(other) = images.get(1) {
        let why = format!("both {image} and {other} are there: nothing was written; take one of them away");
        return Err(Error::Refused(format!("{}: {why}", dir.path().display())));
    }
    let kind = kind(image).unwrap_or_default();
    let parts = || Parts::find(&dir.at(image));
    Ok(Some(match () {
        () if kind.starts_with("dd-") => Content::Copy(parts()?),
        () if kind.contains("-ptcl-img") => Content::Image(parts()?),
        () => Content::Not(format!("was not saved by partclone ({image}): restore that file by itself")),
    }))
}

/// Returns the swap that a file of lines like `UUID="…"` describes.
fn swap(text: &str) -> Content {
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.map_or("", |value| value.trim().trim_matches('"'))
    };
    Content::Swap(uuid(value("UUID")).unwrap_or_default(), value("LABEL").to_owned())
}
