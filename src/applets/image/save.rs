//! `ogbox image save`: the used blocks of a partition into an image.

use std::path::Path;

use argh::FromArgs;

use super::job::{scanned, watched, write_image};
use super::words::{GRAMMAR, codec, format, output, style};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Io, Outcome};
use crate::image::save::{Options, Save};

/// Save the used blocks of an unmounted partition or disk, or of a file that stands for one, as the image that
/// `partclone.FS -c -s SOURCE | lzop` would make. On a disk, those of all partitions are saved; of unknown content
/// (LVM, LUKS), each block that is not zero. The source is opened read-only.
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

    /// save a source as it is, even mounted, not clean or damaged
    #[argh(switch)]
    force: bool,

    /// save each block that is not zero, whatever the source holds
    #[argh(switch)]
    raw: bool,

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

    /// device or file
    #[argh(positional)]
    source: String,
}

/// Runs the subcommand.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image save", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let style = style(args.progress.as_deref())?;
    let codec = &codec(args.compress.as_deref())?;
    let output = output(args.output.as_deref())?;
    let format = format(args.format.as_deref(), args.checksum.as_deref(), args.blocks_per_checksum)?;
    let options = Options { force: args.force, raw: args.raw, format, ..Options::default() };
    let mut save = Save::open(Path::new(&args.source), &options)?;
    save.look_behind()?;
    for note in save.notes() {
        writeln!(io.err, "ogbox image save: {note}")?;
    }
    scanned(&mut save, style)?;
    watched("save", 1, style, |watch| {
        write_image(io, &args.source, output, codec, Box::new(|out, name| save.write(out, name, codec, watch)))
    })?;
    Ok(Exit::OK)
}
