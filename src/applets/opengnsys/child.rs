//! Our own ctorrent as a child process, which scripts find by `pidof ctorrent`: its lines go to standard output and the
//! command's log, its reports (`--json-fd`) give its progress.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::process::{Pid, Signal, kill_process};

use crate::applets::Io;
use crate::base::signal::Signals;
use crate::client::Report;
use crate::engine::{Code, Engine, Error, Targets, beside, space};
use crate::storage::Journal;

/// Time without progress after which a download is given up, unless `OGBOX_STALL` sets another: a server that starts
/// hashes its images first.
const STALL: Duration = Duration::from_secs(900);
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

/// Runs ctorrent to its end and returns whether the data is complete. ctorrent is interrupted if this process is to
/// end, or once `data` has not grown for too long.
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

    /// Prints ctorrent's lines to its end, or with `until_whole` until the data is complete; returns whether it is.
    fn follow(
        &mut self,
        engine: &Engine,
        signals: &Signals,
        data: Option<&Path>,
        until_whole: bool,
        io: &mut Io,
    ) -> bool {
        let patience = engine.env().get("OGBOX_STALL").parse().map_or(STALL, Duration::from_secs);
        let (mut whole, mut ending) = (false, false);
        let (mut size, mut grown) = (0, Instant::now());
        while !(self.lines.ended || whole && until_whole) {
            wait_for(&[self.lines.pipe.as_fd(), self.reports.pipe.as_fd()]);
            // Before the lines: those printed before a report are in the other pipe by then.
            let seeds = |line: &String| Report::state_of(line) == Some("seed");
            whole |= self.reports.take().iter().any(seeds);
            for line in self.lines.take() {
                engine.say(io.out, Targets { command: true, ..Targets::NONE }, &line);
            }
            let now = data.map_or(0, space::allocated_kib);
            if data.is_none() || now != size {
                (size, grown) = (now, Instant::now());
            }
            if !ending && (grown.elapsed() > patience || signals.ending()) {
                ending = true;
                end(&self.child);
            }
        }
        whole
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
