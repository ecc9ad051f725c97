//! One partition, whichever table it is in.

/// A partition as its table describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as Linux numbers it: from 1 on.
    pub number: u32,
    /// Its offset on the disk, bytes.
    pub start: u64,
    /// Its size, bytes.
    pub size: u64,
    /// Its type.
    pub kind: Kind,
    /// Its name in a GPT; empty in an MBR, which has none.
    pub name: String,
}

/// AF9B60A0-1431-4F62-BC68-3311714A69AD, 5808C8AA-7E8F-42E0-85D2-E1E90434CFB3, E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D and
/// 516E7CB4-6ECF-11D6-8FF8-00022D09712B in the byte order of the disk.
const LDM_DATA: [u8; 16] = *b"\xa0\x60\x9b\xaf\x31\x14\x62\x4f\xbc\x68\x33\x11\x71\x4a\x69\xad";
const LDM_METADATA: [u8; 16] = *b"\xaa\xc8\x08\x58\x8f\x7e\xe0\x42\x85\xd2\xe1\xe9\x04\x34\xcf\xb3";
const STORAGE_SPACES: [u8; 16] = *b"\x8f\xaf\x5c\xe7\x80\xf6\xee\x4c\xaf\xa3\xb0\x01\xe5\x6e\xfc\x2d";
const BSD_LABEL: [u8; 16] = *b"\xb4\x7c\x6e\x51\xcf\x6e\xd6\x11\x8f\xf8\x00\x02\x2d\x09\x71\x2b";

/// The type of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The type byte of an MBR.
    Mbr(u8),
    /// The type GUID of a GPT, in the byte order of the disk.
    Gpt([u8; 16]),
}

impl Kind {
    /// Whether it only holds logical partitions.
    pub fn is_extended(self) -> bool {
        matches!(self, Kind::Mbr(0x05 | 0x0f | 0x85))
    }

    /// What it is whose parts are described elsewhere than in the table, so that a file system at its beginning need not
    /// be all that it holds: a dynamic disk of Windows, slices of BSD and the like.
    pub fn holds_several(self) -> Option<&'static str> {
        match self {
            Kind::Mbr(0x42) | Kind::Gpt(LDM_DATA | LDM_METADATA) => Some("a Windows dynamic disk"),
            Kind::Gpt(STORAGE_SPACES) => Some("a Windows storage pool"),
            Kind::Mbr(0x63 | 0x81 | 0xa5 | 0xa6 | 0xa9 | 0xbf) | Kind::Gpt(BSD_LABEL) => Some("slices"),
            _ => None,
        }
    }
}
