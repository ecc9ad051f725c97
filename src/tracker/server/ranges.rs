//! Lists of addresses (`--allowed_ips`, `--banned_ips`): the namesake's two formats, and plain addresses.
//!
//! A line is `a.b.c.d/len …` (the rest after the first word is a comment), an address, `first-last`, or
//! `label:label:first-last`; `#` begins a comment line. IPv6 in the same forms.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest list that is read, bytes.
const LARGEST: u64 = 64 << 20;

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First and last address of each range, IPv4 as mapped IPv6; sorted, disjoint.
    ranges: Vec<(u128, u128)>,
}

impl Ranges {
    /// Parses a list; also returns the numbers of malformed lines.
    pub fn read(text: &[u8]) -> (Ranges, Vec<usize>) {
        let (mut ranges, mut wrong) = (Vec::new(), Vec::new());
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match std::str::from_utf8(line).ok().and_then(range) {
                Some(range) => ranges.push(range),
                None => wrong.push(at + 1),
            }
        }
        crate::base::sort::sort(&mut ranges);
        let mut apart: Vec<(u128, u128)> = Vec::new();
        for (first, last) in ranges {
            match apart.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => apart.push((first, last)),
            }
        }
        (Ranges { ranges: apart }, wrong)
    }

    /// Whether `ip` is in the set.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = number(ip);
        let after = self.ranges.partition_point(|(first, _)| *first <= ip);
        after.checked_sub(1).is_some_and(|at| ip <= self.ranges[at].1)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Parses a line into a range.
fn range(line: &str) -> Option<(u128, u128)> {
    let word = line.split_whitespace().next()?;
    // Labels come before the addresses, and may contain colons and blanks.
    let after_labels = line.match_indices(':').map(|(at, _)| &line[at + 1..]);
    subnet(word).or_else(|| first_and_last(line)).or_else(|| after_labels.filter_map(first_and_last).next())
}

fn subnet(word: &str) -> Option<(u128, u128)> {
    let (ip, length) = match word.split_once('/') {
        Some((ip, length)) => (ip.parse::<IpAddr>().ok()?, Some(length.parse::<u32>().ok()?)),
        None => (word.parse::<IpAddr>().ok()?, None),
    };
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let host_bits = bits - length.unwrap_or(bits).min(bits);
    if length.is_some_and(|length| length > bits) {
        return None;
    }
    let hosts = 1u128.checked_shl(host_bits).map_or(u128::MAX, |hosts| hosts - 1);
    let first = number(ip) & !hosts;
    Some((first, first | hosts))
}

fn first_and_last(text: &str) -> Option<(u128, u128)> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then(|| (number(first), number(last)))
}

/// A list file that is read again when it changes.
#[derive(Debug)]
pub struct ListFile {
    path: PathBuf,
    /// Inode, size and time of the file when it was read.
    stamp: Option<(u64, u64, i64, i64)>,
    failed: bool,
}

impl ListFile {
    /// The list in `path`; nothing is read yet.
    pub fn new(path: &Path) -> ListFile {
        ListFile { path: path.to_owned(), stamp: None, failed: false }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file if it has changed; warnings go to `tell`.
    pub fn look(&mut self, tell: &dyn Fn(&str)) -> Option<Ranges> {
        match self.read() {
            Ok(text) => {
                self.failed = false;
                let (ranges, wrong) = Ranges::read(&text?);
                if let Some(first) = wrong.first() {
                    let (path, count) = (self.path.display(), wrong.len());
                    tell(&format!("**warning** {count} lines of {path} are malformed, line {first} first"));
                }
                Some(ranges)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tell(&format!("**warning** unable to read IP list {}: {error}", self.path.display()));
                }
                None
            }
        }
    }

    /// The contents; `None` if unchanged.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let metadata = fs::metadata(&self.path)?;
        let stamp = (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if self.stamp == Some(stamp) {
            return Ok(None);
        }
        if metadata.len() > LARGEST {
            return Err(io::Error::other("larger than 64 MiB"));
        }
        let text = fs::read(&self.path)?;
        self.stamp = Some(stamp);
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn contains(list: &str, ip: &str) -> bool {
        Ranges::read(list.as_bytes()).0.contains(ip.parse().unwrap())
    }

    #[test]
    fn every_form_of_line_is_read() {
        for list in [
            "10.1.2.0/24",
            "# rooms\n\n10.1.2.0/24 room 12\r\n",
            "10.1.2.77/24",
            "10.1.2.0-10.1.2.255",
            "one label:another:10.1.2.0-10.1.2.255",
            "a:b:c:10.1.2.0 - 10.1.2.255",
            "10.1.2.128/25\n10.1.2.0/25",
            "::ffff:10.1.2.0/120",
        ] {
            assert!(contains(list, "10.1.2.0") && contains(list, "10.1.2.255"), "{list}");
            assert!(!contains(list, "10.1.1.255") && !contains(list, "10.1.3.0"), "{list}");
        }
        assert!(contains("10.1.2.3", "10.1.2.3") && !contains("10.1.2.3", "10.1.2.4"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "1.2.3.4"));
        assert!(!contains("", "1.2.3.4"));
    }

    #[test]
    fn what_is_no_address_is_counted() {
        let list = "10.0.0.1\n10.0.0.0/33\nx\n10.0.0.9-10.0.0.1\n1.2.3.4-::1\n\u{e9}\n";
        assert_eq!(Ranges::read(list.as_bytes()).1, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_file_is_read_when_it_changes_and_complained_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ips");
        let said = std::cell::RefCell::new(Vec::new());
        let tell = |line: &str| said.borrow_mut().push(line.to_owned());
        let mut file = ListFile::new(&path);
        assert!(file.look(&tell).is_none() && file.look(&tell).is_none());
        assert_eq!(said.borrow().len(), 1);
        fs::write(&path, "10.0.0.0/8\nx\n").unwrap();
        assert!(file.look(&tell).unwrap().contains(Ipv4Addr::new(10, 9, 8, 7).into()));
        assert!(said.borrow()[1].contains("1 lines") && file.look(&tell).is_none());
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_lines_holds(
            lines in prop::collection::vec((any::<[u8; 4]>(), 0u32..=32), 0..20),
            ips in prop::collection::vec(any::<[u8; 4]>(), 0..20),
        ) {
            let text: String = lines.iter().map(|([a, b, c, d], length)| format!("{a}.{b}.{c}.{d}/{length}\n")).collect();
            let (set, wrong) = Ranges::read(text.as_bytes());
            prop_assert!(wrong.is_empty());
            for ip in ips.into_iter().chain(lines.iter().map(|(ip, _)| *ip)) {
                let same = |other: [u8; 4], length: u32| {
                    let differ = u32::from_be_bytes(ip) ^ u32::from_be_bytes(other);
                    differ.checked_shr(32 - length).unwrap_or(0) == 0
                };
                let expected = lines.iter().any(|(other, length)| same(*other, *length));
                prop_assert_eq!(set.contains(ip.into()), expected);
            }
        }

        #[test]
        fn any_list_is_read(text: Vec<u8>) {
            let (set, wrong) = Ranges::read(&text);
            prop_assert!(set.ranges.len() + wrong.len() <= text.len() + 1);
        }
    }
}
