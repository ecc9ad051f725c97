//! Every command of the wiki and of released OpenGnsys on a PC with disks, with each form of its arguments: its
//! output, its exit code, and the files it leaves. Needs root for loop devices and mounts.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::opengnsys_lab::{done, pc};
use crate::opengnsys_scripts::{Background, assert_holds, install};
use crate::pc::{Pc, sh};
use crate::support::{applet, assert_same_file, binary, eventually, run, text, tools, write_payload};

/// A command line, its exit code, and a part of its standard output or standard error.
type Case = (&'static str, i32, &'static str);

fn check(pc: &Pc, cases: &[Case]) {
    for (line, code, said) in cases {
        let output = pc.run(line);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.code() == Some(*code) && told.contains(said), "{line}: {:?}: {told}", output.status);
    }
}

/// Making and starting torrents, and what is refused of that.
const TORRENTS: &[Case] = &[
    ("ogCreateTorrent 1 2 /x 127.0.0.1", 0, "/mnt/sda2/x.img.torrent successful."),
    ("ogCreateTorrent repo /AULA1/x 127.0.0.1", 0, "ctorrent -t x.img -u http://127.0.0.1:6969/announce -s "),
    ("ogCreateTorrent CACHE /aula1/y 127.0.0.1", 0, " successful."),
    ("ogCreateTorrent /opt/opengnsys/cache/opt/opengnsys/images/aula1/y 127.0.0.1", 0, " successful."),
    ("ogCreateTorrent", 1, "ogCreateTorrent: Wrong execution format \"ogCreateTorrent [str_REPOSITORY] "),
    ("ogCreateTorrent REPO /x", 1, "Wrong execution format"),
    ("ogCreateTorrent 1 9 /x 127.0.0.1", 2, "File or device not found \"disk 1, partition 9\""),
    ("ogCreateTorrent SERVER /x 127.0.0.1", 1, "SERVER is neither REPO nor CACHE"),
    ("ogTorrentStart 1 2 /x.img.torrent peer:0", 0, "imagen ya descargada"),
    ("ogTorrentStart 1 2 /x.img.torrent LEECHER:60", 0, "imagen ya descargada"),
    ("ogTorrentStart 1 2 /x.img.torrent seeder:0", 0, "MODE seeder ctorrent"),
    ("ogTorrentStart CACHE /aula1/y.img.torrent SEEDER:1", 0, "Skipping hash checks and forcing seed mode."),
    ("ogTorrentStart /opt/opengnsys/cache/opt/opengnsys/images/aula1/y.img.torrent peer:1", 0, "ya descargada"),
    ("ogTorrentStart /opt/opengnsys/images/aula1/x.img.torrent peer:1", 1, "copy the torrent to the cache first"),
    ("ogTorrentStart REPO /aula1/x.img.torrent peer:1", 1, "copy the torrent to the cache first"),
    ("ogTorrentStart CACHE /aula1/y.img peer:1", 2, "File or device not found"),
    ("ogTorrentStart CACHE /aula1/y.img.torrent gossip:1", 1, "peer|seeder|leecher:seconds"),
    ("ogTorrentStart CACHE /aula1/y.img.torrent peer:12345678901", 1, "peer|seeder|leecher:seconds"),
    ("ogTorrentStart CACHE /aula1/y.img.torrent", 1, "Wrong execution format"),
    ("ogReceiveTorrent REPO /none", 2, "File or device not found \"REPO /none.img.torrent\""),
    ("ogShareTorrent CACHE /none", 2, "File or device not found \"CACHE /none.img.torrent\""),
    ("ogShareTorrent a b c d", 1, "Wrong execution format"),
    ("StartTracker now", 1, "Wrong execution format"),
];

#[test]
fn torrents_are_made_shared_and_received_by_each_form_of_address() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let pc = pc("type");
    sh(&format!("mkfs.ext4 -q -F {}", pc.partition(2).display()));
    let second = pc.lab.make_dir("mnt/sda2");
    sh(&format!("mount {} {}", pc.partition(2).display(), second.display()));
    pc.told("ogMountCache");
    fs::create_dir_all(pc.cached("aula1")).expect("make the cache's images");
    write_payload(&second.join("x.img"), 2, 1);
    write_payload(&pc.images("aula1/x.img"), 2, 1);
    write_payload(&pc.cached("aula1/y.img"), 2, 2);
    check(&pc, TORRENTS);
    assert!(pc.cached("aula1/y.img.torrent.ant").is_file());
    let _background = Background(&pc);
    for form in ["1 2 /x", "REPO /aula1/x", "CACHE /aula1/y", "/opt/opengnsys/images/aula1/x"] {
        let said = done(&pc, "", &format!("ogShareTorrent {form}"));
        assert!(said.starts_with("ctorrent ") && said.ends_with(".torrent -d\n"), "{said}");
    }
    // It seeds for 20 seconds, which the test need not wait for.
    let mut receive = pc.lab.start("ogReceiveTorrent", &mut pc.command("ogReceiveTorrent 1 2 /x"));
    receive.wait_for_line("Download complete.", 20);
    eventually("the image is in the cache", 10, || pc.cached("x.img").is_file());
    receive.interrupt();
    assert_same_file(&second.join("x.img"), &pc.cached("x.img"));
    assert!(pc.cached("x.img.torrent").is_file() && !pc.cached("x.img.part").exists());
    // It replaces another image of the same name, and only once it is whole; pieces they share are found.
    write_payload(&pc.cached("x.img"), 2, 3);
    let mut receive = pc.lab.start("ogReceiveTorrent", &mut pc.command("ogReceiveTorrent REPO /aula1/x"));
    receive.wait_for_line("Download complete.", 20);
    eventually("the image is in its place", 10, || {
        fs::read(pc.cached("x.img")).ok() == fs::read(second.join("x.img")).ok()
    });
    eventually("it seeds", 10, || {
        fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
            let line = text(&fs::read(entry.path().join("cmdline")).unwrap_or_default());
            line.starts_with("ctorrent\0--attached\0-f\0-s\0")
                && line.contains(&pc.cached("x.img").display().to_string())
        })
    });
    receive.interrupt();
    // An image that exists already is not seeded.
    let begun = Instant::now();
    assert_eq!(done(&pc, "", "ogReceiveTorrent 1 2 /x"), "");
    assert!(begun.elapsed() < Duration::from_secs(10));
    // A partial download of an older image of that name does not interfere.
    fs::write(pc.cached("x.img"), "older").expect("begin another image");
    fs::write(pc.cached("x.img.torrent.bf"), "").expect("say that it was begun");
    done(&pc, "", "ogTorrentStart CACHE /x.img.torrent peer:0");
    assert_same_file(&second.join("x.img"), &pc.cached("x.img"));
}

#[test]
fn a_partition_goes_to_another_pc_by_mbuffer() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4", "mbuffer", "partclone.extfs", "lzop"]) {
        return;
    }
    let (sender, receiver) = (pc("label"), pc("label"));
    install(&sender, 51);
    let path = format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", receiver.lab.path("bin").display());
    run(Command::new(binary()).args(["--install", "-s"]).arg(receiver.lab.make_dir("bin")));
    let mut receive = receiver.command("ogUcastReceiverPartition 1 1 8003:127.0.0.1 partclone lzop");
    let mut receive = receiver.lab.start("ogUcastReceiverPartition", receive.env("PATH", &path));
    eventually("it listens", 20, || text(&sh("cat /proc/net/tcp").stdout).contains(":1F43 00000000:0000 0A"));
    let mut send = sender.command("ogUcastSendPartition 1 1 8003:127.0.0.1 partclone lzop");
    let sent = run(send.env("PATH", path.replace(&receiver.lab.path("bin").display().to_string(), "/usr/local/bin")));
    assert!(text(&sent.stdout).starts_with("partclone.extfs -d0 -F -c -s "), "{}", text(&sent.stdout));
    assert_eq!(receive.wait(30).code(), Some(0), "{}", receive.said());
    assert_holds(&receiver, &sender.lab.path("tree"));
}

/// What the scripts refuse, and a name that looks like an option, which they take.
const REFUSED_SCRIPTS: &[Case] = &[
    ("createImage 1 1 REPO", 1, "createImage: Wrong execution format \"createImage int_ndisk int_npartition "),
    ("createImage 1 9 REPO x", 3, "Unknown or wrong partition"),
    ("createImage 1 1 SERVER x", 1, "SERVER is neither REPO nor CACHE"),
    ("createImage 1 1 10.9.8.7 x", 2, "10.9.8.7 is not mounted here; create the image in the mounted share"),
    ("createImage 1 1 REPO ../x", 1, "leads out of"),
    ("createImage 1 1 REPO ", 1, "`` is not an image name"),
    ("createImage 1 1 CACHE aula1/", 1, "`aula1/` is not an image name"),
    ("createImage 1 1 REPO -x", 0, "[100] Total process time"),
    ("restoreImage REPO x 1", 1, "Wrong execution format"),
    ("restoreImage REPO none 1 1", 2, "REPO none.img"),
    ("restoreImage REPO x 1 9", 2, "disk 1, partition 9"),
    ("restoreImage REPO x 1 1 RSYNC", 71, "Image cannot be synchronised"),
    ("restoreImage REPO x 1 1 TORRENT always", 1, "always: a session is"),
    ("restoreImage 10.9.8.7 x 1 1", 2, "the share of 10.9.8.7 is not mounted here; TORRENT needs no share"),
    ("deployImage REPO none 1 1", 2, "REPO none.img"),
    ("deployImage REPO x 1 1 PIGEON", 1, "unknown protocol PIGEON"),
    ("updateCache CACHE /x.img UNICAST", 2, "CACHE is not a repository"),
    ("updateCache REPO /none.img UNICAST", 2, "REPO /none.img"),
    ("updateCache REPO /x.img MULTICAST", 1, "MULTICAST needs a session"),
    ("updateCache REPO /x.img MULTICAST 9001:half-duplex:239.1.1.1:70M:2:5", 55, "must be even, from 9000 to 9098"),
];

/// Images `x` and `y` of the first partition in the repository, `own` and `aula1/x` in the cache; `address` is the
/// PC's own.
fn make_images(pc: &Pc, address: &str) {
    let background = Background(pc);
    for line in ["createImage 1 1 REPO x", "createImage 1 1 CACHE aula1/x"] {
        let said = done(pc, "", line);
        let steps: Vec<u32> =
            said.lines().filter_map(|line| line.strip_prefix('[')?.split_once(']')?.0.parse().ok()).collect();
        assert_eq!(steps, [1, 16, 20, 30, 40, 90, 95, 100], "{said}");
        assert!(said.contains("Total Time: 00:00:") && said.contains("PARTCLONE:LZOP:EXTFS:"), "{said}");
        // Each step is in the session's log and in the server's.
        let session = pc.log("tmp/session.log");
        assert!(said.lines().filter(|line| line.starts_with('[')).all(|line| session.contains(line)), "{session}");
        assert!(pc.log("opt/opengnsys/log/10.0.0.7.log").contains(&session));
        assert!(pc.log("tmp/command.log").contains("resize2fs "));
    }
    // A PC's own address means its cache.
    let mut own = pc.command(&format!("createImage 1 1 {address} own"));
    assert!(
        own.env("IPV4ADDR", address).status().expect("run createImage").success() && pc.cached("own.img").is_file()
    );
    drop(background);
    let spanish = pc.command("createImage 1 1 REPO x").env("LANG", "es_ES.UTF-8").output().expect("run createImage");
    let said = text(&spanish.stdout);
    assert!(
        said.contains("[1] INICIO scripts: createImage 1 1 REPO x") && said.contains("[100] tiempo total"),
        "{said}"
    );
    let own = pc.command("createImage 1 9 REPO x").env("LANG", "ca_ES").output().expect("run createImage");
    assert!(text(&own.stderr).contains("Partició errònia o desconeguda \"disk 1, partition 9\""), "{own:?}");
    fs::write(pc.lab.path("opt/opengnsys/etc/engine.cfg"), "IMGREDUCE=FALSE\nIMGCOMP=gzip\n").expect("configure");
    assert!(!done(pc, "", "createImage 1 1 REPO y").contains("ogReduceFs"));
    assert!(pc.told("ogGetImageInfo /opt/opengnsys/images/y.img").starts_with("PARTCLONE:GZIP:EXTFS:24576"));
}

#[test]
fn images_are_made_and_restored_by_each_form_of_the_scripts() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4", "e2fsck", "debugfs"]) {
        return;
    }
    let pc = pc("label of gpt");
    install(&pc, 21);
    let (tree, address) = (pc.lab.path("tree"), pc.lab.host(9).to_string());
    make_images(&pc, &address);
    for line in [
        "restoreImage REPO x 1 1".to_owned(),
        "restoreImage REPO y 1 1 UNICAST".to_owned(),
        "restoreImage repo x 1 1 unicast-direct".to_owned(),
        "restoreImage CACHE aula1/x 1 1".to_owned(),
        "restoreImage CACHE x 1 1 UNICAST".to_owned(),
        format!("restoreImage {address} x 1 1"),
        "deployImage REPO y 1 1".to_owned(),
        "deployImage REPO x 1 1 UNICAST-DIRECT".to_owned(),
        "deployImage CACHE x 1 1".to_owned(),
        "updateCache REPO /x.img UNICAST".to_owned(),
        "updateCache repo y.img unicast".to_owned(),
        format!("updateCache {address} /x.img UNICAST"),
    ] {
        sh(&format!("wipefs -qa {}", pc.partition(1).display()));
        let said = done(&pc, &address, &line);
        if line.contains("updateCache") {
            assert!(said.contains("FALSE (1), No es neceario actualizar. Paso5.A") && said.contains("[50] Partial"));
        } else {
            assert!(said.contains("[55] ") && said.contains("[100] Total process time: "), "{said}");
            assert_holds(&pc, &tree);
        }
    }
    assert_eq!(pc.told("ogGetImageProgram CACHE /x"), "PARTCLONE");
    // The lab's own script runs after a deployment.
    let bin = pc.lab.make_dir("bin");
    fs::write(bin.join("configureOs"), "#!/bin/sh\necho \"configure $*\"\n").expect("write a script");
    sh(&format!("chmod 755 {}", bin.join("configureOs").display()));
    let mut deploy = pc.command("deployImage REPO x 1 1");
    let said = text(&run(deploy.env("PATH", format!("{}:/usr/sbin:/usr/bin", bin.display()))).stdout);
    assert!(said.contains("[90] Start restored system setting: configureOs 1 1\nconfigure 1 1\n"), "{said}");
    check(&pc, REFUSED_SCRIPTS);
}

/// Other programs' command lines, and what is refused of sending.
const SYNTAXES: &[Case] = &[
    ("ogMcastSyntax SENDFILE 9000:half-duplex:239.194.17.2:90M:1:5 /x", 0, "udp-sender "),
    ("ogMcastSyntax RECEIVERPARTITION 9000 /dev/sda1 partclone lzop", 0, " | lzop -dc | "),
    (
        "ogMcastSyntax SENDPARTITION 9000:half-duplex:239.194.17.2:90M:1:5 /dev/sda1 ntfsclone gzip",
        0,
        "| gzip -c | udp-sender ",
    ),
    ("ogMcastSyntax SENDFILE 9000 /x", 55, "Error when generating Multicast transfer syntax"),
    ("ogMcastSyntax SENDFILE 9000", 1, "Wrong execution format"),
    ("ogMcastSyntax POST 9000 /x", 55, "POST with 3 arguments is unknown"),
    ("ogMcastSyntax RECEIVERPARTITION 9000 /dev/sda1 dump lzop", 55, "dump"),
    ("ogUcastSyntax SENDFILE 8000:10.0.0.1:10.0.0.2 /x", 0, "mbuffer  -O 10.0.0.1:8000 -O 10.0.0.2:8000 -i /x\n"),
    (
        "ogUcastSyntax RECEIVERPARTITION 8000:10.0.0.1 /dev/sda1 partclone lzop",
        0,
        "mbuffer -I 10.0.0.1:8000  | lzop -dc",
    ),
    ("ogUcastSyntax RECEIVERFILE 7000:10.0.0.1 /x", 50, "Error when generating Unicast transfer syntax"),
    ("ogMcastSendFile REPO /none.img 9000:half-duplex:239.1.1.1:9M:1:5", 2, "REPO /none.img"),
    ("ogMcastReceiverFile 9003 CACHE /x.img", 55, "the port must be even"),
    ("ogMcastSendPartition 1 9 9000:half-duplex:239.1.1.1:9M:1:5 partclone lzop", 2, "partition 9"),
    ("ogUcastReceiverPartition 1 1 8009:10.0.0.1 partclone lzop", 50, "must be from 8000 to 8005"),
    ("ogMcastRequest /x.img", 1, "Wrong execution format"),
];

#[test]
fn multicast_is_udpcasts_where_it_is_installed() {
    if !tools(&["unshare", "ip", "udp-sender", "socat", "mkfs.ext4"]) {
        return;
    }
    let pc = Pc::new().with_cache();
    install(&pc, 31);
    done(&pc, "", "createImage 1 1 REPO aula1/x");
    let session = "9000:half-duplex:239.194.17.2:90M:1:5";
    check(&pc, SYNTAXES);
    let line = format!("updateCache REPO /aula1/x.img MULTICAST {session}");
    let refused =
        pc.command(&line).env("PATH", "/nowhere").env("ogrepo", "127.0.0.1").output().expect("run updateCache");
    assert_eq!(refused.status.code(), Some(7), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("udp-receiver is not installed: "), "{}", text(&refused.stderr));
    for (address, why) in [("127.0.0.1", "ask 127.0.0.1:2009: "), ("", "neither ogrepo nor ROOTREPO")] {
        let asked = pc.command(&line).env("ogrepo", address).env_remove("ROOTREPO").output().expect("run updateCache");
        assert_eq!(asked.status.code(), Some(60), "{}", text(&asked.stderr));
        assert!(text(&asked.stderr).contains(why), "{}", text(&asked.stderr));
    }
    let lonely = pc.command("ogMcastReceiverFile 9000 CACHE /y.img").env("PATH", "/nowhere").output();
    let lonely = lonely.expect("run ogMcastReceiverFile");
    assert_eq!(lonely.status.code(), Some(7));
    assert!(text(&lonely.stderr).contains("udp-receiver is not installed: "), "{}", text(&lonely.stderr));

    // A repository that accepts START_MULTICAST as OpenGnsys' does, in a network of its own.
    let bin = pc.lab.make_dir("bin");
    run(Command::new(binary()).args(["--install", "-s"]).arg(&bin));
    let served = "read -r word file session; echo \"$word $file $session\" >> asked; \
                  test \"$word\" = START_MULTICAST && { setsid ogMcastSendFile REPO $file $session > sent 2>&1 & }";
    fs::write(pc.lab.path("served"), served).expect("write a script");
    let script = format!(
        "set -e
         ip link add lab type veth peer name other; ip link set lo up; ip link set other up; ip link set lab up
         ip address add 10.99.0.1/24 dev lab
         ip route add 224.0.0.0/4 dev lab
         export ogrepo=10.99.0.1
         socat -u TCP-LISTEN:2009,bind=10.99.0.1,fork,reuseaddr EXEC:'sh served' &
         updateCache REPO /aula1/x.img MULTICAST {session}
         updateCache REPO /aula1/x.img MULTICAST {session} | grep 'FALSE (1)'
         restoreImage REPO aula1/x 1 1 MULTICAST {session}"
    );
    let mut command = Command::new("unshare");
    let alone = ["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    command.args(alone).args(["bash", "-c", &script]).current_dir(pc.lab.path(""));
    command.env("PATH", format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", bin.display())).env("OGBOX_ROOT", pc.lab.path(""));
    sh(&format!("dd if=/dev/zero of={} bs=1M count=24 status=none", pc.partition(1).display()));
    run(&mut command);
    assert_same_file(&pc.images("aula1/x.img"), &pc.cached("aula1/x.img"));
    let asked = format!("START_MULTICAST /aula1/x.img {session}");
    assert!(pc.log("asked").lines().all(|line| line == asked) && pc.log("asked").lines().count() == 2);
    sh(&format!("e2fsck -fn {}", pc.partition(1).display()));
}

/// The shortest of many runs.
fn fastest(mut start: impl FnMut() -> Command) -> Duration {
    let once = |_| {
        let mut command = start();
        let begin = Instant::now();
        let output = command.output().expect("run a program");
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
        begin.elapsed()
    };
    (0..30).map(once).min().expect("many runs")
}

#[test]
fn every_applet_begins_its_work_within_10_ms_of_true() {
    let pc = Pc::new().with_cache();
    write_payload(&pc.images("x.img"), 1, 1);
    done(&pc, "", "ogCreateTorrent REPO /x 127.0.0.1");
    let least = fastest(|| Command::new("true"));
    let torrent = pc.images("x.img.torrent");
    // The first output of each: a path, a line, a torrent, a help text.
    for line in ["ogGetPath REPO /x.img", "ogDiskToDev", "ogEcho log session x"] {
        let took = fastest(|| pc.command(line)).saturating_sub(least);
        assert!(took < Duration::from_millis(10), "{line}: {took:?} more than true");
    }
    let took = fastest(|| {
        let mut command = applet("ctorrent");
        command.arg("-x").arg(&torrent);
        command
    });
    assert!(took.saturating_sub(least) < Duration::from_millis(10), "ctorrent -x: {took:?}, true {least:?}");
    let list = text(&run(Command::new(binary()).arg("--list")).stdout);
    for name in list.lines() {
        let took = (0..8).map(|_| {
            let begin = Instant::now();
            applet(name).arg("--help").output().expect("run an applet");
            begin.elapsed()
        });
        let took = took.min().expect("eight runs").saturating_sub(least);
        assert!(took < Duration::from_millis(10), "{name}: {took:?} more than true");
    }
}
