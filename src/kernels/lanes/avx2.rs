//! Eight lanes of AVX2.

use std::arch::x86_64::*;

use super::rounds::{BLOCK, State, rounds};

const LANES: usize = 8;

type V = __m256i;

/// Advances each state by `blocks` blocks of its chunk.
///
/// # Safety
/// AVX2 is available, every chunk has `blocks` blocks, and there are as many states as chunks, one to eight.
#[target_feature(enable = "avx2")]
pub unsafe fn compress(states: &mut [State], chunks: &[&[u8]], blocks: usize) {
    // Unused lanes repeat the first one's work.
    let chunk: [*const u8; LANES] = std::array::from_fn(|lane| chunks.get(lane).unwrap_or(&chunks[0]).as_ptr());
    let mut words = [[0u32; LANES]; 5];
    for (lane, state) in states.iter().enumerate() {
        (0..5).for_each(|word| words[word][lane] = state[word]);
    }
    // SAFETY: the array has the vector's size, and the load needs no alignment.
    let mut s: [V; 5] = words.map(|word| unsafe { _mm256_loadu_si256(word.as_ptr().cast()) });
    for block in 0..blocks {
        // SAFETY: block < blocks, so the 64 bytes are the chunk's own.
        let mut w = unsafe { load(&chunk, block * BLOCK) };
        rounds!(s, w);
    }
    for (word, vector) in words.iter_mut().zip(s) {
        // SAFETY: the array has the vector's size, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(word.as_mut_ptr().cast(), vector) };
    }
    for (lane, state) in states.iter_mut().enumerate() {
        (0..5).for_each(|word| state[word] = words[word][lane]);
    }
}

/// The sixteen words of the block at `offset` of each chunk, transposed: each vector holds one word of all chunks.
///
/// # Safety
/// At least 64 bytes are readable from `offset` on behind every pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(chunk: &[*const u8; LANES], offset: usize) -> [V; 16] {
    let swap = _mm256_broadcastsi128_si256(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
    let half = |offset: usize| {
        chunk.map(|chunk| {
            // SAFETY: the caller vouches for the bytes.
            let row = unsafe { _mm256_loadu_si256(chunk.add(offset).cast()) };
            _mm256_shuffle_epi8(row, swap)
        })
    };
    let (low, high) = (transpose(half(offset)), transpose(half(offset + 32)));
    std::array::from_fn(|word| if word < 8 { low[word] } else { high[word - 8] })
}

/// Transposes eight rows of eight words.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(r: [V; 8]) -> [V; 8] {
    let pair = |x: V, y: V| (_mm256_unpacklo_epi32(x, y), _mm256_unpackhi_epi32(x, y));
    let four = |x: (V, V), y: (V, V)| {
        [
            _mm256_unpacklo_epi64(x.0, y.0),
            _mm256_unpackhi_epi64(x.0, y.0),
            _mm256_unpacklo_epi64(x.1, y.1),
            _mm256_unpackhi_epi64(x.1, y.1),
        ]
    };
    let x = four(pair(r[0], r[1]), pair(r[2], r[3]));
    let y = four(pair(r[4], r[5]), pair(r[6], r[7]));
    std::array::from_fn(|word| match word {
        0..4 => _mm256_permute2x128_si256::<0x20>(x[word], y[word]),
        _ => _mm256_permute2x128_si256::<0x31>(x[word - 4], y[word - 4]),
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(k: u32) -> V {
    _mm256_set1_epi32(k as i32)
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(x: V, y: V) -> V {
    _mm256_add_epi32(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(x: V, y: V) -> V {
    _mm256_xor_si256(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(x: V, y: V, z: V) -> V {
    xor(xor(x, y), z)
}

#[inline]
#[target_feature(enable = "avx2")]
fn rol<const L: i32, const R: i32>(x: V) -> V {
    _mm256_or_si256(_mm256_slli_epi32::<L>(x), _mm256_srli_epi32::<R>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(b: V, c: V, d: V) -> V {
    xor(d, _mm256_and_si256(b, xor(c, d)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn parity(b: V, c: V, d: V) -> V {
    xor3(b, c, d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(b: V, c: V, d: V) -> V {
    _mm256_or_si256(_mm256_and_si256(b, c), _mm256_and_si256(d, _mm256_or_si256(b, c)))
}
