//! Our own tracker and seeder in the background, for what a PC has in its cache.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::child::{applet, start_daemon};
use super::source::TRACKER_PORT;
use crate::base::signal::Signals;
use crate::engine::{Code, Engine, Error};

/// Starts a tracker for the torrents in `directory`, unless one is listening here; returns whether it did.
///
/// # Errors
/// [`Code::NotExec`]: the tracker does not start to listen.
pub fn start_tracker(engine: &Engine, signals: &Signals, directory: &Path) -> Result<bool, Error> {
    let at = SocketAddr::new(engine.address().parse().unwrap_or(Ipv4Addr::LOCALHOST.into()), TRACKER_PORT);
    let listens = || TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok();
    if listens() {
        return Ok(false);
    }
    let state = engine.env().rooted("/var/lib/ogbox");
    fs::create_dir_all(&state).map_err(|error| Error::new(Code::NotExec, format!("{}: {error}", state.display())))?;
    let mut command = applet("bttrack");
    command.args(["--port", &TRACKER_PORT.to_string(), "--allow_get", "1", "--reannounce_interval", "30", "--dfile"]);
    command.arg(state.join("dstate")).arg("--allowed_dir").arg(directory);
    // A loopback address belongs to one simulated PC; others on this machine use the rest.
    if at.ip().is_loopback() {
        command.args(["--bind", &at.ip().to_string()]);
    }
    let mut child = start_daemon("bttrack", &mut command)?;
    while !listens() {
        if !signals.sleep(Duration::from_millis(50)) || !matches!(child.try_wait(), Ok(None)) {
            return Err(Error::new(Code::NotExec, format!("bttrack does not listen on {at}")));
        }
    }
    Ok(true)
}

/// Starts a seeder for `directory`, unless one is running.
///
/// # Errors
/// [`Code::NotExec`]: it cannot be started.
pub fn start_seeder(directory: &Path) -> Result<(), Error> {
    let words = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    let seeds = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == 0);
        let is_seeder = words.next().is_some_and(|name| name.ends_with(b"btlaunchmany"));
        is_seeder && words.any(|word| word == directory.as_os_str().as_bytes())
    };
    if !fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| seeds(&words(entry))) {
        start_daemon("btlaunchmany", applet("btlaunchmany").arg(directory))?;
    }
    Ok(())
}
