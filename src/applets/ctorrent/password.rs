//! Asks for a password on the terminal without showing it, and leaves the terminal as it was.
//!
//! Signals that end the process are flags by then ([`Signals`]), and the keys that would stop or abort it are off
//! meanwhile: only SIGKILL can leave the terminal silent.

use std::io::{self, IsTerminal};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::applets::Io;
use crate::base::signal::Signals;
use crate::client::one_line;

/// The longest password, bytes.
const LONGEST: usize = 256;
/// Longest time until a signal that came just before the wait is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// A terminal without echo, until this is dropped.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Silence> {
        let before = tcgetattr(stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        for key in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
            silent.special_codes[key] = 0;
        }
        tcsetattr(stdin(), OptionalActions::Now, &silent)?;
        Ok(Silence { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Reads a line from standard input, with a prompt if that is a terminal; `None` if a signal ends it.
///
/// # Errors
/// Standard input cannot be read, or the terminal's echo not be switched off.
pub fn ask(signals: &Signals, io: &mut Io) -> io::Result<Option<String>> {
    let silence = if io::stdin().is_terminal() {
        write!(io.out, "Enter CTCS password: ")?;
        io.out.flush()?;
        Some(Silence::begin()?)
    } else {
        None
    };
    let line = read_line(signals)?;
    if line.is_none() && silence.is_some() {
        writeln!(io.out)?;
    }
    Ok(line)
}

fn read_line(signals: &Signals) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let time = Timespec::try_from(LOOK).map_err(io::Error::other)?;
    while !signals.ending() {
        match poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], Some(&time)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        // Byte by byte: input after the line is not ours.
        let mut byte = [0];
        match rustix::io::read(stdin(), &mut byte) {
            Ok(1) if byte[0] != b'\n' && line.len() < LONGEST => line.push(byte[0]),
            Ok(_) => return Ok(Some(one_line(&String::from_utf8_lossy(&line)))),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
