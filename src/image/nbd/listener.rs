//! The socket of an NBD server, and a thread for each connection.

use std::fs;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;

use super::{Export, haggling, transmission};
use crate::base::boundary::guard;
use crate::base::percent::escape_path;
use crate::image::Error;

/// Connections at once; a client such as nbdcopy opens four.
const MOST_CONNECTIONS: usize = 16;
/// Interval at which an end asked for is looked for.
const INTERVAL: Duration = Duration::from_millis(100);
/// Stack of a connection's thread, bytes.
const STACK: usize = 256 << 10;

/// A connection, whichever socket it came by.
trait Stream: Send {
    fn halves(self: Box<Self>) -> io::Result<(Box<dyn Read>, Box<dyn Write>)>;
}

impl Stream for UnixStream {
    fn halves(self: Box<Self>) -> io::Result<(Box<dyn Read>, Box<dyn Write>)> {
        Ok((Box::new(self.try_clone()?), self))
    }
}

impl Stream for TcpStream {
    fn halves(self: Box<Self>) -> io::Result<(Box<dyn Read>, Box<dyn Write>)> {
        self.set_nodelay(true)?;
        Ok((Box::new(self.try_clone()?), self))
    }
}

enum Socket {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// A socket that listens; that of a path is removed when it is dropped.
pub struct Listener(Socket);

impl Listener {
    /// Listens on a Unix socket at `path`, which its owner alone may connect to. A socket there that nobody listens on is
    /// replaced.
    ///
    /// # Errors
    /// Another file or a server has that path, or the directory cannot be written to.
    pub fn at(path: &Path) -> Result<Listener, Error> {
        let fault = |error: io::Error| Error::io(format!("listen on {}", path.display()), error);
        let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            fs::remove_file(path).map_err(fault)?;
        }
        let mask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let bound = UnixListener::bind(path);
        rustix::process::umask(mask);
        let listener = bound.map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        let path = std::path::absolute(path).map_err(fault)?;
        Ok(Listener(Socket::Unix(listener, path)))
    }

    /// Listens on a port of loopback; 0 stands for any free one. Every user of this machine may connect.
    ///
    /// # Errors
    /// The port is taken.
    pub fn on_port(port: u16) -> Result<Listener, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let fault = |error: io::Error| Error::io(format!("listen on {address}"), error);
        let listener = TcpListener::bind(address).map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        Ok(Listener(Socket::Tcp(listener)))
    }

    /// Returns the URI of the export `name` (`doc/uri.md` of the NBD project).
    pub fn uri(&self, name: &str) -> String {
        match &self.0 {
            Socket::Unix(_, path) => {
                let mut uri = format!("nbd+unix:///{name}?socket=");
                escape_path(path.as_os_str().as_encoded_bytes(), &mut uri);
                uri
            }
            Socket::Tcp(listener) => {
                let address = listener.local_addr().map_or(String::new(), |address| address.to_string());
                format!("nbd://{address}/{name}")
            }
        }
    }

    /// Serves `exports` until `stop`. `say` receives a line about each connection that went wrong.
    ///
    /// # Errors
    /// The socket failed.
    pub fn serve(&self, exports: Vec<Export>, stop: &dyn Fn() -> bool, say: fn(&str)) -> Result<(), Error> {
        let (exports, connections) = (Arc::new(exports), Arc::new(AtomicUsize::new(0)));
        let fault = |error: io::Error| Error::io(format!("accept a connection on {}", self.uri("")), error);
        while !stop() {
            let Some(stream) = self.accept().map_err(fault)? else { continue };
            if connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
                connections.fetch_sub(1, Ordering::Relaxed);
                say(&format!("a connection was closed: there are {MOST_CONNECTIONS} already"));
                continue;
            }
            let (exports, theirs) = (Arc::clone(&exports), Arc::clone(&connections));
            let work = move || {
                let ended = guard("a connection", || converse(stream, &exports, say));
                theirs.fetch_sub(1, Ordering::Relaxed);
                match ended {
                    Ok(Err(error)) if error.kind() != ErrorKind::UnexpectedEof => {
                        say(&format!("a connection: {error}"))
                    }
                    Err(panic) => say(&panic.to_string()),
                    _ => {}
                }
            };
            if let Err(error) = std::thread::Builder::new().name("nbd".into()).stack_size(STACK).spawn(work) {
                connections.fetch_sub(1, Ordering::Relaxed);
                say(&format!("a connection was closed: no thread for it: {error}"));
            }
        }
        Ok(())
    }

    /// Returns the next connection; `None` if there is none within [`INTERVAL`].
    fn accept(&self) -> io::Result<Option<Box<dyn Stream>>> {
        let descriptor = match &self.0 {
            Socket::Unix(listener, _) => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        };
        let limit = Timespec { tv_sec: 0, tv_nsec: INTERVAL.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            polled => polled?,
        };
        let accepted: io::Result<Box<dyn Stream>> = match &self.0 {
            Socket::Unix(listener, _) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(false)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
            Socket::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(false)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
        };
        match accepted {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => Ok(None),
            accepted => accepted.map(Some),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.0 {
            // A name that is left is replaced by the next server.
            let _ = fs::remove_file(path);
        }
    }
}

/// Serves one connection to its end.
fn converse(stream: Box<dyn Stream>, exports: &[Export], say: fn(&str)) -> io::Result<()> {
    let (input, output) = stream.halves()?;
    let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
    // Negotiation is written in small parts, each of which the client waits for.
    let chosen = haggling::haggle(&mut input, output.get_mut(), exports)?;
    match chosen {
        Some(export) => transmission::transmit(&mut input, &mut output, export, &say),
        None => Ok(()),
    }
}
