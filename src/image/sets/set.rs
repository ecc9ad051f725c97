//! What a program saved of one disk into a directory: the table, and an image of each partition.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::split::{self, Parts};
use super::stream::{Item, Job};
use super::swap;
use super::write;
use crate::image::Error;
use crate::image::codec::Input;
use crate::image::container::DISKS;
use crate::image::table::gpt::Gpt;

/// Largest text file of a set that is read, bytes.
const MOST_TEXT: u64 = 1 << 20;
/// Largest copy of a boot loader that is read, bytes.
const MOST_BOOT: u64 = 16 << 20;

/// What a set has of a partition.
pub enum Content {
    /// An image of partclone.
    Image(Parts),
    /// A byte-by-byte copy.
    Copy(Parts),
    /// The UUID and label of a swap.
    Swap([u8; 16], String),
    /// Nothing that can be restored; a clause says why.
    Not(String),
}

/// The set of one disk.
pub struct Set {
    /// The program that made it, and its name for the disk.
    pub program: &'static str,
    /// See `program`.
    pub disk: String,
    /// The directory.
    pub dir: PathBuf,
    /// The disk's partitions, if the set describes them.
    pub layout: Option<Layout>,
    /// The GPT as it was saved.
    pub gpt: Option<Gpt>,
    /// The disk's first bytes, and those of its extended partition.
    pub boot: Vec<u8>,
    /// See `boot`.
    pub ebr: Vec<u8>,
    /// What there is of each partition, by number.
    pub contents: Vec<(u32, Content)>,
    /// Why the whole disk cannot be restored.
    pub partial: Option<String>,
    /// Whether each partition has its content in a whole set.
    pub complete: bool,
}

impl Set {
    fn name(&self) -> String {
        format!("{} (disk {})", self.dir.display(), self.disk)
    }

    fn refused(&self, why: &str) -> Error {
        Error::Refused(format!("{}: {why}", self.name()))
    }

    fn content(&self, number: u32) -> Option<&Content> {
        self.contents.iter().find(|(own, _)| *own == number).map(|(_, content)| content)
    }

    /// Returns the image of the whole disk, made as it is read; remarks go to `say`.
    ///
    /// # Errors
    /// Something lacks or is damaged; nothing was read then but the beginnings of the images.
    pub fn whole(&self, say: fn(&str)) -> Result<Input, Error> {
        let numbers: Vec<String> = self.contents.iter().map(|(number, _)| number.to_string()).collect();
        let numbers = if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") };
        let single = |why: &str| {
            let way = format!("nothing was written; single partitions ({numbers}) can be restored by --partition");
            self.refused(&format!("{why}: {way}"))
        };
        if let Some(why) = &self.partial {
            return Err(single(why));
        }
        let layout = self.layout.as_ref().ok_or_else(|| single("it has no partition table"))?;
        let (mut items, mut absent) = (Vec::new(), Vec::new());
        for partition in layout.held() {
            let (number, size) = (partition.number, partition.size);
            let item = match self.content(number) {
                Some(Content::Not(why)) => return Err(single(&format!("partition {number} {why}"))),
                Some(content) => self.item(number, content, size, say)?,
                None if self.complete => return Err(single(&format!("the image of partition {number} is lacking"))),
                None => {
                    absent.push(number);
                    continue;
                }
            };
            items.push((partition.start, item));
        }
        if let Some((number, _)) = self.contents.iter().find(|(own, _)| layout.held().all(|held| held.number != *own)) {
            return Err(single(&format!("its table has no partition {number}")));
        }
        let table = write::pieces(layout, self.gpt.as_ref(), &self.boot, &self.ebr);
        let table = table.map_err(|why| single(&why))?;
        items.extend(table.into_iter().map(|(at, bytes)| (at, Item::Bytes(bytes))));
        let job = Job::plan(&self.name(), DISKS[usize::from(layout.sector != 512)].0, layout.size, items)?;
        for number in absent {
            say(&format!("{}: there is no image of partition {number}, which stays as it is", self.name()));
        }
        job.start()
    }

    /// Returns the image of partition `number`.
    ///
    /// # Errors
    /// There is none, or something of it lacks.
    pub fn partition(&self, number: usize, say: fn(&str)) -> Result<Input, Error> {
        let content = u32::try_from(number).ok().and_then(|number| Some((number, self.content(number)?)));
        let Some((number, content)) = content else {
            let numbers: Vec<String> = self.contents.iter().map(|(number, _)| number.to_string()).collect();
            return Err(self.refused(&format!("it has no partition {number}; it has {}", numbers.join(", "))));
        };
        if let Content::Image(parts) = content {
            parts.check(None, true, say)?;
            return parts.open();
        }
        let held = self.layout.iter().flat_map(Layout::held).find(|held| held.number == number);
        let size = held.map(|held| held.size);
        let size =
            size.ok_or_else(|| self.refused(&format!("its table does not tell how large partition {number} is")))?;
        let fs = if matches!(content, Content::Swap(..)) { "SWAP" } else { "raw" };
        let item = self.item(number, content, size, say)?;
        Job::plan(&format!("{}, partition {number}", self.name()), fs, size, vec![(0, item)])?.start()
    }

    fn item(&self, number: u32, content: &Content, size: u64, say: fn(&str)) -> Result<Item, Error> {
        Ok(match content {
            Content::Image(parts) => {
                parts.check(None, true, say)?;
                Item::Image(parts.clone(), size)
            }
            Content::Copy(parts) => {
                parts.check(Some(size), true, say)?;
                Item::Copy(parts.clone(), size)
            }
            Content::Swap(uuid, label) => {
                let header = swap::header(size, *uuid, label);
                Item::Bytes(header.ok_or_else(|| self.refused(&format!("partition {number} is too small for a swap")))?)
            }
            Content::Not(why) => return Err(self.refused(&format!("partition {number} {why}"))),
        })
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set of:       {}, disk {}", self.program, self.disk)?;
        for (number, content) in &self.contents {
            write!(f, "\n{:<13} ", format!("Partition {number}:"))?;
            match content {
                Content::Image(parts) | Content::Copy(parts) => {
                    let name = parts.first().file_name().unwrap_or_default().display();
                    match parts.count() {
                        1 => write!(f, "{name}")?,
                        count => write!(f, "{name} and {} more", count - 1)?,
                    }
                }
                Content::Swap(..) => write!(f, "swap")?,
                Content::Not(why) => write!(f, "not supported: it {why}")?,
            }
        }
        Ok(())
    }
}

/// A directory, whose files are read by names that cannot lead out of it.
pub struct Dir {
    path: PathBuf,
    /// The names in it, sorted.
    pub names: Vec<String>,
}

impl Dir {
    /// Lists a directory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<Dir, Error> {
        let mut names = split::names(path)?;
        names.sort();
        Ok(Dir { path: path.to_owned(), names })
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of one of its [`names`](Dir::names), or of what they have in common.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether it has something of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|own| own.as_str().cmp(name)).is_ok()
    }

    /// Returns the text of a file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read or is too long.
    pub fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let bytes = self.bytes(name, MOST_TEXT)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', "")))
    }

    /// Returns the bytes of a boot loader or table; empty if there is none.
    ///
    /// # Errors
    /// It cannot be read or is too long.
    pub fn boot(&self, name: &str) -> Result<Vec<u8>, Error> {
        Ok(self.bytes(name, MOST_BOOT)?.unwrap_or_default())
    }

    fn bytes(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        // Only what the directory itself lists: a name from a file of the set cannot be a path.
        if !self.has(name) {
            return Ok(None);
        }
        let path = self.at(name);
        let failed = |error| Error::io(format!("read {}", path.display()), error);
        let found = path.metadata().map_err(failed)?;
        if !found.is_file() || found.len() > most {
            return Err(Error::Refused(format!("{} is not a file of at most {most} bytes", path.display())));
        }
        fs::read(&path).map(Some).map_err(failed)
    }
}
