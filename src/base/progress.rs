//! The progress of a long job on standard error: a line redrawn on a terminal, a plain line every few seconds
//! elsewhere, or one JSON object a line for machines.
//!
//! The job only adds to a counter; a thread of its own looks at it, so a tight loop pays one atomic add.
//! Only the terminal's current line is changed, so there is nothing to restore.

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nanoserde::SerJson;

use super::sync::{lock, unpoisoned};
use super::units::{bytes, clock, scale, scale_binary};

/// The form of progress reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A redrawn line when standard error is a terminal, plain lines otherwise.
    #[default]
    Auto,
    /// One line with a bar, redrawn in place.
    Bar,
    /// A line every five seconds and one at the end.
    Plain,
    /// A JSON object a line, every second and at the end.
    Json,
    /// partclone's line without block detail, redrawn, and its summary; scripts read them.
    Partclone {
        /// KiB and so on in place of KB.
        binary: bool,
        /// Rates by the second, not the minute.
        second: bool,
    },
    /// Nothing.
    Quiet,
}

impl FromStr for Style {
    type Err = String;

    /// Reads a value of `--progress`.
    fn from_str(word: &str) -> Result<Style, String> {
        match word {
            "auto" => Ok(Style::Auto),
            "bar" => Ok(Style::Bar),
            "plain" => Ok(Style::Plain),
            "json" => Ok(Style::Json),
            "none" => Ok(Style::Quiet),
            _ => Err(format!("progress `{word}` is none of auto, bar, plain, json, none")),
        }
    }
}

impl Style {
    fn interval(self) -> Duration {
        Duration::from_millis(match self {
            Style::Bar => 250,
            Style::Json => 1000,
            Style::Partclone { .. } => 2000,
            _ => 5000,
        })
    }
}

/// A job's progress, reported until this is dropped, and then for the last time.
pub struct Progress {
    shared: Arc<Shared>,
    teller: Option<JoinHandle<()>>,
}

struct Shared {
    done: AtomicU64,
    taken: AtomicU64,
    written: AtomicU64,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Progress {
    /// Begins to report `step`, a job of `total` bytes (0: unknown), on standard error.
    pub fn start(step: &str, total: u64, style: Style) -> Progress {
        let style = match style {
            Style::Auto if io::stderr().is_terminal() => Style::Bar,
            Style::Auto => Style::Plain,
            style => style,
        };
        Progress::tell(step, total, style, io::stderr())
    }

    fn tell(step: &str, total: u64, style: Style, out: impl Write + Send + 'static) -> Progress {
        let shared = Arc::new(Shared {
            done: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        let report = Report { step: step.to_owned(), total, ..Report::default() };
        let theirs = Arc::clone(&shared);
        let tell = move || teller(&theirs, report, style, out);
        // Without a thread the job still runs, unreported.
        let teller = (style != Style::Quiet)
            .then(|| std::thread::Builder::new().name("progress".into()).stack_size(64 << 10).spawn(tell).ok())
            .flatten();
        Progress { shared, teller }
    }

    /// Counts `bytes` as done: read, hashed, restored.
    pub fn advance(&self, bytes: u64) {
        self.shared.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` of input, where that differs from the bytes done (a compressed image).
    pub fn took(&self, bytes: u64) {
        self.shared.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` of output, where that differs from the input (a compressed image).
    pub fn wrote(&self, bytes: u64) {
        self.shared.written.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *lock(&self.shared.stop) = true;
        self.shared.stopped.notify_all();
        if let Some(teller) = self.teller.take() {
            // A thread that panicked has nothing left to report.
            let _ = teller.join();
        }
    }
}

/// A moment of a job; as JSON, the object that `--progress json` prints.
#[derive(Clone, Debug, Default, PartialEq, SerJson)]
struct Report {
    /// The job's name.
    step: String,
    /// Bytes of the job that are done.
    done: u64,
    /// Bytes of the whole job, 0 when unknown.
    total: u64,
    /// Bytes that came in, 0 when that is not counted.
    taken: u64,
    /// Bytes that came out, 0 when that is not counted.
    written: u64,
    /// Bytes a second: of late, and in the last report over the whole job.
    rate: u64,
    /// Seconds since the beginning.
    seconds: f64,
    /// Seconds that the rest will take at this rate.
    left: Option<u64>,
    /// Whether this is the job's last report.
    end: bool,
}

fn teller(shared: &Shared, mut report: Report, style: Style, mut out: impl Write) {
    let begin = Instant::now();
    let mut lately = (0.0, 0u64, 0.0);
    let mut stop = lock(&shared.stop);
    while !report.end {
        (stop, _) = unpoisoned(shared.stopped.wait_timeout_while(stop, style.interval(), |stop| !*stop));
        report.end = *stop;
        report.done = shared.done.load(Ordering::Relaxed);
        report.taken = shared.taken.load(Ordering::Relaxed);
        report.written = shared.written.load(Ordering::Relaxed);
        let now = begin.elapsed().as_secs_f64();
        report.seconds = (now * 10.0).round() / 10.0;
        report.rate = rate(&mut lately, now, report.done);
        if report.end && now > 0.0 {
            report.rate = (report.done as f64 / now) as u64;
        }
        report.left = (report.rate > 0 && report.total > 0)
            .then(|| report.total.saturating_sub(report.done).div_ceil(report.rate.max(1)));
        let line = match style {
            Style::Json => format!("{}\n", report.serialize_json()),
            Style::Partclone { binary, second } => report.partclone(binary, second),
            Style::Bar => format!("\r{}\x1b[K{}", report.bar(columns()), if report.end { "\n" } else { "" }),
            _ => format!("{}\n", report.plain()),
        };
        // One write a line, so that other processes' lines do not cut it; a failure has nowhere to be reported.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

/// Returns the rate of about the last five seconds, in which people see a job slow down. `lately` holds the time, the
/// bytes and the rate of the last look.
fn rate(lately: &mut (f64, u64, f64), now: f64, done: u64) -> u64 {
    let (then, before, old) = *lately;
    let span = (now - then).max(1e-3);
    let new = done.saturating_sub(before) as f64 / span;
    let weight = if then == 0.0 { 1.0 } else { 1.0 - (-span / 5.0).exp() };
    *lately = (now, done, old + (new - old) * weight);
    lately.2 as u64
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col)).clamp(20, 120)
}

impl Report {
    fn fraction(&self) -> f64 {
        if self.total == 0 { 0.0 } else { (self.done as f64 / self.total as f64).min(1.0) }
    }

    /// `hash: 45.2%, 1.4 of 3.2 GB, 850 MB/s, 0:02 left`
    fn plain(&self) -> String {
        format!("{}: {}", self.step, self.figures(true))
    }

    /// Returns [`Report::plain`] with a bar, in at most `columns` columns, the last of them free.
    fn bar(&self, columns: usize) -> String {
        let room = |figures: &str| columns.saturating_sub(self.step.len() + figures.len() + 5);
        // The bar and the percentage show the total well enough.
        let figures =
            Some(self.figures(true)).filter(|figures| room(figures) >= 8).unwrap_or_else(|| self.figures(false));
        let room = room(&figures);
        let mut line = if self.total > 0 && room >= 8 {
            let full = (self.fraction() * room as f64) as usize;
            format!("{} [{}{}] {figures}", self.step, "#".repeat(full), " ".repeat(room - full))
        } else {
            self.plain()
        };
        if let Some((at, _)) = line.char_indices().nth(columns.saturating_sub(1)) {
            line.truncate(at);
        }
        line
    }

    /// `Elapsed: 00:00:04, Remaining: 00:00:01, Completed:  80.00%, Rate:   2.11GB/min,`
    fn partclone(&self, binary: bool, second: bool) -> String {
        let seconds = (self.seconds as u64).max(1);
        let percent = self.fraction() * 100.0;
        let left = self.left.unwrap_or(0);
        let (seconds_of, time) = if second { (1, "sec") } else { (60, "min") };
        let (rate, unit) = if binary { scale_binary } else { scale }(self.rate.saturating_mul(seconds_of));
        let clock = |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let (elapsed, left, blank) = (clock(seconds), clock(left), " ".repeat(80));
        let mut text = format!(
            "\r{blank}\rElapsed: {elapsed}, Remaining: {left}, Completed: {percent:6.2}%, Rate: {rate:6.2}{unit}/{time},"
        );
        // Only a finished job gets a summary.
        if self.end && self.done >= self.total {
            text += &format!("\nTotal Time: {elapsed}, Ave. Rate: {rate:6.1}{unit}/{time}, {percent:.2}% completed!\n");
        } else if self.end {
            text.push('\n');
        }
        text
    }

    /// Returns bytes, rate and time left; `whole`: with the bytes of the whole job.
    fn figures(&self, whole: bool) -> String {
        let mut text = bytes(self.done);
        if self.total > 0 {
            text = format!("{:.1}%, {text}", self.fraction() * 100.0);
            if whole {
                text += &format!(" of {}", bytes(self.total));
            }
        }
        for (count, way) in [(self.taken, "in"), (self.written, "out")] {
            if count > 0 {
                text += &format!(", {} {way}", bytes(count));
            }
        }
        text += &format!(", {}/s", bytes(self.rate));
        match self.left {
            _ if self.end => text += &format!(", {} s", self.seconds),
            Some(left) => text += &format!(", {} left", clock(left)),
            None => {}
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(style: Style, total: u64) -> String {
        let sink = Sink::default();
        let progress = Progress::tell("hash", total, style, sink.clone());
        progress.advance(1_500_000);
        progress.took(5_000);
        progress.wrote(4_000);
        drop(progress);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn report() -> Report {
        let (done, total, rate) = (1_400_000_000, 3_200_000_000, 850_000_000);
        Report { step: "hash".into(), done, total, rate, seconds: 1.6, left: Some(62), ..Report::default() }
    }

    #[test]
    fn the_last_state_is_told_however_short_the_job() {
        assert!(
            told(Style::Plain, 3_000_000).starts_with("hash: 50.0%, 1.50 MB of 3.00 MB, 5.00 kB in, 4.00 kB out, ")
        );
        assert!(told(Style::Plain, 0).starts_with("hash: 1.50 MB, 5.00 kB in, 4.00 kB out, "));
        assert_eq!(told(Style::Quiet, 1), "");
        let json = told(Style::Json, 3_000_000);
        assert!(
            json.starts_with("{\"step\":\"hash\",\"done\":1500000,\"total\":3000000,\"taken\":5000,\"written\":4000,"),
            "{json}"
        );
        assert!(json.ends_with("\"end\":true}\n") && json.lines().count() == 1, "{json}");
        let bar = told(Style::Bar, 3_000_000);
        assert!(bar.starts_with("\rhash [") && bar.ends_with("\x1b[K\n"), "{bar:?}");
        let partclone = told(Style::Partclone { binary: false, second: false }, 1_500_000);
        let line = "Elapsed: 00:00:01, Remaining: 00:00:00, Completed: 100.00%, Rate: ";
        assert_eq!(partclone.trim_start_matches(['\r', ' ']).find(line), Some(0), "{partclone:?}");
        assert!(partclone.contains("\nTotal Time: 00:00:01, Ave. Rate: "), "{partclone:?}");
        assert!(partclone.ends_with("/min, 100.00% completed!\n"), "{partclone:?}");
        let shown = told(Style::Partclone { binary: true, second: true }, 3_000_000);
        assert!(
            shown.contains("iB/sec,") && !shown.contains("completed"),
            "a job that did not come to its end: {shown:?}"
        );
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        assert_eq!(report().plain(), "hash: 43.8%, 1.40 GB of 3.20 GB, 850 MB/s, 1:02 left");
        let end = Report { done: 3_200_000_000, end: true, ..report() };
        assert_eq!(end.plain(), "hash: 100.0%, 3.20 GB of 3.20 GB, 850 MB/s, 1.6 s");
    }

    #[test]
    fn the_bar_fits_its_columns() {
        let line = report().bar(80);
        assert_eq!(
            line,
            format!("hash [{}{}] 43.8%, 1.40 GB of 3.20 GB, 850 MB/s, 1:02 left", "#".repeat(10), " ".repeat(15))
        );
        let both = Report { step: "convert".into(), taken: 700_000_000, written: 710_000_000, ..report() };
        assert_eq!(
            both.bar(80),
            format!(
                "convert [{}{}] 43.8%, 1.40 GB, 700 MB in, 710 MB out, 850 MB/s, 1:02 left",
                "#".repeat(4),
                " ".repeat(6)
            )
        );
        for columns in 0..140 {
            assert!(report().bar(columns).chars().count() < columns.max(1), "{columns}");
        }
    }

    #[test]
    fn the_rate_follows_what_happened_lately() {
        let mut lately = (0.0, 0, 0.0);
        assert_eq!(rate(&mut lately, 1.0, 1_000), 1_000);
        let slower: Vec<u64> = (2..40).map(|second| rate(&mut lately, f64::from(second), 1_000)).collect();
        assert!(slower.is_sorted_by(|a, b| a >= b) && slower[37] == 0, "{slower:?}");
    }
}
