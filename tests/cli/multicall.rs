//! One binary, many names: how a name selects the applet, and the message if none fits.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{Lab, binary, run, text};

fn ogbox(args: &[&str]) -> Output {
    Command::new(binary()).args(args).stdin(Stdio::null()).output().expect("run ogbox")
}

/// The applets' names, as `ogbox --list` prints them.
fn names() -> Vec<String> {
    let names: Vec<String> =
        text(&run(Command::new(binary()).arg("--list")).stdout).lines().map(str::to_owned).collect();
    assert!(names.iter().any(|name| name == "image"), "{names:?}");
    names
}

#[test]
fn ogbox_alone_lists_each_applet_with_one_line() {
    let listing = ogbox(&[]);
    assert!(listing.status.success());
    let said = text(&listing.stdout);
    for name in names() {
        let lines = said.lines().filter(|line| line.split_whitespace().next() == Some(&name));
        let summaries: Vec<&str> = lines.map(|line| line.trim_start()[name.len()..].trim()).collect();
        assert!(matches!(summaries[..], [summary] if !summary.is_empty()), "{name}: {summaries:?}");
    }
}

#[test]
fn version_is_that_of_the_package() {
    let version = ogbox(&["--version"]);
    assert!(version.status.success());
    assert_eq!(text(&version.stdout), format!("ogbox {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_name_is_one_clear_line_and_exit_127() {
    let unknown = ogbox(&["bttrak", "--port", "6969"]);
    assert_eq!(unknown.status.code(), Some(127));
    assert_eq!(text(&unknown.stderr), "ogbox: bttrak: applet not found (`ogbox` lists them)\n");
    assert_eq!(text(&unknown.stdout), "");
}

#[test]
fn a_link_runs_the_applet_of_its_name() {
    let lab = Lab::new();
    for name in names() {
        let link = lab.path(&name);
        std::os::unix::fs::symlink(binary(), &link).expect("link an applet");
        let linked = Command::new(&link).arg("--help").output().expect("run a link");
        let named = ogbox(&[&name, "--help"]);
        assert_eq!(
            (linked.status.code(), &linked.stdout, &linked.stderr),
            (named.status.code(), &named.stdout, &named.stderr)
        );
        assert_ne!(linked.status.code(), Some(127), "{name}");
    }
}

#[test]
fn a_link_of_another_name_runs_nothing() {
    let lab = Lab::new();
    let link = lab.path("stray");
    std::os::unix::fs::symlink(binary(), &link).expect("link the binary");
    let stray = Command::new(&link).args(["image", "--help"]).output().expect("run a link");
    assert_eq!(stray.status.code(), Some(127));
    assert_eq!(text(&stray.stderr), "ogbox: stray: applet not found (`ogbox` lists them)\n");
}

/// Installs into a fresh directory and returns the lab that holds it.
fn install(flags: &[&str]) -> Lab {
    let lab = Lab::new();
    let dir = lab.make_dir("bin");
    let installed = run(Command::new(binary()).arg("--install").args(flags).arg(&dir));
    let lines: Vec<String> = names().iter().map(|name| dir.join(name).display().to_string()).collect();
    assert_eq!(text(&installed.stdout).lines().collect::<Vec<_>>(), lines);
    let again = run(Command::new(binary()).arg("--install").args(flags).arg(&dir));
    assert_eq!(text(&again.stdout), "", "links that are there already are left as they are");
    lab
}

#[test]
fn install_makes_a_hard_link_for_each_applet() {
    let lab = install(&[]);
    let inode = |path: &Path| fs::metadata(path).expect("look at a link").ino();
    for name in names() {
        let link = lab.path("bin").join(name);
        assert!(!link.is_symlink());
        assert_eq!(inode(&link), inode(binary()));
    }
}

#[test]
fn install_s_makes_a_symbolic_link_for_each_applet() {
    let lab = install(&["-s"]);
    for name in names() {
        assert_eq!(fs::read_link(lab.path("bin").join(name)).expect("read a link"), binary());
    }
}

#[test]
fn install_names_the_link_it_could_not_make() {
    let lab = Lab::new();
    let nowhere = lab.path("nowhere");
    let failed = ogbox(&["--install", nowhere.to_str().expect("a path in UTF-8")]);
    assert_eq!(failed.status.code(), Some(1));
    let first = nowhere.join(&names()[0]);
    assert_eq!(
        text(&failed.stderr),
        format!("ogbox: link {}: No such file or directory (os error 2)\n", first.display())
    );
    assert!(!nowhere.exists());
    assert_eq!(ogbox(&["--install"]).status.code(), Some(1));
}

#[test]
fn a_reader_that_went_away_is_no_error_worth_a_line() {
    // The same as `ogbox | head -1`, without the chance that head lives long enough to read it all.
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    drop(reader);
    let mut child = Command::new(binary()).stdout(writer).stderr(Stdio::piped()).spawn().expect("run ogbox");
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("read standard error");
    assert_eq!(said, "");
    assert_eq!(child.wait().expect("wait for ogbox").code(), Some(1));
}

#[test]
fn an_argument_that_is_not_utf8_is_named_and_refused() {
    let refused =
        Command::new(binary()).arg("image").arg(OsStr::from_bytes(b"caf\xe9.img")).output().expect("run ogbox");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stderr), "ogbox: argument 2 is not UTF-8: caf\u{fffd}.img\n");
}

#[test]
fn the_readme_has_the_applets_that_ogbox_lists() {
    let (_, section) = include_str!("../../README.md").split_once("\n## Applets\n").expect("a section of applets");
    let section = section.lines().take_while(|line| !line.starts_with("## "));
    // A row may name several applets, in backticks in its first column.
    let rows = section.filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut table: Vec<&str> =
        rows.flat_map(|names| names.split('`').filter(|name| !name.is_empty() && *name != ", ")).collect();
    table.sort();
    assert_eq!(table, names());
}
