//! `ctorrent -t`: makes a metainfo file.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use super::arguments::{Create, give_up};
use crate::applets::{Exit, Io, Outcome};
use crate::base::progress::Progress;
use crate::base::sync::lock;
use crate::torrent::create::{self, Options, Source};

/// Reads `-l`: its default, its bounds and its rounding are the namesake's.
fn piece_length(text: Option<&str>) -> Option<u32> {
    match text.map_or(Ok(262_144), str::parse) {
        Ok(bytes @ 65_536..=4_194_304) => Some(bytes & !0xffff),
        _ => None,
    }
}

/// Describes the content and writes the metainfo file.
pub fn run(options: &Create, io: &mut Io) -> Outcome {
    let [content] = options.content.as_slice() else {
        return give_up(io, "Must specify torrent contents (one file or directory)");
    };
    let Some(announce) = options.announce.as_ref().filter(|url| !url.is_empty()) else {
        return give_up(io, "Please use -u to specify an announce URL!");
    };
    let Some(out) = &options.save_as else {
        return give_up(io, "Please use -s to specify a metainfo file name!");
    };
    let Some(piece_length) = piece_length(options.piece_length.as_deref()) else {
        return give_up(io, "-l argument must be between 65536 and 4194304");
    };
    let description = Options {
        announce: std::iter::once(announce).chain(&options.next_tracker).map(|url| vec![url.clone()]).collect(),
        piece_length: Some(piece_length),
        comment: options.comment.clone(),
        created_by: Some(concat!("ogbox/", env!("CARGO_PKG_VERSION")).to_owned()),
        creation_date: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs() as i64),
        private: options.private,
        web_seeds: options.web_seed.clone(),
        name: options.name.clone(),
    };
    match make(content, out, &description, options, io) {
        Ok(()) => {
            writeln!(io.out, "Create metainfo file {out} successful.")?;
            Ok(Exit::OK)
        }
        Err(why) => give_up(io, &format!("error, {why}\ncreate metainfo failed.")),
    }
}

fn make(content: &str, out: &str, description: &Options, options: &Create, io: &mut Io) -> Result<(), String> {
    // Checked again when it is written; here too, because hashing may take an hour.
    if !options.force && Path::new(out).symlink_metadata().is_ok() {
        return Err(format!("file \"{out}\" already exists."));
    }
    let source = Source::open(Path::new(content)).map_err(|error| error.to_string())?;
    let threads = options.threads.unwrap_or_else(crate::sys::cpus::count);
    let bytes = match options.progress {
        Some(style) => {
            let progress = Progress::start("hash", source.length(), style);
            source.describe(description, threads, &|| false, &|bytes| progress.advance(bytes))
        }
        None => {
            let pieces = source.geometry(description).pieces();
            let end = if std::io::stdout().is_terminal() { '\r' } else { '\n' };
            let told = Mutex::new((0u32, &mut *io.out));
            source.describe(description, threads, &|| false, &|_| {
                let mut told = lock(&told);
                told.0 += 1;
                let piece = told.0;
                // A reader that went away is no reason to stop.
                let _ = write!(told.1, "Create hash table: {piece}/{pieces}{end}").and_then(|()| told.1.flush());
            })
        }
    };
    let bytes = bytes.map_err(|error| error.to_string())?;
    create::write(Path::new(out), &bytes, options.force).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piece_lengths_are_bounded_and_rounded_down() {
        let read = |text| piece_length(Some(text));
        assert_eq!(
            [None, Some(65536), Some(196_608), Some(4_194_304)],
            [read("65535"), read("65536"), read("262143"), read("4194304"),]
        );
        assert_eq!(
            [read("4194305"), read("-1"), read("4M"), read(""), piece_length(None)],
            [None, None, None, None, Some(262_144),]
        );
    }
}
