//! `scripts/setup` on a machine that lacks a package, with stand-ins for the commands that would change this one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Lab, text};

/// A PATH of this machine's commands without lzop, with an apt-get that records its arguments and installs lzop.
fn machine_without_lzop(lab: &Lab) -> std::path::PathBuf {
    let bin = lab.make_dir("bin");
    for entry in fs::read_dir("/usr/bin").expect("list /usr/bin").flatten() {
        let name = entry.file_name();
        if !["lzop", "apt-get", "sudo", "id"].iter().any(|other| name == *other) {
            symlink(entry.path(), bin.join(&name)).expect("link a command");
        }
    }
    script(
        &bin.join("apt-get"),
        &format!(
            "echo \"$*\" >>{}\ncase $* in *install*) ln -s /usr/bin/lzop {};; esac",
            lab.path("asked").display(),
            bin.join("lzop").display()
        ),
    );
    script(&bin.join("id"), "echo 0");
    bin
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("write a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make a script run");
}

fn setup(bin: &Path, what: &str) -> Output {
    let mut setup = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/setup"));
    // cargo gives its children a toolchain of its own, but setup should find the one of a user's shell.
    setup.arg(what).env("PATH", bin).env_remove("RUSTUP_TOOLCHAIN").output().expect("run scripts/setup")
}

#[test]
fn setup_installs_what_is_missing_and_nothing_twice() {
    let lab = Lab::new();
    let bin = machine_without_lzop(&lab);
    let first = setup(&bin, "test");
    assert!(first.status.success(), "{}{}", text(&first.stdout), text(&first.stderr));
    assert_eq!(text(&first.stdout), "setup: installing with apt-get: lzop\nsetup: done\n");
    let asked = fs::read_to_string(lab.path("asked")).expect("what apt-get was asked for");
    assert_eq!(asked, "-qq update\n-qq -y --no-install-recommends install lzop\n");

    let second = setup(&bin, "test");
    assert!(second.status.success());
    assert_eq!((text(&second.stdout), text(&second.stderr)), (String::new(), String::new()));
    assert_eq!(fs::read_to_string(lab.path("asked")).expect("what apt-get was asked for"), asked);
}

#[test]
fn setup_for_the_demo_wants_nothing_of_the_tests() {
    let lab = Lab::new();
    let bin = machine_without_lzop(&lab);
    assert!(setup(&bin, "demo").status.success());
    assert!(!lab.path("asked").exists());
}

#[test]
fn setup_without_root_or_sudo_says_what_to_do() {
    let lab = Lab::new();
    let bin = machine_without_lzop(&lab);
    script(&bin.join("id"), "echo 1000");
    let refused = setup(&bin, "test");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stderr), "setup: missing: lzop. Run `scripts/setup test` as root, or install sudo\n");
    assert!(!lab.path("asked").exists());
}
