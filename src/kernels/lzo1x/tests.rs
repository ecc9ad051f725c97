use proptest::prelude::*;

use super::*;

fn pack(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; worst_case(data.len())];
    let length = compress(data, &mut Table::default(), &mut out);
    out.truncate(length);
    out
}

fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
    let mut out = vec![0xaa; len + SLACK];
    expand(packed, &mut out, len)?;
    out.truncate(len);
    Ok(out)
}

/// Data with matches of many lengths at many distances: parts of it are repeated from anywhere before.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|new| (new, 0, 0)),
        (1_usize..100_000, 1_usize..3000).prop_map(|(back, len)| (Vec::new(), back, len)),
        (1_usize..20, 1_usize..40).prop_map(|(back, len)| (Vec::new(), back, len)),
    ];
    proptest::collection::vec(piece, 1..150).prop_map(|pieces| {
        let mut data = Vec::new();
        for (new, back, len) in pieces {
            data.extend(new);
            for _ in 0..len.min(if back <= data.len() { len } else { 0 }) {
                data.push(data[data.len() - back]);
            }
        }
        data
    })
}

#[test]
fn short_and_plain_inputs_come_back() {
    for len in (0..300).chain([4096, 65_535, 65_536, 200_000]) {
        let zeros = vec![0; len];
        assert_eq!(unpack(&pack(&zeros), len).unwrap(), zeros, "{len} zeros");
        let mut state = 1_u32;
        let noise: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        assert_eq!(unpack(&pack(&noise), len).unwrap(), noise, "{len} of noise");
    }
}

#[test]
fn zeros_shrink_two_hundredfold() {
    assert!(pack(&[0; 1 << 18]).len() < (1 << 18) / 200);
}

/// Instructions that our compressor never writes, made by hand from the kernel's description.
#[test]
fn every_instruction_is_read() {
    // 4 literals; after such a run a 3-byte match at distance 2049 or more: here it reaches too far.
    let literals = [21, b'a', b'b', b'c', b'd'];
    let long = |rest: &[u8]| [literals.as_slice(), rest].concat();
    let end = [0x11, 0, 0];
    assert_eq!(unpack(&long(&end), 4).unwrap(), b"abcd");
    assert_eq!(
        unpack(&long(&[0, 0]), 7).unwrap_err(),
        Fault { at: 5, why: "a match reaches before the block's start" }
    );
    // One literal by the first byte, then a 2-byte match (distance 1), one literal with it, then a 2-byte match.
    let tiny = [18, b'x', 0b0000_0001, 0, b'y', 0b0000_1000, 0, 0x11, 0, 0];
    assert_eq!(unpack(&tiny, 6).unwrap(), b"xxxyxx");
    // 3-byte match at distance 2049 after a literal run.
    let mut data = vec![0; 2049 - 18 - 237];
    data.splice(.., (0..2049).map(|i| (i % 251) as u8));
    let mut stream = vec![0];
    let mut rest = 2049 - 18;
    while rest > 255 {
        stream.push(0);
        rest -= 255;
    }
    stream.push(rest as u8);
    stream.extend(&data);
    stream.extend([0, 0]);
    stream.extend(end);
    let want: Vec<u8> = data.iter().chain(&data[..3]).copied().collect();
    assert_eq!(unpack(&stream, 2052).unwrap(), want);
}

#[test]
fn a_length_that_overflows_is_refused() {
    let mut stream = vec![0];
    stream.extend(vec![0; 100_000]);
    assert_eq!(unpack(&stream, 1000).unwrap_err().why, "a length reaches past the block's end");
}

proptest! {
    #[test]
    fn what_was_compressed_comes_back(data in repetitive()) {
        let packed = pack(&data);
        prop_assert!(packed.len() <= worst_case(data.len()));
        prop_assert_eq!(unpack(&packed, data.len()).unwrap(), data);
    }

    #[test]
    fn a_used_table_changes_nothing(a in repetitive(), b in repetitive()) {
        let mut table = Table::default();
        let mut out = vec![0; worst_case(a.len().max(b.len()))];
        compress(&a, &mut table, &mut out);
        let length = compress(&b, &mut table, &mut out);
        prop_assert_eq!(&out[..length], pack(&b));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), len in 0_usize..5000) {
        let _ = unpack(&bytes, len);
    }

    #[test]
    fn damage_is_an_error_or_other_data_but_never_a_panic(
        data in repetitive(), at in any::<proptest::sample::Index>(), bit in 0..8_u32,
    ) {
        let mut packed = pack(&data);
        let at = at.index(packed.len());
        packed[at] ^= 1 << bit;
        if let Err(fault) = unpack(&packed, data.len()) {
            prop_assert!(fault.at <= packed.len());
        }
    }

    #[test]
    fn a_stream_cut_short_is_an_error(data in repetitive(), at in any::<proptest::sample::Index>()) {
        let packed = pack(&data);
        prop_assert!(unpack(&packed[..at.index(packed.len())], data.len()).is_err());
    }
}
