//! The page on which a PC that was booted by PXE shows its state.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What the page shows of the kernel's command line `words`.
fn shown(words: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let (page, line) = (dir.path().join("status"), dir.path().join("cmdline"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("initramfs/root/www/cgi-bin/status");
    let script = fs::read_to_string(script).expect("read the page");
    fs::write(&line, format!("{words}\n")).expect("write the command line");
    fs::write(&page, script.replace("/proc/cmdline", line.to_str().expect("UTF-8"))).expect("write the page");
    let output = Command::new("sh").arg(page).output().expect("run the page");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, rest) = text.split_once("<pre>").expect("the command line");
    rest.split_once("</pre>").expect("its end").0.trim_end().to_owned()
}

#[test]
fn secrets_of_the_command_line_are_masked() {
    let plain = "quiet ogbox.repo=10.0.0.1 console=ttyS0 ogbox.do=\"ogbox image verify x\" <script>";
    assert_eq!(shown(plain), plain.replace('<', "&lt;"));
    for (words, expected) in [
        ("a ogbox.token=abc1 b", "a ogbox.token=*** b"),
        ("rd.luks.KEY=abc1", "rd.luks.KEY=***"),
        ("x.password=\"abc1 abc2\" b", "x.password=*** b"),
        ("\"my_secret=abc1 abc2\" b", "\"my_secret=***\" b"),
        ("ogbox.do=\"x --token abc1 --passwd=abc2 y\"", "ogbox.do=\"x --token *** --passwd=*** y\""),
        ("ogbox.do=\"x -H 'Authorization: Bearer abc1'\"", "ogbox.do=\"x -H 'Authorization: Bearer ***'\""),
        ("root=http://u:abc1@host/x", "root=http://***@host/x"),
    ] {
        assert_eq!(shown(words), expected);
    }
}
