//! OpenGnsys' imaging command lines (ogCreateImageSyntax, ogRestoreImageSyntax), for scripts that run them themselves
//! and for imaging tools that are not built in. Where partclone is not installed, they call ogbox.

use std::path::Path;

use super::{Code, Engine, Error, fs};
use crate::base::shell;

/// Returns the compressor that `word` of ogCreateImage means, a name or OpenGnsys' old number for it, and the level behind
/// it (`zstd:9`), which only ogbox knows.
pub fn compressor(word: &str) -> Option<(&'static str, Option<&str>)> {
    let (name, level) = word.split_once(':').map_or((word, None), |(name, level)| (name, Some(level)));
    let name = match name.to_ascii_lowercase().as_str() {
        "0" | "none" => "none",
        "1" | "lzop" => "lzop",
        "2" | "gzip" => "gzip",
        "3" | "bzip" | "bzip2" => "bzip2",
        "zstd" => "zstd",
        "lz4" => "lz4",
        _ => return None,
    };
    let sound = |level: &str| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit());
    level.is_none_or(sound).then_some((name, level))
}

/// partclone's program for a file system, which is named as ogGetFsType does.
fn partclone(kind: &str) -> &'static str {
    match kind {
        "EXT2" | "EXT3" | "EXT4" | "CACHE" => "partclone.extfs",
        "BTRFS" => "partclone.btrfs",
        "REISERFS" => "partclone.reiserfs",
        "REISER4" => "partclone.reiser4",
        "JFS" => "partclone.jfs",
        "XFS" => "partclone.xfs",
        "F2FS" => "partclone.f2fs",
        "NILFS2" => "partclone.nilfs2",
        "NTFS" => "partclone.ntfs",
        "EXFAT" => "partclone.exfat",
        "FAT12" | "FAT16" | "FAT32" => "partclone.fat",
        "HFS" | "HFSPLUS" => "partclone.hfsp",
        "UFS" => "partclone.ufs",
        "VMFS" => "partclone.vmfs",
        _ => "partclone.imager",
    }
}

impl Engine {
    /// Whether a program of this name is in PATH.
    pub fn has_program(&self, name: &str) -> bool {
        self.env.get("PATH").split(':').any(|dir| Path::new(dir).join(name).is_file())
    }

    fn buffer(&self) -> &'static str {
        if self.has_program("mbuffer") { " | mbuffer -q -m 40M " } else { "" }
    }
}

/// The command line that saves `device` to `image`.
///
/// # Errors
/// [`Code::Format`]: unknown tool or compressor.
pub fn create(engine: &Engine, device: &str, image: &str, tool: &str, compressor: &str) -> Result<String, Error> {
    Ok(format!("{}> {}", save(engine, device, tool, compressor)?, shell::word(image)))
}

/// The command line that saves `device` to standard output, to be continued by a pipe.
///
/// # Errors
/// [`Code::Format`]: unknown tool or compressor.
pub fn save(engine: &Engine, device: &str, tool: &str, compressor: &str) -> Result<String, Error> {
    let packer = match self::compressor(compressor) {
        Some(("none", None)) => String::new(),
        Some(("bzip2", None)) => "| bzip2 -c ".to_owned(),
        Some(("lzop", None)) => "| lzop ".to_owned(),
        Some((name, None)) => format!("| {name} -c "),
        Some((name @ ("zstd" | "gzip"), Some(level))) => format!("| {name} -{level} -c "),
        _ => return Err(Error::new(Code::Format, format!("compressor {compressor}"))),
    };
    Ok(format!("{}{} {packer}", clone(engine, device, tool)?, engine.buffer()))
}

/// The command that writes an image of `device` to standard output.
fn clone(engine: &Engine, device: &str, tool: &str) -> Result<String, Error> {
    let (path, device) = (engine.env().rooted(device), shell::word(device));
    Ok(match tool.to_ascii_lowercase().as_str() {
        "ntfsclone" => format!("ntfsclone --force --save-image -O - {device}"),
        "partimage" | "default" => {
            format!("partimage -M -f3 -o -d -B gui=no -c -z0 --volume=0 save {device} stdout")
        }
        "partclone" => {
            let kind = fs::recognise(&path).map_or(String::new(), |found| found.kind);
            match partclone(&kind) {
                program if !engine.has_program(program) && !engine.has_program("partclone.dd") => {
                    format!("ogbox image save --force -c none {device}")
                }
                program if !engine.has_program(program) => format!("partclone.dd -d0 -F -s {device}"),
                program @ "partclone.imager" => format!("{program} -d0 -F -c -s {device}"),
                program => format!("{program} -d0 -F -c -s {device}"),
            }
        }
        _ => return Err(Error::new(Code::Format, format!("tool {tool}"))),
    })
}

/// The command line that restores `image` to `device`.
///
/// # Errors
/// [`Code::NotFound`]: unknown tool or compressor.
pub fn restore(engine: &Engine, image: &str, device: &str, tool: &str, compressor: &str) -> Result<String, Error> {
    let (unpacker, tool) = expand(engine, device, tool, compressor)?;
    Ok(format!("{unpacker} {}{} | {tool}", shell::word(image), engine.buffer()))
}

/// The commands that decompress an image and write it to `device`; partclone's program only if it is installed.
///
/// # Errors
/// [`Code::NotFound`]: unknown tool or compressor.
pub fn expand(engine: &Engine, device: &str, tool: &str, compressor: &str) -> Result<(String, String), Error> {
    let unpacker = match self::compressor(compressor) {
        Some(("none", _)) => "cat".to_owned(),
        Some((name, _)) => format!("{name} -dc"),
        None => return Err(Error::new(Code::NotFound, format!("Compressor no valid {compressor}"))),
    };
    let device = shell::word(device);
    let tool = match tool.to_ascii_lowercase().as_str() {
        "ntfsclone" => format!("ntfsclone --restore-image --overwrite {device} -"),
        "partimage" => format!("partimage -f3 -B gui=no restore {device} stdin"),
        "dd" | "partclone.dd" => format!("dd conv=sync,noerror bs=1M of={device}"),
        tool if tool.starts_with("partclone") && engine.has_program("partclone.restore") => {
            format!("partclone.restore -d0 -C -I -o {device}")
        }
        tool if tool.starts_with("partclone") => format!("ogbox image restore - {device}"),
        tool => return Err(Error::new(Code::NotFound, format!("Tools imaging no valid {tool}"))),
    };
    Ok((unpacker, tool))
}
