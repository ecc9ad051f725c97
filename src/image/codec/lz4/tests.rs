use proptest::prelude::*;

use super::*;
use crate::image::codec::tests::{flip_each_bit, packed, unpacked};

fn sample() -> Vec<u8> {
    (0..2_500_000_u32).map(|at| (at.wrapping_mul(at) >> 9) as u8 & 15).collect()
}

/// As others write it: small blocks that look back, each with its checksum, and the size in the header.
fn linked(plain: &[u8]) -> Vec<u8> {
    let mut head = vec![VERSION | BLOCKS_SUMMED | SIZE | SUMMED, 4 << 4];
    head.extend((plain.len() as u64).to_le_bytes());
    let sum = (XxHash32::oneshot(SEED, &head) >> 8) as u8;
    let mut file = [&MAGIC.to_le_bytes()[..], &head, &[sum]].concat();
    for (at, block) in plain.chunks(50_000).enumerate() {
        let before = &plain[(at * 50_000).saturating_sub(WINDOW)..at * 50_000];
        let packed = lz4_flex::block::compress_with_dict(block, before);
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(&packed);
        file.extend(XxHash32::oneshot(SEED, &packed).to_le_bytes());
    }
    file.extend([0; 4]);
    file.extend(XxHash32::oneshot(SEED, plain).to_le_bytes());
    file
}

#[test]
fn independent_and_linked_blocks_expand_to_what_they_were() {
    let plain = sample();
    let skipped = [&SKIPPABLE.to_le_bytes()[..], &[5, 0, 0, 0, 1, 2, 3, 4, 5]].concat();
    let mixed = [packed(&CODEC, &plain[..9]), skipped, linked(&plain[9..])].concat();
    for file in [packed(&CODEC, &plain), linked(&plain), mixed] {
        assert!(file.len() < plain.len() && unpacked(&file).as_ref() == Ok(&plain));
    }
    for empty in [packed(&CODEC, b""), linked(b"")] {
        assert_eq!(unpacked(&empty), Ok(vec![]));
    }
}

#[test]
fn a_file_cut_short_at_any_byte_says_so() {
    for file in [packed(&CODEC, &sample()[..3000]), linked(&sample()[..3000])] {
        for cut in 4..file.len() {
            let error = unpacked(&file[..cut]).unwrap_err();
            assert!(error.contains(&format!("file: byte {cut}: cut short within")), "{cut}: {error}");
        }
        assert!(unpacked(&[&file[..], b"x"].concat()).is_err());
    }
}

#[test]
fn a_flipped_bit_anywhere_behind_the_magic_is_noticed_or_does_nothing() {
    let plain = &sample()[..500];
    for file in [packed(&CODEC, plain), linked(plain)] {
        flip_each_bit(&file, 4, plain);
    }
}

#[test]
fn legacy_frames_and_dictionaries_are_refused_by_name() {
    let error = unpacked(&[&LEGACY.to_le_bytes()[..], &[0; 20]].concat()).unwrap_err();
    assert_eq!(error, "file: byte 0: a legacy lz4 frame is not read: `lz4 -d` expands it");
    let error = unpacked(&[&MAGIC.to_le_bytes()[..], &[VERSION | DICTIONARY, PIECE_CODE], &[0; 20]].concat());
    assert!(error.unwrap_err().contains("needs a dictionary"));
}

proptest! {
    #[test]
    fn any_data_comes_back(data in proptest::collection::vec(0_u8..4, 0..20_000)) {
        prop_assert_eq!(unpacked(&packed(&CODEC, &data)), Ok(data.clone()));
        prop_assert_eq!(unpacked(&linked(&data)), Ok(data));
    }

    #[test]
    fn arbitrary_blocks_behind_a_header_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), length in 0_u32..500) {
        let mut file = Vec::new();
        begin(&mut file);
        file.extend(length.to_le_bytes());
        file.extend(bytes);
        let _ = unpacked(&file);
    }
}
