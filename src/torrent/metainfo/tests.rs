use super::*;
use crate::torrent::bencode::{Dict, Encoder};
use proptest::prelude::*;

/// A metainfo file whose info dictionary is `fill`ed and whose other keys are `more`.
fn torrent(fill: impl FnOnce(&mut Dict), more: impl FnOnce(&mut Dict)) -> Vec<u8> {
    let mut out = Encoder::new();
    out.dict(|top| {
        more(top);
        top.dict("info", fill);
    });
    out.finish()
}

fn single(name: &str, length: i64, piece_length: i64, hashes: usize) -> Vec<u8> {
    let fill = |info: &mut Dict| {
        info.bytes("name", name);
        info.int("length", length);
        info.int("piece length", piece_length);
        info.bytes("pieces", vec![7; hashes * 20]);
    };
    torrent(fill, |_| {})
}

fn many(files: &[(i64, &[&str])]) -> Vec<u8> {
    let fill = |info: &mut Dict| {
        info.bytes("name", "d");
        info.list("files", |list| {
            for (length, path) in files {
                list.dict(|file| {
                    file.int("length", *length);
                    file.list("path", |list| path.iter().for_each(|part| list.bytes(part)));
                });
            }
        });
        info.int("piece length", 16);
        info.bytes("pieces", vec![7; 20]);
    };
    torrent(fill, |_| {})
}

/// The smallest valid torrent, as text.
const GOOD: &str = "d4:infod6:lengthi5e4:name1:x12:piece lengthi16e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";

/// One broken torrent a line: its defect, its bytes, the error's text.
#[rustfmt::skip]
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = |from: &str, to: &str| {
        assert!(GOOD.contains(from));
        GOOD.replace(from, to).into_bytes()
    };
    vec![
        ("empty", vec![], "the data end inside a value (byte 0)"),
        ("cut short", GOOD.as_bytes()[..60].to_vec(), "a string of 20 bytes is cut short, 2 are left (byte 55)"),
        ("trailing bytes", format!("{GOOD}\n").into_bytes(), "bytes follow the value's end (byte 80)"),
        ("an image instead", b"partclone-image0001".to_vec(), "`p` begins no bencoded value (byte 0)"),
        ("gzip instead", vec![0x1f, 0x8b, 8, 0], "0x1f begins no bencoded value (byte 0)"),
        ("a page instead", b"<html><body>404".to_vec(), "`<` begins no bencoded value (byte 0)"),
        ("a list instead", b"le".to_vec(), "the metainfo is not a dictionary (byte 0)"),
        ("no info", b"de".to_vec(), "info is missing"),
        ("info is a string", b"d4:info2:dee".to_vec(), "info is not a dictionary (byte 7)"),
        ("info is twice", good("d4:infod", "d4:infode4:infod"), "a dictionary has a key twice (byte 0)"),
        ("string of 4 GiB", good("20:a", "4294967296:a"), "a string of 4294967296 bytes is cut short, 22 are left (byte 55)"),
        ("string beyond 64 bits", good("20:a", "18446744073709551616:a"), "a string's length is malformed (byte 55)"),
        ("nested without end", b"l".repeat(100_000), "lists and dictionaries are nested deeper than 64 (byte 64)"),
        ("no name", good("4:name1:x", ""), "info.name is missing"),
        ("name is a number", good("1:x", "i1e"), "info.name is not a string (byte 25)"),
        ("name is empty", single("", 5, 16, 1), "info.name is \"\", which is no file name (byte 25)"),
        ("name is a dot", single(".", 5, 16, 1), "info.name is \".\", which is no file name (byte 25)"),
        ("name is two dots", single("..", 5, 16, 1), "info.name is \"..\", which is no file name (byte 25)"),
        ("name leaves", single("../x", 5, 16, 1), "info.name is \"../x\", which is no file name (byte 25)"),
        ("name is absolute", single("/etc/passwd", 5, 16, 1), "info.name is \"/etc/passwd\", which is no file name (byte 25)"),
        ("name has a NUL", single("a\0b", 5, 16, 1), "info.name is \"a\\x00b\", which is no file name (byte 25)"),
        ("no length", good("6:lengthi5e", ""), "info.length is missing"),
        ("length is a string", good("i5e", "1:5"), "info.length is not an integer (byte 16)"),
        ("length is negative", single("x", -1, 16, 1), "info.length is -1, below 0 (byte 16)"),
        ("length is zero", single("x", 0, 16, 0), "info describes no data: 0 bytes (byte 7)"),
        ("length is absurd", single("x", i64::MAX, 16, 1), "info.pieces has 1 hashes, but the lengths make 576460752303423488 pieces (byte 73)"),
        ("no piece length", good("12:piece lengthi16e", ""), "info.piece length is missing"),
        ("piece length is a string", good("i16e", "2:16"), "info.piece length is not an integer (byte 43)"),
        ("piece length is zero", single("x", 5, 0, 1), "info.piece length is 0, not between 1 and 268435456 bytes (byte 43)"),
        ("piece length is negative", single("x", 5, -16, 1), "info.piece length is -16, not between 1 and 268435456 bytes (byte 43)"),
        ("piece length is absurd", single("x", 5, 1 << 40, 1), "info.piece length is 1099511627776, not between 1 and 268435456 bytes (byte 43)"),
        ("no pieces", good("6:pieces20:aaaaaaaaaaaaaaaaaaaa", ""), "info.pieces is missing"),
        ("version 2 only", good("6:lengthi5e4:name1:x12:piece lengthi16e6:pieces20:aaaaaaaaaaaaaaaaaaaa",
            "6:lengthi5e12:meta versioni2e4:name1:x12:piece lengthi16e"), "info.meta version says that this is not a version 1 torrent (byte 34)"),
        ("pieces is a number", good("20:aaaaaaaaaaaaaaaaaaaa", "i1e"), "info.pieces is not a string (byte 55)"),
        ("half a hash", good("20:a", "19:"), "info.pieces has 19 bytes, not a multiple of 20 (byte 55)"),
        ("a hash too few", single("x", 33, 16, 2), "info.pieces has 2 hashes, but the lengths make 3 pieces (byte 56)"),
        ("a hash too many", single("x", 16, 16, 2), "info.pieces has 2 hashes, but the lengths make 1 pieces (byte 56)"),
        ("files and length", torrent(|info| {
            info.int("length", 5);
            info.list("files", |_| {});
            info.bytes("name", "x");
            info.int("piece length", 16);
            info.bytes("pieces", [7; 20]);
        }, |_| {}), "info.files is present together with info.length (byte 15)"),
        ("files is a number", good("6:lengthi5e", "5:filesi5e"), "info.files is not a list (byte 15)"),
        ("files is empty", many(&[]), "info describes no data: 0 bytes (byte 7)"),
        ("a file is a number", good("6:lengthi5e", "5:filesli5ee"), "info.files.length is missing"),
        ("a file without path", good("6:lengthi5e", "5:filesld6:lengthi5eee"), "info.files.path is missing"),
        ("a path is a string", good("6:lengthi5e", "5:filesld6:lengthi5e4:path1:xee"), "info.files.path is not a list (byte 34)"),
        ("a path is empty", many(&[(5, &[])]), "info.files.path is empty (byte 34)"),
        ("a path has an empty part", many(&[(5, &["a", ""])]), "info.files.path is \"\", which is no file name (byte 38)"),
        ("a path leaves", many(&[(5, &["a", "..", "..", "b"])]), "info.files.path is \"..\", which is no file name (byte 38)"),
        ("a path has a slash", many(&[(5, &["a/../../b"])]), "info.files.path is \"a/../../b\", which is no file name (byte 35)"),
        ("a path has a NUL", many(&[(5, &["a\0"])]), "info.files.path is \"a\\x00\", which is no file name (byte 35)"),
        ("a file is twice", many(&[(5, &["a", "b"]), (1, &["c"]), (5, &["a", "b"])]), "info.files has \"a/b\" twice (byte 15)"),
        ("a file is a directory", many(&[(5, &["a", "b"]), (1, &["a b"]), (5, &["a"])]), "info.files has \"a\" as a file and as a directory (byte 15)"),
        ("a file's length is negative", many(&[(6, &["a"]), (-1, &["b"])]), "info.files.length is -1, below 0 (byte 49)"),
        ("lengths overflow", many(&[(i64::MAX, &["a"]), (i64::MAX, &["b"]), (i64::MAX, &["c"])]), "info.files has lengths whose sum exceeds 64 bits (byte 7)"),
        ("lengths overflow the sign", many(&[(i64::MAX, &["a"]), (1, &["b"])]), "info.files has lengths whose sum exceeds 64 bits (byte 7)"),
    ]
}

#[test]
fn each_broken_torrent_is_refused_with_its_defect_and_place() {
    let found: Vec<_> = broken()
        .into_iter()
        .map(|(defect, bytes, expected)| (defect, Metainfo::parse(&bytes).map_err(|error| error.to_string()), expected))
        .filter(|(_, found, expected)| *found != Err((*expected).to_owned()))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_smallest_torrent_is_read() {
    let metainfo = Metainfo::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(metainfo.name, "x");
    assert_eq!(metainfo.geometry, Geometry::new(5, 16));
    assert_eq!(metainfo.files, [FileEntry { path: "x".into(), length: 5, pad: false }]);
    assert_eq!(metainfo.piece_hash(0), *b"aaaaaaaaaaaaaaaaaaaa");
    assert_eq!(metainfo.piece_hash(1), [0; 20]);
    // Printed by: printf 'd6:length…e' | sha1sum
    assert_eq!(metainfo.info_hash.to_string(), "a9429f8e6babdcf8dbdad12d297524efe4db1683");
    let bare = Metainfo::from_info(metainfo.info_bytes()).unwrap();
    assert_eq!(bare, metainfo);
}

#[test]
fn the_info_hash_is_over_the_bytes_as_found() {
    let unsorted = GOOD.replace("6:lengthi5e4:name1:x", "4:name1:x6:lengthi5e");
    let (sorted, unsorted) = (Metainfo::parse(GOOD.as_bytes()).unwrap(), Metainfo::parse(unsorted.as_bytes()).unwrap());
    assert_ne!(unsorted.info_hash, sorted.info_hash);
    assert_eq!(unsorted.piece_hash(0), sorted.piece_hash(0));
}

#[test]
fn everything_that_a_torrent_may_say_is_read() {
    let fill = |info: &mut Dict| {
        info.bytes("name", "d\u{e9}");
        info.int("private", 1);
        info.int("piece length", 16);
        info.bytes("pieces", [vec![1; 20], vec![2; 20]].concat());
        info.list("files", |list| {
            for (length, attr, path) in [(10, "x", ["a", "b"]), (6, "p", [".pad", "6"]), (1, "", ["a", "c"])] {
                list.dict(|file| {
                    file.int("length", length);
                    file.bytes("attr", attr);
                    file.list("path", |list| path.iter().for_each(|part| list.bytes(part)));
                });
            }
        });
    };
    let more = |top: &mut Dict| {
        top.bytes("announce", "http://ignored/");
        top.list("announce-list", |tiers| {
            tiers.list(|tier| ["http://a/", "udp://b:1", ""].iter().for_each(|url| tier.bytes(url)));
            tiers.list(|_| {});
            tiers.list(|tier| tier.bytes("http://c/"));
        });
        top.list("url-list", |list| ["http://w/", ""].iter().for_each(|url| list.bytes(url)));
        top.bytes("comment", "md5");
        top.bytes("created by", "us");
        top.int("creation date", 1_700_000_000);
    };
    let metainfo = Metainfo::parse(&torrent(fill, more)).unwrap();
    assert_eq!(metainfo.name, "d\u{e9}");
    assert!(metainfo.multi_file && metainfo.private);
    assert_eq!(metainfo.geometry, Geometry::new(17, 16));
    let entry = |path: &str, length, pad| FileEntry { path: path.into(), length, pad };
    assert_eq!(metainfo.files, [entry("a/b", 10, false), entry(".pad/6", 6, true), entry("a/c", 1, false)]);
    assert_eq!(metainfo.piece_hash(1), [2; 20]);
    assert_eq!(metainfo.announce, [vec!["http://a/", "udp://b:1"], vec!["http://c/"]]);
    assert_eq!(metainfo.web_seeds, ["http://w/"]);
    assert_eq!((metainfo.comment.as_deref(), metainfo.created_by.as_deref()), (Some("md5"), Some("us")));
    assert_eq!(metainfo.creation_date, Some(1_700_000_000));
}

#[test]
fn a_lone_announce_is_one_tier_and_a_lone_web_seed_is_one() {
    let fill = |info: &mut Dict| {
        info.bytes("name", "x");
        info.int("length", 1);
        info.int("piece length", 1);
        info.bytes("pieces", [0; 20]);
    };
    let more = |top: &mut Dict| {
        top.bytes("announce", "http://a/");
        top.list("announce-list", |_| {});
        top.bytes("url-list", "http://w/");
    };
    let metainfo = Metainfo::parse(&torrent(fill, more)).unwrap();
    assert_eq!(metainfo.announce, [["http://a/"]]);
    assert_eq!(metainfo.web_seeds, ["http://w/"]);
    assert!(!metainfo.private && !metainfo.multi_file);
}

#[test]
fn what_is_wrong_with_a_file_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.torrent");
    let missing = Metainfo::read(&path).unwrap_err().to_string();
    assert_eq!(missing, format!("read {}: No such file or directory (os error 2)", path.display()));
    std::fs::write(&path, "de").unwrap();
    assert_eq!(Metainfo::read(&path).unwrap_err().to_string(), format!("{}: info is missing", path.display()));
    File::create(&path).unwrap().set_len(MAX_METAINFO + 1).unwrap();
    let large = Metainfo::read(&path).unwrap_err().to_string();
    assert_eq!(large, format!("{}: larger than a metainfo file may be (67108864 bytes)", path.display()));
    std::fs::write(&path, GOOD).unwrap();
    assert_eq!(Metainfo::read(&path).unwrap().name, "x");
}

proptest! {
    #[test]
    fn every_truncation_of_a_torrent_is_an_error(cut in 0..GOOD.len()) {
        prop_assert!(Metainfo::parse(&GOOD.as_bytes()[..cut]).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Metainfo::parse(&bytes);
    }

    #[test]
    fn a_torrent_with_some_bytes_changed_is_read_or_refused_but_its_paths_stay_inside(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut bytes = many(&[(5, &["a", "b"]), (6, &["c", "d"])]);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(metainfo) = Metainfo::parse(&bytes) {
            for file in &metainfo.files {
                prop_assert!(file.path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
            prop_assert_eq!(metainfo.files.iter().map(|file| file.length).sum::<u64>(), metainfo.geometry.length());
        }
    }
}
