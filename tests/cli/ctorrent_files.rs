//! `ctorrent -t` and `ctorrent -x`: making and showing metainfo files.

use std::fs;
use std::process::Output;

use crate::support::{Lab, applet, run, text, write_payload};

/// Runs `ctorrent ARGS` in the lab's directory.
fn ctorrent(lab: &Lab, args: &str) -> Output {
    applet("ctorrent").args(args.split(' ')).current_dir(lab.path("")).output().expect("run ctorrent")
}

/// Its standard output, its standard error and its exit code.
fn said(lab: &Lab, args: &str) -> (String, String, i32) {
    let output = ctorrent(lab, args);
    (text(&output.stdout), text(&output.stderr), output.status.code().expect("an exit code"))
}

fn lab() -> Lab {
    let lab = Lab::new();
    write_payload(&lab.path("x.img"), 3, 1);
    lab
}

#[test]
fn a_file_is_described_and_shown() {
    let lab = lab();
    let made = said(&lab, "-t x.img -u http://10.0.0.1:6969/announce -s x.torrent -c md5 -l 1000000");
    let told: String = (1..=4).map(|piece| format!("Create hash table: {piece}/4\n")).collect();
    assert_eq!(made, (told + "Create metainfo file x.torrent successful.\n", String::new(), 0));
    let (shown, _, code) = said(&lab, "-x x.torrent");
    let date = shown.lines().find(|line| line.starts_with("Created On: ")).expect("a date");
    assert_eq!(
        shown.replace(date, "DATE"),
        format!(
            "META INFO\nAnnounce: http://10.0.0.1:6969/announce\nDATE\nPiece length: 983040\nComment: md5\n\
             Created with: ogbox/{}\nFILES INFO\n<1> x.img [3145728]\nTotal: 3 MB\n",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(code, 0);
}

#[test]
fn options_may_cluster_and_follow_the_file_they_are_about() {
    let lab = lab();
    assert_eq!(said(&lab, "-tp x.img -uhttp://h/a -s x.torrent -l 65536 -l 4194304").2, 0);
    let shown = said(&lab, "x.torrent -x").0;
    assert!(shown.contains("\nPrivate: Yes\n") && shown.contains("\nPiece length: 4194304\n"), "{shown}");
}

#[test]
fn a_directory_is_described_with_more_than_the_namesake_can() {
    let lab = lab();
    lab.make_dir("d/sub");
    fs::write(lab.path("d/sub/b"), "bb").unwrap();
    fs::write(lab.path("d/a"), "a").unwrap();
    let more = "--name other --next-tracker http://i/a --next-tracker http://j/a --web-seed http://w/ --threads 1";
    assert_eq!(said(&lab, &format!("-t d/ -u http://h/a -s d.torrent {more}")).2, 0);
    let shown = said(&lab, "-x d.torrent").0;
    assert!(shown.contains("Announce: http://h/a\nAlternates:\n 1. http://i/a\n 2. http://j/a\n"), "{shown}");
    assert!(shown.ends_with("FILES INFO\nDirectory: other\n<1>  a [1]\n<2>  sub/b [2]\nTotal: 0 MB\n"), "{shown}");
    assert!(fs::read(lab.path("d.torrent")).unwrap().ends_with(b"8:url-list9:http://w/e"));
}

#[test]
fn a_metainfo_file_is_replaced_only_by_force_and_nothing_else_is_left() {
    let lab = lab();
    fs::write(lab.path("x.torrent"), "old").unwrap();
    let refused = "error, file \"x.torrent\" already exists.\ncreate metainfo failed.\n";
    let (out, err, code) = said(&lab, "-t x.img -u http://h/a -s x.torrent");
    assert_eq!((out.as_str(), err.as_str(), code), ("", refused, 1));
    assert_eq!(fs::read(lab.path("x.torrent")).unwrap(), b"old");
    assert_eq!(said(&lab, "-t x.img -u http://h/a -s x.torrent --force").2, 0);
    assert_eq!(said(&lab, "-x x.torrent").2, 0);
    assert_eq!(said(&lab, "-t x.img -u http://h/a -s none/x.torrent").2, 1);
    let mut left: Vec<_> = fs::read_dir(lab.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["x.img", "x.torrent"]);
}

#[test]
fn progress_for_machines_is_one_object_a_line_on_standard_error() {
    let lab = lab();
    let (out, err, code) = said(&lab, "-t x.img -u http://h/a -s x.torrent --progress json");
    assert_eq!((out.as_str(), code), ("Create metainfo file x.torrent successful.\n", 0));
    let last = err.lines().last().expect("a line");
    assert!(last.starts_with("{\"step\":\"hash\",\"done\":3145728,\"total\":3145728,"), "{err}");
    assert!(last.ends_with("\"end\":true}"), "{err}");
}

#[test]
fn what_is_no_torrent_is_told_apart_by_the_exit_code() {
    let lab = lab();
    fs::write(lab.path("half.torrent"), "d8:announce8:http://h4:infod6:lengthi5e").unwrap();
    let (out, err, code) = said(&lab, "-x half.torrent");
    let expected = "error, half.torrent: the data end inside a value (byte 39)\nerror, initial meta info failed.\n";
    assert_eq!((out.as_str(), err.as_str(), code), ("", expected, 1));
    assert_eq!(said(&lab, "-x x.img").2, 1);
    assert_eq!(said(&lab, "-x none").2, 1);
}

#[test]
fn help_is_a_failure_as_the_namesake_has_it_unless_it_is_asked_for_in_words() {
    let lab = lab();
    for args in ["-h", "-H"] {
        let (out, err, code) = said(&lab, args);
        assert!(
            out.is_empty() && err.contains("Usage: ctorrent") && err.contains("Usage: ctorrent -t") && code == 1,
            "{err}"
        );
    }
    assert!(text(&run(applet("ctorrent").args(["-t", "--help"])).stdout).contains("--next-tracker"));
}

#[test]
fn a_torrents_name_is_never_run_by_the_command_at_the_end() {
    let lab = Lab::new();
    let name = "x$(touch ran); touch ran #.img";
    fs::write(lab.path(name), "data").expect("write the data");
    let make = ["-t", name, "-u", "http://10.0.0.1:6969/announce", "-s", "x.torrent"];
    run(applet("ctorrent").args(make).current_dir(lab.path("")));
    let check = |hook: &str| {
        let mut command = applet("ctorrent");
        command.args(["-c", "-X", hook, "x.torrent"]).current_dir(lab.path("")).output().expect("run ctorrent")
    };
    let done = check("printf '%s|%s' \"&d\" &t > seen");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(fs::read_to_string(lab.path("seen")).expect("the hook ran"), format!("{name}|x.torrent"));
    let refused = check("sh -c 'echo &d'");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("&d stands in single quotes"), "{}", text(&refused.stderr));
    assert!(!lab.path("ran").exists());
}
