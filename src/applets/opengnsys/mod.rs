//! The functions of OpenGnsys' engine as commands: positional arguments, OpenGnsys' exit codes, messages and logs. Each
//! function is a [`Function`] in one of these files and a line in the table of applets.

use std::ops::RangeInclusive;

use super::{Exit, Failure, Io, Outcome};
use crate::engine::{Engine, Error, Targets};

pub mod checksums;
pub mod create;
mod fetch;
pub mod image_info;
pub mod imaging;
pub mod locks;
pub mod paths;
pub mod say;
pub mod scripts;
mod swarm;
pub mod torrents;
pub mod transfer;
pub mod unicast;

/// A function of the engine.
pub struct Function {
    /// The synopsis of its arguments, shown by its help.
    pub format: &'static str,
    /// Examples of arguments, shown by its help.
    pub examples: &'static [&'static str],
    /// The number of arguments.
    pub words: RangeInclusive<usize>,
    /// The implementation.
    pub run: fn(&Engine, &[&str], &mut Io) -> Result<Exit, Error>,
}

/// The answer "no" of a function that answers by its exit code.
const NO: Exit = Exit(1);

/// The synopsis of a file argument in its four forms (see [`crate::engine::path`]).
const FILE: &str = "[ str_repo | int_ndisk int_npartition ] path_filepath";

/// Runs `function` under its applet's name. The argument `help` prints its help; errors are printed as by ogRaiseError.
pub fn call(name: &str, summary: &str, function: &Function, args: &[String], io: &mut Io) -> Outcome {
    let engine = Engine::from_env(name);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["help" | "--help" | "-h"] = words[..] {
        engine.help(io.out, summary, function.format, function.examples);
        return Ok(Exit::OK);
    }
    let done = if function.words.contains(&words.len()) {
        (function.run)(&engine, &words, io)
    } else {
        Err(Error::usage(name, function.format))
    };
    done.map_err(|error| {
        // Output must come before the error; a closed pipe does not change the exit code.
        let _ = io.out.flush();
        Failure { code: engine.raise(io.err, Targets::NONE, &error), message: String::new() }
    })
}

/// Prints a line on standard output; a closed pipe is no error.
fn print(io: &mut Io, line: &str) -> Result<Exit, Error> {
    let _ = writeln!(io.out, "{line}");
    Ok(Exit::OK)
}

/// Splits the words that name one file from the rest.
fn split_file<'a>(words: &'a [&'a str]) -> (&'a [&'a str], &'a [&'a str]) {
    let count = match words.first().and_then(|word| word.bytes().next()) {
        Some(b'/') => 1,
        Some(b'1'..=b'9') => 3,
        _ => 2,
    };
    words.split_at(count.min(words.len()))
}
