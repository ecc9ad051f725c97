//! Sending a file from one PC to others over TCP, the bare bytes, compatible with `mbuffer -O IP:PORT` and
//! `mbuffer -I IP:PORT` (ogUcastSendFile, ogUcastReceiverFile).

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Code, Error};
use crate::image::save::ImageFile;
use crate::sys::io::send_file;
use crate::sys::net::{dial, listen};

/// OpenGnsys' unicast ports.
const PORTS: std::ops::RangeInclusive<u16> = 8000..=8005;
/// Time that either end waits for the other to connect.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest pause in a transfer.
const SILENCE: Duration = Duration::from_secs(60);

/// `port:address:address…`: the receivers to send to, or the sender to receive from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// 8000 to 8005.
    pub port: u16,
    /// The receivers, or the one sender.
    pub addresses: Vec<IpAddr>,
}

impl Session {
    /// Parses a session.
    ///
    /// # Errors
    /// [`Code::UcastSyntax`]: the port is out of range, or an address is missing or malformed.
    pub fn parse(text: &str) -> Result<Session, Error> {
        let wrong = |what: &str| Error::new(Code::UcastSyntax, format!("{text}: {what}"));
        let mut words = text.split(':');
        let port = words.next().and_then(|word| word.parse().ok()).filter(|port| PORTS.contains(port));
        let port = port.ok_or_else(|| wrong("the port must be from 8000 to 8005"))?;
        let address = |word: &str| word.parse::<Ipv4Addr>().map(IpAddr::from);
        let addresses: Result<Vec<IpAddr>, _> = words.map(address).collect();
        match addresses {
            Ok(addresses) if !addresses.is_empty() => Ok(Session { port, addresses }),
            Ok(_) => Err(wrong("an address must follow the port")),
            Err(_) => Err(wrong("only IPv4 addresses may follow the port")),
        }
    }
}

/// Sends `path` to every address of `session` at once.
///
/// # Errors
/// [`Code::UcastSendFile`]: a receiver did not get the whole file; the others did.
pub fn send(path: &Path, session: &Session) -> Result<(), Error> {
    let failed = |why: String| Error::new(Code::UcastSendFile, why);
    let file = File::open(path).map_err(|error| failed(format!("open {}: {error}", path.display())))?;
    let length = file.metadata().map_err(|error| failed(format!("open {}: {error}", path.display())))?.len();
    let one = |address: IpAddr| {
        let address = SocketAddr::new(address, session.port);
        let sent = connect(address).and_then(|socket| {
            socket.set_write_timeout(Some(SILENCE))?;
            send_file(&socket, &file, 0, length)
        });
        sent.map_err(|error| format!("send {} to {address}: {error}", path.display()))
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let sending: Vec<_> = session.addresses.iter().map(|address| scope.spawn(|| one(*address))).collect();
        let ended = sending.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("panicked".to_owned())));
        ended.filter_map(Result::err).collect()
    });
    if failures.is_empty() { Ok(()) } else { Err(failed(failures.join("; "))) }
}

/// Connects to a receiver, which may not listen yet.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let until = Instant::now() + PATIENCE;
    loop {
        match dial(Ipv4Addr::UNSPECIFIED.into(), address, Duration::from_secs(5)) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(200)),
            done => return done,
        }
    }
}

/// Receives a file from the sender of `session`. It gets the name `path` once it is complete.
///
/// # Errors
/// [`Code::UcastReceiverFile`]: nothing came, or the transfer was interrupted; no partial file is left then.
pub fn receive(path: &Path, session: &Session, stop: &dyn Fn() -> bool) -> Result<(), Error> {
    let failed = |why: String| Error::new(Code::UcastReceiverFile, why);
    let from = session.addresses[0];
    let mut socket = accept(from, session.port, stop)
        .map_err(|error| failed(format!("wait for {from} on port {}: {error}", session.port)))?;
    let mut file = ImageFile::create(path).map_err(|error| failed(error.to_string()))?;
    let done = socket.set_read_timeout(Some(SILENCE)).and_then(|()| {
        let mut chunk = vec![0; 256 << 10];
        loop {
            match socket.read(&mut chunk)? {
                0 => return Ok(()),
                _ if stop() => return Err(io::ErrorKind::Interrupted.into()),
                got => io::Write::write_all(file.file(), &chunk[..got])?,
            }
        }
    });
    done.map_err(|error| failed(format!("receive {} from {from}: {error}", path.display())))?;
    file.finish().map_err(|error| failed(error.to_string()))
}

/// Waits for `from` to connect; connections from other addresses are closed.
fn accept(from: IpAddr, port: u16, stop: &dyn Fn() -> bool) -> io::Result<TcpStream> {
    let listener = listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?;
    listener.set_nonblocking(true)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((socket, peer)) if peer.ip() == from => {
                socket.set_nonblocking(false)?;
                return Ok(socket);
            }
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if stop() => return Err(io::ErrorKind::Interrupted.into()),
            Err(_) if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_a_port_and_addresses() {
        let session = Session::parse("8001:10.0.0.1:10.0.0.2").unwrap();
        assert_eq!((session.port, session.addresses.len()), (8001, 2));
        for wrong in ["", "8006:10.0.0.1", "8000", "8000:", "8000:pc1", "x:10.0.0.1"] {
            assert_eq!(Session::parse(wrong).unwrap_err().code, Code::UcastSyntax, "{wrong}");
        }
    }
}
