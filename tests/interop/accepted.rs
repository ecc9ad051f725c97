//! What is accepted with a note although it is not as it should be, as partclone and the kernel do.

use std::fs;
use std::os::unix::fs::FileExt;

use ogbox::image::container::Header;
use tempfile::TempDir;

use crate::imaging::{fails, make, path, sh, works};
use crate::support::tools;

#[test]
fn a_map_whose_count_is_not_the_headers_counts() {
    if !tools(&["mkfs.ext4", "debugfs", "partclone.restore"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "40M", "");
    works(&["save", "-c", "none", path(&fs), "-o", path(&at("image"))]);
    works(&["restore", path(&at("image")), path(&at("fresh"))]);
    let mut image = fs::read(at("image")).unwrap();
    let header = Header::parse(&image).unwrap();
    let used = header.used_by_map;
    for counted in [used + 5, used - 5] {
        image[..110].copy_from_slice(&Header { used_by_map: counted, ..header.clone() }.to_bytes());
        fs::write(at("wrong"), &image).unwrap();
        sh(&format!(
            "cd {}; rm -f theirs; truncate -s 40M theirs; partclone.restore -C -s wrong -O theirs -L /dev/null",
            path(dir.path())
        ));
        let said = works(&["restore", path(&at("wrong")), path(&at("ours"))]);
        let note = format!("its map has {used} used blocks, its header {counted}");
        assert!(said.contains(&note), "{said}");
        let read = |name: &str| fs::read(at(name)).unwrap();
        assert!(read("ours") == read("fresh") && read("theirs") == read("fresh"));
        fs::remove_file(at("ours")).unwrap();
        assert!(works(&["verify", path(&at("wrong"))]).contains(&note));
    }
}

#[test]
fn ntfs_that_reaches_to_the_last_sector_is_saved_and_fits_its_partition() {
    if !tools(&["mkfs.ntfs", "ntfsfix"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    sh(&format!("truncate -s 32M {0}; mkfs.ntfs -qFf -p 2048 {0}", path(&at("n"))));
    // All 65,536 sectors.
    let file = fs::File::options().write(true).open(at("n")).unwrap();
    file.write_all_at(&65_536_u64.to_le_bytes(), 40).unwrap();
    let said = works(&["save", path(&at("n")), "-o", path(&at("image"))]);
    assert!(said.contains("reaches to the last sector"), "{said}");
    fs::File::create(at("back")).unwrap().set_len(32 << 20).unwrap();
    works(&["restore", path(&at("image")), path(&at("back"))]);
    let (source, back) = (fs::read(at("n")).unwrap(), fs::read(at("back")).unwrap());
    assert!(source.len() == back.len() && source[..4096] == back[..4096]);
}

#[test]
fn exfat_whose_bitmap_has_no_chain_is_read_as_linux_does() {
    if !tools(&["mkfs.exfat"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    // The bitmap takes two clusters of 4 KiB.
    sh(&format!("truncate -s 200M {0}; mkfs.exfat -c 4K {0}", path(&at("x"))));
    let map = |image: &str| {
        let said = works(&["save", "-c", "none", path(&at("x")), "-o", path(&at(image))]);
        let bytes = fs::read(at(image)).unwrap();
        let header = Header::parse(&bytes).unwrap();
        (said, bytes[110..110 + header.map_size() as usize].to_vec())
    };
    let (said, sound) = map("sound");
    assert_eq!(said, "");
    let file = fs::File::options().read(true).write(true).open(at("x")).unwrap();
    let mut boot = [0; 512];
    file.read_exact_at(&mut boot, 0).unwrap();
    let table = u64::from(u32::from_le_bytes(*boot[80..].first_chunk().unwrap())) << boot[108];
    for chain in [[0; 8], [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]] {
        file.write_all_at(&chain, table + 8).unwrap();
        let (said, unchained) = map("unchained");
        assert!(said.contains("has no whole cluster chain") && unchained == sound, "{said}");
    }
}

#[test]
fn a_damaged_file_system_is_saved_by_force() {
    if !tools(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "40M", "");
    sh(&format!("debugfs -w -R 'set_bg 0 free_blocks_count 5' {}", path(&fs)));
    assert!(fails(&["save", path(&fs), "-o", path(&at("image"))]).contains(": byte "));
    let said = works(&["save", "--force", path(&fs), "-o", path(&at("image"))]);
    assert!(said.contains("each block that is not zero is saved"), "{said}");
    works(&["restore", path(&at("image")), path(&at("back"))]);
    assert!(fs::read(at("back")).unwrap() == fs::read(&fs).unwrap());
}
