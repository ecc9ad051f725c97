//! Images as NBD exports, read by libnbd's and QEMU's programs and compared with the devices that they were made of.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::imaging::{assert_holds, make, path, sh, works};
use crate::support::{Lab, Program, applet, assert_same_file, text, tools};

/// Starts `ogbox image serve` with these arguments.
fn serve(lab: &Lab, name: &str, args: &[&str]) -> Program {
    let mut command = applet("image");
    command.current_dir(lab.path("")).arg("serve").args(args);
    let mut server = lab.start(name, &mut command);
    server.wait_for_line(" bytes", 20);
    server
}

/// The URI of export number `n` that a server printed.
fn uri(server: &Program, n: usize) -> String {
    let said = server.said();
    let uris: Vec<&str> =
        said.lines().filter(|line| line.starts_with("nbd")).filter_map(|line| line.split_whitespace().next()).collect();
    uris[n].to_owned()
}

#[test]
fn libnbd_and_qemu_read_an_image_in_each_compression() {
    if !tools(&["mkfs.ext4", "debugfs", "e2fsck", "nbdinfo", "nbdcopy", "qemu-img"]) {
        return;
    }
    let lab = Lab::new();
    let fs = make(&lab.path(""), "48M", "");
    for codec in ["lzop", "zstd", "lz4", "gzip", "none"] {
        let (image, whole, copy) = (lab.path(&format!("{codec}.img")), lab.path("whole"), lab.path("copy"));
        works(&["save", "-c", codec, "-o", path(&image), path(&fs)]);
        let _ = fs::remove_file(&whole);
        works(&["restore", path(&image), path(&whole)]);
        let socket = lab.path("a socket");
        let mut server = serve(&lab, codec, &[path(&image), "--socket", path(&socket)]);
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o700, "for its owner alone");
        let uri = uri(&server, 0);
        let size = text(&sh(&format!("nbdinfo --size '{uri}'")).stdout);
        assert_eq!(size.trim(), whole.metadata().unwrap().len().to_string());
        let info = text(&sh(&format!("nbdinfo '{uri}'")).stdout);
        assert!(info.contains("is_read_only: true") && info.contains("can_multi_conn: true"), "{info}");
        sh(&format!("nbdcopy '{uri}' {}", path(&copy)));
        assert_same_file(&copy, &whole);
        let compared = text(&sh(&format!("qemu-img compare -f raw -F raw '{uri}' {}", path(&whole))).stdout);
        assert_eq!(compared.trim(), "Images are identical.");
        assert!(server.interrupt().success() && !socket.exists(), "{}", server.said());
    }
}

#[test]
fn one_file_is_taken_out_of_the_image_of_a_disk() {
    if !tools(&["mkfs.ext4", "debugfs", "e2fsck", "sfdisk", "nbdinfo", "nbdcopy", "nbdfuse"]) {
        return;
    }
    let lab = Lab::new();
    let fs = make(&lab.path(""), "24M", "");
    let (disk, image) = (lab.path("disk"), lab.path("disk.dsk"));
    let script = "label: gpt\\nstart=2048,size=8192\\nstart=10240,size=49152\\n";
    sh(&format!("truncate -s 40M {0}; printf '{script}' | sfdisk -q {0}", path(&disk)));
    sh(&format!("dd if={} of={} bs=1M seek=5 conv=notrunc status=none", path(&fs), path(&disk)));
    works(&["save", "-c", "zstd", "-o", path(&image), path(&disk)]);
    let server = serve(&lab, "disk", &[path(&image), "--port", "0"]);
    let (all, second) = (uri(&server, 0), uri(&server, 2));
    assert!(second == format!("{all}2"), "{}", server.said());
    let listed = text(&sh(&format!("nbdinfo --list {all}")).stdout);
    for export in ["export=\"\":", "export=\"1\":", "export=\"2\":"] {
        assert!(listed.contains(export), "{listed}");
    }
    let (part, mounted) = (lab.path("part"), lab.make_dir("mounted"));
    sh(&format!("nbdcopy {second} {}", path(&part)));
    assert_holds(&part, &lab.path("tree"));
    // Through FUSE debugfs reads only the blocks of that file.
    let mut fuse = std::process::Command::new("nbdfuse");
    let mut fuse = lab.start("nbdfuse", fuse.args([path(&mounted), &second]));
    crate::support::eventually("nbdfuse shows its file", 20, || mounted.join("nbd").exists());
    let file = lab.path("file");
    sh(&format!("debugfs -c -R 'dump \"/few/file 2\" {}' {}", path(&file), path(&mounted.join("nbd"))));
    assert_same_file(&file, &lab.path("tree/few/file 2"));
    fuse.signal(Signal::TERM);
    fuse.wait(10);
}

#[test]
fn what_cannot_be_served_is_refused_before_a_socket_is_there() {
    if !tools(&["mkfs.ext4", "debugfs", "e2fsck", "lzop"]) {
        return;
    }
    let lab = Lab::new();
    let fs = make(&lab.path(""), "24M", "");
    let image = lab.path("fs.img");
    works(&["save", "-o", path(&image), path(&fs)]);
    fs::write(lab.path("taken"), "mine").unwrap();
    for (args, why) in [
        (&["fs.img", "--partition", "1"][..], "has no partition 1"),
        (&["fs", "--port", "0"], "fs: byte "),
        (&["nothing.img"], "open nothing.img: No such file"),
        (&["fs.img", "--socket", "taken"], "listen on taken: Address"),
        (&["fs.img", "--socket", "x", "--port", "1"], "exclude each other"),
    ] {
        let mut command = applet("image");
        let output = command.current_dir(lab.path("")).arg("serve").args(args).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{args:?}: {said}");
    }
    assert_eq!(fs::read(lab.path("taken")).unwrap(), b"mine");
    assert!(!lab.path("fs.img.nbd").exists() && !lab.path("x").exists());
}
