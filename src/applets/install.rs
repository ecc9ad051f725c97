//! `ogbox --install [-s] DIR`: a link for each applet, as busybox makes them; `ogbox --list [SET]`: their names.

use std::fs;
use std::io;
use std::path::Path;

use super::{Exit, Failure, Io, Outcome};

/// The names by which OpenGnsys' init script, cron jobs and scripts call what it takes from other packages, of Debian
/// and of the sources (OpenGnsys 1 to 3).
const SERVER: &[&str] = &[
    "btlaunchmany",
    "btlaunchmany.bittornado",
    "btlaunchmany.py",
    "bttrack",
    "bttrack.bittornado",
    "bttrack.bittorrent",
    "bttrack.py",
    "ctorrent",
];
/// Names besides those above, and partclone's, that are those of other packages.
const OTHERS: &[&str] = &["lzop", "unzstd", "zstd", "zstdcat"];

/// Links each of `names` in DIR to this binary; a link that is there already is left as it is.
pub fn run(args: &[String], names: impl Iterator<Item = &'static str>, io: &mut Io) -> Outcome {
    let (symbolic, dir) = match args {
        [dir] if dir != "-s" => (false, dir),
        [flag, dir] if flag == "-s" => (true, dir),
        _ => return Err(Failure::new(1, "usage: ogbox --install [-s] DIR")),
    };
    let binary = std::env::current_exe().map_err(|e| Failure::new(1, format!("find this binary: {e}")))?;
    for name in names {
        let link = Path::new(dir).join(name);
        let made = if symbolic { std::os::unix::fs::symlink(&binary, &link) } else { fs::hard_link(&binary, &link) };
        match made {
            Ok(()) => writeln!(io.out, "{}", link.display())?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Failure::new(1, format!("link {}: {e}", link.display()))),
        }
    }
    Ok(Exit::OK)
}

/// Prints bare names, one a line, for scripts, as `busybox --list` does: `all` applets', or those of the SET `safe`, which
/// no other package has, or `opengnsys`.
pub fn list(args: &[String], all: impl Iterator<Item = &'static str>, io: &mut Io) -> Outcome {
    let is_ours = |name: &&str| !(name.starts_with("partclone.") || SERVER.contains(name) || OTHERS.contains(name));
    let names: Vec<&str> = match args.first().map(String::as_str) {
        None | Some("all") => all.collect(),
        Some("safe") => all.filter(is_ours).collect(),
        Some("opengnsys") => SERVER.to_vec(),
        Some(set) => return Err(Failure::new(1, format!("--list {set}: the sets are safe, opengnsys and all"))),
    };
    for name in names {
        writeln!(io.out, "{name}")?;
    }
    Ok(Exit::OK)
}
