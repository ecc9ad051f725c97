//! A piece of a compressed file, as the reader hands it to a worker.

/// A compressed piece as it is in the file.
#[derive(Default)]
pub struct Packed {
    /// Its offset in the file, bytes.
    pub at: u64,
    /// A buffer, reused for all pieces, with the piece in its first `used` bytes.
    pub data: Vec<u8>,
    /// Length of the piece in `data`, bytes.
    pub used: usize,
    /// Expanded size, bytes, or its limit if the format does not give it.
    pub plain: usize,
    /// Whether the file stores it uncompressed.
    pub stored: bool,
    /// `data` is already decompressed: a sequential stream is expanded while it is read.
    pub streamed: bool,
    /// Whether a checksum of all plain bytes begins with it.
    pub first: bool,
    /// Its checksums.
    pub sums: Sums,
}

/// Checksums of a piece; `None` if the format lacks them.
#[derive(Clone, Copy, Default)]
pub struct Sums {
    /// Adler-32 of the plain bytes.
    pub plain_adler: Option<u32>,
    /// CRC-32 of the plain bytes.
    pub plain_crc: Option<u32>,
    /// Adler-32 of the packed bytes.
    pub packed_adler: Option<u32>,
    /// CRC-32 of the packed bytes.
    pub packed_crc: Option<u32>,
    /// XXH32 of the packed bytes.
    pub packed_xxh: Option<u32>,
    /// XXH32 of the plain bytes of this piece and all before it, from the last [`first`](Packed::first) one on.
    pub whole: Option<u32>,
    /// Number of those bytes.
    pub size: Option<u64>,
}
