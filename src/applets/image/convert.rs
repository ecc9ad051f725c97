//! `ogbox image convert`: an image, or a byte-by-byte copy of a device, into another compression or format.

use std::io;
use std::path::Path;

use argh::FromArgs;

use super::job::{partition, watched, write_image};
use super::words::{FAILED, GRAMMAR, codec, format, input, output, say, style};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::image::codec::Piece;
use crate::image::convert::{convert, convert_raw, scan_raw};
use crate::image::{Error, Watch, sets};

/// Convert an image into another compression or format, verifying all its checksums.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// image file, replaced once it is complete (default or -: standard output)
    #[argh(option, short = 'o')]
    output: Option<String>,

    /// compression: lzop (default), gzip, zstd, lz4, none; also zstd:1 to zstd:19, gzip:1 to gzip:9. Of an installed system
    /// zstd makes 28 % less than lzop; zstd:3 32 % in 1.4 times zstd's time, zstd:9 36 % in 5 times, zstd:19 40 % in 100
    /// times, and with 20 MiB of memory for each of two pieces a core and one more
    #[argh(option, short = 'c')]
    compress: Option<String>,

    /// the file is not an image but a byte-by-byte copy (dd, partclone.dd), compressed or not
    #[argh(switch)]
    raw: bool,

    /// only this partition of a disk's image, as an image of its own
    #[argh(option)]
    partition: Option<usize>,

    /// version of partclone's container: 2 (default) or 1
    #[argh(option)]
    format: Option<String>,

    /// crc32 (default), xxh64, xxh128 or none
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

/// Runs the subcommand.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image convert", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let style = style(args.progress.as_deref())?;
    let codec = &codec(args.compress.as_deref())?;
    let format = format(args.format.as_deref(), args.checksum.as_deref(), args.blocks_per_checksum)?;
    let output = output(args.output.as_deref())?;
    type Write<'a> = Box<dyn FnOnce(&mut (dyn io::Write + Send), &str, &Watch) -> Result<Vec<Piece>, Error> + 'a>;
    let write: Write = if let Some(from) = sets::partition(Path::new(&args.image), args.partition, say)? {
        Box::new(move |out, name, watch| convert(from, &format, out, name, codec, watch))
    } else if let Some(number) = args.partition {
        let save = partition(io, &args.image, number, false, format, style)?;
        Box::new(move |out, name, watch| save.write(out, name, codec, watch))
    } else if args.raw {
        if args.image == "-" {
            return Err(Failure::new(FAILED, "a byte-by-byte copy is read twice: name its file"));
        }
        let (first, second) = (input(&args.image)?, input(&args.image)?);
        let used = watched("scan", 1, style, |watch| scan_raw(first, watch))?;
        Box::new(move |out, name, watch| convert_raw(second, &used, &format, out, name, codec, watch))
    } else {
        let from = input(&args.image)?;
        Box::new(move |out, name, watch| convert(from, &format, out, name, codec, watch))
    };
    watched("convert", 1, style, |watch| {
        write_image(io, &args.image, output, codec, Box::new(|out, name| write(out, name, watch)))
    })?;
    Ok(Exit::OK)
}
