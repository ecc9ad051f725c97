//! The interface of every applet: its outputs, its result.

use std::io::{self, Write};

/// An applet's outputs; the caller decides where they go.
pub struct Io<'a> {
    /// Standard output.
    pub out: &'a mut (dyn Write + Send),
    /// Standard error.
    pub err: &'a mut (dyn Write + Send),
}

/// The exit code of an applet that did its work; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Exit code 0.
    pub const OK: Exit = Exit(0);
}

/// Why an applet gave up: the line for standard error and the exit code its namesake uses.
#[derive(Debug)]
pub struct Failure {
    /// Exit code, never 0.
    pub code: u8,
    /// What was being done, to what, why it failed; empty when nothing is left to say.
    pub message: String,
}

impl Failure {
    /// Returns a failure with exit code `code` and the words of `error`.
    pub fn new(code: u8, error: impl std::fmt::Display) -> Failure {
        Failure { code, message: error.to_string() }
    }
}

impl From<io::Error> for Failure {
    /// A failure to write to standard output or standard error. A reader that went away (EPIPE) is not worth a line.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure { code: 1, message: String::new() },
            _ => Failure::new(1, error),
        }
    }
}

/// The result of every applet's `run`.
pub type Outcome = Result<Exit, Failure>;
