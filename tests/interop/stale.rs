//! What a restore must not leave on its target: signatures of an older content that the image does not overwrite, and that
//! would win over the new one, or make blkid and mount call it ambiguous.

use std::fs;

use crate::imaging::{path, works};
use crate::lossless::{Bench, md_1};
use crate::support::tools;

const TOOLS: &[&str] = &["mkswap", "mkfs.btrfs", "cryptsetup", "blkid", "sfdisk", "mkfs.jfs", "mkfs.ext4", "wipefs"];

/// A script that puts an older content into `target`, and the name by which it is cleared.
const OLDER: &[(&str, &str)] = &[
    ("mkfs.btrfs -q target", "btrfs"),
    ("echo p | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 target -", "crypto_LUKS"),
    ("mkfs.jfs -q target", "jfs"),
    ("dd if=md of=target bs=4096 seek=1 conv=notrunc", "linux_raid_member"),
    ("printf ReIsEr2Fs | dd of=target bs=1 seek=65588 conv=notrunc", "reiserfs"),
];

#[test]
fn a_swap_is_all_that_is_found_whatever_was_there() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.write("md", 0, &md_1(4096));
    bench.sh("truncate -s 64M swap; mkswap -q swap");
    works(&["save", path(&bench.at("swap")), "-o", path(&bench.at("image"))]);
    for (older, name) in OLDER {
        bench.sh(&format!("rm -f target; truncate -s 128M target; {older}"));
        let said = works(&["restore", "--verify", path(&bench.at("image")), path(&bench.at("target"))]);
        assert!(
            said.contains(&format!("the signature of {name} at byte ")) && said.contains("it is cleared"),
            "{said}"
        );
        assert_eq!(bench.sh("blkid -p -o value -s TYPE target").trim(), "swap", "{older}");
        assert_eq!(bench.sh("wipefs -n -p target | grep -vc '^#'").trim(), "1", "{older}");
        // There is nothing left to say then.
        let said = works(&["restore", path(&bench.at("image")), path(&bench.at("target"))]);
        assert!(!said.contains("signature"), "{said}");
    }
}

#[test]
fn a_disks_partitions_hold_what_its_image_does_and_no_array_claims_a_larger_disk() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh(
        "truncate -s 90M disk; printf 'label: dos\nstart=2048,size=65536,type=82\nstart=67584,size=65536,type=83\n' | sfdisk -q \
         disk; truncate -s 32M swap; mkswap -q swap; dd if=swap of=disk bs=1M seek=1 conv=notrunc; truncate -s 32M ext4; mkfs.ext4 \
         -q -F ext4; dd if=ext4 of=disk bs=1M seek=33 conv=notrunc",
    );
    works(&["save", path(&bench.at("disk")), "-o", path(&bench.at("image"))]);
    // An older Btrfs where the swap will be, an array at the end, and a volume that used all of the disk.
    bench.sh("truncate -s 121M target; mkfs.btrfs -q target; printf _BHRfS_M | dd of=target bs=1 seek=$(((1 << 20) + 65600)) conv=notrunc");
    bench.write("target", (121 << 20) - 1024, b"Intel Raid ISM Cfg Sig. 1.0.00");
    let said = works(&["restore", path(&bench.at("image")), path(&bench.at("target"))]);
    for (name, at) in [("btrfs", (1 << 20) + 65600), ("isw_raid_member", (121 << 20) - 1024)] {
        let line = format!("the signature of {name} at byte {at}");
        let all = said.contains(&line)
            || name == "btrfs" && said.contains("the signature of btrfs at byte 65600, and 1 more,");
        assert!(all, "{line}: {said}");
    }
    assert_eq!(bench.sh("blkid -p -o value -s PTTYPE target; blkid -p -o value -s TYPE target || true").trim(), "dos");
    bench.sh("dd if=target of=one bs=1M skip=1 count=32; dd if=target of=two bs=1M skip=33 count=32");
    assert_eq!(bench.sh("blkid -p -o value -s TYPE one; blkid -p -o value -s TYPE two").trim(), "swap\next4");
    // The blocks of the image are its own, marks in them included.
    assert!(fs::read(bench.at("two")).unwrap()[..4096] == fs::read(bench.at("ext4")).unwrap()[..4096]);
}

#[test]
fn what_lies_behind_a_smaller_file_system_stays_but_for_its_signature() {
    if !tools(TOOLS) {
        return;
    }
    let bench = Bench::new();
    bench.sh("truncate -s 32M ext4; mkfs.ext4 -q -F ext4; truncate -s 64M target");
    works(&["save", path(&bench.at("ext4")), "-o", path(&bench.at("image"))]);
    bench.write("target", 40 << 20, b"something else");
    bench.write("target", (64 << 20) - 8192, &md_1((64 << 20) - 8192));
    let said = works(&["restore", path(&bench.at("image")), path(&bench.at("target"))]);
    assert!(said.contains("the signature of linux_raid_member at byte 67100672 was left"), "{said}");
    let bytes = fs::read(bench.at("target")).unwrap();
    assert!(bytes[40 << 20..].starts_with(b"something else"));
    assert_eq!(bench.sh("blkid -p -o value -s TYPE target").trim(), "ext4");
}
