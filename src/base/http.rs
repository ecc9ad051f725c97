//! Connections for ureq from a local address of our choice: a tracker takes the address it sees for the one that
//! peers can reach, and ureq's own connector leaves the choice to the kernel.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use crate::sys::net;

/// Connects from the given address, or from any if it is unspecified or of the other family.
#[derive(Debug)]
pub struct Dialer {
    /// The local address to connect from.
    pub from: IpAddr,
    /// Whether a connection may be reused.
    pub keep: bool,
    /// Whether addresses of this machine and its links ([`is_near`]) are connected to.
    pub near: bool,
}

/// Whether `ip` is a loopback or link-local address, or leads to this machine by being unspecified.
pub fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

/// The error of a connection to an address that must not be connected to.
fn too_near(address: &SocketAddr) -> io::Error {
    let why = format!("{} is a loopback or link-local address", address.ip());
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// A connection; every wait on it ends by ureq's deadline.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    buffers: LazyBuffers,
    keep: bool,
}

impl<In: Transport> Connector<In> for Dialer {
    type Out = Line;

    fn connect(&self, details: &ConnectionDetails, _: Option<In>) -> Result<Option<Line>, ureq::Error> {
        if details.needs_tls() {
            return Err(ureq::Error::TlsRequired);
        }
        // The addresses share the time, or one that swallows packets would leave none for the next.
        let patience = *details.timeout.after / details.addrs.len().max(1) as u32;
        let mut failure = io::Error::other("the name has no address");
        for address in &details.addrs {
            if !self.near && is_near(address.ip()) {
                failure = too_near(address);
                continue;
            }
            match net::dial(self.from, *address, patience) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let config = details.config;
                    let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
                    return Ok(Some(Line { stream, buffers, keep: self.keep }));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure.into())
    }
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(Some(left(timeout)?))?;
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output).map_err(|error| failed(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(Some(left(timeout)?))?;
        let amount = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| failed(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // A server sends nothing unasked, except for the end of the connection.
        self.keep && matches!(net::waits(&self.stream), Ok(true))
    }
}

/// Time left; the client sets every one of ureq's time-outs, so it is always bounded.
fn left(timeout: NextTimeout) -> Result<Duration, ureq::Error> {
    timeout.not_zero().map(|left| *left).ok_or(ureq::Error::Timeout(timeout.reason))
}

/// Turns a socket's time-out into ureq's.
fn failed(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_addresses_are_known_in_all_their_forms() {
        for near in ["127.0.0.1", "127.9.9.9", "169.254.1.1", "0.0.0.0", "::1", "::", "fe80::1", "::ffff:127.0.0.1"] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }
}
