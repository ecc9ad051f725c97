//! Whether somebody has a file open for writing.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::AsRawFd;

use libc::{F_RDLCK, F_SETLEASE, F_UNLCK, SIGURG, fcntl};
use rustix::io::Errno;

/// Of <linux/fcntl.h>; libc has it for other C libraries than musl.
const F_SETSIG: c_int = 10;

/// Whether a process of this machine has `file`, itself open for reading only, open for writing, as far as the file
/// system tells: the kernel gives a read lease (fcntl(2), F_SETLEASE) on no such file.
pub fn is_being_written(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open for the whole call; these commands take a number and no pointer.
    let set = |command: c_int, value: c_int| unsafe { fcntl(fd, command, value) };
    // Somebody who opens it in just this moment has us told by a signal: one that does nothing unless somebody asks for
    // it, as SIGIO would be the end of us.
    if set(F_SETSIG, SIGURG) != 0 {
        return false;
    }
    if set(F_SETLEASE, F_RDLCK) == 0 {
        set(F_SETLEASE, F_UNLCK);
        return false;
    }
    // Anything else means that nobody can tell: another user's file, a file system without leases.
    std::io::Error::last_os_error().raw_os_error() == Some(Errno::AGAIN.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_being_written_while_somebody_has_it_open_for_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(is_being_written(&reader));
        drop(writer);
        assert!(!is_being_written(&reader) && !is_being_written(&reader));
        File::options().append(true).open(&path).unwrap();
    }
}
