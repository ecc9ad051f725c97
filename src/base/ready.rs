//! Reports that this process is ready: to systemd (sd_notify(3)) or to the reader of a pipe.

use std::fs::File;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends READY=1 to the socket named by NOTIFY_SOCKET, if it is set.
///
/// # Errors
/// The socket does not exist or nobody listens on it.
pub fn notify() -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let name = name.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(hidden) => SocketAddr::from_abstract_name(hidden)?,
        None => SocketAddr::from_pathname(std::path::Path::new(&*String::from_utf8_lossy(name)))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// Writes a line end to the pipe that this process inherited as descriptor `number`, as s6 expects it. The pipe
/// itself stays open: it is reached by way of /proc.
///
/// # Errors
/// There is no such descriptor, or it is not a pipe.
pub fn write_line_end(number: u32) -> io::Result<()> {
    File::options().write(true).open(format!("/proc/self/fd/{number}"))?.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_reader_of_a_pipe_gets_a_line_end() {
        let (mut reader, writer) = io::pipe().unwrap();
        write_line_end(writer.as_raw_fd() as u32).unwrap();
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "\n");
        assert!(write_line_end(999_999).is_err());
    }
}
