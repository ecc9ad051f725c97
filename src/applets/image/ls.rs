//! `ogbox image ls`: the images of a directory, their contents and the files beside them.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use argh::FromArgs;
use nanoserde::SerJson;

use super::words::GRAMMAR;
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::base::time::local;
use crate::base::units::bytes;
use crate::image::legacy::DD;
use crate::image::{Error, codec, legacy, sets, unpack};

/// List the images of a directory and its subdirectories: file system, sizes, compression, date, and the files beside
/// each. `*` marks a file that has an image's name but is not one, or is damaged at its beginning.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// one JSON object a line instead of a table, with the error of damaged images
    #[argh(switch)]
    json: bool,

    /// directories or files (the current directory)
    #[argh(positional)]
    paths: Vec<String>,
}

/// Extensions of files beside an image: `X.img.torrent` …
const BESIDE: &[&str] = &["torrent", "sum", "full.sum", "info", "info.checked", "size", "lock", "idx"];
/// Extensions of images; other files are listed only if they are partclone images.
const NAMES: &[&str] = &["img", "img.zst", "dsk", "pgz"];

/// An image; the object that `--json` prints.
#[derive(SerJson)]
struct Row {
    name: String,
    /// The program that made it, and partclone's name for its file system; empty if unknown.
    program: String,
    fs: String,
    /// Size of the device that it was made of, of its used blocks, and of the file; bytes.
    device_size: u64,
    used: u64,
    file_size: u64,
    compression: String,
    /// When the file was written, seconds since 1970.
    written: i64,
    beside: Vec<String>,
    /// The reason why it is not an image.
    error: Option<String>,
}

/// Runs the subcommand.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image ls", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let paths = if args.paths.is_empty() { vec![".".to_owned()] } else { args.paths };
    let mut files = Vec::new();
    for path in &paths {
        sets::find(Path::new(path), 2, &mut files)?;
    }
    let rows = files.iter().filter_map(|path| look(path));
    if args.json {
        for row in rows {
            writeln!(io.out, "{}", row.serialize_json())?;
        }
    } else {
        table(&rows.collect::<Vec<_>>(), io)?;
    }
    Ok(Exit::OK)
}

/// Returns the row of a file; `None` if it is neither an image nor named like one.
fn look(path: &Path) -> Option<Row> {
    let name = path.display().to_string();
    let ends = |end: &&str| name.strip_suffix(end).is_some_and(|name| name.ends_with('.'));
    let called = path.is_dir() || NAMES.iter().any(ends);
    let metadata = fs::metadata(path).ok()?;
    let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let mut row = Row {
        program: String::new(),
        fs: String::new(),
        device_size: 0,
        used: 0,
        file_size: sets::size(path),
        compression: String::new(),
        written: written.map_or(0, |time| time.as_secs() as i64),
        beside: BESIDE
            .iter()
            .filter(|end| Path::new(&format!("{name}.{end}")).exists())
            .map(|end| (*end).into())
            .collect(),
        error: None,
        name,
    };
    match row.fill(path) {
        Ok(()) if called || row.program != DD => Some(row),
        Err(error) if called => {
            row.error = Some(error.to_string());
            Some(row)
        }
        _ => None,
    }
}

impl Row {
    fn fill(&mut self, path: &Path) -> Result<(), Error> {
        let open = || sets::input(path, |_| {});
        let mut input = open()?;
        self.compression = codec::recognise(input.peek(16)?).name.to_owned();
        match unpack::header_alone(input) {
            Ok(header) => {
                self.program = "partclone".to_owned();
                self.used = header.used_by_map.saturating_mul(u64::from(header.block_size));
                self.device_size = header.device_size;
                self.fs = header.fs;
            }
            Err(error) => {
                let legacy = legacy::recognise(open()?)?.ok_or(error)?;
                self.program = legacy.program.to_owned();
                self.fs = legacy.fs.to_owned();
                self.device_size = legacy.size;
            }
        }
        Ok(())
    }

    fn cells(&self) -> [String; 8] {
        let size = |count| if count > 0 { bytes(count) } else { "-".to_owned() };
        let time = local(self.written);
        let fs = match (&self.error, self.program.as_str(), self.fs.as_str()) {
            (Some(_), ..) => "*",
            (None, "partclone", fs) => fs,
            (None, program, _) => program,
        };
        [
            self.name.clone(),
            fs.to_owned(),
            size(self.device_size),
            size(self.used),
            size(self.file_size),
            self.compression.clone(),
            format!("{}-{:02}-{:02} {:02}:{:02}", time.year, time.month, time.day, time.hour, time.minute),
            self.beside.join(" "),
        ]
    }
}

fn table(rows: &[Row], io: &mut Io) -> Result<(), Failure> {
    let head = ["image", "holds", "device", "used", "file", "packed", "written", "beside"].map(str::to_owned);
    let cells: Vec<[String; 8]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    for row in &cells {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let blank = " ".repeat(width - cell.chars().count() + 2);
            // Sizes are right-aligned.
            line += &if (2..5).contains(&column) { format!("{blank}{cell}  ") } else { format!("{cell}{blank}") };
        }
        writeln!(io.out, "{}", line.trim_end())?;
    }
    Ok(())
}
