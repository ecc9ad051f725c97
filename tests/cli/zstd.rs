//! `zstd`, `unzstd` and `zstdcat` beside the program of that name: what one writes the other reads, and names, texts and
//! exit codes are the same in what scripts do.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::{Lab, applet, assert_same_file, run, text, tools, write_payload};

/// Ours, or with `theirs` the program, in the lab's directory.
fn zstd(lab: &Lab, theirs: bool, line: &str) -> Command {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut command = if theirs { Command::new(name) } else { applet(name) };
    command.args(words).current_dir(lab.path("")).env_remove("ZSTD_CLEVEL");
    command
}

fn piped(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("start a program");
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // It may refuse before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("wait for it");
    writer.join().expect("a writer");
    output
}

#[test]
fn what_one_packs_the_other_expands_through_pipes_as_scripts_do() {
    if !tools(&["zstd"]) {
        return;
    }
    let lab = Lab::new();
    write_payload(&lab.path("noise"), 3, 1);
    let mut data = fs::read(lab.path("noise")).expect("read the payload");
    data.extend(vec![7; 3 << 20]);
    for pack in ["zstd", "zstd -c", "zstd -T0 -1", "zstd -T2 -19 -q -", "zstd --fast -c -", "zstd --threads=2 -5 -z"] {
        for theirs in [false, true] {
            let packed = piped(&mut zstd(&lab, theirs, pack), &data);
            assert!(packed.status.success() && packed.stdout.len() < data.len(), "{pack}: {}", text(&packed.stderr));
            for expand in ["zstd -dc", "zstd -d", "unzstd", "zstdcat", "zstd --decompress --stdout -q"] {
                let plain = piped(&mut zstd(&lab, !theirs, expand), &packed.stdout);
                assert!(plain.status.success() && plain.stdout == data, "{pack}, {expand}: {}", text(&plain.stderr));
                assert_eq!(text(&plain.stderr), "");
            }
        }
    }
    // No bytes at all are a file, too.
    let empty = piped(&mut zstd(&lab, false, "zstd -c"), b"");
    assert!(piped(&mut zstd(&lab, true, "zstd -dc"), &empty.stdout).status.success());
}

/// Command lines after one another, in a directory with the file `a`, each with its exit code, and a part of standard
/// error where the program's texts do not depend on its build.
const LINES: &[(&str, i32, &str)] = &[
    ("zstd a", 0, "a                    :"),
    ("zstd -q a", 1, "zstd: a.zst already exists; not overwritten"),
    ("zstd -f -q a", 0, ""),
    ("zstd -d a.zst -o b", 0, "a.zst               : 300000 bytes \n"),
    ("zstd -t a.zst", 0, "a.zst               : 300000 bytes \n"),
    ("zstd -d a", 1, "a: unknown suffix (.zst/.tzst/.gz/"),
    ("zstd -dc a", 1, "zstd: a: unsupported format"),
    ("zstd nope", 1, "zstd: can't stat nope : No such file or directory -- ignored"),
    ("zstd --foo a", 1, "Incorrect parameters"),
    ("zstd -x a", 1, "Incorrect parameters"),
    ("zstd -20 -f a", 0, "Warning : compression level higher than max, reduced to 19"),
    ("zstd --rm -q b", 0, ""),
    ("unzstd -q b.zst", 0, ""),
    ("zstd -f -k -T2 -19 a -o c.zst", 0, ", c.zst) \n"),
    ("zstd -df --rm c.zst", 0, "c.zst               : 300000 bytes \n"),
    ("zstdcat a", 0, ""),
    ("zstd .", 1, "zstd: . is a directory -- ignored"),
    ("zstd -q nope b -o d", 1, ""),
];

#[test]
fn names_texts_and_exit_codes_are_the_programs() {
    if !tools(&["zstd"]) {
        return;
    }
    let after = [false, true].map(|theirs| {
        let lab = Lab::new();
        fs::write(lab.path("a"), "every line is the same\n".repeat(13_044).split_at(300_000).0).expect("write a file");
        for (line, code, said) in LINES {
            let output = zstd(&lab, theirs, line).stdin(Stdio::null()).output().expect("run a program");
            let told = text(&output.stderr);
            assert!(output.status.code() == Some(*code) && told.contains(said), "{theirs}: {line}: {told}");
        }
        assert_same_file(&lab.path("a"), &lab.path("b"));
        let mut names: Vec<_> = fs::read_dir(lab.path("")).expect("list").map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    });
    assert_eq!(after[0], after[1]);
}

#[test]
fn a_file_keeps_its_time_and_mode_and_damage_is_found() {
    let lab = Lab::new();
    write_payload(&lab.path("a"), 2, 1);
    run(Command::new("sh").arg("-c").arg("chmod 640 a; touch -d @1000000000 a").current_dir(lab.path("")));
    run(&mut zstd(&lab, false, "zstd -q --rm a"));
    assert!(!lab.path("a").exists());
    run(&mut zstd(&lab, false, "zstd -q -d a.zst"));
    let looked = run(Command::new("stat").args(["-c", "%a %Y"]).arg(lab.path("a")));
    assert_eq!(text(&looked.stdout), "640 1000000000\n");
    let mut packed = fs::read(lab.path("a.zst")).expect("read the packed file");
    packed.truncate(packed.len() / 2);
    for damaged in [packed, b"no format at all".to_vec(), Vec::new()] {
        let output = piped(&mut zstd(&lab, false, "zstd -dc"), &damaged);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(text(&output.stderr).starts_with("zstd: "), "{}", text(&output.stderr));
    }
    // As zstdcat does, other formats pass.
    assert_eq!(piped(&mut zstd(&lab, false, "zstdcat"), b"plain").stdout, b"plain");
}
