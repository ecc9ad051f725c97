//! `ogbox image verify`: reads a whole image and compares all its checksums, or its blocks with a device.

use std::path::Path;

use argh::FromArgs;

use super::job::watched;
use super::words::{FAILED, GRAMMAR, input, style};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::image::against::against;
use crate::image::unpack;

/// Read a whole image and compare all checksums, including those of the compression. Nothing is written.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// compare each block with this device or file as well, and name what differs and what the device has beyond the
    /// image; exit code 1 if anything does
    #[argh(option)]
    against: Option<String>,

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
    if let Some(device) = &args.against {
        let report = watched("verify", 1, style, |watch| against(input, Path::new(device), watch))?;
        report.lines().try_for_each(|line| writeln!(io.out, "{line}"))?;
        let (image, used) = (&args.image, report.compared());
        if !report.is_same() {
            return Err(Failure::new(FAILED, format!("{device} does not hold what {image} does")));
        }
        writeln!(io.out, "{device}: all {used} used bytes are those of {image}, and nothing else is in use")?;
        return Ok(Exit::OK);
    }
    let header = watched("verify", 1, style, |watch| unpack::read(input, false, watch, &mut |_, _| Ok(())))?;
    writeln!(
        io.out,
        "{}: {} used blocks of {} bytes are as they were saved",
        args.image, header.used_by_map, header.block_size
    )?;
    Ok(Exit::OK)
}
