//! ogEcho and ogRaiseError: messages on the screen and in OpenGnsys' logs.

use super::Function;
use crate::applets::Exit;
use crate::engine::{Code, Error, Level, Targets};

/// ogEcho.
pub const ECHO: Function = Function {
    format: "[ log | session | command ... ] [ help | info | warning | error ] str_message ...",
    examples: &["log session \"[10] image saved\"", "error \"No disk\""],
    words: 0..=usize::MAX,
    run: |engine, words, io| {
        let (targets, words) = targets(words);
        let level = words.first().and_then(|word| Level::of(word));
        let text = if level.is_some() { &words[1..] } else { words };
        engine.echo(io.out, targets, level.unwrap_or(Level::Plain), &text.join(" "));
        Ok(Exit::OK)
    },
};

/// ogRaiseError. Returns the given code, or 40 if unknown.
pub const RAISE_ERROR: Function = Function {
    format: "[ log | session | command ... ] int_errcode [str_errmessage]",
    examples: &["$OG_ERR_FORMAT \"1 4\""],
    words: 1..=usize::MAX,
    run: |engine, words, io| {
        let (targets, words) = targets(words);
        let Some(number) = words.first() else {
            return Err(Error::usage(engine.name(), RAISE_ERROR.format));
        };
        let code = number.parse().map_or(Code::Generic, Code::of);
        Ok(Exit(engine.raise(io.err, targets, &Error::new(code, words[1..].join(" ")))))
    },
};

/// The logs that the first words name, and the remaining words.
fn targets<'a, 'b>(mut words: &'a [&'b str]) -> (Targets, &'a [&'b str]) {
    let mut targets = Targets::NONE;
    while let Some((word, rest)) = words.split_first() {
        if !targets.add(word) {
            break;
        }
        words = rest;
    }
    (targets, words)
}
