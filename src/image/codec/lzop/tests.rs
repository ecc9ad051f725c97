use proptest::prelude::*;

use super::*;
use crate::image::codec::tests::flip_each_bit;
use crate::image::codec::{self, Input};

fn file(plain: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out);
    let mut scratch = Scratch::default();
    let mut block = Vec::new();
    for part in plain.chunks(piece) {
        let length = encode(part, &mut scratch, &mut block);
        out.extend_from_slice(&block[..length]);
    }
    end(&Whole::default(), &mut out);
    out
}

fn read(file: &[u8]) -> Result<Vec<u8>, String> {
    let mut input = Input::new(Box::new(std::io::Cursor::new(file.to_vec())), "X");
    let codec = codec::recognise(input.peek(16).unwrap());
    assert_eq!(codec.name, "lzop");
    let mut split = (codec.split)();
    let (mut packed, mut plain, mut block) = (Packed::default(), Vec::new(), Vec::new());
    while split.next(&mut input, &mut packed).map_err(|error| error.to_string())? {
        let length = expand(&packed, &mut Scratch::default(), &mut block)?;
        plain.extend_from_slice(&block[..length]);
    }
    Ok(plain)
}

fn sample() -> Vec<u8> {
    (0..100_000_u32).flat_map(|i| (i / 7 * 11).to_le_bytes()).collect()
}

#[test]
fn members_may_follow_each_other() {
    let both = [file(b"one, ", 100), file(b"two", 2)].concat();
    assert_eq!(read(&both).unwrap(), b"one, two");
    assert_eq!(
        read(&[file(b"one", 9), b"rubbish".to_vec()].concat()).unwrap_err(),
        "X: byte 57: neither the end nor another lzop member follows"
    );
}

#[test]
fn a_file_cut_short_at_any_byte_says_so() {
    let whole = file(&sample()[..5000], 1500);
    for length in 16..whole.len() {
        let error = read(&whole[..length]).unwrap_err();
        assert!(error.contains(&format!("X: byte {length}: cut short within")), "{length}: {error}");
    }
}

#[test]
fn a_flipped_bit_anywhere_behind_the_magic_is_noticed_or_does_nothing() {
    let whole = file(&sample()[..3000], 1000);
    // A distance may become another one at which the same bytes stand.
    flip_each_bit(&whole, MAGIC.len(), &sample()[..3000]);
}

#[test]
fn absurd_lengths_are_refused_before_anything_is_allocated() {
    let mut head = Vec::new();
    begin(&mut head);
    let with = |words: [u32; 3]| {
        let block = words.iter().flat_map(|word| word.to_be_bytes());
        read(&head.iter().copied().chain(block).collect::<Vec<u8>>()).unwrap_err()
    };
    assert!(with([u32::MAX, 10, 0]).contains("impossible"));
    assert!(with([100, 101, 0]).contains("impossible"));
    assert!(with([100, 0, 0]).contains("impossible"));
    assert!(with([60 << 20, 20, 0]).contains("cannot hold"));
    assert!(with([60 << 20, 60 << 20, 0]).contains("cut short"));
}

proptest! {
    #[test]
    fn any_data_in_any_blocks_comes_back(data in proptest::collection::vec(0_u8..4, 0..20_000), piece in 1_usize..9000) {
        prop_assert_eq!(read(&file(&data, piece)).unwrap(), data);
    }

    #[test]
    fn arbitrary_bytes_behind_the_magic_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = read(&[MAGIC.as_slice(), &bytes].concat());
    }

    #[test]
    fn arbitrary_blocks_behind_a_header_never_panic(bytes in proptest::collection::vec(0_u8..6, 0..500)) {
        let mut file = Vec::new();
        begin(&mut file);
        file.extend(bytes);
        let _ = read(&file);
    }
}
