//! The command line shared by all of partclone's programs, as partclone 0.3.23 reads it.

use crate::applets::options::{Grammar, normalise};
use crate::base::progress::Style;

/// One of partclone's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The program for a file system, given by the beginning of partclone's name for that.
    Fs(&'static str),
    /// partclone.imager: a whole device into an image.
    Imager,
    /// partclone.dd: a whole device, byte by byte.
    Raw,
    /// partclone.restore.
    Restore,
    /// partclone.chkimg.
    Check,
    /// partclone.info.
    Info,
}

/// `-d` has an optional digit and so is not a valued option here: `-d0` becomes `-d -0`, which is ignored.
const GRAMMAR: Grammar = Grammar {
    valued: "oOsLxaknzEf",
    valued_long: &[
        "output",
        "overwrite",
        "source",
        "logfile",
        "compresscmd",
        "checksum-mode",
        "blocks-per-checksum",
        "buffer-size",
        "offset",
        "offset-domain",
        "note",
        "UI-fresh",
        "debug",
        "progress",
    ],
    repeated: &[],
    usage_code: 0,
};

/// The action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No action was given.
    #[default]
    None,
    /// A device into an image.
    Clone,
    /// An image onto a device.
    Restore,
    /// A device onto another.
    Copy,
}

/// The options that have an effect here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub mode: Mode,
    pub source: Option<String>,
    /// Whether the source came with `-s`, not as a positional argument.
    pub source_by_option: bool,
    pub target: Option<String>,
    /// The target may exist (`-O`).
    pub overwrite: bool,
    pub log: Option<String>,
    /// Checksums: 0 none, 1 CRC-32.
    pub checksum: Option<u32>,
    pub blocks_per_checksum: Option<u32>,
    pub no_reseed: bool,
    /// Accept a mounted source (`-F`).
    pub force: bool,
    /// Accept a source that is not clean (`-I`).
    pub unclean: bool,
    pub ignore_checksums: bool,
    /// Do not compare sizes (`-C`).
    pub no_size_check: bool,
    pub quiet: bool,
    /// Style of progress; `None` for partclone's.
    pub progress: Option<Style>,
    /// The message of `-n`.
    pub note: Option<String>,
    pub help: bool,
    pub version: bool,
}

/// Parses the words after the program's name.
///
/// # Errors
/// An option is unknown or not supported.
pub fn parse(program: Program, args: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let words = normalise(&GRAMMAR, args);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or_else(|| format!("option {word} wants a value"));
        match word.as_str() {
            "-s" | "--source" => {
                options.source = Some(value()?);
                options.source_by_option = true;
            }
            "-o" | "--output" => options.target = Some(value()?),
            "-O" | "--overwrite" => {
                options.target = Some(value()?);
                options.overwrite = true;
            }
            "-L" | "--logfile" => options.log = Some(value()?),
            "-c" | "--clone" => options.mode = Mode::Clone,
            "-r" | "--restore" => options.mode = Mode::Restore,
            "-b" | "--dev-to-dev" => options.mode = Mode::Copy,
            "-a" | "--checksum-mode" => options.checksum = Some(number(word, &value()?)?),
            "-k" | "--blocks-per-checksum" => options.blocks_per_checksum = Some(number(word, &value()?)?),
            "-K" | "--no-reseed" => options.no_reseed = true,
            "-F" | "--force" => options.force = true,
            "-I" | "--ignore-fschk" => options.unclean = true,
            "-i" | "--ignore-crc" => options.ignore_checksums = true,
            "-C" | "--no-check" => options.no_size_check = true,
            "-q" | "--quiet" => options.quiet = true,
            "--progress" => options.progress = Some(value()?.parse()?),
            "-n" | "--note" => options.note = Some(value()?),
            "-h" | "--help" => options.help = true,
            "-v" | "--version" => options.version = true,
            // Buffer size, interval and detail of progress do not matter here, and a new file can always stand for
            // a device.
            "-z" | "--buffer-size" | "-f" | "--UI-fresh" | "--debug" => drop(value()?),
            "-N" | "--ncurses" | "-B" | "--no-block-detail" | "-W" | "--restore-raw-file" => {}
            "-d" | "-0" | "-1" | "-2" => {}
            "-E" | "--offset" if value()? == "0" => {}
            _ if program == Program::Info && !word.starts_with('-') => options.source = Some(word.clone()),
            _ if ["-R", "-w", "-D", "-T", "-t", "-x", "-E"].contains(&word.as_str()) => {
                return Err(format!("option {word} is not supported"));
            }
            _ => return Err(format!("Unknown option '{word}'.")),
        }
    }
    Ok(options)
}

fn number(option: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("option {option} wants a number, not {value:?}"))
}

/// The help. It lists the options above, as OpenGnsys searches it for `-c`.
pub const HELP: &str = "\
usage: partclone.FS -c|-r|-b [OPTION...] -s SOURCE -o TARGET
       partclone.restore|chkimg|info|dd|imager [OPTION...] -s SOURCE [-o TARGET]

    -s,  --source FILE      Source FILE, or stdin(-)
    -o,  --output FILE      Output FILE
    -O   --overwrite FILE   Output FILE, overwriting if exists
    -L,  --logfile FILE     Log FILE
    -c,  --clone            Save to the special image format
    -r,  --restore          Restore from the special image format
    -b,  --dev-to-dev       Local device to device copy mode
    -aX  --checksum-mode=X  0: no checksums, 1: CRC32
    -kX  --blocks-per-checksum=X
                            Write one checksum for every X blocks
    -K,  --no-reseed        Do not reseed the checksum at each write
    -C,  --no_check         Don't check device size: the used blocks must fit
    -I,  --ignore_fschk     Take a file system that is not clean
    -i,  --ignore_crc       Ignore checksum error
    -F,  --force            Take a device that is mounted or not clean
    -q,  --quiet            Disable progress message
    --progress STYLE        New: auto, bar, plain, json or none
    -n,  --note NOTE        Display Message Note
    -v,  --version          Display partclone version
    -h,  --help             Display this help
    -dX -z SIZE -f X -N -B -W are accepted and change nothing.";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(program: Program, line: &str) -> Result<Options, String> {
        parse(program, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_lines_of_opengnsys_and_clonezilla_are_read() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            read(Program::Fs("EXTFS"), "-d0 -F -c -s /dev/sda1"),
            Ok(Options {
                mode: Mode::Clone,
                force: true,
                source: text("/dev/sda1"),
                source_by_option: true,
                ..Options::default()
            })
        );
        assert_eq!(
            read(Program::Restore, "-d0 -C -I -o /dev/sda1"),
            Ok(Options { no_size_check: true, unclean: true, target: text("/dev/sda1"), ..Options::default() })
        );
        assert_eq!(
            read(Program::Fs("NTFS"), "-z 10485760 -N -L /var/log/x.log -c -s /dev/sda1 --output -"),
            Ok(Options {
                mode: Mode::Clone,
                source: text("/dev/sda1"),
                source_by_option: true,
                target: text("-"),
                log: text("/var/log/x.log"),
                ..Options::default()
            })
        );
        assert_eq!(
            read(Program::Restore, "--ignore_crc -a1 -k 7 -O /dev/sda1 -Nf 1"),
            Ok(Options {
                ignore_checksums: true,
                checksum: Some(1),
                blocks_per_checksum: Some(7),
                target: text("/dev/sda1"),
                overwrite: true,
                ..Options::default()
            })
        );
        assert_eq!(read(Program::Info, "X").map(|options| options.source), Ok(text("X")));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert_eq!(read(Program::Restore, "X"), Err("Unknown option 'X'.".into()));
        assert_eq!(read(Program::Restore, "-R"), Err("option -R is not supported".into()));
        assert_eq!(read(Program::Restore, "-k x"), Err("option -k wants a number, not \"x\"".into()));
        assert_eq!(read(Program::Restore, "-s"), Err("option -s wants a value".into()));
    }
}
