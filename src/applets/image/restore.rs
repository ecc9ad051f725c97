//! `ogbox image restore`: an image to a partition or file.

use std::path::Path;

use argh::FromArgs;

use super::job::{partition, through, watched};
use super::words::{GRAMMAR, input, say, style};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::base::leftover::{self, Remove};
use crate::image::format::Format;
use crate::image::restore::{Options, restore};
use crate::image::target::Unused;
use crate::image::{legacy, place, sets};

/// Restore an image, compressed or not, to an unmounted partition or to a file: a new one is made sparse, of the
/// file system's size. Checksums are verified. The image of a whole disk goes to a disk, partition table and all.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// restore an image even if its checksums are wrong
    #[argh(switch, short = 'I')]
    ignore_checksums: bool,

    /// discard unused blocks (trim)
    #[argh(switch)]
    discard: bool,

    /// zero unused blocks
    #[argh(switch)]
    zero: bool,

    /// read the target back, bypassing the cache, and compare
    #[argh(switch)]
    verify: bool,

    /// only this partition of a disk's image, to a partition
    #[argh(option)]
    partition: Option<usize>,

    /// let a file system overwrite a partition table
    #[argh(switch)]
    force: bool,

    /// auto, bar, plain, json or none
    #[argh(option)]
    progress: Option<String>,

    /// image; - is standard input
    #[argh(positional)]
    image: String,

    /// device or file
    #[argh(positional)]
    target: String,
}

/// Runs the subcommand.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image restore", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let style = style(args.progress.as_deref())?;
    if args.ignore_checksums {
        writeln!(io.err, "ogbox image restore: checksums are not verified (-I)")?;
    }
    for left in leftover::of(Path::new(&args.target), Remove::Certain) {
        writeln!(io.err, "ogbox image restore: {left}")?;
    }
    let unused = match (args.discard, args.zero) {
        (_, true) => Unused::Zero,
        (true, _) => Unused::Discard,
        _ => Unused::Keep,
    };
    let (ignore_checksums, verify, force) = (args.ignore_checksums, args.verify, args.force);
    let options = Options { ignore_checksums, unused, verify, force, fit_boot: true, ..Options::default() };
    let put = |input| -> Result<(), Failure> {
        let (passes, target) = (1 + u64::from(verify), Path::new(&args.target));
        watched("restore", passes, style, |watch| restore(input, target, &options, watch)).map(drop)
    };
    if let Some(input) = sets::partition(Path::new(&args.image), args.partition, say)? {
        put(input)?;
        return Ok(Exit::OK);
    }
    if let Some(number) = args.partition {
        through(partition(io, &args.image, number, ignore_checksums, Format::default(), style)?, |input| {
            put(input.lying(place::of(Path::new(&args.image))))
        })?;
        return Ok(Exit::OK);
    }
    let legacy = sets::legacy(Path::new(&args.image))?;
    let input = input(&args.image)?;
    if let Some(legacy) = legacy {
        writeln!(io.err, "ogbox image restore: {} is an image of {}", args.image, legacy.program)?;
        watched("restore", 1, style, |watch| legacy::restore(&legacy, input, Path::new(&args.target), watch))?;
        return Ok(Exit::OK);
    }
    put(input)?;
    Ok(Exit::OK)
}
