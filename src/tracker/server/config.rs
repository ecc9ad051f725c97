//! The settings of a tracker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::allowed::Source;
use super::ranges::Ranges;
use super::store::Rules;

/// The scrapes that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeAllowed {
    /// None.
    None,
    /// Those that name their torrents.
    Specific,
    /// All.
    Full,
}

impl FromStr for ScrapeAllowed {
    type Err = String;

    fn from_str(text: &str) -> Result<ScrapeAllowed, String> {
        match text {
            "none" => Ok(ScrapeAllowed::None),
            "specific" => Ok(ScrapeAllowed::Specific),
            "full" => Ok(ScrapeAllowed::Full),
            _ => Err(format!("'{text}' is not one of none, specific, full")),
        }
    }
}

/// The peers whose own statement of their address (`ip=`, X-Forwarded-For) is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideIp {
    /// All.
    Everybody,
    /// Machines on local networks; proxies are not trusted.
    Local,
    /// This machine's, by loopback, and those of [`Config::proxies`].
    Trusted,
}

impl From<u8> for OverrideIp {
    /// What the number of `--only_local_override_ip` means.
    fn from(number: u8) -> OverrideIp {
        match number {
            0 => OverrideIp::Everybody,
            1 => OverrideIp::Local,
            _ => OverrideIp::Trusted,
        }
    }
}

/// The settings of a tracker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on, by TCP and, if [`udp`](Self::udp), UDP.
    pub listen: Vec<SocketAddr>,
    /// Whether UDP is answered on the same port.
    pub udp: bool,
    /// The rules for answering announces.
    pub rules: Rules,
    /// The source of the torrents that may be tracked; for `None` see [`Rules::closed`].
    pub source: Option<Source>,
    /// Most time between two scans of the source and the IP lists.
    pub rescan: Duration,
    /// The state file.
    pub dfile: PathBuf,
    /// Time between two saves of the state.
    pub save_interval: Duration,
    /// The log file; `None` for standard output.
    pub logfile: Option<PathBuf>,
    /// Most time between two writes of the log.
    pub flush_interval: Duration,
    /// Time within which a whole request must arrive, and after which an idle connection is closed.
    pub socket_timeout: Duration,
    /// The list of addresses that may send requests; `None` for all.
    pub allowed_ips: Option<PathBuf>,
    /// The list of addresses that may not.
    pub banned_ips: Option<PathBuf>,
    /// The file with the names of addresses (hosts(5)).
    pub hosts: PathBuf,
    /// The file with the name servers to ask for other names (resolv.conf(5)); `None` for no lookups.
    pub resolv_conf: Option<PathBuf>,
    /// The file with the token that permits publishing torrents; `None` to forbid it.
    pub publish_token: Option<PathBuf>,
    /// Whether `/file` is answered.
    pub allow_get: bool,
    /// Whether `/file?name=` is answered all the same: whoever may announce may have the torrent whose name he knows.
    pub get_by_name: bool,
    /// The scrapes that are answered.
    pub scrape: ScrapeAllowed,
    /// Whether clients that want dictionaries are refused.
    pub compact_required: bool,
    /// The peers whose own statement of their address is accepted.
    pub override_ip: OverrideIp,
    /// The proxies that may state a peer's address.
    pub proxies: Ranges,
    /// Whether `/` is answered.
    pub show_infopage: bool,
    /// A URL that `/` redirects to.
    pub infopage_redirect: Option<String>,
    /// Whether names of torrents are shown.
    pub show_names: bool,
    /// The file served as `/favicon.ico`.
    pub favicon: Option<PathBuf>,
    /// The first line of the log.
    pub notice: Option<String>,
    /// Worker threads.
    pub workers: usize,
    /// Most connections kept open, if the system allows as many.
    pub most_connections: usize,
}

impl Config {
    /// Whether no torrent can be tracked, for nothing says which may be.
    pub fn tracks_nothing(&self) -> bool {
        self.rules.closed && self.source.is_none()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    /// The settings of a tracker on loopback of the torrents in `dir`/images, whose other files are in `dir`.
    pub fn config(dir: &Path) -> Config {
        let path = |name: &str| dir.join(name);
        Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            udp: true,
            rules: Rules { reannounce: 60, life: 180, ..Rules::default() },
            source: Some(Source::Directory { path: path("images"), controls: false }),
            rescan: Duration::from_secs(600),
            dfile: path("dstate"),
            save_interval: Duration::from_secs(600),
            logfile: Some(path("log")),
            flush_interval: Duration::ZERO,
            socket_timeout: Duration::from_secs(15),
            allowed_ips: None,
            banned_ips: None,
            hosts: path("hosts"),
            resolv_conf: None,
            publish_token: None,
            allow_get: true,
            get_by_name: true,
            notice: None,
            scrape: ScrapeAllowed::Full,
            compact_required: false,
            override_ip: OverrideIp::Trusted,
            proxies: Ranges::default(),
            show_infopage: true,
            infopage_redirect: None,
            show_names: true,
            favicon: None,
            workers: 2,
            most_connections: 1000,
        }
    }
}
