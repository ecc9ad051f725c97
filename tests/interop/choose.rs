//! Some files of a torrent (`ctorrent -n`), fetched by our and by Debian's ctorrent, each of which seeds to the
//! other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::{Tracker, our_ctorrent, settle};
use crate::support::{Lab, Program, applet, assert_same_file, run, tools, write_payload};

/// Time limit of one download, seconds: Debian's ctorrent reviews its unchokes every 10 seconds.
const PATIENCE: u64 = 60;
/// The chosen files, by number: `c` before `a`.
const LIST: &str = "3,1";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Starts `program` on host `n`, to fetch the chosen files into a directory of its own or to seed `whole`.
fn start(lab: &Lab, n: u8, mut program: Command, torrent: &Path, whole: Option<&Path>) -> (Program, PathBuf) {
    let own = settle(lab, n, &mut program, torrent);
    let dir = whole.map_or(own.join("files"), Path::to_owned);
    program.args(["-e", "1", "-s"]).arg(&dir);
    if whole.is_none() {
        program.args(["-n", LIST]);
    }
    (lab.start(&format!("peer-{n}"), program.arg("torrent")), dir)
}

#[test]
fn what_is_chosen_comes_from_whoever_chose_the_same() {
    if !tools(&["ctorrent"]) {
        return;
    }
    let lab = Lab::new();
    let whole = lab.make_dir("whole");
    for (name, seed) in NAMES.iter().zip(80..) {
        write_payload(&whole.join(name), 2, seed);
        let file = fs::File::options().write(true).open(whole.join(name)).expect("open a file");
        file.set_len(1_000_000 + seed).expect("cut a file");
    }
    let torrent = lab.make_dir("images").join("x.torrent");
    let tracker = Tracker::planned(&lab);
    run(applet("ctorrent").arg("-t").arg(&whole).args(["-l", "65536", "-u", &tracker.url, "-s"]).arg(&torrent));
    let _bttrack = tracker.bttrack(&lab, &lab.path("images"));
    let complete = |peer: &mut Program, dir: &Path| {
        peer.wait_for_line("Download complete.", PATIENCE);
        let said = peer.said();
        let lines = said.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty());
        let told: Vec<&str> = lines
            .filter(|line| ["Downloading", "Pieces:", "End of download"].iter().any(|word| line.starts_with(word)))
            .collect();
        assert_same_file(&whole.join("a"), &dir.join("a"));
        assert_same_file(&whole.join("c"), &dir.join("c"));
        told.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut seeder, _) = start(&lab, 2, our_ctorrent(), &torrent, Some(&whole));
    seeder.wait_for_line("Seed for others", PATIENCE);
    let (mut first, first_dir) = start(&lab, 3, our_ctorrent(), &torrent, None);
    let told = complete(&mut first, &first_dir);
    assert!(seeder.interrupt().success());

    let (mut theirs, their_dir) = start(&lab, 4, Command::new("ctorrent"), &torrent, None);
    let told_by_theirs = complete(&mut theirs, &their_dir);
    assert_eq!(told, told_by_theirs);
    assert!(first.interrupt().success());

    let (mut second, second_dir) = start(&lab, 5, our_ctorrent(), &torrent, None);
    complete(&mut second, &second_dir);
}
