//! An image's header in the words of partclone.info 0.3, which scripts parse, and as JSON.

use nanoserde::SerJson;

use super::checksum::Mode;
use super::container::{Header, Version};

/// Returns the first part: the file system, as partclone prints it whenever it works on one.
pub fn file_system(header: &Header) -> String {
    let size = |blocks: u64| blocks.saturating_mul(u64::from(header.block_size));
    let used = header.used_by_super;
    let free = header.blocks.saturating_sub(used);
    format!(
        "File system:  {}\n\
         Device size:  {} = {} Blocks\n\
         Space in use: {} = {used} Blocks\n\
         Free Space:   {} = {free} Blocks\n\
         Block size:   {} Byte\n",
        header.fs,
        bytes(size(header.blocks)),
        header.blocks,
        bytes(size(used)),
        bytes(size(free)),
        header.block_size,
    )
}

/// Returns the second part: the image itself.
pub fn image(header: &Header) -> String {
    let or = |known: bool, text: String| if known { text } else { "n/a".to_owned() };
    let two = header.version == Version::Two;
    let summed = header.checksum != Mode::None;
    format!(
        "image format:    {}\n\
         created on a:    {}\n\
         with partclone:  {}\n\
         bitmap mode:     {}\n\
         checksum algo:   {}\n\
         checksum size:   {}\n\
         blocks/checksum: {}\n\
         reseed checksum: {}\n",
        if two { "0002" } else { "0001" },
        or(two, format!("{} bits platform", header.cpu_bits)),
        or(two, format!("v{}", header.made_by)),
        header.map.name(),
        header.checksum.name(),
        or(summed, header.checksum.size().to_string()),
        or(summed, header.blocks_per_checksum.to_string()),
        or(summed, if header.reseed { "yes" } else { "no" }.to_owned()),
    )
}

/// Returns a size in decimal units, five columns wide, as partclone prints it.
fn bytes(count: u64) -> String {
    let (unit, name) = match count {
        0..1_000 => return format!("{count:3} Byte"),
        1_000..1_000_000 => (1e3, "KB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        1_000_000_000..1_000_000_000_000 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    format!("{:5.1} {name}", count as f64 / unit)
}

/// The object that `--json` prints.
#[derive(SerJson)]
struct Report<'a> {
    format: u32,
    compression: &'a str,
    fs: &'a str,
    device_size: u64,
    block_size: u32,
    blocks: u64,
    used_blocks: u64,
    used_blocks_in_map: u64,
    made_by: &'a str,
    checksum: &'a str,
    blocks_per_checksum: u32,
    reseed: bool,
}

/// Returns the header as one JSON object on a line; `compression` is the codec's name.
pub fn json(header: &Header, compression: &str) -> String {
    let report = Report {
        format: if header.version == Version::One { 1 } else { 2 },
        compression,
        fs: &header.fs,
        device_size: header.device_size,
        block_size: header.block_size,
        blocks: header.blocks,
        used_blocks: header.used_by_super,
        used_blocks_in_map: header.used_by_map,
        made_by: &header.made_by,
        checksum: header.checksum.name(),
        blocks_per_checksum: header.blocks_per_checksum,
        reseed: header.reseed,
    };
    report.serialize_json()
}
