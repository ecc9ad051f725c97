//! Images of other systems, read where they lie: files that were cut, and the directories of Clonezilla and FOG. A whole
//! disk's set is one image of a whole disk, made while it is read.
//!
//! | file | what it is |
//! |---|---|
//! | `split` | files that split(1) cut |
//! | `clonezilla`, `fog`, `opengnsys` | how those programs lay out their files |
//! | `set` | what they have in common: a table, and the content of each partition |
//! | `layout`, `write`, `swap` | the table as the set describes it, and its bytes; an empty swap |
//! | `find` | images and sets below a directory |
//! | `stream` | the image of the device that all this makes |
//!
//! All of it is hostile: names cannot leave the directory, sizes are checked before they are believed, and what lacks is
//! found before the first byte is written.

use std::fs::File;
use std::path::Path;

use super::codec::Input;
use super::legacy::{self, Legacy};
use super::{Error, place};
pub use find::{find, is_set};
use set::{Dir, Set};
use split::Parts;

mod clonezilla;
mod find;
mod fog;
mod layout;
mod opengnsys;
mod set;
mod split;
mod stream;
mod swap;
mod write;

/// Opens what is at `path`: an image, the first part of one, or a set, which is read as a whole disk's image; `-` is
/// standard input. Remarks go to `say`.
///
/// # Errors
/// It cannot be opened, or something of it lacks.
pub fn input(path: &Path, say: fn(&str)) -> Result<Input, Error> {
    if path == Path::new("-") {
        let stdin = rustix::io::dup(rustix::stdio::stdin()).map_err(|error| Error::io("open standard input", error))?;
        return Ok(Input::new(Box::new(File::from(stdin)), "standard input").lying(place::of(path)));
    }
    if let Some(set) = open(path)? {
        return set.whole(say);
    }
    opengnsys::check(path)?;
    let parts = Parts::find(path)?;
    parts.check(None, false, say)?;
    parts.open()
}

/// Returns the image of partition `number` in the set at `path`; `None` if that is no set.
///
/// # Errors
/// There is no such partition, or something of it lacks.
pub fn partition(path: &Path, number: Option<usize>, say: fn(&str)) -> Result<Option<Input>, Error> {
    let Some(number) = number.filter(|_| path != Path::new("-")) else { return Ok(None) };
    open(path)?.map(|set| set.partition(number, say)).transpose()
}

/// Identifies the program other than partclone that made the image at `path`; `None` for a set and standard input, which is
/// read once.
///
/// # Errors
/// The image cannot be read, or its first bytes cannot be decompressed.
pub fn legacy(path: &Path) -> Result<Option<Legacy>, Error> {
    if path == Path::new("-") || path.is_dir() {
        return Ok(None);
    }
    legacy::recognise(Parts::find(path)?.open()?)
}

/// Returns the program, disk and images of the set at `path`, in lines; empty if that is no set.
///
/// # Errors
/// Something of it cannot be read or lacks.
pub fn describe(path: &Path) -> Result<String, Error> {
    Ok(open(path)?.map_or_else(String::new, |set| format!("{set}\n")))
}

/// Returns the size of all files that an image or set consists of, bytes.
pub fn size(path: &Path) -> u64 {
    let files = match (path.is_dir(), Parts::find(path)) {
        (false, Ok(parts)) => return parts.size(),
        (true, _) => {
            Dir::open(path).map_or_else(|_| Vec::new(), |dir| dir.names.iter().map(|name| dir.at(name)).collect())
        }
        (false, Err(_)) => vec![path.to_owned()],
    };
    files.iter().filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum()
}

/// Opens the set at `path`, which is its directory or the table of one of its disks; `None` if it is neither.
fn open(path: &Path) -> Result<Option<Set>, Error> {
    if path.is_dir() {
        let dir = Dir::open(path)?;
        return match (clonezilla::is_one(&dir), fog::disks(&dir).is_empty()) {
            (true, _) => clonezilla::open(&dir, None).map(Some),
            (false, false) => fog::open(&dir, None).map(Some),
            (false, true) => Err(Error::Refused(format!(
                "{} is a directory, and neither a set of Clonezilla (parts, *-pt.sf) nor of FOG (d1.partitions)",
                path.display()
            ))),
        };
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let dir = || Dir::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    if let Some(disk) = name.strip_suffix(clonezilla::TABLE) {
        return clonezilla::open(&dir()?, Some(disk)).map(Some);
    }
    match name.strip_suffix(fog::TABLE).filter(|disk| fog::is_disk(disk)) {
        Some(disk) => fog::open(&dir()?, Some(disk)).map(Some),
        None => Ok(None),
    }
}
