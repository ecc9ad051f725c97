//! A lab on disks: a repository, and four PCs whose disks have a partition table and a CACHE partition each, which
//! is marked in a different way on each of them. Needs root for loop devices and mounts.

use std::fs;

use crate::opengnsys_scripts::{Background, Repo, assert_holds, install};
use crate::pc::{Pc, sh};
use crate::support::{Program, assert_same_file, text, tools};

/// A PC whose first partition has 24 MiB, with a cache of 64 MiB that is marked by `sign`.
pub fn pc(sign: &str) -> Pc {
    let (table, label) = match sign {
        "label" => ("label: dos\nsize=24M, type=83\nsize=16M, type=83\nsize=4M, type=83\nsize=64M, type=83\n", "CACHE"),
        "type" => ("label: dos\nsize=24M, type=83\nsize=16M, type=83\nsize=4M, type=83\nsize=64M, type=ca\n", "data"),
        "name" => ("label: gpt\nsize=24M\nsize=16M\nsize=4M\nsize=64M, name=CACHE\n", "data"),
        _ => ("label: gpt\nsize=24M\nsize=16M\nsize=4M\nsize=64M, name=data\n", "CACHE"),
    };
    let pc = Pc::with_disk(112, table);
    sh(&format!("mkfs.ext4 -q -F -m 0 -L {label} {}", pc.partition(4).display()));
    pc
}

/// Runs a command that must succeed, with `ogrepo` as on the kernel's command line; returns its output.
pub fn done(pc: &Pc, ogrepo: &str, line: &str) -> String {
    let output = pc.command(line).env("ogrepo", ogrepo).output().expect("run an applet");
    assert_eq!(output.status.code(), Some(0), "{line}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_lab_of_disks_restores_renews_and_goes_on_without_its_server() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4", "e2fsck", "resize2fs", "debugfs"]) {
        return;
    }
    let mut repo = Repo::on(Pc::with_disk(32, "label: dos\nsize=24M, type=83\n"));
    repo.create(41);
    let pcs: Vec<Pc> = ["label", "type", "name", "label of gpt"].map(pc).into();
    for pc in &pcs {
        // They have the cache but not the repository's share.
        fs::remove_dir_all(pc.images("")).expect("remove the share");
        assert_eq!(pc.told("ogFindCache"), "1 4");
    }
    let start = |pc: &Pc| {
        let mut command = pc.command("restoreImage CACHE Ubuntu 1 1 TORRENT peer:2");
        pc.lab.start("restoreImage", command.env("ogrepo", &repo.address))
    };
    let mut restores: Vec<Program> = pcs.iter().map(start).collect();
    for (program, pc) in restores.iter_mut().zip(&pcs) {
        assert_eq!(program.wait(60).code(), Some(0), "{}", program.said());
        assert_same_file(&repo.pc.images("Ubuntu.img"), &pc.cached("Ubuntu.img"));
        assert_holds(pc, &repo.pc.lab.path("tree"));
        assert_eq!(pc.told("ogMountCache"), "/opt/opengnsys/cache");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
        let below = pc.lab.path("");
        let here: Vec<&str> = mounts.lines().filter(|line| line.contains(below.to_str().unwrap_or("?"))).collect();
        assert!(here.len() == 1 && here[0].contains("opt/opengnsys/cache"), "{here:?}");
    }
    repo.create(42);
    done(&pcs[0], &repo.address, "updateCache REPO /Ubuntu.img TORRENT peer:0");
    assert_same_file(&repo.pc.images("Ubuntu.img"), &pcs[0].cached("Ubuntu.img"));
    done(&pcs[1], &repo.address, "deployImage REPO Ubuntu 1 1 TORRENT peer:0");
    assert_holds(&pcs[1], &repo.pc.lab.path("tree"));

    // The server is switched off. A PC describes what its cache has, tracks and shares it; the others need its address.
    repo.daemons.iter_mut().for_each(|daemon| assert!(daemon.interrupt().success()));
    let teacher = &pcs[0];
    let _background = Background(teacher);
    let address = teacher.lab.host(2).to_string();
    for line in [&*format!("ogCreateTorrent CACHE /Ubuntu {address}"), "ogStartTracker", "ogShareTorrent CACHE /Ubuntu"]
    {
        let output = teacher.command(line).env("IPV4ADDR", &address).output().expect("run an applet");
        assert_eq!(output.status.code(), Some(0), "{line}\n{}{}", text(&output.stdout), text(&output.stderr));
    }
    let told = teacher.command("StartTracker").env("IPV4ADDR", &address).output().expect("run StartTracker");
    assert_eq!(text(&told.stdout), "bttrack iniciado\n");
    // Every address of loopback is one's own; here they are told apart by whether they are the repository's.
    done(&pcs[2], &address, &format!("restoreImage {address} Ubuntu 1 1 TORRENT peer:0"));
    assert_holds(&pcs[2], &repo.pc.lab.path("tree"));

    // The teacher's PC makes another image of its own partition, and is asked for that as well.
    install(teacher, 43);
    let output = teacher.command("createImage 1 1 CACHE aula1/Mint").env("IPV4ADDR", &address).output();
    let output = output.expect("run createImage");
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    done(&pcs[3], &address, &format!("restoreImage {address} aula1/Mint 1 1 TORRENT leecher:0"));
    assert_holds(&pcs[3], &teacher.lab.path("tree"));

    // Or its cache is mounted in place of a repository.
    std::os::unix::fs::symlink(teacher.cached(""), pcs[1].images("").parent().expect("a parent").join("images"))
        .expect("mount the teacher's cache");
    done(&pcs[1], &address, "updateCache REPO /aula1/Mint.img UNICAST");
    assert_same_file(&teacher.cached("aula1/Mint.img"), &pcs[1].cached("aula1/Mint.img"));
    done(&pcs[1], &address, "restoreImage REPO aula1/Mint 1 1");
    assert_holds(&pcs[1], &teacher.lab.path("tree"));
}
