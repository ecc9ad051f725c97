//! The program that has the same name as one of ours, where both are installed.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// Set for a namesake, so that two copies of this binary do not call each other for ever.
const CALLED: &str = "OGBOX_CALLED_NAMESAKE";

/// Returns the first program called `name` in PATH that is not this binary; `None` if there is none, or if this process was
/// itself called as one.
pub fn find(name: &str) -> Option<PathBuf> {
    if env::var_os(CALLED).is_some() {
        return None;
    }
    let identity = |path: &Path| fs::metadata(path).ok().filter(|found| found.is_file()).map(|it| (it.dev(), it.ino()));
    let ours = identity(Path::new("/proc/self/exe"))?;
    let executable = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.mode() & 0o111 != 0);
    env::split_paths(&env::var_os("PATH")?)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|path| identity(path).is_some_and(|it| it != ours) && executable(path))
}

/// Becomes `program` with these arguments; returns only an error.
pub fn become_it(program: &Path, args: &[String]) -> io::Error {
    Command::new(program).args(args).env(CALLED, "1").exec()
}
