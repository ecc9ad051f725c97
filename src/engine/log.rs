//! Messages on the screen and in the logs: ogEcho, ogRaiseError and ogHelp of OpenGnsys' System.lib and String.lib.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;

use super::{Code, Engine, Error};
use crate::base::links;
use crate::base::time;

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Printed as it is.
    Plain,
    /// Prefixed with `OpenGnsys`, level and time.
    Info,
    /// Prefixed likewise.
    Warning,
    /// Prefixed likewise.
    Error,
}

impl Level {
    /// The level that ogEcho calls `word`, in any case.
    pub fn of(word: &str) -> Option<Level> {
        match word.to_ascii_lowercase().as_str() {
            "help" => Some(Level::Plain),
            "info" => Some(Level::Info),
            "warning" => Some(Level::Warning),
            "error" => Some(Level::Error),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Level::Plain => "help",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// The logs that a line goes to besides the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// `OGLOGFILE`, kept on the server.
    pub log: bool,
    /// `OGLOGCOMMAND`, the output of the running command.
    pub command: bool,
    /// `OGLOGSESSION`, shown to the person at the screen.
    pub session: bool,
}

impl Targets {
    /// The screen alone.
    pub const NONE: Targets = Targets { log: false, command: false, session: false };
    /// `OGLOGFILE` and `OGLOGSESSION`, where scripts report their steps.
    pub const LOG_SESSION: Targets = Targets { log: true, command: false, session: true };

    /// Adds the log that ogEcho calls `word`; returns false if no log has that name.
    pub fn add(&mut self, word: &str) -> bool {
        match word.to_ascii_lowercase().as_str() {
            "log" => self.log = true,
            "command" => self.command = true,
            "session" => self.session = true,
            _ => return false,
        }
        true
    }
}

impl Engine {
    /// Writes `text` to `out` and the logs (ogEcho): plain, or as `OpenGnsys info: 2026-01-31 10:00:00 text`, which
    /// always goes to `OGLOGFILE` too, unless `DEBUG=no`. Logs that cannot be written to are skipped.
    pub fn echo(&self, out: &mut dyn Write, targets: Targets, level: Level, text: &str) {
        let line = match level {
            Level::Plain => format!("{text}\n"),
            level => {
                let t = time::local(time::unix_seconds());
                let (year, month, day) = (t.year, t.month, t.day);
                let (hour, minute, second) = (t.hour, t.minute, t.second);
                let time = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
                format!("OpenGnsys {}: {time} {text}\n", level.word())
            }
        };
        // One write per line, so that lines of several processes do not mix. There is nowhere to report a failure.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        let log = targets.log || (level != Level::Plain && !self.env.get("DEBUG").eq_ignore_ascii_case("no"));
        let paths = [
            (log, self.log_file()),
            (targets.command, self.env.path("OGLOGCOMMAND")),
            (targets.session, self.env.path("OGLOGSESSION")),
        ];
        for (_, path) in paths.iter().filter(|(wanted, _)| *wanted) {
            if let Ok(mut file) = links::open_in_place(OpenOptions::new().append(true).create(true), path) {
                let _ = file.write_all(line.as_bytes());
            }
        }
    }

    /// Writes a plain line: `engine.say(out, Targets::LOG_SESSION, "[10] …")`.
    pub fn say(&self, out: &mut dyn Write, targets: Targets, text: &str) {
        self.echo(out, targets, Level::Plain, text);
    }

    /// Writes an error to `err` and the logs as ogRaiseError does; returns the exit code.
    pub fn raise(&self, err: &mut dyn Write, targets: Targets, error: &Error) -> u8 {
        let text = self.text(error.code.message());
        let detail = if error.detail.is_empty() { String::new() } else { format!(" \"{}\"", error.detail) };
        self.echo(err, targets, Level::Error, &format!("{}: {text}{detail}", self.chain()));
        error.code as u8
    }

    /// This command and the script that called it: `ogRestoreImage<-restoreImage`.
    fn chain(&self) -> String {
        match script_of_parent() {
            // ogRaiseError reports its caller's errors.
            Some(script) if self.name == "ogRaiseError" => script,
            Some(script) => format!("{}<-{script}", self.name),
            None => self.name.clone(),
        }
    }

    /// Writes the command's summary, format and examples (ogHelp). An exported `MSG_HELP_…` replaces `summary`.
    pub fn help(&self, out: &mut dyn Write, summary: &str, format: &str, examples: &[&str]) {
        let exported = self.env.get(&format!("MSG_HELP_{}", self.name));
        let summary = if exported.is_empty() { summary } else { exported };
        let mut text = format!("{} {}: {summary}\n", self.text("MSG_FUNCTION"), self.name);
        let mut line = |kind: &str, words: &str| {
            text += format!("    {}: {} {words}", self.text(kind), self.name).trim_end();
            text.push('\n');
        };
        line("MSG_FORMAT", format);
        for example in examples {
            line("MSG_EXAMPLE", example);
        }
        // A closed pipe is no error: the reader has seen enough.
        let _ = out.write_all(text.as_bytes());
    }

    /// `OGLOGFILE`; by default named after this machine's address.
    fn log_file(&self) -> PathBuf {
        match self.env.get("OGLOGFILE") {
            "" => self.env.path("OGLOG").join(format!("{}.log", self.address())),
            _ => self.env.path("OGLOGFILE"),
        }
    }

    /// This machine's address as the lab knows it: `IPV4ADDR`, else the source address of its route to the repository.
    pub fn address(&self) -> String {
        match self.env.get("IPV4ADDR") {
            "" => {}
            address => return address.to_owned(),
        }
        let towards: IpAddr = self.env.get("ROOTREPO").parse().unwrap_or(IpAddr::from([192, 0, 2, 1]));
        // Connecting a datagram socket sends nothing; it only looks up the route.
        let socket = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect((towards, 9)).map(|()| socket));
        let own = socket.and_then(|socket| socket.local_addr());
        own.map_or_else(|_| "127.0.0.1".to_owned(), |own| own.ip().to_string())
    }

    /// Whether `word` is an address of this machine.
    pub fn is_own_address(&self, word: &str) -> bool {
        // Binding succeeds only on a local address.
        word.parse::<IpAddr>().is_ok_and(|address| UdpSocket::bind((address, 0)).is_ok())
    }

    /// Returns an error unless `held`: `engine.ensure(args.len() == 4, Code::Format, "…")?`.
    ///
    /// # Errors
    /// `code` with `detail`.
    pub fn ensure(&self, held: bool, code: Code, detail: impl Into<String>) -> Result<(), Error> {
        if held { Ok(()) } else { Err(Error::new(code, detail)) }
    }
}

/// The base name of the script that the parent process runs, if the parent is a shell running a script.
fn script_of_parent() -> Option<String> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let words = std::fs::read(format!("/proc/{parent}/cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let base = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let shell = base(&words.next()?);
    let script = words.next().filter(|word| !word.is_empty() && !word.starts_with('-'))?;
    ["sh", "bash", "dash", "ash"].contains(&shell.as_str()).then(|| base(&script))
}

#[cfg(test)]
mod tests {
    use super::super::tests::moved;
    use super::*;

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        std::fs::read_to_string(dir.path().join(name)).unwrap_or_default()
    }

    /// Without the 20 columns of the time.
    fn timeless(line: &str) -> String {
        let (head, rest) = line.split_once(": ").unwrap();
        assert!(rest.as_bytes()[..19].iter().all(|byte| byte.is_ascii_digit() || b"-: ".contains(byte)), "{line}");
        format!("{head}: {}", &rest[20..])
    }

    #[test]
    fn a_plain_line_goes_to_the_screen_and_the_logs_that_are_named() {
        let (dir, engine) = moved(&[("OGLOGFILE", "/opt/opengnsys/log/10.0.0.7.log")]);
        let mut screen = Vec::new();
        engine.say(&mut screen, Targets::LOG_SESSION, "[40] saving");
        engine.say(&mut screen, Targets { command: true, ..Targets::NONE }, "Total Time: 00:00:01");
        assert_eq!(screen, b"[40] saving\nTotal Time: 00:00:01\n");
        assert_eq!(read(&dir, "opt/opengnsys/log/10.0.0.7.log"), "[40] saving\n");
        assert_eq!(read(&dir, "tmp/session.log"), "[40] saving\n");
        assert_eq!(read(&dir, "tmp/command.log"), "Total Time: 00:00:01\n");
    }

    #[test]
    fn an_error_names_command_text_and_detail_and_is_logged_unless_debug_is_no() {
        for (debug, logged) in [("", true), ("no", false)] {
            let (dir, engine) = moved(&[("IPV4ADDR", "10.0.0.7"), ("DEBUG", debug), ("LANG", "es_ES")]);
            let mut screen = Vec::new();
            let error = Error::new(Code::Partition, "1, 4");
            assert_eq!(engine.raise(&mut screen, Targets::NONE, &error), 3);
            let screen = String::from_utf8(screen).unwrap();
            assert_eq!(timeless(&screen), "OpenGnsys error: ogTest: Partición errónea o desconocida \"1, 4\"\n");
            let log = read(&dir, "opt/opengnsys/log/10.0.0.7.log");
            assert_eq!(log, if logged { screen } else { String::new() });
        }
    }

    #[test]
    fn help_has_function_format_and_examples() {
        let (_dir, engine) = moved(&[("LANG", "es_ES")]);
        let mut screen = Vec::new();
        engine.help(&mut screen, "prueba", "int_ndisk", &["1", "2"]);
        assert_eq!(
            String::from_utf8(screen).unwrap(),
            "Función ogTest: prueba\n    Formato: ogTest int_ndisk\n    Ejemplo: ogTest 1\n    Ejemplo: ogTest 2\n"
        );
        let (_dir, engine) = moved(&[("MSG_HELP_ogTest", "exported")]);
        let mut screen = Vec::new();
        engine.help(&mut screen, "built in", "", &[]);
        assert_eq!(String::from_utf8(screen).unwrap(), "Function ogTest: exported\n    Format: ogTest\n");
    }

    #[test]
    fn own_addresses_are_told_from_others() {
        let (_dir, engine) = moved(&[]);
        assert!(engine.is_own_address("127.0.0.1"));
        assert!(!engine.is_own_address("192.0.2.77"));
        assert!(!engine.is_own_address("REPO"));
    }
}
