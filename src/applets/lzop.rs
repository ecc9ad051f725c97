//! `lzop`: files and streams in lzop's format, with lzop 1.04's options, names and exit codes, on all cores.
//!
//! All levels are accepted and give LZO1X-1, which lzop's -2 to -6 are; a note says so for one of its slow levels, -7 to
//! -9. `-p`, `-P` and `-x`, which concern paths, are refused.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::image::watch_over;
use super::options::{Grammar, normalise};
use super::{Exit, Failure, Io, Outcome};
use crate::base::progress::Style;
use crate::base::signal::Signals;
use crate::image::codec::lzop::{self, Member, Splitter};
use crate::image::codec::{self, Codec, Input, Packed, Split};
use crate::image::format::untyped;
use crate::image::output::{Attributes, Take, write_copy};
use crate::image::{Error, Watch};

const GRAMMAR: Grammar =
    Grammar { valued: "oS", valued_long: &["output", "suffix", "progress"], repeated: &[], usage_code: 1 };

const HELP: &str = "\
usage: lzop [-dtlcfnNkUqv] [-1…-9] [-o FILE] [-S SUFFIX] [FILE...]
  -d  decompress        -t  test              -l  list
  -c  write to standard output                -o  write to FILE
  -f  overwrite         -k  keep input files  -U  delete them afterwards
  -N  restore the name stored in the file     -n  do not (default)
  -S  suffix of compressed files (.lzo)       -q  quiet    -v  verbose
  -1 to -9: all compress as -3 does; a smaller image is made by `ogbox image save -c zstd:9`
  --progress STYLE  new: auto, bar, plain, json, or none as without it
Without files: from standard input to standard output.";

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Job {
    #[default]
    Compress,
    Expand,
    Test,
    List,
}

#[derive(Default)]
struct Options {
    job: Job,
    to_stdout: bool,
    output: Option<String>,
    suffix: String,
    force: bool,
    restore_name: bool,
    delete: bool,
    verbose: bool,
    quiet: bool,
    /// The last level that was asked for and is none of ours, as it was spelt.
    slow_level: Option<String>,
    progress: Style,
    files: Vec<String>,
}

/// Reads the command line; `None` once help or version are printed.
fn read(args: &[String], io: &mut Io) -> Result<Option<Options>, Failure> {
    let mut options = Options { suffix: ".lzo".to_owned(), progress: Style::Quiet, ..Options::default() };
    let words = normalise(&GRAMMAR, args);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-d" | "--decompress" | "--uncompress" => options.job = Job::Expand,
            "-t" | "--test" => options.job = Job::Test,
            "-l" | "--list" => options.job = Job::List,
            "-c" | "--stdout" | "--to-stdout" => options.to_stdout = true,
            "-o" | "--output" => options.output = words.next().cloned(),
            "-S" | "--suffix" => {
                let suffix = words.next().map_or("", String::as_str);
                options.suffix = format!(".{}", suffix.trim_start_matches('.'));
            }
            "-f" | "--force" => options.force = true,
            "-N" | "--name" => options.restore_name = true,
            "-U" | "--unlink" | "--delete" => options.delete = true,
            "-v" | "--verbose" => options.verbose = true,
            "--progress" => {
                let style = words.next().map_or("", String::as_str);
                options.progress = style.parse().map_err(|why: String| Failure::new(1, why))?;
            }
            "-q" | "--quiet" | "--silent" => options.quiet = true,
            "-k" | "--keep" | "-n" | "--no-name" | "-F" | "--no-checksum" | "--no-stdin" | "--crc32" | "--fast"
            | "--no-warn" => {}
            "-7" | "-8" | "-9" | "--best" => options.slow_level = Some(word.clone()),
            digit if digit.len() == 2 && ("-1"..="-9").contains(&digit) => {}
            "-h" | "-H" | "--help" => {
                writeln!(io.out, "{HELP}")?;
                return Ok(None);
            }
            "-V" | "--version" => {
                writeln!(io.out, "lzop v1.04 (ogbox {})", env!("CARGO_PKG_VERSION"))?;
                return Ok(None);
            }
            "--" => options.files.extend(words.by_ref().cloned()),
            word if word.starts_with('-') && word != "-" => {
                return Err(Failure::new(1, format!("invalid option '{word}'\n{HELP}")));
            }
            word => options.files.push(word.to_owned()),
        }
    }
    if options.files.is_empty() {
        options.files.push("-".to_owned());
    }
    Ok(Some(options))
}

/// Runs lzop. Exit codes: 1 error, 2 warning.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let Some(options) = read(args, io)? else { return Ok(Exit::OK) };
    if options.job == Job::List {
        writeln!(io.out, "method      compressed  uncompr. ratio uncompressed_name")?;
    }
    if let Some(level) = options.slow_level.as_ref().filter(|_| options.job == Job::Compress && !options.quiet) {
        writeln!(io.err, "lzop: {level}: there are no slow levels here; this compresses as -3 does")?;
    }
    let mut code = 0;
    // Without progress a signal kills the process, as it does lzop.
    let signals = (options.progress != Style::Quiet).then(Signals::catch_ends).transpose()?;
    for name in &options.files {
        let done = match &signals {
            Some(signals) => {
                let job = |watch: &Watch| one(&options, name, io, watch);
                watch_over("lzop", 1, options.progress, signals, Box::new(job)).map(drop)
            }
            None => one(&options, name, io, &Watch::idle()),
        };
        match done {
            Ok(()) => {}
            Err(Failure { code: failed, message }) => {
                writeln!(io.err, "lzop: {message}")?;
                code = if failed == 1 { 1 } else { code.max(failed) };
            }
        }
    }
    Ok(Exit(code))
}

/// An input file.
struct Source<'a> {
    /// `None` for standard input.
    path: Option<&'a Path>,
    name: &'a str,
    read: File,
}

fn one(options: &Options, name: &str, io: &mut Io, watch: &Watch) -> Result<(), Failure> {
    let path = (name != "-").then(|| Path::new(name));
    let read = match path {
        None => File::from(rustix::io::dup(rustix::stdio::stdin()).map_err(io::Error::from)?),
        Some(path) => {
            let read = File::open(path);
            let read = read.map_err(|error| Failure::new(1, format!("{name}: can't open input file: {error}")))?;
            if !read.metadata()?.is_file() && !options.to_stdout {
                return Err(Failure::new(2, format!("{name}: warning: not a regular file -- skipped")));
            }
            read
        }
    };
    if read.is_terminal() && options.job != Job::Compress {
        return Err(Failure::new(1, "compressed data not read from a terminal"));
    }
    let source = Source { path, name: if path.is_some() { name } else { "<stdin>" }, read };
    (watch.begin)(&untyped(source.read.metadata()?.len()));
    // Reading is the work of expanding, so bytes read count as done.
    let expanded = &Watch { took: watch.progress, ..*watch };
    match options.job {
        Job::Compress => compress(options, source, io, watch),
        Job::Expand => expand(options, source, io, expanded),
        Job::Test => {
            let (name, verbose) = (source.name, options.verbose || path.is_some());
            let mut input = open(source)?;
            if verbose {
                write!(io.out, "testing {name}")?;
                io.out.flush()?;
            }
            let tested = codec::unpack(codec(), &mut input, expanded, &mut |_| Ok(()));
            if verbose {
                writeln!(io.out, "{}", if tested.is_ok() { " OK" } else { "" })?;
            }
            Ok(tested?)
        }
        Job::List => list(source, io),
    }
}

/// lzop's entry in the table of codecs.
fn codec() -> &'static Codec {
    codec::named("lzop").unwrap_or(&codec::CODECS[0])
}

fn compress(options: &Options, mut source: Source, io: &mut Io, watch: &Watch) -> Result<(), Failure> {
    let path = source.path.filter(|_| !options.to_stdout || options.output.is_some());
    let output = match (&options.output, path) {
        (Some(output), _) => Some(PathBuf::from(output)),
        (None, Some(path)) if path.as_os_str().as_bytes().ends_with(options.suffix.as_bytes()) => {
            let why = format!("{}: warning: already has {} suffix -- unchanged", source.name, options.suffix);
            return Err(Failure::new(2, why));
        }
        (None, Some(path)) => {
            let mut name = path.as_os_str().to_owned();
            name.push(&options.suffix);
            Some(PathBuf::from(name))
        }
        (None, None) => None,
    };
    let metadata = source.read.metadata()?;
    let member = match source.path.and_then(Path::file_name) {
        Some(name) => Member {
            mode: metadata.mode(),
            time: metadata.mtime().max(0) as u64,
            name: name.as_bytes().to_vec(),
            ..Member::default()
        },
        None => Member::default(),
    };
    let mut head = Vec::new();
    lzop::begin_member(&member, &mut head);
    let (name, read) = (source.name.to_owned(), &mut source.read);
    let mut fill = |to: &mut [u8]| {
        if (watch.stop)() {
            return Err(Error::Interrupted);
        }
        let count = codec::read_full(read, to).map_err(|error| Error::io(format!("read {name}"), error))?;
        (watch.progress)(count as u64);
        Ok(count)
    };
    let said = ("compressing", source.name);
    write_to(options, output, said, io, &member, source.path, &mut |out| {
        let mut send = |bytes: &[u8]| {
            (watch.wrote)(bytes.len() as u64);
            out(bytes)
        };
        codec::pack(codec(), &head, &mut fill, &mut send).map(drop)
    })
}

fn expand(options: &Options, source: Source, io: &mut Io, watch: &Watch) -> Result<(), Failure> {
    let (name, path) = (source.name, source.path);
    let mut input = open(source)?;
    let member = match path {
        // Read separately and first, for its name and time.
        Some(path) => lzop::header(&mut Input::new(Box::new(File::open(path)?), name))?,
        None => Member::default(),
    };
    let output = match (&options.output, path) {
        (Some(output), _) => Some(PathBuf::from(output)),
        (None, Some(path)) if !options.to_stdout => Some(expanded_name(options, path, &member)?),
        _ => None,
    };
    let mut job = |take: &mut Take| {
        codec::unpack(codec(), &mut input, watch, &mut |bytes| {
            (watch.wrote)(bytes.len() as u64);
            take(bytes)
        })
    };
    write_to(options, output, ("decompressing", name), io, &member, path, &mut job)
}

/// The output's name: without the suffix, `.tar` for `.tzo`, or the one stored in the file.
fn expanded_name(options: &Options, path: &Path, member: &Member) -> Result<PathBuf, Failure> {
    let name = path.as_os_str().as_bytes();
    if options.restore_name && !member.name.is_empty() {
        // Only the last component: a stored name must not lead to another directory.
        let stored = std::ffi::OsString::from_vec(member.name.clone());
        if let Some(stored) = Path::new(&stored).file_name() {
            return Ok(path.with_file_name(stored));
        }
    }
    let stem = |suffix: &[u8]| name.strip_suffix(suffix).filter(|stem| !stem.is_empty());
    let bytes = match (stem(options.suffix.as_bytes()), stem(b".tzo")) {
        (Some(stem), _) => stem.to_vec(),
        (None, Some(stem)) => [stem, b".tar"].concat(),
        (None, None) => {
            let why = format!("{0}: unknown suffix -- ignored\nskipping {0} [{0}.raw]", path.display());
            return Err(Failure::new(1, why));
        }
    };
    Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// Writes to standard output, or to a file that appears once complete, with the time and mode of the original.
fn write_to(
    options: &Options,
    output: Option<PathBuf>,
    (verb, from): (&str, &str),
    io: &mut Io,
    member: &Member,
    source: Option<&Path>,
    job: &mut dyn FnMut(&mut Take) -> Result<(), Error>,
) -> Result<(), Failure> {
    let failed = |name: &str, error| Error::io(format!("write {name}"), error);
    let Some(output) = output else {
        if io::stdout().is_terminal() && options.job == Job::Compress && !options.force {
            return Err(Failure::new(1, "compressed data not written to a terminal; use -f to force it"));
        }
        let out = &mut *io.out;
        job(&mut |bytes| out.write_all(bytes).map_err(|error| failed("standard output", error)))?;
        return Ok(out.flush()?);
    };
    let name = output.display().to_string();
    if options.verbose {
        writeln!(io.err, "{verb} {from} into {name}")?;
    }
    if output.is_file() && !options.force {
        let skipping = if options.job == Job::Expand { format!("\nskipping {from} [{name}]") } else { String::new() };
        return Err(Failure::new(1, format!("{name}: already exists; not overwritten{skipping}")));
    }
    let is_file = !output.exists() || output.is_file();
    let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(member.time)).filter(|_| member.time != 0);
    let attributes = (member.mode != 0).then_some(Attributes { mode: member.mode, modified });
    write_copy(&output, source, attributes, options.force, job)?;
    if let Some(source) = source.filter(|_| options.delete && is_file) {
        std::fs::remove_file(source)?;
    }
    Ok(())
}

/// Opens the source after checking that it is an lzop file.
fn open(source: Source) -> Result<Input, Failure> {
    let mut input = Input::new(Box::new(source.read), source.name);
    if lzop::recognise(input.peek(16)?) {
        return Ok(input);
    }
    Err(Failure::new(1, format!("{}: not a lzop file", input.name())))
}

fn list(source: Source, io: &mut Io) -> Result<(), Failure> {
    let expanded = source.path.map(|path| path.with_extension("").display().to_string());
    let mut input = open(source)?;
    let (mut splitter, mut piece) = (Splitter::default(), Packed::default());
    let (mut packed, mut plain, mut method) = (0, 0, 0);
    while splitter.next(&mut input, &mut piece)? {
        packed += piece.used as u64;
        plain += piece.plain as u64;
        method = splitter.member().map_or(method, |member| member.method);
    }
    let method = match method {
        3 => "LZO1X-999",
        2 => "LZO1X-1(15)",
        _ => "LZO1X-1",
    };
    let tenths = (packed * 1000 + plain / 2).checked_div(plain).unwrap_or(0);
    let name = expanded.as_deref().unwrap_or("<stdin>");
    writeln!(io.out, "{method:<11} {packed:>9} {plain:>9} {:>3}.{}% {name}", tenths / 10, tenths % 10)?;
    Ok(())
}
