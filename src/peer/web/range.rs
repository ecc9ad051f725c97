//! Where a torrent's bytes are at a web seed, and whether an answer is the one that was asked for: BEP 19's URLs and
//! HTTP's ranges (RFC 9110, 14 and 15.3.7). No I/O.

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use crate::base::percent::escape_path;
use crate::torrent::Metainfo;

/// Bytes in a row of the torrent that are in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of which file; none: zeroes that only fill up a piece, which are nowhere (BEP 47).
    pub url: Option<String>,
    /// Which bytes of it.
    pub range: Range<u64>,
    /// The file's length.
    pub of: u64,
}

/// Where the bytes `range` of the torrent are at the web seed `url`.
///
/// The URL of a torrent of one file is that file's, or with a slash at its end the place of it; of a torrent of many
/// files it is where their directory is.
pub fn parts(metainfo: &Metainfo, url: &str, range: Range<u64>) -> Vec<Part> {
    let mut begin = 0;
    let overlaps = metainfo.files.iter().filter_map(|file| {
        let whole = begin..begin + file.length;
        begin = whole.end;
        let part = range.start.max(whole.start)..range.end.min(whole.end);
        (part.start < part.end).then(|| Part {
            url: (!file.pad).then(|| locate(metainfo, url, file.path.as_os_str().as_bytes())),
            range: part.start - whole.start..part.end - whole.start,
            of: file.length,
        })
    });
    overlaps.collect()
}

fn locate(metainfo: &Metainfo, url: &str, path: &[u8]) -> String {
    let mut url = url.to_owned();
    if metainfo.multi_file {
        if !url.ends_with('/') {
            url.push('/');
        }
        escape_path(metainfo.name.as_bytes(), &mut url);
        url.push('/');
    } else if !url.ends_with('/') {
        return url;
    }
    escape_path(path, &mut url);
    url
}

/// Checks the `Content-Range` of an answer: these bytes `of` a file of that many.
///
/// # Errors
/// What is wrong with it.
pub fn check(content_range: &str, part: &Part) -> Result<(), String> {
    let wrong = || Err(format!("sent `{content_range}` when bytes {} were asked for", asked(&part.range)));
    let Some((bytes, length)) = content_range.trim().strip_prefix("bytes ").and_then(|rest| rest.split_once('/'))
    else {
        return wrong();
    };
    if bytes.trim() != asked(&part.range) {
        return wrong();
    }
    match length.trim().parse::<u64>() {
        Ok(length) if length != part.of => {
            Err(format!("has a file of {length} bytes where there are to be {}", part.of))
        }
        _ => Ok(()),
    }
}

/// A range as HTTP writes it: the last byte is one of it.
pub fn asked(range: &Range<u64>) -> String {
    format!("{}-{}", range.start, range.end.saturating_sub(1))
}

/// Where `location` leads from `url`, if it stays at the same server.
pub fn redirected(url: &str, location: &str) -> Option<String> {
    let host_end = |url: &str| {
        let start = url.find("://")? + 3;
        Some(start + url[start..].find(['/', '?', '#']).unwrap_or(url.len() - start))
    };
    let site = &url[..host_end(url)?];
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{site}{location}"));
    }
    let same = &location[..host_end(location)?] == site;
    same.then(|| location.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::bencode::Encoder;
    use proptest::prelude::*;

    /// A torrent of `files` (name, length, pad); a lone one without a directory.
    fn torrent(files: &[(&str, i64, bool)]) -> Metainfo {
        let length: i64 = files.iter().map(|(_, length, _)| length).sum();
        let mut out = Encoder::new();
        out.dict(|info| {
            match files {
                [(_, length, _)] => info.int("length", *length),
                _ => info.list("files", |list| {
                    for (name, length, pad) in files {
                        list.dict(|file| {
                            if *pad {
                                file.bytes("attr", "p");
                            }
                            file.int("length", *length);
                            file.list("path", |path| name.split('/').for_each(|part| path.bytes(part)));
                        });
                    }
                }),
            }
            info.bytes("name", if files.len() == 1 { files[0].0 } else { "the dir" });
            info.int("piece length", 16);
            info.bytes("pieces", vec![0; (length as usize).div_ceil(16) * 20]);
        });
        Metainfo::from_info(&out.finish()).expect("a torrent")
    }

    fn part(url: Option<&str>, range: Range<u64>, of: u64) -> Part {
        Part { url: url.map(str::to_owned), range, of }
    }

    #[test]
    fn one_file_is_at_the_url_or_beneath_it() {
        let one = torrent(&[("a b%.img", 40, false)]);
        assert_eq!(parts(&one, "http://h/x?y", 8..24), [part(Some("http://h/x?y"), 8..24, 40)]);
        assert_eq!(parts(&one, "http://h/d/", 0..40), [part(Some("http://h/d/a%20b%25.img"), 0..40, 40)]);
    }

    #[test]
    fn many_files_are_beneath_their_directory_and_padding_is_nowhere() {
        let many = torrent(&[("one", 10, false), (".pad/6", 6, true), ("sub/zwei ü", 20, false), ("empty", 0, false)]);
        for url in ["http://h", "http://h/"] {
            let expected = [
                part(Some("http://h/the%20dir/one"), 8..10, 10),
                part(None, 0..6, 6),
                part(Some("http://h/the%20dir/sub/zwei%20%C3%BC"), 0..4, 20),
            ];
            assert_eq!(parts(&many, url, 8..20), expected);
        }
    }

    #[test]
    fn an_answer_for_other_bytes_or_of_another_file_is_seen() {
        let part = part(None, 16..32, 100);
        assert_eq!(check("bytes 16-31/100", &part), Ok(()));
        assert_eq!(check(" bytes 16-31/*", &part), Ok(()));
        for wrong in
            ["", "bytes", "bytes 16-31", "bytes 0-31/100", "bytes 16-32/100", "octets 16-31/100", "bytes */100"]
        {
            assert!(check(wrong, &part).unwrap_err().contains("when bytes 16-31 were asked for"), "{wrong}");
        }
        assert!(check("bytes 16-31/99", &part).unwrap_err().contains("a file of 99 bytes"));
    }

    #[test]
    fn only_a_redirection_within_the_site_is_followed() {
        let from = |location| redirected("http://h:80/a/b", location);
        assert_eq!(from("/c"), Some("http://h:80/c".to_owned()));
        assert_eq!(from("http://h:80/c?d"), Some("http://h:80/c?d".to_owned()));
        for off in
            ["http://i/c", "http://h:81/c", "https://h:80/c", "//i/c", "c", "", "http://h:80.evil/c", "http://h:80@i/"]
        {
            assert_eq!(from(off), None, "{off}");
        }
        assert_eq!(redirected("http://h?q", "/c"), Some("http://h/c".to_owned()));
    }

    proptest! {
        #[test]
        fn parts_cover_the_range_and_nothing_panics(
            lengths in prop::collection::vec(0i64..50, 2..6), from in 0u64..300, length in 0u64..300, text in ".*",
        ) {
            prop_assume!(lengths.iter().sum::<i64>() > 0);
            let names: Vec<String> = (0..lengths.len()).map(|at| at.to_string()).collect();
            let files: Vec<(&str, i64, bool)> =
                names.iter().zip(&lengths).map(|(name, length)| (name.as_str(), *length, false)).collect();
            let total = lengths.iter().sum::<i64>() as u64;
            let parts = parts(&torrent(&files), "http://h/", from..from + length);
            let covered: u64 = parts.iter().map(|part| part.range.end - part.range.start).sum();
            prop_assert_eq!(covered, (from + length).min(total).saturating_sub(from));
            prop_assert!(parts.iter().all(|part| part.range.end <= part.of));
            let _ = (check(&text, &part(None, 0..1, 1)), redirected("http://h/", &text), redirected(&text, &text));
        }
    }
}
