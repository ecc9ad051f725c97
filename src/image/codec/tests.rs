//! Helpers for the tests of all codecs.

use super::*;

/// Returns `plain` as `codec` packs it.
pub fn packed(codec: &Codec, plain: &[u8]) -> Vec<u8> {
    let (mut from, mut out, mut head) = (plain, Vec::new(), Vec::new());
    (codec.begin)(&mut head);
    let mut fill = |to: &mut [u8]| {
        let (now, later) = from.split_at(from.len().min(to.len()));
        to[..now.len()].copy_from_slice(now);
        from = later;
        Ok(now.len())
    };
    let mut send = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    pack(codec, &head, &mut fill, &mut send).unwrap();
    out
}

/// Returns the content of `file`, expanded by the codec that recognises it, or the error.
pub fn unpacked(file: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut input = Input::new(Box::new(std::io::Cursor::new(file.to_vec())), "file");
    let codec = recognise(input.peek(16).unwrap());
    assert_ne!(codec.name, "none");
    let mut take = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    unpack(codec, &mut input, &Watch::idle(), &mut take).map_err(|error| error.to_string())?;
    Ok(out)
}

/// Asserts that `file`, with any one bit flipped after the first `from` bytes, expands to `plain` or not at all.
pub fn flip_each_bit(file: &[u8], from: usize, plain: &[u8]) {
    for bit in from * 8..file.len() * 8 {
        let mut damaged = file.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(unpacked(&damaged).map_or(true, |got| got == plain), "bit {bit}");
    }
}
