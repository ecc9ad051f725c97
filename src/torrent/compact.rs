//! Compact peer lists: 6 bytes an IPv4 peer (BEP 23), 18 bytes an IPv6 peer (BEP 7), all big-endian.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of an IPv4 peer.
pub const V4: usize = 6;
/// Bytes of an IPv6 peer.
pub const V6: usize = 18;

/// Reads IPv4 peers; a truncated last one and port 0 are left out.
pub fn read_v4(list: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    let (peers, _) = list.as_chunks::<V4>();
    peers.iter().filter_map(|&[a, b, c, d, high, low]| peer(Ipv4Addr::new(a, b, c, d).into(), [high, low]))
}

/// Reads IPv6 peers; a truncated last one and port 0 are left out.
pub fn read_v6(list: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    let (peers, _) = list.as_chunks::<V6>();
    peers.iter().filter_map(|&[ip @ .., high, low]| peer(Ipv6Addr::from(ip).to_canonical(), [high, low]))
}

fn peer(ip: std::net::IpAddr, port: [u8; 2]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(port);
    (port != 0).then_some(SocketAddr::new(ip, port))
}

/// Appends one peer in the form of its address family.
pub fn write(peer: SocketAddr, out: &mut Vec<u8>) {
    match peer {
        SocketAddr::V4(peer) => out.extend_from_slice(&peer.ip().octets()),
        SocketAddr::V6(peer) => out.extend_from_slice(&peer.ip().octets()),
    }
    out.extend_from_slice(&peer.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(peers: &[SocketAddr]) -> Vec<u8> {
        let mut out = Vec::new();
        peers.iter().for_each(|peer| write(*peer, &mut out));
        out
    }

    proptest! {
        #[test]
        fn peers_come_back(v4: Vec<([u8; 4], u16)>, v6: Vec<([u8; 16], u16)>) {
            let v4: Vec<SocketAddr> = v4.into_iter().map(|(ip, port)| (ip, port.max(1)).into()).collect();
            let v6: Vec<SocketAddr> = v6.into_iter().map(|(ip, port)| (ip, port.max(1)).into()).collect();
            prop_assert_eq!(read_v4(&written(&v4)).collect::<Vec<_>>(), v4);
            prop_assert_eq!(read_v6(&written(&v6)).collect::<Vec<_>>(), v6);
        }

        #[test]
        fn any_list_is_read_without_growing(list: Vec<u8>) {
            prop_assert!(read_v4(&list).count() <= list.len() / V4);
            prop_assert!(read_v6(&list).count() <= list.len() / V6);
        }
    }

    #[test]
    fn the_example_of_bep_23_reads_as_it_says() {
        assert_eq!(read_v4(&[10, 10, 10, 5, 0x00, 0x80]).collect::<Vec<_>>(), ["10.10.10.5:128".parse().unwrap()]);
        assert_eq!(read_v4(&[10, 10, 10, 5, 0, 0]).count(), 0, "port 0 is nobody");
    }

    #[test]
    fn a_mapped_ipv4_address_is_an_ipv4_peer() {
        let mut list = "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        list.extend([0x1a, 0xe1]);
        assert_eq!(read_v6(&list).collect::<Vec<_>>(), ["10.0.0.1:6881".parse().unwrap()]);
    }
}
