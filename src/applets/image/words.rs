//! The options that subcommands share, and opening images by name.

use std::io::{IsTerminal, stdout};
use std::path::Path;

use crate::applets::Failure;
use crate::applets::options::Grammar;
use crate::base::progress::Style;
use crate::image::checksum::Mode;
use crate::image::codec::{CODECS, Codec, Input, asked};
use crate::image::container::Version;
use crate::image::format::Format;
use crate::image::{Error, sets};

/// The grammar of the subcommands' options.
pub const GRAMMAR: Grammar = Grammar {
    valued: "oc",
    valued_long: &[
        "output",
        "compress",
        "progress",
        "format",
        "checksum",
        "blocks-per-checksum",
        "partition",
        "socket",
        "port",
        "against",
    ],
    repeated: &[],
    usage_code: 1,
};

/// Exit code of every failure, as partclone's.
pub const FAILED: u8 = 1;

/// Opens an image or a set of images; `-` is standard input.
pub fn input(name: &str) -> Result<Input, Error> {
    sets::input(Path::new(name), say)
}

/// Says a remark on an image.
pub fn say(text: &str) {
    eprintln!("ogbox image: {text}");
}

/// Parses `--progress`.
pub fn style(word: Option<&str>) -> Result<Style, Failure> {
    word.map_or(Ok(Style::Auto), str::parse).map_err(|why| Failure::new(FAILED, why))
}

/// Parses `-c`: the codec of that name, at its level if one is given; lzop by default.
pub fn codec(word: Option<&str>) -> Result<Codec, Failure> {
    asked(word.unwrap_or(CODECS[0].name)).map_err(|why| Failure::new(FAILED, why))
}

/// Parses `--format`, `--checksum` and `--blocks-per-checksum`.
pub fn format(version: Option<&str>, checksum: Option<&str>, blocks: Option<u32>) -> Result<Format, Failure> {
    let version = match version {
        None | Some("2") => Version::Two,
        Some("1") if checksum.is_none() && blocks.is_none() => Version::One,
        Some("1") => return Err(Failure::new(FAILED, "version 1 has checksums of its own, one a block")),
        Some(other) => return Err(Failure::new(FAILED, format!("format {other} is neither 1 nor 2"))),
    };
    let checksum = checksum.unwrap_or("crc32");
    let mode = Mode::named(checksum)
        .ok_or_else(|| Failure::new(FAILED, format!("checksum {checksum} is none of none, crc32, xxh64 and xxh128")))?;
    Ok(Format { version, checksum: mode, blocks_per_checksum: blocks, ..Format::default() })
}

/// Parses `-o`: the name of a file, or `None` for standard output.
pub fn output(name: Option<&str>) -> Result<Option<&str>, Failure> {
    let name = name.filter(|name| *name != "-");
    if name.is_none() && stdout().is_terminal() {
        return Err(Failure::new(FAILED, "an image does not go to a terminal: name a file with -o"));
    }
    Ok(name)
}
