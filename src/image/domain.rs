//! The used blocks of a source as a map file of ddrescue, which then copies those alone (`--domain-mapfile`). The layout is
//! partclone's `--domain`: `+` for used ranges, `?` for unused ones.

use std::io::{self, Write};

use super::save::Save;

/// Writes the map of `save` to `out`; `program` says who did, and `offset` is added to all positions (bytes).
///
/// # Errors
/// `out` cannot be written.
pub fn write(save: &Save, program: &str, offset: u64, out: &mut dyn Write) -> io::Result<()> {
    let (map, block) = (save.map(), u64::from(save.header().block_size));
    let mut out = io::BufWriter::new(out);
    let end = offset.saturating_add(save.header().block_bytes());
    write!(
        out,
        "# Domain logfile created by {program}\n# Source: {}\n# Offset: 0x{offset:08X}\n\
         # current_pos  current_status\n0x{end:08X}     ?\n#      pos        size  status\n",
        save.name()
    )?;
    let mut line = |from: u64, count: u64, status: char| match count {
        0 => Ok(()),
        count => writeln!(out, "0x{:08X}  0x{:08X}  {status}", offset.saturating_add(from * block), count * block),
    };
    let mut from = 0;
    while from < map.blocks() {
        let (start, count) = map.next_run(from).unwrap_or((map.blocks(), 0));
        line(from, start - from, '?')?;
        line(start, count, '+')?;
        from = start + count;
    }
    out.flush()
}
