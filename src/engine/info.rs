//! What an image is, in the words of ogGetImageInfo: `PARTCLONE:LZOP:NTFS:5642158`.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{Code, Engine, Error};
use crate::image::codec::{self, Input};
use crate::image::{legacy, unpack};

/// Compressed formats that only other people's programs read, by how their files begin. One that gets a codec of its
/// own is never looked for here.
const PROGRAMS: &[(&str, &[u8])] = &[("bzip2", b"BZh"), ("xz", b"\xfd7zXZ\0")];

/// OpenGnsys' words for other programs.
const PROGRAM_NAMES: &[&str] = &["NTFSCLONE", "PARTIMAGE"];

/// An image's origin, and the size of the partition that it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// `PARTCLONE`, `NTFSCLONE`, `PARTIMAGE` or `partclone.dd`.
    pub program: &'static str,
    /// `LZOP`, `GZIP`, `NONE` …
    pub compressor: String,
    /// The file system, in partclone's words; empty when the format does not say.
    pub fs: String,
    /// Bytes that a partition must have for it; 0 when the format does not say.
    pub size: u64,
}

impl fmt::Display for ImageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:", self.program, self.compressor, self.fs)?;
        if self.size > 0 { write!(f, "{}", self.size >> 10) } else { Ok(()) }
    }
}

/// An image as it is read, and the program that expands it if it takes one.
pub struct Opened {
    /// Its bytes, compressed as a codec knows it or not at all.
    pub input: Input,
    /// What compressed it.
    pub compressor: String,
    child: Option<Child>,
}

impl Opened {
    /// Whether the program that expanded it, if any, found it sound; to be asked at its end.
    pub fn is_sound(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.wait().is_ok_and(|status| status.success()))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has ended, or waits to write what nobody reads any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Engine {
    /// Opens an image for reading, whatever compressed it.
    ///
    /// # Errors
    /// [`Code::NotFound`]: there is no such file. [`Code::Image`]: it takes a program that is not installed.
    pub fn open_image(&self, path: &Path) -> Result<Opened, Error> {
        let name = path.display().to_string();
        let missing = |error| Error::new(Code::NotFound, format!("open {name}: {error}"));
        let mut file = File::open(path).map_err(missing)?;
        if !file.metadata().map_err(missing)?.is_file() {
            return Err(Error::new(Code::NotFound, format!("{name} is no file")));
        }
        let mut head = [0; 16];
        let mut got = 0;
        while let Ok(count @ 1..) = file.read(&mut head[got..]) {
            got += count;
        }
        let codec = codec::recognise(&head[..got]).name;
        let program = PROGRAMS.iter().find(|(_, magic)| codec == "none" && head[..got].starts_with(magic));
        let Some((program, _)) = program else {
            let file = File::open(path).map_err(missing)?;
            return Ok(Opened { input: Input::new(Box::new(file), &name), compressor: codec.to_owned(), child: None });
        };
        let mut child = expander(program, path.as_os_str())
            .map_err(|error| Error::new(Code::Image, format!("{name}: run `{program} -dc`: {error}")))?;
        let output: Option<ChildStdout> = child.stdout.take();
        let read: Box<dyn Read + Send> = match output {
            Some(output) => Box::new(output),
            None => Box::new(std::io::empty()),
        };
        Ok(Opened { input: Input::new(read, &name), compressor: (*program).to_owned(), child: Some(child) })
    }

    /// What an image is.
    ///
    /// # Errors
    /// [`Code::NotFound`]: there is no such file. [`Code::Image`]: it is no image, or damaged where it begins.
    pub fn image_info(&self, path: &Path) -> Result<ImageInfo, Error> {
        let mut opened = self.open_image(path)?;
        let compressor = opened.compressor.to_ascii_uppercase();
        // The input goes with the header; the program behind it, if any, when `opened` does.
        let input = std::mem::replace(&mut opened.input, Input::new(Box::new(std::io::empty()), ""));
        match unpack::header(input) {
            Ok((header, _)) => {
                let size = header.target_size();
                Ok(ImageInfo { program: "PARTCLONE", compressor, fs: header.fs, size })
            }
            Err(error) => {
                let mut opened = self.open_image(path)?;
                let input = std::mem::replace(&mut opened.input, Input::new(Box::new(std::io::empty()), ""));
                let other = legacy::recognise(input).ok().flatten();
                let other = other.ok_or_else(|| Error::new(Code::Image, error.to_string()))?;
                // OpenGnsys has all names in capitals but the one of partclone.dd.
                let program = PROGRAM_NAMES.iter().find(|name| name.eq_ignore_ascii_case(other.program));
                let program = program.copied().unwrap_or(other.program);
                Ok(ImageInfo { program, compressor, fs: other.fs.to_owned(), size: other.size })
            }
        }
    }
}

fn expander(program: &str, path: &OsStr) -> std::io::Result<Child> {
    Command::new(program).arg("-dc").arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
}
