//! `bttrack`: the tracker, with the options of BitTornado's and of Debian bittorrent 3.4.2's `bttrack`.
//!
//! Two dialects hide behind the name; where they differ both are understood, each option in its own unit
//! (`--parse_allowed_interval` is minutes, `--parse_dir_interval` seconds). Like the namesakes it prints the options
//! if called without arguments, and reports a wrong command line on standard output with exit code 0. Unlike them it
//! tracks nothing without `--allowed_dir`, `--allowed_list` or `--open`, except OpenGnsys' images where these are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::bittornado::{self, Dialect, boolean, real, whole};
use super::daemon::{PidFile, give_up_root, tell_ready};
use super::{Exit, Failure, Io, Outcome};
use crate::base::signal::Signals;
use crate::engine::env::Env;
use crate::tracker::server::Server;
use crate::tracker::server::allowed::Source;
use crate::tracker::server::announce::MOST_PEERS;
use crate::tracker::server::config::{Config, ScrapeAllowed};
use crate::tracker::server::ranges::Ranges;
use crate::tracker::server::store::{self, Rules};

/// Most connections kept open: a few hundred bytes each, and as much again in the kernel.
const MOST_CONNECTIONS: usize = 32_768;

/// Options of the namesakes that have no meaning here: an IPv6 socket always takes IPv4 connections, time-outs are
/// checked every second, peers are not connected back to, nothing is fetched, trackers do not exchange peers, SIGHUP
/// always reopens the log.
const IGNORED: &[&str] = &[
    "ipv6_binds_v4",
    "close_with_rst",
    "timeout_check_interval",
    "nat_check",
    "log_nat_checks",
    "min_time_between_cache_refreshes",
    "multitracker_enabled",
    "multitracker_allowed",
    "multitracker_reannounce_interval",
    "multitracker_maxpeers",
    "aggregate_forward",
    "aggregator",
    "hupmonitor",
    "http_timeout",
    "dedicated_seed_id",
    "twisted",
];

const UNSAID: &str = "neither --allowed_dir nor --allowed_list is given";
const DIALECT: Dialect = Dialect { switches: &["open"], ignored: IGNORED, most_words: 0 };

/// BitTorrent tracker.
#[derive(FromArgs, ArgsInfo)]
struct Track {
    /// port to listen on, TCP and UDP (defaults to 80)
    #[argh(option, default = "80", from_str_fn(whole))]
    port: u16,
    /// file to store recent downloader info in (required)
    #[argh(option)]
    dfile: Option<PathBuf>,
    /// comma-separated list of addresses or host names to bind to locally
    #[argh(option, default = "String::new()")]
    bind: String,
    /// whether to listen on IPv6 as well as IPv4 when --bind is not given (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    ipv6_enabled: bool,
    /// seconds within which a whole request must arrive; idle connections are closed after as many (defaults to 15)
    #[argh(option, default = "15", from_str_fn(whole))]
    socket_timeout: u32,
    /// seconds between saving dfile (defaults to 300)
    #[argh(option, default = "300", from_str_fn(whole))]
    save_dfile_interval: u32,
    /// seconds between expiring downloaders; a peer silent for twice as long is forgotten (defaults to 2700)
    #[argh(option, default = "2700", from_str_fn(whole))]
    timeout_downloaders_interval: u32,
    /// seconds downloaders should wait between reannouncements, at most; 10 to 30 while a download is in progress
    /// (defaults to 1800)
    #[argh(option, default = "1800", from_str_fn(whole))]
    reannounce_interval: u32,
    /// number of peers to send in an info message when the client names none (defaults to 50)
    #[argh(option, default = "50", from_str_fn(whole))]
    response_size: u32,
    /// maximum number of peers to give with any one request, at most 1024 (defaults to 200)
    #[argh(option, default = "200", from_str_fn(whole))]
    max_give: u32,
    /// seconds between two writes of the log (defaults to 3.0)
    #[argh(option, default = "3.0", from_str_fn(real))]
    min_time_between_log_flushes: f64,
    /// only allow downloads for .torrents in this directory and those below it
    #[argh(option, default = "String::new()")]
    allowed_dir: String,
    /// only allow downloads for hashes in this list (hex format, one per line)
    #[argh(option, default = "String::new()")]
    allowed_list: String,
    /// whether `failure reason` and `warning message` in torrents of allowed_dir apply to their swarms (defaults to 0)
    #[argh(option, default = "false", from_str_fn(boolean))]
    allowed_controls: bool,
    /// minutes between two scans of allowed_dir (3.4.2's spelling); changes are noticed at once where the file system
    /// reports them
    #[argh(option, from_str_fn(whole))]
    parse_allowed_interval: Option<u32>,
    /// seconds between two scans of allowed_dir or allowed_list and the IP lists (BitTornado's spelling; defaults to
    /// 60)
    #[argh(option, from_str_fn(whole))]
    parse_dir_interval: Option<u32>,
    /// only allow connections from IPs specified in the given file; a line is aa.bb.cc.dd/len, an address, or
    /// ip1-ip2
    #[argh(option, default = "String::new()")]
    allowed_ips: String,
    /// don't allow connections from IPs specified in the given file; a line is xxx:xxx:ip1-ip2, or as above
    #[argh(option, default = "String::new()")]
    banned_ips: String,
    /// whether to display an info page when the tracker's root dir is loaded (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    show_infopage: bool,
    /// a URL to redirect the info page to
    #[argh(option, default = "String::new()")]
    infopage_redirect: String,
    /// whether to display names from allowed dir (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    show_names: bool,
    /// file containing x-icon data to return when browser requests favicon.ico
    #[argh(option, default = "String::new()")]
    favicon: String,
    /// peers whose own statement of their address (ip=) is accepted: 0 all, 1 those on local networks, 2 this machine's
    /// and those of --proxies (defaults to 2)
    #[argh(option, default = "2", from_str_fn(whole))]
    only_local_override_ip: u8,
    /// file to write the tracker logs, use - for stdout (default)
    #[argh(option, default = "String::new()")]
    logfile: String,
    /// use with allowed_dir; adds a /file?info_hash=(hash) or ?name=(name) url that allows users to download the torrent
    /// file (defaults to 0)
    #[argh(option, default = "false", from_str_fn(boolean))]
    allow_get: bool,
    /// new: whether /file?name=(name) gives the torrent to whoever may announce, even with --allow_get 0 (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    get_by_name: bool,
    /// keep dead torrents after they expire, so they still show up on /scrape and web page (defaults to 0)
    #[argh(option, default = "false", from_str_fn(boolean))]
    keep_dead: bool,
    /// scrape access allowed (can be none, specific or full; defaults to full)
    #[argh(option, default = "ScrapeAllowed::Full")]
    scrape_allowed: ScrapeAllowed,
    /// only allow peers that accept a compact response (defaults to 0, as before BitTornado 0.4)
    #[argh(option, default = "false", from_str_fn(boolean))]
    compact_reqd: bool,
    /// file to write the process id to
    #[argh(option, default = "String::new()")]
    pid: String,
    /// new: track every torrent that is announced, without allowed_dir or allowed_list (defaults to 0)
    #[argh(option, default = "false", from_str_fn(boolean))]
    open: bool,
    /// new: answer UDP (BEP 15) on the same port (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    udp: bool,
    /// new: file with the host names that the pages show for addresses (defaults to /etc/hosts)
    #[argh(option, default = "String::from(\"/etc/hosts\")")]
    hosts: String,
    /// new: whether to ask the name server of /etc/resolv.conf for names that --hosts lacks (defaults to 1)
    #[argh(option, default = "true", from_str_fn(boolean))]
    reverse_lookup: bool,
    /// new: file with the token that lets its bearer PUT /file?name=X.torrent, or register it by /register
    #[argh(option, default = "String::new()")]
    publish_token: String,
    /// new: comma-separated addresses and networks (aa.bb.cc.dd/len) of proxies whose ip= is accepted
    #[argh(option, default = "String::new()")]
    proxies: String,
    /// new: most peers of a torrent that one address may announce, 0 for no limit; its oldest goes first (defaults to 64)
    #[argh(option, default = "64", from_str_fn(whole))]
    max_peers_per_source: u32,
    /// new: user to become once the port and the files are open
    #[argh(option, default = "String::new()")]
    user: String,
    /// new: file descriptor to write a newline to once requests are answered; systemd is notified in any case
    #[argh(option, from_str_fn(whole))]
    ready_fd: Option<u32>,
    /// new: worker threads; 0 means one per processor, at most 4 (defaults to 0)
    #[argh(option, default = "0", from_str_fn(whole))]
    workers: u8,
}

/// Runs the tracker until SIGTERM or SIGINT.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    if args.is_empty() || matches!(args, [help] if help == "--help" || help == "-h") {
        write!(io.out, "{}", bittornado::list::<Track>(IGNORED))?;
        return Ok(Exit::OK);
    }
    let read = bittornado::parse::<Track>(args, &DIALECT).and_then(|(options, ignored)| {
        let dfile = options.dfile.clone().ok_or("Option --dfile is required.")?;
        Ok((options, dfile, ignored))
    });
    let (options, dfile, ignored) = match read {
        Ok(read) => read,
        Err(why) => {
            writeln!(io.out, "error: {why}\nrun with no arguments for parameter explanations")?;
            return Ok(Exit::OK);
        }
    };
    for line in ignored.into_iter().chain(options.remarks()) {
        writeln!(io.err, "bttrack: {line}")?;
    }
    let signals = Signals::catch_ends()?;
    signals.catch_hangup()?;
    let server = Server::new(options.config(dfile)?).map_err(|error| Failure::new(1, error))?;
    let _pid = PidFile::write(&options.pid)?;
    give_up_root(&options.user)?;
    tell_ready("bttrack", options.ready_fd, io)?;
    let ended = server.run(&|| signals.ending(), &|| signals.take_hangup());
    ended.map_err(|error| Failure::new(1, error))?;
    Ok(Exit::OK)
}

impl Track {
    /// Remarks on the given options, one line each.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.allowed_list.is_empty() && !self.allowed_dir.is_empty() {
            remarks.push("**warning** allowed_dir and allowed_list options cannot be used together".to_owned());
            remarks.push("**warning** disregarding allowed_dir".to_owned());
        }
        remarks.extend(self.notice());
        remarks
    }

    /// What is tracked if no option says it.
    fn notice(&self) -> Option<String> {
        let unsaid = self.allowed_list.is_empty() && self.allowed_dir.is_empty() && !self.open;
        unsaid.then(|| match self.source() {
            Some(Source::Directory { path, .. }) => format!("{UNSAID}: OpenGnsys' {} is tracked", path.display()),
            _ => format!("{UNSAID}: nothing is tracked (--open 1 tracks all)"),
        })
    }

    fn source(&self) -> Option<Source> {
        match (self.allowed_list.as_str(), self.allowed_dir.as_str()) {
            ("", "") if self.open => None,
            ("", "") => {
                let path = Some(Env::of_process().path("OGIMG")).filter(|path| path.is_dir())?;
                Some(Source::Directory { path, controls: self.allowed_controls })
            }
            ("", path) => Some(Source::Directory { path: path.into(), controls: self.allowed_controls }),
            (path, _) => Some(Source::List(path.into())),
        }
    }

    fn config(&self, dfile: PathBuf) -> Result<Config, Failure> {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let source = self.source();
        let seconds = |number: u32| Duration::from_secs(number.into());
        let rescan = match (self.parse_dir_interval, self.parse_allowed_interval) {
            (Some(seconds), _) => seconds,
            (None, Some(minutes)) => minutes.saturating_mul(60),
            (None, None) => 60,
        };
        // The store asks no peer to wait longer, whatever the option says.
        let longest_wait = self.reannounce_interval.clamp(1, 300);
        let processors = crate::sys::cpus::count().min(4);
        Ok(Config {
            listen: self.listen()?,
            udp: self.udp,
            rules: Rules {
                closed: source.is_some() || !self.open,
                reannounce: self.reannounce_interval.max(1),
                life: self.timeout_downloaders_interval.saturating_mul(2).max(3 * longest_wait),
                usual_peers: self.response_size as usize,
                most_peers: (self.max_give.max(self.response_size) as usize).min(MOST_PEERS),
                keep_dead: self.keep_dead,
                most_of_source: store::limit(self.max_peers_per_source),
                ..Rules::default()
            },
            source,
            rescan: seconds(rescan.max(1)),
            dfile,
            save_interval: seconds(self.save_dfile_interval.max(1)),
            logfile: path(&self.logfile).filter(|_| self.logfile != "-"),
            flush_interval: Duration::try_from_secs_f64(self.min_time_between_log_flushes).unwrap_or_default(),
            socket_timeout: seconds(self.socket_timeout.max(1)),
            allowed_ips: path(&self.allowed_ips),
            banned_ips: path(&self.banned_ips),
            hosts: self.hosts.clone().into(),
            resolv_conf: self.reverse_lookup.then(|| PathBuf::from("/etc/resolv.conf")),
            publish_token: path(&self.publish_token),
            allow_get: self.allow_get,
            get_by_name: self.get_by_name,
            scrape: self.scrape_allowed,
            compact_required: self.compact_reqd,
            override_ip: self.only_local_override_ip.into(),
            proxies: self.proxies()?,
            show_infopage: self.show_infopage,
            infopage_redirect: (!self.infopage_redirect.is_empty()).then(|| self.infopage_redirect.clone()),
            show_names: self.show_names,
            favicon: path(&self.favicon),
            notice: self.notice(),
            most_connections: MOST_CONNECTIONS,
            workers: if self.workers == 0 { processors } else { self.workers.into() },
        })
    }

    fn proxies(&self) -> Result<Ranges, Failure> {
        match Ranges::read(self.proxies.replace(',', "\n").as_bytes()) {
            (proxies, wrong) if wrong.is_empty() => Ok(proxies),
            _ => Err(Failure::new(1, format!("--proxies {}: not a list of addresses", self.proxies))),
        }
    }

    /// The addresses to listen on.
    fn listen(&self) -> Result<Vec<SocketAddr>, Failure> {
        if self.bind.is_empty() {
            // A kernel without IPv6 refuses such a socket.
            let ipv6 = self.ipv6_enabled && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
            let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            return Ok(vec![SocketAddr::new(any, self.port)]);
        }
        let mut addresses = Vec::new();
        for host in self.bind.split(',').map(str::trim).filter(|host| !host.is_empty()) {
            let found = (host, self.port).to_socket_addrs();
            let found = found.map_err(|error| Failure::new(1, format!("look up --bind address {host}: {error}")))?;
            addresses.extend(found);
        }
        crate::base::sort::sort(&mut addresses);
        addresses.dedup();
        Ok(addresses)
    }
}
