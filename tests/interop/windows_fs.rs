//! NTFS, FAT and exFAT: partclone and ogbox save the same of them, and either restores it.
//!
//! Needs root: NTFS and exFAT are filled through FUSE, exFAT on a loop device.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::imaging::{fails, forced, path, restored_by_partclone, saved_by_partclone, sh, tree, works};
use crate::support::tools;

/// One file system: partclone's name, size, mkfs, how to reach its files, its checker. In the scripts FS is the file
/// system's file and DIR an empty directory; `mount` ends with the files in DIR, where they may be changed.
struct Kind {
    partclone: &'static str,
    size: &'static str,
    make: &'static str,
    mount: &'static str,
    unmount: &'static str,
    check: &'static str,
}

const NTFS: Kind = Kind {
    partclone: "ntfs",
    size: "96M",
    make: "mkfs.ntfs -q -F -f FS",
    mount: "ntfs-3g -o no_detach FS DIR > /dev/null 2>&1 & echo $! > DIR.pid; until mountpoint -q DIR; do sleep 0.05; done",
    unmount: "umount DIR; while kill -0 $(cat DIR.pid) 2> /dev/null; do sleep 0.05; done",
    check: "ntfsfix -n FS",
};

const FAT32: Kind = Kind {
    partclone: "fat",
    size: "80M",
    make: "mkfs.fat -F 32 FS",
    mount: "true",
    unmount: "true",
    check: "fsck.fat -n FS",
};

const EXFAT: Kind = Kind {
    partclone: "exfat",
    size: "64M",
    make: "mkfs.exfat FS",
    mount: "losetup -f --show FS > DIR.loop && mount.exfat-fuse $(cat DIR.loop) DIR > /dev/null 2>&1",
    unmount: "umount DIR; losetup -d $(cat DIR.loop); until [ -z \"$(losetup -j FS)\" ]; do sleep 0.05; done",
    check: "fsck.exfat -n FS",
};

impl Kind {
    fn run(&self, script: &str, fs: &Path, dir: &Path) {
        sh(&format!("set -e; {}", script.replace("FS", path(fs)).replace("DIR", path(dir))));
    }

    /// Makes the file system, filled, with holes where files were deleted and a file written into them.
    fn filled(&self, at: &Path) -> PathBuf {
        let (fs, dir, root) = (at.join("fs"), at.join("mounted"), at.join("tree"));
        fs::create_dir(&dir).unwrap();
        tree(&root);
        sh(&format!("truncate -s {} {}", self.size, fs.display()));
        self.run(self.make, &fs, &dir);
        if self.partclone == "fat" {
            let (fs, root) = (fs.display(), root.display());
            sh(&format!(
                "mcopy -i {fs} -s {root}/* :: && mdel -i {fs} '::few/file 1' '::many/file 7' '::many/file 80' && \
                 cp '{root}/few/file 3' {root}/late && mcopy -i {fs} {root}/late ::"
            ));
        } else {
            self.run(self.mount, &fs, &dir);
            let (dir, root) = (dir.display(), root.display());
            sh(&format!(
                "cp -r {root}/* {dir}; rm {dir}/few/file\\ 1 {dir}/many/file\\ 7 {dir}/many/file\\ 80; \
                 cp {root}/few/file\\ 3 {root}/late; cp {root}/late {dir}"
            ));
            self.run(self.unmount, &fs, Path::new(&dir.to_string()));
        }
        for gone in ["few/file 1", "many/file 7", "many/file 80"] {
            fs::remove_file(root.join(gone)).unwrap();
        }
        fs
    }

    /// Asserts that the checker finds no fault, and that every file is unchanged.
    fn assert_holds(&self, fs: &Path, root: &Path) {
        let out = TempDir::new().unwrap();
        let dir = out.path().join("mounted");
        fs::create_dir(&dir).unwrap();
        self.run(self.check, fs, &dir);
        if self.partclone == "fat" {
            sh(&format!("mcopy -i {} -s '::*' {1} && diff -r {1} {2}", fs.display(), dir.display(), root.display()));
        } else {
            self.run(self.mount, fs, &dir);
            let same = std::panic::catch_unwind(|| sh(&format!("diff -r {} {}", dir.display(), root.display())));
            self.run(self.unmount, fs, &dir);
            assert!(same.is_ok(), "{} of {}", self.partclone, fs.display());
        }
    }

    fn goes_both_ways(&self, partclone_is_right: bool) {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (fs, root) = (self.filled(dir.path()), at("tree"));
        let (ours, theirs, back) = (at("ours"), at("theirs"), at("back"));
        saved_by_partclone(self.partclone, "", &fs, &theirs);
        works(&["save", path(&fs), "-o", path(&ours)]);
        if partclone_is_right {
            let (ours, theirs) = (sh(&format!("lzop -dc {}", ours.display())).stdout, fs::read(&theirs).unwrap());
            let same = |range: std::ops::Range<usize>| ours.get(range.clone()) == theirs.get(range);
            assert!(same(30..106) && same(110..theirs.len()) && ours.len() == theirs.len());
            works(&["restore", path(&at("theirs")), path(&back)]);
            self.assert_holds(&back, &root);
            fs::remove_file(&back).unwrap();
        }
        works(&["restore", path(&ours), path(&back)]);
        self.assert_holds(&back, &root);
        fs::remove_file(&back).unwrap();
        restored_by_partclone(&ours, &back, self.size);
        if self.partclone == "ntfs" {
            // The copy of the boot sector is in no image, and only ogbox rewrites it.
            sh(&format!("ntfsfix {}", back.display()));
        }
        self.assert_holds(&back, &root);
    }
}

#[test]
fn ntfs_goes_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.ntfs", "lzop", "mkfs.ntfs", "ntfs-3g"]) {
        return;
    }
    NTFS.goes_both_ways(true);
    Kind { make: "mkfs.ntfs -q -F -f -c 512 FS", ..NTFS }.goes_both_ways(true);
    Kind { make: "mkfs.ntfs -q -F -f -c 65536 FS", ..NTFS }.goes_both_ways(true);
}

#[test]
fn fat_goes_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.fat", "lzop", "mkfs.fat", "mcopy"]) {
        return;
    }
    FAT32.goes_both_ways(true);
    Kind { make: "mkfs.fat -F 16 -s 4 FS", size: "64M", ..FAT32 }.goes_both_ways(true);
    Kind { make: "mkfs.fat -F 16 -S 4096 FS", size: "100M", ..FAT32 }.goes_both_ways(true);
    // partclone 0.3.23 misreads FAT12's entries: it takes 272 sectors for 183 of them, and not all the right ones.
    Kind { make: "mkfs.fat -F 12 -s 64 FS", size: "64M", ..FAT32 }.goes_both_ways(false);
}

#[test]
fn exfat_goes_both_ways_between_partclone_and_ogbox() {
    if !tools(&["partclone.exfat", "lzop", "mkfs.exfat", "mount.exfat-fuse"]) {
        return;
    }
    EXFAT.goes_both_ways(true);
    Kind { make: "mkfs.exfat -c 128K FS", ..EXFAT }.goes_both_ways(true);
}

#[test]
fn what_windows_left_unfinished_is_taken_only_by_force() {
    if !tools(&["partclone.ntfs", "lzop", "mkfs.ntfs", "ntfs-3g"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("mounted")).unwrap();
    let refused = |name: &str, script: &str, size: &str, why: &str| {
        let fs = at(name);
        sh(&format!("truncate -s {size} {}", fs.display()));
        NTFS.run(script, &fs, &at("mounted"));
        let error = fails(&["save", path(&fs), "-o", path(&at("image"))]);
        assert!(error.contains(why), "{error}");
        assert!(forced(&["save", path(&fs), "-o", path(&at("image"))]).contains(why));
        works(&["verify", path(&at("image"))]);
    };
    let hibernate = "mkfs.ntfs -q -F -f FS; ntfs-3g -o no_detach FS DIR > /dev/null 2>&1 & until mountpoint -q DIR; do sleep 0.05; done; mkdir DIR/f{1..400}; \
                     (echo -n hibr; head -c 100000 /dev/zero) > DIR/hiberfil.sys; umount DIR; wait";
    refused("hibernated", hibernate, "32M", "Windows is hibernated");
    // The flag is in $Volume, MFT record 3, behind type, length and the rest of $VOLUME_INFORMATION.
    let ntfs_dirty = "mkfs.ntfs -q -F -f FS; ntfsfix -d FS > /dev/null; python3 - FS <<'END'\n\
        import struct, sys\n\
        f = open(sys.argv[1], 'r+b'); d = f.read(512)\n\
        record = struct.unpack('<Q', d[48:56])[0] * d[13] * 512 + 3 * 1024\n\
        f.seek(record); r = bytearray(f.read(1024)); at = struct.unpack('<H', r[20:22])[0]\n\
        while r[at:at + 4] != b'\\x70\\0\\0\\0': at += struct.unpack('<I', r[at + 4:at + 8])[0]\n\
        value = at + struct.unpack('<H', r[at + 20:at + 22])[0]; r[value + 10] |= 1\n\
        f.seek(record); f.write(r)\nEND\n";
    refused("dirty", ntfs_dirty, "32M", "marked dirty");
    refused(
        "fat",
        "mkfs.fat -F 16 FS; printf '\\x01' | dd of=FS bs=1 seek=37 conv=notrunc",
        "20M",
        "FAT file system was not",
    );
    refused(
        "exfat",
        "mkfs.exfat FS; printf '\\x02' | dd of=FS bs=1 seek=106 conv=notrunc",
        "20M",
        "exFAT file system was not",
    );
}

#[test]
fn of_swap_only_the_header_is_kept() {
    if !tools(&["mkswap", "blkid"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    sh(&format!(
        "head -c 20M /dev/urandom > {0}; mkswap -q -U 01234567-89ab-cdef-0123-456789abcdef {0}",
        at("fs").display()
    ));
    works(&["save", path(&at("fs")), "-o", path(&at("image"))]);
    assert!(fs::metadata(at("image")).unwrap().len() < 10_000);
    works(&["restore", path(&at("image")), path(&at("back"))]);
    let told = sh(&format!("blkid -p -o value -s UUID {}", at("back").display())).stdout;
    assert_eq!(told, b"01234567-89ab-cdef-0123-456789abcdef\n");
}
