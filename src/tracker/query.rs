//! Query strings: `name=value` pairs (RFC 3986; BEP 3's announces), their escapes still in place
//! ([`percent`](crate::base::percent) undoes those), and the numbers in them.

use kernels::scan;

/// What stands between the `separator`s, where anything does.
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

/// The `name=value` pairs of a query string (what follows the `?`), escapes still in place; a name without
/// `=` has an empty value.
pub fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    split(query, b'&').map(|pair| match scan::find(pair, b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &pair[pair.len()..]),
    })
}

/// The first value of `name`, escapes still in place.
pub fn find<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pairs(query).find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
}

/// A decimal number without sign; None when there is anything else or it does not fit.
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
        fn any_query_is_read_without_growing(query: Vec<u8>) {
            for (name, value) in pairs(&query) {
                prop_assert!(name.len() + value.len() <= query.len());
            }
        }

        #[test]
        fn numbers_come_back(value: u64) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
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
