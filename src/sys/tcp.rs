//! Socket options that neither std nor rustix can set.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{IPPROTO_TCP, TCP_DEFER_ACCEPT, TCP_NOTSENT_LOWAT, setsockopt, socklen_t};

/// Has a listener hand over a connection only once its first bytes are there, or after about `seconds` without any:
/// accepting and reading become one step (tcp(7), TCP_DEFER_ACCEPT).
///
/// # Errors
/// The error of setsockopt(2).
pub fn defer_accept(listener: impl AsFd, seconds: c_int) -> io::Result<()> {
    set(listener, TCP_DEFER_ACCEPT, seconds)
}

/// Makes writes wait while the socket holds about `bytes` that were not sent yet; what was sent and not acknowledged does
/// not count, so the rate does not suffer (tcp(7), TCP_NOTSENT_LOWAT).
///
/// # Errors
/// The error of setsockopt(2).
pub fn limit_unsent(socket: impl AsFd, bytes: c_int) -> io::Result<()> {
    set(socket, TCP_NOTSENT_LOWAT, bytes)
}

fn set(socket: impl AsFd, option: c_int, value: c_int) -> io::Result<()> {
    let (fd, length) = (socket.as_fd().as_raw_fd(), size_of::<c_int>() as socklen_t);
    // SAFETY: `fd` is open for the whole call, and the kernel reads `length` bytes of `value`, which has as many.
    let done = unsafe { setsockopt(fd, IPPROTO_TCP, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
