//! A value that decodes can be walked to its last leaf, and its encoding decodes to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ogbox::torrent::bencode::{Encoder, Value, decode, decode_prefix};

fn write(value: &Value, out: &mut Encoder) {
    if let Some(int) = value.int() {
        out.int(int);
    } else if let Some(bytes) = value.bytes() {
        out.bytes(bytes);
    } else if let Some(items) = value.list() {
        out.list(|out| items.for_each(|item| write(&item, out)));
    } else {
        let entries = value.dict().expect("a value is one of four kinds");
        out.dict(|dict| entries.for_each(|(key, value)| write(&value, dict.key(key))));
    }
}

fn written(value: &Value) -> Vec<u8> {
    let mut out = Encoder::new();
    write(value, &mut out);
    out.finish()
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok((value, taken)) = decode_prefix(bytes) {
        assert_eq!(value.raw(), &bytes[..taken]);
        let once = written(&value);
        assert_eq!(once.len(), taken, "only the order of keys may change");
        let again = decode(&once).expect("what was written is bencode");
        assert_eq!(written(&again), once, "what is in order stays as it is");
    }
});
