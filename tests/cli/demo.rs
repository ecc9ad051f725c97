//! The demo, small: it keeps its promises, and interrupting it at any moment leaves nothing behind.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::{Lab, Program, binary, eventually, tools};

/// Bytes of the files that take part; a tenth of those of `make demo`.
const CONTENT: &str = "30000000";

/// Starts the demo in a lab, as the leader of a process group as a shell would; also returns its working directory.
fn start(lab: &Lab, name: &str) -> (Program, PathBuf) {
    let work = lab.make_dir(&format!("{name}.work"));
    let mut demo = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo"));
    demo.arg(binary()).arg(CONTENT).env("TMPDIR", &work);
    std::os::unix::process::CommandExt::process_group(&mut demo, 0);
    (lab.start(name, &mut demo), work)
}

/// Processes that work in `work`: all that inherited the demo's TMPDIR.
fn processes_in(work: &Path) -> HashSet<String> {
    let mark = format!("TMPDIR={}", work.display());
    let inherited = |pid: &String| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()))
    };
    let entries = fs::read_dir("/proc").expect("list the processes").flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(inherited).collect()
}

fn assert_nothing_is_left(work: &Path) {
    let left: Vec<PathBuf> = fs::read_dir(work).expect("list the work").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert_eq!(processes_in(work), HashSet::new());
}

#[test]
fn the_demo_takes_the_whole_way_in_little_memory() {
    if !tools(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let lab = Lab::new();
    let (mut demo, work) = start(&lab, "demo");
    let status = demo.wait(120);
    let said = demo.said();
    assert!(status.success(), "{status}\n{said}");
    for step in ["all four are clean and whole", "all of it", "times the image; the peers had the rest"] {
        assert!(said.contains(step), "no `{step}` in\n{said}");
    }
    let memory = said.lines().find_map(|line| line.strip_prefix("Largest resident set in MiB: ")).expect("its memory");
    let mut programs = Vec::new();
    for part in memory.split(", ") {
        let (program, mib) = part.rsplit_once(' ').expect("a program and its MiB");
        assert!(mib.parse::<f64>().expect("a number") < 64.0, "{part} MiB");
        programs.push(program);
    }
    assert_eq!(programs, ["btlaunchmany", "bttrack", "ctorrent", "image restore", "image save"]);
    assert_nothing_is_left(&work);
}

#[test]
fn ctrl_c_at_any_moment_leaves_no_process_and_no_file() {
    if !tools(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    // The demo's last line, and how many milliseconds after it the demo is interrupted.
    let moments = [
        ("", 0),
        ("", 20),
        ("A file system's way", 0),
        ("A file system's way", 150),
        ("gather files", 10),
        ("make an ext4", 30),
        ("describe the image", 0),
        ("start the tracker", 0),
        ("start the tracker", 60),
        ("fetch it", 5),
        ("stop the swarm", 60),
        ("restore the four", 40),
    ];
    let lab = Lab::new();
    for (at, (line, milliseconds)) in moments.into_iter().enumerate() {
        let (mut demo, work) = start(&lab, &format!("demo-{at}"));
        eventually(&format!("the demo says `{line}`"), 60, || demo.said().contains(line));
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill_process_group(Pid::from_raw(demo.id() as i32).expect("a process id"), Signal::INT)
            .expect("interrupt the demo");
        let status = demo.wait(20);
        assert_ne!(status.code(), Some(0), "ended whole before `{line}` + {milliseconds} ms: {}", demo.said());
        assert_nothing_is_left(&work);
    }
}
