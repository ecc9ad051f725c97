//! A command of the user's that an image goes through on its way to a file, as partclone's `--compresscmd` has it.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::Error;

/// Has the shell run `command`, with what `write` writes as its input and `out` as its output.
///
/// # Errors
/// The command cannot be run or fails, or an error of `write`.
pub fn through(
    command: &str,
    out: Stdio,
    write: &mut dyn FnMut(&mut (dyn Write + Send)) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .map_err(|error| Error::io(format!("run `{command}`"), error))?;
    let sent = match child.stdin.take() {
        Some(mut stdin) => write(&mut stdin),
        None => Ok(()),
    };
    if matches!(&sent, Err(error) if !is_broken(error)) {
        // It would take the end of half an image for its proper end.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| Error::io(format!("wait for `{command}`"), error))?;
    match sent {
        // A broken pipe says less than the command's exit status.
        Ok(()) | Err(Error::Io { .. }) if !status.success() => {
            Err(Error::Refused(format!("the command `{command}` ended with {status}: there is no image")))
        }
        sent => sent,
    }
}

fn is_broken(error: &Error) -> bool {
    matches!(error, Error::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe)
}
