//! XFS, Btrfs and F2FS: partclone and ogbox save the same of them, and either restores it.
//!
//! Needs root, and a kernel that mounts XFS and Btrfs: they are filled on loop devices. Targets are full of other
//! bytes before they are restored to, so that a block that is missing in an image is noticed.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::imaging::{fails, forced, path, saved_by_partclone, sh, tree, works};
use crate::support::tools;

/// One file system. In the scripts FS is the file system's file, TREE the directory of files and DIR an empty one;
/// `fill` leaves the files of TREE in FS, `look` those of FS in DIR.
struct Kind {
    partclone: &'static str,
    size: &'static str,
    make: &'static str,
    fill: &'static str,
    look: &'static str,
    check: &'static str,
}

/// Files that grow by turns, others deleted, and one written in their place.
const FILL: &str = "mount -o loop FS DIR; trap 'umount DIR' EXIT; cp -r TREE/* DIR; sync -f DIR; \
    for i in {1..12}; do for f in a b c; do head -c 9000 TREE/few/file\\ 1 | tee -a TREE/$f >> DIR/$f; done; sync -f DIR; done; \
    rm DIR/few/file\\ 4 DIR/many/file\\ ?; rm TREE/few/file\\ 4 TREE/many/file\\ ?; \
    cp TREE/few/file\\ 5 DIR/late; cp TREE/few/file\\ 5 TREE/late";
const LOOK: &str =
    "mkdir FS.mounted; mount -o loop,ro FS FS.mounted; trap 'umount FS.mounted' EXIT; cp -a FS.mounted/. DIR";

const XFS: Kind = Kind {
    partclone: "xfs",
    size: "300M",
    make: "mkfs.xfs -q -f FS",
    fill: FILL,
    look: LOOK,
    check: "xfs_repair -n FS",
};

const BTRFS: Kind = Kind {
    partclone: "btrfs",
    size: "128M",
    make: "mkfs.btrfs -q -f FS",
    fill: FILL,
    look: LOOK,
    check: "btrfs check --check-data-csum FS",
};

/// Filled and examined by f2fs-tools, since few kernels mount it. The dump goes by inodes; the root is 3.
const F2FS: Kind = Kind {
    partclone: "f2fs",
    size: "128M",
    make: "mkfs.f2fs -q -f FS",
    fill: "rm -r TREE/many TREE/sparse; sload.f2fs -f TREE FS",
    look: "cd DIR; mkdir few; for i in {4..20}; do dump.f2fs -i $i FS <<< y; done; \
        mv lost_found/* few; rmdir lost_found",
    check: "fsck.f2fs FS",
};

impl Kind {
    fn run(&self, script: &str, fs: &Path, root: &Path, dir: &Path) {
        let script = script.replace("FS", path(fs)).replace("TREE", path(root)).replace("DIR", path(dir));
        sh(&format!("set -e; {script}"));
    }

    fn filled(&self, at: &Path) -> PathBuf {
        let (fs, dir, root) = (at.join("fs"), at.join("dir"), at.join("tree"));
        fs::create_dir(&dir).unwrap();
        tree(&root);
        sh(&format!("truncate -s {} {}", self.size, fs.display()));
        self.run(self.make, &fs, &root, &dir);
        self.run(self.fill, &fs, &root, &dir);
        fs
    }

    /// Asserts that the checker finds no fault, and that every file is unchanged.
    fn assert_holds(&self, fs: &Path, root: &Path) {
        let out = TempDir::new().unwrap();
        let dir = out.path().join("dir");
        fs::create_dir(&dir).unwrap();
        self.run(self.check, fs, root, &dir);
        if !self.look.is_empty() {
            self.run(self.look, fs, root, &dir);
            sh(&format!("rm -rf {}.mounted; diff -r {} {}", fs.display(), root.display(), dir.display()));
        }
    }

    /// Makes a file of the file system's size without a zero byte.
    fn noisy(&self, target: &Path) {
        sh(&format!("head -c {} /dev/zero | tr '\\0' n > {}", self.size, target.display()));
    }

    fn goes_both_ways(&self) {
        println!("{} {}", self.make, self.size);
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (fs, root) = (self.filled(dir.path()), at("tree"));
        let (ours, theirs, back) = (at("ours"), at("theirs"), at("back"));
        saved_by_partclone(self.partclone, "", &fs, &theirs);
        works(&["save", path(&fs), "-c", "none", "-o", path(&ours)]);
        let (one, other) = (fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
        if self.partclone == "btrfs" {
            // partclone 0.3.23 takes whole tree nodes, and only one copy of duplicated data.
            let used = |image: &[u8]| u64::from_le_bytes(*image[68..].first_chunk().unwrap());
            let block = |image: &[u8]| u64::from(u32::from_le_bytes(*image[84..].first_chunk().unwrap()));
            assert_eq!(used(&one) * block(&one) / block(&other), used(&other), "the superblocks' counters agree");
        } else {
            let same = |range: std::ops::Range<usize>| one.get(range.clone()) == other.get(range);
            assert!(one.len() == other.len() && same(30..106) && same(110..other.len()), "{}", self.make);
        }
        for image in [&ours, &theirs] {
            if image == &theirs && self.make.contains("-d dup") {
                continue;
            }
            self.noisy(&back);
            works(&["restore", path(image), path(&back)]);
            self.assert_holds(&back, &root);
        }
        self.noisy(&back);
        sh(&format!("partclone.restore -C -s {} -O {} -L /dev/null", ours.display(), back.display()));
        self.assert_holds(&back, &root);
    }
}

#[test]
fn xfs_goes_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.xfs", "mkfs.xfs", "xfs_repair", "losetup"]) {
        return;
    }
    XFS.goes_both_ways();
    Kind { make: "mkfs.xfs -q -f -b size=1024 -m rmapbt=1,reflink=1 FS", ..XFS }.goes_both_ways();
    Kind { make: "mkfs.xfs -q -f -s size=4096 -d agcount=8 FS", size: "600M", ..XFS }.goes_both_ways();
    // Current kernels do not mount version 4: mkfs fills it, and comparing with partclone's image has to suffice.
    let proto = "(printf '/x\\n1 1\\nd--755 0 0\\n'; for f in 1 2 3; do echo f$f ---644 0 0 DIR/f$f; done; printf '$\\n$\\n') > DIR/proto; \
        for f in 1 2 3; do cp TREE/few/file\\ $f DIR/f$f; done; mkfs.xfs -q -f -m crc=0 -b size=512 -p DIR/proto FS";
    Kind { make: proto, fill: "true", look: "", ..XFS }.goes_both_ways();
}

#[test]
fn btrfs_goes_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.btrfs", "mkfs.btrfs", "losetup"]) {
        return;
    }
    BTRFS.goes_both_ways();
    Kind { make: "mkfs.btrfs -q -f -m single -n 4096 FS", ..BTRFS }.goes_both_ways();
    Kind { make: "mkfs.btrfs -q -f -m dup -d dup FS", size: "256M", ..BTRFS }.goes_both_ways();
    Kind { make: "mkfs.btrfs -q -f --mixed -O ^skinny-metadata,^no-holes FS", ..BTRFS }.goes_both_ways();
}

#[test]
fn f2fs_goes_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.f2fs", "mkfs.f2fs", "sload.f2fs", "dump.f2fs"]) {
        return;
    }
    F2FS.goes_both_ways();
    Kind { make: "mkfs.f2fs -q -f -s 2 -O extra_attr,inode_checksum,sb_checksum FS", size: "200M", ..F2FS }
        .goes_both_ways();
}

/// Makes a file system by a script in which FS is its file and DIR an empty directory; asserts that it is refused
/// for `why`, and saved by force. Returns the target.
fn refused(dir: &Path, kind: &Kind, script: &str, why: &str) -> PathBuf {
    let at = |name: &str| dir.join(name);
    let (fs, mounted, back) = (at("fs"), at("mounted"), at("back"));
    fs::create_dir(&mounted).unwrap();
    sh(&format!("truncate -s {} {}", kind.size, fs.display()));
    kind.run(kind.make, &fs, dir, &mounted);
    kind.run(script, &fs, dir, &mounted);
    let error = fails(&["save", path(&fs), "-o", path(&at("image"))]);
    assert!(error.contains(why) && error.ends_with("or take it as it is with --force"), "{error}");
    assert!(forced(&["save", path(&fs), "-o", path(&at("image"))]).contains(why));
    kind.noisy(&back);
    works(&["restore", path(&at("image")), path(&back)]);
    back
}

#[test]
fn an_xfs_whose_log_is_not_empty_is_taken_only_by_force() {
    if !tools(&["mkfs.xfs", "xfs_io", "losetup"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let crash =
        "mount -o loop FS DIR; cp /etc/hostname DIR/file; sync DIR/file; xfs_io -x -c 'shutdown -f' DIR; umount DIR";
    let back = refused(dir.path(), &XFS, crash, "the XFS log must be replayed");
    XFS.run(
        "mount -o loop FS DIR; trap 'umount DIR' EXIT; cmp /etc/hostname DIR/file",
        &back,
        dir.path(),
        &dir.path().join("mounted"),
    );
    works(&["save", path(&back), "-o", path(&dir.path().join("again"))]);
}

#[test]
fn a_btrfs_whose_log_tree_is_not_replayed_is_taken_only_by_force_and_then_with_it() {
    if !tools(&["mkfs.btrfs", "losetup"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    // Data that was synced by itself is in the log tree only, and so is a copy that is made before the next commit.
    let crash = "mount -o loop FS DIR; trap 'umount DIR; mv FS.crashed FS' EXIT; \
        dd if=/dev/zero of=DIR/file bs=64k count=5 conv=fsync status=none; cp --sparse=always FS FS.crashed";
    let back = refused(dir.path(), &BTRFS, crash, "the Btrfs log tree must be replayed");
    let look = "mount -o loop FS DIR; trap 'umount DIR' EXIT; [ $(stat -c %s DIR/file) = 327680 ]; cmp -n 327680 DIR/file /dev/zero";
    BTRFS.run(look, &back, dir.path(), &dir.path().join("mounted"));
    works(&["save", path(&back), "-o", path(&dir.path().join("again"))]);
    BTRFS.run(BTRFS.check, &back, dir.path(), dir.path());
}

#[test]
fn an_f2fs_that_was_not_unmounted_is_taken_only_by_force() {
    if !tools(&["mkfs.f2fs", "python3"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    // Both ends of both checkpoints lose the flag, and get a new checksum.
    let clear = "python3 - FS <<'END'\n\
        import struct, sys, zlib\n\
        f = open(sys.argv[1], 'r+b'); f.seek(1024 + 76); start = struct.unpack('<I', f.read(4))[0]\n\
        for pack in (start, start + 512):\n    \
            f.seek(pack * 4096 + 136); count = struct.unpack('<I', f.read(4))[0]\n    \
            for block in {pack, pack + max(count, 1) - 1}:\n        \
                f.seek(block * 4096); b = bytearray(f.read(4096)); b[132] &= 0xfe\n        \
                at = struct.unpack('<I', b[164:168])[0] % 4093\n        \
                b[at:at + 4] = struct.pack('<I', zlib.crc32(b[:at], 0xf2f52010 ^ 0xffffffff) ^ 0xffffffff)\n        \
                f.seek(block * 4096); f.write(b)\nEND\n";
    refused(dir.path(), &F2FS, clear, "was not unmounted");
}

#[test]
fn a_btrfs_of_several_devices_is_refused_even_by_force() {
    if !tools(&["mkfs.btrfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    sh(&format!("truncate -s 130M {0} {1}; mkfs.btrfs -q -f {0} {1}", one.display(), other.display()));
    let error = fails(&["save", "--force", path(&one), "-o", path(&dir.path().join("image"))]);
    assert!(error.contains("one of 2 devices"), "{error}");
}
