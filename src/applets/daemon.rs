//! What a daemon does for its supervisor, be it start-stop-daemon, systemd, s6, or a person.

use std::fs;
use std::path::PathBuf;

use super::{Failure, Io};
use crate::base::ready;
use crate::base::user::become_user;
use crate::base::whole;

/// The file with the process id; removed when dropped.
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes the process id to `path`, unless that is empty.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(path: &str) -> Result<PidFile, Failure> {
        if path.is_empty() {
            return Ok(PidFile(None));
        }
        let id = format!("{}\n", std::process::id());
        whole::write(path.as_ref(), id)
            .map_err(|error| Failure::new(1, format!("write process id to {path}: {error}")))?;
        Ok(PidFile(Some(path.into())))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that stays names a process that no longer exists.
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// Becomes `user` for good, unless that is empty. Must be called while there is only one thread.
///
/// # Errors
/// There is no such user, or this process may not change its user.
pub fn give_up_root(user: &str) -> Result<(), Failure> {
    if user.is_empty() {
        return Ok(());
    }
    become_user(user).map_err(|error| Failure::new(1, format!("become user {user}: {error}")))
}

/// Reports that the daemon `name` is ready: to systemd, and by a newline on the descriptor `ready_fd`.
///
/// # Errors
/// Standard error cannot be written. A failed report is printed there and is no error.
pub fn tell_ready(name: &str, ready_fd: Option<u32>, io: &mut Io) -> Result<(), Failure> {
    let reported = ready::notify().and_then(|()| ready_fd.map_or(Ok(()), ready::write_line_end));
    if let Err(error) = reported {
        writeln!(io.err, "{name}: report readiness: {error}")?;
    }
    Ok(())
}
