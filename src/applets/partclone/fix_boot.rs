//! partclone.ntfsfixboot: the geometry in NTFS's boot sector, with its options, and exit codes 0 (right or written), 1
//! (-w would change it) and 2.

use std::path::Path;

use crate::applets::{Exit, Failure, Io, Outcome};
use crate::image::fix_boot::{Boot, Wanted};

const HELP: &str = "\
usage: partclone.ntfsfixboot [-h HEADS -t SECTORS] [-s START] [-b] [-w] [-f] [-p] DEVICE
    -h, -t, -s  heads, sectors of a track and start in place of the partition's
    -w  write it; -b  a file stands for a partition; -p  print what was found
    -f  take a whole disk, and write what is right already";

/// Runs it.
pub fn run(args: &[String], io: &mut Io) -> Outcome {
    let (mut wanted, mut print, mut device) = (Wanted::default(), false, None);
    let (mut heads, mut sectors) = (None, None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let (option, attached) = word.split_at_checked(2).unwrap_or((word, ""));
        let mut number = || {
            let text = Some(attached).filter(|text| !text.is_empty()).or_else(|| words.next().map(String::as_str));
            let number = text.and_then(|text| text.parse::<u32>().ok());
            number.ok_or_else(|| Failure::new(2, format!("option {option} wants a number\n{HELP}")))
        };
        match option {
            "-h" => heads = u16::try_from(number()?).ok(),
            "-t" => sectors = u16::try_from(number()?).ok(),
            "-s" => wanted.start = Some(number()?),
            "-b" => wanted.any = true,
            "-w" => wanted.write = true,
            "-f" => wanted.force = true,
            "-p" => print = true,
            _ if device.is_none() && !word.starts_with('-') => device = Some(word),
            _ => return Err(Failure::new(2, format!("Unknown option '{word}'\n{HELP}"))),
        }
    }
    let device = device.ok_or_else(|| Failure::new(2, HELP))?;
    wanted.shape = heads.zip(sectors);
    let failed = |error| Failure::new(2, error);
    let boot = Boot::read(Path::new(device), &wanted).map_err(failed)?;
    for (name, found) in boot.found().into_iter().filter(|_| print) {
        writeln!(io.out, "{name}\t{}\t{}\t{}", found.heads, found.sectors, found.start)?;
    }
    let (exit, said) = match (boot.is_right() && !wanted.force, wanted.write) {
        (true, _) => (Exit::OK, "No changes neccessary."),
        (false, false) => (Exit(1), "Changes will be written to disk only with -w flag"),
        (false, true) => boot.write().map(|()| (Exit::OK, "done!")).map_err(failed)?,
    };
    writeln!(io.out, "{said}")?;
    Ok(exit)
}
