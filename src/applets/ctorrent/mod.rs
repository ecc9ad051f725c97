//! `ctorrent`: Enhanced CTorrent dnh3.3.2 by its names, options, texts and exit codes, which OpenGnsys'
//! scripts read.
//!
//! Like its namesake it is two programs: one makes a metainfo file, when the first argument begins with
//! `-t`, the other reads one; `-c` and `-p` differ in meaning between them. Additions are long options.

use argh::FromArgs;

use super::options::{self, Parsed};
use super::{Exit, Failure, Io, Outcome};
use arguments::{CREATE, Create, NAME, RUN, Run, give_up, objection};

mod arguments;
mod create;
mod face;
mod info;
mod leave;
mod password;
mod run;
mod status;

/// Makes or shows a metainfo file, or downloads and seeds its content.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let Some((first, rest)) = args.split_first() else { return usage(io) };
    let outcome = match first.strip_prefix("-t") {
        Some(letters) => {
            // Options may follow in the same word: `-tp`.
            let letters = (!letters.is_empty()).then(|| format!("-{letters}"));
            let args: Vec<String> = letters.into_iter().chain(rest.iter().cloned()).collect();
            options::parse(NAME, &CREATE, &args, io).map(|parsed| match parsed {
                Parsed::Run(options) => create::run(&options, io),
                Parsed::Done(exit) => Ok(exit),
            })
        }
        None => options::parse::<Run>(NAME, &RUN, args, io).map(|parsed| match parsed {
            Parsed::Run(options) => match objection(&options) {
                Some(objection) => give_up(io, &objection),
                None if options.examine => info::run(&options, io),
                None => run::run(&options, args, io),
            },
            Parsed::Done(exit) => Ok(exit),
        }),
    };
    match outcome {
        Ok(outcome) => outcome,
        Err(wrong) if matches!(wrong.message.as_str(), "Unrecognized argument: -h" | "Unrecognized argument: -H") => {
            usage(io)
        }
        // The reader of the help went away.
        Err(gone) if gone.message.is_empty() => Err(gone),
        Err(wrong) => Err(as_getopt(wrong)),
    }
}

/// Puts argh's complaint into getopt's words.
fn as_getopt(wrong: Failure) -> Failure {
    let letter = |beginning: &str| wrong.message.strip_prefix(beginning)?.chars().next().filter(|char| *char != '-');
    let message = if let Some(letter) = letter("Unrecognized argument: -") {
        format!("invalid option -- '{letter}'")
    } else if let Some(letter) = letter("No value provided for option '-") {
        format!("option requires an argument -- '{letter}'")
    } else {
        wrong.message
    };
    Failure { message: message + "\nUse -h for help/usage.", ..wrong }
}

/// Prints the help of both programs on standard error, as the namesake does.
fn usage(io: &mut Io) -> Outcome {
    let help = |early: Option<argh::EarlyExit>| early.map(|early| early.output).unwrap_or_default();
    let run = help(Run::from_args(&[NAME], &["--help"]).err());
    let create = help(Create::from_args(&[NAME, "-t"], &["--help"]).err());
    writeln!(io.err, "{}\n\n{}", run.trim_end(), create.trim_end())?;
    Ok(Exit(1))
}
