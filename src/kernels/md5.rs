//! MD5 (RFC 1321), by which OpenGnsys checks images: against accidents, not against people.

/// One step of a round: how it mixes three words, and which word of the block it takes.
type Mix = fn(u32, u32, u32) -> u32;

/// The rounds: mixing function, first word of the block, step from word to word, the four shifts.
const ROUNDS: [(Mix, usize, usize, [u32; 4]); 4] = [
    (|b, c, d| (b & c) | (!b & d), 0, 1, [7, 12, 17, 22]),
    (|b, c, d| (b & d) | (c & !d), 1, 5, [5, 9, 14, 20]),
    (|b, c, d| b ^ c ^ d, 5, 3, [4, 11, 16, 23]),
    (|b, c, d| c ^ (b | !d), 0, 7, [6, 10, 15, 21]),
];

/// `floor(2^32 × |sin(i + 1)|)`.
const SINES: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8,
    0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340,
    0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87,
    0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
    0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039,
    0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92,
    0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
    0xeb86d391,
];

/// A running sum.
pub struct Md5 {
    state: [u32; 4],
    /// Bytes taken.
    length: u64,
    /// The taken bytes that do not fill a block yet.
    rest: [u8; 64],
}

impl Default for Md5 {
    fn default() -> Md5 {
        Md5::new()
    }
}

impl Md5 {
    /// Creates the sum of no bytes.
    pub fn new() -> Md5 {
        Md5 { state: [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476], length: 0, rest: [0; 64] }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.length % 64) as usize;
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if filled > 0 {
            let take = bytes.len().min(64 - filled);
            self.rest[filled..filled + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if filled + take < 64 {
                return;
            }
            block(&mut self.state, &self.rest);
        }
        let (blocks, rest) = bytes.as_chunks::<64>();
        for bytes in blocks {
            block(&mut self.state, bytes);
        }
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    /// Returns the sum of all bytes added.
    pub fn finish(mut self) -> [u8; 16] {
        let bits = self.length.wrapping_mul(8);
        let padding = 1 + (119 - self.length % 64) % 64;
        let mut end = [0; 64];
        end[0] = 0x80;
        self.update(&end[..padding as usize]);
        self.update(&bits.to_le_bytes());
        let mut sum = [0; 16];
        for (bytes, word) in sum.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        sum
    }
}

fn block(state: &mut [u32; 4], bytes: &[u8; 64]) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, (mix, first, step, shifts)) in ROUNDS.iter().enumerate() {
        for at in 0..16 {
            let word = words[(first + step * at) % 16];
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(word).wrapping_add(SINES[round * 16 + at]);
            let next = b.wrapping_add(sum.rotate_left(shifts[at % 4]));
            (a, d, c, b) = (d, c, b, next);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn md5(parts: &[&[u8]]) -> String {
        let mut md5 = Md5::new();
        parts.iter().for_each(|part| md5.update(part));
        md5.finish().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn sums_are_those_of_rfc_1321() {
        for (text, sum) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
            (&"1234567890".repeat(8), "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            assert_eq!(md5(&[text.as_bytes()]), sum, "{text}");
        }
    }

    #[test]
    fn how_bytes_are_cut_does_not_matter() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..200 {
            let whole = md5(&[&bytes[..length]]);
            for cut in [0, 1, 55, 56, 63, 64, 65, 128].into_iter().filter(|cut| *cut <= length) {
                assert_eq!(md5(&[&bytes[..cut], &bytes[cut..length]]), whole, "{length} cut at {cut}");
            }
        }
    }
}
