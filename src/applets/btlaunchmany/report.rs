//! The seeder's output: messages, and the state of each torrent as a table on a terminal, in plain lines or as JSON.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nanoserde::SerJson;

use crate::base::log::Log;
use crate::base::progress::Style;
use crate::base::sort::sort_by;
use crate::base::sync::lock;
use crate::base::units::bytes;
use crate::repository::State;

/// Interval of plain lines; only torrents that a peer fetches from get one.
const PLAIN: Duration = Duration::from_secs(60);

/// The state of a torrent.
#[derive(Debug, SerJson)]
pub struct Row {
    /// Its path, or its name.
    name: String,
    state: String,
    /// Connected peers that lack something.
    pub peers: usize,
    /// Connected peers that have everything.
    pub seeds: usize,
    /// Bytes sent a second.
    pub rate: u64,
    /// Bytes sent.
    pub uploaded: u64,
}

/// One moment, as `--progress json` prints it.
#[derive(Debug, SerJson)]
struct Moment<'a> {
    rate: u64,
    uploaded: u64,
    torrents: &'a [Row],
}

impl Row {
    /// Returns the row of a torrent that no peer has fetched from yet.
    pub fn new(path: &Path, state: State) -> Row {
        let state = match state {
            State::Held => "locked",
            State::Checking => "checking existing data",
            State::Seeding(_) => "seeding",
            State::Duplicate(_) => "duplicate",
            State::Refused => "not seeded",
        };
        Row { name: path.display().to_string(), state: state.to_owned(), peers: 0, seeds: 0, rate: 0, uploaded: 0 }
    }

    /// Returns the namesake's line.
    fn line(&self) -> String {
        let Row { name, state, peers, seeds, rate, uploaded } = self;
        let (percent, tenths) = (if state == "seeding" { 100 } else { 0 }, rate * 10 / 1024);
        let (whole, tenth, sent) = (tenths / 10, tenths % 10, uploaded / 1024);
        format!("\"{name}\": \"{state}\" ({percent}%) - {peers}P{seeds}s u{whole}.{tenth}K/s-d0.0K/s u{sent}K-d0K \"\"")
    }

    /// Returns the table's line, at most `columns` wide.
    fn cells(&self, columns: usize) -> String {
        let rate = if self.rate == 0 { String::new() } else { format!("{}/s", bytes(self.rate)) };
        let figures = format!("{:>5} {:>5} {rate:>11} {:>8}", self.peers, self.seeds, bytes(self.uploaded));
        let room = columns.saturating_sub(figures.len() + 14);
        let skip = self.name.chars().count().saturating_sub(room);
        // The end of a path says more than its beginning.
        let name: String = self.name.chars().skip(skip).collect();
        let state = self.state.get(..10).unwrap_or(&self.state);
        format!("{name:<room$} {state:<10} {figures}")
    }
}

/// Where messages and status go.
pub struct Report {
    log: Log,
    style: Style,
    interval: Duration,
    paths: bool,
    shown: Mutex<Shown>,
}

struct Shown {
    at: Instant,
    /// Lines of the table on the terminal.
    lines: usize,
}

impl Report {
    /// Opens a report with messages to `logfile` or standard output. `interval`: time between two displays, if not that
    /// of the style; `paths`: whether torrents are shown by path or by name.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(logfile: Option<&Path>, style: Style, interval: Option<Duration>, paths: bool) -> io::Result<Report> {
        let style = match style {
            Style::Auto if io::stderr().is_terminal() => Style::Bar,
            Style::Auto => Style::Plain,
            style => style,
        };
        let usual = if style == Style::Plain { PLAIN } else { Duration::from_secs(1) };
        let shown = Mutex::new(Shown { at: Instant::now(), lines: 0 });
        Ok(Report { log: Log::open(logfile)?, style, interval: interval.unwrap_or(usual), paths, shown })
    }

    /// Opens the log anew.
    pub fn reopen(&self) {
        self.log.reopen();
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }

    /// Logs a line, from any thread.
    pub fn say(&self, line: &str) {
        let mut shown = self.lock();
        if shown.lines > 0 {
            tell(&format!("\x1b[{}A\x1b[J", shown.lines));
            shown.lines = 0;
        }
        self.log.say(line);
    }

    /// Whether it is time for the next display.
    pub fn is_due(&self) -> bool {
        self.style != Style::Quiet && self.lock().at.elapsed() >= self.interval
    }

    /// Displays the rows; `dump`: all of them, as plain lines.
    pub fn show(&self, rows: &[Row], dump: bool) {
        self.lock().at = Instant::now();
        let (rate, uploaded) = (rows.iter().map(|row| row.rate).sum(), rows.iter().map(|row| row.uploaded).sum());
        let named = |row: &Row| match self.paths {
            true => row.line(),
            false => Row { name: row.name.rsplit('/').next().unwrap_or_default().to_owned(), ..row.copy() }.line(),
        };
        match self.style {
            _ if dump => {
                rows.iter().for_each(|row| self.say(&named(row)));
                self.say(&format!("{} torrents, {} sent, {}/s", rows.len(), bytes(uploaded), bytes(rate)));
            }
            Style::Json => tell(&format!("{}\n", Moment { rate, uploaded, torrents: rows }.serialize_json())),
            Style::Bar => self.table(rows, rate, uploaded),
            Style::Plain => rows.iter().filter(|row| row.rate > 0).for_each(|row| self.say(&named(row))),
            _ => {}
        }
    }

    /// Draws the table over the last one, as far as the terminal has lines, the busiest torrents first.
    fn table(&self, rows: &[Row], rate: u64, uploaded: u64) {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let size = size.map_or((0, 0), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        // A serial console does not know its size.
        let (columns, lines) = if size.0 == 0 || size.1 == 0 { (80, 24) } else { size };
        let (columns, most) = (columns.clamp(40, 160) - 1, lines.clamp(5, 100) - 3);
        let mut order: Vec<&Row> = rows.iter().collect();
        sort_by(&mut order, |one, other| (other.rate, &one.name) < (one.rate, &other.name));
        let mut shown = self.lock();
        let mut text = if shown.lines > 0 { format!("\x1b[{}A\x1b[J", shown.lines) } else { String::new() };
        for row in order.iter().take(most) {
            text += &row.cells(columns);
            text.push('\n');
        }
        let more = rows.len().saturating_sub(most);
        text += &format!("{} torrents ({more} not shown), {} sent, {}/s\n", rows.len(), bytes(uploaded), bytes(rate));
        shown.lines = order.len().min(most) + 1;
        tell(&text);
    }
}

impl Row {
    fn copy(&self) -> Row {
        Row { name: String::new(), state: self.state.clone(), ..*self }
    }
}

fn tell(text: &str) {
    // A single write, so that other processes' lines do not cut it; a failure has nowhere to be reported.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let mut row = Row::new(
            Path::new("/srv/images/very/long/way/to/lab.img.torrent"),
            State::Seeding(crate::torrent::InfoHash([1; 20])),
        );
        (row.peers, row.seeds, row.rate, row.uploaded) = (12, 3, 1_572_864, 5 << 20);
        row
    }

    #[test]
    fn a_line_is_the_namesakes() {
        let expected = "\"/srv/images/very/long/way/to/lab.img.torrent\": \"seeding\" (100%) - \
                        12P3s u1536.0K/s-d0.0K/s u5120K-d0K \"\"";
        assert_eq!(row().line(), expected);
    }

    #[test]
    fn a_row_of_the_table_fits_its_columns_and_shows_the_end_of_the_path() {
        for columns in 61..130 {
            let cells = row().cells(columns);
            assert!(cells.chars().count() <= columns, "{cells}");
            assert!(
                cells.split_once(" seeding ").is_some_and(|(path, _)| path.trim_end().ends_with("lab.img.torrent")),
                "{cells}"
            );
        }
    }

    #[test]
    fn json_has_every_torrent() {
        let moment = Moment { rate: 1, uploaded: 2, torrents: &[row()] };
        assert_eq!(
            moment.serialize_json(),
            "{\"rate\":1,\"uploaded\":2,\"torrents\":[{\"name\":\"/srv/images/very/long/way/to/lab.img.torrent\",\
             \"state\":\"seeding\",\"peers\":12,\"seeds\":3,\"rate\":1572864,\"uploaded\":5242880}]}"
        );
    }
}
