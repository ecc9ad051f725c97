//! xz: read only, as other programs' images come in it. A file is expanded in order by one thread, whatever its blocks.

use lzma_rust2::{Action, Status, XzStream};

use super::{Codec, Input, Packed, Split};
use crate::image::Error;

/// The line of the table.
pub const CODEC: Codec = Codec {
    name: "xz",
    levels: None,
    level: None,
    piece: PIECE,
    summed: false,
    recognise: |head| head.starts_with(b"\xfd7zXZ\0"),
    begin: |_| {},
    encode: None,
    end: |_, _| {},
    split: || Box::<Splitter>::default(),
    expand: Some(|_, _, _| Err("an xz file is expanded while it is read".to_owned())),
};

/// Bytes of expanded content that are passed on at once, and of the file that are offered to the decoder.
const PIECE: usize = 1 << 20;
const STEP: usize = 64 << 10;
/// Most memory that a file may ask for, KiB: `xz -9` makes windows of 64 MiB.
const MEMORY: u32 = 160 << 10;

/// Expands a file; `None` before its first byte and after its last.
#[derive(Default)]
struct Splitter {
    stream: Option<XzStream>,
    ended: bool,
}

impl Split for Splitter {
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error> {
        (packed.at, packed.used, packed.streamed) = (input.at(), 0, true);
        packed.data.resize(PIECE.max(packed.data.len()), 0);
        let stream = self.stream.get_or_insert_with(|| XzStream::new_mem_limit(true, MEMORY));
        while packed.used < PIECE && !self.ended {
            let at = input.at();
            let ahead = input.peek(STEP)?;
            let last = ahead.len() < STEP;
            let action = if last { Action::Finish } else { Action::Run };
            let step = stream.process(ahead, &mut packed.data[packed.used..PIECE], action);
            let why = match step {
                Ok(step) => {
                    input.skip(step.bytes_consumed);
                    packed.used += step.bytes_produced;
                    self.ended = step.status == Status::StreamEnd;
                    match (self.ended, step.bytes_consumed + step.bytes_produced) {
                        (true, _) if !input.at_end()? => "bytes follow the end of the xz stream".to_owned(),
                        (false, 0) if last => "cut short within an xz stream".to_owned(),
                        (false, 0) => "a damaged xz stream: it stands still".to_owned(),
                        _ => continue,
                    }
                }
                Err(error) => format!("a damaged xz stream: {error}"),
            };
            return Err(input.damaged(at, why));
        }
        Ok(packed.used > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Watch;
    use crate::image::codec::{recognise, unpack};

    /// `printf 'hello xz' | xz -0 --check=crc32`.
    const HELLO: &[u8] = include_bytes!("../../../tests/fixtures/sets/hello.xz");

    fn expanded(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let mut input = Input::new(Box::new(std::io::Cursor::new(bytes)), "test");
        let codec = recognise(input.peek(16).unwrap());
        let mut plain = Vec::new();
        unpack(codec, &mut input, &Watch::idle(), &mut |bytes| {
            plain.extend_from_slice(bytes);
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        Ok(plain)
    }

    #[test]
    fn streams_one_after_the_other_are_read_and_damaged_ones_refused() {
        assert_eq!(expanded(HELLO.to_vec()).unwrap(), b"hello xz");
        assert_eq!(expanded([HELLO, &[0; 4], HELLO].concat()).unwrap(), b"hello xzhello xz");
        assert!(expanded([HELLO, b"more"].concat()).is_err());
        for length in 6..HELLO.len() {
            assert!(expanded(HELLO[..length].to_vec()).is_err(), "{length} bytes");
        }
        for at in 6..HELLO.len() {
            let mut bytes = HELLO.to_vec();
            bytes[at] ^= 0x10;
            assert!(expanded(bytes).is_err(), "byte {at}");
        }
    }
}
