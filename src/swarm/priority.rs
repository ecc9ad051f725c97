//! Canonical peer priority (BEP 40): a number that both ends of a connection compute alike. Where not all
//! connections can be kept, those of the highest priority are: both ends agree which, no peer is preferred by all,
//! and a stranger cannot choose an address that pushes everybody else out.

use std::net::{IpAddr, SocketAddr};

/// The priority of a connection between `a` and `b`, from their addresses; of two on one machine, from their ports.
/// Addresses of different families have the lowest.
pub fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    match (a.ip().to_canonical(), b.ip().to_canonical()) {
        (x, y) if x == y => sorted(a.port().to_be_bytes(), b.port().to_be_bytes()),
        (IpAddr::V4(x), IpAddr::V4(y)) => masked(x.octets(), y.octets(), 2),
        (IpAddr::V6(x), IpAddr::V6(y)) => masked(x.octets(), y.octets(), 6),
        _ => 0,
    }
}

/// CRC-32C of two masked addresses. Each counts in full up to and including the first byte that differs, at least
/// the `network` bytes that name a site; of the rest, every other bit.
fn masked<const N: usize>(a: [u8; N], b: [u8; N], network: usize) -> u32 {
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let whole = if same < network { network } else { same + 1 };
    let mask = |ip: [u8; N]| std::array::from_fn(|at| if at < whole { ip[at] } else { ip[at] & 0x55 });
    sorted::<N>(mask(a), mask(b))
}

/// CRC-32C over both, the smaller first.
fn sorted<const N: usize>(a: [u8; N], b: [u8; N]) -> u32 {
    crc32c(a.min(b).into_iter().chain(a.max(b)))
}

/// CRC-32C (Castagnoli), bit by bit: its inputs are few and short.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    !bytes.fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(a: &str, b: &str) -> u32 {
        let address = |text: &str| text.parse().expect("an address");
        let (a, b) = (address(a), address(b));
        assert_eq!(priority(a, b), priority(b, a));
        priority(a, b)
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }

    #[test]
    fn the_vectors_of_the_specification_hold() {
        assert_eq!(of("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(of("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
    }

    #[test]
    fn the_mask_grows_with_the_common_beginning() {
        let crc = |hex: &[u8]| crc32c(hex.iter().copied());
        assert_eq!(of("10.1.255.255:1", "10.2.255.254:2"), crc(&[10, 1, 0x55, 0x55, 10, 2, 0x55, 0x54]));
        assert_eq!(of("10.1.255.255:1", "10.1.254.255:2"), crc(&[10, 1, 254, 0x55, 10, 1, 255, 0x55]));
        assert_eq!(of("10.1.7.1:1", "10.1.7.1:258"), crc(&[0, 1, 1, 2]));
        let site = "2001:db8:1:ffff:ffff:ffff:ffff:ffff";
        let ends = |ip: &str, whole: usize| {
            let octets = ip.parse::<std::net::Ipv6Addr>().expect("an address").octets();
            octets.into_iter().enumerate().map(move |(at, byte)| if at < whole { byte } else { byte & 0x55 })
        };
        for (other, whole) in [("2001:db8:0:1::1", 6), ("2001:db8:1:1::1", 7), ("2001:db8:1:ff00::1", 8)] {
            let expected = crc32c(ends(other, whole).chain(ends(site, whole)));
            assert_eq!(of(&format!("[{other}]:1"), &format!("[{site}]:2")), expected, "{other}");
        }
        assert_eq!(of("10.0.0.1:1", "[2001:db8::1]:2"), 0);
    }

    proptest! {
        #[test]
        fn an_address_is_the_same_in_both_its_forms(a: [u8; 4], b: [u8; 4], ports: [u16; 2]) {
            let mapped = |ip: [u8; 4]| IpAddr::V6(std::net::Ipv4Addr::from(ip).to_ipv6_mapped());
            let plain = priority((a, ports[0]).into(), (b, ports[1]).into());
            let forms = priority(SocketAddr::new(mapped(a), ports[0]), SocketAddr::new(mapped(b), ports[1]));
            prop_assert_eq!(plain, forms);
        }
    }
}
