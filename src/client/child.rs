//! Our own ctorrent as a child process, which scripts find by `pidof ctorrent`: its lines go to standard output and the
//! command's log, its reports (`--json-fd`) give its progress.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::process::{Pid, Signal, kill_process};

use super::report::Report;
use super::source::Renewal;
use crate::base::signal::Signals;
use crate::engine::{Code, Engine, Error, Targets, beside, space};
use crate::storage::Journal;

/// Time without progress after which a download is given up, unless `OGBOX_STALL` sets another: a server that starts
/// hashes its images first.
const STALL: Duration = Duration::from_secs(900);
/// Time without progress after which it is doubtful whether anybody has what is being fetched.
const DOUBT: Duration = Duration::from_secs(10);
/// Most time until a signal or a stall is noticed.
const LOOK: Duration = Duration::from_millis(50);

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
fn unstarted(name: &str, error: &io::Error) -> Error {
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

/// A download by ctorrent as a child process.
pub struct Fetching<'a> {
    /// Has the settings and logs.
    pub engine: &'a Engine,
    /// Ends the download in order.
    pub signals: &'a Signals,
    /// ctorrent is interrupted once this file has not grown for too long.
    pub data: Option<&'a Path>,
    /// Looks for another torrent of the same name meanwhile.
    pub renewal: Option<&'a mut Renewal>,
}

/// The end of a download.
pub enum End {
    /// The data is complete, and seeded in the background if that was asked for.
    Whole(Option<Seeding>),
    /// The repository has another torrent of that name by now, which the [`Renewal`] holds.
    Renewed,
    /// It was interrupted. ctorrent has printed the reason.
    Cut,
}

impl Fetching<'_> {
    /// Runs ctorrent to its end, or with `seeds` until the data is complete. It is interrupted if this process is to
    /// end, if there is no progress, and for another torrent.
    ///
    /// # Errors
    /// [`Code::NotExec`]: it cannot be started.
    pub fn run(&mut self, command: &mut Command, seeds: bool, out: &mut dyn Write) -> Result<End, Error> {
        let mut running = Running::start(command)?;
        let (whole, renewed) = running.follow(self, seeds, out);
        if let Some(data) = self.data.filter(|_| whole && seeds) {
            return Ok(End::Whole(Some(Seeding::go_on(running, beside::with(data, Journal::END)))));
        }
        let ended = running.child.wait().is_ok_and(|status| status.success());
        Ok(match (whole && ended, renewed) {
            (true, _) => End::Whole(None),
            (false, true) => End::Renewed,
            (false, false) => End::Cut,
        })
    }
}

/// The lines of a pipe, read without blocking.
struct Lines<R> {
    pipe: R,
    rest: Vec<u8>,
    ended: bool,
}

impl<R: Read + AsFd> Lines<R> {
    fn new(pipe: R) -> io::Result<Lines<R>> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Lines { pipe, rest: Vec::new(), ended: false })
    }

    /// Returns the complete lines received; at the end of the pipe the last one may lack its newline.
    fn take(&mut self) -> Vec<String> {
        let mut chunk = [0; 4096];
        while !self.ended {
            match self.pipe.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(got) => self.rest.extend_from_slice(&chunk[..got]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        let whole = match self.ended {
            true => self.rest.len(),
            false => self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1),
        };
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

/// A running ctorrent whose lines and reports are read.
struct Running {
    child: Child,
    lines: Lines<ChildStdout>,
    reports: Lines<PipeReader>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Running, Error> {
        let mut start = || -> io::Result<Running> {
            let (reader, writer) = io::pipe()?;
            fcntl_setfd(&writer, FdFlags::empty())?;
            command.arg(format!("--json-fd={}", writer.as_raw_fd())).stdout(Stdio::piped());
            let mut child = command.spawn()?;
            let output = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
            Ok(Running { child, lines: Lines::new(output)?, reports: Lines::new(reader)? })
        };
        start().map_err(|error| unstarted("ctorrent", &error))
    }

    /// Prints ctorrent's lines to its end, or with `until_whole` until the data is complete; returns whether it is, and
    /// whether there is another torrent.
    fn follow(&mut self, fetching: &mut Fetching, until_whole: bool, out: &mut dyn Write) -> (bool, bool) {
        let Fetching { engine, signals, data, renewal } = fetching;
        let patience = engine.env().get("OGBOX_STALL").parse().map_or(STALL, Duration::from_secs);
        let (mut whole, mut ending, mut renewed, mut refused) = (false, false, false, false);
        let (mut size, mut grown) = (0, Instant::now());
        while !(self.lines.ended || whole && until_whole) {
            wait_for(&[self.lines.pipe.as_fd(), self.reports.pipe.as_fd()]);
            // Before the lines: those printed before a report are in the other pipe by then.
            for line in self.reports.take() {
                whole |= Report::state_of(&line) == Some("seed");
                refused = Report::is_refused(&line);
            }
            for line in self.lines.take() {
                engine.say(out, Targets { command: true, ..Targets::NONE }, &line);
            }
            let now = data.map_or(0, space::allocated_kib);
            if data.is_none() || now != size {
                (size, grown) = (now, Instant::now());
            }
            let doubtful = refused || grown.elapsed() > DOUBT;
            let look = |renewal: &mut &mut Renewal| renewal.look(refused, doubtful);
            renewed |= !whole && !ending && renewal.as_mut().is_some_and(look);
            if !ending && (renewed || grown.elapsed() > patience || signals.ending()) {
                ending = true;
                end(&self.child);
            }
        }
        (whole, renewed)
    }
}

/// Waits at most [`LOOK`] until one of `pipes` can be read or has ended.
fn wait_for(pipes: &[BorrowedFd]) {
    let mut pipes: Vec<PollFd> = pipes.iter().map(|pipe| PollFd::from_borrowed_fd(*pipe, PollFlags::IN)).collect();
    let time = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
    if poll(&mut pipes, Some(&time)).is_err() {
        // Most likely interrupted by a signal.
        std::thread::sleep(Duration::from_millis(1));
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
        let Running { child, mut lines, .. } = running;
        // A full or closed pipe would stop it, so its lines are read and discarded. Its reports may lose their reader.
        std::thread::spawn(move || {
            let _ = ioctl_fionbio(&lines.pipe, false);
            io::copy(&mut lines.pipe, &mut io::sink())
        });
        Seeding { child, journal: Some(journal) }
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_come_as_they_end_and_the_last_one_with_the_pipe() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::new(reader).unwrap();
        assert!(lines.take().is_empty());
        writer.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!((lines.take(), lines.ended), (vec!["one".to_owned(), "two".to_owned()], false));
        writer.write_all(b"ee").unwrap();
        assert!(lines.take().is_empty());
        drop(writer);
        assert_eq!((lines.take(), lines.ended), (vec!["three".to_owned()], true));
    }
}
