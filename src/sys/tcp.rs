//! Socket options that neither std nor rustix can set.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{IPPROTO_TCP, TCP_DEFER_ACCEPT, setsockopt, socklen_t};

/// Has a listener hand over a connection only once its first bytes are there, or after about `seconds` without any:
/// accepting and reading become one step (tcp(7), TCP_DEFER_ACCEPT).
///
/// # Errors
/// The error of setsockopt(2).
pub fn defer_accept(listener: impl AsFd, seconds: c_int) -> io::Result<()> {
    let (fd, length) = (listener.as_fd().as_raw_fd(), size_of::<c_int>() as socklen_t);
    // SAFETY: `fd` is open for the whole call, and the kernel reads `length` bytes of `seconds`, which has as many.
    let done = unsafe { setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, (&raw const seconds).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
