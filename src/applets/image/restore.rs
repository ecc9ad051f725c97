//! `ogbox image restore`: an image back onto a partition or into a file.

use std::path::Path;

use argh::FromArgs;

use super::{GRAMMAR, input, style, watched};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Io, Outcome};
use crate::image::restore::{Options, restore};
use crate::image::target::Unused;

/// Restore an image, compressed or not, to an unmounted partition or to a file: a new one is made sparse, of the
/// file system's size. Checksums are verified.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// restore even what its checksums say is damaged
    #[argh(switch, short = 'I')]
    ignore_checksums: bool,

    /// tell the device that unused blocks are not needed (trim)
    #[argh(switch)]
    discard: bool,

    /// zero unused blocks
    #[argh(switch)]
    zero: bool,

    /// read the target back past the cache and compare
    #[argh(switch)]
    verify: bool,

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

/// Restores.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image restore", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let style = style(args.progress.as_deref())?;
    if args.ignore_checksums {
        writeln!(io.err, "ogbox image restore: checksums are not verified (-I)")?;
    }
    let input = input(&args.image)?;
    let unused = match (args.discard, args.zero) {
        (_, true) => Unused::Zero,
        (true, _) => Unused::Discard,
        _ => Unused::Keep,
    };
    let (ignore_checksums, verify) = (args.ignore_checksums, args.verify);
    let options = Options { ignore_checksums, unused, verify, ..Options::default() };
    let passes = 1 + u64::from(verify);
    watched("restore", passes, style, |watch| restore(input, Path::new(&args.target), &options, watch))?;
    Ok(Exit::OK)
}
