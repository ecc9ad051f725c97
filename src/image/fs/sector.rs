//! The sectors that a file system was made for, by its first bytes. It cannot be used on a disk of larger ones: the kernel
//! and Windows refuse it there.
//!
//! Sources: Linux 6.12 (`xfs_setup_devices`, `fat_fill_super`, `exfat_calibrate_blocksize`, `ext4_load_super`); Windows takes
//! neither NTFS nor BitLocker there. F2FS, Btrfs, swap and LUKS are written in pages, whatever their headers say of sectors.

use crate::image::fields::Fields;

/// Returns the name of the file system with this beginning, and the size of its sectors or smallest blocks, bytes; `None` if
/// it says none.
pub fn made_for(head: &[u8]) -> Option<(&'static str, u32)> {
    let f = Fields(head);
    let has = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let (name, sector) = match () {
        () if has(0, b"XFSB") => ("XFS", u32::from(f.be16(102))),
        () if has(3, b"NTFS    ") => ("NTFS", u32::from(f.u16(11))),
        () if has(3, b"-FVE-FS-") => ("BitLocker", u32::from(f.u16(11))),
        () if has(3, b"EXFAT   ") => ("exFAT", 1_u32.checked_shl(f.u8(108).into())?),
        // Before FAT, of which a boot sector may be left in front of it.
        () if f.u16(1080) == 0xef53 => ("ext", 1024_u32.checked_shl(f.u32(1048))?),
        () if has(510, b"\x55\xaa") && (has(54, b"FAT") || has(82, b"FAT32")) => ("FAT", u32::from(f.u16(11))),
        () => return None,
    };
    // Anything else is damage, which others name.
    (sector.is_power_of_two() && (512..=65_536).contains(&sector)).then_some((name, sector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_tells_the_sectors_that_a_file_system_was_made_for() {
        let head = |parts: &[(usize, &[u8])]| {
            let mut head = vec![0; 4096];
            for (at, bytes) in parts {
                head[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            head
        };
        let boot: (usize, &[u8]) = (510, b"\x55\xaa");
        for (parts, want) in [
            (vec![(0, &b"XFSB"[..]), (102, b"\x02\0")], Some(("XFS", 512))),
            (vec![(0, b"XFSB"), (102, b"\x10\0")], Some(("XFS", 4096))),
            (vec![(0, b"XFSB"), (102, b"\x02\x01")], None),
            (vec![(3, b"NTFS    \0\x10"), boot], Some(("NTFS", 4096))),
            (vec![(3, b"-FVE-FS-\0\x02"), boot], Some(("BitLocker", 512))),
            (vec![(3, b"EXFAT   "), (108, b"\x09")], Some(("exFAT", 512))),
            (vec![(3, b"EXFAT   "), (108, b"\xff")], None),
            (vec![(11, b"\0\x02"), (54, b"FAT16   "), boot], Some(("FAT", 512))),
            (vec![(11, b"\0\x10"), (82, b"FAT32   "), boot], Some(("FAT", 4096))),
            (vec![(11, b"\0\x02"), (54, b"FAT16   ")], None),
            (vec![(1080, b"\x53\xef")], Some(("ext", 1024))),
            (vec![(1080, b"\x53\xef"), (1048, b"\xff\0\0\0")], None),
            (vec![boot], None),
        ] {
            assert_eq!(made_for(&head(&parts)), want, "{parts:?}");
        }
        assert_eq!(made_for(b"XFSB"), None);
        assert_eq!(made_for(b""), None);
    }
}
