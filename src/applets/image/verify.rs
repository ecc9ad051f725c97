//! `ogbox image verify`: reads a whole image and compares all its checksums.

use argh::FromArgs;

use super::job::watched;
use super::words::{GRAMMAR, input, style};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Io, Outcome};
use crate::image::unpack;

/// Read a whole image and compare all checksums, including those of the compression. Nothing is written.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// auto, bar, plain, json or none
    #[argh(option)]
    progress: Option<String>,

    /// image; - is standard input
    #[argh(positional)]
    image: String,
}

/// Runs the subcommand.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image verify", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let style = style(args.progress.as_deref())?;
    let input = input(&args.image)?;
    let header = watched("verify", 1, style, |watch| unpack::read(input, false, watch, &mut |_, _| Ok(())))?;
    writeln!(
        io.out,
        "{}: {} used blocks of {} bytes are as they were saved",
        args.image, header.used_by_map, header.block_size
    )?;
    Ok(Exit::OK)
}
