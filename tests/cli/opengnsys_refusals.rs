//! Failures in a lab: two commands at once, full and missing caches, locks, partitions that are too small, a
//! repository that goes away. Nothing is lost, nothing half-written has its final name, and the message says what to
//! do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::opengnsys_lab::{done, pc};
use crate::opengnsys_scripts::{Repo, assert_holds, install};
use crate::pc::{Pc, refusal, sh};
use crate::support::{Lab, Program, applet, assert_same_file, eventually, listens, run, text, tools, write_payload};

/// The names below `dir`, sorted.
fn names(dir: &Path) -> Vec<String> {
    let list = sh(&format!("cd {}; find . -type f | sort | cut -c 3-", dir.display()));
    text(&list.stdout).lines().map(str::to_owned).collect()
}

/// Whether a shell's test succeeds.
fn sh_holds(script: &str) -> bool {
    Command::new("sh").args(["-c", script]).status().expect("run a shell").success()
}

/// Asserts that it was refused with `code`, and that the message contains `why`.
fn assert_refused(output: &Output, code: i32, why: &str) {
    let said = text(&output.stderr);
    let line = said.lines().last().unwrap_or_default();
    assert!(output.status.code() == Some(code) && line.contains(why), "{:?}: {said}", output.status);
}

/// Makes an image of `mib` MiB in the repository by hand, with its torrent.
fn image(pc: &Pc, name: &str, mib: usize, tracker: &str) -> PathBuf {
    let image = pc.images(&format!("{name}.img"));
    write_payload(&image, mib, mib as u64);
    done(pc, tracker, &format!("ogCreateTorrent REPO /{name} {tracker}"));
    image
}

/// A PATH of the lab's own programs before all others.
fn path(lab: &Lab) -> String {
    format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", lab.path("bin").display())
}

/// Puts a script in place of the program `name`, which it can call as `$real`.
fn wrap(lab: &Lab, name: &str, script: &str) {
    let bin = lab.make_dir("bin");
    let real = text(&sh(&format!("command -v {name}")).stdout);
    fs::write(bin.join(name), format!("#!/bin/sh\nreal={real}\n{script}\n")).expect("write a script");
    sh(&format!("chmod 755 {}", bin.join(name).display()));
}

#[test]
fn of_two_commands_at_once_the_second_is_told_and_changes_nothing() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4", "fuser"]) {
        return;
    }
    let pc = pc("label");
    let tracker = pc.lab.host(1).to_string();
    image(&pc, "x", 2, &tracker);
    // It has no peers, so it waits until it is killed.
    let start = || {
        let mut first = pc.command("restoreImage REPO x 1 1 TORRENT peer:0");
        let mut first = pc.lab.start("restoreImage", first.env("ogrepo", &tracker));
        first.wait_for_line("Listening on", 20);
        first
    };
    let mut first = start();
    let ask = |line: &str| pc.command(line).env("ogrepo", &tracker).output().expect("run an applet");
    for line in [
        "restoreImage REPO x 1 1",
        "restoreImage REPO x 1 1 TORRENT peer:0",
        "deployImage REPO x 1 1",
        "createImage 1 1 REPO y",
        "ogRestoreImage REPO /x 1 1",
        "ogCreateImage 1 1 REPO /y",
        "updateCache REPO /x.img TORRENT peer:0",
        "updateCache REPO /x.img UNICAST",
    ] {
        // x.img is not a real image: a command that gets past the locks reports that.
        let output = ask(line);
        let code = if line == "ogRestoreImage REPO /x 1 1" { 5 } else { 4 };
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output.stderr));
        assert!(code == 5 || text(&output.stderr).contains("if by nobody"), "{line}: {}", text(&output.stderr));
    }
    assert!(first.runs() && pc.cached("x.img.part").is_file() && !pc.cached("x.img").exists());
    assert_eq!(names(&pc.images("")), ["x.img", "x.img.torrent"]);
    // After it was killed, it locks out no other command.
    first.signal(Signal::KILL);
    first.wait(10);
    let part = pc.cached("x.img.part");
    eventually("what it started has ended", 10, || !sh_holds(&format!("fuser -s {}", part.display())));
    let mut second = start();
    second.interrupt();
    assert!(!pc.cached("x.img.lock").exists() && names(&pc.lab.path("var/lock")).is_empty());
}

#[test]
fn a_full_cache_is_emptied_only_as_engine_cfg_says_and_never_in_vain() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let pc = pc("name");
    write_payload(&pc.images("new.img"), 30, 1);
    write_payload(&pc.images("large.img"), 80, 2);
    fs::write(pc.lab.path("opt/opengnsys/etc/engine.cfg"), "ACTIONCACHEFULL=NONE # or FORMAT\n").expect("configure");
    pc.told("ogMountCache");
    let fill = || {
        fs::create_dir_all(pc.cached("aula1")).expect("make the cache's images");
        write_payload(&pc.cached("aula1/a.img"), 20, 3);
        write_payload(&pc.cached("b.img"), 20, 4);
    };
    let update = |name: &str, action: &str| {
        let line = format!("updateCache REPO /{name}.img UNICAST");
        let mut command = pc.command(&line);
        if !action.is_empty() {
            command.env("ACTIONCACHEFULL", action);
        }
        command.output().expect("run updateCache")
    };
    fill();
    let full = update("new", "");
    assert_refused(&full, 16, "delete images, or set ACTIONCACHEFULL in engine.cfg");
    assert!(text(&full.stderr).contains("Not enough space in local or remote cache \"CACHE FULL, NO SPACE FREE: "));
    for action in ["", "DELETE", "FORMAT"] {
        assert_refused(&update("large", action), 16, "make its partition larger");
    }
    // A sparse file has fewer blocks than bytes.
    fs::File::create(pc.images("sparse.img")).and_then(|file| file.set_len(60 << 20)).expect("make an image");
    assert_refused(&update("sparse", ""), 16, "delete images that are not needed");
    assert_eq!(names(&pc.cached("")), ["aula1/a.img", "b.img"]);
    pc.told("ogLockImage CACHE /b.img");
    assert_eq!(update("new", "DELETE").status.code(), Some(0));
    assert_eq!(names(&pc.cached("")), ["b.img", "b.img.lock", "new.img", "new.img.full.sum", "new.img.sum"]);
    pc.told("ogUnlockImage CACHE /b.img");
    fs::remove_file(pc.cached("new.img")).expect("remove an image");
    fill();
    fs::write(pc.lab.path("opt/opengnsys/cache/other"), "other").expect("write a file");
    assert_eq!(update("new", "FORMAT").status.code(), Some(0));
    assert_same_file(&pc.images("new.img"), &pc.cached("new.img"));
    assert_eq!(names(&pc.lab.path("opt/opengnsys/cache")).len(), 3);
    assert_eq!(pc.told("ogFindCache"), "1 4");
    sh(&format!("blkid {} | grep -q 'LABEL=\"CACHE\"'", pc.partition(4).display()));
    // The old image of the same name is removed first if there is no room for both.
    sh(&format!("head -c 31M {} > {}", pc.images("large.img").display(), pc.images("new.img").display()));
    assert_eq!(update("new", "").status.code(), Some(0));
    assert_same_file(&pc.images("new.img"), &pc.cached("new.img"));
}

#[test]
fn a_cache_that_is_missing_or_cannot_be_mounted_is_told() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let none = Pc::with_disk(48, "label: dos\nsize=24M, type=83\n");
    install(&none, 5);
    done(&none, "", "createImage 1 1 REPO x");
    for line in ["updateCache REPO /x.img UNICAST", "restoreImage CACHE x 1 1", "createImage 1 1 CACHE x"] {
        assert_refused(&none.run(line), 15, "No client cache partition");
    }
    // Without a cache it is restored from the repository, if the lab is set up for that.
    assert_refused(&none.run("deployImage REPO x 1 1 UNICAST"), 15, "No client cache partition");
    sh(&format!("wipefs -qa {}", none.partition(1).display()));
    let mut deploy = none.command("deployImage REPO x 1 1 UNICAST");
    let output = deploy.env("RESTOREPROTOCOLNOTCACHE", "UNICAST").output().expect("run deployImage");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_holds(&none, &none.lab.path("tree"));

    let broken = pc("type");
    write_payload(&broken.images("x.img"), 1, 1);
    sh(&format!("wipefs -qa {}", broken.partition(4).display()));
    for line in ["updateCache REPO /x.img UNICAST", "restoreImage CACHE x 1 1", "createImage 1 1 CACHE x"] {
        assert_refused(&broken.run(line), 3, "no known file system");
    }
    assert_eq!(refusal(&broken.run("ogMountCache")).0, Some(3));
}

#[test]
fn an_image_that_is_locked_too_large_or_on_the_partition_itself_is_left_alone_and_so_is_the_partition() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let pc = pc("label of gpt");
    install(&pc, 6);
    done(&pc, "", "createImage 1 1 REPO x");
    let before = fs::read(pc.images("x.img")).expect("read the image");
    let noise = |number: u32| sh(&format!("head -c 4M /dev/zero | tr '\\0' n > {}", pc.partition(number).display()));
    let start = |number: u32| text(&sh(&format!("head -c 4M {} | md5sum", pc.partition(number).display())).stdout);
    noise(2);
    noise(3);
    let (second, third) = (start(2), start(3));
    pc.told("ogLockImage REPO /x.img");
    assert_refused(&pc.run("createImage 1 1 REPO x"), 4, "x.img.lock");
    assert_refused(&pc.run("restoreImage REPO x 1 2"), 4, "x.img.lock");
    pc.told("ogUnlockImage REPO /x.img");
    assert_refused(&pc.run("restoreImage REPO x 1 3"), 30, "partition 1 3 has 4096 KB, the image needs ");
    for word in ["UNICAST", "TORRENT peer:0"] {
        let refused = pc.run(&format!("restoreImage CACHE x 1 3 {word}"));
        assert_refused(&refused, 30, "partition 1 3 has 4096 KB, the image needs ");
    }
    assert_refused(&pc.run("deployImage REPO x 1 3 UNICAST"), 5, "partition 1 3 has 4096 KB, the image needs ");
    assert!(!pc.cached("x.img").exists(), "it was brought for nothing");
    assert_eq!((start(2), start(3)), (second.clone(), third));
    assert_refused(&pc.run("createImage 1 4 CACHE y"), 5, "use the repository or another partition");
    done(&pc, "", "updateCache REPO /x.img UNICAST");
    assert_refused(&pc.run("restoreImage CACHE x 1 4"), 5, "use the repository or another partition");
    assert_same_file(&pc.images("x.img"), &pc.cached("x.img"));
    fs::write(pc.cached("x.img.torrent.bf"), "").expect("say that it was begun");
    assert_refused(&pc.run("restoreImage CACHE x 1 2"), 5, "x.img: its download was interrupted");
    assert_refused(&pc.run("ogRestoreImage CACHE /x 1 2"), 5, "x.img.torrent.bf");
    assert_eq!(start(2), second);
    assert_eq!(fs::read(pc.images("x.img")).expect("read the image"), before);
    let files = ["x.img", "x.img.full.sum", "x.img.info", "x.img.sum", "x.img.torrent"];
    assert_eq!(names(&pc.images("")), files);
    // Another file system, mounted and in use.
    let mounted = pc.lab.make_dir("mounted");
    let busy = format!("mount {} {}", pc.partition(1).display(), mounted.display());
    sh(&busy);
    let mut user = pc.lab.start("sleep", Command::new("sleep").arg("60").current_dir(&mounted));
    assert_refused(&pc.run("restoreImage REPO x 1 1"), 3, "lists what uses it");
    assert_refused(&pc.run("createImage 1 1 REPO x"), 3, "lists what uses it");
    user.signal(Signal::KILL);
    user.wait(10);
    sh(&format!("umount {}", mounted.display()));
    assert_holds(&pc, &pc.lab.path("tree"));
    assert_eq!(names(&pc.images("")), files);
}

#[test]
fn a_creation_that_is_ended_or_fails_leaves_image_and_partition_as_they_were() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4", "resize2fs"]) {
        return;
    }
    let pc = pc("label");
    install(&pc, 7);
    done(&pc, "", "createImage 1 1 REPO x");
    let before = (names(&pc.images("")), fs::read(pc.images("x.img")).expect("read the image"));
    let untouched = || {
        assert_eq!((names(&pc.images("")), fs::read(pc.images("x.img")).expect("read the image")), before);
        assert_holds(&pc, &pc.lab.path("tree"));
        assert!(names(&pc.lab.path("var/lock")).is_empty());
    };
    wrap(&pc.lab, "resize2fs", "case \"$*\" in *-M*) echo shrinking; sleep 1;; esac; exec $real \"$@\"");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut create = pc.command("createImage 1 1 REPO x");
        let mut create: Program = pc.lab.start("createImage", create.env("PATH", path(&pc.lab)));
        create.wait_for_line("shrinking", 20);
        create.signal(signal);
        assert_eq!(create.wait(20).code(), Some(5), "{}", create.said());
        assert!(create.said().contains("[30] ogReduceFs 1 1") && create.said().contains("[90] ogExtendFs 1 1"));
        untouched();
    }
    wrap(&pc.lab, "resize2fs", "case \"$*\" in *-M*) echo cannot; exit 1;; esac; exec $real \"$@\"");
    let create = |variable: &str, value: &str| {
        let mut create = pc.command("createImage 1 1 REPO x");
        create.env("PATH", path(&pc.lab)).env(variable, value).output().expect("run createImage")
    };
    assert_refused(&create("LC_ALL", "C"), 17, "resize2fs -f -M");
    untouched();
    wrap(&pc.lab, "e2fsck", "exit 4");
    assert_refused(&create("LC_ALL", "C"), 3, "ended with 4");
    untouched();
    fs::remove_dir_all(pc.lab.path("bin")).expect("remove the scripts");
    assert_refused(&create("IMGCOMP", "arj"), 5, "unknown compressor arj");
    untouched();
    // Without any program it is made all the same; without a repository it is not.
    let output = create("PATH", "/nowhere");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for step in ["[20] ogCheckFs 1 1: e2fsck", "[30] ogReduceFs 1 1: resize2fs", "[90] ogExtendFs 1 1: resize2fs"] {
        let told = format!("{step} is not installed: skipped");
        assert!(text(&output.stderr).contains(&told), "{}", text(&output.stderr));
    }
    assert_holds(&pc, &pc.lab.path("tree"));
    assert!(pc.images("x.img.ant").is_file() && pc.images("x.img.torrent.ant").is_file());
    fs::rename(pc.images(""), pc.lab.path("unmounted")).expect("unmount the repository");
    assert_refused(&pc.run("createImage 1 1 REPO x"), 2, "mount the repository");
}

#[test]
fn windows_leaves_what_it_makes_anew_and_its_file_system_fits_a_smaller_partition() {
    if !tools(&["losetup", "sfdisk", "mkfs.ntfs", "ntfsresize", "ntfs-3g"]) {
        return;
    }
    let pc = Pc::with_disk(128, "label: dos\nsize=64M, type=7\nsize=40M, type=7\n");
    let mounted = pc.lab.make_dir("mounted");
    write_payload(&pc.lab.path("payload"), 6, 8);
    let (first, second) = (pc.partition(1), pc.partition(2));
    sh(&format!(
        "mkfs.ntfs -q -f {first} 2> /dev/null; ntfs-3g {first} {dir}; cp {payload} {dir}/payload
         head -c 20M {payload} > {dir}/PageFile.sys; cp {dir}/PageFile.sys {dir}/hiberfil.sys; umount {dir}",
        first = first.display(),
        dir = mounted.display(),
        payload = pc.lab.path("payload").display(),
    ));
    let said = done(&pc, "", "createImage 1 1 REPO win");
    for step in ["[10] ogCleanOs 1 1", "[20] ogCheckFs 1 1", "[30] ogReduceFs 1 1", "[90] ogExtendFs 1 1"] {
        assert!(said.contains(step), "{said}");
    }
    assert!(pc.told("ogGetImageInfo /opt/opengnsys/images/win.img").starts_with("PARTCLONE:LZOP:NTFS:"));
    done(&pc, "", "restoreImage REPO win 1 2");
    for part in [first, second] {
        sh(&format!(
            "ntfs-3g -o ro {part} {dir}; cmp {payload} {dir}/payload; ls {dir}; df --output=size {dir} > {dir}.size; umount {dir}",
            part = part.display(),
            dir = mounted.display(),
            payload = pc.lab.path("payload").display(),
        ));
        let size = fs::read_to_string(pc.lab.path("mounted.size")).expect("read the size");
        let kib: u64 = size.lines().last().and_then(|line| line.trim().parse().ok()).expect("a size");
        let partition = text(&sh(&format!("blockdev --getsize64 {}", part.display())).stdout);
        let whole: u64 = partition.trim().parse::<u64>().expect("a size") >> 10;
        assert!(whole - kib < 64, "{kib} of {whole} KiB");
    }
    let left = sh(&format!("ntfsls -f {} 2> /dev/null", pc.partition(2).display()));
    assert_eq!(text(&left.stdout).split_whitespace().collect::<Vec<_>>(), ["payload"]);
}

#[test]
fn a_repository_that_goes_away_in_the_middle_leaves_no_image_and_is_gone_on_from() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let mut repo = Repo::on(Pc::with_disk(32, "label: dos\nsize=24M, type=83\n"));
    repo.create(9);
    let pc = pc("label");
    fs::remove_dir_all(pc.images("")).expect("remove the share");
    repo.daemons[1].interrupt();
    let images = repo.pc.images("");
    let seed = |options: &[&str]| {
        let mut seeder = applet("ctorrent");
        seeder.current_dir(&images).args(options).args(["-f", "Ubuntu.img.torrent"]);
        repo.pc.lab.start("ctorrent", &mut seeder)
    };
    let mut slow = seed(&["-U", "1500"]);
    let update = |stall: &str| {
        let mut command = pc.command("updateCache REPO /Ubuntu.img TORRENT peer:0");
        pc.lab.start("updateCache", command.env("ogrepo", &repo.address).env("OGBOX_STALL", stall))
    };
    let mut broken = update("2");
    eventually("something is here", 20, || {
        fs::metadata(pc.cached("Ubuntu.img.part")).is_ok_and(|part| {
            use std::os::unix::fs::MetadataExt;
            part.blocks() > 2048
        })
    });
    slow.signal(Signal::KILL);
    slow.wait(10);
    assert_eq!(broken.wait(30).code(), Some(31), "{}", broken.said());
    assert!(broken.said().contains("the next call resumes it from "), "{}", broken.said());
    assert!(!pc.cached("Ubuntu.img").exists() && pc.cached("Ubuntu.img.part").exists());
    assert!(!pc.cached("Ubuntu.img.lock").exists());
    // A full cache does not take it with DELETE either.
    let _seeder = seed(&[]);
    let mut again = update("60");
    assert_eq!(again.wait(30).code(), Some(0), "{}", again.said());
    assert!(again.said().contains("Found journal; "), "{}", again.said());
    assert_same_file(&repo.pc.images("Ubuntu.img"), &pc.cached("Ubuntu.img"));

    // A tracker that is gone is named, and the contents of the cache stay.
    repo.daemons[0].interrupt();
    let mut gone = pc.command("updateCache REPO /Ubuntu.img TORRENT peer:0");
    let output = gone.env("ogrepo", &repo.address).output().expect("run updateCache");
    assert_refused(&output, 2, &format!("http://{}:6969/file?name=Ubuntu.img", repo.address));
    assert_same_file(&repo.pc.images("Ubuntu.img"), &pc.cached("Ubuntu.img"));
}

#[test]
fn a_copy_that_is_not_what_the_repository_says_replaces_nothing() {
    let pc = Pc::new().with_cache();
    write_payload(&pc.images("x.img"), 3, 1);
    done(&pc, "", "updateCache REPO /x.img UNICAST");
    let before = fs::read(pc.cached("x.img")).expect("read the copy");
    write_payload(&pc.images("x.img"), 4, 2);
    fs::write(pc.images("x.img.full.sum"), "00000000000000000000000000000000\n").expect("write a checksum");
    assert_refused(&pc.run("updateCache REPO /x.img UNICAST"), 31, "does not match its checksum, or changed meanwhile");
    assert_eq!(fs::read(pc.cached("x.img")).expect("read the copy"), before);
    assert_eq!(names(&pc.cached("")), ["x.img", "x.img.full.sum", "x.img.sum"]);
    // A directory in place of the file, and one that is not writable.
    let output = pc.run("updateCache REPO /../x.img UNICAST");
    assert_refused(&output, 2, "REPO /../x.img");
}

#[test]
fn a_torrent_of_another_file_is_not_taken() {
    let pc = Pc::new().with_cache();
    write_payload(&pc.images("x.img"), 2, 1);
    write_payload(&pc.images("y.img"), 2, 2);
    run(pc.command("ogCreateTorrent REPO /y 127.0.0.1").env("ogrepo", "127.0.0.1"));
    fs::rename(pc.images("y.img.torrent"), pc.images("x.img.torrent")).expect("mistake a torrent");
    let why = "describes y.img, not x.img: make a new one with ogCreateTorrent";
    assert_refused(&pc.run("updateCache REPO /x.img TORRENT peer:0"), 2, why);
    fs::write(pc.cached("x.img"), "as it was").expect("write an image");
    fs::copy(pc.images("x.img.torrent"), pc.cached("x.img.torrent")).expect("mistake it in the cache as well");
    for line in ["ogReceiveTorrent REPO /x", "ogTorrentStart CACHE /x.img.torrent seeder:0"] {
        assert_refused(&pc.run(line), 2, why);
    }
    assert_eq!(pc.log("opt/opengnsys/cache/opt/opengnsys/images/x.img"), "as it was");
    fs::remove_file(pc.cached("x.img.torrent")).expect("remove it");
    let (directory, torrent) = (pc.lab.make_dir("z.img"), pc.images("z.img.torrent"));
    fs::write(directory.join("part"), "1").expect("write a file");
    run(applet("ctorrent").arg("-t").arg(directory).args(["-u", "http://127.0.0.1/announce", "-s"]).arg(torrent));
    for line in ["updateCache REPO /z.img TORRENT peer:0", "ogReceiveTorrent REPO /z"] {
        assert_refused(&pc.run(line), 2, "describes a directory, not z.img");
    }
    assert_refused(&pc.run("deployImage REPO x 1 1 TORRENT peer:0"), 33, "x.img");
    assert_eq!(names(&pc.cached("")), ["x.img"]);
    fs::write(pc.images("x.img.torrent"), "d8:announce").expect("cut a torrent short");
    assert_refused(&pc.run("updateCache REPO /x.img TORRENT peer:0"), 2, "x.img.torrent");
    // The name may be written in another case, as everywhere.
    fs::remove_file(pc.images("x.img.torrent")).expect("remove it");
    done(&pc, "", "ogCreateTorrent REPO /X 127.0.0.1");
    for name in ["x.img", "x.img.torrent"] {
        fs::copy(pc.images(name), pc.cached(name)).expect("bring it by hand");
    }
    assert!(done(&pc, "", "updateCache REPO /X.IMG TORRENT peer:0").contains("FALSE (1)"));
    // A tracker that hands out no torrents.
    let host = pc.lab.host(1);
    let mut tracker = applet("bttrack");
    tracker.args(["--get_by_name", "0", "--port", "6969", "--bind", &host.to_string(), "--dfile"]);
    tracker.arg(pc.lab.path("dstate"));
    let _tracker = pc.lab.start("bttrack", &mut tracker);
    listens(std::net::SocketAddrV4::new(host, 6969), 10);
    let mut update = pc.command("updateCache REPO /none.img TORRENT peer:0");
    let output = update.env("ogrepo", host.to_string()).output().expect("run updateCache");
    assert_refused(&output, 2, "does not send torrents by name: ogbox's bttrack does with --allow_get 1");
}
