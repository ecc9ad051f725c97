//! Rust's tokens, as far as paths and braces need them. Comments vanish; strings, characters and numbers are literals.

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword; a raw one (`r#type`) without its prefix.
    Word,
    /// A string, character or number.
    Literal,
    /// `::`, or one character of any other punctuation.
    Mark,
}

/// A token and the line on which it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As written, but for raw names.
    pub text: &'a str,
    /// Counted from 1.
    pub line: usize,
}

impl Token<'_> {
    /// Whether this is the punctuation or the word `text`.
    pub fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }
}

/// Splits `source` into tokens.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, at: 0, line: 1 };
    std::iter::from_fn(|| lexer.next()).collect()
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, length) = match first {
            '"' => (Kind::Literal, quoted(rest)),
            '\'' => match character(rest) {
                Some(length) => (Kind::Literal, length),
                // A lifetime or label: no path begins with one.
                None => (Kind::Literal, 1 + word_length(&rest[1..])),
            },
            '0'..='9' => (Kind::Literal, number(rest)),
            _ if word_length(rest) > 0 => match prefixed(rest) {
                Some(length) => (Kind::Literal, length),
                None => return Some(self.word()),
            },
            _ if rest.starts_with("::") => (Kind::Mark, 2),
            other => (Kind::Mark, other.len_utf8()),
        };
        Some(self.take(kind, length))
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn take(&mut self, kind: Kind, length: usize) -> Token<'a> {
        let text = &self.rest()[..length];
        let token = Token { kind, text, line: self.line };
        self.line += text.matches('\n').count();
        self.at += length;
        token
    }

    fn word(&mut self) -> Token<'a> {
        if self.rest().starts_with("r#") {
            self.at += 2;
        }
        self.take(Kind::Word, word_length(self.rest()))
    }

    /// Skips white space and comments; block comments nest.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let length = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                block_comment(rest)
            } else {
                rest.len() - rest.trim_start().len()
            };
            if length == 0 {
                return;
            }
            self.take(Kind::Mark, length);
        }
    }
}

/// Bytes of the nested comment with which `text` begins.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => 1,
            Some(b"*/") => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Bytes of the word with which `text` begins, 0 if none.
fn word_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Bytes of the string in plain quotes with which `text` begins.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of the character literal with which `text` begins; `None` if it is a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut inner = text.char_indices().skip(1);
    match inner.next()? {
        (_, '\\') => {
            inner.next()?;
            inner.find(|&(_, c)| c == '\'').map(|(at, _)| at + 1)
        }
        _ => inner.next().filter(|&(_, c)| c == '\'').map(|(at, _)| at + 1),
    }
}

/// Bytes of the number with which `text` begins; `1..2` and `1.max(2)` end before the dot.
fn number(text: &str) -> usize {
    let digits = |from: usize| {
        text[from..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(text.len(), |n| from + n)
    };
    let end = digits(0);
    match text.as_bytes().get(end..end + 2) {
        Some([b'.', b'0'..=b'9']) => digits(end + 1),
        _ => end,
    }
}

/// Bytes of the literal with a prefix (`b'x'`, `b""`, `c""`, `r#""#`, `br""`) with which `text` begins.
fn prefixed(text: &str) -> Option<usize> {
    let prefix = word_length(text);
    let rest = &text[prefix..];
    match &text[..prefix] {
        "b" if rest.starts_with('\'') => character(rest).map(|n| prefix + n),
        "b" | "c" if rest.starts_with('"') => Some(prefix + quoted(rest)),
        "r" | "br" | "cr" => {
            let hashes = rest.len() - rest.trim_start_matches('#').len();
            let body = rest[hashes..].strip_prefix('"')?;
            let end = format!("\"{}", &rest[..hashes]);
            let length = body.find(&end).map_or(body.len(), |n| n + end.len());
            Some(prefix + hashes + 1 + length)
        }
        _ => None,
    }
}
