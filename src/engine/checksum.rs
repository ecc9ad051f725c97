//! Checksums of images: `X.img.sum` is the MD5 of the last MiB, `X.img.full.sum` that of the whole file, each as 32
//! hexadecimal digits and a newline (ogCalculateChecksum, ogCalculateFullChecksum).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use md5::{Digest, Md5};

use super::beside;
use crate::base::whole;

/// Bytes at the end of an image that its short checksum covers.
const TAIL: u64 = 1 << 20;

/// One of the two checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Of the last MiB.
    Tail,
    /// Of the whole file.
    Full,
}

impl Sum {
    /// The extension of the checksum's file, appended to the image's name.
    pub fn extension(self) -> &'static str {
        match self {
            Sum::Tail => ".sum",
            Sum::Full => ".full.sum",
        }
    }

    /// Computes the checksum of `path`; `stop` is polled several times a second.
    ///
    /// # Errors
    /// The file cannot be read; `Interrupted` if `stop` returned true.
    pub fn of(self, path: &Path, stop: &dyn Fn() -> bool) -> io::Result<String> {
        let mut file = File::open(path)?;
        if self == Sum::Tail {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        }
        drain(&mut file, &mut |_| Ok(()), stop)
    }

    /// The checksum stored beside `path`, in lower case; `None` if there is none.
    pub fn stored(self, path: &Path) -> Option<String> {
        let text = std::fs::read_to_string(beside::with(path, self.extension())).ok()?;
        let sum = text.split_whitespace().next()?;
        Some(sum.to_ascii_lowercase())
    }

    /// The checksum stored beside `path`; `None` if there is none, or if it is older than `path`.
    pub fn current(self, path: &Path) -> Option<String> {
        let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
        let summed = changed(&beside::with(path, self.extension())).ok()?;
        (summed >= changed(path).ok()?).then(|| self.stored(path)).flatten()
    }

    /// Writes the checksum `sum` beside `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(self, path: &Path, sum: &str) -> io::Result<()> {
        whole::write(&beside::with(path, self.extension()), format!("{sum}\n"))
    }
}

/// Stores those checksums beside `path` that it lacks, or that are older than it; `full` is the MD5 of the whole if that
/// is known.
///
/// # Errors
/// It cannot be read, or a file not be written; `Interrupted` if `stop` returned true.
pub fn store_lacking(path: &Path, full: Option<&str>, stop: &dyn Fn() -> bool) -> io::Result<()> {
    for sum in [Sum::Tail, Sum::Full] {
        if sum.current(path).is_none() {
            let known = full.filter(|_| sum == Sum::Full).map(str::to_owned);
            sum.store(path, &known.map_or_else(|| sum.of(path, stop), Ok)?)?;
        }
    }
    Ok(())
}

/// Reads `file` to its end, passes each chunk to `take` and returns the MD5 of all, in hexadecimal; `stop` is polled
/// before each chunk.
///
/// # Errors
/// Reading or `take` failed; `Interrupted` if `stop` returned true.
pub fn drain(
    file: &mut File,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    stop: &dyn Fn() -> bool,
) -> io::Result<String> {
    let mut md5 = Md5::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        if stop() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(got) => {
                md5.update(&chunk[..got]);
                take(&chunk[..got])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_sum_is_of_the_last_mebibyte_and_the_full_one_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.img");
        let data: Vec<u8> = (0..(TAIL as usize * 2 + 77)).map(|at| (at * 31 % 251) as u8).collect();
        std::fs::write(&file, &data).unwrap();
        let md5sum = |filter: &str| {
            let script = format!("{filter} {} | md5sum", file.display());
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()[..32].to_owned()
        };
        assert_eq!(Sum::Tail.of(&file, &|| false).unwrap(), md5sum("tail -c 1M"));
        assert_eq!(Sum::Full.of(&file, &|| false).unwrap(), md5sum("cat"));
        assert_eq!(Sum::Full.of(&file, &|| true).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn lacking_sums_are_stored_and_others_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.img");
        std::fs::write(&file, "image").unwrap();
        Sum::Tail.store(&file, "kept").unwrap();
        store_lacking(&file, None, &|| false).unwrap();
        let stored = [Sum::Tail, Sum::Full].map(|sum| sum.stored(&file).unwrap());
        assert_eq!(stored, ["kept".to_owned(), Sum::Full.of(&file, &|| false).unwrap()]);
        beside::remove(&beside::with(&file, ".full.sum")).unwrap();
        store_lacking(&file, Some("known"), &|| false).unwrap();
        assert_eq!(Sum::Full.stored(&file).as_deref(), Some("known"));
    }

    #[test]
    fn a_sum_that_is_older_than_its_image_is_not_current() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.img");
        std::fs::write(&file, "old").unwrap();
        Sum::Full.store(&file, "00ff").unwrap();
        assert_eq!(Sum::Full.current(&file).as_deref(), Some("00ff"));
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        assert_eq!(Sum::Full.current(&file), None);
        assert_eq!(Sum::Full.stored(&file).as_deref(), Some("00ff"));
        assert_eq!(Sum::Tail.stored(&file), None);
    }
}
