//! Metainfo files against ctorrent and mktorrent: either side reads what the other makes, and both describe the same
//! data by the same bytes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Lab, applet, binary, run, text, tools, write_payload};

fn sh(lab: &Lab, program: &Path, args: &str) -> Output {
    let mut command = Command::new(program);
    if program == binary() {
        command.arg("ctorrent");
    }
    command.args(args.split(' ')).env("TZ", "Europe/Madrid").current_dir(lab.path("")).output().expect("run")
}

fn original() -> &'static Path {
    Path::new("ctorrent")
}

/// The info dictionary's bytes: from its key's end to the file's last `e`.
fn info(lab: &Lab, torrent: &str) -> Vec<u8> {
    let bytes = fs::read(lab.path(torrent)).unwrap();
    let key = bytes.windows(6).position(|six| six == b"4:info").expect("an info dictionary");
    bytes[key + 6..bytes.len() - 1].to_vec()
}

#[test]
fn the_same_data_have_the_same_info_dictionary_whoever_describes_them() {
    if !tools(&["ctorrent", "mktorrent"]) {
        return;
    }
    let lab = Lab::new();
    write_payload(&lab.path("x.img"), 5, 7);
    for (options, power, private) in [("-l 262144", "18", false), ("-l 1048576 -p", "20", true)] {
        for (program, out) in [(binary(), "ours"), (original(), "theirs")] {
            let made = sh(&lab, program, &format!("-t x.img -u http://h/a -s {out} {options}"));
            assert!(made.status.success(), "{}", text(&made.stderr));
        }
        let mut mktorrent = Command::new("mktorrent");
        mktorrent.args(["-l", power, "-a", "http://h/a", "-o", "third", "x.img"]).args(private.then_some("-p"));
        run(mktorrent.current_dir(lab.path("")));
        assert_eq!(info(&lab, "ours"), info(&lab, "theirs"), "ctorrent {options}");
        assert_eq!(info(&lab, "ours"), info(&lab, "third"), "mktorrent {options}");
        for name in ["ours", "theirs", "third"] {
            fs::remove_file(lab.path(name)).unwrap();
        }
    }
}

#[test]
fn a_directory_has_the_same_info_dictionary_as_mktorrent_gives_it() {
    if !tools(&["mktorrent"]) {
        return;
    }
    let lab = Lab::new();
    lab.make_dir("d/b/c");
    for (path, mib) in [("d/b/c/z", 1), ("d/b/y", 2), ("d/a", 1), ("d/empty", 0)] {
        write_payload(&lab.path(path), mib, 3);
    }
    run(applet("ctorrent").args(["-t", "d", "-u", "http://h/a", "-s", "ours"]).current_dir(lab.path("")));
    let theirs = ["-l", "18", "-a", "http://h/a", "-o", "theirs", "d"];
    run(Command::new("mktorrent").args(theirs).current_dir(lab.path("")));
    assert_eq!(info(&lab, "ours"), info(&lab, "theirs"));
}

#[test]
fn torrents_are_shown_as_ctorrent_shows_them() {
    if !tools(&["ctorrent", "mktorrent"]) {
        return;
    }
    let lab = Lab::new();
    write_payload(&lab.path("x.img"), 3, 9);
    lab.make_dir("d/sub dir");
    write_payload(&lab.path("d/sub dir/a b"), 1, 1);
    fs::write(lab.path("d/z"), "z").unwrap();
    let odd = "o\u{e9}\u{1f600}d";
    write_payload(&lab.path(odd), 1, 1);
    for (name, args) in [
        ("ours", "-t x.img -u http://h/a -s ours -c text -p"),
        ("dir", "-t d -u http://h/a -s dir --next-tracker http://i/a --next-tracker http://j/a"),
        ("odd", &format!("-t {odd} -u http://h/a -s odd")),
    ] {
        assert!(sh(&lab, binary(), args).status.success(), "{name}");
    }
    assert!(sh(&lab, original(), "-t x.img -u http://h/a -s theirs -c text").status.success());
    let tiers = ["-a", "http://h/a,http://i/a", "-a", "http://j/a", "-c", "text", "-o", "third", "x.img"];
    run(Command::new("mktorrent").args(tiers).current_dir(lab.path("")));
    for torrent in ["ours", "dir", "odd", "theirs", "third"] {
        for option in ["-x", "-Tx"] {
            let args = format!("{option} {torrent}");
            let (ours, theirs) = (sh(&lab, binary(), &args), sh(&lab, original(), &args));
            assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{args}");
            assert_eq!(ours.status, theirs.status, "{args}");
        }
    }
}

#[test]
fn command_lines_are_refused_as_ctorrent_refuses_them() {
    if !tools(&["ctorrent"]) {
        return;
    }
    let lab = Lab::new();
    fs::write(lab.path("x"), "x").unwrap();
    fs::write(lab.path("there"), "x").unwrap();
    for args in [
        "-t -u http://h/a -s out",
        "-t x there -u http://h/a -s out",
        "-t x -s out",
        "-t x -u http://h/a",
        "-t x -u http://h/a -s out -l 65535",
        "-t x -u http://h/a -s out -l 4194305",
        "-t x -u http://h/a -s there",
        "-x",
    ] {
        let (ours, theirs) = (sh(&lab, binary(), args), sh(&lab, original(), args));
        assert_eq!(text(&ours.stderr), text(&theirs.stderr), "{args}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{args}");
    }
    // These differ in wording, not in effect.
    for args in ["-t none -u http://h/a -s out", "-t x -u http://h/a -s out -q", "-x none", "-x x"] {
        assert_eq!(sh(&lab, binary(), args).status.code(), sh(&lab, original(), args).status.code(), "{args}");
        assert!(!lab.path("out").exists(), "{args}");
    }
}
