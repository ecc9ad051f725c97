//! Raw bytes as numbers: little- and big-endian fields at checked offsets.

/// A structure on a disk, read field by field; a field past its end is zero.
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    /// One byte.
    pub fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.bytes(at))
    }

    /// A little-endian number of two bytes.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    /// A little-endian number of four bytes.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    /// A little-endian number of eight bytes.
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    /// A big-endian number of two bytes.
    pub fn be16(&self, at: usize) -> u16 {
        self.u16(at).swap_bytes()
    }

    /// A big-endian number of four bytes.
    pub fn be32(&self, at: usize) -> u32 {
        self.u32(at).swap_bytes()
    }

    /// A big-endian number of eight bytes.
    pub fn be64(&self, at: usize) -> u64 {
        self.u64(at).swap_bytes()
    }
}

/// Whether all bytes are zero; compared by words, as whole devices pass through here.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| (0..8).fold(0, |all, at| all | Fields(word).u64(at * 8)) == 0)
        && rest.iter().all(|byte| *byte == 0)
}
