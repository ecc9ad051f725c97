//! `ogbox image` and partclone's programs on made-up images and file systems: each ends soon, with the right error, in
//! little memory, whatever a header claims and wherever a link leads.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ogbox::image::checksum::Mode;
use ogbox::image::codec;
use ogbox::image::container::{Header, MapMode, Version};

use crate::fuzz::{self, SIZE, STEP};
use crate::support::{Lab, binary, text};

/// Memory that a process may have, KiB, threads' stacks included, and the seconds that it may take on a busy machine;
/// alone, each takes less than two.
const MEMORY: u32 = 256 << 10;
const PATIENCE: u32 = 20;

/// Runs an applet within the limits.
fn bounded(words: &[&str]) -> Output {
    let limits = format!("ulimit -v {MEMORY}; exec timeout {PATIENCE} \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &limits, "sh"]).arg(binary()).args(words);
    command.output().expect("run it")
}

/// Asserts that an applet ends in time with this error.
fn assert_refused(words: &[&str], why: &str) {
    let output = bounded(words);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    assert!(said.contains(why), "{words:?}: {said}");
}

fn header(blocks: u64, block_size: u32, map: MapMode) -> Header {
    Header {
        version: Version::Two,
        made_by: "0.3.23".to_owned(),
        fs: "EXTFS".to_owned(),
        device_size: 1 << 40,
        blocks,
        used_by_super: 0,
        used_by_map: 0,
        block_size,
        cpu_bits: 64,
        checksum: Mode::Crc32,
        blocks_per_checksum: 2048,
        reseed: true,
        map,
    }
}

/// Writes an image of this header and of `part` bytes each of these, by zstd.
fn write_image(path: &Path, header: &Header, bytes: &[u8], part: usize) {
    let zstd = codec::named("zstd").expect("a codec");
    let (mut head, mut at) = (Some(header.to_bytes()), 0);
    let mut file = File::create(path).expect("make an image");
    let mut fill = |to: &mut [u8]| {
        if let Some(head) = head.take() {
            to[..head.len()].copy_from_slice(&head);
            return Ok(head.len());
        }
        let Some(byte) = bytes.get(at / part) else { return Ok(0) };
        let take = to.len().min(part - at % part);
        to[..take].fill(*byte);
        at += take;
        Ok(take)
    };
    codec::pack(zstd, &[], &mut fill, &mut |packed| {
        file.write_all(packed).expect("write an image");
        Ok(())
    })
    .expect("pack an image");
}

/// Asserts that fuzzers begin with `input`, too, which has to reach what it was made up for.
fn assert_seed(target: &str, name: &str, input: &[u8], why: &str) {
    let seed: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fuzz/seeds", target, name].iter().collect();
    if std::env::var_os("KEEP").is_some() {
        fs::create_dir_all(seed.parent().expect("a directory")).expect("make a directory");
        fs::write(&seed, input).expect("write a seed");
    }
    let is_kept = fs::read(&seed).is_ok_and(|kept| kept == input);
    assert!(is_kept, "{} is not what it was made from: KEEP=1 writes it anew", seed.display());
    let done = if target == "container" { fuzz::container(input) } else { fuzz::file_system(target, input) };
    let said = done.expect_err("it is refused").to_string();
    assert!(said.contains(why), "{target} {name}: {said}");
}

/// Asserts that all that read images refuse this one for the same reason.
fn assert_all_refuse(lab: &Lab, image: &Path, why: &str) {
    let (image, out) = (image.display().to_string(), lab.path("out").display().to_string());
    for job in ["info", "verify"] {
        assert_refused(&["image", job, &image], why);
    }
    assert_refused(&["image", "restore", "--progress", "none", &image, &out], why);
    assert_refused(&["image", "convert", "--progress", "none", "-o", &out, &image], why);
    assert_refused(&["partclone.chkimg", "-s", &image], why);
    assert_refused(&["partclone.restore", "-s", &image, "-o", &out], why);
}

#[test]
fn an_image_that_claims_impossible_blocks_is_refused_by_its_header() {
    let lab = Lab::new();
    let image = lab.path("x.img");
    for (blocks, size, why) in [
        (1 << 60, 1, "blocks of 1 bytes are impossible"),
        (1 << 40, 511, "blocks of 511 bytes are impossible"),
        (1 << 53, 512, "blocks are more than are supported"),
    ] {
        let claim = header(blocks, size, MapMode::Bit);
        write_image(&image, &claim, &[0], 512 << 20);
        assert_all_refuse(&lab, &image, why);
        assert_seed("container", &format!("claim-{size}-{blocks}"), &claim.to_bytes(), why);
        assert_refused(&["partclone.info", "-s", &image.display().to_string()], why);
    }
}

#[test]
fn a_map_of_a_gigabyte_in_a_small_image_takes_little_memory() {
    let lab = Lab::new();
    let image = lab.path("x.img");
    // The bits of blocks are cut short after 1 GiB; a byte a block, too.
    for (blocks, map) in [(1 << 37, MapMode::Bit), (1 << 36, MapMode::Byte)] {
        write_image(&image, &header(blocks, 512, map), &[0, 0xaa], 512 << 20);
        assert!(image.metadata().expect("look at it").len() < 1 << 20);
        assert_all_refuse(&lab, &image, "cut short within the map of used blocks");
    }
    // Less of it, as a fuzzer wants to try many.
    let little = lab.path("little.img");
    for (name, blocks, map) in [("map-of-bits", 1 << 37, MapMode::Bit), ("map-of-bytes", 1 << 36, MapMode::Byte)] {
        write_image(&little, &header(blocks, 512, map), &[0, 0xaa], 4 << 20);
        let input = fs::read(&little).expect("read an image");
        assert_seed("container", name, &input, "cut short within the map of used blocks");
    }
    write_image(&image, &header(1 << 32, 512, MapMode::None), &[], 512 << 20);
    let name = image.display().to_string();
    assert_refused(&["image", "verify", &name], "cut short within");
    assert!(bounded(&["partclone.info", "-s", &name]).status.success());
}

/// A made-up medium of [`SIZE`] bytes, zero where nothing was put.
struct Medium {
    lab: Lab,
    file: File,
    /// Where something was put, in multiples of [`STEP`].
    steps: RefCell<BTreeSet<u64>>,
}

impl Medium {
    fn new() -> Medium {
        let lab = Lab::new();
        let made = File::options().read(true).write(true).create_new(true).open(lab.path("medium"));
        let file = made.expect("make a medium");
        file.set_len(SIZE).expect("make it long");
        Medium { lab, file, steps: RefCell::default() }
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).expect("write a medium");
        let end = at + bytes.len() as u64;
        self.steps.borrow_mut().extend((at / STEP..end.div_ceil(STEP)).map(|step| step * STEP));
    }

    fn le16(&self, at: u64, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn le32(&self, at: u64, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn le64(&self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn be16(&self, at: u64, value: u16) {
        self.put(at, &value.to_be_bytes());
    }

    fn be32(&self, at: u64, value: u32) {
        self.put(at, &value.to_be_bytes());
    }

    fn be64(&self, at: u64, value: u64) {
        self.put(at, &value.to_be_bytes());
    }

    fn assert_not_saved(&self, why: &str) {
        let (out, medium) = (self.lab.path("out"), self.lab.path("medium"));
        let (out, medium) = (out.display().to_string(), medium.display().to_string());
        assert_refused(&["image", "save", "--progress", "none", "-o", &out, &medium], why);
    }

    /// Asserts that the fuzz target of its file system begins with it, too.
    fn assert_seed(&self, target: &str, name: &str, why: &str) {
        let input = fuzz::pieces(&self.file, self.steps.borrow().iter().copied());
        assert_seed(target, name, &input, why);
    }
}

#[test]
fn a_block_of_xfs_free_space_that_is_its_own_sibling_ends_the_walk() {
    let medium = Medium::new();
    let blocks = (SIZE / 4096) as u32;
    medium.put(0, b"XFSB");
    medium.be32(4, 4096);
    medium.be64(8, u64::from(blocks));
    medium.be64(48, 16); // The log: 16 blocks.
    medium.be32(84, blocks); // One group.
    medium.be32(88, 1);
    medium.be32(96, 16);
    medium.be16(100, 4);
    medium.be16(102, 512);
    medium.put(124, &[28]);
    medium.put(512, b"XAGF");
    medium.be32(512 + 16, 8); // The root of its tree, a leaf.
    medium.be32(512 + 28, 1);
    let leaf = 8 * 4096;
    medium.put(leaf, b"ABTB");
    medium.be32(leaf + 12, 8);
    // No extents, one, one of no blocks.
    for (records, first, count) in [(0, 0, 0), (1, 1000, 1), (1, 1000, 0)] {
        medium.be16(leaf + 6, records);
        medium.be32(leaf + 16, first);
        medium.be32(leaf + 20, count);
        let why = "XFS group 0: its tree of free space goes in circles";
        medium.assert_not_saved(why);
        medium.assert_seed("xfs", &format!("circle-{records}-{count}"), why);
    }
    medium.be32(96, blocks - 16);
    medium.assert_not_saved("the XFS superblock: a log of");
}

/// Writes an MFT record of NTFS with one sector's end inside its attributes, whose bytes there are both 1.
fn put_record(medium: &Medium, at: u64, attributes: &[u8]) {
    medium.put(at, b"FILE");
    medium.le16(at + 4, 48);
    medium.le16(at + 6, 3);
    medium.put(at + 48, &[1, 1, 1, 1, 0, 0]);
    medium.le16(at + 20, 56);
    medium.put(at + 56, attributes);
    medium.put(at + 56 + attributes.len() as u64, &[0xff; 4]);
    medium.put(at + 510, &[1, 1]);
    medium.put(at + 1022, &[1, 1]);
}

/// Returns an attribute of NTFS outside its record.
fn attribute(kind: u32, first: u64, length: u64, pairs: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[4..8].copy_from_slice(&(64 + pairs.len() as u32).to_le_bytes());
    bytes[8] = 1;
    bytes[10] = 64;
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    bytes[32] = 64;
    bytes[48..56].copy_from_slice(&length.to_le_bytes());
    bytes.extend(pairs);
    bytes
}

/// Makes an NTFS whose MFT has an attribute list of so many bytes, which names one record again and again.
fn ntfs(length: usize) -> Medium {
    let medium = Medium::new();
    medium.put(3, b"NTFS    ");
    medium.le16(11, 512);
    medium.put(13, &[8]);
    medium.le64(40, SIZE / 512);
    medium.le64(48, 16);
    medium.put(64, &[0xf6]); // Records of 1 KiB, index blocks of 4.
    medium.put(68, &[0xf4]);
    let mft = 16 * 4096;
    // The MFT and its attribute list: 256 clusters each at the most.
    let data = attribute(0x80, 0, 1 << 20, &[0x22, 0, 1, 16, 0, 0, 0, 0]);
    let clusters = ((length / 4096) as u16).to_le_bytes();
    let list = attribute(0x20, 0, length as u64, &[&[0x22], &clusters[..], &[0, 2, 0, 0, 0]].concat());
    put_record(&medium, mft, &[data, list].concat());
    // 430 holes of one cluster.
    put_record(&medium, mft + 1024, &attribute(0x80, 1000, 0, &[1; 860]));
    let mut entry = [0; 26];
    entry[0] = 0x80;
    entry[4] = 26;
    entry[16] = 1;
    medium.put(512 * 4096, &entry.repeat(length / 26));
    medium
}

#[test]
fn an_ntfs_attribute_list_that_names_a_record_again_and_again_costs_one_look_at_it() {
    let why = "NTFS record 6: not a sound MFT record";
    ntfs(1 << 20).assert_not_saved(why);
    ntfs(16 << 10).assert_seed("ntfs", "again-and-again", why);
}

#[test]
fn an_exfat_directory_that_is_its_own_next_cluster_ends_the_walk() {
    let medium = Medium::new();
    let (heap, clusters) = (1 << 22, (SIZE / 4096) as u32 - (1 << 19));
    medium.put(3, b"EXFAT   ");
    medium.le64(72, SIZE / 512);
    medium.le32(80, 32);
    medium.le32(88, heap);
    medium.le32(92, clusters);
    medium.le32(96, 2);
    medium.put(108, &[9, 3]);
    medium.put(u64::from(heap) * 512, &[0x85; 4096]);
    medium.le32(32 * 512 + 8, 2);
    let why = "an exFAT cluster chain goes in circles";
    medium.assert_not_saved(why);
    medium.assert_seed("exfat", "circle", why);
}

#[test]
fn btrfs_extents_of_more_than_the_volume_end_the_walk() {
    const NODE: usize = 16384;
    let medium = Medium::new();
    let leaf = |at: u64, items: &[(u8, u64, u64, &[u8])]| {
        let mut node = vec![0; NODE];
        node[48..56].copy_from_slice(&at.to_le_bytes());
        node[96..100].copy_from_slice(&(items.len() as u32).to_le_bytes());
        let mut end = NODE;
        for (number, (kind, object, offset, data)) in items.iter().enumerate() {
            end -= data.len();
            node[end..end + data.len()].copy_from_slice(data);
            let place = [(end - 101) as u32, data.len() as u32].map(u32::to_le_bytes).concat();
            let item = [&object.to_le_bytes()[..], &[*kind], &offset.to_le_bytes(), &place].concat();
            node[101 + number * 25..][..25].copy_from_slice(&item);
        }
        medium.put(at, &node);
    };
    // One chunk for all, and another tree's word that it is there a hundred times.
    let chunk = |copies: usize| {
        let mut bytes = vec![0; 48];
        bytes[..8].copy_from_slice(&SIZE.to_le_bytes());
        bytes[44] = copies as u8;
        let stripe = [&1_u64.to_le_bytes()[..], &[0; 24]].concat();
        bytes.extend(stripe.repeat(copies));
        bytes
    };
    let base = 64 << 10;
    medium.put(base + 64, b"_BHRfS_M");
    for (at, value) in [(80, 2 << 20), (88, 1 << 20), (112, SIZE), (136, 1), (201, 1)] {
        medium.le64(base + at, value);
    }
    medium.le32(base + 144, 4096);
    medium.le32(base + 148, NODE as u32);
    medium.le32(base + 160, 17 + 80);
    medium.put(base + 811, &[&[0; 8][..], &[228], &[0; 8], &chunk(1)].concat());
    let mut root = [0; 239];
    root[176..184].copy_from_slice(&(3_u64 << 20).to_le_bytes());
    leaf(1 << 20, &[(228, 256, 0, &chunk(100))]);
    leaf(2 << 20, &[(132, 2, 0, &root)]);
    leaf(3 << 20, &[(168, 0, SIZE, &[][..]); 600]);
    let why = "more extents than the volume has room for";
    medium.assert_not_saved(why);
    medium.assert_seed("btrfs", "extents", why);
}

/// Makes an ext file system of so many groups of 8 blocks and 2^31 inodes.
fn ext(groups: u32) -> Medium {
    let medium = Medium::new();
    let base = 1024;
    medium.le32(base + 0x4, groups * 8);
    medium.le32(base + 0x14, 1);
    medium.le32(base + 0x20, 8);
    medium.le32(base + 0x24, 8);
    medium.le32(base + 0x28, 1 << 31);
    medium.le16(base + 0x38, 0xef53);
    medium.le16(base + 0x3a, 1);
    medium.le32(base + 0x4c, 1);
    medium.le16(base + 0x58, 1 << 15);
    medium.le32(base + 0x64, 0x10);
    // No group's bitmap was ever written, so that its tables are marked.
    let mut group = [0; 32];
    group[0x12] = 2;
    medium.put(2048, &group.repeat(groups as usize));
    medium
}

#[test]
fn ext_inode_tables_of_more_than_the_device_are_refused() {
    ext(131_072).assert_not_saved("groups of 2147483648 inodes do not fit into 1048576 blocks");
    ext(64).assert_seed("extfs", "inode-tables", "groups of 2147483648 inodes do not fit into 512 blocks");
}
