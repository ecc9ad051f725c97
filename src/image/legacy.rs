//! Images made by programs other than partclone: recognised by their first bytes, and handed to their program.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nanoserde::SerJson;

use super::codec::{self, Input};
use super::fields::Fields;
use super::format::untyped;
use super::target::check;
use super::{Error, Watch};
use crate::base::shell;

/// The program that made an image, and what the first bytes reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legacy {
    /// The program.
    pub program: &'static str,
    /// The file system; empty if unknown.
    pub fs: &'static str,
    /// Size that a target must have, bytes; 0 if unknown.
    pub size: u64,
}

impl Legacy {
    /// Returns one JSON object on a line; `compression` is the codec's name.
    pub fn json(&self, compression: &str) -> String {
        let Legacy { program, fs, size } = self;
        Report { program, compression, fs, device_size: *size }.serialize_json()
    }
}

impl fmt::Display for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image of:     {}", self.program)?;
        if !self.fs.is_empty() {
            write!(f, "\nFile system:  {}\nDevice size:  {} Byte", self.fs, self.size)?;
        }
        Ok(())
    }
}

/// The object that `--json` prints.
#[derive(SerJson)]
struct Report<'a> {
    program: &'a str,
    compression: &'a str,
    fs: &'a str,
    device_size: u64,
}

const NTFSCLONE: &str = "ntfsclone";
const PARTIMAGE: &str = "partimage";
/// The program of byte-by-byte copies of a device.
pub const DD: &str = "partclone.dd";

/// Identifies the program from an image's first decompressed bytes; `None` if unknown.
pub fn of(head: &[u8]) -> Option<Legacy> {
    match () {
        // ntfsclone's header: mark, version, cluster size, device size.
        () if head.starts_with(b"\0ntfsclone-image") => {
            Some(Legacy { program: NTFSCLONE, fs: "NTFS", size: Fields(head).u64(22) })
        }
        () if head.starts_with(b"PaRtImAgE-VoLuMe") => Some(Legacy { program: PARTIMAGE, fs: "", size: 0 }),
        // A device begins with a boot sector.
        () if Fields(head).u16(510) == 0xaa55 => Some(Legacy { program: DD, fs: "", size: 0 }),
        () => None,
    }
}

/// Identifies the program that made an image; `None` if it is partclone or unknown.
///
/// # Errors
/// The image cannot be read, or its first bytes cannot be decompressed.
pub fn recognise(mut input: Input) -> Result<Option<Legacy>, Error> {
    let codec = codec::recognise(input.peek(16)?);
    let mut head = Vec::new();
    codec::unpack_while(codec, &mut input, &mut |bytes| {
        head.extend_from_slice(&bytes[..bytes.len().min(512)]);
        Ok(head.len() < 512)
    })?;
    Ok(of(&head))
}

/// Decompresses an image into the program that made it, which restores it to `target`.
///
/// # Errors
/// The program is not installed or fails, the image's compression is damaged, or an end was asked for.
pub fn restore(legacy: &Legacy, mut input: Input, target: &Path, watch: &Watch) -> Result<(), Error> {
    let (name, program, to) = (input.name().to_owned(), legacy.program, target.display());
    check(target, input.places())?;
    let (mut command, operand) = (Command::new(program), shell::operand(target));
    match program {
        NTFSCLONE => command.args(["--restore-image", "--overwrite"]).arg(&*operand).arg("-"),
        PARTIMAGE => command.args(["-f3", "-B", "gui=no", "restore"]).arg(&*operand).arg("stdin"),
        _ => {
            return Err(Error::Refused(format!(
                "{name} is not an image but a byte-by-byte copy: nothing was written; make it one with `ogbox image \
                 convert --raw`"
            )));
        }
    };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Refused(format!(
                "{name} is an image of {program}, which is not installed: nothing was written to {to}"
            )),
            _ => Error::io(format!("run {program}"), error),
        })?;
    (watch.begin)(&untyped(0));
    let codec = codec::recognise(input.peek(16)?);
    let sent = match child.stdin.take() {
        Some(mut stdin) => codec::unpack(codec, &mut input, watch, &mut |bytes| {
            (watch.progress)(bytes.len() as u64);
            stdin.write_all(bytes).map_err(|error| Error::io(format!("write to {program}"), error))
        }),
        None => Ok(()),
    };
    if matches!(&sent, Err(error) if !matches!(error, Error::Io { .. })) {
        // The program would take the end of a damaged image for its proper end.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| Error::io(format!("wait for {program}"), error))?;
    match sent {
        // A broken pipe says less than the program's exit status.
        Ok(()) | Err(Error::Io { .. }) if !status.success() => {
            Err(Error::Refused(format!("{program} ended with {status}: {to} was not finished and is unusable")))
        }
        Err(error) => Err(Error::Refused(format!("{error}; {to} was not finished and is unusable"))),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_how_they_begin() {
        let mut ntfsclone = b"\0ntfsclone-image\x0a\0\0\x10\0\0".to_vec();
        ntfsclone.extend(10_000_000_u64.to_le_bytes());
        assert_eq!(of(&ntfsclone), Some(Legacy { program: "ntfsclone", fs: "NTFS", size: 10_000_000 }));
        assert_eq!(of(b"PaRtImAgE-VoLuMe\0").map(|legacy| legacy.program), Some("partimage"));
        let mut boot = [0; 512];
        assert_eq!(of(&boot), None);
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(of(&boot).map(|legacy| legacy.program), Some(DD));
        assert_eq!(of(b""), None);
    }
}
