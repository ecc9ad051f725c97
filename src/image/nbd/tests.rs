use std::io::{Cursor, Read};
use std::sync::Arc;

use proptest::prelude::*;

use super::wire::{BLOCK_SIZES, OPTION, REQUEST, ReadNumber};
use super::*;

/// Exports of made-up bytes: all of them, and the second half as partition 2.
fn exports() -> Vec<Export> {
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes(), 0).unwrap();
    let source = || Source::over(Arc::new(file.try_clone().unwrap()), "x.img".into(), 4096, 512);
    let half = source().part("x.img, partition 2".into(), 2048, 2048).unwrap();
    vec![Export { name: String::new(), source: source() }, Export { name: "2".into(), source: half }]
}

fn bytes() -> Vec<u8> {
    (0..4096).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut option = OPTION.to_be_bytes().to_vec();
    option.extend(number.to_be_bytes());
    option.extend((data.len() as u32).to_be_bytes());
    option.extend(data);
    option
}

fn go(name: &str) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend([0, 0]);
    option(7, &data)
}

fn request(kind: u16, at: u64, length: u32) -> Vec<u8> {
    let mut request = REQUEST.to_be_bytes().to_vec();
    request.extend([0, 0]);
    request.extend(kind.to_be_bytes());
    request.extend(7_u64.to_be_bytes());
    request.extend(at.to_be_bytes());
    request.extend(length.to_be_bytes());
    request
}

/// What the server answers to `said` after the client's flags, and how it ends.
fn conversation(said: &[Vec<u8>]) -> (Vec<u8>, std::io::Result<()>) {
    let exports = exports();
    let mut input = Cursor::new([&[0, 0, 0, 3], said.concat().as_slice()].concat());
    let mut output = Vec::new();
    let ended = match haggling::haggle(&mut input, &mut output, &exports) {
        Ok(Some(export)) => transmission::transmit(&mut input, &mut output, export, &|_| ()),
        other => other.map(drop),
    };
    (output.split_off(18.min(output.len())), ended)
}

/// Error and data of the last of `count` replies to requests in `answer`, of which `lengths` have data.
fn replies(answer: &[u8], lengths: &[usize]) -> Vec<(u32, Vec<u8>)> {
    let sum: usize = lengths.iter().map(|length| 16 + length).sum();
    let mut input = &answer[answer.len() - sum..];
    let mut found = Vec::new();
    for length in lengths {
        assert_eq!(input.u32().unwrap(), 0x6744_6698);
        let error = input.u32().unwrap();
        assert_eq!(input.u64().unwrap(), 7);
        let mut data = vec![0; *length];
        input.read_exact(&mut data).unwrap();
        found.push((error, data));
    }
    found
}

#[test]
fn bytes_are_read_from_the_export_of_the_name() {
    let bytes = bytes();
    let said = [go("2"), request(0, 0, 512), request(0, 2040, 8), request(2, 0, 0)];
    let (answer, ended) = conversation(&said);
    ended.unwrap();
    assert_eq!(replies(&answer, &[512, 8]), [(0, bytes[2048..2560].to_vec()), (0, bytes[4088..].to_vec())]);
    let (answer, ended) = conversation(&[option(1, b""), request(0, 0, 4096), request(3, 0, 0), request(2, 0, 0)]);
    ended.unwrap();
    assert_eq!(replies(&answer, &[4096, 0]), [(0, bytes), (0, vec![])]);
}

#[test]
fn what_reaches_past_the_end_or_writes_is_refused_and_the_next_request_answered() {
    let mut write = request(1, 0, 5);
    write.extend(b"xxxxx");
    let largest = BLOCK_SIZES[2] + 1;
    let said = [go(""), request(0, 4000, 97), request(0, u64::MAX, 2), request(0, 0, largest), write, request(4, 0, 8)];
    let (answer, ended) = conversation(&[said.concat(), request(0, 1, 1), request(2, 0, 0)]);
    ended.unwrap();
    let errors: Vec<u32> = replies(&answer, &[0, 0, 0, 0, 0, 1]).iter().map(|(error, _)| *error).collect();
    assert_eq!(errors, [22, 22, 22, 1, 1, 0]);
}

#[test]
fn an_unknown_name_or_option_is_refused_and_another_may_be_chosen() {
    let said = [go("3"), option(8, b""), option(5, b""), option(3, b"x"), option(7, &[0, 0, 0, 9, 0, 0]), go("2")];
    let (answer, ended) = conversation(&[said.concat(), request(2, 0, 0)]);
    ended.unwrap();
    let mut input = &answer[..];
    let mut kinds = Vec::new();
    while !input.is_empty() {
        assert_eq!(input.u64().unwrap(), 0x0003_e889_0455_65a9);
        input.u32().unwrap();
        kinds.push(input.u32().unwrap());
        let mut data = vec![0; input.u32().unwrap() as usize];
        input.read_exact(&mut data).unwrap();
    }
    let error = |number: u32| 1 << 31 | number;
    assert_eq!(kinds, [error(6), error(1), error(1), error(3), error(3), 3, 3, 1]);
    let (_, ended) = conversation(&[option(1, b"none")]);
    assert_eq!(ended.unwrap_err().to_string(), "an export that is not there");
}

#[test]
fn a_client_of_endless_options_is_closed() {
    let (_, ended) = conversation(&vec![option(9, b""); 1000]);
    assert_eq!(ended.unwrap_err().to_string(), "more options than any client needs");
    let mut long = option(7, b"");
    long[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(conversation(&[long]).1.unwrap_err().to_string(), "an option of 4294967295 bytes");
}

proptest! {
    #[test]
    fn whatever_a_client_says_it_gets_no_more_than_it_asked_for(said in proptest::collection::vec(any::<u8>(), 0..200)) {
        for before in [vec![], vec![go("")]] {
            let (answer, _) = conversation(&[before.concat(), said.clone()]);
            prop_assert!(answer.len() < 1 << 16);
        }
    }
}
