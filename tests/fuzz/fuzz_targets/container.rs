//! Bytes read as an image of partclone, compressed or not, give blocks within the header's bounds, in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ogbox::image::container::Header;
use ogbox::image::unpack::{Event, read};
use ogbox::image::{Watch, codec::Input};

fuzz_target!(|bytes: &[u8]| {
    // Checksums cannot be guessed, so they are not compared, and that of a version 2 header is corrected.
    let mut image = bytes.to_vec();
    if bytes.len() >= 110 && bytes.starts_with(b"partclone-image") && &bytes[30..34] == b"0002" {
        let sum = ogbox::image::checksum::crc32(&image[..106]);
        image[106..110].copy_from_slice(&sum.to_le_bytes());
    }
    let length = image.len();
    let input = Input::new(Box::new(std::io::Cursor::new(image)), "fuzz");
    let mut next = 0;
    let _ = read(input, true, &Watch::idle(), &mut |header: &Header, event| {
        match event {
            Event::Begin(map) => assert!(map.blocks() == header.blocks && map.used() <= header.blocks),
            Event::Blocks(first, bytes) => {
                let count = bytes.len() as u64 / u64::from(header.block_size);
                assert!(first >= next && count > 0 && first + count <= header.blocks, "{length} bytes");
                next = first + count;
            }
        }
        Ok(())
    });
});
