//! `btlaunchmany DIR`: seeds every torrent of a directory and its subdirectories, with the options of BitTornado's
//! `btlaunchmany` and its save-as style 1: the data of `X.img.torrent` is `X.img` beside it.
//!
//! As with the namesake no arguments print the options, and a wrong command line is told on standard output; the
//! exit code is 1. Unlike it this never downloads, and writes into the directory only for `--create`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use self::report::Report;
use self::seeder::Seeder;
use super::bittornado::{self, Dialect, boolean, real, whole};
use super::daemon::{PidFile, give_up_root, tell_ready};
use super::{Exit, Failure, Io, Outcome};
use crate::base::boundary::guard;
use crate::base::progress::Style;
use crate::base::rng::Rng;
use crate::base::signal::Signals;
use crate::client::{Client, Settings};
use crate::peer::Options;
use crate::repository::Memory;
use crate::swarm::Config;
use crate::sys::limits::descriptors;

mod report;
mod seeder;

/// Options of the namesake, and of mainline's launchmany, that have no meaning here: nothing is downloaded, memory is
/// the page cache, connections are kept as `ogbox ctorrent` keeps them, everything is verified once.
const IGNORED: &[&str] = &[
    "alloc_rate",
    "alloc_type",
    "auto_flush",
    "auto_kick",
    "breakup_seed_bitfield",
    "buffer_reads",
    "check_hashes",
    "crypto_allowed",
    "crypto_only",
    "crypto_stealth",
    "dedicated_seed_id",
    "double_check",
    "download_slice_size",
    "expire_cache_data",
    "http_timeout",
    "ipv6_binds_v4",
    "ipv6_enabled",
    "keepalive_interval",
    "launch_delay",
    "lock_files",
    "lock_while_reading",
    "max_allow_in",
    "max_download_rate",
    "max_files_open",
    "max_initiate",
    "max_message_length",
    "max_rate_period",
    "max_slice_length",
    "min_peers",
    "min_uploads",
    "one_connection_per_ip",
    "priority",
    "rarest_first_cutoff",
    "rarest_first_priority_cutoff",
    "request_backlog",
    "rerequest_interval",
    "responsefile",
    "round_robin_period",
    "save_options",
    "saveas",
    "security",
    "selector_enabled",
    "snub_time",
    "spew",
    "super_seeder",
    "tcp_ack_fudge",
    "timeout",
    "timeout_check_interval",
    "triple_check",
    "upload_rate_fudge",
    "upload_unit_size",
    "upnp",
    "upnp_nat_access",
    "url",
    "write_buffer_size",
];
const DIALECT: Dialect = Dialect { switches: &["create"], ignored: IGNORED, most_words: 1 };
const HINT: &str = "run with no args for parameter explanations";
/// File descriptors: two a connection.
const DESCRIPTORS: usize = 16_384;

/// Seed every torrent of a directory.
#[derive(FromArgs, ArgsInfo)]
struct LaunchMany {
    /// seconds between two looks at the directory; changes are seen at once where the file system tells of them
    /// (defaults to 60)
    #[argh(option, default = "60", from_str_fn(whole))]
    parse_dir_interval: u32,
    /// how to name the data: 1, as the torrent file without .torrent, is the only way here (defaults to 1)
    #[argh(option, default = "1", from_str_fn(whole))]
    saveas_style: u8,
    /// show paths (1) or the torrents' names (0) (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    display_path: bool,
    /// seconds between two displays (defaults to 1; 60 where they are plain lines)
    #[argh(option, from_str_fn(real))]
    display_interval: Option<f64>,
    /// lowest port to listen on (defaults to 10000)
    #[argh(option, default = "10000", from_str_fn(whole))]
    minport: u16,
    /// highest port to listen on (defaults to 60000)
    #[argh(option, default = "60000", from_str_fn(whole))]
    maxport: u16,
    /// try the ports in random order, not from the lowest (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    random_port: bool,
    /// local address to listen on
    #[argh(option, default = "IpAddr::V4(Ipv4Addr::UNSPECIFIED)")]
    bind: IpAddr,
    /// address to tell the tracker (defaults to --bind)
    #[argh(option)]
    ip: Option<IpAddr>,
    /// most KiB a second to send, of all torrents together; 0: no limit (defaults to 0)
    #[argh(option, default = "0", from_str_fn(whole))]
    max_upload_rate: i32,
    /// peers of a torrent to serve at a time; 0: as many as the rate carries (defaults to 0, not 7)
    #[argh(option, default = "0", from_str_fn(whole))]
    max_uploads: u16,
    /// connections that a torrent may have; 0: 500 (defaults to 0)
    #[argh(option, default = "0", from_str_fn(whole))]
    max_connections: u16,
    /// new: look for peers on the local network by multicast (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    lsd: bool,
    /// new: directory in which to remember what was verified (systemd's StateDirectory, else verified at each start)
    #[argh(option, default = "std::env::var(\"STATE_DIRECTORY\").unwrap_or_default()")]
    state_dir: String,
    /// new: make .torrent, .sum and .full.sum beside each image that lacks them or has changed (defaults to 0)
    #[argh(option, default = "false", from_str_fn(boolean))]
    create: bool,
    /// new: the tracker of the torrents that --create makes
    #[argh(option, default = "String::new()")]
    announce: String,
    /// new: status as auto, bar (a table), plain, json or none (defaults to auto)
    #[argh(option, default = "Style::Auto")]
    progress: Style,
    /// new: file for messages (defaults to standard output); SIGHUP opens it anew
    #[argh(option, default = "String::new()")]
    logfile: String,
    /// new: file to write the process id to
    #[argh(option, default = "String::new()")]
    pid: String,
    /// new: user to become once the files are open
    #[argh(option, default = "String::new()")]
    user: String,
    /// new: descriptor to write a line end to when the directory was looked at; systemd is told anyway
    #[argh(option, from_str_fn(whole))]
    ready_fd: Option<u32>,
    /// directory of the .torrent files
    #[argh(positional)]
    directory: Option<PathBuf>,
}

/// Runs the seeder until SIGTERM or SIGINT.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    if args.is_empty() || matches!(args, [help] if help == "--help" || help == "-h") {
        writeln!(io.out, "Usage: btlaunchmany <directory> <global options>\n")?;
        writeln!(io.out, "<directory> - directory to look for .torrent files (recursive)\n")?;
        write!(io.out, "{}", bittornado::list::<LaunchMany>(IGNORED))?;
        return Ok(Exit(u8::from(args.is_empty())));
    }
    let read = bittornado::parse::<LaunchMany>(args, &DIALECT).and_then(|(options, ignored)| {
        let directory = options.directory()?;
        Ok((options, directory, ignored))
    });
    let (options, directory, ignored) = match read {
        Ok(read) => read,
        Err(why) => {
            writeln!(io.out, "error: {why}\n{HINT}")?;
            return Ok(Exit(1));
        }
    };
    for line in ignored {
        writeln!(io.err, "btlaunchmany: {line}")?;
    }
    let signals = Signals::catch_ends()?;
    signals.catch_hangup()?;
    signals.catch_usr1()?;
    let report = Arc::new(options.report()?);
    let _pid = PidFile::write(&options.pid)?;
    give_up_root(&options.user)?;
    descriptors(DESCRIPTORS);
    let state = (!options.state_dir.is_empty()).then_some(options.state_dir.as_ref());
    let memory = Memory::open(state)
        .map_err(|error| Failure::new(1, format!("open --state_dir {}: {error}", options.state_dir)))?;
    let client = Client::start(options.settings(&report));
    let client = client.map_err(|error| Failure::new(1, format!("listen on {}: {error}", options.bind)))?;
    let announce = options.create.then(|| options.announce.clone());
    let mut seeder = Seeder::new(&client, &report, memory, directory, announce)?;
    let rescan = Duration::from_secs(options.parse_dir_interval.max(1).into());
    seeder.first_look();
    tell_ready("btlaunchmany", options.ready_fd, io)?;
    while !signals.ending() {
        if signals.take_hangup() {
            report.reopen();
        }
        let dump = signals.take_usr1();
        if let Err(panicked) = guard("look after the torrents", || seeder.turn(rescan, dump)) {
            report.say(&format!("**error** {panicked}"));
            // One that comes at every turn must not fill the log.
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    seeder.end();
    Ok(Exit::OK)
}

impl LaunchMany {
    fn directory(&self) -> Result<PathBuf, String> {
        let directory = self.directory.clone().ok_or("Too few args - 1 min.")?;
        if self.saveas_style != 1 {
            return Err(format!("--saveas_style {}: only 1 is known here", self.saveas_style));
        }
        if self.create && self.announce.is_empty() {
            return Err("--create needs --announce URL, the tracker of what it makes".to_owned());
        }
        match directory.is_dir() {
            true => Ok(directory),
            false => Err(format!("{} is not a directory", directory.display())),
        }
    }

    fn report(&self) -> Result<Report, Failure> {
        let logfile = (!self.logfile.is_empty() && self.logfile != "-").then(|| PathBuf::from(&self.logfile));
        let interval = self.display_interval.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Report::open(logfile.as_deref(), self.progress, interval, self.display_path)
            .map_err(|error| Failure::new(1, format!("open log file {}: {error}", self.logfile)))
    }

    fn settings(&self, report: &Arc<Report>) -> Settings {
        let mut ports: Vec<u16> = (self.minport..=self.maxport.max(self.minport)).collect();
        if self.random_port {
            Rng::new(u64::from(std::process::id())).shuffle(&mut ports);
        }
        let log = report.clone();
        let session = Options {
            bind: self.bind,
            ports,
            max_peers: if self.max_connections == 0 { 500 } else { self.max_connections.into() },
            // -1 is the namesake's measured limit: none is needed here.
            limits: (u64::try_from(self.max_upload_rate).unwrap_or(0) << 10, 0),
            lsd: self.lsd,
            swarm: Config { slots: (self.max_uploads > 0).then_some(self.max_uploads.into()), ..Config::default() },
            log: Arc::new(move |line| log.say(line)),
            ..Options::default()
        };
        let agent = concat!("ogbox/", env!("CARGO_PKG_VERSION")).to_owned();
        Settings { session, agent, ip: self.ip.map(|ip| ip.to_string()), numwant: 50, min_peers: 0 }
    }
}
