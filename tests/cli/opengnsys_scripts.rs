//! The scripts of OpenGnsys, in a lab of trees of files: createImage → the swarm → restoreImage.

use std::fs;
use std::path::Path;

use crate::pc::{Pc, error};
use crate::support::{Program, applet, assert_same_file, listens, text, tools};

/// The repository's PC: tracker and seeder of its images, at an address of its own.
pub struct Repo {
    pub pc: Pc,
    pub address: String,
    pub daemons: [Program; 2],
}

impl Repo {
    fn new() -> Repo {
        Repo::on(Pc::new())
    }

    /// Starts the daemons on `pc`.
    pub fn on(pc: Pc) -> Repo {
        let (host, images) = (pc.lab.host(1), pc.images(""));
        let mut tracker = applet("bttrack");
        tracker.args(["--port", "6969", "--bind", &host.to_string(), "--reannounce_interval", "5", "--allow_get", "1"]);
        tracker.arg("--dfile").arg(pc.lab.path("dstate")).arg("--allowed_dir").arg(&images);
        let tracker = pc.lab.start("bttrack", &mut tracker);
        let mut seeder = applet("btlaunchmany");
        let seeder = pc.lab.start("btlaunchmany", seeder.args(["--bind", &pc.lab.host(1).to_string()]).arg(&images));
        listens(std::net::SocketAddrV4::new(host, 6969), 10);
        Repo { pc, address: host.to_string(), daemons: [tracker, seeder] }
    }

    /// Makes the image `Ubuntu` from a file system with a file that depends on `seed`.
    pub fn create(&self, seed: u64) {
        install(&self.pc, seed);
        let mut command = self.pc.command("createImage 1 1 REPO Ubuntu");
        let output = command.env("ogrepo", &self.address).output().expect("run createImage");
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
        assert!(self.pc.images("Ubuntu.img.torrent").is_file());
        assert_holds(&self.pc, &self.pc.lab.path("tree"));
        let md5 = crate::pc::sh(&format!("md5sum < {}", self.pc.images("Ubuntu.img").display()));
        let kept = self.pc.log("opt/opengnsys/images/Ubuntu.img.full.sum");
        assert_eq!(text(&md5.stdout).split(' ').next(), kept.strip_suffix('\n'));
    }
}

/// Puts a file system with a file that depends on `seed` on partition 1 1.
pub fn install(pc: &Pc, seed: u64) {
    let (tree, part) = (pc.lab.make_dir("tree"), pc.lab.path("dev/sda1"));
    crate::support::write_payload(&tree.join("payload"), 6, seed);
    if !part.is_symlink() {
        fs::File::create(&part).and_then(|file| file.set_len(24 << 20)).expect("make a partition");
    }
    crate::pc::sh(&format!("mkfs.ext4 -q -F -d {} {}", tree.display(), part.display()));
}

/// Ends the background processes of a PC's scripts.
pub struct Background<'a>(pub &'a Pc);

impl Background<'_> {
    pub fn processes(&self) -> Vec<(i32, String)> {
        let below = self.0.lab.path("").display().to_string();
        let of = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = text(&fs::read(entry.path().join("cmdline")).ok()?);
            line.contains(&below).then(|| (pid, line.split('\0').next().unwrap_or_default().to_owned()))
        };
        fs::read_dir("/proc").expect("list processes").flatten().filter_map(of).collect()
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        for pid in self.processes().iter().filter_map(|(pid, _)| rustix::process::Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

#[test]
fn a_pc_that_creates_in_its_cache_is_tracker_and_seeder_for_the_others() {
    if !tools(&["mkfs.ext4"]) {
        return;
    }
    let (first, second) = (Pc::new().with_cache(), client());
    install(&first, 3);
    let background = Background(&first);
    let address = first.lab.host(2).to_string();
    for _ in 0..2 {
        let mut create = first.command("createImage 1 1 CACHE aula1/Ubuntu");
        let output = create.env("IPV4ADDR", &address).output().expect("run createImage");
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    }
    let mut names: Vec<String> = background.processes().into_iter().map(|(_, name)| name).collect();
    names.sort();
    assert_eq!(names, ["btlaunchmany", "bttrack"]);
    let mut restore = second.command(&format!("restoreImage {address} aula1/Ubuntu 1 1 TORRENT peer:0"));
    let mut restore = second.lab.start("restoreImage", restore.env("ogrepo", &address));
    assert_eq!(restore.wait(30).code(), Some(0), "{}", restore.said());
    assert_same_file(&first.cached("aula1/Ubuntu.img"), &second.cached("aula1/Ubuntu.img"));
}

/// A PC with an empty partition and an empty cache, without the repository's share.
fn client() -> Pc {
    let pc = Pc::new().with_cache();
    fs::remove_dir_all(pc.images("")).expect("remove the share");
    fs::File::create(pc.lab.path("dev/sda1")).and_then(|file| file.set_len(24 << 20)).expect("make a partition");
    pc
}

fn restore(repo: &Repo, pc: &Pc) -> Program {
    let mut command = pc.command("restoreImage CACHE Ubuntu 1 1 TORRENT peer:1");
    pc.lab.start("restoreImage", command.env("ogrepo", &repo.address))
}

/// Asserts that the partition has the files that the repository's PC installed, and that its file system fills it.
fn assert_restored(repo: &Repo, pc: &Pc) {
    assert_holds(pc, &repo.pc.lab.path("tree"));
}

/// Like [`assert_restored`], for any tree.
pub fn assert_holds(pc: &Pc, tree: &Path) {
    let part = pc.lab.path("dev/sda1");
    crate::pc::sh(&format!(
        "e2fsck -fn {part} > /dev/null; rm -rf {dir}; mkdir {dir}; debugfs -R 'rdump / {dir}' {part} 2> /dev/null; \
         rmdir {dir}/lost+found; diff -r {tree} {dir}; dumpe2fs -h {part} 2> /dev/null | grep -q '^Block count: *24576$'",
        part = part.display(),
        dir = pc.lab.path("restored").display(),
        tree = tree.display(),
    ));
}

#[test]
fn four_pcs_restore_what_one_created_and_its_successor_of_the_same_name() {
    if !tools(&["mkfs.ext4", "e2fsck"]) {
        return;
    }
    let repo = Repo::new();
    repo.create(1);
    let pcs: Vec<Pc> = (0..4).map(|_| client()).collect();
    let mut restores: Vec<Program> = pcs.iter().map(|pc| restore(&repo, pc)).collect();
    for (program, pc) in restores.iter_mut().zip(&pcs) {
        assert_eq!(program.wait(60).code(), Some(0), "{}", program.said());
        assert_same_file(&repo.pc.images("Ubuntu.img"), &pc.cached("Ubuntu.img"));
        assert_restored(&repo, pc);
        let log = pc.log("tmp/session.log");
        assert!(log.contains("[1]") && log.contains("[100] Total process time: "), "{log}");
    }
    repo.create(2);
    assert!(repo.pc.images("Ubuntu.img.ant").is_file() && repo.pc.images("Ubuntu.img.torrent.ant").is_file());
    let mut update = pcs[0].command("updateCache REPO /Ubuntu.img TORRENT peer:0");
    let output = update.env("ogrepo", &repo.address).output().expect("run updateCache");
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_same_file(&repo.pc.images("Ubuntu.img"), &pcs[0].cached("Ubuntu.img"));
    let mut deploy = pcs[1].command("deployImage REPO Ubuntu 1 1 TORRENT peer:0");
    let output = deploy.env("ogrepo", &repo.address).output().expect("run deployImage");
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_restored(&repo, &pcs[1]);
    let again = update.output().expect("run updateCache");
    assert!(text(&again.stdout).contains("FALSE (1)"), "{}", text(&again.stdout));
    let names = |path: &Path| {
        let mut names: Vec<String> = fs::read_dir(path)
            .expect("list the cache")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let kept = ["Ubuntu.img", "Ubuntu.img.full.sum", "Ubuntu.img.sum", "Ubuntu.img.torrent"];
    assert_eq!(names(&pcs[0].cached("")), kept);
    for sum in ["Ubuntu.img.sum", "Ubuntu.img.full.sum"] {
        assert_same_file(&repo.pc.images(sum), &pcs[0].cached(sum));
    }
}

#[test]
fn a_download_that_breaks_off_leaves_no_image_and_goes_on_later_and_the_cache_serves_without_a_server() {
    if !tools(&["mkfs.ext4"]) {
        return;
    }
    let mut repo = Repo::new();
    repo.create(4);
    repo.daemons[1].interrupt();
    let pc = client();
    let mut first = restore(&repo, &pc);
    first.wait_for_line("Listening on", 20);
    assert_eq!(first.interrupt().code(), Some(31), "{}", first.said());
    assert!(first.said().contains("called again, it goes on from "), "{}", first.said());
    assert!(!pc.cached("Ubuntu.img").exists());
    let mut seeder = applet("ctorrent");
    seeder.current_dir(repo.pc.images("")).args(["-f", "Ubuntu.img.torrent"]);
    let _seeder = repo.pc.lab.start("ctorrent", &mut seeder);
    assert_eq!(restore(&repo, &pc).wait(30).code(), Some(0));
    assert_restored(&repo, &pc);
    repo.daemons[0].interrupt();
    fs::File::create(pc.lab.path("dev/sda1")).and_then(|file| file.set_len(24 << 20)).expect("empty the partition");
    let mut again = restore(&repo, &pc);
    assert_eq!(again.wait(30).code(), Some(0), "{}", again.said());
    assert!(again.said().contains("as the cache has it"), "{}", again.said());
    assert_restored(&repo, &pc);
}

#[test]
fn scripts_refuse_what_they_cannot_do_by_opengnsys_numbers() {
    let pc = Pc::new();
    assert_eq!(pc.refused("updateCache REPO /x.img TORRENT peer:1").0, Some(15));
    assert_eq!(pc.refused("restoreImage CACHE x 1 1").0, Some(15));
    assert_eq!(pc.refused("restoreImage REPO x 1 1").0, Some(2));
    assert_eq!(pc.refused("createImage 1 2 REPO x").0, Some(3));
    assert_eq!(pc.refused("createImage 1 1 CACHE x").0, Some(15));
    let pc = pc.with_cache();
    for (line, code) in [
        ("updateCache REPO /x.img", 1),
        ("updateCache REPO /x.img PIGEON", 1),
        ("updateCache REPO /x.img TORRENT peer", 1),
        ("updateCache REPO /x.img TORRENT peer:1", 2),
        ("updateCache REPO /x.img UNICAST", 2),
        ("restoreImage CACHE x 1 1 TORRENT peer:1", 2),
        ("ogTorrentStart REPO /x.img.torrent peer:1", 1),
        ("ogTorrentStart CACHE /x.img.torrent peer:1", 2),
        ("ogTorrentStart CACHE /x.img.torrent peer:60:360", 1),
        ("ogCreateTorrent REPO /x 10.0.0.1", 2),
        ("ogShareTorrent CACHE /x", 2),
        ("ogReceiveTorrent REPO /x", 2),
    ] {
        assert_eq!(pc.refused(line).0, Some(code), "{line}: {}", pc.refused(line).1);
    }
    assert_eq!(
        pc.refused("updateCache REPO /x.img PIGEON"),
        error(
            1,
            "updateCache: Wrong execution format \"PIGEON is not spoken here: TORRENT, UNICAST and MULTICAST are\""
        )
    );
}

#[test]
fn unicast_copies_from_the_share_and_torrents_start_by_hand() {
    let pc = Pc::new().with_cache();
    crate::support::write_payload(&pc.images("aula1/x.img"), 2, 7);
    pc.run("ogCreateTorrent REPO /aula1/x 127.0.0.1");
    assert!(pc.images("aula1/x.img.torrent").is_file());
    let elsewhere = "the share of 10.9.8.7 is not mounted here; TORRENT needs none";
    assert_eq!(
        pc.refused("updateCache 10.9.8.7 /aula1/x.img UNICAST"),
        error(2, &format!("updateCache: File or device not found \"{elsewhere}\""))
    );
    let output = pc.run("updateCache REPO /aula1/x.img UNICAST");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_same_file(&pc.images("aula1/x.img"), &pc.cached("aula1/x.img"));
    fs::copy(pc.images("aula1/x.img.torrent"), pc.cached("aula1/x.img.torrent")).expect("copy the torrent");
    let said = text(&pc.run("ogTorrentStart CACHE /aula1/x.img.torrent peer:0").stdout);
    assert_eq!(said, "imagen ya descargada\n");
}
