//! A piece of a compressed file, as it is handed from the reader to a worker.

/// A compressed piece as it stands in the file.
#[derive(Default)]
pub struct Packed {
    /// Where it begins in the file, bytes.
    pub at: u64,
    /// Its bytes are the first `used` of these; the buffer is kept from piece to piece.
    pub data: Vec<u8>,
    /// Bytes of `data` that count.
    pub used: usize,
    /// Bytes it expands to, or the most that it may where the format says no more.
    pub plain: usize,
    /// Its bytes are the plain ones.
    pub stored: bool,
    /// Its bytes are plain already: it is of a stream that is expanded while it is read, for nothing of it can be without
    /// all before it.
    pub streamed: bool,
    /// It is the first one that a checksum of all plain bytes covers.
    pub first: bool,
    /// The checksums that came with it.
    pub sums: Sums,
}

/// Checksums of a piece, as far as the format has them.
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
    /// XXH32 of the plain bytes of this piece and all before it, from the last that is a first one.
    pub whole: Option<u32>,
    /// How many bytes those are.
    pub size: Option<u64>,
}
