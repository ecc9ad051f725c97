//! Sixteen lanes of AVX-512 (F and BW): rotations and three-input logic in one instruction each.

use std::arch::x86_64::*;

use super::rounds::{BLOCK, State, rounds};

const LANES: usize = 16;

type V = __m512i;

/// Advances each state by `blocks` blocks of its chunk.
///
/// # Safety
/// AVX-512 F and BW are available, every chunk has `blocks` blocks, and there are as many states as chunks, one to
/// sixteen.
#[target_feature(enable = "avx512f,avx512bw")]
pub unsafe fn compress(states: &mut [State], chunks: &[&[u8]], blocks: usize) {
    // Unused lanes repeat the first one's work.
    let chunk: [*const u8; LANES] = std::array::from_fn(|lane| chunks.get(lane).unwrap_or(&chunks[0]).as_ptr());
    let mut words = [[0u32; LANES]; 5];
    for (lane, state) in states.iter().enumerate() {
        (0..5).for_each(|word| words[word][lane] = state[word]);
    }
    // SAFETY: the array has the vector's size, and the load needs no alignment.
    let mut s: [V; 5] = words.map(|word| unsafe { _mm512_loadu_si512(word.as_ptr().cast()) });
    for block in 0..blocks {
        // SAFETY: block < blocks, so the 64 bytes are the chunk's own.
        let mut w = unsafe { load(&chunk, block * BLOCK) };
        rounds!(s, w);
    }
    for (word, vector) in words.iter_mut().zip(s) {
        // SAFETY: the array has the vector's size, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(word.as_mut_ptr().cast(), vector) };
    }
    for (lane, state) in states.iter_mut().enumerate() {
        (0..5).for_each(|word| state[word] = words[word][lane]);
    }
}

/// The sixteen words of the block at `offset` of each chunk, transposed: each vector holds one word of all chunks. A
/// block is a cache line and is loaded whole: sixteen streams at the same distance would evict each other's lines
/// before the rest of them is used.
///
/// # Safety
/// At least 64 bytes are readable from `offset` on behind every pointer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load(chunk: &[*const u8; LANES], offset: usize) -> [V; 16] {
    let swap = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
    let r = chunk.map(|chunk| {
        // SAFETY: the caller vouches for the bytes.
        let row = unsafe { _mm512_loadu_si512(chunk.add(offset).cast()) };
        _mm512_shuffle_epi8(row, swap)
    });
    let pair = |x: V, y: V| (_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    // Vector `n` of a quad: words n, n+4, n+8, n+12 of its four rows, side by side.
    let quad = |row: usize| {
        let (x, y) = (pair(r[row], r[row + 1]), pair(r[row + 2], r[row + 3]));
        [
            _mm512_unpacklo_epi64(x.0, y.0),
            _mm512_unpackhi_epi64(x.0, y.0),
            _mm512_unpacklo_epi64(x.1, y.1),
            _mm512_unpackhi_epi64(x.1, y.1),
        ]
    };
    let (a, b, c, d) = (quad(0), quad(4), quad(8), quad(12));
    let column = |n: usize| {
        // Blocks 0 and 2, and blocks 1 and 3, of two quads' vectors; then the same once more.
        let (x, y) = (_mm512_shuffle_i32x4::<0x88>(a[n], b[n]), _mm512_shuffle_i32x4::<0x88>(c[n], d[n]));
        let (z, u) = (_mm512_shuffle_i32x4::<0xdd>(a[n], b[n]), _mm512_shuffle_i32x4::<0xdd>(c[n], d[n]));
        [
            _mm512_shuffle_i32x4::<0x88>(x, y),
            _mm512_shuffle_i32x4::<0x88>(z, u),
            _mm512_shuffle_i32x4::<0xdd>(x, y),
            _mm512_shuffle_i32x4::<0xdd>(z, u),
        ]
    };
    let columns = [column(0), column(1), column(2), column(3)];
    std::array::from_fn(|word| columns[word % 4][word / 4])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(k: u32) -> V {
    _mm512_set1_epi32(k as i32)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(x: V, y: V) -> V {
    _mm512_add_epi32(x, y)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(x: V, y: V) -> V {
    _mm512_xor_si512(x, y)
}

// The constants of the ternary logic are truth tables: bit 4x + 2y + z is the result.

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(x: V, y: V, z: V) -> V {
    _mm512_ternarylogic_epi32::<0x96>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rol<const L: i32, const R: i32>(x: V) -> V {
    _mm512_rol_epi32::<L>(x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(b: V, c: V, d: V) -> V {
    _mm512_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn parity(b: V, c: V, d: V) -> V {
    xor3(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(b: V, c: V, d: V) -> V {
    _mm512_ternarylogic_epi32::<0xe8>(b, c, d)
}
