//! What the client says of its progress: the namesake's line, redrawn on a terminal, or with `--json` one object a
//! line. Nothing of the terminal is changed but the current line, so whatever ends us there is nothing to restore.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use nanoserde::SerJson;

use crate::applets::Io;
use crate::applets::announcing::Told;
use crate::peer::Status;

/// Pause between two lines: on a terminal and in JSON, and elsewhere.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Tells progress.
pub struct Teller<'a> {
    /// Where JSON goes, when that is wanted.
    json: Option<&'a mut (dyn Write + Send)>,
    terminal: bool,
    begin: Instant,
    last: Option<Instant>,
    lines: usize,
    pieces: u32,
}

/// The object that `--json` prints.
#[derive(Debug, Default, SerJson)]
struct Object {
    /// check, fetch, seed or end.
    state: String,
    /// Seconds since the beginning.
    seconds: u64,
    /// Verified pieces, and all.
    have: u32,
    pieces: u32,
    /// Bytes missing.
    left: u64,
    /// Bytes since the beginning.
    downloaded: u64,
    uploaded: u64,
    /// Bytes a second.
    down: u64,
    up: u64,
    /// Connected peers: those with everything, and the others.
    seeds: usize,
    leechers: usize,
    /// The same as the tracker has them.
    tracker_seeds: Option<u32>,
    tracker_leechers: Option<u32>,
    /// Why it had to end.
    failure: Option<String>,
}

impl Teller<'_> {
    /// Tells of a torrent of `pieces` pieces; to `json` when it is there.
    pub fn new(json: Option<&mut (dyn Write + Send)>, pieces: u32) -> Teller<'_> {
        let terminal = json.is_none() && io::stdout().is_terminal();
        Teller { json, terminal, begin: Instant::now(), last: None, lines: 0, pieces }
    }

    /// Whether it is time for the next line; if so, what follows is taken to be it.
    fn is_due(&mut self) -> bool {
        let pause = if self.terminal || self.json.is_some() { PAUSE.0 } else { PAUSE.1 };
        let due = self.last.unwrap_or(self.begin).elapsed() >= pause;
        if due {
            self.last = Some(Instant::now());
        }
        due
    }

    /// `done` of `of` pieces are hashed; `all`: say so each time.
    pub fn hashed(&mut self, done: u32, of: u32, all: bool, io: &mut Io) -> io::Result<()> {
        let due = self.is_due();
        match &mut self.json {
            Some(_) if !due => Ok(()),
            Some(json) => {
                let seconds = self.begin.elapsed().as_secs();
                let object = Object { state: "check".to_owned(), seconds, have: done, pieces: of, ..Object::default() };
                put(*json, &object)
            }
            None if due || all || done == of => {
                let end = if self.terminal && done < of { '\r' } else { '\n' };
                write!(io.out, "Check exist: {done}/{of}{end}")?;
                io.out.flush()
            }
            None => Ok(()),
        }
    }

    /// Says how things are when it is time to.
    pub fn show(&mut self, status: &Status, told: &Told, io: &mut Io) -> io::Result<()> {
        if !self.is_due() {
            return Ok(());
        }
        let state = if status.whole { "seed" } else { "fetch" };
        self.say(state, status, told, io)?;
        self.lines += 1;
        Ok(())
    }

    /// Says how things are before something is said that matters more: what follows begins a line of its own.
    pub fn sum_up(&mut self, state: &str, status: &Status, told: &Told, io: &mut Io) -> io::Result<()> {
        self.say(state, status, told, io)?;
        if self.terminal { writeln!(io.out) } else { Ok(()) }
    }

    /// The namesake's line: seeds, leechers, known peers; pieces here, in all, within reach; bytes; rates on the
    /// whole and now; announces that failed and that did not.
    fn say(&mut self, state: &str, status: &Status, told: &Told, io: &mut Io) -> io::Result<()> {
        let seconds = self.begin.elapsed().as_secs();
        let (down, up) = (status.rates.0 as u64, status.rates.1 as u64);
        let (downloaded, uploaded) = (status.totals.downloaded, status.totals.uploaded);
        if let Some(json) = &mut self.json {
            let object = Object {
                state: state.to_owned(),
                seconds,
                have: status.have,
                pieces: self.pieces,
                left: status.left,
                downloaded,
                uploaded,
                down,
                up,
                seeds: status.peers.0,
                leechers: status.peers.1,
                tracker_seeds: told.complete,
                tracker_leechers: told.incomplete,
                failure: status.failure.clone(),
            };
            return put(*json, &object);
        }
        let known = told.complete.unwrap_or(0) + told.incomplete.unwrap_or(0);
        let reach = if status.peers.0 > 0 { self.pieces } else { status.have };
        let mean = |bytes: u64| (bytes >> 10) / seconds.max(1);
        let line = format!(
            "{} {}/{}/{known} [{}/{}/{reach}] {}MB,{}MB | {},{}K/s | {},{}K E:{},{}",
            ['-', '\\', '|', '/'][self.lines % 4],
            status.peers.0,
            status.peers.1,
            status.have,
            self.pieces,
            downloaded >> 20,
            uploaded >> 20,
            mean(downloaded),
            mean(uploaded),
            down >> 10,
            up >> 10,
            told.failures,
            told.answers,
        );
        if self.terminal {
            write!(io.out, "\r{line:<78}")?
        } else {
            writeln!(io.out, "{line}")?
        }
        io.out.flush()
    }
}

fn put(out: &mut dyn Write, object: &Object) -> io::Result<()> {
    out.write_all(format!("{}\n", object.serialize_json()).as_bytes())?;
    out.flush()
}
