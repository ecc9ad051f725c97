//! `ctorrent`: Enhanced CTorrent dnh3.3.2 by its names, options, texts and exit codes, which OpenGnsys'
//! scripts read.
//!
//! Like its namesake it is two programs: one makes a metainfo file when the first argument begins with
//! `-t`, the other reads one; `-c` and `-p` mean something else in each. New powers are long options.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use argh::FromArgs;

use super::options::{self, Grammar, Parsed};
use super::progress::Style;
use super::{Exit, Io, Outcome};

mod create;
mod info;
mod run;

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

/// Download a torrent, then seed it; seed at once what is whole.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
struct Run {
    /// show the metainfo file and leave
    #[argh(switch, short = 'x')]
    examine: bool,
    /// show odd names as printable text
    #[argh(switch, short = 'T')]
    printable: bool,
    /// check only, then quit; with -f: check everything first, then go on
    #[argh(switch, short = 'c')]
    check: bool,
    /// trust the saved bitfield; if there is none, take the data for whole
    #[argh(switch, short = 'f')]
    force: bool,
    /// hours to seed once everything is here
    #[argh(option, short = 'e', default = "72.0")]
    hours: f64,
    /// quit at this ratio of bytes sent to the torrent's size
    #[argh(option, short = 'E', default = "0.0")]
    ratio: f64,
    /// local address to listen on and to connect from
    #[argh(option, short = 'i', default = "IpAddr::V4(Ipv4Addr::UNSPECIFIED)")]
    listen: IpAddr,
    /// port to listen on; if it is taken, 2706 and those below are tried
    #[argh(option, short = 'p')]
    port: Option<u16>,
    /// address to announce instead of the one that the tracker sees
    #[argh(option, short = 'I')]
    ip: Option<String>,
    /// another announce URL, or the number of one of the torrent's alternates
    #[argh(option, short = 'u')]
    url: Option<String>,
    /// where to save: a file, a block device, or a directory for a torrent of many files
    #[argh(option, short = 's')]
    save_as: Option<PathBuf>,
    /// megabytes of cache; any number will do, the page cache serves
    #[argh(option, short = 'C', long = "cache", default = "0")]
    _cache: u32,
    /// bitfield file [TORRENT.bf]
    #[argh(option, short = 'b')]
    bitfield: Option<PathBuf>,
    /// peers to be connected to at the most
    #[argh(option, short = 'M', default = "100")]
    max_peers: usize,
    /// receive at most this many KiB a second; 0: no limit
    #[argh(option, short = 'D', default = "0")]
    down: u64,
    /// send at most this many KiB a second; 0: no limit
    #[argh(option, short = 'U', default = "0")]
    up: u64,
    /// beginning of the peer id
    #[argh(option, short = 'P', default = "String::from(run::PREFIX)")]
    prefix: String,
    /// user agent to announce as
    #[argh(option, short = 'A', default = "String::from(run::USER_AGENT)")]
    agent: String,
    /// command to run when everything is here; &t, &d, &w: torrent, data, directory
    #[argh(option, short = 'X')]
    exec: Option<String>,
    /// hear of further peers from peers, and tell them of others; the default
    #[argh(switch, long = "pex")]
    _pex: bool,
    /// do not
    #[argh(switch)]
    no_pex: bool,
    /// look for peers on the local network by multicast; the default
    #[argh(switch, long = "lsd")]
    _lsd: bool,
    /// do not
    #[argh(switch)]
    no_lsd: bool,
    /// metainfo file
    #[argh(positional)]
    torrent: Vec<PathBuf>,
}

const RUN: Grammar = Grammar {
    valued: "AbCDeEiIMpPsuUX",
    valued_long: &[
        "agent",
        "bitfield",
        "cache",
        "down",
        "exec",
        "hours",
        "ip",
        "listen",
        "max-peers",
        "port",
        "prefix",
        "ratio",
        "save-as",
        "up",
        "url",
    ],
    repeated: &[],
    usage_code: 1,
};

/// Makes or shows a metainfo file, or downloads and seeds what it describes.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    match args.first().map(String::as_str) {
        None | Some("-h" | "-H") => usage(io),
        Some(first) if first.starts_with("-t") => match options::parse(NAME, &CREATE, args, io)? {
            Parsed::Run(options) => create::run(&options, io),
            Parsed::Done(exit) => Ok(exit),
        },
        Some(_) => match options::parse::<Run>(NAME, &RUN, args, io)? {
            Parsed::Run(options) if options.examine => info::run(&options, io),
            Parsed::Run(options) => run::run(&options, io),
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
