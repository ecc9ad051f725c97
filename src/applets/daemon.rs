//! What a daemon does to please whoever starts it: start-stop-daemon, systemd, s6, or a person.

use std::fs;
use std::path::PathBuf;

use super::{Failure, Io};
use crate::base::ready;
use crate::base::user::become_user;

/// The file with the process id, removed when it is dropped.
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes the process id to `path`; none when that is empty.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(path: &str) -> Result<PidFile, Failure> {
        if path.is_empty() {
            return Ok(PidFile(None));
        }
        let id = format!("{}\n", std::process::id());
        fs::write(path, id).map_err(|error| Failure::new(1, format!("write process id to {path}: {error}")))?;
        Ok(PidFile(Some(path.into())))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Whoever reads it next finds the process gone anyway.
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// Becomes `user` for good, unless that is empty. To be called while there is one thread.
///
/// # Errors
/// There is no such user, or this process may not become another.
pub fn give_up_root(user: &str) -> Result<(), Failure> {
    if user.is_empty() {
        return Ok(());
    }
    become_user(user).map_err(|error| Failure::new(1, format!("become user {user}: {error}")))
}

/// Says that the daemon `name` is ready: to systemd, and by a line end to descriptor `ready_fd`.
///
/// # Errors
/// Standard error cannot be written; that nobody could be told is said there and is no error.
pub fn tell_ready(name: &str, ready_fd: Option<u32>, io: &mut Io) -> Result<(), Failure> {
    let told = ready::notify().and_then(|()| ready_fd.map_or(Ok(()), ready::write_line_end));
    if let Err(error) = told {
        writeln!(io.err, "{name}: say that it is ready: {error}")?;
    }
    Ok(())
}
