//! Moving bytes between files and sockets by calls that std lacks.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::TcpStream;

use rustix::fs::sendfile;
use rustix::io::{Errno, pwritev};
use rustix::net::{SendFlags, send};

/// Buffers of one `pwritev` (the kernel's limit is 1024).
const VECTOR: usize = 64;

/// Writes all of `parts` one after the other at `offset`, with as few calls as possible.
///
/// # Errors
/// The error of pwritev(2); `WriteZero` if the file takes no more.
pub fn write_all_at(file: &File, mut parts: &mut [IoSlice], mut offset: u64) -> io::Result<()> {
    while !parts.is_empty() {
        let most = parts.len().min(VECTOR);
        match pwritev(file, &parts[..most], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends all of `bytes`, telling the kernel that more follows at once.
///
/// # Errors
/// The error of send(2); `WriteZero` if the connection takes no more.
pub fn send_more(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends `length` bytes of `file` from `offset` without copying them through user space.
///
/// # Errors
/// The error of sendfile(2); `UnexpectedEof` if the file ends before.
pub fn send_file(socket: &TcpStream, file: &File, mut offset: u64, mut length: u64) -> io::Result<()> {
    while length > 0 {
        match sendfile(socket, file, Some(&mut offset), length as usize) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => length -= sent as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
