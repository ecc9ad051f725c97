//! How a tracker is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::allowed::Source;
use super::store::Rules;

/// Which scrapes are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeAllowed {
    /// None.
    None,
    /// Those that name their torrents.
    Specific,
    /// All.
    Full,
}

/// Whose word on its own address is taken (`ip=`, X-Forwarded-For).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideIp {
    /// Everybody's.
    Everybody,
    /// That of machines on local networks; proxies are not believed.
    Local,
}

/// How a tracker is set up. Times of the namesake's options are in seconds there.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, TCP and, if [`udp`](Self::udp), UDP.
    pub listen: Vec<SocketAddr>,
    /// UDP is answered on the same port.
    pub udp: bool,
    /// How announces are answered.
    pub rules: Rules,
    /// What may be tracked; None: see [`Rules::closed`].
    pub source: Option<Source>,
    /// Time between two looks at the source and the IP lists at most.
    pub rescan: Duration,
    /// The state file.
    pub dfile: PathBuf,
    /// Time between two saves of it.
    pub save_interval: Duration,
    /// The log; None: standard output.
    pub logfile: Option<PathBuf>,
    /// Time between two writes of the log at most.
    pub flush_interval: Duration,
    /// Time within which a request must be whole, and an idle connection is closed.
    pub socket_timeout: Duration,
    /// Who may ask; None: everybody.
    pub allowed_ips: Option<PathBuf>,
    /// Who may not ask.
    pub banned_ips: Option<PathBuf>,
    /// The names of addresses (hosts(5)).
    pub hosts: PathBuf,
    /// Who is asked for the names of others (resolv.conf(5)); None: nobody.
    pub resolv_conf: Option<PathBuf>,
    /// The file with the token that lets its bearer publish torrents; None: nobody may.
    pub publish_token: Option<PathBuf>,
    /// `/file` is answered.
    pub allow_get: bool,
    /// Which scrapes are answered.
    pub scrape: ScrapeAllowed,
    /// Clients that want dictionaries are refused.
    pub compact_required: bool,
    /// Whose word on its own address is taken.
    pub override_ip: OverrideIp,
    /// `/` is answered.
    pub show_infopage: bool,
    /// `/` sends readers here instead.
    pub infopage_redirect: Option<String>,
    /// Names of torrents are shown.
    pub show_names: bool,
    /// The file served as `/favicon.ico`.
    pub favicon: Option<PathBuf>,
    /// Threads that answer.
    pub workers: usize,
    /// Connections kept open at most, if the system allows as many.
    pub most_connections: usize,
}
