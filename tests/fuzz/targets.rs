//! What the fuzz targets of images and file systems do with an input, without a fuzzer: `tests/cli/hostile_media.rs` runs
//! the seeds beside this file through it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use ogbox::image::codec::Input;
use ogbox::image::container::Header;
use ogbox::image::fs::{FILE_SYSTEMS, Used};
use ogbox::image::source::Source;
use ogbox::image::unpack::{Event, read};
use ogbox::image::{Error, Watch, checksum, disk, table};

/// Size of the device, bytes; its holes take no room. As large as walks without end want to be told.
pub const SIZE: u64 = 1 << 40;
/// Time within which any input is read, on a busy machine; the fuzzer has a limit of its own.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest piece of an input that is made here, bytes, and its alignment.
pub const STEP: u64 = 32 << 10;
const SECTOR: u64 = 512;

/// Returns an input of [`file_system`]: the parts of `medium` that begin at `steps`, multiples of [`STEP`], without the
/// zeros around them.
pub fn pieces(medium: &File, steps: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut input = Vec::new();
    for at in steps {
        let mut bytes = vec![0; STEP as usize];
        medium.read_exact_at(&mut bytes, at).expect("read a medium");
        let first = bytes.chunks(SECTOR as usize).position(|sector| sector.iter().any(|byte| *byte != 0));
        let (Some(first), Some(last)) = (first, bytes.iter().rposition(|byte| *byte != 0)) else { continue };
        let part = &bytes[first * SECTOR as usize..=last];
        input.extend(((at / SECTOR) as u32 + first as u32).to_le_bytes());
        input.extend((part.len() as u16).to_le_bytes());
        input.extend(part);
    }
    input
}

/// One file for all inputs, emptied each time, and a path of it: it has no name, so that none is left behind.
fn device() -> &'static Mutex<(File, PathBuf)> {
    static DEVICE: OnceLock<Mutex<(File, PathBuf)>> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let name = std::env::temp_dir().join(format!("ogbox-fuzz-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&name).expect("make a file");
        std::fs::remove_file(name).expect("take its name");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Mutex::new((file, path))
    })
}

fn fits(used: &Used, source: &Source) {
    let bytes = used.map.blocks().checked_mul(u64::from(used.block_size)).expect("a map that can be");
    assert!(bytes <= source.size() && used.map.end() <= used.map.blocks());
}

fn walk(path: &Path, name: &str) -> Result<(), Error> {
    let source = Source::open(path, false)?;
    if let Some(fs) = FILE_SYSTEMS.iter().find(|fs| fs.name.eq_ignore_ascii_case(name)) {
        if (fs.detect)(&source)? {
            fits(&(fs.used)(&source)?, &source);
        }
        return Ok(());
    }
    assert_eq!(name, "disk");
    if let Some(table) = table::sound(&source)? {
        fits(&disk::used(&source, &table, true, &mut Vec::new())?, &source);
    }
    Ok(())
}

/// Reads the file system `name`, or with `disk` a partition table and what is behind it, of a device of [`SIZE`] bytes that
/// is zero but for the pieces that `input` consists of: offset in units of 512 bytes (4 bytes), length (2 bytes), and as
/// many bytes. Returns the reader's error; its map fits the device, and it ends in time.
pub fn file_system(name: &str, input: &[u8]) -> Result<(), Error> {
    let device = device().lock().expect("a lock");
    device.0.set_len(0).expect("empty the file");
    device.0.set_len(SIZE).expect("make the file long");
    let mut rest = input;
    while let Some((head, more)) = rest.split_first_chunk::<6>() {
        let at = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]])) * SECTOR % SIZE;
        let take = usize::from(u16::from_le_bytes([head[4], head[5]])).min(more.len()).min((SIZE - at) as usize);
        device.0.write_all_at(&more[..take], at).expect("write the file");
        rest = &more[take..];
    }
    let begun = Instant::now();
    let done = walk(&device.1, name);
    assert!(begun.elapsed() < PATIENCE, "{name}: it took {:?}", begun.elapsed());
    done
}

/// Reads bytes as an image of partclone, compressed or not. Returns the reader's error; the blocks that it passes on are
/// within the header's bounds, in order, and it ends in time.
pub fn container(bytes: &[u8]) -> Result<(), Error> {
    // Checksums cannot be guessed, so they are not compared, and that of a version 2 header is corrected.
    let mut image = bytes.to_vec();
    if bytes.len() >= 110 && bytes.starts_with(b"partclone-image") && &bytes[30..34] == b"0002" {
        let sum = checksum::crc32(&image[..106]);
        image[106..110].copy_from_slice(&sum.to_le_bytes());
    }
    let length = image.len();
    let input = Input::new(Box::new(std::io::Cursor::new(image)), "fuzz");
    let (begun, mut next) = (Instant::now(), 0);
    let done = read(input, true, &Watch::idle(), &mut |header: &Header, event| {
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
    assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
    done.map(drop)
}
