//! Values in a command line that come from elsewhere: they must never become part of the command.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A placeholder of a command line, such as `&d`, and what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The placeholder, as the command line has it.
    pub placeholder: &'a str,
    /// The environment variable that holds the value for the shell.
    pub variable: &'a str,
    /// The value.
    pub text: &'a str,
}

/// A placeholder in single quotes, where no variable would be expanded, of a value that is not plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    placeholder: String,
    value: String,
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Quoted { placeholder, value } = self;
        write!(
            f,
            "{placeholder} stands in single quotes, where {value:?} could be taken for a command: use double quotes"
        )
    }
}

impl std::error::Error for Quoted {}

/// Whether the shell takes `text` for one word that means nothing but itself, and no program takes it for an option.
pub fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/+,:@%-".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain)
}

/// Returns `text`, a path or a name, as one word that a shell takes for exactly this: as it is where that is so already,
/// else in quotes; after `./` where a program would take it for an option.
///
/// OpenGnsys' scripts run such lines by `eval $LINE`, which splits the quoted text, expands its patterns, and joins the
/// parts by single blanks: what that would change is written in octal (`$'…'` of bash, busybox and POSIX 2024), which other
/// shells take for another name, but never for a command.
pub fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(&byte);
    let text = if text.starts_with('-') { Cow::Owned(format!("./{text}")) } else { Cow::Borrowed(text) };
    if !text.is_empty() && text.bytes().all(plain) {
        return text.into_owned();
    }
    let changes = |char: char| char.is_ascii_control() || "*?[".contains(char);
    if !text.contains(changes) && !text.contains("  ") {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let escape = |char: char| match u8::try_from(char) {
        Ok(byte) if byte.is_ascii() && !plain(byte) => format!("\\{byte:03o}"),
        _ => char.to_string(),
    };
    format!("$'{}'", text.chars().map(escape).collect::<String>())
}

/// Returns `path` as an argument that no program takes for an option, nor for its standard input.
pub fn operand(path: &Path) -> Cow<'_, Path> {
    match path.as_os_str().as_bytes() {
        [b'-', ..] => Path::new(".").join(path).into(),
        _ => path.into(),
    }
}

/// The quotes that a position in a command line is within.
#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    None,
    Single,
    Double,
}

/// Replaces the placeholders of `command`: by a plain value as it is, by any other as a reference to its variable, which
/// the shell does not read as code.
///
/// # Errors
/// A value that is not plain would stand in single quotes.
pub fn expand(command: &str, values: &[Value]) -> Result<String, Quoted> {
    let (mut out, mut quotes, mut rest) = (String::new(), Quotes::None, command);
    while let Some(char) = rest.chars().next() {
        if let Some(value) = values.iter().find(|value| rest.starts_with(value.placeholder)) {
            match quotes {
                _ if is_plain(value.text) => out += value.text,
                Quotes::None => out += &format!("\"${{{}}}\"", value.variable),
                Quotes::Double => out += &format!("${{{}}}", value.variable),
                Quotes::Single => {
                    return Err(Quoted { placeholder: value.placeholder.to_owned(), value: value.text.to_owned() });
                }
            }
            rest = &rest[value.placeholder.len()..];
            continue;
        }
        // A backslash takes the next character with it, whatever that is.
        let length = match (char, quotes) {
            ('\\', Quotes::None | Quotes::Double) => rest.chars().take(2).map(char::len_utf8).sum(),
            _ => char.len_utf8(),
        };
        quotes = match (char, quotes) {
            ('\'', Quotes::None) => Quotes::Single,
            ('\'', Quotes::Single) | ('"', Quotes::Double) => Quotes::None,
            ('"', Quotes::None) => Quotes::Double,
            _ => quotes,
        };
        out += &rest[..length];
        rest = &rest[length..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn value(text: &str) -> Value<'_> {
        Value { placeholder: "&d", variable: "OGBOX_TEST", text }
    }

    #[test]
    fn a_plain_value_goes_in_as_it_is() {
        let expanded = |command| expand(command, &[value("/cache/lab-1.img")]);
        assert_eq!(
            expanded("cp &d x; echo '&d' \"&d\"").unwrap(),
            "cp /cache/lab-1.img x; echo '/cache/lab-1.img' \"/cache/lab-1.img\""
        );
    }

    #[test]
    fn any_other_value_is_a_variable_and_none_in_single_quotes() {
        let expanded = |command| expand(command, &[value("x$(touch P).img")]);
        assert_eq!(
            expanded("echo &d \"a &d\" 'it''s' \\' &d").unwrap(),
            "echo \"${OGBOX_TEST}\" \"a ${OGBOX_TEST}\" 'it''s' \\' \"${OGBOX_TEST}\""
        );
        assert!(expanded("sh -c 'echo &d'").unwrap_err().to_string().starts_with("&d stands in single quotes"));
        for odd in ["", "-rf", "a b", "a;b", "a\nb", "`b`", "é", "a'b", "a\"b", "a\\b", "*", "~root", "a=b"] {
            assert!(!is_plain(odd), "{odd}");
        }
    }

    #[test]
    fn a_word_is_as_plain_as_it_can_be() {
        for (text, is) in [
            ("/cache/lab-1.img=2", "/cache/lab-1.img=2"),
            ("", "''"),
            ("/x y.img", "'/x y.img'"),
            ("it's $(touch P)", r"'it'\''s $(touch P)'"),
            ("-rf", "./-rf"),
            ("-", "./-"),
            ("-a b", "'./-a b'"),
            ("~root", "'~root'"),
            ("Señal", "'Señal'"),
            ("a\nb'*", r"$'a\012b\047\052'"),
            ("a  b", r"$'a\040\040b'"),
        ] {
            assert_eq!(word(text), is);
        }
        assert_eq!(operand(Path::new("-x")), Path::new("./-x"));
        assert_eq!(operand(Path::new("/-x")), Path::new("/-x"));
    }

    proptest! {
        #[test]
        fn a_word_is_one_argument_and_exact(text in "[^\\x00]{0,12}", quoted in any::<bool>()) {
            let script = format!("eval {}", if quoted { "\"$1\"" } else { "$1" });
            let line = format!("printf '%s\\n' {} end", word(&text));
            let output = Command::new("bash").args(["-c", &script, "bash", &line]).output().unwrap();
            prop_assert!(output.stderr.is_empty());
            let text = if text.starts_with('-') { format!("./{text}") } else { text };
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{text}\nend\n"));
        }

        #[test]
        fn the_shell_sees_the_value_and_runs_nothing_of_it(text in "[^\\x00]{0,12}") {
            let command = expand("printf %s &d \"&d\"", &[value(&text)]).unwrap();
            let output = Command::new("sh").arg("-c").arg(command).env("OGBOX_TEST", &text).output().unwrap();
            prop_assert!(output.stderr.is_empty());
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), text.repeat(2));
        }
    }
}
