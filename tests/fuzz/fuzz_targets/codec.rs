//! The reader of the codec that names this build accepts any input, and returns what its writer was given. The first
//! byte selects one of the two, and the beginning of the made-up file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ogbox::image::Error;
use ogbox::image::codec::{Input, named, pack, recognise, unpack_while};

/// The first bytes of the format's files: most made-up input would get no further.
fn beginnings(codec: &str) -> &'static [&'static [u8]] {
    match codec {
        "gzip" => &[b"\x1f\x8b\x08", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b"\x1f\x8b\x08\x04\0\0\0\0\0\x03\x08\0OG\x04\0"],
        "lz4" => &[b"\x04\x22\x4d\x18", b"\x04\x22\x4d\x18\x64\x60\xa7", b"\x04\x22\x4d\x18\x40\x40\xc0"],
        "lzop" => &[
            b"\x89LZO\0\r\n\x1a\n",
            b"\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x01\x05\x03\0\0\x0d\0\0\0\0\0\0\0\0\0\0\0\0\0\x31\xed\x01\x6c",
        ],
        "xz" => &[b"\xfd7zXZ\0", b"\xfd7zXZ\0\0\0\xff\x12\xd9\x41\x02\0\x21\x01"],
        "zstd" => &[b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\x04\0\0\0"],
        other => unreachable!("no codec is called {other}"),
    }
}

/// Plain bytes after which reading stops: a few bytes of input can expand to very many.
const ENOUGH: usize = 16 << 20;

fn read(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    let mut input = Input::new(Box::new(std::io::Cursor::new(file.to_vec())), "X");
    let codec = recognise(input.peek(16)?);
    unpack_while(codec, &mut input, &mut |bytes| {
        plain.extend_from_slice(bytes);
        Ok(plain.len() < ENOUGH)
    })?;
    Ok(plain)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let name = env!("CARGO_BIN_NAME");
    if *choice < 200 {
        let beginnings = beginnings(name);
        let _ = read(&[beginnings[usize::from(*choice) % beginnings.len()], bytes].concat());
        return;
    }
    // xz is only read.
    let Some(codec) = named(name) else { return };
    let (mut from, mut file, mut head) = (bytes, Vec::new(), Vec::new());
    (codec.begin)(&mut head);
    let mut fill = |to: &mut [u8]| {
        let (now, later) = from.split_at(from.len().min(to.len()));
        to[..now.len()].copy_from_slice(now);
        from = later;
        Ok(now.len())
    };
    let mut send = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        Ok(())
    };
    pack(codec, &head, &mut fill, &mut send).expect("nothing that could fail");
    if !file.is_empty() {
        assert_eq!(read(&file).expect("what was written"), bytes);
    }
});
