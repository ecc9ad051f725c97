//! `ctorrent -x`: shows a metainfo file.
//!
//! OpenGnsys' torrent-creator reads the line `<1> NAME [BYTES]`, and takes exit code 0 for "this is a
//! torrent". Control characters are shown as `?`, for the text is untrusted and goes to terminals.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::arguments::{Run, give_up};
use crate::applets::{Exit, Io, Outcome};
use crate::base::time;
use crate::torrent::{Bitfield, Error, Metainfo};

/// Prints the metainfo file that `options` name.
pub fn run(options: &Run, io: &mut Io) -> Outcome {
    match Metainfo::read(&options.torrent[0]) {
        Ok(metainfo) => {
            io.out.write_all(&text(&metainfo, options.printable, options.save_as.as_deref()))?;
            Ok(Exit::OK)
        }
        Err(error) => unreadable(io, &error),
    }
}

/// Reports in the namesake's words that a file is no torrent, with the reason.
pub fn unreadable(io: &mut Io, error: &Error) -> Outcome {
    give_up(io, &format!("error, {error}\nerror, initial meta info failed."))
}

/// Returns the description of a torrent that is saved as `save_as`, or else under its own name.
pub fn text(metainfo: &Metainfo, printable: bool, save_as: Option<&Path>) -> Vec<u8> {
    let mut text = String::from("META INFO\n");
    let mut urls = metainfo.announce.iter().flatten();
    if let Some(url) = urls.next() {
        text += &format!("Announce: {}\n", shown(url));
    }
    for (at, url) in urls.enumerate() {
        let heading = if at == 0 { "Alternates:\n" } else { "" };
        text += &format!("{heading}{:2}. {}\n", at + 1, shown(url));
    }
    if let Some(date) = metainfo.creation_date.filter(|date| *date != 0) {
        text += &format!("Created On: {}\n", time::ctime(date));
    }
    text += &format!("Piece length: {}\n", metainfo.geometry.piece_length());
    if metainfo.private {
        text += "Private: Yes\n";
    }
    for (heading, value) in [("Comment", &metainfo.comment), ("Created with", &metainfo.created_by)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            text += &format!("{heading}: {}\n", shown(value));
        }
    }
    let mut text = text.into_bytes();
    text.extend(files(metainfo, printable, save_as, None));
    text
}

/// Returns the list of a torrent's files, each with the number of its pieces in `have`, if given.
pub fn files(metainfo: &Metainfo, printable: bool, save_as: Option<&Path>, have: Option<&Bitfield>) -> Vec<u8> {
    let path = |path: &Path| {
        let path = path.as_os_str().as_bytes();
        if printable { spelled(path) } else { path.iter().copied().map(visible).collect() }
    };
    let mut text = b"FILES INFO\n".to_vec();
    if metainfo.multi_file {
        text.extend(b"Directory: ");
        text.extend(save_as.map_or_else(|| shown(&metainfo.name).into_bytes(), path));
        text.push(b'\n');
    }
    let space = if metainfo.multi_file { "  " } else { " " };
    for (at, (file, pieces)) in metainfo.files.iter().zip(metainfo.spans()).enumerate() {
        text.extend(format!("<{}>{space}", at + 1).bytes());
        text.extend(path(save_as.filter(|_| !metainfo.multi_file).unwrap_or(&file.path)));
        text.extend(format!(" [{}]", file.length).bytes());
        if let Some(have) = have {
            let (all, here) = (pieces.len(), pieces.filter(|piece| have.get(*piece)).count());
            text.extend(
                format!(" {here}/{all} ({}%)", (here as u64 * 100).checked_div(all as u64).unwrap_or(100)).bytes(),
            );
        }
        text.push(b'\n');
    }
    text.extend(format!("Total: {} MB\n", metainfo.geometry.length() >> 20).bytes());
    text
}

/// Returns `text` with control characters, which could move a terminal's cursor, as `?`; line ends stay.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() && char != '\n' { '?' } else { char }).collect()
}

fn visible(byte: u8) -> u8 {
    if byte.is_ascii_control() { b'?' } else { byte }
}

/// Spells a path for `-T`: bytes other than printable ASCII as hex digits, with `_` between them and others.
fn spelled(path: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~');
    let runs: Vec<String> = path
        .chunk_by(|a, b| plain(a) == plain(b))
        .map(|run| match plain(&run[0]) {
            true => run.iter().map(|byte| char::from(*byte)).collect(),
            false => run.iter().map(|byte| format!("{byte:02X}")).collect(),
        })
        .collect();
    runs.join("_").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_bytes_are_spelled_as_hex_digits_apart_from_others() {
        let spelled = |path: &[u8]| String::from_utf8(spelled(path)).unwrap();
        assert_eq!(spelled(b"a b/c"), "a b/c");
        assert_eq!(spelled(b"\x01a\xe9\xe9 b"), "01_a_E9E9_ b");
        assert_eq!(spelled(b"x\x7f\xff"), "x_7FFF");
    }

    #[test]
    fn nothing_shown_moves_the_cursor() {
        let torrent = b"d8:announce3:u\x1bv7:comment5:a\nb\x1bc4:infod6:lengthi5e4:name5:n\x1b\xc3\xa9m\
            12:piece lengthi16e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let metainfo = Metainfo::parse(torrent).unwrap();
        assert_eq!(
            String::from_utf8(text(&metainfo, false, None)).unwrap(),
            "META INFO\nAnnounce: u?v\nPiece length: 16\nComment: a\nb?c\nFILES INFO\n<1> n?ém [5]\nTotal: 0 MB\n"
        );
    }
}
