//! Our own ctorrent as a child process, found by `pidof ctorrent` as scripts expect: its lines go to standard output and
//! to the command's log, its reports (`--json-fd`) say how far it is.

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
use crate::client::Report;
use crate::engine::{Code, Engine, Error, Targets, beside, space};
use crate::storage::Journal;
use crate::sys::signal::Signals;

/// How long a download may bring nothing before it is given up, unless OGBOX_STALL says it: a server that begins hashes
/// its images first.
const STALL: Duration = Duration::from_secs(900);
/// Longest time until a signal or a stall is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// Returns one of our own applets, ready to be started as a process of its name.
pub fn applet(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).stdin(Stdio::null());
    command
}

/// Returns a ctorrent that downloads or seeds for as long as this process runs: a command that was killed must not leave
/// one at work for the next to meet.
pub fn client() -> Command {
    let mut command = applet("ctorrent");
    command.arg("--attached");
    command
}

/// Returns the error of a child that could not be started.
fn unstarted(name: &str, error: &io::Error) -> Error {
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

/// Runs ctorrent to its end and returns whether everything was there at the end. A signal that ends this process is
/// passed on; so is an end once `data` has not grown for too long.
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

/// Runs ctorrent as [`ctorrent`] does until everything is there, and returns the seeder that it is from then on; `None`
/// when it ended before.
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

/// The lines that come out of a pipe, read as far as they are there.
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

    /// Returns the lines that have come; after the end of the pipe the last one may lack its end.
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

/// A ctorrent whose lines and reports are read.
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

    /// Passes on its lines, to the last one or `until_whole`, and returns whether everything was there.
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
            // Before the lines: all that was printed before a report is in the other pipe by then.
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

/// Waits until one of `pipes` has something to read or has ended, or for a moment.
fn wait_for(pipes: &[BorrowedFd]) {
    let mut pipes: Vec<PollFd> = pipes.iter().map(|pipe| PollFd::from_borrowed_fd(*pipe, PollFlags::IN)).collect();
    let time = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
    if poll(&mut pipes, Some(&time)).is_err() {
        // Interrupted by a signal, mostly.
        std::thread::sleep(Duration::from_millis(1));
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

    /// A ctorrent that has just fetched everything, and goes on with the peers that it has.
    fn go_on(running: Running, journal: PathBuf) -> Seeding {
        let Running { child, mut lines, .. } = running;
        // Its lines must be read, or they would stop it, as would their reader's end. Reports may end.
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
        // The next download of this image removes it, too.
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
