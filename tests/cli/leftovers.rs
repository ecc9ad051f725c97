//! What killed programs leave of files under way: never under the file's own name, and gone at the next start.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::support::{Lab, applet, assert_same_file, binary, eventually, free_port, run, text, write_payload};

/// Seconds until something is given up.
const PATIENCE: u64 = 30;

fn image(words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["image", words[0], "--progress", "none"]).args(&words[1..]);
    command
}

/// The files under way in `directory`.
fn under_way(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("read a directory").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "ogbox-part")).collect()
}

/// A payload of some MiB, and an empty directory.
fn scene(mib: usize) -> (Lab, PathBuf, PathBuf) {
    let lab = Lab::new();
    let (source, directory) = (lab.path("source"), lab.make_dir("images"));
    write_payload(&source, mib, 1);
    (lab, source, directory)
}

/// Saves `source` as `to` until the file is under way, and kills that; returns the file that is left.
fn save_killed(lab: &Lab, source: &Path, to: &Path) -> PathBuf {
    let slow = ["save", "--raw", "-c", "zstd:19", "-o"];
    let mut save = lab.start("save", image(&slow).arg(to).arg(source));
    let directory = to.parent().expect("a directory");
    eventually("the image is under way", PATIENCE, || !under_way(directory).is_empty());
    save.signal(Signal::KILL);
    save.wait(PATIENCE);
    assert!(!to.exists());
    under_way(directory).pop().expect("a file under way")
}

#[test]
fn a_killed_saves_file_is_told_of_and_removed_by_the_next_one_and_one_that_is_being_written_stays() {
    let (lab, source, directory) = scene(64);
    let (to, other) = (directory.join("x.img"), directory.join("y.img"));
    let left = save_killed(&lab, &source, &to);
    let slow = ["save", "--raw", "-c", "zstd:19", "-o"];
    let mut beside = lab.start("beside", image(&slow).arg(&to).arg(&source));
    eventually("another is under way", PATIENCE, || under_way(&directory) != [left.clone()]);
    assert!(!left.exists());
    let removed = format!("ogbox image: removed {}: ", left.display());
    assert!(beside.said().contains(&removed), "{}", beside.said());
    let output = run(image(&["save", "--raw", "-c", "none", "-o"]).arg(&to).arg(&source));
    assert!(!text(&output.stderr).contains("removed "), "{}", text(&output.stderr));
    assert!(beside.runs() && under_way(&directory).len() == 1, "what is being written stays");
    assert!(to.exists() && !other.exists());
    assert_eq!(beside.interrupt().code(), Some(130));
    assert!(under_way(&directory).is_empty());
}

#[test]
fn a_restore_to_a_new_file_gives_it_its_name_once_it_is_whole() {
    let (lab, source, directory) = scene(24);
    let (saved, to) = (lab.path("saved"), directory.join("disk"));
    run(image(&["save", "--raw", "-c", "none", "-o"]).arg(&saved).arg(&source));
    let bytes = fs::read(&saved).expect("read the image");
    let mut command = image(&["restore", "-"]);
    let mut restore = command.arg(&to).stdin(Stdio::piped()).spawn().expect("start a restore");
    let mut stdin = restore.stdin.take().expect("its input");
    stdin.write_all(&bytes[..bytes.len() / 2]).expect("pass half of the image");
    eventually("the target is under way", PATIENCE, || !under_way(&directory).is_empty());
    assert!(!to.exists());
    restore.kill().expect("kill it");
    restore.wait().expect("wait for it");
    let left = under_way(&directory);
    assert!(left.len() == 1 && !to.exists());

    let output = run(image(&["restore"]).arg(&saved).arg(&to));
    let removed = format!("ogbox image restore: removed {}: ", left[0].display());
    assert!(text(&output.stderr).contains(&removed), "{}", text(&output.stderr));
    assert_same_file(&source, &to);
    assert!(under_way(&directory).is_empty());
}

#[test]
fn btlaunchmany_tells_of_what_killed_programs_left_and_removes_it_where_it_may_write() {
    let (lab, source, directory) = scene(64);
    let left = save_killed(&lab, &source, &directory.join("x.img"));
    // Of another machine, as far as its name says.
    let name = left.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let digit = if name.starts_with(".x.img.0") { "1" } else { "0" };
    let foreign = directory.join(format!(".x.img.{digit}{}", &name[".x.img.0".len()..]));
    File::create(&foreign).expect("make a file");
    for (words, removes) in [(&[][..], false), (&["--create", "1", "--announce", "http://127.0.0.1:1/announce"], true)]
    {
        let (host, port) = (lab.host(1), free_port(lab.host(1)).to_string());
        let mut command = applet("btlaunchmany");
        command.arg(&directory).args(["--bind", &host.to_string(), "--minport", &port, "--maxport", &port]);
        let mut server = lab.start("btlaunchmany", command.args(["--lsd", "0"]).args(words));
        let doubt = |path: &Path| format!("{} has ", path.display());
        server.wait_for_line(&doubt(&foreign), PATIENCE);
        server.wait_for_line(&if removes { format!("removed {}", left.display()) } else { doubt(&left) }, PATIENCE);
        assert!(server.interrupt().success());
        assert_eq!((left.exists(), foreign.exists()), (!removes, true));
    }
}
