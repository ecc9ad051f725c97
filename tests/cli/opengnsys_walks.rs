//! What happened when a lab was walked through by hand: images created anew while they are fetched, commands killed in the
//! middle or started at once, a share that has gone away, multicast between two networks, and OpenGnsys 3's images.

use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::opengnsys_lab::{done, pc};
use crate::opengnsys_scripts::{Repo, assert_holds, install};
use crate::pc::{Pc, refusal, sh};
use crate::support::{Program, applet, assert_same_file, binary, eventually, listens, run, text, tools, write_payload};

/// The names in `dir`, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A repository's PC whose seeder sends so many KiB a second.
fn slow_repo(rate: u32) -> Repo {
    let mut repo = Repo::on(Pc::new());
    repo.daemons[1].interrupt();
    let mut seeder = applet("btlaunchmany");
    seeder.args(["--bind", &repo.address, "--max_upload_rate", &rate.to_string()]).arg(repo.pc.images(""));
    repo.daemons[1] = repo.pc.lab.start("btlaunchmany", &mut seeder);
    repo
}

/// Creates `x.img` of 8 MiB and its torrent; those with other `seed`s differ in the last 2 MiB.
fn create(repo: &Repo, seed: u64) {
    let image = repo.pc.lab.path("new");
    write_payload(&image, 8, 1);
    let end = repo.pc.lab.path("end");
    write_payload(&end, 2, seed);
    sh(&format!("dd if={} of={} bs=1M seek=6 conv=notrunc status=none", end.display(), image.display()));
    let _ = fs::remove_file(repo.pc.images("x.img.torrent"));
    fs::rename(&image, repo.pc.images("x.img")).expect("replace the image");
    done(&repo.pc, &repo.address, &format!("ogCreateTorrent REPO /x {}", repo.address));
}

#[test]
fn an_image_created_anew_while_pcs_fetch_it_is_the_one_they_end_with() {
    let repo = slow_repo(700);
    create(&repo, 2);
    // With the share, without it, and with the engine's own way of a torrent in the cache.
    let pcs: Vec<Pc> = (0..3).map(|_| Pc::new().with_cache()).collect();
    for pc in &pcs {
        fs::remove_dir_all(pc.images("")).expect("remove the images");
    }
    std::os::unix::fs::symlink(repo.pc.images(""), pcs[0].lab.path("opt/opengnsys/images")).expect("mount the share");
    fs::copy(repo.pc.images("x.img.torrent"), pcs[2].cached("x.img.torrent")).expect("copy the torrent");
    let update = "updateCache REPO /x.img TORRENT peer:0";
    let lines = [update, update, "ogTorrentStart CACHE /x.img.torrent peer:0"];
    let start = |(pc, line): (&Pc, &str)| {
        let mut command = pc.command(line);
        pc.lab.start("fetch", command.env("ogrepo", &repo.address).env("OGBOX_STALL", "60"))
    };
    let mut programs: Vec<Program> = pcs.iter().zip(lines).map(start).collect();
    let blocks = |pc: &Pc, name: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(pc.cached(name)).map_or(0, |file| file.blocks())
    };
    let parts = ["x.img.part", "x.img.part", "x.img"];
    eventually("each has something", 30, || pcs.iter().zip(parts).all(|(pc, part)| blocks(pc, part) > 1024));
    create(&repo, 3);
    for (program, pc) in programs.iter_mut().zip(&pcs) {
        assert_eq!(program.wait(90).code(), Some(0), "{}", program.said());
        let said = program.said();
        assert_same_file(&repo.pc.images("x.img"), &pc.cached("x.img"));
        assert_same_file(&repo.pc.images("x.img.torrent"), &pc.cached("x.img.torrent"));
        // Of the new one's 32 pieces those are here already that had come of the old one and are the same.
        let (_, after) = said.split_once("created anew meanwhile: going on with the new one").expect("a warning");
        let kept = after.lines().find_map(|line| line.strip_prefix("<1> ")?.split_once("] ")?.1.split('/').next());
        let kept: u32 = kept.and_then(|kept| kept.parse().ok()).expect("how much is here");
        assert!((1..=24).contains(&kept), "{said}");
        let left: Vec<String> = names(&pc.cached("")).into_iter().filter(|name| name.contains(".part")).collect();
        assert_eq!(left, [""; 0]);
    }
}

#[test]
fn what_a_killed_command_left_in_the_cache_goes_with_the_next_and_what_it_lacked_comes() {
    let pc = Pc::new().with_cache();
    write_payload(&pc.images("x.img"), 96, 1);
    done(&pc, "127.0.0.1", "ogCreateTorrent REPO /x 127.0.0.1");
    let mut first = pc.lab.start("updateCache", &mut pc.command("updateCache REPO /x.img UNICAST"));
    let under_way = || names(&pc.cached("")).iter().any(|name| name.ends_with(".ogbox-part"));
    eventually("a copy is under way", 20, under_way);
    first.signal(Signal::KILL);
    first.wait(10);
    assert!(under_way() && pc.cached("x.img.lock").exists());
    let said = done(&pc, "127.0.0.1", "updateCache REPO /x.img UNICAST");
    assert!(said.contains("removed ") && said.contains(".ogbox-part"), "{said}");
    let whole = ["x.img", "x.img.full.sum", "x.img.sum"];
    assert_eq!(names(&pc.cached("")), whole);
    assert_same_file(&pc.images("x.img"), &pc.cached("x.img"));
    // Killed behind the download, before the checksums.
    fs::copy(pc.images("x.img.torrent"), pc.cached("x.img.torrent")).expect("bring the torrent");
    fs::remove_file(pc.cached("x.img.full.sum")).expect("remove a checksum");
    fs::write(pc.cached("x.img.lock"), "ogbox\n").expect("leave a lock");
    fs::write(pc.cached("x.img.torrent.journal"), "").expect("leave a journal");
    assert!(done(&pc, "127.0.0.1", "updateCache REPO /x.img TORRENT peer:0").contains("FALSE (1)"));
    assert_eq!(names(&pc.cached("")), ["x.img", "x.img.full.sum", "x.img.sum", "x.img.torrent"]);
}

#[test]
fn commands_that_start_at_once_mount_the_cache_together() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let pc = pc("label");
    for _ in 0..5 {
        let commands: Vec<_> =
            (0..6).map(|_| pc.command("ogMountCache").spawn().expect("start ogMountCache")).collect();
        let codes: Vec<Option<i32>> =
            commands.into_iter().map(|mut command| command.wait().expect("wait for it").code()).collect();
        assert_eq!(codes, [Some(0); 6]);
        while pc.run("ogUnmountCache").status.success()
            && sh_holds(&format!("grep -q {} /proc/mounts", pc.lab.path("").display()))
        {}
    }
}

fn sh_holds(script: &str) -> bool {
    Command::new("sh").args(["-c", script]).status().expect("run a shell").success()
}

#[test]
fn a_torrent_in_the_cache_is_started_by_the_caches_numbers_as_well() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let pc = pc("label");
    pc.told("ogMountCache");
    fs::create_dir_all(pc.cached("")).expect("make the cache's images");
    write_payload(&pc.cached("x.img"), 2, 1);
    done(&pc, "", "ogCreateTorrent 1 4 /opt/opengnsys/images/x 127.0.0.1");
    let said = done(&pc, "", "ogTorrentStart 1 4 /opt/opengnsys/images/x.img.torrent seeder:0");
    assert!(said.starts_with("imagen ya descargada\nMODE seeder ctorrent\n"), "{said}");
    // A link of the cache's into the repository is the repository's.
    fs::copy(pc.cached("x.img.torrent"), pc.images("y.img.torrent")).expect("make a torrent");
    std::os::unix::fs::symlink(pc.images("y.img.torrent"), pc.cached("y.img.torrent")).expect("link it");
    let (code, why) = pc.refused("ogTorrentStart CACHE /y.img.torrent seeder:0");
    assert!(code == Some(1) && why.contains("copy the torrent to the cache first"), "{why}");
}

#[test]
fn an_image_that_the_cache_has_is_restored_without_waiting_and_one_that_nobody_has_is_told_as_that() {
    if !tools(&["mkfs.ext4", "e2fsck", "debugfs"]) {
        return;
    }
    let repo = Repo::on(Pc::new());
    repo.create(5);
    let pc = Pc::new().with_cache();
    fs::remove_dir_all(pc.images("")).expect("remove the images");
    std::os::unix::fs::symlink(repo.pc.images(""), pc.lab.path("opt/opengnsys/images")).expect("mount the share");
    fs::File::create(pc.lab.path("dev/sda1")).and_then(|file| file.set_len(24 << 20)).expect("make a partition");
    done(&pc, &repo.address, "updateCache REPO /Ubuntu.img TORRENT peer:0");
    let begun = Instant::now();
    done(&pc, &repo.address, "restoreImage CACHE Ubuntu 1 1 TORRENT peer:60");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_holds(&pc, &repo.pc.lab.path("tree"));
    let ask = |line: &str| {
        let output = pc.command(line).env("ogrepo", &repo.address).output().expect("run an applet");
        refusal(&output)
    };
    let (code, why) = ask("updateCache REPO /none.img TORRENT peer:0");
    assert!(code == Some(2) && why.contains("\"REPO /none.img: the repository has no such image; http://"), "{why}");
    // A share that has gone away is another matter.
    fs::remove_file(pc.lab.path("opt/opengnsys/images")).expect("unmount the share");
    let (code, why) = ask("updateCache REPO /Ubuntu.img UNICAST");
    assert!(code == Some(2) && why.contains("\"REPO /Ubuntu.img: read ") && why.contains("No such file"), "{why}");
}

#[test]
fn the_engines_own_call_of_ctorrent_leaves_no_journal() {
    let repo = slow_repo(0);
    create(&repo, 2);
    let pc = Pc::new().with_cache();
    fs::copy(repo.pc.images("x.img.torrent"), pc.cached("x.img.torrent")).expect("copy the torrent");
    let mut ctorrent = applet("ctorrent");
    ctorrent.current_dir(pc.cached("")).args(["-f", "-c", "-X", "kill -2 $PPID", "-C", "100", "x.img.torrent"]);
    ctorrent.args(["-s", "x.img", "-b", "x.img.torrent.bfog", "-e", "0"]);
    let mut program = pc.lab.start("ctorrent", &mut ctorrent);
    assert!(program.wait(30).success(), "{}", program.said());
    assert_same_file(&repo.pc.images("x.img"), &pc.cached("x.img"));
    assert_eq!(names(&pc.cached("")), ["x.img", "x.img.torrent"]);
}

/// Two PCs in network namespaces of their own on one switch with the repository, which accepts START_MULTICAST as
/// OpenGnsys' does.
const ROOM: &str = "set -e
    ip link set lo up; mkdir -p /run/netns; mount -t tmpfs none /run/netns
    ip link add name lan type bridge mcast_snooping 0; ip link set lan up; ip address add 10.98.0.1/24 dev lan
    ip route add 224.0.0.0/4 dev lan
    for n in 2 3; do
        ip netns add pc$n; ip link add v$n type veth peer name eth0 netns pc$n; ip link set v$n master lan up
        ip -n pc$n link set lo up; ip -n pc$n link set eth0 up; ip -n pc$n address add 10.98.0.$n/24 dev eth0
        ip -n pc$n route add default via 10.98.0.1
    done
    OGBOX_ROOT=$SERVER socat -u TCP-LISTEN:2009,bind=10.98.0.1,fork,reuseaddr EXEC:'sh served' & socat=$!
    export ogrepo=10.98.0.1
    update() { OGBOX_ROOT=$2 IPV4ADDR=10.98.0.$1 ip netns exec pc$1 updateCache REPO /x.img MULTICAST $SESSION; }
    update 2 $FIRST >first 2>&1 & first=$!
    update 3 $SECOND >second 2>&1 || { cat second sent; exit 1; }
    wait $first || { cat first sent; exit 1; }
    kill $socat";

#[test]
fn two_pcs_in_other_networks_get_an_image_by_multicast() {
    if !tools(&["unshare", "ip", "udp-sender", "udp-receiver", "socat"]) {
        return;
    }
    let server = Pc::new();
    write_payload(&server.images("x.img"), 12, 1);
    let pcs: Vec<Pc> = (0..2).map(|_| Pc::new().with_cache()).collect();
    for pc in &pcs {
        fs::remove_dir_all(pc.images("")).expect("remove the images");
        std::os::unix::fs::symlink(server.images(""), pc.lab.path("opt/opengnsys/images")).expect("mount the share");
    }
    let bin = server.lab.make_dir("bin");
    run(Command::new(binary()).args(["--install", "-s"]).arg(&bin));
    // The second request finds the port taken, as with OpenGnsys.
    let served = "read -r word file session; test \"$word\" = START_MULTICAST && \
                  { setsid ogMcastSendFile REPO $file $session >> sent 2>&1 & }";
    fs::write(server.lab.path("served"), served).expect("write a script");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["bash", "-c", ROOM]).current_dir(server.lab.path(""));
    command.env("PATH", format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", bin.display()));
    command.env("SESSION", "9010:full-duplex:239.194.18.1:90M:2:60").env("SERVER", server.lab.path(""));
    run(command.env("FIRST", pcs[0].lab.path("")).env("SECOND", pcs[1].lab.path("")));
    for pc in &pcs {
        assert_same_file(&server.images("x.img"), &pc.cached("x.img"));
        assert_eq!(names(&pc.cached("")), ["x.img", "x.img.full.sum", "x.img.sum"]);
    }
}

/// A repository of OpenGnsys 3 on `pc`: its own directory, tracker and seeder by its command lines.
fn third(pc: &Pc) -> (PathBuf, [Program; 2]) {
    let images = pc.lab.make_dir("opt/opengnsys/ogrepository/images");
    let host = pc.lab.host(1);
    let mut tracker = applet("bttrack");
    tracker.args(["--port", "6969", "--bind", &host.to_string(), "--reannounce_interval", "30", "--allow_get", "1"]);
    tracker.args(["--parse_allowed_interval", "1", "--dfile"]).arg(pc.lab.path("dstate"));
    let tracker = pc.lab.start("bttrack", tracker.arg("--allowed_dir").arg(&images));
    let mut seeder = applet("btlaunchmany");
    seeder.args(["--bind", &host.to_string(), "--parse_dir_interval", "60", "--create", "1", "--announce"]);
    seeder.arg(format!("http://{host}:6969/announce")).arg(&images);
    let seeder = pc.lab.start("btlaunchmany", &mut seeder);
    listens(SocketAddrV4::new(host, 6969), 10);
    (images, [tracker, seeder])
}

#[test]
fn an_image_of_opengnsys_3_is_described_fetched_restored_and_renewed_by_its_own_name() {
    if !tools(&["mkfs.ext4", "e2fsck", "debugfs", "zstd"]) {
        return;
    }
    let server = Pc::new();
    install(&server, 61);
    let (images, _daemons) = third(&server);
    let address = server.lab.host(1).to_string();
    // Made by partclone and zstd, as far as anybody can tell.
    sh(&format!(
        "{} image save --force -c none {} | zstd -q -o {}",
        binary().display(),
        server.lab.path("dev/sda1").display(),
        images.join("win.img.zst").display()
    ));
    fs::write(images.join("win.img.zst.info.checked"), "theirs").expect("write what is theirs");
    let beside = ["", ".full.sum", ".info.checked", ".size", ".sum", ".torrent"].map(|end| format!("win.img.zst{end}"));
    eventually("it is described", 30, || names(&images) == beside);
    let length = fs::metadata(images.join("win.img.zst")).expect("look at the image").len();
    assert_eq!(fs::read_to_string(images.join("win.img.zst.size")).expect("its size"), format!("{length}\n"));

    // Without the share, by the name that scripts give.
    let pc = Pc::new().with_cache();
    fs::remove_dir_all(pc.images("")).expect("remove the share");
    fs::File::create(pc.lab.path("dev/sda1")).and_then(|file| file.set_len(24 << 20)).expect("make a partition");
    done(&pc, &address, "restoreImage REPO win 1 1 TORRENT peer:0");
    assert_same_file(&images.join("win.img.zst"), &pc.cached("win.img.zst"));
    assert_holds(&pc, &server.lab.path("tree"));
    done(&pc, &address, "deployImage CACHE win 1 1");
    // With it, and OGIMG for its place.
    let ours = |line: &str| {
        let mut command = server.command(line);
        command.env("OGIMG", "/opt/opengnsys/ogrepository/images").env("IMGCOMP", "zstd:3").env("ogrepo", &address);
        let output = command.output().expect("run an applet");
        assert_eq!(output.status.code(), Some(0), "{line}\n{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    assert!(ours("ogGetImageInfo /opt/opengnsys/ogrepository/images/win.img.zst").starts_with("PARTCLONE:ZSTD:EXTFS:"));
    assert_eq!(ours("ogGetImageCompressor REPO /win"), "ZSTD\n");
    ours("createImage 1 1 REPO win");
    ours("restoreImage REPO win 1 1");
    assert_holds(&server, &server.lab.path("tree"));
    let length = fs::metadata(images.join("win.img.zst")).expect("look at the image").len();
    assert_eq!(fs::read_to_string(images.join("win.img.zst.size")).expect("its size"), format!("{length}\n"));
    assert_eq!(fs::read_to_string(images.join("win.img.zst.info.checked")).expect("what is theirs"), "theirs");
    assert!(images.join("win.img.zst.ant").exists() && !images.join("win.img").exists());
    done(&pc, &address, "updateCache REPO /win.img TORRENT peer:0");
    assert_same_file(&images.join("win.img.zst"), &pc.cached("win.img.zst"));
}
