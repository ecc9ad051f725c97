//! `ogbox image`: partitions to images and back.
//!
//! One file for each subcommand: its options, then `run`, then its own helpers.

use super::{Exit, Failure, Io, Outcome};

mod convert;
mod info;
mod job;
mod ls;
mod restore;
mod save;
mod serve;
mod verify;
mod words;

pub use job::{through, watch_over, watched};
pub use words::input;

/// A subcommand: name, summary, and function.
type Subcommand = (&'static str, &'static str, fn(&[String], &mut Io) -> Outcome);

const SUBCOMMANDS: &[Subcommand] = &[
    ("convert", "an image, or a byte-by-byte copy, into another compression or format", convert::run),
    ("info", "what an image holds", info::run),
    ("ls", "the images of a directory", ls::run),
    ("restore", "an image back onto a partition or into a file", restore::run),
    ("save", "the used blocks of a partition into an image", save::run),
    ("serve", "an image as a read-only device, by the NBD protocol", serve::run),
    ("verify", "whether an image is sound", verify::run),
];

/// Runs the subcommand named by the first word.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let (word, rest) = args.split_first().map_or(("", args), |(word, rest)| (word.as_str(), rest));
    if let Some((_, _, run)) = SUBCOMMANDS.iter().find(|(name, _, _)| *name == word) {
        return run(rest, io);
    }
    if !["--help", "-h", "help"].contains(&word) {
        let names: Vec<&str> = SUBCOMMANDS.iter().map(|(name, _, _)| *name).collect();
        return Err(Failure::new(1, format!("usage: ogbox image {} …, not {word:?}", names.join("|"))));
    }
    writeln!(io.out, "usage: ogbox image SUBCOMMAND [ARGUMENT...]   (--help after a subcommand: its options)\n")?;
    for (name, summary, _) in SUBCOMMANDS {
        writeln!(io.out, "  {name:<10} {summary}")?;
    }
    Ok(Exit::OK)
}
