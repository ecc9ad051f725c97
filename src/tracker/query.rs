//! Query strings: percent escapes and `name=value` pairs, both ways (RFC 3986; BEP 3's announces).
//!
//! Values are bytes, not text: an info-hash is 20 arbitrary bytes. A `+` stays a plus sign when reading, as
//! trackers read it, because some clients send it unescaped inside an info-hash.

use kernels::scan;

/// Appends `bytes` to `out`, everything but unreserved characters escaped.
pub fn escape(bytes: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => {
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
}

/// The value of a hexadecimal digit.
pub fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Undoes the escapes of `value` into `out` and gives how many bytes that made; None when an escape is cut
/// or no hexadecimal number, or when `out` is too short.
pub fn unescape_into(value: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut made = 0;
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => (hex_digit(*high)? << 4 | hex_digit(*low)?, tail),
            (b'%', _) => return None,
            (byte, tail) => (*byte, tail),
        };
        *out.get_mut(made)? = byte;
        made += 1;
        rest = tail;
    }
    Some(made)
}

/// Undoes the escapes of `value`; None when one is wrong. Never longer than `value`.
pub fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; value.len()];
    let length = unescape_into(value, &mut out)?;
    out.truncate(length);
    Some(out)
}

/// The non-empty parts of `text` between `separator`s.
pub fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    let parts = std::iter::from_fn(move || {
        let text = rest?;
        let end = scan::find(text, separator);
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    });
    parts.filter(|part| !part.is_empty())
}

/// The `name=value` pairs of a query string (the part after the `?`), still escaped; a name without `=` has an empty
/// value.
pub fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    split(query, b'&').map(|pair| match scan::find(pair, b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &pair[pair.len()..]),
    })
}

/// The first value of `name`, still escaped.
pub fn find<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pairs(query).find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
}

/// Parses a decimal number without sign; `None` if malformed or too large.
pub fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaped_bytes_come_back(bytes: Vec<u8>) {
            let mut text = String::new();
            escape(&bytes, &mut text);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&' && byte != b'=' && byte != b'+'));
            prop_assert_eq!(unescape(text.as_bytes()), Some(bytes));
        }

        #[test]
        fn any_query_is_read_without_growing(query: Vec<u8>) {
            for (name, value) in pairs(&query) {
                prop_assert!(name.len() + value.len() <= query.len());
                prop_assert!(unescape(value).is_none_or(|bytes| bytes.len() <= value.len()));
            }
        }

        #[test]
        fn numbers_come_back(value: u64) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }
    }

    #[test]
    fn wrong_escapes_are_refused() {
        for wrong in ["%", "%4", "%zz", "abc%", "%g1", "%1g"] {
            assert_eq!(unescape(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn wrong_numbers_are_refused() {
        for wrong in ["", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616"] {
            assert_eq!(number(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        let found: Vec<_> = pairs(b"a=1&&b&c=x=y&=z").collect();
        assert_eq!(found, [(&b"a"[..], &b"1"[..]), (b"b", b""), (b"c", b"x=y"), (b"", b"z")]);
        assert_eq!(find(b"a=1&a=2", "a"), Some(&b"1"[..]));
        assert_eq!(find(b"ab=1", "a"), None);
    }
}
