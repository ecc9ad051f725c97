//! Byte counts and times as people read them.

/// Scales to decimal units, in which disks and networks are sold.
pub fn scale(count: u64) -> (f64, &'static str) {
    let (unit, name) = match count {
        0..1_000_000 => (1e3, "KB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        1_000_000_000..1_000_000_000_000 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    (count as f64 / unit, name)
}

/// Scales to binary units.
pub fn scale_binary(count: u64) -> (f64, &'static str) {
    let (bits, name) = match count {
        0..0x10_0000 => (10, "KiB"),
        0x10_0000..0x4000_0000 => (20, "MiB"),
        _ => (30, "GiB"),
    };
    (count as f64 / (1_u64 << bits) as f64, name)
}

/// Formats a byte count to three significant digits.
pub fn bytes(count: u64) -> String {
    let (value, name) = match scale(count) {
        (value, "KB") => (value, "kB"),
        scaled => scaled,
    };
    match value {
        0.0..10.0 => format!("{value:.2} {name}"),
        10.0..100.0 => format!("{value:.1} {name}"),
        _ => format!("{value:.0} {name}"),
    }
}

/// Formats seconds as `[H:]M:SS`.
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_sizes_are_short() {
        assert_eq!([clock(5), clock(65), clock(3725)], ["0:05", "1:05", "1:02:05"]);
        assert_eq!(bytes(0), "0.00 kB");
        assert_eq!(bytes(12_345_678), "12.3 MB");
        assert_eq!(bytes(2_000_000_000_000), "2.00 TB");
    }
}
