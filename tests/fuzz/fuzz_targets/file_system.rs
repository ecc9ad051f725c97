//! The reader of the file system that names this build, or of partition tables: any source gives an error or a map
//! that fits.
//!
//! Input is pieces of a device that is zero elsewhere; `tests/fuzz/seed` makes a corpus from file systems of mkfs.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock};

use libfuzzer_sys::fuzz_target;
use ogbox::image::disk::{self, Table};
use ogbox::image::fs::{FILE_SYSTEMS, Used};
use ogbox::image::source::Source;

/// Size of the device, bytes; its holes take no room.
const SIZE: u64 = 512 << 20;

fn fits(used: &Used, source: &Source) {
    let bytes = used.map.blocks().checked_mul(u64::from(used.block_size)).expect("a map that can be");
    assert!(bytes <= source.size() && used.map.end() <= used.map.blocks());
}

/// One file for all runs, emptied each time.
fn device() -> &'static Mutex<(File, std::path::PathBuf)> {
    static DEVICE: OnceLock<Mutex<(File, std::path::PathBuf)>> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("ogbox-fuzz-{}", std::process::id()));
        Mutex::new((File::create(&path).expect("make a file"), path))
    })
}

// The input is pieces: offset in units of 512 bytes (4 bytes), length (2 bytes), and as many bytes.
fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut device = device().lock().expect("a lock");
    device.0.set_len(0).expect("empty the file");
    device.0.set_len(SIZE).expect("make the file long");
    while let Some((head, more)) = rest.split_first_chunk::<6>() {
        let at = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]])) * 512 % SIZE;
        let take = usize::from(u16::from_le_bytes([head[4], head[5]])).min(more.len()).min((SIZE - at) as usize);
        device.0.write_all_at(&more[..take], at).expect("write the file");
        rest = &more[take..];
    }
    device.0.flush().expect("write the file");
    let source = Source::open(&device.1, false).expect("open the file");
    let name = env!("CARGO_BIN_NAME");
    if let Some(fs) = FILE_SYSTEMS.iter().find(|fs| fs.name.eq_ignore_ascii_case(name)) {
        if let Ok(true) = (fs.detect)(&source)
            && let Ok(used) = (fs.used)(&source)
        {
            fits(&used, &source);
        }
        return;
    }
    assert_eq!(name, "disk");
    if let Ok(Some(table)) = Table::read(&source)
        && let Ok(used) = disk::used(&source, &table, true, &mut Vec::new())
    {
        fits(&used, &source);
    }
});
