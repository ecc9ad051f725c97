//! How long functions are.

use super::lex::{Kind, Token, tokens};

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// From the line of `fn` to that of the closing brace, both counted.
    pub lines: usize,
    /// The file and the line of `fn`, then the name.
    pub place: String,
}

/// The functions of a source, inner ones too.
pub fn functions(file: &str, source: &str) -> Vec<Function> {
    let tokens = tokens(source);
    let starts = tokens.iter().enumerate().filter(|(_, token)| token.is("fn"));
    starts
        .filter_map(|(at, token)| {
            let name = tokens.get(at + 1).filter(|name| name.kind == Kind::Word)?;
            let last = end(&tokens[at..])?;
            let place = format!("{file}:{}: {}", token.line, name.text);
            Some(Function { lines: last + 1 - token.line, place })
        })
        .collect()
}

/// Line of the brace that closes the body of the function with which `tokens` begins; `None` if it has no body.
fn end(tokens: &[Token]) -> Option<usize> {
    let (mut depth, mut body) = (0, false);
    for token in tokens.iter().filter(|token| token.kind == Kind::Mark) {
        match token.text {
            "{" if depth == 0 => (body, depth) = (true, 1),
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            ";" if depth == 0 => return None,
            _ => {}
        }
        if depth == 0 && body {
            return Some(token.line);
        }
    }
    None
}
