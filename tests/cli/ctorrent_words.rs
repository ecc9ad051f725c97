//! The output of `ctorrent` for each option, right or wrong, and its exit code, as a table. Most of it is that of
//! Enhanced CTorrent dnh3.3.2: `CTORRENT=/usr/bin/ctorrent cargo test --test cli ctorrent_words` runs the table
//! against it.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{Lab, applet, run, text, write_payload};

/// The program whose output a case has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    /// The namesake's.
    Theirs,
    /// Ours: an option that the namesake lacks, or an error that it ignores.
    Ours,
}
use Words::{Ours, Theirs};

/// The list of files as it is shown first of all.
const META: &str = "FILES INFO\n<1> x.img [3000000]\nTotal: 2 MB\n";
const TRUSTED: &str = "Skipping hash checks and forcing seed mode.\n\
                       -----> STOP NOW if you have not downloaded the whole torrent! <-----\n";
const FAILED: &str = "error, initial meta info failed.\n";

/// The program, the arguments (`+`: a space inside of one), the exit code, and the strings that standard output and
/// standard error must contain.
type Case = (Words, &'static str, i32, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    // Wrong command lines.
    (Theirs, "", 1, &[], &["-x", "-U"]),
    (Theirs, "-h", 1, &[], &["-x", "-U"]),
    (Theirs, "-x x.torrent -H", 1, &[], &["-x", "-U"]),
    (Theirs, "-Q x.torrent", 1, &[], &["ctorrent: invalid option -- 'Q'\nUse -h for help/usage.\n"]),
    (Theirs, "x.torrent -e", 1, &[], &["ctorrent: option requires an argument -- 'e'\nUse -h for help/usage.\n"]),
    (Theirs, "-t x.img -z", 1, &[], &["ctorrent: invalid option -- 'z'\nUse -h for help/usage.\n"]),
    (Theirs, "x.torrent half.torrent", 1, &[], &["Must specify one torrent file\n"]),
    (Theirs, "-x", 1, &[], &["Must specify one torrent file\n"]),
    (Theirs, "-M 19 x.torrent", 1, &[], &["-M argument must be between 20 and 1000\n"]),
    (Theirs, "-M many x.torrent", 1, &[], &["-M argument must be between 20 and 1000\n"]),
    (Theirs, "-m 0 x.torrent", 1, &[], &["-m argument must be between 1 and 1000\n"]),
    (Theirs, "-z129 x.torrent", 1, &[], &["-z argument must be between 1 and 128\n"]),
    (Theirs, "-P -TOOLONG- x.torrent", 1, &[], &["-P arg must be 8 or less characters\n"]),
    (Theirs, "-S host x.torrent", 1, &[], &["-S argument requires a port number\n"]),
    (Ours, "-e never x.torrent", 1, &[], &["ctorrent: Error parsing option '-e' with value 'never': not a number\n"]),
    (Ours, "-n 1,2 x.torrent", 1, &[], &["-n: there is no file 2 in the torrent, but 1 to 1\n"]),
    (
        Ours,
        "-n 1- x.torrent",
        1,
        &[],
        &["-n: `1-` is neither the number of a file nor a range (2-5), nor * for all others\n"],
    ),
    (Ours, "-n , x.torrent", 1, &[], &["-n: no file is named\n"]),
    (Ours, "--leave soon x.torrent", 1, &[], &["`soon` is neither never nor unneeded"]),
    (
        Theirs,
        "-u nowhere x.torrent",
        1,
        &[META],
        &["error, invalid tracker url format!\nerror, tracker setup failed.\n"],
    ),
    // Wrong files.
    (Theirs, "none.torrent", 1, &[], &["none.torrent", FAILED]),
    (Theirs, "-x x.img", 1, &[], &[FAILED]),
    (
        Theirs,
        "-s short x.torrent",
        1,
        &["<1> short [3000000]\n"],
        &["error, file \"short\" size doesn't match; must be 3000000\n", FAILED],
    ),
    (Theirs, "-s long x.torrent", 1, &[], &["error, file \"long\" size doesn't match; must be 3000000\n", FAILED]),
    (Theirs, "-s dir x.torrent", 1, &["<1> dir [3000000]\n"], &[FAILED]),
    // Showing and checking.
    (
        Theirs,
        "-x x.torrent",
        0,
        &["META INFO\nAnnounce: http://127.0.0.1:1/announce\n", "Piece length: 262144\n", META],
        &[],
    ),
    (Theirs, "x.torrent -xv -s other", 0, &["<1> other [3000000]\n"], &[]),
    (
        Theirs,
        "-c x.torrent",
        0,
        &[
            META,
            "Check exist: 1/12\nCheck exist: 2/12\n",
            "Check exist: 12/12\nFILES INFO\n<1> x.img [3000000] 12/12 (100%)\nTotal: 2 MB\nAlready/Total: 12/12 (100%)\n",
        ],
        &[],
    ),
    (
        Theirs,
        "x.torrent -s half.img -c -X echo+ran:&t:&d",
        0,
        &["<1> half.img [3000000] 5/12 (41%)\n", "Already/Total: 5/12 (41%)\nran:x.torrent:half.img\n"],
        &[],
    ),
    (Theirs, "-c x.torrent -s new.img", 0, &["Already/Total: 0/12 (0%)\n"], &[]),
    // Seeding at once. Trusted data is not checked.
    (
        Theirs,
        "-e 0 x.torrent",
        0,
        &[
            META,
            "Listening on 0.0.0.0:",
            "Checking completed.\nFILES INFO\n<1> x.img [3000000] 12/12 (100%)\n",
            "Seed for others 0 hours\n",
        ],
        &[],
    ),
    (
        Theirs,
        "-e0 -E 1.5x x.torrent -i 127.0.0.1 -p 2800 -f -e 0 -E0",
        0,
        &[TRUSTED, "Listening on 127.0.0.1:2800\n", "Seed for others 0 hours\n"],
        &[],
    ),
    (
        Theirs,
        "-f -c -e 0 x.torrent",
        0,
        &["Check exist: 12/12\n", "Already/Total: 12/12 (100%)\nListening on", "Seed for others 0 hours\n"],
        &[],
    ),
    (
        Theirs,
        "-vTa -C 100 -M 1000 -m 5 -z 16 -n 1 -D 100 -U0 -P -XX0100- -A me/1 -I 127.0.0.1 -b other -a -e 0 x.torrent",
        0,
        &[],
        &[],
    ),
    (
        Theirs,
        "-e 0 x.torrent -b bits",
        0,
        &[
            "Found bit field file; verifying previous state.\n",
            "Checking completed.\nFILES INFO\n<1> x.img [3000000] 12/12 (100%)\n",
        ],
        &[],
    ),
    (
        Theirs,
        "-e 0 x.torrent -b bits -f",
        0,
        &["Found bit field file; resuming download from previous state.\n", "Seed for others 0 hours\n"],
        &[],
    ),
    (Ours, "-e 0 x.torrent -X echo+ran", 0, &["Seed for others 0 hours\nran\n"], &[]),
    (Ours, "--leave 0s x.torrent --no-pex --no-lsd --pex --lsd --journal --no-journal", 0, &["Seed for others"], &[]),
    (Ours, "--leech x.torrent", 0, &["Checking completed.\n"], &[]),
    (
        Ours,
        "--json --leech -P - -S h:1 x.torrent",
        0,
        &["{\"state\":\"end\",", "\"have\":12,\"pieces\":12,\"left\":0,"],
        &["META INFO", "Checking completed."],
    ),
];

/// A torrent of 12 pieces whose payload is here, half here, and here in wrong lengths.
fn lab() -> Lab {
    let lab = Lab::new();
    write_payload(&lab.path("x.img"), 3, 1);
    let mut payload = fs::read(lab.path("x.img")).unwrap();
    payload.truncate(3_000_000);
    fs::write(lab.path("x.img"), &payload).unwrap();
    payload[1_500_000..].fill(0);
    fs::write(lab.path("half.img"), &payload).unwrap();
    fs::write(lab.path("short"), &payload[1..]).unwrap();
    fs::write(lab.path("long"), [&payload[..], &[0]].concat()).unwrap();
    lab.make_dir("dir");
    fs::write(lab.path("bits"), [0xff, 0xf0]).unwrap();
    let url = "http://127.0.0.1:1/announce";
    run(applet("ctorrent").current_dir(lab.path("")).args(["-t", "x.img", "-u", url, "-s", "x.torrent"]));
    lab
}

#[test]
fn each_option_gets_the_namesakes_words_and_exit_code() {
    let theirs = std::env::var_os("CTORRENT");
    for (at, (words, args, code, out, err)) in CASES.iter().enumerate() {
        if theirs.is_some() && *words == Ours {
            continue;
        }
        let lab = lab();
        let mut command = theirs.as_ref().map_or_else(|| applet("ctorrent"), Command::new);
        if theirs.is_none() && out.iter().any(|text| text.contains("Seed") || text.contains("Listening")) {
            // Multicast on loopback would reach the labs of other tests as well.
            command.arg("--no-lsd");
        }
        command.args(args.split_terminator(' ').map(|word| word.replace('+', " "))).current_dir(lab.path(""));
        let output = command.stdin(Stdio::null()).output().expect("run ctorrent");
        let said = (text(&output.stdout).replace('\r', "\n"), text(&output.stderr));
        assert_eq!(output.status.code(), Some(*code), "case {at}: {args}: {said:?}");
        for (said, wanted) in [(&said.0, out), (&said.1, err)] {
            for wanted in *wanted {
                assert!(said.contains(wanted), "case {at}: {args}: no {wanted:?} in:\n{said}");
            }
        }
        assert!(!said.0.contains("Download"), "case {at}: a script takes that for the end of a download");
    }
}

#[test]
fn a_reader_of_the_help_that_goes_away_gets_no_words() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = applet("ctorrent").arg("--help").stdout(writer).output().expect("run ctorrent");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
}
