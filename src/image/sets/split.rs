//! Files that split(1) cut: `X.aa`, `X.ab` … or `X.000`, `X.001` …, found from the first one and read as one.
//!
//! Whether all parts are there is decided before anything is written: parts but the last are of one size, and a last one
//! that is as long as a part which others follow is read once.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::image::codec::{self, Input};
use crate::image::container::Header;
use crate::image::{Error, Watch, place, unpack};

/// Endings that look like a part's and are a format's.
const FORMATS: &[&str] =
    &["gz", "xz", "lz", "bz", "zst", "lzo", "lrz", "lzma", "lzip", "img", "dsk", "pgz", "raw", "sum", "idx"];

/// The files of which an image consists, in order.
#[derive(Clone)]
pub struct Parts {
    files: Vec<PathBuf>,
    /// The sum of their sizes, bytes.
    size: u64,
    /// Whether they are parts of a file that was cut, and the last one may be a part that another follows.
    cut: bool,
    doubtful: bool,
}

/// Splits the name of a part into what all have in common and its own ending.
fn ending(name: &str) -> Option<(&str, &str)> {
    let (base, end) = name.rsplit_once('.')?;
    let of = |kind: fn(&u8) -> bool| end.bytes().all(|byte| kind(&byte));
    let kind = of(u8::is_ascii_lowercase) || of(u8::is_ascii_digit);
    (!base.is_empty() && (2..=4).contains(&end.len()) && kind && !FORMATS.contains(&end)).then_some((base, end))
}

/// Returns what the parts of a file that was cut have in common in their names; the name itself if it is no part's.
pub fn base(name: &str) -> &str {
    ending(name).map_or(name, |(base, _)| base)
}

/// Returns the place in the order that a part's ending stands for, and how many letters or digits there are.
fn number(end: &str) -> (u32, u32) {
    let (zero, radix) = if end.starts_with(|first: char| first.is_ascii_digit()) { (b'0', 10) } else { (b'a', 26) };
    (end.bytes().fold(0, |number, byte| number * radix + u32::from(byte - zero)), radix)
}

/// Returns the ending of part `number` that has the form of `like`.
fn spelled(number: u32, like: &str) -> String {
    let (_, radix) = self::number(like);
    let zero = if radix == 10 { b'0' } else { b'a' };
    let digit = |place: u32| char::from(zero + (number / radix.pow(place) % radix) as u8);
    (0..like.len() as u32).rev().map(digit).collect()
}

/// Returns the first part of the file at `path`, if that was cut.
///
/// # Errors
/// It is lacking where others are there.
fn first_of(path: &Path) -> Result<Option<PathBuf>, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut parts = names(beside(path)).unwrap_or_default();
    parts.retain(|part| ending(part).is_some_and(|(base, _)| base == name));
    let Some((_, end)) = parts.iter().min().and_then(|part| ending(part)) else { return Ok(None) };
    let first = path.with_file_name(format!("{name}.{}", spelled(0, end)));
    if first.exists() { Ok(Some(first)) } else { Err(lacks(&first, "later parts are there")) }
}

fn beside(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the names of what is in a directory, as far as they are text.
///
/// # Errors
/// It cannot be read.
pub fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let look = |error| Error::io(format!("look into {}", dir.display()), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(look)? {
        names.extend(entry.map_err(look)?.file_name().into_string().ok());
    }
    Ok(names)
}

impl Parts {
    /// Finds the files of the image `path`: all parts of a file that was cut, if it names the first one or what they have
    /// in common; otherwise itself.
    ///
    /// # Errors
    /// It is not there or a later part, or a part is lacking or cut short.
    pub fn find(path: &Path) -> Result<Parts, Error> {
        let cut = if path.exists() { None } else { first_of(path)? };
        let path = cut.as_deref().unwrap_or(path);
        let found = path.file_name().and_then(|name| name.to_str()).and_then(ending);
        let Some((base, end)) = found else { return Parts::of(vec![path.to_owned()], false) };
        let part = |number| path.with_file_name(format!("{base}.{}", spelled(number, end)));
        let (own, radix) = number(end);
        if own > 0 {
            return match part(own - 1).exists() {
                true => Err(Error::Refused(format!(
                    "{} is a part of a file that was cut: name its first part, {}",
                    path.display(),
                    part(0).display()
                ))),
                false => Parts::of(vec![path.to_owned()], false),
            };
        }
        let (mut count, mut last) = (0_u32, 0);
        for name in names(beside(path))? {
            let other = ending(&name).filter(|(other, _)| *other == base).map(|(_, end)| end);
            if let Some(other) = other.filter(|other| other.len() == end.len() && number(other).1 == radix) {
                count += 1;
                last = last.max(number(other).0);
            }
        }
        if last >= count {
            let lacking = (0..last).map(part).find(|part| !part.exists()).unwrap_or_else(|| part(last));
            return Err(lacks(&lacking, "later parts are there"));
        }
        Parts::of((0..count.max(1)).map(part).collect(), true)
    }

    fn of(files: Vec<PathBuf>, cut: bool) -> Result<Parts, Error> {
        let mut sizes = Vec::with_capacity(files.len());
        for file in &files {
            let found = file.metadata().map_err(|error| Error::io(format!("open {}", file.display()), error))?;
            if cut && !found.is_file() {
                return Err(Error::Refused(format!("{} is not a file", file.display())));
            }
            sizes.push(found.len());
        }
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
        let odd = sizes[..sizes.len() - 1].iter().zip(&files).find(|(size, _)| **size != first);
        if let Some((size, file)) = odd {
            let why = format!("{size} bytes, but the parts before it have {first}: it was not copied to its end");
            return Err(Error::Refused(format!("{} has {why}; nothing was written", file.display())));
        }
        let round = first % 1000 == 0 || first % 512 == 0;
        let doubtful = cut && last == first && (sizes.len() > 1 || round);
        Ok(Parts { files, size: sizes.iter().sum(), cut, doubtful })
    }

    /// Returns the first file.
    pub fn first(&self) -> &Path {
        &self.files[0]
    }

    /// Returns all files, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns the size of all files, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the number of files.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Opens all as one.
    ///
    /// # Errors
    /// The first one cannot be opened.
    pub fn open(&self) -> Result<Input, Error> {
        let name = self.first().display().to_string();
        let first = File::open(self.first()).map_err(|error| Error::io(format!("open {name}"), error))?;
        let rest: Vec<PathBuf> = self.files[1..].into();
        let places = self.files.iter().flat_map(|file| place::of(file)).collect();
        Ok(Input::new(Box::new(Joined { file: first, rest: rest.into_iter() }), &name).lying(places))
    }

    /// Checks that no part is lacking behind the last one: an image that is not compressed has the size that its header
    /// and map tell, a doubtful last part is read, after a line to `say`. Of a file that was not cut, only one `of_set` is
    /// checked. A byte-by-byte copy has `raw` bytes.
    ///
    /// # Errors
    /// The image ends too early.
    pub fn check(&self, raw: Option<u64>, of_set: bool, say: fn(&str)) -> Result<(), Error> {
        if !self.cut && !of_set {
            return Ok(());
        }
        let mut input = self.open()?;
        let head = input.peek(16)?;
        let codec = codec::recognise(head);
        if codec.is_plain() {
            known(head, self.first())?;
        }
        // What is no image is for the reader to say.
        let image = match raw.is_none() && (codec.is_plain() || self.doubtful) {
            true => unpack::header(self.open()?).ok(),
            false => None,
        };
        if codec.is_plain() {
            let wants = raw.or_else(|| image.as_ref().map(|(header, map)| file_size(header, map.used())));
            return match wants.filter(|wants| *wants > self.size) {
                Some(wants) => Err(self.short(&format!("{} of {wants} bytes are there", self.size))),
                None => Ok(()),
            };
        }
        if self.doubtful {
            let last = self.files[self.files.len() - 1].display();
            say(&format!(
                "{last} is as long as a part that others follow: all are read once to see whether it is the last"
            ));
            let read = match image {
                None => codec::unpack(codec, &mut input, &Watch::idle(), &mut |_| Ok(())),
                Some(_) => unpack::read(input, true, &Watch::idle(), &mut |_, _| Ok(())).map(drop),
            };
            read.map_err(|error| self.short(&error.to_string()))?;
        }
        Ok(())
    }

    /// Returns the error of an image that ends too early.
    fn short(&self, why: &str) -> Error {
        match self.cut {
            true => lacks(&self.next(), why),
            false => Error::Refused(format!("{} is cut short ({why}): nothing was written", self.first().display())),
        }
    }

    /// Returns the name of the part that would follow the last one.
    fn next(&self) -> PathBuf {
        let name = self.first().file_name().and_then(|name| name.to_str()).and_then(ending);
        let next = name.map(|(base, end)| format!("{base}.{}", spelled(self.files.len() as u32, end)));
        next.map_or_else(|| self.first().to_owned(), |next| self.first().with_file_name(next))
    }
}

/// Returns the size of a whole image that is not compressed, by its header and the number of its used blocks; bytes.
fn file_size(header: &Header, used: u64) -> u64 {
    let sums = match header.blocks_per_checksum {
        0 => 0,
        blocks => used.div_ceil(u64::from(blocks)),
    };
    let blocks = used.saturating_mul(u64::from(header.block_size));
    blocks.saturating_add(header.front_size()).saturating_add(sums.saturating_mul(header.checksum.size() as u64))
}

/// Refuses the compressors that Clonezilla offers beside those of which there is a codec.
fn known(head: &[u8], file: &Path) -> Result<(), Error> {
    let others: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (b"LZIP", "lzip"), (b"LRZI", "lrzip")];
    let Some((_, program)) = others.iter().find(|(mark, _)| head.starts_with(mark)) else { return Ok(()) };
    Err(Error::Refused(format!(
        "{} is compressed by {program}, which is not supported: expand it by that program, or pipe its output in",
        file.display()
    )))
}

fn lacks(part: &Path, why: &str) -> Error {
    Error::Refused(format!(
        "{} is lacking ({why}): nothing was written; bring all parts of the image into one directory",
        part.display()
    ))
}

/// Files read one after the other.
struct Joined {
    file: File,
    rest: std::vec::IntoIter<PathBuf>,
}

impl Read for Joined {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.file.read(to)?;
            if got > 0 || to.is_empty() {
                return Ok(got);
            }
            let Some(next) = self.rest.next() else { return Ok(0) };
            self.file = File::open(&next)
                .map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", next.display())))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_of_parts_are_told_from_those_of_formats() {
        assert_eq!(ending("sda1.ext4-ptcl-img.zst.aa"), Some(("sda1.ext4-ptcl-img.zst", "aa")));
        assert_eq!(ending("d1p1.img.000"), Some(("d1p1.img", "000")));
        for other in ["X.img", "X.gz", "X.zst", ".aa", "X", "X.a", "X.a1", "X.AB", "X.abcde"] {
            assert_eq!(ending(other), None, "{other}");
        }
        assert_eq!((number("aa"), number("ba"), number("012")), ((0, 26), (26, 26), (12, 10)));
        for (part, name) in [(0, "aa"), (27, "bb"), (675, "zz")] {
            assert_eq!((spelled(part, "xx").as_str(), number(name).0), (name, part));
        }
    }

    #[test]
    fn parts_are_found_from_the_first_and_a_gap_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["X.aa", "X.ab", "X.ac", "X.gz", "Y.aa", "X.aaa"] {
            fs::write(at(name), "123").unwrap();
        }
        let found = |name: &str| Parts::find(&at(name)).map(|parts| (parts.count(), parts.size, parts.doubtful));
        assert_eq!(found("X.aa").unwrap(), (3, 9, true));
        assert_eq!(found("X").unwrap(), (3, 9, true));
        assert_eq!(found("X.gz").unwrap(), (1, 3, false));
        assert_eq!(found("Y.aa").unwrap(), (1, 3, false));
        let text = |name: &str| Parts::find(&at(name)).err().unwrap().to_string();
        assert!(text("X.ac").contains("name its first part"));
        fs::write(at("X.ab"), "12").unwrap();
        assert!(text("X.aa").contains("X.ab has 2 bytes"));
        fs::remove_file(at("X.ab")).unwrap();
        assert!(text("X.aa").contains("X.ab is lacking (later parts are there)"));
        let mut all = String::new();
        fs::write(at("X.ab"), "456").unwrap();
        let input = Parts::find(&at("X.aa")).unwrap().open();
        input.unwrap().take(&mut Vec::new(), 99).map(|got| all = got.to_string()).unwrap();
        assert_eq!(all, "9");
    }
}
