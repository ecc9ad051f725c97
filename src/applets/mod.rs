//! The applets: one file a command, and the one table that names them.
//!
//! An applet's file opens with its options (their doc comments are its help), then `run`, then nothing
//! else. A new applet touches its own file and one line of [`APPLETS`].

use std::ffi::{CString, OsString};
use std::path::Path;
use std::process::ExitCode;

mod bittornado;
mod btlaunchmany;
mod bttrack;
mod ctorrent;
mod daemon;
mod image;
mod install;
mod io;
mod lzop;
mod opengnsys;
pub mod options;
mod partclone;
mod zstd;

pub use io::{Exit, Failure, Io, Outcome};

use crate::base::boundary;
use partclone::Program;

/// One command of the binary.
pub struct Applet {
    /// The name it is called by.
    pub name: &'static str,
    /// Its purpose, in one line.
    pub summary: &'static str,
    /// Runs it with the arguments after its name.
    pub run: fn(&[String], &mut Io) -> Outcome,
}

impl Applet {
    /// Runs it under its own name, so that `pidof` finds it however it was called.
    fn start(&self, args: &[String], io: &mut Io) -> Outcome {
        boundary::report_as(self.name);
        // An applet that cannot be named still runs.
        let _ = CString::new(self.name).map(|name| rustix::thread::set_name(&name));
        (self.run)(args, io)
    }
}

/// A line of the table for a function of OpenGnsys' engine.
macro_rules! og {
    ($name:literal, $function:ident::$item:ident, $summary:literal) => {
        Applet {
            name: $name,
            summary: $summary,
            run: |args, io| opengnsys::call($name, $summary, &opengnsys::$function::$item, args, io),
        }
    };
}

/// A line of the table for one of partclone's programs.
macro_rules! partclone {
    ($name:literal, $program:ident$(($fs:literal))?, $summary:literal) => {
        Applet {
            name: $name,
            summary: $summary,
            run: |args, io| partclone::run($name, Program::$program$(($fs))?, args, io),
        }
    };
}

/// All applets, sorted by name.
pub const APPLETS: &[Applet] = &[
    og!("StartTracker", torrents::START_TRACKER, "start the tracker unless it runs"),
    Applet { name: "btlaunchmany", summary: "seed every torrent of a directory", run: btlaunchmany::run },
    Applet { name: "bttrack", summary: "BitTorrent tracker", run: bttrack::run },
    og!("createImage", create::CREATE, "save a partition to an image, and describe it for the swarm"),
    Applet { name: "ctorrent", summary: "make, show, download and seed torrents", run: ctorrent::run },
    og!("deployImage", scripts::DEPLOY, "bring an image to the cache and restore it"),
    Applet { name: "image", summary: "save partitions to images, restore, verify them", run: image::run },
    Applet { name: "lzop", summary: "compress and expand as lzop does, on all cores", run: lzop::run },
    og!("ogCalculateChecksum", checksums::CALCULATE, "MD5 of a file's last MiB"),
    og!("ogCalculateFullChecksum", checksums::CALCULATE_FULL, "MD5 of a whole file"),
    og!("ogCompareChecksumFiles", checksums::COMPARE, "whether two files' kept checksums are equal"),
    og!("ogCreateImage", imaging::CREATE, "save a partition to an image of the repository or cache"),
    og!("ogCreateImageSyntax", image_info::CREATE_SYNTAX, "the command line that saves a partition"),
    og!("ogCreateTorrent", torrents::CREATE, "describe an image for the swarm"),
    og!("ogDevToDisk", paths::DEV_TO_DISK, "the numbers of a device"),
    og!("ogDiskToDev", paths::DISK_TO_DEV, "the device of a disk's or partition's number"),
    og!("ogEcho", say::ECHO, "a line on the screen and in OpenGnsys' logs"),
    og!("ogFindCache", paths::FIND_CACHE, "the numbers of the cache's partition"),
    og!("ogGetFsType", paths::GET_FS_TYPE, "the type of a partition's file system"),
    og!("ogGetImageCompressor", image_info::COMPRESSOR, "what compressed an image"),
    og!("ogGetImageInfo", image_info::INFO, "an image's program, compressor, file system and size"),
    og!("ogGetImageProgram", image_info::PROGRAM, "what made an image"),
    og!("ogGetImageSize", image_info::SIZE, "the size of the partition that an image wants, KB"),
    og!("ogGetImageType", image_info::TYPE, "the file system in an image"),
    og!("ogGetParentPath", paths::GET_PARENT_PATH, "the real path of a file's directory"),
    og!("ogGetPath", paths::GET_PATH, "the real path of a file"),
    og!("ogGetSizeParameters", image_info::SIZES, "what a partition's image will take, and what is free"),
    og!("ogIsImageLocked", locks::IS_LOCKED, "whether an image is in exclusive use"),
    og!("ogLockImage", locks::LOCK, "take an image for exclusive use"),
    og!("ogMakeChecksumFile", checksums::MAKE, "keep a file's checksum beside it"),
    og!("ogMcastReceiverFile", transfer::MCAST_RECEIVE_FILE, "receive a file by multicast"),
    og!("ogMcastReceiverPartition", transfer::MCAST_RECEIVE_PARTITION, "receive a partition by multicast"),
    og!("ogMcastRequest", transfer::REQUEST, "have the repository multicast an image"),
    og!("ogMcastSendFile", transfer::MCAST_SEND_FILE, "send a file by multicast"),
    og!("ogMcastSendPartition", transfer::MCAST_SEND_PARTITION, "send a partition by multicast"),
    og!("ogMcastSyntax", transfer::MCAST_SYNTAX, "the command line that sends or receives by multicast"),
    og!("ogMountCache", paths::MOUNT_CACHE, "mount the cache and tell where"),
    og!("ogRaiseError", say::RAISE_ERROR, "tell an error by its number, and give it back"),
    og!("ogReceiveTorrent", torrents::RECEIVE, "download an image to the cache"),
    og!("ogRestoreImage", imaging::RESTORE, "restore an image to a partition"),
    og!("ogRestoreImageSyntax", image_info::RESTORE_SYNTAX, "the command line that restores an image"),
    og!("ogShareTorrent", torrents::SHARE, "seed an image in the background"),
    og!("ogStartTracker", torrents::START_TRACKER, "start the tracker unless it runs"),
    og!("ogTorrentStart", torrents::START, "download what a torrent describes, and seed it"),
    og!("ogUcastReceiverFile", unicast::RECEIVE_FILE, "receive a file from another PC"),
    og!("ogUcastReceiverPartition", transfer::UCAST_RECEIVE_PARTITION, "receive a partition from another PC"),
    og!("ogUcastSendFile", unicast::SEND_FILE, "send a file to other PCs"),
    og!("ogUcastSendPartition", transfer::UCAST_SEND_PARTITION, "send a partition to other PCs"),
    og!("ogUcastSyntax", transfer::UCAST_SYNTAX, "the command line that sends or receives by mbuffer"),
    og!("ogUnlockImage", locks::UNLOCK, "give up exclusive use of an image"),
    og!("ogUnmountCache", paths::UNMOUNT_CACHE, "unmount the cache"),
    og!("ogUpdateCacheIsNecesary", imaging::NECESSARY, "whether the cache's image is not the repository's"),
    partclone!("partclone.VMFS_volume_member", Fs("VMFS"), "save whole, restore or copy VMFS_volume_member"),
    partclone!("partclone.apfs", Fs("APFS"), "save whole, restore or copy apfs"),
    partclone!("partclone.btrfs", Fs("BTRFS"), "save, restore or copy btrfs"),
    partclone!("partclone.chkimg", Check, "verify an image"),
    partclone!("partclone.dd", Raw, "copy a device as it is"),
    partclone!("partclone.exfat", Fs("EXFAT"), "save, restore or copy exfat"),
    partclone!("partclone.ext2", Fs("EXTFS"), "save, restore or copy ext2"),
    partclone!("partclone.ext3", Fs("EXTFS"), "save, restore or copy ext3"),
    partclone!("partclone.ext4", Fs("EXTFS"), "save, restore or copy ext4"),
    partclone!("partclone.ext4dev", Fs("EXTFS"), "save, restore or copy ext4dev"),
    partclone!("partclone.extfs", Fs("EXTFS"), "save, restore or copy extfs"),
    partclone!("partclone.f2fs", Fs("F2FS"), "save, restore or copy f2fs"),
    partclone!("partclone.fat", Fs("FAT"), "save, restore or copy fat"),
    partclone!("partclone.fat12", Fs("FAT"), "save, restore or copy fat12"),
    partclone!("partclone.fat16", Fs("FAT"), "save, restore or copy fat16"),
    partclone!("partclone.fat32", Fs("FAT"), "save, restore or copy fat32"),
    partclone!("partclone.hfs+", Fs("HFS Plus"), "save whole, restore or copy hfs+"),
    partclone!("partclone.hfsp", Fs("HFS Plus"), "save whole, restore or copy hfsp"),
    partclone!("partclone.hfsplus", Fs("HFS Plus"), "save whole, restore or copy hfsplus"),
    partclone!("partclone.imager", Imager, "save all of a device to an image"),
    partclone!("partclone.info", Info, "tell what an image holds"),
    partclone!("partclone.jfs", Fs("JFS"), "save whole, restore or copy jfs"),
    partclone!("partclone.minix", Fs("MINIX"), "save whole, restore or copy minix"),
    partclone!("partclone.nilfs2", Fs("NILFS"), "save whole, restore or copy nilfs2"),
    partclone!("partclone.ntfs", Fs("NTFS"), "save, restore or copy ntfs"),
    partclone!("partclone.ntfsfixboot", FixBoot, "fit the boot sector of NTFS to its partition"),
    partclone!("partclone.ntfsreloc", FixBoot, "fit the boot sector of NTFS to its partition"),
    partclone!("partclone.reiser4", Fs("REISER4"), "save whole, restore or copy reiser4"),
    partclone!("partclone.reiserfs", Fs("REISERFS"), "save whole, restore or copy reiserfs"),
    partclone!("partclone.restore", Restore, "restore an image"),
    partclone!("partclone.swap", Fs("SWAP"), "save, restore or copy swap"),
    partclone!("partclone.ufs", Fs("UFS"), "save whole, restore or copy ufs"),
    partclone!("partclone.vfat", Fs("FAT"), "save, restore or copy vfat"),
    partclone!("partclone.vmfs", Fs("VMFS"), "save whole, restore or copy vmfs"),
    partclone!("partclone.vmfs3", Fs("VMFS"), "save whole, restore or copy vmfs3"),
    partclone!("partclone.vmfs5", Fs("VMFS"), "save whole, restore or copy vmfs5"),
    partclone!("partclone.xfs", Fs("XFS"), "save, restore or copy xfs"),
    og!("restoreImage", scripts::RESTORE, "restore an image, which the swarm brings to the cache"),
    Applet { name: "unzstd", summary: "expand as zstd -d does", run: zstd::unpack },
    og!("updateCache", scripts::UPDATE, "bring an image of the repository to the cache"),
    Applet { name: "zstd", summary: "compress and expand as zstd does, on all cores", run: zstd::run },
    Applet { name: "zstdcat", summary: "expand to standard output as zstdcat does", run: zstd::cat },
];

/// Runs the applet that the process was called as, and returns its exit code.
pub fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut io = Io { out: &mut out, err: &mut err };
    let (name, outcome) = match words(std::env::args_os()) {
        Ok(words) => dispatch(&words, &mut io),
        Err(failure) => ("ogbox".to_owned(), Err(failure)),
    };
    match outcome.and_then(|exit| io.out.flush().map(|()| exit).map_err(Failure::from)) {
        Ok(Exit(code)) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                // A single write, so that lines of several processes do not mix; a failure has nowhere to be
                // reported.
                let _ = io.err.write_all(format!("{name}: {}\n", failure.message).as_bytes());
            }
            ExitCode::from(failure.code)
        }
    }
}

fn words(args: impl Iterator<Item = OsString>) -> Result<Vec<String>, Failure> {
    args.enumerate()
        .map(|(at, word)| {
            word.into_string()
                .map_err(|word| Failure::new(1, format!("argument {at} is not UTF-8: {}", word.to_string_lossy())))
        })
        .collect()
}

/// Picks the applet by the base name of `argv[0]`, or by the word after it when that is no applet's name.
fn dispatch(argv: &[String], io: &mut Io) -> (String, Outcome) {
    let called = argv.first().map_or("ogbox", |path| base_name(path));
    if let Some(applet) = find(called) {
        return (called.to_owned(), applet.start(&argv[1..], io));
    }
    // A link under a name that is no applet's must not run whatever its first argument says.
    if !called.starts_with("ogbox") {
        return ("ogbox".to_owned(), Err(unknown(called)));
    }
    let rest = argv.get(1..).unwrap_or_default();
    match rest.split_first() {
        None => ("ogbox".to_owned(), list(io)),
        Some((word, args)) => match word.as_str() {
            "--help" | "-h" => ("ogbox".to_owned(), list(io)),
            "--list" => ("ogbox".to_owned(), install::list(args, names(), io)),
            "--version" | "-V" => ("ogbox".to_owned(), version(io)),
            "--install" => ("ogbox".to_owned(), install::run(args, names(), io)),
            name => match find(base_name(name)) {
                Some(applet) => (applet.name.to_owned(), applet.start(args, io)),
                None => ("ogbox".to_owned(), Err(unknown(name))),
            },
        },
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    APPLETS.iter().map(|applet| applet.name)
}

fn base_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

fn find(name: &str) -> Option<&'static Applet> {
    let called = |name| APPLETS.iter().find(|applet| applet.name == name);
    // Names of Debian's packages and of their sources, which OpenGnsys' init script calls.
    let plain = || [".bittornado", ".bittorrent", ".py"].into_iter().find_map(|ending| name.strip_suffix(ending));
    called(name).or_else(|| called(plain()?))
}

fn unknown(name: &str) -> Failure {
    Failure::new(127, format!("{name}: applet not found (`ogbox` lists them)"))
}

fn version(io: &mut Io) -> Outcome {
    writeln!(io.out, "ogbox {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Exit::OK)
}

fn list(io: &mut Io) -> Outcome {
    version(io)?;
    writeln!(
        io.out,
        "Disk imaging for computer labs over BitTorrent, one static binary with many names.\n\n\
         usage: ogbox APPLET [ARGUMENT...]\n\
         \x20      ogbox --install [-s] DIR   link every applet into DIR (-s: symbolic links)\n\
         \x20      ogbox --list [SET]         names alone, one a line: of all applets, or of safe or opengnsys\n\
         \x20      ogbox --version\n\n\
         Applets, each also run by a link of its name:"
    )?;
    for applet in APPLETS {
        writeln!(io.out, "  {:<26} {}", applet.name, applet.summary)?;
    }
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets_are_sorted_and_named_once() {
        assert!(APPLETS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
