//! LZO1X expands any input without harm, and its own output to the original.
#![no_main]

use kernels::lzo1x::{SLACK, Table, compress, expand, worst_case};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (length, bytes) = (usize::from(input.0), input.1);
    let mut plain = vec![0; length.max(bytes.len()) + SLACK];
    let _ = expand(bytes, &mut plain, length);
    let mut packed = vec![0; worst_case(bytes.len())];
    let size = compress(bytes, &mut Table::default(), &mut packed);
    if !bytes.is_empty() {
        expand(&packed[..size], &mut plain, bytes.len()).expect("what was compressed");
        assert_eq!(&plain[..bytes.len()], bytes);
    }
});
