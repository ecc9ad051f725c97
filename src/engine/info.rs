//! Describing an image as ogGetImageInfo does: `PARTCLONE:LZOP:NTFS:5642158`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{Code, Engine, Error};
use crate::base::shell::operand;
use crate::image::codec::{self, Input};
use crate::image::{legacy, place, unpack};

/// Compressed formats without a codec of our own: program and magic number. A format that has a codec is never looked
/// up here.
const PROGRAMS: &[(&str, &[u8])] = &[("bzip2", b"BZh")];

/// OpenGnsys' names of other imaging programs.
const PROGRAM_NAMES: &[&str] = &["NTFSCLONE", "PARTIMAGE"];

/// An image's origin, and the size of the partition it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// `PARTCLONE`, `NTFSCLONE`, `PARTIMAGE` or `partclone.dd`.
    pub program: &'static str,
    /// `LZOP`, `GZIP`, `NONE` …
    pub compressor: String,
    /// The file system, in partclone's words; empty if the format does not record it.
    pub fs: String,
    /// Least size of the target partition, bytes; 0 if the format does not record it.
    pub size: u64,
}

impl fmt::Display for ImageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:", self.program, self.compressor, self.fs)?;
        if self.size > 0 { write!(f, "{}", self.size >> 10) } else { Ok(()) }
    }
}

/// An image opened for reading, and the program that decompresses it, if any.
pub struct Opened {
    /// The image's bytes, in a format that a codec knows or not compressed at all.
    pub input: Input,
    /// The compressor's name.
    pub compressor: String,
    child: Option<Child>,
}

impl Opened {
    /// Whether the decompressing program, if any, succeeded. Waits for it, so call it after the last read.
    pub fn is_sound(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.wait().is_ok_and(|status| status.success()))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has ended, or blocks on a pipe without a reader.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Engine {
    /// Opens an image for reading, in any known compression.
    ///
    /// # Errors
    /// [`Code::NotFound`]: there is no such file. [`Code::Image`]: the program that decompresses it is not installed.
    pub fn open_image(&self, path: &Path) -> Result<Opened, Error> {
        let name = path.display().to_string();
        let missing = |error| Error::new(Code::NotFound, format!("open {name}: {error}"));
        let mut file = File::open(path).map_err(missing)?;
        if !file.metadata().map_err(missing)?.is_file() {
            return Err(Error::new(Code::NotFound, format!("{name} is not a regular file")));
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
            return Ok(Opened {
                input: Input::new(Box::new(file), &name).lying(place::of(path)),
                compressor: codec.to_owned(),
                child: None,
            });
        };
        let mut child = expander(program, path)
            .map_err(|error| Error::new(Code::Image, format!("{name}: run `{program} -dc`: {error}")))?;
        let output: Option<ChildStdout> = child.stdout.take();
        let read: Box<dyn Read + Send> = match output {
            Some(output) => Box::new(output),
            None => Box::new(std::io::empty()),
        };
        Ok(Opened {
            input: Input::new(read, &name).lying(place::of(path)),
            compressor: (*program).to_owned(),
            child: Some(child),
        })
    }

    /// Describes an image.
    ///
    /// # Errors
    /// [`Code::NotFound`]: there is no such file. [`Code::Image`]: it is not an image, or its header is damaged.
    pub fn image_info(&self, path: &Path) -> Result<ImageInfo, Error> {
        let mut opened = self.open_image(path)?;
        let compressor = opened.compressor.to_ascii_uppercase();
        // The input is dropped with the header; the program that feeds it, if any, with `opened`.
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
                // OpenGnsys writes all names in capitals except partclone.dd.
                let program = PROGRAM_NAMES.iter().find(|name| name.eq_ignore_ascii_case(other.program));
                let program = program.copied().unwrap_or(other.program);
                Ok(ImageInfo { program, compressor, fs: other.fs.to_owned(), size: other.size })
            }
        }
    }
}

fn expander(program: &str, path: &Path) -> std::io::Result<Child> {
    Command::new(program).arg("-dc").arg(&*operand(path)).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
}
