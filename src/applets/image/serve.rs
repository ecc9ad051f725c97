//! `ogbox image serve`: an image as a read-only device for programs that speak NBD.

use std::path::{Path, PathBuf};

use argh::FromArgs;

use super::words::{FAILED, GRAMMAR};
use crate::applets::options::{self, Parsed};
use crate::applets::{Exit, Failure, Io, Outcome};
use crate::base::signal::Signals;
use crate::image::inside;
use crate::image::nbd::Export;
use crate::image::nbd::listener::Listener;

/// Serve an image, read-only, as the device that it was made of, by the NBD protocol: `nbdfuse DIR URI` shows it as a
/// file, `qemu-img` and `guestfish` open URI, `nbd-client -unix SOCKET /dev/nbd0` attaches it. The partitions of a disk
/// are exports by their numbers (`nbd+unix:///2?socket=…`). Runs until Ctrl-C.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// serve parts of the image even if their checksums are wrong
    #[argh(switch, short = 'I')]
    ignore_checksums: bool,

    /// only this partition of a disk's image
    #[argh(option)]
    partition: Option<usize>,

    /// socket, for this user alone (IMAGE.nbd in the current directory)
    #[argh(option)]
    socket: Option<String>,

    /// port of 127.0.0.1 instead, for all users of this machine; 0 is any free one
    #[argh(option)]
    port: Option<u16>,

    /// image
    #[argh(positional)]
    image: String,
}

/// Runs the subcommand.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let args: Args = match options::parse("ogbox image serve", &GRAMMAR, args, io)? {
        Parsed::Run(args) => args,
        Parsed::Done(exit) => return Ok(exit),
    };
    let say = |text: &str| eprintln!("ogbox image serve: {text}");
    let image = Path::new(&args.image);
    let exports = Export::all(inside::open(image, args.ignore_checksums, say)?, args.partition)?;
    let signals = Signals::catch_ends().map_err(|error| Failure::new(FAILED, format!("catch signals: {error}")))?;
    let listener = match (args.port, args.socket) {
        (Some(_), Some(_)) => return Err(Failure::new(FAILED, "--port and --socket exclude each other")),
        (Some(port), None) => Listener::on_port(port)?,
        (None, Some(socket)) => Listener::at(Path::new(&socket))?,
        (None, None) => {
            let mut name = image.file_name().unwrap_or_default().to_owned();
            name.push(".nbd");
            Listener::at(&PathBuf::from(name))?
        }
    };
    for export in &exports {
        writeln!(io.out, "{}  {} bytes", listener.uri(export.name()), export.size())?;
    }
    io.out.flush()?;
    listener.serve(exports, &|| signals.ending(), say)?;
    Ok(Exit::OK)
}
