//! The switches that file systems have beside the common case: each is followed, noted or refused. And their copies: a good
//! one is taken when the first is bad.

use std::fs;

use ogbox::image::fs::used;
use ogbox::image::source::Source;

use crate::imaging::{fails, forced, noise, path, works};
use crate::lossless::Bench;
use crate::support::tools;

const TOOLS: &[&str] = &[
    "mkfs.ext4",
    "mkfs.xfs",
    "xfs_db",
    "mkfs.btrfs",
    "mkfs.f2fs",
    "mkfs.fat",
    "mkfs.exfat",
    "mkntfs",
    "mkswap",
    "losetup",
];

/// A file system, a byte that is changed in it, and what is said then.
struct Case {
    make: &'static str,
    at: u64,
    bytes: &'static [u8],
    says: &'static str,
}

/// Those that only `--force` saves.
const FORCED: &[Case] = &[
    Case { make: "mkfs.exfat fs", at: 106, bytes: &[4], says: "marked as on a failing disk" },
    Case { make: "mkswap fs", at: 4086, bytes: b"S2SUSPEND\0", says: "hibernated" },
    Case { make: "mkswap fs", at: 4086, bytes: b"LINHIB0001", says: "hibernated" },
];

/// Those whose features are not known.
const REFUSED: &[Case] = &[
    Case {
        make: "mkfs.ext4 -q -F fs",
        at: 1024 + 0x60 + 3,
        bytes: &[0x40],
        says: "features that are not known (0x40000000, 0x0)",
    },
    Case {
        make: "mkfs.ext4 -q -F fs",
        at: 1024 + 0x64 + 3,
        bytes: &[0x40],
        says: "features that are not known (0x0, 0x40000000)",
    },
    Case { make: "mkfs.xfs -q -f fs", at: 216, bytes: &[0x40], says: "features that are not known (0x40000000, 0x0)" },
    Case { make: "mkfs.xfs -q -f fs", at: 212, bytes: &[0x40], says: "features that are not known (0x0, 0x40000000)" },
];

impl Case {
    fn make(&self, bench: &Bench) {
        bench.sh(&format!("rm -f fs image; truncate -s 320M fs; {}", self.make));
        bench.write("fs", self.at, self.bytes);
    }
}

#[test]
fn what_is_not_as_it_should_be_is_saved_by_force_only_and_what_is_not_known_is_refused() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    let (fs, image) = (bench.at("fs"), bench.at("image"));
    let save = ["save", path(&fs), "-o", path(&image)];
    for case in FORCED {
        case.make(&bench);
        let said = fails(&save);
        assert!(said.contains(case.says) && !image.exists(), "{}: {said}", case.make);
        assert!(forced(&save).contains(case.says));
    }
    for case in REFUSED {
        case.make(&bench);
        let said = fails(&save);
        assert!(said.contains(case.says) && said.contains("--raw"), "{}: {said}", case.make);
        works(&["save", "--raw", path(&fs), "-o", path(&image)]);
        works(&["verify", path(&image), "--against", path(&fs)]);
    }
    // The trees of such a volume are not believed: every block is saved.
    bench
        .sh("rm -f fs; truncate -s 320M fs; mkfs.xfs -qf fs; xfs_db -x -c 'sb 0' -c 'write features_incompat 0x1b' fs");
    assert!(fails(&save).contains("in need of repair: run xfs_repair"));
    forced(&save);
    assert_eq!(used(&Source::open(&fs, false).unwrap()).unwrap().map.used(), 320 << 8);
}

#[test]
fn a_hibernated_system_is_not_lost_by_force() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh("truncate -s 16M fs; mkswap fs");
    bench.write("fs", 4086, b"S1SUSPEND");
    bench.write("fs", 1 << 20, &noise(1 << 20, 3));
    forced(&["save", path(&bench.at("fs")), "-o", path(&bench.at("image"))]);
    works(&["restore", path(&bench.at("image")), path(&bench.at("new"))]);
    assert!(fs::read(bench.at("fs")).unwrap() == fs::read(bench.at("new")).unwrap());
}

#[test]
fn a_journal_elsewhere_and_a_computer_that_uses_it_are_said() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    let (fs, image) = (bench.at("fs"), bench.at("image"));
    let save = ["save", path(&fs), "-o", path(&image)];
    bench.sh(
        "truncate -s 16M journal; mke2fs -q -F -b 4096 -O journal_dev journal; L=$(losetup -f --show journal); truncate -s 64M fs; \
         mkfs.ext4 -q -F -b 4096 -J device=$L fs; losetup -d $L",
    );
    assert!(works(&save).contains("the journal of this ext file system is on another device"));
    assert!(fails(&["save", path(&bench.at("journal")), "-o", path(&image)]).contains("an ext journal device"));
    bench.sh("rm -f fs; truncate -s 64M fs; mkfs.ext4 -q -F -b 4096 -O mmp fs");
    works(&save);
    let block = bench.sh("dumpe2fs -h fs | awk '/MMP block number/{print $4}'").trim().parse::<u64>().unwrap();
    bench.write("fs", block * 4096 + 4, &[9, 0, 0, 0]);
    assert!(fails(&save).contains("it is in use"));
}

#[test]
fn each_of_a_fats_tables_counts_where_they_are_not_alike() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh("truncate -s 80M fs; mkfs.fat -F 32 -s 1 -R 32 fs");
    let boot = fs::read(bench.at("fs")).unwrap();
    let word = |at: usize| u64::from(u32::from_le_bytes(boot[at..at + 4].try_into().unwrap()));
    let (table, data) = (word(36) * 512, (32 + 2 * word(36)) * 512);
    // Cluster 5,000 is used by the second table, which is the active one.
    bench.write("fs", 40, &[0x81, 0]);
    bench.write("fs", 32 * 512 + table + 5000 * 4, &[0xff, 0xff, 0xff, 0x0f]);
    bench.write("fs", data + 4998 * 512, b"only here");
    works(&["save", path(&bench.at("fs")), "-o", path(&bench.at("image"))]);
    works(&["restore", path(&bench.at("image")), path(&bench.at("new"))]);
    assert!(fs::read(bench.at("new")).unwrap()[(data + 4998 * 512) as usize..].starts_with(b"only here"));
}

/// File systems whose first superblock is spoilt at this byte, and what is said then.
const COPIES: &[Case] = &[
    Case {
        make: "mkfs.ext4 -q -F -b 4096 fs",
        at: 1024 + 0x20,
        bytes: &[0; 8],
        says: "its copy in the second group was taken",
    },
    Case {
        make: "mkfs.ext4 -q -F -b 1024 fs",
        at: 1024 + 0x04,
        bytes: &[255; 4],
        says: "its copy in the second group was taken",
    },
    Case { make: "mkfs.btrfs -q fs", at: 65536 + 144, bytes: &[7], says: "its copy at byte 67108864 was taken" },
    Case { make: "mkfs.f2fs -q fs", at: 1024 + 16, bytes: &[7], says: "the copy of the F2FS superblock is taken" },
    Case { make: "mkfs.exfat fs", at: 108, bytes: &[0], says: "its copy was taken" },
    Case { make: "mkntfs -FQq fs", at: 13, bytes: &[3], says: "the copy of its boot sector was taken" },
];

#[test]
fn a_good_copy_is_taken_where_the_first_is_bad() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    for case in COPIES {
        bench.sh(&format!("rm -f fs image; truncate -s 320M fs; {}", case.make));
        let sound = used(&Source::open(&bench.at("fs"), false).unwrap()).unwrap();
        bench.write("fs", case.at, case.bytes);
        let said = works(&["save", path(&bench.at("fs")), "-o", path(&bench.at("image"))]);
        assert!(said.contains(case.says), "{}: {said}", case.make);
        let taken = used(&Source::open(&bench.at("fs"), false).unwrap()).unwrap();
        assert!(sound.map == taken.map, "{}", case.make);
    }
}
