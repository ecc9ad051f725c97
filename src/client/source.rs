//! Where the torrent of an image comes from: the repository's share, where it is mounted, or its tracker, which gives it
//! by name. An image may be created anew while it is fetched: then the name has another torrent.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::base::percent;
use crate::base::signal::Signals;
use crate::engine::path::names_of_image;
use crate::engine::{Code, Engine, Error, Place, beside};
use crate::storage::Journal;
use crate::torrent::{InfoHash, Metainfo};
use crate::tracker::client::{self as tracker, Client};

/// The port of a lab's tracker.
pub const TRACKER_PORT: u16 = 6969;
/// Longest .torrent accepted from a tracker, bytes: 800 GiB in pieces of 256 KiB.
const MAX_METAINFO: u64 = 64 << 20;
/// Time-out of a tracker's answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for a share to answer once the download runs, which does without it.
const SHARE: Duration = Duration::from_secs(3);
/// Times that a tracker which does not know an image is asked again.
const LOOKS: u32 = 8;
/// Pause between these.
const LOOK: Duration = Duration::from_millis(500);
/// First and longest pause between two looks for another torrent.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A torrent with the bytes of its file.
pub struct Torrent {
    /// The name of the image file that it describes, as scripts write it.
    pub name: String,
    /// The file's content.
    pub bytes: Vec<u8>,
    /// What it says.
    pub metainfo: Metainfo,
}

impl Torrent {
    /// Reads the bytes of a .torrent, which must describe a file called `name`.
    fn parse(bytes: Vec<u8>, name: &str, from: &str) -> Result<Torrent, Error> {
        let metainfo =
            Metainfo::parse(&bytes).map_err(|error| Error::new(Code::NotFound, format!("{from}: {error}")))?;
        ensure_describes(&metainfo, Path::new(name).file_name().unwrap_or_default(), from)?;
        Ok(Torrent { name: name.to_owned(), bytes, metainfo })
    }
}

/// Checks that the .torrent `from` describes a single file named `base`, in any case.
///
/// # Errors
/// [`Code::NotFound`]: it describes another file or a directory.
fn ensure_describes(metainfo: &Metainfo, base: &OsStr, from: &str) -> Result<(), Error> {
    let (what, base) = (metainfo.name.as_str(), base.to_string_lossy());
    let what = if metainfo.multi_file { "a directory" } else { what };
    let why = format!("{from}: describes {what}, not {base}: make a new one with ogCreateTorrent");
    // ogGetPath ignores case.
    if what.to_lowercase() == base.to_lowercase() { Ok(()) } else { Err(Error::new(Code::NotFound, why)) }
}

/// The place of one image's torrent.
#[derive(Clone, Debug)]
pub struct Source {
    /// The names that the image may have, as scripts write them, each with the place where a tracker gives its torrent.
    names: Vec<(String, String)>,
    /// The torrent in this PC's tree, if it is there: that of the first name.
    file: Option<PathBuf>,
    /// Whether the share is mounted, and the image is not there.
    is_missing: bool,
}

impl Source {
    /// The torrent of the image file `name` in the repository at `address`.
    ///
    /// # Errors
    /// See [`Engine::find`].
    pub fn of(engine: &Engine, address: &str, name: &str) -> Result<Source, Error> {
        let is_own = address == engine.repo_address();
        let find = |name: &str| if is_own { engine.find(&Place::Repo, name) } else { Ok(None) };
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let mut names = Vec::new();
        let mut is_missing = is_own && fs::read_dir(engine.env().path("OGIMG")).is_ok_and(|all| all.count() > 0);
        for name in names_of_image(name) {
            let file = find(&format!("{name}.torrent"))?;
            is_missing &= find(&name)?.is_none();
            let mut url = String::new();
            if !address.is_empty() {
                url = format!("http://{host}:{TRACKER_PORT}/file?name=");
                percent::escape(name.trim_start_matches('/').as_bytes(), &mut url);
            }
            if file.is_some() {
                return Ok(Source { names: vec![(name, url)], file, is_missing: false });
            }
            names.push((name, url));
        }
        Ok(Source { names, file: None, is_missing })
    }

    /// The torrent `file` of this PC's tree.
    pub fn file(file: PathBuf) -> Source {
        let name = file.with_extension("").display().to_string();
        Source { names: vec![(name, String::new())], file: Some(file), is_missing: false }
    }

    /// Reads the torrent, or asks the tracker for it.
    ///
    /// # Errors
    /// [`Code::NotFound`]: it is not found, or describes another file.
    pub fn torrent(&self, signals: &Signals) -> Result<Torrent, Error> {
        let (name, url) = &self.names[0];
        let missing = |why: String| {
            let lacking = format!("REPO {name}: the repository has no such image; ");
            Error::new(Code::NotFound, if self.is_missing { lacking + &why } else { why })
        };
        if let Some(path) = &self.file {
            let from = path.display().to_string();
            let bytes = fs::read(path).map_err(|error| missing(format!("{from}: {error}")))?;
            return Torrent::parse(bytes, name, &from);
        }
        if url.is_empty() {
            let why = "not in the repository, and neither ogrepo nor ROOTREPO names the repository's address";
            return Err(missing(format!("REPO {name}.torrent: {why}")));
        }
        match ask(&self.names, signals) {
            Ok((name, url, bytes)) => Torrent::parse(bytes, name, url),
            Err(error) => Err(missing(format!("{url}: {}", refused(error)))),
        }
    }

    /// The torrent that the image `name` has now, if it has one and the share answers in time. A tracker, which may have a
    /// whole room to answer, is asked only with `asks`.
    fn now(&self, name: &str, asks: bool) -> Option<Torrent> {
        let (name, url) = self.names.iter().find(|(other, _)| other == name)?.clone();
        let (send, receive) = mpsc::channel();
        let file = self.file.clone();
        // A thread that hangs in a share which has gone away ends with this process.
        let look = move || {
            let bytes = match file {
                Some(path) => fs::read(path).ok(),
                None if asks && !url.is_empty() => client().fetch(&url, MAX_METAINFO).ok(),
                None => None,
            };
            let _ = send.send(bytes.and_then(|bytes| Torrent::parse(bytes, &name, "").ok()));
        };
        thread::Builder::new().spawn(look).ok()?;
        receive.recv_timeout(if self.file.is_some() { SHARE } else { PATIENCE }).ok().flatten()
    }
}

fn client() -> Client {
    Client::new(concat!("ogbox/", env!("CARGO_PKG_VERSION")), Ipv4Addr::UNSPECIFIED.into(), PATIENCE)
}

/// Asks a tracker for the torrent of the first of `names` that it knows. A new image is unknown to it until it scans its
/// directory again.
fn ask<'a>(names: &'a [(String, String)], signals: &Signals) -> Result<(&'a str, &'a str, Vec<u8>), tracker::Error> {
    let client = client();
    let mut looks = 0..LOOKS;
    loop {
        let mut last = None;
        for (name, url) in names {
            match client.fetch(url, MAX_METAINFO) {
                Ok(bytes) => return Ok((name, url, bytes)),
                Err(error @ tracker::Error::Status { code: 404, .. }) => last = last.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match last {
            Some(error) if looks.next().is_none() || !signals.sleep(LOOK) => return Err(error),
            _ => {}
        }
    }
}

/// The reason why a tracker sent no .torrent, and the remedy.
fn refused(error: tracker::Error) -> String {
    match error {
        tracker::Error::Status { code: 400, .. } => {
            "the tracker does not send torrents by name: ogbox's bttrack does with --allow_get 1".to_owned()
        }
        tracker::Error::Status { code: 404, .. } => "the tracker knows no image of this name".to_owned(),
        error => error.to_string(),
    }
}

/// Looks for another torrent of the same name while one is fetched.
pub struct Renewal {
    source: Source,
    /// The torrent that is fetched.
    hash: InfoHash,
    name: String,
    /// The other one, once it was found.
    pub found: Option<Torrent>,
    /// Whether the tracker refused the torrent at last.
    refused: bool,
    next: Instant,
    pause: Duration,
}

impl Renewal {
    /// Looks for another torrent of the name of `wanted`.
    pub fn of(source: &Source, wanted: &Torrent) -> Renewal {
        let next = Instant::now() + PAUSES.0;
        let (hash, name) = (wanted.metainfo.info_hash, wanted.name.clone());
        Renewal { source: source.clone(), hash, name, found: None, refused: false, next, pause: PAUSES.0 }
    }

    /// Whether another torrent was found. Looks only while it is `doubtful` whether anybody has what is fetched, and
    /// ever less often; asks the tracker only if it `refused` the torrent.
    pub fn look(&mut self, refused: bool, doubtful: bool) -> bool {
        self.refused = refused;
        if !doubtful {
            self.pause = PAUSES.0;
        }
        if !doubtful || Instant::now() < self.next {
            return false;
        }
        self.find(refused);
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
        self.found.is_some()
    }

    /// Whether there is another torrent at the end of the download, which may have ended with nobody in doubt.
    pub fn look_at_end(&mut self) -> bool {
        self.find(self.refused);
        self.found.is_some()
    }

    fn find(&mut self, asks: bool) {
        let other = self.source.now(&self.name, asks);
        self.found = other.filter(|torrent| torrent.metainfo.info_hash != self.hash);
    }
}

/// Lets the download of `wanted` begin with what `data` has of another torrent: all of it will be hashed, and the pieces
/// that are equal are kept. `bitfield` is ctorrent's file.
///
/// # Errors
/// A file cannot be removed, or `data` not be given its new length.
pub fn carry_over(data: &Path, bitfield: &Path, wanted: &Metainfo) -> io::Result<()> {
    beside::remove(&beside::with(data, Journal::END)).and_then(|()| beside::remove(bitfield))?;
    match fs::File::options().write(true).open(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        file => file?.set_len(wanted.geometry.length()),
    }
}
