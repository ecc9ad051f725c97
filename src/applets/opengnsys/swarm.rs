//! What the torrents' functions and the scripts share: our own ctorrent, tracker and seeder as child processes,
//! sessions (`peer:60`), and bringing an image to the cache through the swarm.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::applets::Io;
use crate::engine::{Code, Engine, Error, Place, Targets, beside, space};
use crate::sys::signal::Signals;
use crate::torrent::Metainfo;
use crate::tracker::client::{self as tracker, Client};

/// The port of a lab's tracker.
const TRACKER_PORT: u16 = 6969;
/// Bytes of the longest .torrent that a tracker is believed: pieces of 256 KiB of an image of 800 GiB.
const MAX_METAINFO: u64 = 64 << 20;
/// How long a tracker may take to answer, and to begin to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often, and with which pause, a tracker that does not know an image is asked again.
const LOOKS: u32 = 8;
/// See [`LOOKS`].
const LOOK: Duration = Duration::from_millis(500);
/// What ctorrent says once everything is there, downloaded now or before.
const WHOLE: &str = "Seed for others";

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
/// at the end. A signal that ends this process is passed on.
///
/// # Errors
/// [`Code::NotExec`]: it does not start.
pub fn ctorrent(engine: &Engine, signals: &Signals, command: &mut Command, io: &mut Io) -> Result<bool, Error> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| unstarted("ctorrent", &error))?;
    let output = child.stdout.take();
    let (whole, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                if !signals.sleep(Duration::from_millis(50)) {
                    return end(&child);
                }
            }
        });
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok)) {
            if line.starts_with(WHOLE) {
                whole.store(true, Ordering::Relaxed);
            }
            engine.say(io.out, Targets { command: true, ..Targets::NONE }, &line);
        }
        ended.store(true, Ordering::Relaxed);
    });
    let succeeded = child.wait().is_ok_and(|status| status.success());
    Ok(succeeded && whole.into_inner())
}

/// Asks a child to end in order.
fn end(child: &Child) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_child(child), Signal::INT);
}

/// A seeder in the background, ended when it is dropped.
pub struct Seeding(Child);

impl Seeding {
    /// Seeds `image`, which was verified, by the torrent beside it.
    ///
    /// # Errors
    /// [`Code::NotExec`]: it does not start.
    pub fn start(image: &Path) -> Result<Seeding, Error> {
        let mut command = applet("ctorrent");
        command.arg("-f").arg("-s").arg(image).arg(beside::with(image, ".torrent"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Seeding).map_err(|error| unstarted("ctorrent", &error))
    }
}

impl Drop for Seeding {
    fn drop(&mut self) {
        end(&self.0);
        let _ = self.0.wait();
    }
}

/// Makes `IMAGE.torrent`, announced at the tracker of `tracker`; an older one becomes `IMAGE.torrent.ant`.
///
/// # Errors
/// [`Code::NotWrite`]: it cannot be made.
pub fn describe(engine: &Engine, signals: &Signals, image: &Path, tracker: &str, io: &mut Io) -> Result<(), Error> {
    let (torrent, new) = (beside::with(image, ".torrent"), beside::with(image, ".torrent.new"));
    let failed = |why: String| Error::new(Code::NotWrite, format!("make {}: {why}", torrent.display()));
    let gone = |error: std::io::Error| failed(error.to_string());
    beside::remove(&new).map_err(gone)?;
    let (directory, base) = (image.parent().unwrap_or(Path::new("/")), image.file_name().unwrap_or_default());
    let url = format!("http://{tracker}:{TRACKER_PORT}/announce");
    let mut command = applet("ctorrent");
    command.current_dir(directory).arg("-t").arg(base).args(["-u", &url, "-s"]).arg(&new);
    if fs::metadata(image).is_ok_and(|image| image.len() > 16 << 30) {
        command.args(["-l", "4194304"]);
    }
    engine.say(io.out, Targets::NONE, &format!("ctorrent -t {} -u {url} -s {}", base.display(), torrent.display()));
    ctorrent(engine, signals, &mut command, io)?;
    if !new.is_file() {
        return Err(failed("ctorrent says why".to_owned()));
    }
    if torrent.exists() {
        fs::rename(&torrent, beside::with(&torrent, ".ant")).map_err(gone)?;
    }
    fs::rename(&new, &torrent).map_err(gone)
}

/// The repository's address: ogrepo of the kernel's command line, else ROOTREPO.
pub fn repo_address(engine: &Engine) -> &str {
    match engine.env().get("ogrepo") {
        "" => engine.env().get("ROOTREPO"),
        address => address,
    }
}

/// Reads `REPO`, `CACHE` or an address; this PC's own is its cache. Gives the address to fetch from, too.
///
/// # Errors
/// [`Code::Format`]: it is none of them.
pub fn repository<'a>(engine: &'a Engine, word: &'a str) -> Result<(Place, &'a str), Error> {
    if word.parse::<IpAddr>().is_err() {
        return Ok((engine.named_place(word)?, repo_address(engine)));
    }
    let is_repo = word == repo_address(engine);
    Ok((if engine.is_own_address(word) && !is_repo { Place::Cache } else { Place::Repo }, word))
}

/// The .torrent of the image file `name`: from the repository where it is mounted, else from the tracker at `address`.
fn metainfo(engine: &Engine, signals: &Signals, address: &str, name: &str) -> Result<(Vec<u8>, Metainfo), Error> {
    let shared = match address == repo_address(engine) {
        true => engine.find(&Place::Repo, &format!("{name}.torrent"))?,
        false => None,
    };
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    let (from, bytes) = match shared {
        Some(path) => (path.display().to_string(), fs::read(&path).map_err(|error| error.to_string())),
        None if address.is_empty() => {
            let why = format!("REPO {name}.torrent: not in {}, and ", engine.env().path("OGIMG").display());
            return Err(Error::new(Code::NotFound, why + "neither ogrepo nor ROOTREPO names the repository's address"));
        }
        None => {
            let escaped: String = base.bytes().map(escape).collect();
            let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let url = format!("http://{host}:{TRACKER_PORT}/file?name={escaped}");
            let client =
                Client::new(concat!("ogbox/", env!("CARGO_PKG_VERSION")), Ipv4Addr::UNSPECIFIED.into(), PATIENCE);
            // An image that was just made is unknown for the moment until the tracker looks at its directory.
            let mut got = client.fetch(&url, MAX_METAINFO);
            for _ in 0..LOOKS {
                if !matches!(got, Err(tracker::Error::Status { code: 404, .. })) || !signals.sleep(LOOK) {
                    break;
                }
                got = client.fetch(&url, MAX_METAINFO);
            }
            let got = got.map_err(|error| error.to_string());
            (url, got)
        }
    };
    let wrong = |why: String| Error::new(Code::NotFound, format!("{from}: {why}"));
    let bytes = bytes.map_err(wrong)?;
    let metainfo = Metainfo::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
    if metainfo.multi_file || metainfo.name != base {
        return Err(wrong(format!("describes {}, not {base}", metainfo.name)));
    }
    Ok((bytes, metainfo))
}

fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}

/// Whether `image` is whole and what `wanted` describes: it was fetched by the same torrent and not changed since.
fn is_current(image: &Path, wanted: &Metainfo) -> bool {
    let torrent = beside::with(image, ".torrent");
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let unchanged = changed(image).ok().zip(changed(&torrent).ok()).is_some_and(|(image, torrent)| image <= torrent);
    unchanged
        && image.metadata().is_ok_and(|image| image.len() == wanted.geometry.length())
        && !beside::with(image, ".torrent.bf").exists()
        && Metainfo::read(&torrent).is_ok_and(|ours| ours.info_hash == wanted.info_hash)
}

/// Brings the image file `name` of the repository at `address` to the cache through the swarm, unless the cache has it;
/// gives where it is. Until it is whole it is `X.img.part`, from which a download that broke off goes on.
///
/// # Errors
/// [`Code::NotCache`], [`Code::CacheSize`]; [`Code::NotFound`]: nobody has its torrent. [`Code::UpdateCache`]: the
/// download broke off.
pub fn fetch(
    engine: &Engine,
    signals: &Signals,
    (address, name): (&str, &str),
    session: Session,
    io: &mut Io,
) -> Result<PathBuf, Error> {
    let directory = engine.directory(&Place::Cache)?;
    let (bytes, wanted) = metainfo(engine, signals, address, name)?;
    let relative = crate::engine::env::relative(name)
        .ok_or_else(|| Error::new(Code::Format, format!("{name} leads out of the cache")))?;
    let image = engine.find(&Place::Cache, name)?.unwrap_or_else(|| directory.join(relative));
    if is_current(&image, &wanted) {
        engine.say(io.out, Targets::NONE, "FALSE (1), No es neceario actualizar. Paso5.A la imagen esta en cache");
        return Ok(image);
    }
    engine.say(io.out, Targets::NONE, "TRUE (0), Si es necesario actualizar.");
    let unwritten = |error: std::io::Error| Error::new(Code::NotWrite, format!("{}: {error}", image.display()));
    fs::create_dir_all(image.parent().unwrap_or(&directory)).map_err(unwritten)?;
    let part = beside::with(&image, ".part");
    let (new, bitfield) = (beside::with(&part, ".torrent.new"), beside::with(&image, ".torrent.bfog"));
    let journal = beside::with(&part, ".journal");
    let goes_on = Metainfo::read(&new).is_ok_and(|begun| begun.info_hash == wanted.info_hash);
    if !goes_on {
        [&part, &journal, &bitfield].into_iter().try_for_each(|path| beside::remove(path)).map_err(unwritten)?;
    }
    make_room(engine, &image, wanted.geometry.length().div_ceil(1024).saturating_sub(space::allocated_kib(&part)), io)?;
    write_whole(&new, &bytes).map_err(unwritten)?;
    let mut command = applet("ctorrent");
    command.args(["--leave", "0", "-C", "64"]);
    if !session.uploads {
        command.arg("--leech");
    }
    command.arg("-s").arg(&part).arg("-b").arg(&bitfield).arg(&new);
    if !ctorrent(engine, signals, &mut command, io)? {
        let why = format!("the download of {name} broke off; called again, it goes on from {}", part.display());
        return Err(Error::new(Code::UpdateCache, why));
    }
    beside::remove_derived(&image).map_err(unwritten)?;
    fs::rename(&part, &image).map_err(unwritten)?;
    // After the image: it is current for as long as its torrent is no older.
    write_whole(&beside::with(&image, ".torrent"), &bytes).map_err(unwritten)?;
    [&new, &journal].into_iter().try_for_each(|path| beside::remove(path)).map_err(unwritten)?;
    Ok(image)
}

/// Writes a file so that its name always has whole contents.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = beside::with(path, ".tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Sees that the cache has `wanted` KiB free for `image`: the image of that name that is there goes first, then, if
/// ACTIONCACHEFULL is DELETE, all that the cache holds.
///
/// # Errors
/// [`Code::CacheSize`]: it has not.
pub fn make_room(engine: &Engine, image: &Path, wanted: u64, io: &mut Io) -> Result<(), Error> {
    let directory = image.parent().unwrap_or(Path::new("/"));
    let gone = |error: std::io::Error| Error::new(Code::NotWrite, format!("empty the cache: {error}"));
    if wanted <= space::free_kib(directory)? {
        return Ok(());
    }
    engine.say(io.out, Targets::LOG_SESSION, &engine.text("MSG_SCRIPTS_UPDATECACHE_IFNOTCACHEDO"));
    if wanted <= space::free_kib(directory)?.saturating_add(space::allocated_kib(image)) && image.exists() {
        engine.say(io.out, Targets::NONE, "imagen en cache distinta,  borramos la imagen anterior");
        beside::remove(image).and_then(|()| beside::remove_derived(image)).map_err(gone)?;
    } else if engine.env().get("ACTIONCACHEFULL").eq_ignore_ascii_case("DELETE") {
        for entry in fs::read_dir(engine.directory(&Place::Cache)?).map_err(gone)?.flatten() {
            let path = entry.path();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(gone)?;
        }
        fs::create_dir_all(directory).map_err(gone)?;
    }
    let free = space::free_kib(directory)?;
    let why = format!("CACHE FULL, NO SPACE FREE: {wanted} KB wanted, {free} free");
    engine.ensure(wanted <= free, Code::CacheSize, why)
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
