//! `ogbox --install [-s] DIR`: a link for each applet, as busybox makes them.

use std::fs;
use std::io;
use std::path::Path;

use super::{Exit, Failure, Io, Outcome};

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
