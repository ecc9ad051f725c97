//! Percent-encoding (RFC 3986, 2.1) of bytes in URLs, and back. Bytes rather than text, for an info-hash is 20 arbitrary
//! bytes.

/// Appends `bytes` to `out`, everything but unreserved characters escaped.
pub fn escape(bytes: &[u8], out: &mut String) {
    escape_but(b"", bytes, out);
}

/// Appends a path to `out`, everything but unreserved characters and slashes escaped.
pub fn escape_path(path: &[u8], out: &mut String) {
    escape_but(b"/", path, out);
}

fn escape_but(plain: &[u8], bytes: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            out.push(byte.into());
        } else {
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)].into());
            out.push(HEX[usize::from(byte & 15)].into());
        }
    }
}

/// Undoes the escapes of `value` into `out` and returns the number of bytes written; `None` if an escape is cut short or
/// not hexadecimal, or `out` is too short. A `+` stays as it is: some clients send it unescaped inside an info-hash.
pub fn unescape_into(value: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut made = 0;
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => (digit(*high)? << 4 | digit(*low)?, tail),
            (b'%', _) => return None,
            (byte, tail) => (*byte, tail),
        };
        *out.get_mut(made)? = byte;
        made += 1;
        rest = tail;
    }
    Some(made)
}

/// Undoes the escapes of `value`; `None` if one is malformed. The result is never longer than `value`.
pub fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; value.len()];
    let length = unescape_into(value, &mut out)?;
    out.truncate(length);
    Some(out)
}

/// The value of a hexadecimal digit.
fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaped_bytes_come_back(bytes: Vec<u8>) {
            let (mut text, mut path) = (String::new(), String::new());
            escape(&bytes, &mut text);
            escape_path(&bytes, &mut path);
            for text in [&text, &path] {
                let plain = |byte: u8| byte.is_ascii_graphic() && !b"&=+?#".contains(&byte);
                prop_assert!(text.bytes().all(plain));
                prop_assert_eq!(unescape(text.as_bytes()), Some(bytes.clone()));
            }
            prop_assert!(!text.contains('/'));
            prop_assert_eq!(text.replace("%2F", "/"), path);
        }

        #[test]
        fn any_text_is_unescaped_without_growing(text: Vec<u8>) {
            prop_assert!(unescape(&text).is_none_or(|bytes| bytes.len() <= text.len()));
        }
    }

    #[test]
    fn escapes_are_upper_case_and_read_in_either() {
        let mut text = String::new();
        escape("a/ñ~ +".as_bytes(), &mut text);
        assert_eq!(text, "a%2F%C3%B1~%20%2B");
        assert_eq!(unescape(b"%c3%b1+%C3%B1").as_deref(), Some("ñ+ñ".as_bytes()));
        assert_eq!((unescape_into(b"%41b", &mut [0; 2]), unescape_into(b"%41b", &mut [0; 1])), (Some(2), None));
    }

    #[test]
    fn wrong_escapes_are_refused() {
        for wrong in ["%", "%4", "%zz", "abc%", "%g1", "%1g"] {
            assert_eq!(unescape(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
