use proptest::prelude::*;

use super::*;

fn any_header() -> impl Strategy<Value = Header> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), 512_u32..65_536);
    let modes = (0_usize..3, 0_usize..3, any::<bool>(), 1_u32..u32::MAX);
    ("[ -~]{0,13}", "[A-Z0-9+_]{1,14}", numbers, modes, any::<bool>()).prop_map(
        |(made_by, fs, (device, blocks, used, map_used, block_size), (sum, map, reseed, covers), one)| {
            let checksum = [Mode::None, Mode::Crc32, Mode::Crc32V1][sum];
            let header = Header {
                version: Version::Two,
                made_by,
                fs,
                device_size: u64::from(device),
                blocks: u64::from(blocks) + 1,
                used_by_super: u64::from(used),
                used_by_map: u64::from(map_used),
                block_size,
                cpu_bits: 64,
                checksum,
                blocks_per_checksum: if checksum == Mode::None { 0 } else { covers },
                reseed,
                map: [MapMode::None, MapMode::Bit, MapMode::Byte][map],
            };
            if !one {
                return header;
            }
            Header {
                version: Version::One,
                made_by: String::new(),
                used_by_map: header.used_by_super,
                cpu_bits: 0,
                checksum: Mode::Crc32V1,
                blocks_per_checksum: 1,
                reseed: false,
                map: MapMode::Byte,
                ..header
            }
        },
    )
}

/// The header that partclone 0.3.23 wrote for an ext4 file system of 300 MiB.
const REAL: &str = "70617274636c6f6e652d696d61676500 302e332e3233 0000000000000000 30303032 dec0 \
    4558544653 0000000000000000000000 0000c01200000000 00b0040000000000 a9e2000000000000 a9e2000000000000 \
    00040000 12000000 0200 4000 2000 0400 00040000 01 01 91f2b108";

fn real() -> Vec<u8> {
    let digits: String = REAL.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_header_of_partclone_is_read_and_written_to_the_byte() {
    let header = Header::parse(&real()).unwrap();
    assert_eq!(
        header,
        Header {
            version: Version::Two,
            made_by: "0.3.23".into(),
            fs: "EXTFS".into(),
            device_size: 314_572_800,
            blocks: 307_200,
            used_by_super: 58_025,
            used_by_map: 58_025,
            block_size: 1024,
            cpu_bits: 64,
            checksum: Mode::Crc32,
            blocks_per_checksum: 1024,
            reseed: true,
            map: MapMode::Bit,
        }
    );
    assert_eq!(header.to_bytes(), real());
}

#[test]
fn a_flipped_bit_anywhere_in_the_header_is_noticed() {
    for bit in 0..real().len() * 8 {
        let mut damaged = real();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::parse(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let header = Header::parse(&real()).unwrap();
    let refused = |header: Header| Header::parse(&header.to_bytes()).unwrap_err().why;
    assert_eq!(
        refused(Header { blocks: u64::MAX / 1024, ..header.clone() }),
        "18014398509481983 blocks of 1024 bytes are impossible"
    );
    assert_eq!(refused(Header { blocks: 0, ..header.clone() }), "a file system without blocks");
    assert_eq!(refused(Header { block_size: 0, ..header.clone() }), "blocks of 0 bytes are impossible");
    assert_eq!(refused(Header { block_size: 1 << 30, ..header.clone() }), "blocks of 1073741824 bytes are impossible");
    assert_eq!(
        refused(Header { device_size: u64::MAX, ..header.clone() }),
        "a device of 18446744073709551615 bytes is impossible"
    );
    assert_eq!(
        refused(Header { blocks: 1 << 33, map: MapMode::None, ..header.clone() }),
        "8589934592 blocks are too many without a map of the used ones"
    );
    assert_eq!(refused(Header { blocks_per_checksum: 0, ..header }), "a checksum every 0 blocks is impossible");
}

proptest! {
    #[test]
    fn what_was_written_is_read(header in any_header()) {
        prop_assert_eq!(Header::parse(&header.to_bytes()).unwrap(), header);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), two in any::<bool>()) {
        let mut file = real();
        file[30..34].copy_from_slice(if two { b"0002" } else { b"0001" });
        file.truncate(36);
        file.extend(&bytes);
        let _ = (Header::parse(&file), Header::parse(&bytes));
    }
}
