//! `ogbox image save`: the used blocks of a partition into an image.

use std::io::{self, IsTerminal};
use std::path::Path;

use argh::FromArgs;

use super::{FAILED, GRAMMAR, style, watched};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::image::codec::{self, Codec};
use crate::image::save::{ImageFile, Options, Save};
use crate::image::{Error, Watch};

/// Save the used blocks of an unmounted partition, or of a file that holds a file system, to an image as
/// `partclone.FS -c -s SOURCE | lzop` makes it. The source is opened read-only.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// image file, replaced once it is complete; - or nothing: standard output
    #[argh(option, short = 'o')]
    output: Option<String>,

    /// compression: lzop (default), gzip, zstd, none
    #[argh(option, short = 'c')]
    compress: Option<String>,

    /// take a source that is mounted or not clean as it is
    #[argh(switch)]
    force: bool,

    /// auto, bar, plain, json or none
    #[argh(option)]
    progress: Option<String>,

    /// device or file
    #[argh(positional)]
    source: String,
}

/// Saves.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image save", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let style = style(args.progress.as_deref())?;
    let codec = match args.compress.as_deref() {
        None => &codec::CODECS[0],
        Some(name) => codec::named(name).ok_or_else(|| {
            let names: Vec<&str> = codec::CODECS.iter().map(|codec| codec.name).collect();
            Failure::new(FAILED, format!("compression {name} is none of {}", names.join(", ")))
        })?,
    };
    let output = args.output.as_deref().filter(|name| *name != "-");
    if output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::new(FAILED, "an image does not go to a terminal: name a file with -o"));
    }
    let save = Save::open(Path::new(&args.source), &Options { force: args.force, ..Options::default() })?;
    if let Some(why) = save.dirty() {
        writeln!(io.err, "ogbox image save: {why}; taken as it is (--force)")?;
    }
    watched("save", 1, style, |watch| match output {
        Some(name) => to_file(&save, name, codec, watch),
        None => save.write(io.out, "standard output", codec, watch).map(drop),
    })?;
    Ok(Exit::OK)
}

fn to_file(save: &Save, name: &str, codec: &Codec, watch: &Watch) -> Result<(), Error> {
    let mut file = ImageFile::create(Path::new(name))?;
    save.write(file.file(), name, codec, watch)?;
    file.finish()
}
