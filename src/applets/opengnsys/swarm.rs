//! Shared by the torrent functions and the scripts: sessions (`peer:60`), describing and verifying an image.

use std::fs;
use std::path::Path;

use crate::applets::Io;
use crate::base::progress::{Progress, Style};
use crate::base::signal::Signals;
use crate::base::{shell, time, whole};
use crate::client::source::TRACKER_PORT;
use crate::engine::checksum::Sum;
use crate::engine::{Code, Engine, Error, Targets, beside};
use crate::storage::{Storage, check_some};
use crate::sys::cpus;
use crate::torrent::Metainfo;
use crate::torrent::create::{self, Options, Source};

/// Bytes of an image above which pieces of 256 KiB would make more metainfo than ctorrent reads.
const LARGE: u64 = 16 << 30;

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

/// Makes `IMAGE.torrent` for the tracker on the host `tracker`; an old one becomes `IMAGE.torrent.ant`.
///
/// # Errors
/// [`Code::NotWrite`]: it cannot be made.
pub fn describe(engine: &Engine, signals: &Signals, image: &Path, tracker: &str, io: &mut Io) -> Result<(), Error> {
    let torrent = beside::with(image, ".torrent");
    let failed = |why: &dyn std::fmt::Display| Error::new(Code::NotWrite, format!("make {}: {why}", torrent.display()));
    let before = match fs::read(&torrent) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        read => Some(read.map_err(|error| failed(&error))?),
    };
    let url = format!("http://{tracker}:{TRACKER_PORT}/announce");
    let (base, to) = (image.file_name().unwrap_or_default().to_string_lossy(), torrent.to_string_lossy());
    let [base, from, to] = [&*base, &url, &to].map(shell::word);
    engine.say(io.out, Targets::NONE, &format!("ctorrent -t {base} -u {from} -s {to}"));
    let made = Source::open(image).and_then(|source| {
        let options = Options {
            announce: vec![vec![url]],
            piece_length: Some(if source.length() > LARGE { 4 << 20 } else { 256 << 10 }),
            comment: Sum::Full.current(image),
            created_by: Some(concat!("ogbox/", env!("CARGO_PKG_VERSION")).to_owned()),
            creation_date: Some(time::unix_seconds()),
            ..Options::default()
        };
        let progress = Progress::start("hash", source.length(), Style::Auto);
        let stop = || signals.ending();
        let bytes = source.describe(&options, cpus::count(), &stop, &|bytes| progress.advance(bytes))?;
        create::write(&torrent, &bytes, true)
    });
    made.map_err(|error| failed(&error))?;
    let line = format!("Create metainfo file {} successful.", torrent.display());
    engine.say(io.out, Targets { command: true, ..Targets::NONE }, &line);
    let kept = before.map_or(Ok(()), |before| whole::write(&beside::with(&torrent, ".ant"), before));
    kept.map_err(|error| failed(&error))
}

/// Whether `image` matches `metainfo` in every piece.
pub fn is_whole(signals: &Signals, image: &Path, metainfo: &Metainfo) -> bool {
    let mut pieces = (0..metainfo.geometry.pieces()).take_while(|_| !signals.ending());
    let have = |storage: Storage| check_some(&storage, metainfo, &mut pieces, cpus::count(), &|_| {});
    image.exists() && Storage::open(metainfo, image).map(have).is_ok_and(|have| have.is_full())
}
