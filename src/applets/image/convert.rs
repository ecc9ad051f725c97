//! `ogbox image convert`: an image, or a copy of a device byte by byte, into another compression or format.

use argh::FromArgs;

use super::{FAILED, GRAMMAR, codec, format, input, output, style, watched, write_image};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::image::convert::{convert, convert_raw, scan_raw};

/// Convert an image into another compression or format; all its checksums are verified meanwhile.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// image file, replaced once it is complete; - or nothing: standard output
    #[argh(option, short = 'o')]
    output: Option<String>,

    /// compression: lzop (default), gzip, zstd, lz4, none
    #[argh(option, short = 'c')]
    compress: Option<String>,

    /// the file is no image but a copy byte by byte (dd, partclone.dd), compressed or not
    #[argh(switch)]
    raw: bool,

    /// version of partclone's container: 2 (default) or 1
    #[argh(option)]
    format: Option<String>,

    /// crc32 (default) or none
    #[argh(option)]
    checksum: Option<String>,

    /// blocks that one checksum covers (as many as make 1 MiB)
    #[argh(option)]
    blocks_per_checksum: Option<u32>,

    /// auto, bar, plain, json or none
    #[argh(option)]
    progress: Option<String>,

    /// image; - is standard input
    #[argh(positional)]
    image: String,
}

/// Converts.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image convert", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let style = style(args.progress.as_deref())?;
    let codec = codec(args.compress.as_deref())?;
    let format = format(args.format.as_deref(), args.checksum.as_deref(), args.blocks_per_checksum)?;
    let output = output(args.output.as_deref())?;
    if !args.raw {
        let from = input(&args.image)?;
        watched("convert", 1, style, |watch| {
            write_image(io, output, |out, name| convert(from, &format, out, name, codec, watch))
        })?;
        return Ok(Exit::OK);
    }
    if args.image == "-" {
        return Err(Failure::new(FAILED, "a copy byte by byte is read twice: name its file"));
    }
    let (first, second) = (input(&args.image)?, input(&args.image)?);
    let used = watched("scan", 1, style, |watch| scan_raw(first, watch))?;
    watched("convert", 1, style, |watch| {
        write_image(io, output, |out, name| convert_raw(second, &used, &format, out, name, codec, watch))
    })?;
    Ok(Exit::OK)
}
