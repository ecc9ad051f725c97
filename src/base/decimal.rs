//! Numbers as options spell them: digits with at most one point, without sign, exponent or words.

/// Reads all of `text`; `None` if it is no number, or too large for one.
pub fn read(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// Reads the number that `text` begins with, whatever follows it, as C's `atof` and `atoi` do.
pub fn leading(text: &str) -> Option<f64> {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    read(&text[..end])
}

/// Reads all of `text` as a whole number, hexadecimal behind `0x`, as C's `strtoull` does; `None` if it is none or too large.
pub fn whole(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    digits.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16)).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_decimal_or_hexadecimal() {
        assert_eq!(["10", "0x10", "0Xff"].map(whole), [Some(10), Some(16), Some(255)]);
        assert_eq!(["", "0x", "-1", "+1", "0x+1", "1.5", "99999999999999999999"].map(whole), [None; 7]);
    }

    #[test]
    fn a_number_is_digits_with_at_most_one_point() {
        for (text, number) in [("72", 72.0), ("1.5", 1.5), (".25", 0.25), ("3.", 3.0), ("0", 0.0)] {
            assert_eq!(read(text), Some(number), "{text}");
        }
        assert_eq!(read(&"9".repeat(400)), None);
        for text in ["", ".", "1.2.3", "-1", "1e3", "inf", "NaN", "1 ", "0x10", "\u{663}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_follows_a_leading_number_does_not_count() {
        for (text, number) in
            [("5 minutes", Some(5.0)), ("1.5x", Some(1.5)), ("7", Some(7.0)), ("x7", None), ("", None)]
        {
            assert_eq!(leading(text), number, "{text}");
        }
    }
}
