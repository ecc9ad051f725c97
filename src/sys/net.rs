//! Sockets with options that std cannot set.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, connect, listen as listen_on, socket_with, sockopt,
};

/// Connections that may wait to be accepted, enough for a room that starts within one second.
const BACKLOG: i32 = 1024;
/// Time for which sent data may stay unacknowledged before the other end is taken for switched off, milliseconds.
const USER_TIMEOUT: u32 = 20_000;

/// Opens a listening socket whose port a restarted process can reuse at once; IPv6 ones accept IPv4 as well.
///
/// # Errors
/// The error of socket(2), bind(2) or listen(2).
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(&address, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen_on(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Connects to `address` from the local address `from` (unspecified: any), with a time limit.
///
/// # Errors
/// The error of connect(2); `TimedOut`.
pub fn dial(from: IpAddr, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    if from.is_unspecified() || from.is_ipv4() != address.is_ipv4() {
        return TcpStream::connect_timeout(&address, timeout);
    }
    let socket = new_socket(&address, SocketType::STREAM)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            let time = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
            if poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&time))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sockopt::socket_error(&socket)??;
        }
        Err(error) => return Err(error.into()),
    }
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket.into())
}

/// The local address of connections from `from` (unspecified: any) to `address`; `None` if no route leads there.
/// Nothing is sent.
pub fn local_ip(from: IpAddr, address: SocketAddr) -> Option<IpAddr> {
    if !from.is_unspecified() && from.is_ipv4() == address.is_ipv4() {
        return Some(from);
    }
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// Whether the connection is up with no unread data.
///
/// # Errors
/// The error of recv(2).
pub fn waits(stream: &TcpStream) -> io::Result<bool> {
    match rustix::net::recv(stream, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sets up a peer's connection: small messages leave at once, and a switched-off peer is noticed.
///
/// # Errors
/// The error of setsockopt(2).
pub fn tune(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(silence))?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Opens a non-blocking socket that receives the multicast `group` on the interface of the local address `interface`
/// (unspecified: the one that the routes name), and sends to the group from there, no further than one network.
/// Others may share the port.
///
/// # Errors
/// The error of setsockopt(2) or bind(2): the interface has no multicast, or the port is taken by a process that
/// does not share it.
pub fn multicast(group: SocketAddr, interface: IpAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(&group, SocketType::DGRAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if group.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Bound to the group, it does not receive what is sent to the port of a local address.
    bind(&socket, &group)?;
    match (group.ip(), interface) {
        (IpAddr::V4(group), IpAddr::V4(interface)) => {
            sockopt::set_ip_add_membership(&socket, &group, &interface)?;
            sockopt::set_ip_multicast_if(&socket, &interface)?;
            sockopt::set_ip_multicast_ttl(&socket, 1)?;
        }
        (IpAddr::V6(group), IpAddr::V6(address)) => {
            let index = if address.is_unspecified() { 0 } else { interface_of(address)? };
            sockopt::set_ipv6_add_membership(&socket, &group, index)?;
            sockopt::set_ipv6_multicast_if(&socket, index)?;
            sockopt::set_ipv6_multicast_hops(&socket, 1)?;
        }
        _ => return Err(io::Error::other("a group and an interface of different families")),
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket.into())
}

/// Index of the interface that has the local address `address`.
fn interface_of(address: Ipv6Addr) -> io::Result<u32> {
    // Each line begins with an address and the index of its interface, in hexadecimal digits.
    let list = std::fs::read_to_string("/proc/net/if_inet6")?;
    let number = list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let found = u128::from_str_radix(words.next()?, 16).ok()? == address.to_bits();
        let number = u32::from_str_radix(words.next()?, 16).ok()?;
        found.then_some(number)
    });
    number.ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, format!("no interface has {address}")))
}

fn new_socket(address: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}
