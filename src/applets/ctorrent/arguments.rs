//! The options of the two programs behind the name, and the namesake's refusals of their values.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use argh::FromArgs;

use super::leave;
use crate::applets::options::Grammar;
use crate::applets::{Exit, Io, Outcome};
use crate::base::decimal;
use crate::base::progress::Style;
use crate::client;
use crate::swarm::Leave;

/// The applet's name.
pub const NAME: &str = "ctorrent";
/// Beginning of the peer id unless `-P` sets another.
pub const PREFIX: &str = "-OG0100-";
/// User agent of announces unless `-A` sets another.
pub const USER_AGENT: &str = concat!("ogbox/", env!("CARGO_PKG_VERSION"));

/// Make a metainfo (torrent) file.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// tracker's URL; required
    #[argh(option, short = 'u', arg_name = "url")]
    pub announce: Option<String>,
    /// metainfo file to make; required
    #[argh(option, short = 's', arg_name = "file")]
    pub save_as: Option<String>,
    /// piece length in bytes, 65536 to 4194304, rounded down to a multiple of 65536 (262144)
    #[argh(option, short = 'l', arg_name = "bytes")]
    pub piece_length: Option<String>,
    /// private: peers come from the tracker only
    #[argh(switch, short = 'p')]
    pub private: bool,
    /// comment, free text
    #[argh(option, short = 'c', arg_name = "text")]
    pub comment: Option<String>,
    /// further tracker, used when those before it fail; may be given several times
    #[argh(option, arg_name = "url")]
    pub next_tracker: Vec<String>,
    /// URL of the data over HTTP; may be given several times
    #[argh(option, arg_name = "url")]
    pub web_seed: Vec<String>,
    /// name inside the torrent (the base name of the content)
    #[argh(option, arg_name = "name")]
    pub name: Option<String>,
    /// replace a metainfo file that is there already
    #[argh(switch)]
    pub force: bool,
    /// threads that hash (as many as there are processors)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,
    /// report progress on standard error instead: auto, bar, plain, json or none
    #[argh(option, arg_name = "style")]
    pub progress: Option<Style>,
    /// what to describe: one file, directory or block device
    #[argh(positional)]
    pub content: Vec<String>,
}

pub const CREATE: Grammar = Grammar {
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

/// Download a torrent, then seed it; if it is complete, seed it at once.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
pub struct Run {
    /// show the metainfo file and leave
    #[argh(switch, short = 'x')]
    pub examine: bool,
    /// show unprintable names as printable text
    #[argh(switch, short = 'T')]
    pub printable: bool,
    /// check only, then quit; with -f: check everything first, then go on
    #[argh(switch, short = 'c')]
    pub check: bool,
    /// trust the saved bitfield; if there is none, take the data for whole
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// be verbose; reasons are given in any case
    #[argh(switch, short = 'v', long = "verbose")]
    pub _verbose: bool,
    /// hours to seed once everything is here (72)
    #[argh(option, short = 'e', from_str_fn(number))]
    pub hours: Option<f64>,
    /// quit at this ratio of bytes sent to bytes received, or to the torrent's size
    #[argh(option, short = 'E', default = "0.0", from_str_fn(number))]
    pub ratio: f64,
    /// local address to listen on and to connect from
    #[argh(option, short = 'i', default = "IpAddr::V4(Ipv4Addr::UNSPECIFIED)")]
    pub listen: IpAddr,
    /// port to listen on (2706); if it is taken, 2706 and those down to 2106 are tried
    #[argh(option, short = 'p')]
    pub port: Option<u16>,
    /// address to announce instead of the one that the tracker sees
    #[argh(option, short = 'I')]
    pub ip: Option<String>,
    /// another announce URL, or the number of one of the torrent's alternates
    #[argh(option, short = 'u')]
    pub url: Option<String>,
    /// where to save: a file, a block device, or a directory for a torrent of many files
    #[argh(option, short = 's')]
    pub save_as: Option<PathBuf>,
    /// memory to use at the most, MB (64); fewer than 16 count as 16, 0 as 64. The page cache is the cache
    #[argh(option, short = 'C', default = "0", from_str_fn(whole))]
    pub cache: u64,
    /// bitfield file (TORRENT.bf)
    #[argh(option, short = 'b')]
    pub bitfield: Option<PathBuf>,
    /// peers to be connected to at the most, 20 to 1000 (100)
    #[argh(option, short = 'M', default = "100", from_str_fn(any))]
    pub max_peers: u64,
    /// peers below which more are asked for, 1 to 1000; five at the least
    #[argh(option, short = 'm', default = "1", from_str_fn(any))]
    pub min_peers: u64,
    /// longest request to make, KB, 1 to 128; strangers are asked for 16
    #[argh(option, short = 'z', default = "128", from_str_fn(any))]
    pub slice: u64,
    /// files to download, by the numbers that -x shows: 3+5-7,2 is 3 and 5 to 7 at the same time, then 2; ,* at the
    /// end: then all others
    #[argh(option, short = 'n', arg_name = "list")]
    pub files: Option<String>,
    /// receive at most this many KB a second; 0: no limit
    #[argh(option, short = 'D', default = "0", from_str_fn(whole))]
    pub down: u64,
    /// send at most this many KB a second; 0: no limit
    #[argh(option, short = 'U', default = "0", from_str_fn(whole))]
    pub up: u64,
    /// beginning of the peer id, up to 8 characters; -: none
    #[argh(option, short = 'P', default = "String::from(PREFIX)")]
    pub prefix: String,
    /// user agent to announce as
    #[argh(option, short = 'A', default = "String::from(USER_AGENT)")]
    pub agent: String,
    /// CTCS server to report to and to obey, host:port; with another colon at the end its password is asked for
    #[argh(option, short = 'S')]
    pub server: Option<String>,
    /// allocate all space on the disk beforehand
    #[argh(switch, short = 'a')]
    pub allocate: bool,
    /// command to run when everything is here; &t, &d, &w: torrent, data, directory
    #[argh(option, short = 'X')]
    pub exec: Option<String>,
    /// go on in the background; twice: keep output that is redirected
    #[argh(switch, short = 'd')]
    pub daemon: u8,
    /// already in the background
    #[argh(switch, hidden_help)]
    pub detached: bool,
    /// end when the parent process ends, for whatever reason
    #[argh(switch, hidden_help)]
    pub attached: bool,
    /// upload nothing; leave when everything is here unless -e or --leave says otherwise
    #[argh(switch)]
    pub leech: bool,
    /// when to leave once everything is here, instead of -e and -E: never, after a TIME (90, 15m, 2h), at a RATIO
    /// (1.5x), or when no peer that lacks anything was seen for a minute or TIME (unneeded, unneeded=TIME); of several
    /// with commas between them the first that is met decides
    #[argh(option, from_str_fn(leave::parse), arg_name = "when")]
    pub leave: Option<Leave>,
    /// report progress as one JSON object a line on standard output, and everything else on standard error
    #[argh(switch)]
    pub json: bool,
    /// descriptor to write the objects of --json to, in addition
    #[argh(option, hidden_help)]
    pub json_fd: Option<i32>,
    /// keep a journal of verified pieces, DATA.torrent.journal, so that little is hashed again after a power cut; the
    /// default
    #[argh(switch)]
    pub journal: bool,
    /// keep no journal
    #[argh(switch)]
    pub no_journal: bool,
    /// keep the journal in this file instead
    #[argh(option, arg_name = "file")]
    pub journal_file: Option<PathBuf>,
    /// exchange addresses of peers with peers (PEX); the default
    #[argh(switch)]
    pub pex: bool,
    /// exchange no addresses
    #[argh(switch)]
    pub no_pex: bool,
    /// look for peers on the local network by multicast; the default
    #[argh(switch)]
    pub lsd: bool,
    /// do not look
    #[argh(switch)]
    pub no_lsd: bool,
    /// URL of the data over HTTP, in addition to those that the torrent names; may be given several times
    #[argh(option, arg_name = "url")]
    pub web_seed: Vec<String>,
    /// use web seeds of the torrent at loopback and link-local addresses, too; those of --web-seed may be anywhere
    #[argh(switch)]
    pub local_web_seeds: bool,
    /// metainfo file
    #[argh(positional)]
    pub torrent: Vec<PathBuf>,
}

pub const RUN: Grammar = Grammar {
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
        "json-fd",
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

/// Reads a number as the namesake does: text after it does not count.
pub fn number(text: &str) -> Result<f64, String> {
    decimal::leading(text).ok_or_else(|| "not a number".to_owned())
}

fn whole(text: &str) -> Result<u64, String> {
    number(text).map(|number| number as u64)
}

/// Validated later by `objection`; unparsable text counts as 0.
fn any(text: &str) -> Result<u64, String> {
    Ok(whole(text).unwrap_or(0))
}

/// Whether an option with a negation is on: by default it is, and so it is when both are given.
pub fn on(yes: bool, no: bool) -> bool {
    yes || !no
}

/// Returns the namesake's refusal of an invalid value; `None` if all are valid.
pub fn objection(options: &Run) -> Option<String> {
    let bounds = [('M', options.max_peers, 20, 1000), ('m', options.min_peers, 1, 1000), ('z', options.slice, 1, 128)];
    if let Some((letter, _, least, most)) = bounds.iter().find(|(_, value, least, most)| value < least || value > most)
    {
        return Some(format!("-{letter} argument must be between {least} and {most}"));
    }
    if options.prefix.len() > 8 {
        return Some("-P arg must be 8 or less characters".to_owned());
    }
    if options.server.as_ref().is_some_and(|server| client::server(server).is_none()) {
        return Some("-S argument requires a port number".to_owned());
    }
    (options.torrent.len() != 1).then(|| "Must specify one torrent file".to_owned())
}

/// Fails with exactly the namesake's line.
pub fn give_up(io: &mut Io, line: &str) -> Outcome {
    writeln!(io.err, "{line}")?;
    Ok(Exit(1))
}

impl Run {
    /// Returns the memory to use at the most, MiB.
    pub fn memory(&self) -> u64 {
        if self.cache == 0 { client::MEMORY.0 } else { self.cache.max(client::MEMORY.1) }
    }

    /// Returns when to leave once everything is here.
    pub fn leave(&self) -> Leave {
        leave::conditions(self.leave, self.hours, self.ratio, self.leech)
    }
}
