//! Whether a file is open for writing anywhere on this machine.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::AsRawFd;

use libc::{F_RDLCK, F_SETLEASE, F_UNLCK, SIGURG, fcntl};
use rustix::io::Errno;

/// Of <linux/fcntl.h>; libc has it for other C libraries than musl.
const F_SETSIG: c_int = 10;

/// Whether a process of this machine has `file` open for writing, as far as the file system can tell; `file` itself
/// must be open for reading only. The kernel grants no read lease (fcntl(2), F_SETLEASE) on such a file.
pub fn is_being_written(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open for the whole call; these commands take a number and no pointer.
    let set = |command: c_int, value: c_int| unsafe { fcntl(fd, command, value) };
    // Opening the file at this very moment would send us a signal: one that is ignored by default, as SIGIO would end
    // this process.
    if set(F_SETSIG, SIGURG) != 0 {
        return false;
    }
    if set(F_SETLEASE, F_RDLCK) == 0 {
        set(F_SETLEASE, F_UNLCK);
        return false;
    }
    // Other errors mean that it cannot be determined: another user's file, a file system without leases.
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
