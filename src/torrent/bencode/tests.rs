use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A value that owns its parts, to compare the borrowed one with.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(BTreeMap<Vec<u8>, Tree>),
}

fn grow(value: &Value) -> Tree {
    if let Some(int) = value.int() {
        Tree::Int(int)
    } else if let Some(bytes) = value.bytes() {
        Tree::Bytes(bytes.to_vec())
    } else if let Some(items) = value.list() {
        Tree::List(items.map(|item| grow(&item)).collect())
    } else {
        Tree::Dict(value.dict().unwrap().map(|(key, value)| (key.to_vec(), grow(&value))).collect())
    }
}

fn encode(tree: &Tree, backwards: bool, out: &mut Encoder) {
    match tree {
        Tree::Int(int) => out.int(*int),
        Tree::Bytes(bytes) => out.bytes(bytes),
        Tree::List(items) => out.list(|out| items.iter().for_each(|item| encode(item, backwards, out))),
        Tree::Dict(map) => out.dict(|dict| {
            let mut put = |(key, value): (&Vec<u8>, &Tree)| encode(value, backwards, dict.key(key));
            if backwards { map.iter().rev().for_each(&mut put) } else { map.iter().for_each(&mut put) }
        }),
    }
}

fn bytes_of(tree: &Tree, backwards: bool) -> Vec<u8> {
    let mut out = Encoder::new();
    encode(tree, backwards, &mut out);
    out.finish()
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf =
        prop_oneof![any::<i64>().prop_map(Tree::Int), prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Bytes)];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let key = prop::collection::vec(any::<u8>(), 0..4);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::btree_map(key, inner, 0..6).prop_map(Tree::Dict),
        ]
    })
}

/// Bytes that look like bencode more often than arbitrary ones do.
fn near_bencode() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"ilde0123456789:-\xff".to_vec()), 0..60)
}

#[test]
fn parts_of_one_length_are_one_string() {
    let mut out = Encoder::new();
    out.dict(|dict| {
        dict.packed("none", std::iter::empty::<[u8; 6]>());
        dict.packed("peers", [*b"abcdef", *b"ghijkl"].into_iter());
    });
    assert_eq!(out.finish(), b"d4:none0:5:peers12:abcdefghijkle");
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(tree in trees()) {
        let bytes = bytes_of(&tree, false);
        let value = decode(&bytes).unwrap();
        prop_assert_eq!(grow(&value), tree);
        prop_assert_eq!(value.raw(), &bytes[..]);
    }

    #[test]
    fn the_order_in_which_keys_are_given_does_not_matter(tree in trees()) {
        prop_assert_eq!(bytes_of(&tree, true), bytes_of(&tree, false));
    }

    #[test]
    fn a_value_is_found_in_front_of_other_bytes(tree in trees(), tail in prop::collection::vec(any::<u8>(), 1..20)) {
        let bytes = bytes_of(&tree, false);
        let mut longer = bytes.clone();
        longer.extend(tail);
        let (value, taken) = decode_prefix(&longer).unwrap();
        prop_assert_eq!((value.raw(), taken), (&bytes[..], bytes.len()));
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn every_truncation_is_an_error(tree in trees()) {
        let bytes = bytes_of(&tree, false);
        for length in 0..bytes.len() {
            prop_assert!(decode(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn bytes_that_decode_encode_to_the_same_values(bytes in near_bencode()) {
        if let Ok((value, taken)) = decode_prefix(&bytes) {
            let again = bytes_of(&grow(&value), false);
            prop_assert_eq!(again.len(), taken);
            prop_assert_eq!(grow(&decode(&again).unwrap()), grow(&value));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((value, _)) = decode_prefix(&bytes) {
            grow(&value);
        }
    }
}

#[test]
fn faults_are_named_with_their_place() {
    let deep = "l".repeat(MAX_DEPTH + 1);
    for (text, expected) in [
        ("", "the data end inside a value (byte 0)"),
        ("i12", "the data end inside a value (byte 3)"),
        ("l", "the data end inside a value (byte 1)"),
        ("12", "the data end inside a value (byte 2)"),
        ("x", "`x` begins no bencoded value (byte 0)"),
        ("\n", "0x0a begins no bencoded value (byte 0)"),
        ("e", "`e` begins no bencoded value (byte 0)"),
        ("lie", "an integer is malformed (byte 1)"),
        ("i-e", "an integer is malformed (byte 0)"),
        ("i-0e", "an integer is malformed (byte 0)"),
        ("i03e", "an integer is malformed (byte 0)"),
        ("i+3e", "an integer is malformed (byte 0)"),
        ("i1.5e", "an integer is malformed (byte 0)"),
        ("i9223372036854775808e", "an integer does not fit 64 bits (byte 0)"),
        ("i-9223372036854775809e", "an integer does not fit 64 bits (byte 0)"),
        ("03:abc", "a string's length is malformed (byte 0)"),
        ("3abc", "a string's length is malformed (byte 0)"),
        ("99999999999999999999:", "a string's length is malformed (byte 0)"),
        ("l18446744073709551615:abce", "a string of 18446744073709551615 bytes is cut short, 4 are left (byte 1)"),
        ("4:abc", "a string of 4 bytes is cut short, 3 are left (byte 0)"),
        ("di1ei2ee", "a dictionary's key is not a string (byte 1)"),
        ("d1:ae", "a dictionary's key has no value (byte 4)"),
        ("d1:ai1e1:ai2ee", "a dictionary has a key twice (byte 0)"),
        ("ld1:bi1e1:ai2e1:bi3eee", "a dictionary has a key twice (byte 1)"),
        (deep.as_str(), "lists and dictionaries are nested deeper than 64 (byte 64)"),
        ("i1ei2e", "bytes follow the value's end (byte 3)"),
    ] {
        assert_eq!(decode(text.as_bytes()).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn the_extremes_of_integers_are_read_and_written() {
    for int in [i64::MIN, -1, 0, 1, i64::MAX] {
        let bytes = bytes_of(&Tree::Int(int), false);
        assert_eq!(bytes, format!("i{int}e").into_bytes());
        assert_eq!(decode(&bytes).unwrap().int(), Some(int));
    }
}

#[test]
fn the_deepest_nesting_is_read() {
    let text = "l".repeat(MAX_DEPTH) + &"e".repeat(MAX_DEPTH);
    assert!(decode(text.as_bytes()).is_ok());
}

#[test]
fn keys_out_of_order_are_found_with_their_offsets() {
    let value = decode(b"d1:zd1:yi7ee1:a3:xyze").unwrap();
    let z = value.get(b"z").unwrap();
    assert_eq!((z.raw(), z.at()), (&b"d1:yi7ee"[..], 4));
    let y = z.get(b"y").unwrap();
    assert_eq!((y.int(), y.at()), (Some(7), 8));
    assert_eq!(value.get(b"a").unwrap().str(), Some("xyz"));
    assert_eq!(value.get(b"b"), None);
}

#[test]
fn a_value_is_only_what_it_is() {
    let int = decode(b"i5e").unwrap();
    assert!(int.bytes().is_none() && int.list().is_none() && int.dict().is_none() && int.get(b"i").is_none());
    let bytes = decode(b"2:i5").unwrap();
    assert!(bytes.int().is_none() && bytes.list().is_none() && bytes.dict().is_none());
}

#[test]
fn of_a_key_written_twice_the_last_value_stays() {
    let mut out = Encoder::new();
    out.dict(|dict| {
        dict.int("b", 1);
        dict.int("a", 2);
        dict.int("b", 3);
    });
    assert_eq!(out.finish(), b"d1:ai2e1:bi3ee");
}
