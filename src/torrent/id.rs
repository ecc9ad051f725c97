//! The two 20-byte identifiers of the protocol (BEP 3), as types that cannot be confused.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use super::Error;

/// The info-hash: SHA-1 over the info dictionary's bytes as found, the identifier of a torrent.
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
pub struct InfoHash(pub [u8; 20]);

/// The identifier that a peer chose for itself; any 20 bytes.
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 20]);

/// The bytes as two numbers.
fn numbers(bytes: &[u8; 20]) -> (u128, u32) {
    let (&[a, b, c, d], front) = bytes.split_last_chunk().map_or((&[0; 4], &[][..]), |(front, last)| (last, front));
    let front = front.try_into().map_or(0, u128::from_ne_bytes);
    (front, u32::from_ne_bytes([a, b, c, d]))
}

/// 40 lower-case hex digits.
fn hex(bytes: &[u8; 20]) -> [u8; 40] {
    let mut text = [0u8; 40];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

macro_rules! hex_text {
    ($name:ident) => {
        impl $name {
            /// 40 lower-case hex digits.
            pub fn digits(&self) -> [u8; 40] {
                hex(&self.0)
            }
        }

        // Compared and hashed as numbers: the derived code for arrays calls memcmp, which is slow in musl.
        impl PartialEq for $name {
            fn eq(&self, other: &$name) -> bool {
                numbers(&self.0) == numbers(&other.0)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let (front, last) = numbers(&self.0);
                state.write_u64(front as u64);
                state.write_u64((front >> 64) as u64);
                state.write_u32(last);
            }
        }

        impl fmt::Display for $name {
            /// 40 lower-case hex digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(std::str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Error;

            /// Exactly 20 bytes.
            fn try_from(bytes: &[u8]) -> Result<$name, Error> {
                bytes.try_into().map($name).map_err(|_| Error::Length { what: stringify!($name), found: bytes.len() })
            }
        }
    };
}

hex_text!(InfoHash);
hex_text!(PeerId);

impl FromStr for InfoHash {
    type Err = Error;

    /// 40 hex digits of either case.
    fn from_str(text: &str) -> Result<InfoHash, Error> {
        let digits = text.as_bytes();
        let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let mut bytes = [0u8; 20];
        if digits.len() != 40 {
            return Err(Error::Hex { text: text.to_owned() });
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            match (nibble(pair[0]), nibble(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(Error::Hex { text: text.to_owned() }),
            }
        }
        Ok(InfoHash(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_hash_reads_back_from_its_text() {
        let hash = InfoHash(std::array::from_fn(|at| at as u8 * 13));
        assert_eq!(hash.to_string(), "000d1a2734414e5b6875828f9ca9b6c3d0ddeaf7");
        assert_eq!(hash.to_string().parse::<InfoHash>().unwrap(), hash);
        assert_eq!(hash.to_string().to_uppercase().parse::<InfoHash>().unwrap(), hash);
    }

    #[test]
    fn what_is_not_40_hex_digits_is_no_info_hash() {
        for text in ["", "00", &"0".repeat(39), &"0".repeat(41), &"g".repeat(40), &"é".repeat(20), &"+1".repeat(20)] {
            assert!(text.parse::<InfoHash>().is_err(), "{text}");
        }
        assert!(PeerId::try_from(&[0u8; 19][..]).is_err());
    }
}
