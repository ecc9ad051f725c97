//! What destroys: outputs in the place of device nodes, and targets whose bytes somebody reads or has in another way.
//!
//! Needs root, for loop devices and a /dev of the test's own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::devices::{Loop, Mount, Partitions, ext4};
use crate::imaging::{fails, path, sh, works};
use crate::support::{applet, binary, eventually, text, tools};

/// A /dev in memory with a block device `X`, a /dev/shm and a null device; then what must fail, what must work, and what is
/// there afterwards.
const NODES: &str = r#"
set -e
mount -t tmpfs none /dev
mkdir /dev/shm
mount -t tmpfs none /dev/shm
mknod /dev/null c 1 3
mknod /dev/X b 7 $MINOR
refused() { if "$@" > /dev/null 2>> said; then echo "$* ended well"; exit 1; fi; }
refused $OGBOX image save fs -o /dev/X
refused $OGBOX image convert image -o /dev/X
refused $OGBOX ctorrent -t -u http://127.0.0.1/announce -s /dev/X --force fs
refused $OGBOX image save fs -o /dev/sdz9
refused $OGBOX partclone.info -L /dev/X -s image
refused $OGBOX partclone.info -L /dev/sdz9 -s image
refused $OGBOX image restore image /dev/sdz9
mkfifo pipe
cat pipe > through &
$OGBOX image convert -c none image -o pipe 2> /dev/null
wait
$OGBOX image convert -c none image 2> /dev/null | cmp - through
$OGBOX image save fs -o /dev/null 2> /dev/null
$OGBOX image restore image /dev/shm/new 2> /dev/null
test -b /dev/X -a -c /dev/null -a -p pipe -a -s /dev/shm/new
echo $(ls -A /dev) $(ls -A | grep pipe)
umount /dev/shm
"#;

#[test]
fn no_device_node_is_replaced_and_nothing_is_made_among_them() {
    if !tools(&["losetup", "mkfs.ext4", "unshare"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 4096);
    works(&["save", path(&at("fs")), "-o", path(&at("image"))]);
    sh(&format!("head -c 80M /dev/urandom > {}", path(&at("disk"))));
    let before = fs::read(at("disk")).unwrap();
    let device = Loop::over(&at("disk"), 512);
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", NODES]).current_dir(dir.path()).env("OGBOX", binary());
    let output = shell.env("MINOR", device.0.trim_start_matches("/dev/loop")).output().unwrap();
    let said = fs::read_to_string(at("said")).unwrap();
    assert!(output.status.success(), "{}{}{said}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout), "X null shm pipe\n");
    assert_eq!(said.matches("which only restoring writes to: name a file").count(), 4, "{said}");
    assert!(said.contains("create the log /dev/sdz9: there is no such device"), "{said}");
    let last = said.lines().last().unwrap();
    let name = device.0.trim_start_matches("/dev/");
    assert!(last.contains("there is no device /dev/sdz9: nothing was written") && last.contains(name), "{last}");
    assert!(fs::read(at("disk")).unwrap() == before);
}

#[test]
fn an_output_in_the_place_of_its_source_is_refused_before_the_first_byte() {
    if !tools(&["losetup", "mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 4096);
    works(&["save", path(&at("fs")), "-c", "none", "-o", path(&at("image"))]);
    fs::hard_link(at("fs"), at("fs2")).unwrap();
    fs::hard_link(at("image"), at("image2")).unwrap();
    sh(&format!("cp {} {}; truncate -s 80M {1}", path(&at("image")), path(&at("disk"))));
    let device = Loop::over(&at("disk"), 512);
    let before = [fs::read(at("fs")).unwrap(), fs::read(at("image")).unwrap(), fs::read(at("disk")).unwrap()];
    for args in [
        ["save", path(&at("fs")), "-o", path(&at("fs"))].as_slice(),
        &["save", path(&at("fs")), "-o", path(&at("fs2"))],
        &["convert", path(&at("image")), "-o", path(&at("image2"))],
        &["restore", path(&at("image")), path(&at("image"))],
        &["restore", path(&at("image")), path(&at("image2"))],
        &["restore", &device.0, &device.0],
        &["restore", path(&at("disk")), &device.0],
        &["restore", &device.0, path(&at("disk"))],
    ] {
        let error = fails(args);
        assert!(error.contains("is where the bytes are read from: nothing was written"), "{args:?}: {error}");
    }
    for (from, to) in [(path(&at("fs")), path(&at("fs2"))), (&device.0, &device.0), (&device.0, path(&at("disk")))] {
        let output = applet("partclone.dd").args(["-s", from, "-O", to]).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("is where the bytes are read from"), "{said}");
    }
    let mut command = applet("image");
    command.args(["restore", "-", path(&at("image"))]).stdin(fs::File::open(at("image2")).unwrap());
    let output = command.output().unwrap();
    assert!(text(&output.stderr).contains("is where the bytes are read from"), "{output:?}");
    let after = [fs::read(at("fs")).unwrap(), fs::read(at("image")).unwrap(), fs::read(at("disk")).unwrap()];
    assert!(before == after);
}

#[test]
fn a_file_is_restored_to_by_one_at_a_time() {
    if !tools(&["mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 4096);
    works(&["save", path(&at("fs")), "-c", "none", "-o", path(&at("image"))]);
    for target in ["new", "old"] {
        sh(&format!("cd {}; truncate -s 64M old; rm -f pipe; mkfifo pipe", path(dir.path())));
        let mut first = applet("image");
        first.args(["restore", "-", path(&at(target))]).stderr(Stdio::null()).stdin(Stdio::piped());
        let mut first = first.spawn().unwrap();
        let bytes = fs::read(at("image")).unwrap();
        let mut pipe = first.stdin.take().unwrap();
        let (front, rest) = bytes.split_at(bytes.len() / 2);
        std::io::Write::write_all(&mut pipe, front).unwrap();
        // A new file is hidden until it is whole.
        let is_target = |name: &str| name == "old" || name.starts_with(".new.");
        let has_bytes = || {
            let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
            let mut targets = entries.filter(|entry| is_target(&entry.file_name().to_string_lossy()));
            targets.any(|entry| entry.metadata().is_ok_and(|found| std::os::unix::fs::MetadataExt::blocks(&found) > 0))
        };
        eventually("the first one writes", 30, has_bytes);
        let error = fails(&["restore", path(&at("image")), path(&at(target))]);
        assert!(error.contains("is being written by another process: nothing was written"), "{error}");
        std::io::Write::write_all(&mut pipe, rest).unwrap();
        drop(pipe);
        assert!(first.wait().unwrap().success());
        sh(&format!("e2fsck -fn {}", path(&at(target))));
    }
}

#[test]
fn what_a_loop_device_is_made_of_and_a_loop_device_over_a_mount_are_not_written_to() {
    if !tools(&["losetup", "mount", "mkfs.ext4", "sfdisk", "partx"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    ext4(&at("fs"), 4096);
    works(&["save", path(&at("fs")), "-o", path(&at("image"))]);
    fs::hard_link(at("fs"), at("fs2")).unwrap();
    fs::create_dir(at("mounted")).unwrap();
    sh(&format!(
        "cd {}; truncate -s 66M disk; printf 'label: gpt\\nsize=64M\\n' | sfdisk -q disk; dd if=fs of=disk bs=1M seek=1 \
         conv=notrunc status=none",
        path(dir.path())
    ));
    let refused = |target: &str, why: &str| {
        for args in [&["restore", path(&at("image")), target][..], &["restore", "--force", path(&at("image")), target]]
        {
            let error = fails(args);
            assert!(error.contains(why) && error.contains("nothing was written"), "{args:?}: {error}");
        }
    };
    let mounted = at("mounted");
    let file = Loop::over(&at("fs"), 512);
    {
        let _mount = Mount::of(&file.0, &mounted);
        refused(path(&at("fs")), &format!("is what {} is made of", file.0));
        refused(path(&at("fs2")), &format!("is what {} is made of", file.0));
        let other = Loop::over(&at("fs"), 512);
        refused(&other.0, &format!("shares bytes with {}, which is mounted", file.0));
    }
    {
        let other = Loop::over(&at("fs"), 512);
        works(&["restore", path(&at("image")), &other.0]);
    }
    let disk = Loop::over(&at("disk"), 512);
    let partitions = Partitions::of(&disk);
    let part = partitions.name(1);
    let over = Loop::over(Path::new(&part), 512);
    {
        let _mount = Mount::of(&over.0, &mounted);
        for target in [&part, &disk.0] {
            refused(target, &format!("is what {} is made of", over.0));
        }
    }
    {
        let _mount = Mount::of(&part, &mounted);
        refused(&over.0, &format!("is made of {part}, which is mounted or otherwise in use"));
    }
    works(&["restore", path(&at("image")), &over.0]);
    drop(over);
    works(&["restore", path(&at("image")), &part]);
}
