//! `ogbox image info`: the contents of an image.

use std::path::Path;

use argh::FromArgs;

use super::words::{self, GRAMMAR, input};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Io, Outcome};
use crate::image::{codec, info, legacy, sets, unpack};

/// Show what an image holds, as partclone.info does; the image may be compressed.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// one JSON object instead
    #[argh(switch)]
    json: bool,

    /// image; - is standard input
    #[argh(positional)]
    image: String,
}

/// Runs the subcommand.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image info", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    if !args.json {
        write!(io.out, "{}", sets::describe(Path::new(&args.image))?)?;
    }
    let mut input = input(&args.image)?;
    let codec = codec::recognise(input.peek(16)?);
    let header = match unpack::header(input) {
        Ok((header, _)) => header,
        Err(error) if args.image == "-" => return Err(error.into()),
        Err(error) => {
            let legacy = legacy::recognise(words::input(&args.image)?)?.ok_or(error)?;
            writeln!(io.out, "{}", if args.json { legacy.json(codec.name) } else { legacy.to_string() })?;
            return Ok(Exit::OK);
        }
    };
    if args.json {
        writeln!(io.out, "{}", info::json(&header, codec.name))?;
    } else {
        writeln!(io.out, "{}\n{}", info::file_system(&header), info::image(&header).trim_end())?;
    }
    Ok(Exit::OK)
}
