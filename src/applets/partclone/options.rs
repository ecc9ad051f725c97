//! The command line shared by all of partclone's programs, as partclone 0.3.47 reads it.

use crate::applets::options::{Grammar, normalise};
use crate::base::decimal::whole;
use crate::base::progress::Style;
use crate::image::checksum;
use crate::image::partclone::{Job, Mode, Program};

/// `-d` has an optional digit and so is not a valued option here: `-d0` becomes `-d -0`.
const GRAMMAR: Grammar = Grammar {
    valued: "oOsLxaknzEfS",
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
        "device-size",
        "note",
        "UI-fresh",
        "progress",
    ],
    repeated: &[],
    usage_code: 0,
};

/// The options that have an effect here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub job: Job,
    pub source: Option<String>,
    /// Whether the source came with `-s`, not as a positional argument.
    pub source_by_option: bool,
    pub target: Option<String>,
    pub log: Option<String>,
    pub quiet: bool,
    /// Style of progress; `None` for partclone's, in the units of the two options below.
    pub progress: Option<Style>,
    pub binary_prefix: bool,
    pub prog_second: bool,
    /// Level of what goes into the log.
    pub debug: u64,
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
        let job = &mut options.job;
        let mut value = || words.next().cloned().ok_or_else(|| format!("option {word} wants a value"));
        match word.as_str() {
            "-s" | "--source" => {
                options.source = Some(value()?);
                options.source_by_option = true;
            }
            "-o" | "--output" => options.target = Some(value()?),
            "-O" | "--overwrite" => {
                options.target = Some(value()?);
                job.overwrite = true;
            }
            "-L" | "--logfile" => options.log = Some(value()?),
            "-c" | "--clone" => job.mode = Mode::Clone,
            "-r" | "--restore" => job.mode = Mode::Restore,
            "-b" | "--dev-to-dev" => job.mode = Mode::Copy,
            "-D" | "--domain" => job.mode = Mode::Domain,
            "-a" | "--checksum-mode" => job.checksum = Some(checksum_mode(&value()?)?),
            "-k" | "--blocks-per-checksum" => {
                // 0 is the default.
                job.blocks_per_checksum = Some(number(word, &value()?)?).filter(|count| *count > 0);
            }
            "-K" | "--no-reseed" => job.no_reseed = true,
            "-F" | "--force" => job.force = true,
            "-I" | "--ignore-fschk" => job.unclean = true,
            "-i" | "--ignore-crc" => job.ignore_checksums = true,
            "-C" | "--no-check" => job.no_size_check = true,
            "-q" | "--quiet" => options.quiet = true,
            "--progress" => options.progress = Some(value()?.parse()?),
            "-n" | "--note" => options.note = Some(value()?),
            "-h" | "--help" => options.help = true,
            "-v" | "--version" => options.version = true,
            "-x" | "--compresscmd" => job.compress = Some(value()?),
            "--offset-domain" => job.offset_domain = within(&value()?, 0, "offset of domain file")?,
            "-E" | "--offset" => job.offset = within(&value()?, 0, "offset")?,
            "-S" | "--device-size" => job.device_size = Some(number(word, &value()?)?),
            "-z" | "--buffer-size" => job.buffer = Some(within(&value()?, 512, "buffer size")?),
            "-R" | "--rescue" => job.rescue = true,
            "-w" | "--skip-write-error" => job.skip_write_errors = true,
            "-T" | "--btfiles" => job.block_files = Some(true),
            "-t" | "--btfiles-torrent" => job.block_files = Some(false),
            "--read-direct-io" => job.read_direct = true,
            "--write-direct-io" => job.write_direct = true,
            "--binary-prefix" => options.binary_prefix = true,
            "--prog-second" => options.prog_second = true,
            "-d" | "--debug" => {
                let level = words.clone().next().and_then(|word| word.trim_start_matches('-').parse().ok());
                options.debug = level.unwrap_or(1);
                words.by_ref().take(usize::from(level.is_some())).for_each(drop);
            }
            // Interval and detail of progress do not matter here, and a new file can always stand for a device.
            "-f" | "--UI-fresh" => drop(value()?),
            "-N" | "--ncurses" | "-B" | "--no-block-detail" | "-W" | "--restore-raw-file" => {}
            _ if program == Program::Info && !word.starts_with('-') => options.source = Some(word.clone()),
            _ => return Err(format!("Unknown option '{word}'.")),
        }
    }
    Ok(options)
}

fn number<T: TryFrom<u64>>(option: &str, value: &str) -> Result<T, String> {
    let number = whole(value).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("option {option} wants a number, not {value:?}"))
}

/// Reads a number of bytes from `least` on.
fn within(value: &str, least: u64, what: &str) -> Result<u64, String> {
    let fits = whole(value).filter(|bytes| (least..=i64::MAX as u64).contains(bytes));
    fits.ok_or_else(|| format!("Too small or bad {what}. Use --help get more info."))
}

fn checksum_mode(value: &str) -> Result<checksum::Mode, String> {
    whole(value).and_then(checksum::Mode::of_option).ok_or_else(|| format!("Unknown checksum mode '{value}'."))
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
    -D,  --domain           Create ddrescue domain log from source device
         --offset_domain=X  Add offset X (bytes) to domain log values
    -T,  --btfiles          Write blocks as files for BitTorrent, into the directory of -o
    -t,  --btfiles_torrent  The same, but only their list, torrent.info
    -x,  --compresscmd CMD  Have the shell run CMD as a filter of the image
    -aX  --checksum-mode=X  0: no checksums, 1: CRC32, 2: XXH64, 3: XXH128
    -kX  --blocks-per-checksum=X
                            Write one checksum for every X blocks
    -K,  --no-reseed        Do not reseed the checksum at each write
    -E,  --offset=X         Add offset X (bytes) to OUTPUT of -r and -b
    -S,  --device-size=X    partclone.dd: copy X bytes
    -R,  --rescue           Continue while there are read errors, and list them
    -w,  --skip_write_error Continue restore while there are write errors, and list them
         --read-direct-io   Read SOURCE past the cache
         --write-direct-io  Write to OUTPUT past the cache
    -C,  --no_check         Don't check device size: the used blocks must fit
    -I,  --ignore_fschk     Take a file system that is not clean
    -i,  --ignore_crc       Ignore checksum error
    -F,  --force            Take a device that is mounted, or damaged or not clean
    -z,  --buffer_size SIZE Longest file of -T
    -q,  --quiet            Disable progress message
         --binary-prefix    Show progress with bit size (default is MB, GB...)
         --prog-second      Show progress in seconds (default is minute)
    --progress STYLE        New: auto, bar, plain, json or none
    -n,  --note NOTE        Display Message Note
    -v,  --version          Display partclone version
    -h,  --help             Display this help
    -dX -f X -N -B -W are accepted; -d writes more to the log.";

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
                job: Job { mode: Mode::Clone, force: true, ..Job::default() },
                source: text("/dev/sda1"),
                source_by_option: true,
                ..Options::default()
            })
        );
        assert_eq!(
            read(Program::Restore, "-d0 -C -I -o /dev/sda1"),
            Ok(Options {
                job: Job { no_size_check: true, unclean: true, ..Job::default() },
                target: text("/dev/sda1"),
                ..Options::default()
            })
        );
        assert_eq!(
            read(Program::Fs("NTFS"), "-z 10485760 -N -L /var/log/x.log -c -s /dev/sda1 --output -"),
            Ok(Options {
                job: Job { mode: Mode::Clone, buffer: Some(10_485_760), ..Job::default() },
                source: text("/dev/sda1"),
                source_by_option: true,
                target: text("-"),
                log: text("/var/log/x.log"),
                ..Options::default()
            })
        );
        assert_eq!(
            read(Program::Fs("EXTFS"), "-d3 -z 0x200000 -a3 -k0 --offset_domain=0x10 --debug -x cat -D"),
            Ok(Options {
                job: Job {
                    mode: Mode::Domain,
                    buffer: Some(2 << 20),
                    checksum: Some(checksum::Mode::Xxh128),
                    offset_domain: 16,
                    compress: text("cat"),
                    ..Job::default()
                },
                debug: 1,
                ..Options::default()
            })
        );
        assert_eq!(
            read(Program::Restore, "--ignore_crc -a1 -k 7 -O /dev/sda1 -Nf 1"),
            Ok(Options {
                job: Job {
                    ignore_checksums: true,
                    checksum: Some(checksum::Mode::Crc32),
                    blocks_per_checksum: Some(7),
                    overwrite: true,
                    ..Job::default()
                },
                target: text("/dev/sda1"),
                ..Options::default()
            })
        );
        assert_eq!(read(Program::Info, "X").map(|options| options.source), Ok(text("X")));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert_eq!(read(Program::Restore, "X"), Err("Unknown option 'X'.".into()));
        assert_eq!(read(Program::Restore, "-a4"), Err("Unknown checksum mode '4'.".into()));
        assert!(read(Program::Restore, "-E -1").unwrap_err().starts_with("Too small or bad offset."));
        assert!(read(Program::Restore, "-z 511").unwrap_err().starts_with("Too small or bad buffer size."));
        assert_eq!(read(Program::Restore, "-k x"), Err("option -k wants a number, not \"x\"".into()));
        assert_eq!(read(Program::Restore, "-s"), Err("option -s wants a value".into()));
    }
}
