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
}
