//! Command lines as getopt and BitTornado read them, made fit for argh.
//!
//! argh knows neither underscores in long names, nor `--name=value`, nor `-p16`, nor clusters (`-cv`), nor
//! "the last one wins". A pure pass over the words translates all of it before argh sees them.

use argh::FromArgs;

use super::{Exit, Failure, Io};
use crate::base::getopt::normalised;
pub use crate::base::getopt::{Grammar, normalise};

/// A command line after argh.
pub enum Parsed<T> {
    /// Options to run with.
    Run(T),
    /// Help was requested and printed.
    Done(Exit),
}

/// Reads `args` into the options struct `T`; prints help on request.
///
/// # Errors
/// A wrong command line: argh's message and the grammar's exit code.
pub fn parse<T: FromArgs>(applet: &str, grammar: &Grammar, args: &[String], io: &mut Io) -> Result<Parsed<T>, Failure> {
    let mut words = normalised(grammar, args);
    if words.iter().any(|group| group[0] == "-") {
        // argh takes a lone dash for an unknown option, except behind `--`.
        let is_option = |group: &Vec<String>| group[0].starts_with('-') && !["-", "--"].contains(&group[0].as_str());
        let (options, positional): (Vec<_>, Vec<_>) = words.into_iter().partition(is_option);
        let positional = positional.into_iter().flatten().filter(|word| word != "--");
        words = options;
        words.push(std::iter::once("--".to_owned()).chain(positional).collect());
    }
    let words: Vec<&str> = words.iter().flatten().map(String::as_str).collect();
    match T::from_args(&[applet], &words) {
        Ok(options) => Ok(Parsed::Run(options)),
        Err(early) if early.status.is_ok() => {
            writeln!(io.out, "{}", early.output.trim_end())?;
            Ok(Parsed::Done(Exit::OK))
        }
        Err(early) => Err(Failure::new(grammar.usage_code, early.output.trim_end())),
    }
}
