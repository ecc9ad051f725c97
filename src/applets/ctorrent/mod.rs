//! `ctorrent`: Enhanced CTorrent dnh3.3.2 by its names, options, texts and exit codes, which OpenGnsys'
//! scripts read.
//!
//! Like its namesake it is two programs: one makes a metainfo file when the first argument begins with
//! `-t`, the other reads one; `-c` and `-p` mean something else in each. New powers are long options.

use argh::FromArgs;

use super::options::{self, Grammar, Parsed};
use super::progress::Style;
use super::{Exit, Io, Outcome};

mod create;
mod info;

/// Make a metainfo (torrent) file.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
struct Create {
    /// make a metainfo file; always the first argument
    #[argh(switch, short = 't')]
    #[expect(dead_code)] // it has done its work by being the first
    create: bool,
    /// tracker's URL; required
    #[argh(option, short = 'u', arg_name = "url")]
    announce: Option<String>,
    /// metainfo file to make; required
    #[argh(option, short = 's', arg_name = "file")]
    save_as: Option<String>,
    /// piece length in bytes, 65536 to 4194304, rounded down to a multiple of 65536 (262144)
    #[argh(option, short = 'l', arg_name = "bytes")]
    piece_length: Option<String>,
    /// private: peers come from the tracker only
    #[argh(switch, short = 'p')]
    private: bool,
    /// comment, free text
    #[argh(option, short = 'c', arg_name = "text")]
    comment: Option<String>,
    /// further tracker, asked when those before are gone; may be given several times
    #[argh(option, arg_name = "url")]
    next_tracker: Vec<String>,
    /// URL where the data can be had by HTTP; may be given several times
    #[argh(option, arg_name = "url")]
    web_seed: Vec<String>,
    /// name inside the torrent (the base name of what is described)
    #[argh(option, arg_name = "name")]
    name: Option<String>,
    /// replace a metainfo file that is there already
    #[argh(switch)]
    force: bool,
    /// threads that hash (as many as there are processors)
    #[argh(option, arg_name = "n")]
    threads: Option<usize>,
    /// tell progress on standard error instead: auto, bar, plain, json or none
    #[argh(option, arg_name = "style")]
    progress: Option<Style>,
    /// what to describe: one file, directory or block device
    #[argh(positional)]
    content: Vec<String>,
}

const CREATE: Grammar = Grammar {
    valued: "clsu",
    valued_long: &[
        "announce",
        "save-as",
        "piece-length",
        "comment",
        "next-tracker",
        "web-seed",
        "name",
        "threads",
        "progress",
    ],
    repeated: &["next-tracker", "web-seed"],
    usage_code: 1,
};

/// Show what a torrent says.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
struct Run {
    /// show the metainfo file and leave
    #[argh(switch, short = 'x')]
    examine: bool,
    /// show odd names as printable text
    #[argh(switch, short = 'T')]
    printable: bool,
    /// metainfo file
    #[argh(positional)]
    torrent: Vec<String>,
}

const RUN: Grammar = Grammar { valued: "", valued_long: &[], repeated: &[], usage_code: 1 };

/// Makes or shows a metainfo file.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    match args.first().map(String::as_str) {
        None | Some("-h" | "-H") => usage(io),
        Some(first) if first.starts_with("-t") => match options::parse(NAME, &CREATE, args, io)? {
            Parsed::Run(options) => create::run(&options, io),
            Parsed::Done(exit) => Ok(exit),
        },
        Some(_) => match options::parse::<Run>(NAME, &RUN, args, io)? {
            Parsed::Run(options) if options.examine => info::run(&options, io),
            Parsed::Run(_) => give_up(io, "only -t (make a metainfo file) and -x (show one) are here"),
            Parsed::Done(exit) => Ok(exit),
        },
    }
}

const NAME: &str = "ctorrent";

/// Gives up with exactly the line that the namesake gives up with.
fn give_up(io: &mut Io, line: &str) -> Outcome {
    writeln!(io.err, "{line}")?;
    Ok(Exit(1))
}

/// The help of both programs, on standard error as the namesake prints it.
fn usage(io: &mut Io) -> Outcome {
    let help = |early: Option<argh::EarlyExit>| early.map(|early| early.output).unwrap_or_default();
    let run = help(Run::from_args(&[NAME], &["--help"]).err());
    let create = help(Create::from_args(&[NAME, "-t"], &["--help"]).err());
    writeln!(io.err, "{}\n\n{}", run.trim_end(), create.trim_end())?;
    Ok(Exit(1))
}
