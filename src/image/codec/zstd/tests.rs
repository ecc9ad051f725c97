use proptest::prelude::*;

use super::*;
use crate::image::codec::tests::{flip_each_bit, packed, unpacked};

fn sample() -> Vec<u8> {
    (0..2_500_000_u32).map(|at| (at.wrapping_mul(at) >> 9) as u8 & 15).collect()
}

/// As others write it: one long frame that does not say its size.
fn long(plain: &[u8]) -> Vec<u8> {
    let mut context = compressor(None);
    let mut out = vec![0; zstd_safe::compress_bound(plain.len()) + 1000];
    let mut to = OutBuffer::around(&mut out[..]);
    context.compress_stream(&mut to, &mut InBuffer::around(plain)).unwrap();
    assert_eq!(context.end_stream(&mut to), Ok(0));
    let length = to.pos();
    out.truncate(length);
    out
}

#[test]
fn frames_and_long_streams_expand_to_what_they_were() {
    let plain = sample();
    let skipped = [&SKIPPABLE.to_le_bytes()[..], &[4, 0, 0, 0, 1, 2, 3, 4]].concat();
    let (ours, theirs) = (packed(&CODEC, &plain), long(&plain));
    let mixed = [packed(&CODEC, &plain[..9]), skipped.clone(), long(&plain[9..])].concat();
    for file in [&ours, &theirs, &mixed, &[skipped, ours.clone()].concat()] {
        assert!(file.len() < plain.len() && unpacked(file).as_ref() == Ok(&plain));
    }
    for empty in [packed(&CODEC, b""), long(b"")] {
        assert_eq!(unpacked(&empty), Ok(vec![]));
    }
}

#[test]
fn a_file_cut_short_at_any_byte_but_between_frames_says_so() {
    let plain = sample();
    let (ours, theirs) = (packed(&CODEC, &plain[..3000]), long(&plain[..3000]));
    let table = ours.len() - 8 - 8 - SEEK_FOOTER;
    for (file, whole) in [(&ours, table), (&theirs, 0)] {
        for cut in (12..file.len()).filter(|cut| *cut != whole) {
            let error = unpacked(&file[..cut]).unwrap_err();
            assert!(error.contains(&format!("file: byte {cut}: cut short within")), "{cut}: {error}");
        }
        assert!(unpacked(&[&file[..], b"x"].concat()).is_err());
    }
}

#[test]
fn a_flipped_bit_anywhere_behind_the_magic_is_noticed_or_does_nothing() {
    let plain = &sample()[..500];
    for file in [packed(&CODEC, plain), long(plain)] {
        flip_each_bit(&file, 4, plain);
    }
}

#[test]
fn a_seek_table_that_does_not_fit_is_refused() {
    let mut file = packed(&CODEC, &sample());
    assert_eq!(file[file.len() - SEEK_FOOTER..], footer(3));
    let size = file.len() - SEEK_FOOTER - 1;
    file[size] ^= 1;
    assert!(unpacked(&file).unwrap_err().contains("the seek table does not fit"));
}

#[test]
fn windows_of_more_than_128_mib_and_dictionaries_are_refused() {
    let frame = |head: &[u8]| [&MAGIC.to_le_bytes()[..], head, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(unpacked(&frame(&[0, (28 - 10) << 3])).unwrap_err().contains("too much memory"));
    assert!(unpacked(&frame(&[1, 0x50, 7])).unwrap_err().contains("dictionary"));
}

#[test]
fn each_level_comes_back_and_the_highest_is_smaller() {
    // Words in an order of their own, which longer searches find more of.
    let words: Vec<String> = (0..400_u32).map(|at| format!("{:x}", at.wrapping_mul(2_654_435_761))).collect();
    let mut at = 1_u64;
    let mut plain = Vec::new();
    while plain.len() < 2_300_000 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        plain.extend(words[(at >> 33) as usize % (1 + (at >> 50) as usize % 400)].bytes());
    }
    let mut sizes = Vec::new();
    for level in ["1", "3", "9", "19"] {
        let codec = CODEC.at(level).unwrap();
        let file = packed(&codec, &plain);
        assert!(unpacked(&file).as_ref() == Ok(&plain), "level {level}");
        assert_eq!(file[file.len() - SEEK_FOOTER..], footer(3), "level {level} has a seek table");
        sizes.push(file.len());
    }
    // Those between depend on the data more than on the level.
    assert!(sizes[3] < sizes[0], "{sizes:?}");
}

#[test]
fn a_level_that_there_is_none_of_is_refused_with_those_that_there_are() {
    for level in ["0", "20", "-1", "", "x", "1.5", "300"] {
        let why = format!("level {level} of compression zstd is none of 1 to 19");
        assert_eq!(CODEC.at(level).err(), Some(why));
    }
}

proptest! {
    #[test]
    fn any_data_comes_back(data in proptest::collection::vec(0_u8..4, 0..20_000)) {
        prop_assert_eq!(unpacked(&packed(&CODEC, &data)), Ok(data.clone()));
        prop_assert_eq!(unpacked(&long(&data)), Ok(data));
    }

    #[test]
    fn arbitrary_bytes_behind_the_magic_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = unpacked(&[&MAGIC.to_le_bytes()[..], &bytes].concat());
    }
}
