//! Shared by the torrent functions and the scripts: sessions (`peer:60`), and our own ctorrent, tracker and seeder as
//! child processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::applets::Io;
use crate::base::whole;
use crate::engine::checksum::Sum;
use crate::engine::{Code, Engine, Error, Targets, beside, space};
use crate::storage::Journal;
use crate::sys::signal::Signals;

/// The port of a lab's tracker.
pub const TRACKER_PORT: u16 = 6969;
/// Time without progress after which a download is given up, unless `OGBOX_STALL` sets another: a server that starts
/// hashes its images first.
const STALL: Duration = Duration::from_secs(900);
/// Line of ctorrent once the data is complete, downloaded now or before.
const WHOLE: &str = "Seed for others";
/// Line of ctorrent that precedes the name of a torrent it has made.
const MADE: &str = "Create metainfo file ";

/// `mode:seconds`, an argument of ogTorrentStart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whether to upload: leechers do not.
    pub uploads: bool,
    /// Whether to seed even if there is nothing to download.
    pub seeder: bool,
    /// Seconds to seed for after the download.
    pub seconds: u64,
}

impl Session {
    /// Parses a session.
    ///
    /// # Errors
    /// [`Code::Format`]: `text` is not a session.
    pub fn parse(text: &str) -> Result<Session, Error> {
        let wrong =
            || Error::new(Code::Format, format!("{text}: a session is peer|seeder|leecher:seconds, such as peer:60"));
        let (mode, seconds) = text.split_once(':').ok_or_else(wrong)?;
        let (uploads, seeder) = match mode {
            "peer" | "PEER" => (true, false),
            "seeder" | "SEEDER" => (true, true),
            "leecher" | "LEECHER" => (false, false),
            _ => return Err(wrong()),
        };
        let digits = (1..=10).contains(&seconds.len()) && seconds.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = seconds.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        Ok(Session { uploads, seeder, seconds })
    }
}

/// A command that runs one of our own applets as a process of its name.
pub fn applet(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).stdin(Stdio::null());
    command
}

/// A ctorrent command that ends with this process, so that a killed script leaves none behind for the next to meet.
pub fn client() -> Command {
    let mut command = applet("ctorrent");
    command.arg("--attached");
    command
}

/// The error for a child that could not be started.
fn unstarted(name: &str, error: &std::io::Error) -> Error {
    Error::new(Code::NotExec, format!("start {name}: {error}"))
}

/// Starts an applet in the background.
///
/// # Errors
/// [`Code::NotExec`]: it cannot be started.
pub fn start_daemon(name: &str, command: &mut Command) -> Result<Child, Error> {
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| unstarted(name, &error))
}

/// Catches the signals that end a command.
///
/// # Errors
/// [`Code::Generic`]: they cannot be caught.
pub fn catch_signals() -> Result<Signals, Error> {
    let uncaught = |error| Error::new(Code::Generic, format!("catch signals: {error}"));
    let signals = Signals::catch_ends().map_err(uncaught)?;
    signals.catch_hangup_as_end().map_err(uncaught)?;
    Ok(signals)
}

/// Runs ctorrent to its end with its lines on standard output and in the command's log; returns whether the data is
/// complete. ctorrent is interrupted if this process is to end, or once `data` has not grown for too long.
///
/// # Errors
/// [`Code::NotExec`]: it cannot be started.
pub fn ctorrent(
    engine: &Engine,
    signals: &Signals,
    command: &mut Command,
    data: Option<&Path>,
    io: &mut Io,
) -> Result<bool, Error> {
    let mut running = Running::start(command)?;
    let whole = running.follow(engine, signals, data, false, io);
    Ok(running.child.wait().is_ok_and(|status| status.success()) && whole)
}

/// Runs ctorrent as [`ctorrent`] does until the data is complete and returns it as a seeder; `None` if it ended before.
///
/// # Errors
/// [`Code::NotExec`]: it cannot be started.
pub fn fetch_and_seed(
    engine: &Engine,
    signals: &Signals,
    command: &mut Command,
    data: &Path,
    io: &mut Io,
) -> Result<Option<Seeding>, Error> {
    let mut running = Running::start(command)?;
    if running.follow(engine, signals, Some(data), true, io) {
        return Ok(Some(Seeding::go_on(running, beside::with(data, Journal::END))));
    }
    // It has printed the reason.
    let _ = running.child.wait();
    Ok(None)
}

/// A running ctorrent whose output is read.
struct Running {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Running, Error> {
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| unstarted("ctorrent", &error))?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Running { child, output })
    }

    /// Prints ctorrent's lines to its end, or with `until_whole` to the line that reports completion; returns whether
    /// that line came.
    fn follow(
        &mut self,
        engine: &Engine,
        signals: &Signals,
        data: Option<&Path>,
        until_whole: bool,
        io: &mut Io,
    ) -> bool {
        let Running { child, output } = self;
        let patience = engine.env().get("OGBOX_STALL").parse().map_or(STALL, Duration::from_secs);
        let ended = AtomicBool::new(false);
        let mut whole = false;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut size, mut grown) = (0, Instant::now());
                while !ended.load(Ordering::Relaxed) {
                    let now = data.map_or(0, space::allocated_kib);
                    if data.is_none() || now != size {
                        (size, grown) = (now, Instant::now());
                    }
                    if grown.elapsed() > patience || !signals.sleep(Duration::from_millis(50)) {
                        return end(child);
                    }
                }
            });
            for line in output.iter_mut().flat_map(|output| output.lines().map_while(Result::ok)) {
                whole |= line.starts_with(WHOLE) || line.starts_with(MADE);
                engine.say(io.out, Targets { command: true, ..Targets::NONE }, &line);
                if whole && until_whole {
                    break;
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        whole
    }
}

/// Asks a child to end in an orderly way.
fn end(child: &Child) {
    // It may have ended already.
    let _ = kill_process(Pid::from_child(child), Signal::INT);
}

/// A seeder in the background; ends when dropped.
pub struct Seeding {
    child: Child,
    /// The download's journal, to be removed at the end.
    journal: Option<PathBuf>,
}

impl Seeding {
    /// Seeds `image`, already verified, by the torrent beside it.
    ///
    /// # Errors
    /// [`Code::NotExec`]: it cannot be started.
    pub fn start(image: &Path) -> Result<Seeding, Error> {
        let mut command = client();
        command.args(["-f", "-s"]).arg(image).arg(beside::with(image, ".torrent"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| unstarted("ctorrent", &error))?;
        Ok(Seeding { child, journal: None })
    }

    /// Takes over a ctorrent that has completed its download and keeps its peers.
    fn go_on(running: Running, journal: PathBuf) -> Seeding {
        // A full or closed pipe would stop it, so its lines are read and discarded.
        std::thread::spawn(|| running.output.map(|mut output| std::io::copy(&mut output, &mut std::io::sink())));
        Seeding { child: running.child, journal: Some(journal) }
    }
}

impl Drop for Seeding {
    fn drop(&mut self) {
        end(&self.child);
        let _ = self.child.wait();
        // A journal that stays is removed by the next download of this image.
        let _ = self.journal.as_deref().map(beside::remove);
    }
}

/// Makes `IMAGE.torrent` for the tracker on the host `tracker`; an old one becomes `IMAGE.torrent.ant`.
///
/// # Errors
/// [`Code::NotWrite`]: it cannot be made.
pub fn describe(engine: &Engine, signals: &Signals, image: &Path, tracker: &str, io: &mut Io) -> Result<(), Error> {
    let torrent = beside::with(image, ".torrent");
    let failed = |why: String| Error::new(Code::NotWrite, format!("make {}: {why}", torrent.display()));
    let gone = |error: std::io::Error| failed(error.to_string());
    let before = match fs::read(&torrent) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        read => Some(read.map_err(gone)?),
    };
    let (directory, base) = (image.parent().unwrap_or(Path::new("/")), image.file_name().unwrap_or_default());
    let url = format!("http://{tracker}:{TRACKER_PORT}/announce");
    let mut command = applet("ctorrent");
    command.current_dir(directory).args(["-t", "--force", "-u", &url, "-s"]).arg(&torrent);
    if fs::metadata(image).is_ok_and(|image| image.len() > 16 << 30) {
        command.args(["-l", "4194304"]);
    }
    if let Some(sum) = Sum::Full.current(image) {
        command.args(["-c", &sum]);
    }
    command.arg("--").arg(base);
    engine.say(io.out, Targets::NONE, &format!("ctorrent -t {} -u {url} -s {}", base.display(), torrent.display()));
    if !ctorrent(engine, signals, &mut command, None, io)? {
        return Err(failed("ctorrent failed, see above".to_owned()));
    }
    before.map_or(Ok(()), |before| whole::write(&beside::with(&torrent, ".ant"), before)).map_err(gone)
}

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
    let mut command = applet("bttrack");
    command.args(["--port", &TRACKER_PORT.to_string(), "--allow_get", "1", "--reannounce_interval", "30", "--dfile"]);
    command.arg(engine.env().rooted("/tmp/dstate")).arg("--allowed_dir").arg(directory);
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
