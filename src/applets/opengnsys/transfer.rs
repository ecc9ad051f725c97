//! ogMcast… and ogUcast…: sending files and partitions from one PC to others with udpcast and mbuffer, and printing the
//! command lines that do it.

use super::{Function, paths, print, split_file};
use crate::applets::{Exit, Io};
use crate::base::signal::Signals;
use crate::base::{shell, whole};
use crate::engine::multicast::Role;
use crate::engine::{Code, Engine, Error, Targets, beside, syntax};

/// The way of a transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Multicast,
    Unicast,
}

impl By {
    fn line(self, engine: &Engine, role: Role, session: &str, file: Option<&str>) -> Result<String, Error> {
        match self {
            By::Multicast => engine.multicast_line(role, session, file),
            By::Unicast => engine.unicast_line(role, session, file),
        }
    }

    fn program(self, role: Role) -> &'static str {
        match (self, role) {
            (By::Multicast, Role::Send) => "udp-sender",
            (By::Multicast, Role::Receive) => "udp-receiver",
            (By::Unicast, _) => "mbuffer",
        }
    }

    /// The whole command line for a partition.
    fn partition(self, engine: &Engine, role: Role, words: &[&str; 4]) -> Result<String, Error> {
        let [session, device, tool, compressor] = *words;
        let line = self.line(engine, role, session, None)?;
        let code = if self == By::Multicast { Code::McastSyntax } else { Code::UcastSyntax };
        let wrong = |error: Error| Error::new(code, error.detail);
        Ok(match role {
            Role::Send => format!("{}| {line}", syntax::save(engine, device, tool, compressor).map_err(wrong)?),
            Role::Receive => {
                let (unpacker, tool) = syntax::expand(engine, device, tool, compressor).map_err(wrong)?;
                format!("{line} | {unpacker} | {tool}")
            }
        })
    }
}

const SYNTAX: &str = "SENDPARTITION|RECEIVERPARTITION|SENDFILE|RECEIVERFILE str_session path [str_tool str_compressor]";
const SEND_PARTITION: &str = "int_ndisk int_npartition str_session str_tool str_compressor";

/// ogMcastSyntax.
pub const MCAST_SYNTAX: Function = Function {
    format: SYNTAX,
    examples: &["SENDFILE 9000:full-duplex:239.194.17.2:70M:20:120 /opt/opengnsys/images/win.img"],
    words: 3..=5,
    run: |engine, words, io| print(io, &line(engine, By::Multicast, words)?),
};

/// ogUcastSyntax.
pub const UCAST_SYNTAX: Function = Function {
    format: SYNTAX,
    examples: &["RECEIVERPARTITION 8000:172.17.36.249 /dev/sda1 partclone lzop"],
    words: 3..=5,
    run: |engine, words, io| print(io, &line(engine, By::Unicast, words)?),
};

/// ogMcastSendFile.
pub const MCAST_SEND_FILE: Function = Function {
    format: "[ str_repo | int_ndisk int_npartition ] path_file port:method:address:rate:clients:seconds",
    examples: &["REPO /aula1/winxp.img 9000:full-duplex:239.194.17.2:70M:20:120"],
    words: 2..=4,
    run: |engine, words, io| {
        let (file, session) = split_file(words);
        let [session] = session else { return Err(Error::usage(engine.name(), MCAST_SEND_FILE.format)) };
        let (place, name) = engine.place(file)?;
        let path = engine.file(&place, &name)?;
        let line = engine.multicast_line(Role::Send, session, Some(&path.to_string_lossy()))?;
        print(io, &line)?;
        engine.transfer(&line, &["udp-sender"], Code::McastSendFile)?;
        Ok(Exit::OK)
    },
};

/// ogMcastReceiverFile: the file gets its name once it is complete.
pub const MCAST_RECEIVE_FILE: Function = Function {
    format: "port[:ip_server:seconds:seconds] [ str_repo | int_ndisk int_npartition ] path_file",
    examples: &["9000 CACHE /aula1/winxp.img"],
    words: 2..=4,
    run: |engine, words, io| {
        let (place, name) = engine.place(&words[1..])?;
        receive_file(engine, words[0], &engine.file_to_be(&place, &name)?, io)?;
        Ok(Exit::OK)
    },
};

/// Receives a file by multicast; it gets the name `path` once it is complete.
///
/// # Errors
/// [`Code::McastSyntax`], [`Code::NotExec`]; [`Code::McastReceiverFile`]: nothing came, or the transfer was cut off; no
/// partial file is left then.
pub fn receive_file(engine: &Engine, session: &str, path: &std::path::Path, io: &mut Io) -> Result<(), Error> {
    let part = beside::with(path, ".mcast");
    let line = engine.multicast_line(Role::Receive, session, Some(&part.to_string_lossy()))?;
    engine.say(io.out, Targets { command: true, ..Targets::NONE }, &line);
    let failed = |error| Error::new(Code::McastReceiverFile, format!("{}: {error}", path.display()));
    let done = engine.transfer(&line, &["udp-receiver"], Code::McastReceiverFile);
    let done = done.and_then(|()| whole::finish(&part, path).map_err(failed));
    if done.is_err() {
        // The file may not exist yet.
        let _ = beside::remove(&part);
    }
    done
}

/// ogMcastSendPartition.
pub const MCAST_SEND_PARTITION: Function = Function {
    format: SEND_PARTITION,
    examples: &["1 1 9000:full-duplex:239.194.17.2:70M:20:120 partclone lzop"],
    words: 5..=5,
    run: |engine, words, io| partition(engine, By::Multicast, Role::Send, words, io),
};

/// ogMcastReceiverPartition.
pub const MCAST_RECEIVE_PARTITION: Function = Function {
    format: SEND_PARTITION,
    examples: &["1 1 9000 partclone lzop"],
    words: 5..=5,
    run: |engine, words, io| partition(engine, By::Multicast, Role::Receive, words, io),
};

/// ogUcastSendPartition.
pub const UCAST_SEND_PARTITION: Function = Function {
    format: SEND_PARTITION,
    examples: &["1 1 8000:172.17.36.11:172.17.36.12 partclone lzop"],
    words: 5..=5,
    run: |engine, words, io| partition(engine, By::Unicast, Role::Send, words, io),
};

/// ogUcastReceiverPartition.
pub const UCAST_RECEIVE_PARTITION: Function = Function {
    format: SEND_PARTITION,
    examples: &["1 1 8000:172.17.36.249 partclone lzop"],
    words: 5..=5,
    run: |engine, words, io| partition(engine, By::Unicast, Role::Receive, words, io),
};

/// ogMcastRequest: asks the repository to start sending.
pub const REQUEST: Function = Function {
    format: "path_file port:method:address:rate:clients:seconds",
    examples: &["/aula1/winxp.img 9000:full-duplex:239.194.17.2:70M:20:120"],
    words: 2..=2,
    run: |engine, words, _| {
        let uncaught = |error| Error::new(Code::Generic, format!("catch signals: {error}"));
        let signals = Signals::catch_ends().map_err(uncaught)?;
        let server = engine.repo_address();
        engine.request_multicast(server, words[0], words[1], &|time| signals.sleep(time))?;
        Ok(Exit::OK)
    },
};

fn line(engine: &Engine, by: By, words: &[&str]) -> Result<String, Error> {
    let rooted = |path: &str| engine.env().rooted(path).to_string_lossy().into_owned();
    let (operation, code) =
        (words[0].to_ascii_uppercase(), if by == By::Multicast { Code::McastSyntax } else { Code::UcastSyntax });
    match (operation.as_str(), words) {
        ("SENDFILE", [_, session, file]) => by.line(engine, Role::Send, session, Some(&rooted(file))),
        ("RECEIVERFILE", [_, session, file]) => by.line(engine, Role::Receive, session, Some(&rooted(file))),
        ("SENDPARTITION", [_, session, device, tool, level]) => {
            by.partition(engine, Role::Send, &[session, device, tool, level])
        }
        ("RECEIVERPARTITION", [_, session, device, tool, level]) => {
            by.partition(engine, Role::Receive, &[session, device, tool, level])
        }
        _ if words.len() == 4 => Err(Error::usage(engine.name(), SYNTAX)),
        _ => Err(Error::new(code, format!("{operation} with {} arguments is unknown: {SYNTAX}", words.len()))),
    }
}

/// Sends or receives the partition that the first two words number, locked meanwhile.
fn partition(engine: &Engine, by: By, role: Role, words: &[&str], io: &mut Io) -> Result<Exit, Error> {
    let device = paths::partition(engine, &words[..2])?;
    receive_or_send(engine, by, role, &device, &[words[2], words[3], words[4]], io)?;
    Ok(Exit::OK)
}

fn receive_or_send(
    engine: &Engine,
    by: By,
    role: Role,
    device: &crate::engine::Device,
    [session, tool, compressor]: &[&str; 3],
    io: &mut Io,
) -> Result<(), Error> {
    let code = match (by, role) {
        (By::Unicast, Role::Send) => Code::UcastSendPartition,
        (By::Unicast, Role::Receive) => Code::UcastReceiverPartition,
        // OpenGnsys has one code for both.
        (By::Multicast, _) => Code::McastSendPartition,
    };
    let path = device.path.to_string_lossy();
    let whole = by.partition(engine, role, &[session, &path, tool, compressor])?;
    let line = match role {
        // ogbox verifies checksums and decompresses by itself.
        Role::Receive if tool.to_ascii_lowercase().starts_with("partclone") => {
            let line = by.line(engine, role, session, None)?;
            format!("{line} | ogbox image restore - {}", shell::word(&path))
        }
        _ => whole,
    };
    let _lock = engine.lock_device(device)?;
    engine.unmount(device)?;
    engine.say(io.out, Targets { command: true, ..Targets::NONE }, &line);
    engine.transfer(&line, &[by.program(role)], code)
}

/// Receives a partition by multicast.
///
/// # Errors
/// As ogMcastReceiverPartition.
pub fn receive_partition(
    engine: &Engine,
    device: &crate::engine::Device,
    words: &[&str; 3],
    io: &mut Io,
) -> Result<(), Error> {
    receive_or_send(engine, By::Multicast, Role::Receive, device, words, io)
}
