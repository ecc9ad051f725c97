//! What the torrents' functions and the scripts share: our own ctorrent, tracker and seeder as child processes, and
//! sessions (`peer:60`).

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
/// How long a download may bring nothing before it is given up, unless OGBOX_STALL says it: a server that begins hashes
/// its images first.
const STALL: Duration = Duration::from_secs(900);
/// What ctorrent says once everything is there, downloaded now or before.
const WHOLE: &str = "Seed for others";
/// What it says before the name of a torrent that it has made.
const MADE: &str = "Create metainfo file ";

/// `mode:seconds`, as ogTorrentStart takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whether it uploads: leechers do not.
    pub uploads: bool,
    /// Whether it seeds also when there is nothing to download.
    pub seeder: bool,
    /// Seconds to seed for once all is done.
    pub seconds: u64,
}

impl Session {
    /// Reads a session.
    ///
    /// # Errors
    /// [`Code::Format`]: it is none.
    pub fn parse(text: &str) -> Result<Session, Error> {
        let wrong =
            || Error::new(Code::Format, format!("{text}: a session is peer|seeder|leecher:seconds, as peer:60"));
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

/// One of our own applets, ready to be started as a process of its name.
pub fn applet(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).stdin(Stdio::null());
    command
}

/// ctorrent to download or seed with for as long as this process runs: a second command must not find one at work that
/// the first, killed, has left.
pub fn client() -> Command {
    let mut command = applet("ctorrent");
    command.arg("--attached");
    command
}

/// An error of a child that could not be started.
fn unstarted(name: &str, error: &std::io::Error) -> Error {
    Error::new(Code::NotExec, format!("start {name}: {error}"))
}

/// Starts an applet that goes on in the background.
///
/// # Errors
/// [`Code::NotExec`]: it does not start.
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

/// Runs ctorrent to its end, its lines on standard output and in the command's log; tells whether everything was there
/// at the end. A signal that ends this process is passed on; so is an end once `data` has not grown for too long.
///
/// # Errors
/// [`Code::NotExec`]: it does not start.
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

/// Runs ctorrent as [`ctorrent`] does until everything is there, and gives the seeder that it is from then on; none when
/// it ended before.
///
/// # Errors
/// [`Code::NotExec`]: it does not start.
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
    // It has said why.
    let _ = running.child.wait();
    Ok(None)
}

/// A ctorrent whose lines are read.
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

    /// Tells its lines to the last one, or `until_whole` to the one that says that everything is there; whether that
    /// one came.
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

/// Asks a child to end in order.
fn end(child: &Child) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_child(child), Signal::INT);
}

/// A seeder in the background, ended when it is dropped.
pub struct Seeding {
    child: Child,
    /// What it may leave behind, and nobody will need.
    journal: Option<PathBuf>,
}

impl Seeding {
    /// Seeds `image`, which was verified, by the torrent beside it.
    ///
    /// # Errors
    /// [`Code::NotExec`]: it does not start.
    pub fn start(image: &Path) -> Result<Seeding, Error> {
        let mut command = client();
        command.args(["-f", "-s"]).arg(image).arg(beside::with(image, ".torrent"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| unstarted("ctorrent", &error))?;
        Ok(Seeding { child, journal: None })
    }

    /// Who has just fetched everything, and goes on with the peers that it has.
    fn go_on(running: Running, journal: PathBuf) -> Seeding {
        // Lines that nobody reads would stop it, and so would their reader's end.
        std::thread::spawn(|| running.output.map(|mut output| std::io::copy(&mut output, &mut std::io::sink())));
        Seeding { child: running.child, journal: Some(journal) }
    }
}

impl Drop for Seeding {
    fn drop(&mut self) {
        end(&self.child);
        let _ = self.child.wait();
        // The next download of this image removes it, too.
        let _ = self.journal.as_deref().map(beside::remove);
    }
}

/// Makes `IMAGE.torrent`, announced at the tracker of `tracker`; an older one becomes `IMAGE.torrent.ant`.
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
        return Err(failed("ctorrent says why".to_owned()));
    }
    before.map_or(Ok(()), |before| whole::write(&beside::with(&torrent, ".ant"), before)).map_err(gone)
}

/// Starts a tracker for the torrents in `directory`, unless one listens here; true when it did.
///
/// # Errors
/// [`Code::NotExec`]: it does not begin to listen.
pub fn start_tracker(engine: &Engine, signals: &Signals, directory: &Path) -> Result<bool, Error> {
    let at = SocketAddr::new(engine.address().parse().unwrap_or(Ipv4Addr::LOCALHOST.into()), TRACKER_PORT);
    let listens = || TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok();
    if listens() {
        return Ok(false);
    }
    let mut command = applet("bttrack");
    command.args(["--port", &TRACKER_PORT.to_string(), "--allow_get", "1", "--reannounce_interval", "30", "--dfile"]);
    command.arg(engine.env().rooted("/tmp/dstate")).arg("--allowed_dir").arg(directory);
    // On an address that is made up for this PC, only there: others may have the rest.
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

/// Starts a seeder of `directory`, unless one of it runs.
///
/// # Errors
/// [`Code::NotExec`]: it does not start.
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
