use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::image::Watch;
use crate::image::codec::{CODECS, named, seek};
use crate::image::container::Version;
use crate::image::format::Format;
use crate::image::save::{Options, Save};

const SIZE: usize = 6 << 20;

/// A device in whose blocks something stands, here and there.
struct Device {
    dir: TempDir,
    bytes: Vec<u8>,
    random: u64,
}

impl Device {
    fn new() -> Device {
        let mut device = Device { dir: TempDir::new().unwrap(), bytes: vec![0; SIZE], random: 1 };
        for block in 0..SIZE / 4096 {
            if device.below(4) > 0 {
                let (first, last) = (device.below(16), device.below(256) as u8);
                for at in 0..4096 {
                    device.bytes[block * 4096 + at] = if at % 16 == first { last } else { (at + block) as u8 };
                }
            }
        }
        fs::write(device.at("device"), &device.bytes).unwrap();
        device
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % limit
    }

    /// Saves it to the file `image`, with an index beside it if there is one.
    fn save(&self, codec: &str, format: Format) -> PathBuf {
        let (image, codec) = (self.at("image"), named(codec).unwrap());
        let mut save = Save::open(&self.at("device"), &Options { raw: true, format, ..Options::default() }).unwrap();
        save.scan(&Watch::idle()).unwrap();
        let pieces = save.write(&mut File::create(&image).unwrap(), "image", codec, &Watch::idle()).unwrap();
        let _ = fs::remove_file(seek::index_of(&image));
        if let Some(index) = seek::index(codec, &pieces) {
            fs::write(seek::index_of(&image), index).unwrap();
        }
        image
    }

    /// Whether what is read here and there of its image is right; why it could not be read otherwise.
    fn compare(&mut self, say: fn(&str)) -> Result<bool, String> {
        let source = open(&self.at("image"), false, say).map_err(|error| error.to_string())?;
        assert_eq!(source.size(), SIZE as u64);
        let mut right = true;
        for _ in 0..60 {
            let at = self.below(SIZE);
            let length = 1 + self.below((SIZE - at).min(300_000));
            let got = source.read(at as u64, length).map_err(|error| error.to_string())?;
            right &= got == self.bytes[at..at + length];
        }
        Ok(right)
    }
}

fn quiet(_: &str) {}
fn never(text: &str) {
    panic!("{text}");
}

#[test]
fn an_image_of_any_kind_is_read_anywhere() {
    let mut device = Device::new();
    let usual = Format::default();
    let formats = [
        usual,
        Format { blocks_per_checksum: Some(1), ..usual },
        Format { blocks_per_checksum: Some(7), reseed: false, ..usual },
        Format { checksum: Mode::None, ..usual },
        Format { version: Version::One, ..usual },
    ];
    for codec in CODECS.iter().filter(|codec| codec.is_written()) {
        for format in formats {
            device.save(codec.name, format);
            assert_eq!(device.compare(quiet), Ok(true), "{}", codec.name);
        }
    }
    // With checksums, those that have a table need not be gone through.
    for codec in ["lzop", "zstd", "none"] {
        device.save(codec, usual);
        assert_eq!(device.compare(never), Ok(true), "{codec}");
    }
}

#[test]
fn no_index_makes_wrong_bytes_of_an_image() {
    let mut device = Device::new();
    let image = device.save("lzop", Format::default());
    let index = fs::read(seek::index_of(&image)).unwrap();
    let entries = (index.len() - 17) / 8;
    assert!(entries > 10);
    for round in 0..60 {
        let mut bad = index.clone();
        let (one, other) = (8 + 8 * device.below(entries), 8 + 8 * device.below(entries));
        match round % 5 {
            // It passes for an index of this image, since the sum is right.
            0 => (one..one + 8).zip(other..other + 8).for_each(|(one, other)| bad.swap(one, other)),
            1 => {
                let (less, more) = (u32_of(&bad[one..]), u32_of(&bad[other..]));
                let step = (device.below(40_000) as u32).min(less);
                bad[one..one + 4].copy_from_slice(&(less - step).to_le_bytes());
                if one != other {
                    bad[other..other + 4].copy_from_slice(&(more + step).to_le_bytes());
                }
            }
            2 => {
                // Two blocks early on are called one, and a late one two: between them each is where the next should
                // be.
                let mut sizes: Vec<u32> = (0..entries).map(|entry| u32_of(&bad[8 + entry * 8..])).collect();
                let (early, late) = (device.below(4), entries - 2 - device.below(4));
                sizes[early] += sizes.remove(early + 1);
                sizes[late - 1] /= 2;
                sizes.insert(late, u32_of(&index[8 + late * 8..]) - sizes[late - 1]);
                for (entry, size) in sizes.iter().enumerate() {
                    bad[8 + entry * 8..][..4].copy_from_slice(&size.to_le_bytes());
                }
            }
            3 => {
                let at = device.below(bad.len());
                bad[at] ^= 1 << device.below(8);
            }
            _ => bad.truncate(device.below(index.len())),
        }
        fs::write(seek::index_of(&image), bad).unwrap();
        assert_eq!(device.compare(quiet), Ok(true), "round {round}");
    }
    // One of another image, and none.
    fs::write(seek::index_of(&image), seek::index(named("lzop").unwrap(), &[]).unwrap()).unwrap();
    assert_eq!(device.compare(quiet), Ok(true));
    fs::remove_file(seek::index_of(&image)).unwrap();
    assert_eq!(device.compare(quiet), Ok(true));
}

#[test]
fn a_seek_table_gives_right_bytes_or_an_error() {
    let mut device = Device::new();
    let image = device.save("zstd", Format::default());
    let whole = fs::read(&image).unwrap();
    let table = whole.len() - (u32_of(&whole[whole.len() - 9..]) as usize * 8 + 17);
    let mut errors = 0;
    for round in 0..60 {
        let mut bad = whole.clone();
        if round % 2 == 0 {
            let (one, other) = (table + 8, table + 16 + 8 * device.below(2));
            (one..one + 8).zip(other..other + 8).for_each(|(one, other)| bad.swap(one, other));
        } else {
            let at = table + device.below(whole.len() - table);
            bad[at] ^= 1 << device.below(8);
        }
        fs::write(&image, bad).unwrap();
        match device.compare(quiet) {
            Ok(right) => assert!(right, "round {round}"),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 15, "{errors}");
}

#[test]
fn a_flipped_bit_among_the_blocks_is_an_error_that_says_where() {
    let device = Device::new();
    for (codec, format) in [
        ("none", Format::default()),
        ("lzop", Format::default()),
        ("none", Format { blocks_per_checksum: Some(3), reseed: false, ..Format::default() }),
    ] {
        let image = device.save(codec, format);
        let mut bytes = fs::read(&image).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&image, bytes).unwrap();
        let source = open(&image, false, quiet).unwrap();
        let error = source.read(0, SIZE).map(drop).unwrap_err().to_string();
        assert!(error.contains("byte ") && (error.contains("checksum") || error.contains("Adler")), "{error}");
        let source = open(&image, true, quiet).unwrap();
        // A codec's own checksum is never ignored.
        assert_eq!(source.read(0, SIZE).is_ok(), codec == "none");
    }
}

#[test]
fn a_stream_that_must_be_read_in_order_says_what_to_do() {
    let device = Device::new();
    let image = device.save("none", Format::default());
    let plain = fs::read(&image).unwrap();
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    file.extend(miniz_oxide::deflate::compress_to_vec(&plain, 1));
    file.extend(crc32fast::hash(&plain).to_le_bytes());
    file.extend((plain.len() as u32).to_le_bytes());
    fs::write(&image, file).unwrap();
    let error = open(&image, false, quiet).err().unwrap().to_string();
    assert!(error.contains("ogbox image convert"), "{error}");
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().unwrap())
}
