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
use super::{Exit, Failure, Io, Outcome};
use crate::swarm::Leave;

mod control;
mod create;
mod files;
mod info;
mod leave;
mod resume;
mod run;
mod status;

/// Make a metainfo (torrent) file.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
struct Create {
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
    /// be verbose; reasons are always told
    #[argh(switch, short = 'v', long = "verbose")]
    _verbose: bool,
    /// hours to seed once everything is here (72)
    #[argh(option, short = 'e', from_str_fn(number))]
    hours: Option<f64>,
    /// quit at this ratio of bytes sent to bytes received, or to the torrent's size
    #[argh(option, short = 'E', default = "0.0", from_str_fn(number))]
    ratio: f64,
    /// local address to listen on and to connect from
    #[argh(option, short = 'i', default = "IpAddr::V4(Ipv4Addr::UNSPECIFIED)")]
    listen: IpAddr,
    /// port to listen on (2706); if it is taken, 2706 and those down to 2106 are tried
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
    /// memory to use at the most, MB (64); fewer than 16 count as 16, 0 as 64. The page cache is the cache
    #[argh(option, short = 'C', default = "0", from_str_fn(whole))]
    cache: u64,
    /// bitfield file (TORRENT.bf)
    #[argh(option, short = 'b')]
    bitfield: Option<PathBuf>,
    /// peers to be connected to at the most, 20 to 1000 (100)
    #[argh(option, short = 'M', default = "100", from_str_fn(any))]
    max_peers: u64,
    /// peers below which more are asked for, 1 to 1000; five at the least
    #[argh(option, short = 'm', default = "1", from_str_fn(any))]
    min_peers: u64,
    /// longest request to make, KB, 1 to 128; strangers are asked for 16
    #[argh(option, short = 'z', default = "128", from_str_fn(any))]
    slice: u64,
    /// files to download, by the numbers that -x shows: 3+5-7,2 is 3 and 5 to 7 at the same time, then 2; ,* at the
    /// end: then all others
    #[argh(option, short = 'n', arg_name = "list")]
    files: Option<String>,
    /// receive at most this many KB a second; 0: no limit
    #[argh(option, short = 'D', default = "0", from_str_fn(whole))]
    down: u64,
    /// send at most this many KB a second; 0: no limit
    #[argh(option, short = 'U', default = "0", from_str_fn(whole))]
    up: u64,
    /// beginning of the peer id, up to 8 characters; -: none
    #[argh(option, short = 'P', default = "String::from(run::PREFIX)")]
    prefix: String,
    /// user agent to announce as
    #[argh(option, short = 'A', default = "String::from(run::USER_AGENT)")]
    agent: String,
    /// CTCS server to report to and to obey, host:port; a colon more: ask for its password
    #[argh(option, short = 'S')]
    server: Option<String>,
    /// take the room on the disk beforehand
    #[argh(switch, short = 'a')]
    allocate: bool,
    /// command to run when everything is here; &t, &d, &w: torrent, data, directory
    #[argh(option, short = 'X')]
    exec: Option<String>,
    /// go on in the background; twice: keep output that is redirected
    #[argh(switch, short = 'd')]
    daemon: u8,
    /// it is in the background already
    #[argh(switch, hidden_help)]
    detached: bool,
    /// end when whoever started it does, however that ends
    #[argh(switch, hidden_help)]
    attached: bool,
    /// upload nothing; leave when everything is here unless -e or --leave says otherwise
    #[argh(switch)]
    leech: bool,
    /// leave, once everything is here, instead of as -e and -E say: never, or after a TIME (90, 15m, 2h), at a RATIO
    /// (1.5x), when for a minute or TIME nobody was seen who lacks anything (unneeded, unneeded=TIME); several with
    /// commas: the first that is met decides
    #[argh(option, from_str_fn(leave::parse), arg_name = "when")]
    leave: Option<Leave>,
    /// tell progress as one JSON object a line on standard output, and the rest on standard error
    #[argh(switch)]
    json: bool,
    /// journal what is verified, in DATA.torrent.journal, so that after a power cut little is hashed again; the default
    #[argh(switch)]
    journal: bool,
    /// do not
    #[argh(switch)]
    no_journal: bool,
    /// journal there instead
    #[argh(option, arg_name = "file")]
    journal_file: Option<PathBuf>,
    /// hear of further peers from peers, and tell them of others; the default
    #[argh(switch)]
    pex: bool,
    /// do not
    #[argh(switch)]
    no_pex: bool,
    /// look for peers on the local network by multicast; the default
    #[argh(switch)]
    lsd: bool,
    /// do not
    #[argh(switch)]
    no_lsd: bool,
    /// URL where the data can be had by HTTP as well, beside those that the torrent names; may be given several times
    #[argh(option, arg_name = "url")]
    web_seed: Vec<String>,
    /// metainfo file
    #[argh(positional)]
    torrent: Vec<PathBuf>,
}

const RUN: Grammar = Grammar {
    valued: "AbCDeEiIMmnPpsSuUXz",
    valued_long: &[
        "agent",
        "bitfield",
        "cache",
        "down",
        "exec",
        "files",
        "hours",
        "ip",
        "journal-file",
        "leave",
        "listen",
        "max-peers",
        "min-peers",
        "port",
        "prefix",
        "ratio",
        "save-as",
        "server",
        "slice",
        "up",
        "url",
        "web-seed",
    ],
    repeated: &["d", "daemon", "web-seed"],
    usage_code: 1,
};

/// Hours that `-e` stands for when it is not given.
const HOURS: f64 = 72.0;

/// A number as the namesake reads it: what follows it does not count.
fn number(text: &str) -> Result<f64, String> {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    options::decimal(&text[..end]).ok_or_else(|| "not a number".to_owned())
}

fn whole(text: &str) -> Result<u64, String> {
    number(text).map(|number| number as u64)
}

/// A number that is looked at later; what is none is 0.
fn any(text: &str) -> Result<u64, String> {
    Ok(whole(text).unwrap_or(0))
}

/// Of what is on unless it is switched off: who asks for both wants it.
fn on(yes: bool, no: bool) -> bool {
    yes || !no
}

/// What the namesake says to values that it does not take.
fn objection(options: &Run) -> Option<String> {
    let bounds = [('M', options.max_peers, 20, 1000), ('m', options.min_peers, 1, 1000), ('z', options.slice, 1, 128)];
    if let Some((letter, _, least, most)) = bounds.iter().find(|(_, value, least, most)| value < least || value > most)
    {
        return Some(format!("-{letter} argument must be between {least} and {most}"));
    }
    if options.prefix.len() > 8 {
        return Some("-P arg must be 8 or less characters".to_owned());
    }
    if options.server.as_ref().is_some_and(|server| control::server(server).is_none()) {
        return Some("-S argument requires a port number".to_owned());
    }
    (options.torrent.len() != 1).then(|| "Must specify one torrent file".to_owned())
}

/// Makes or shows a metainfo file, or downloads and seeds what it describes.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let Some((first, rest)) = args.split_first() else { return usage(io) };
    let outcome = match first.strip_prefix("-t") {
        Some(letters) => {
            // Options may follow in the same word: `-tp`.
            let letters = (!letters.is_empty()).then(|| format!("-{letters}"));
            let args: Vec<String> = letters.into_iter().chain(rest.iter().cloned()).collect();
            options::parse(NAME, &CREATE, &args, io).map(|parsed| match parsed {
                Parsed::Run(options) => create::run(&options, io),
                Parsed::Done(exit) => Ok(exit),
            })
        }
        None => options::parse::<Run>(NAME, &RUN, args, io).map(|parsed| match parsed {
            Parsed::Run(options) => match objection(&options) {
                Some(objection) => give_up(io, &objection),
                None if options.examine => info::run(&options, io),
                None => run::run(&options, args, io),
            },
            Parsed::Done(exit) => Ok(exit),
        }),
    };
    match outcome {
        Ok(outcome) => outcome,
        Err(wrong) if matches!(wrong.message.as_str(), "Unrecognized argument: -h" | "Unrecognized argument: -H") => {
            usage(io)
        }
        // A reader of the help that went away.
        Err(gone) if gone.message.is_empty() => Err(gone),
        Err(wrong) => Err(as_getopt(wrong)),
    }
}

/// What argh found wrong in getopt's words.
fn as_getopt(wrong: Failure) -> Failure {
    let letter = |beginning: &str| wrong.message.strip_prefix(beginning)?.chars().next().filter(|char| *char != '-');
    let message = if let Some(letter) = letter("Unrecognized argument: -") {
        format!("invalid option -- '{letter}'")
    } else if let Some(letter) = letter("No value provided for option '-") {
        format!("option requires an argument -- '{letter}'")
    } else {
        wrong.message
    };
    Failure { message: message + "\nUse -h for help/usage.", ..wrong }
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
