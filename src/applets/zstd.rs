//! `zstd`, `unzstd` and `zstdcat`: files and streams in zstd's format, with the options, texts and exit codes of zstd 1.5,
//! as scripts use them, on all cores. Gzip's and lz4's files are expanded as well.
//!
//! Unlike there no question is asked before a file is overwritten: without `-f` none is. Levels above 19, dictionaries,
//! `-l`, `-r` and benchmarks are not here.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Exit, Failure, Io, Outcome};
use crate::image::codec::{self, Codec, Input};
use crate::image::output::{Attributes, Take, write_copy};
use crate::image::{Error, Watch};

const HELP: &str = "\
usage: zstd [-zdtcfkqv] [-1…-19] [-T#] [-o FILE] [--rm] [FILE...]
  -d  decompress        -t  test              -z  compress (default)
  -c  write to standard output                -o  write to FILE
  -f  overwrite; with -dc, pass other formats through
  -k  keep input files (default)              --rm  delete them afterwards
  -q  quiet             -v  verbose
  -1 to -19: level (3); -T#, --threads=#: taken, all cores work in any case
  --fast, --ultra, --long, --adapt, --check, --sparse, --progress and their like are taken
unzstd is zstd -d, zstdcat zstd -dcf. Without files: from standard input to standard output.";

const MOST_LEVEL: u32 = 19;
/// Endings of compressed files' names, and what takes their place.
const ENDINGS: [(&[u8], &[u8]); 6] =
    [(b".zst", b""), (b".tzst", b".tar"), (b".gz", b""), (b".tgz", b".tar"), (b".lz4", b""), (b".tlz4", b".tar")];
/// Codecs that `-d` takes.
const TAKEN: [&str; 3] = ["zstd", "gzip", "lz4"];

#[derive(Default)]
struct Options {
    expand: bool,
    test: bool,
    to_stdout: bool,
    force: bool,
    remove: bool,
    quiet: bool,
    /// `None`: `--fast`.
    level: Option<u32>,
    output: Option<String>,
    files: Vec<String>,
}

/// Runs `zstd`. Exit code 1: a file was left out, or an error.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let preset = std::env::var("ZSTD_CLEVEL").ok().and_then(|level| level.parse().ok());
    filter(args, Options { level: Some(preset.unwrap_or(3)), ..Options::default() }, io)
}

/// Runs `unzstd`.
pub fn unpack(args: &[String], io: &mut Io) -> Outcome {
    filter(args, Options { expand: true, ..Options::default() }, io)
}

/// Runs `zstdcat`.
pub fn cat(args: &[String], io: &mut Io) -> Outcome {
    filter(args, Options { expand: true, to_stdout: true, force: true, ..Options::default() }, io)
}

/// Reads the command line into `options`; false once help or version are printed.
fn read(args: &[String], options: &mut Options, io: &mut Io) -> Result<bool, Failure> {
    let wrong = |word: &str| Failure::new(1, format!("{word}: Incorrect parameters\n{HELP}"));
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            options.files.push(word.clone());
            continue;
        };
        if rest == "-" {
            options.files.extend(words.by_ref().cloned());
        } else if let Some(long) = rest.strip_prefix('-') {
            match long.split('=').next().unwrap_or_default() {
                "decompress" | "uncompress" => options.expand = true,
                "compress" => options.expand = false,
                "test" => (options.expand, options.test) = (true, true),
                "stdout" => options.to_stdout = true,
                "force" => options.force = true,
                "keep" => options.remove = false,
                "rm" => options.remove = true,
                "quiet" => options.quiet = true,
                "fast" => options.level = None,
                "threads" if !long.contains('=') => drop(words.next()),
                "version" => return version(io),
                "help" => return help(io),
                "threads" | "ultra" | "long" | "adapt" | "check" | "no-check" | "sparse" | "no-sparse" | "progress"
                | "no-progress" | "single-thread" | "rsyncable" | "content-size" | "no-content-size" | "verbose"
                | "stream-size" | "size-hint" | "memory" | "pass-through" | "no-pass-through" => {}
                "format" if long == "format=zstd" => {}
                _ => return Err(wrong(word)),
            }
        } else {
            let mut letters = rest.chars().peekable();
            while let Some(letter) = letters.next() {
                let mut number = String::new();
                while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                    number.push(digit);
                }
                match letter {
                    '0'..='9' => options.level = format!("{letter}{number}").parse().ok(),
                    'T' => {}
                    'M' => drop(letters.by_ref().last()),
                    _ if !number.is_empty() => return Err(wrong(word)),
                    'd' => options.expand = true,
                    'z' => options.expand = false,
                    't' => (options.expand, options.test) = (true, true),
                    'c' => options.to_stdout = true,
                    'f' => options.force = true,
                    'k' => options.remove = false,
                    'q' => options.quiet = true,
                    'v' | 'C' | 'n' => {}
                    'o' => options.output = Some(words.next().ok_or_else(|| wrong(word))?.clone()),
                    'V' => return version(io),
                    'h' | 'H' => return help(io),
                    _ => return Err(wrong(word)),
                }
            }
        }
    }
    Ok(true)
}

fn help(io: &mut Io) -> Result<bool, Failure> {
    writeln!(io.out, "{HELP}")?;
    Ok(false)
}

fn version(io: &mut Io) -> Result<bool, Failure> {
    writeln!(io.out, "*** Zstandard CLI (64-bit) v1.5.4 (ogbox {}) ***", env!("CARGO_PKG_VERSION"))?;
    Ok(false)
}

fn filter(args: &[String], mut options: Options, io: &mut Io) -> Outcome {
    if !read(args, &mut options, io)? {
        return Ok(Exit::OK);
    }
    if options.files.is_empty() {
        options.files.push("-".to_owned());
    }
    if options.output.is_some() && options.files.len() > 1 {
        return Err(Failure::new(1, "-o takes one file at a time here"));
    }
    let first = &options.files[0];
    options.to_stdout = options.output.is_none() && (options.to_stdout || first == "-");
    options.quiet |= options.to_stdout;
    if let Some(level) = options.level.filter(|level| *level > MOST_LEVEL && !options.expand) {
        if !options.quiet {
            writeln!(io.err, "Warning : compression level higher than max, reduced to {MOST_LEVEL}")?;
        }
        options.level = Some(level.min(MOST_LEVEL));
    }
    let mut code = 0;
    for name in &options.files {
        if let Err(Failure { code: failed, message }) = one(&options, name, io) {
            if message.is_empty() {
                return Err(Failure { code: failed, message });
            }
            writeln!(io.err, "zstd: {message}")?;
            code = 1;
        }
    }
    Ok(Exit(code))
}

/// Compresses or expands one file.
fn one(options: &Options, name: &str, io: &mut Io) -> Result<(), Failure> {
    let path = (name != "-").then(|| Path::new(name));
    let shown = if path.is_some() { name } else { "/*stdin*\\" };
    let read = match path {
        None => File::from(rustix::io::dup(rustix::stdio::stdin()).map_err(io::Error::from)?),
        Some(path) if path.is_dir() => return Err(Failure::new(1, format!("{name} is a directory -- ignored"))),
        Some(path) => {
            let why =
                |error: io::Error| Failure::new(1, format!("can't stat {name} : {} -- ignored", strerror(&error)));
            File::open(path).map_err(why)?
        }
    };
    if read.is_terminal() {
        return Err(Failure::new(1, "stdin is a console, aborting"));
    }
    let output = match (&options.output, path) {
        _ if options.test || options.to_stdout => None,
        (Some(output), _) => Some(PathBuf::from(output)),
        (None, Some(path)) if options.expand => Some(expanded_name(path)?),
        (None, Some(_)) => Some(PathBuf::from(format!("{name}.zst"))),
        (None, None) => None,
    };
    if let Some(output) = output.as_ref().filter(|output| output.is_file() && !options.force) {
        return Err(Failure::new(1, format!("{} already exists; not overwritten", output.display())));
    }
    if output.is_none() && !options.test && !options.force && io::stdout().is_terminal() && !options.expand {
        return Err(Failure::new(1, "stdout is a console, aborting"));
    }
    let metadata = read.metadata()?;
    let attributes = path
        .filter(|_| metadata.is_file())
        .map(|_| Attributes { mode: metadata.mode(), modified: metadata.modified().ok() });
    let mut sizes = (0, 0);
    let mut job = |take: &mut Take| match options.expand {
        true => expand(options, shown, read.try_clone().map_err(|e| Error::io(shown, e))?, &mut sizes, take),
        false => compress(options, shown, &read, &mut sizes, take),
    };
    match &output {
        _ if options.test => job(&mut |_| Ok(()))?,
        None => {
            let out = &mut *io.out;
            job(&mut |bytes| out.write_all(bytes).map_err(|error| Error::io("write standard output", error)))
                .map_err(pipe)?;
            io.out.flush()?;
        }
        Some(output) => write_copy(output, path, attributes, options.force, &mut job)?,
    }
    if let Some(path) = path.filter(|_| options.remove && output.is_some()) {
        std::fs::remove_file(path)?;
    }
    if !options.quiet {
        io.err.write_all(summary(options, shown, sizes, output.as_deref()).as_bytes())?;
    }
    Ok(())
}

/// A reader of standard output that went away is not worth a line.
fn pipe(error: Error) -> Failure {
    match error {
        Error::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => error.into(),
        error => error.into(),
    }
}

/// The error in the C library's words.
fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn expanded_name(path: &Path) -> Result<PathBuf, Failure> {
    let name = path.as_os_str().as_bytes();
    let found = ENDINGS.iter().find_map(|(ending, instead)| Some((name.strip_suffix(*ending)?, instead)));
    match found.filter(|(stem, _)| !stem.is_empty() && !stem.ends_with(b"/")) {
        Some((stem, instead)) => Ok(PathBuf::from(std::ffi::OsString::from_vec([stem, instead].concat()))),
        None => Err(Failure::new(
            1,
            format!(
                "{}: unknown suffix (.zst/.tzst/.gz/.tgz/.lz4/.tlz4 expected). Can't derive the output file name. \
                 Specify it with -o dstFileName. Ignoring.",
                path.display()
            ),
        )),
    }
}

fn compress(
    options: &Options,
    name: &str,
    mut read: &File,
    sizes: &mut (u64, u64),
    take: &mut Take,
) -> Result<(), Error> {
    let codec = codec::named("zstd").unwrap_or(&codec::CODECS[0]);
    let level = options.level.map(|level| level.max(1) as u8);
    let codec = Codec { level, ..*codec };
    let (plain, packed) = sizes;
    let mut fill = |to: &mut [u8]| {
        let count = codec::read_full(&mut read, to).map_err(|error| Error::io(format!("read {name}"), error))?;
        *plain += count as u64;
        Ok(count)
    };
    let mut send = |bytes: &[u8]| {
        *packed += bytes.len() as u64;
        take(bytes)
    };
    codec::pack(&codec, &[], &mut fill, &mut send).map(drop)
}

fn expand(options: &Options, name: &str, read: File, sizes: &mut (u64, u64), take: &mut Take) -> Result<(), Error> {
    let mut input = Input::new(Box::new(read), name);
    let head = input.peek(16)?;
    let found = codec::recognise(head);
    let why = if head.is_empty() { "unexpected end of file" } else { "unsupported format" };
    if !(TAKEN.contains(&found.name) || options.force && options.to_stdout) {
        return Err(Error::Refused(format!("{name}: {why}")));
    }
    let found = if TAKEN.contains(&found.name) { found } else { codec::named("none").unwrap_or(found) };
    codec::unpack(found, &mut input, &Watch::idle(), &mut |bytes| {
        sizes.1 += bytes.len() as u64;
        take(bytes)
    })
}

fn summary(options: &Options, name: &str, (plain, packed): (u64, u64), output: Option<&Path>) -> String {
    if options.expand {
        return format!("{name:<20}: {packed} bytes \n");
    }
    let percent = packed as f64 * 100.0 / plain.max(1) as f64;
    let output = output.unwrap_or(Path::new("")).display();
    format!("{name:<20} :{percent:6.2}%   ({} => {}, {output}) \n", size(plain), size(packed))
}

/// A size as zstd shows it, three digits and a unit.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = [" KiB", " MiB", " GiB", " TiB"].into_iter();
    let mut unit = " B";
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, next);
    }
    let decimals = match value {
        _ if unit == " B" => 0,
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:6.decimals$}{unit}")
}
