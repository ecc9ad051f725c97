//! The client's progress: the namesake's line, redrawn on a terminal, or with `--json` one object a line. Only the
//! terminal's current line is changed, so there is nothing to restore, however the process ends.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::applets::Io;
use crate::client::{Moment, Report};

/// Pause between two lines on a terminal, and between two objects.
const OFTEN: Duration = Duration::from_secs(1);
/// Pause between two lines elsewhere.
const SELDOM: Duration = Duration::from_secs(10);

/// The least pause between two reports.
struct Pace {
    pause: Duration,
    last: Instant,
}

impl Pace {
    /// Whether a report is due; if so, the pause begins anew.
    fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= self.pause;
        if due {
            self.last = Instant::now();
        }
        due
    }
}

/// Reports progress.
pub struct Teller<'a> {
    /// Takes objects instead of lines.
    json: Option<&'a mut (dyn Write + Send)>,
    /// Takes objects beside lines.
    copy: Option<(File, Pace)>,
    terminal: bool,
    begin: Instant,
    pace: Pace,
    lines: usize,
    pieces: u32,
}

impl<'a> Teller<'a> {
    /// Reports on a torrent of `pieces` pieces, as objects to `json` where it is given, and to `copy` in any case.
    pub fn new(json: Option<&'a mut (dyn Write + Send)>, copy: Option<File>, pieces: u32) -> Teller<'a> {
        let (terminal, begin) = (json.is_none() && io::stdout().is_terminal(), Instant::now());
        let pace = Pace { pause: if terminal || json.is_some() { OFTEN } else { SELDOM }, last: begin };
        let copy = copy.map(|file| (file, Pace { pause: OFTEN, last: begin }));
        Teller { json, copy, terminal, begin, pace, lines: 0, pieces }
    }

    /// Reports that `done` of `of` pieces are hashed; `all`: each time.
    pub fn hashed(&mut self, done: u32, of: u32, all: bool, io: &mut Io) -> io::Result<()> {
        let due = self.pace.is_due();
        match &mut self.json {
            Some(_) if !due => Ok(()),
            Some(json) => put(*json, &Report::of_check(done, of, self.begin.elapsed())),
            None if due || all || done == of => {
                let end = if self.terminal && done < of { '\r' } else { '\n' };
                write!(io.out, "Check exist: {done}/{of}{end}")?;
                io.out.flush()
            }
            None => Ok(()),
        }
    }

    /// Reports the state when it is time to.
    pub fn show(&mut self, moment: &Moment, io: &mut Io) -> io::Result<()> {
        let state = if moment.status.whole { "seed" } else { "fetch" };
        if self.copy.as_mut().is_some_and(|(_, pace)| pace.is_due()) {
            self.copy(state, moment)?;
        }
        if !self.pace.is_due() {
            return Ok(());
        }
        self.say(state, moment, io)?;
        self.lines += 1;
        Ok(())
    }

    /// Reports the state before something more important is said, which then begins a line of its own.
    pub fn sum_up(&mut self, state: &str, moment: &Moment, io: &mut Io) -> io::Result<()> {
        self.copy(state, moment)?;
        self.say(state, moment, io)?;
        if self.terminal { writeln!(io.out) } else { Ok(()) }
    }

    /// Writes an object to the copy, if there is one.
    pub fn copy(&mut self, state: &str, moment: &Moment) -> io::Result<()> {
        let report = || Report::of_moment(state, self.pieces, moment, self.begin.elapsed());
        self.copy.as_mut().map_or(Ok(()), |(copy, _)| put(copy, &report()))
    }

    /// The namesake's line: seeds, leechers, known peers; pieces here, in all, within reach; bytes; rates on the
    /// whole and now; announces that failed and that did not.
    fn say(&mut self, state: &str, moment: &Moment, io: &mut Io) -> io::Result<()> {
        let Moment { status, announced } = moment;
        if let Some(json) = &mut self.json {
            return put(*json, &Report::of_moment(state, self.pieces, moment, self.begin.elapsed()));
        }
        let seconds = self.begin.elapsed().as_secs();
        let (down, up) = (status.rates.0 as u64, status.rates.1 as u64);
        let (downloaded, uploaded) = (status.totals.downloaded, status.totals.uploaded);
        let known = announced.complete.unwrap_or(0) + announced.incomplete.unwrap_or(0);
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
            announced.failures,
            announced.answers,
        );
        if self.terminal {
            write!(io.out, "\r{line:<78}")?
        } else {
            writeln!(io.out, "{line}")?
        }
        io.out.flush()
    }
}

fn put(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    out.write_all(report.line().as_bytes())?;
    out.flush()
}
