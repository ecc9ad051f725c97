//! Command lines as BitTornado and BitTorrent 3.4.2 read them: every option is two words, `--name value`, booleans
//! too, and what is wrong is said in their words.
//!
//! The options are an argh struct all the same; a pass over the words finds what argh would not, or would say
//! otherwise.

use argh::{ArgsInfo, FlagInfoKind, FromArgs};

use crate::base::decimal;

/// What an applet's command line has beside the options of its struct.
pub struct Dialect {
    /// Options that may stand without a value, meaning 1; they are ours and not the namesakes'.
    pub switches: &'static [&'static str],
    /// Options of the namesakes that are taken, whatever their value, and mean nothing here.
    pub ignored: &'static [&'static str],
    /// Words that are no options, at the most.
    pub most_words: usize,
}

/// Reads `args` into the options struct `T`, with a line for the user on each option that is ignored.
///
/// # Errors
/// What the namesakes say of it: unknown key, value missing or of the wrong format, too many words.
pub fn parse<T: FromArgs + ArgsInfo>(args: &[String], dialect: &Dialect) -> Result<(T, Vec<String>), String> {
    let &Dialect { switches, most_words, .. } = dialect;
    let info = T::get_args_info();
    let mut options: Vec<(String, &str)> = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut ignored: Vec<String> = Vec::new();
    let mut args = args.iter().map(String::as_str).peekable();
    while let Some(word) = args.next() {
        let Some(name) = word.strip_prefix("--") else {
            words.push(word);
            continue;
        };
        let value = match args.peek() {
            Some(next) if !(switches.contains(&name) && next.starts_with("--")) => args.next().unwrap_or_default(),
            _ if switches.contains(&name) => "1",
            _ => return Err("parameter passed in at end with no value".to_owned()),
        };
        if dialect.ignored.contains(&name) {
            let line = format!("--{name} has no meaning here and is ignored");
            if !ignored.contains(&line) {
                ignored.push(line);
            }
            continue;
        }
        let dashed = format!("--{}", name.replace('_', "-"));
        if !info.flags.iter().any(|flag| flag.long == dashed && matches!(flag.kind, FlagInfoKind::Option { .. })) {
            return Err(format!("unknown key --{name}"));
        }
        // Of two the last one counts.
        options.retain(|(known, _)| *known != dashed);
        options.push((dashed, value));
    }
    if words.len() > most_words {
        return Err(format!("Too many args - {most_words} max."));
    }
    let mut line: Vec<&str> = options.iter().flat_map(|(name, value)| [name.as_str(), *value]).collect();
    if !words.is_empty() {
        line.push("--");
        line.extend(&words);
    }
    let read = T::from_args(&[""], &line).map_err(|early| {
        let said = early.output.trim_end();
        let wrong = options.iter().find_map(|(name, value)| {
            let why = said.strip_prefix(&format!("Error parsing option '{name}' with value '{value}': "))?;
            Some(format!("wrong format of {} - {why}", underscored(name)))
        });
        wrong.unwrap_or_else(|| said.to_owned())
    });
    Ok((read?, ignored))
}

/// The list of options that the namesakes print when there are no arguments.
pub fn list<T: ArgsInfo>(ignored: &[&str]) -> String {
    let mut out = String::new();
    for flag in T::get_args_info().flags.iter().filter(|flag| matches!(flag.kind, FlagInfoKind::Option { .. })) {
        out.push_str(&underscored(flag.long));
        out.push_str(" <arg>\n");
        let mut column = 80;
        for word in flag.description.split_whitespace() {
            if column + word.chars().count() >= 79 {
                if column < 80 {
                    out.push('\n');
                }
                out.push_str("         ");
                column = 9;
            }
            out.push(' ');
            out.push_str(word);
            column += 1 + word.chars().count();
        }
        out.push_str("\n\n");
    }
    for name in ignored {
        out.push_str("--");
        out.push_str(name);
        out.push_str(" <arg>\n          no meaning here\n\n");
    }
    out
}

fn underscored(name: &str) -> String {
    format!("--{}", name.trim_start_matches('-').replace('-', "_"))
}

/// A whole number, refused in Python's words.
pub fn whole<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    let number: i64 = text.trim().parse().map_err(|_| format!("invalid literal for int() with base 10: '{text}'"))?;
    number.to_string().parse().map_err(|_| format!("{number} is out of range"))
}

/// A number with or without a fraction, refused in Python's words.
pub fn real(text: &str) -> Result<f64, String> {
    let (sign, digits) = text.trim().strip_prefix('-').map_or((1.0, text.trim()), |digits| (-1.0, digits));
    decimal::read(digits)
        .map(|number| sign * number)
        .ok_or_else(|| format!("could not convert string to float: '{text}'"))
}

/// A boolean: any whole number but 0 is true.
pub fn boolean(text: &str) -> Result<bool, String> {
    whole::<i64>(text).map(|number| number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test options.
    #[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
    struct Options {
        /// port to listen on (defaults to 80)
        #[argh(option, default = "80", from_str_fn(whole))]
        port: u16,
        /// seconds between two looks, which is such a long story that its line has to be broken somewhere
        #[argh(option, default = "3.0", from_str_fn(real))]
        look_interval: f64,
        /// whether it is open
        #[argh(option, default = "false", from_str_fn(boolean))]
        open: bool,
        /// directory
        #[argh(positional)]
        words: Vec<String>,
    }

    const DIALECT: Dialect = Dialect { switches: &["open"], ignored: &["old_way"], most_words: 1 };

    fn read(line: &str) -> Result<Options, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args, &DIALECT).map(|(options, _)| options)
    }

    fn said(line: &str) -> String {
        read(line).unwrap_err()
    }

    #[test]
    fn pairs_are_read_and_the_last_one_counts() {
        let expected = Options { port: 7, look_interval: 0.5, open: true, words: vec!["-x".into()] };
        assert_eq!(read("--port 6 -x --look_interval .5 --open 1 --port 7"), Ok(expected));
    }

    #[test]
    fn a_switch_may_stand_alone() {
        assert!(read("--open").unwrap().open);
        assert_eq!(read("--open --port 7").map(|options| (options.open, options.port)), Ok((true, 7)));
        assert!(!read("--open 0").unwrap().open);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_namesakes_words() {
        assert_eq!(said("--prot 1"), "unknown key --prot");
        assert_eq!(said("--port"), "parameter passed in at end with no value");
        assert_eq!(said("--port x"), "wrong format of --port - invalid literal for int() with base 10: 'x'");
        assert_eq!(said("--port 65536"), "wrong format of --port - 65536 is out of range");
        assert_eq!(said("--open 1.5"), "wrong format of --open - invalid literal for int() with base 10: '1.5'");
        assert_eq!(
            said("--look_interval x"),
            "wrong format of --look_interval - could not convert string to float: 'x'"
        );
        assert_eq!(said("a b"), "Too many args - 1 max.");
        assert_eq!(said("--words x"), "unknown key --words");
        assert_eq!(said("--port --open"), "wrong format of --port - invalid literal for int() with base 10: '--open'");
    }

    #[test]
    fn what_means_nothing_here_is_taken_and_told_once() {
        let args = ["--old_way", "1", "--port", "7", "--old_way", "--x"].map(str::to_owned);
        let (options, ignored) = parse::<Options>(&args, &DIALECT).unwrap();
        assert_eq!((options.port, ignored), (7, vec!["--old_way has no meaning here and is ignored".to_owned()]));
        assert_eq!(said("--old_way"), "parameter passed in at end with no value");
    }

    #[test]
    fn the_list_names_each_option_with_what_it_does() {
        let list = list::<Options>(DIALECT.ignored);
        assert!(
            list.starts_with("--port <arg>\n          port to listen on (defaults to 80)\n\n--look_interval <arg>\n"),
            "{list}"
        );
        assert!(list.lines().all(|line| line.len() < 80), "{list}");
    }
}
