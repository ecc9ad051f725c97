//! The functions of OpenGnsys' engine as commands: positional words, OpenGnsys' exit codes, messages and logs. A
//! function is a [`Function`] in one of these files and a line of the table of applets.

use std::ops::RangeInclusive;

use super::{Exit, Failure, Io, Outcome};
use crate::engine::{Engine, Error, Targets};

pub mod checksums;
mod child;
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

/// One function: how it is called, and what runs it.
pub struct Function {
    /// Its words, as its help shows them.
    pub format: &'static str,
    /// What else its help shows: words that it may be called with.
    pub examples: &'static [&'static str],
    /// How many words it takes.
    pub words: RangeInclusive<usize>,
    /// Runs it.
    pub run: fn(&Engine, &[&str], &mut Io) -> Result<Exit, Error>,
}

/// What a function answers with its exit code alone.
const NO: Exit = Exit(1);

/// A place and a name in it, in each of the three forms; the whole path is the fourth.
const FILE: &str = "[ str_repo | int_ndisk int_npartition ] path_filepath";

/// Runs `function` under its applet's name: `help` alone explains it, errors are told as ogRaiseError tells them.
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
        // What was said before the error is read before it; a reader that went away does not change the code.
        let _ = io.out.flush();
        Failure { code: engine.raise(io.err, Targets::NONE, &error), message: String::new() }
    })
}

/// Tells a line on standard output, which may have been closed by who has read enough.
fn print(io: &mut Io, line: &str) -> Result<Exit, Error> {
    let _ = writeln!(io.out, "{line}");
    Ok(Exit::OK)
}

/// Where the words that name one file end: the rest names the next.
fn split_file<'a>(words: &'a [&'a str]) -> (&'a [&'a str], &'a [&'a str]) {
    let count = match words.first().and_then(|word| word.bytes().next()) {
        Some(b'/') => 1,
        Some(b'1'..=b'9') => 3,
        _ => 2,
    };
    words.split_at(count.min(words.len()))
}
