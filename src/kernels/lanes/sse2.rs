//! Four lanes of SSE2, for x86-64 CPUs that have nothing better.

use std::arch::x86_64::*;

use super::rounds::{BLOCK, State, rounds};

const LANES: usize = 4;

type V = __m128i;

/// Advances each state by `blocks` blocks of its chunk.
///
/// # Safety
/// Every chunk has `blocks` blocks; there are as many states as chunks, one to four.
#[target_feature(enable = "sse2")]
pub unsafe fn compress(states: &mut [State], chunks: &[&[u8]], blocks: usize) {
    // Unused lanes repeat the first one's work.
    let chunk: [*const u8; LANES] = std::array::from_fn(|lane| chunks.get(lane).unwrap_or(&chunks[0]).as_ptr());
    let mut words = [[0u32; LANES]; 5];
    for (lane, state) in states.iter().enumerate() {
        (0..5).for_each(|word| words[word][lane] = state[word]);
    }
    // SAFETY: the array has the vector's size, and the load needs no alignment.
    let mut s: [V; 5] = words.map(|word| unsafe { _mm_loadu_si128(word.as_ptr().cast()) });
    for block in 0..blocks {
        // SAFETY: block < blocks, so the 64 bytes are the chunk's own.
        let mut w = unsafe { load(&chunk, block * BLOCK) };
        rounds!(s, w);
    }
    for (word, vector) in words.iter_mut().zip(s) {
        // SAFETY: the array has the vector's size, and the store needs no alignment.
        unsafe { _mm_storeu_si128(word.as_mut_ptr().cast(), vector) };
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
#[target_feature(enable = "sse2")]
unsafe fn load(chunk: &[*const u8; LANES], offset: usize) -> [V; 16] {
    let quarter = |at: usize| {
        // SAFETY: the caller vouches for the bytes.
        let [a, b, c, d] = chunk.map(|chunk| swap(unsafe { _mm_loadu_si128(chunk.add(offset + 16 * at).cast()) }));
        let (x, y) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (z, u) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        [_mm_unpacklo_epi64(x, y), _mm_unpackhi_epi64(x, y), _mm_unpacklo_epi64(z, u), _mm_unpackhi_epi64(z, u)]
    };
    let quarters = [quarter(0), quarter(1), quarter(2), quarter(3)];
    std::array::from_fn(|word| quarters[word / 4][word % 4])
}

/// Reverses the bytes of each word: in its halves by shifts, then the halves.
#[inline]
#[target_feature(enable = "sse2")]
fn swap(x: V) -> V {
    let x = _mm_or_si128(_mm_slli_epi16::<8>(x), _mm_srli_epi16::<8>(x));
    _mm_shufflehi_epi16::<0b10_11_00_01>(_mm_shufflelo_epi16::<0b10_11_00_01>(x))
}

#[inline]
#[target_feature(enable = "sse2")]
fn splat(k: u32) -> V {
    _mm_set1_epi32(k as i32)
}

#[inline]
#[target_feature(enable = "sse2")]
fn add(x: V, y: V) -> V {
    _mm_add_epi32(x, y)
}

#[inline]
#[target_feature(enable = "sse2")]
fn xor(x: V, y: V) -> V {
    _mm_xor_si128(x, y)
}

#[inline]
#[target_feature(enable = "sse2")]
fn xor3(x: V, y: V, z: V) -> V {
    xor(xor(x, y), z)
}

#[inline]
#[target_feature(enable = "sse2")]
fn rol<const L: i32, const R: i32>(x: V) -> V {
    _mm_or_si128(_mm_slli_epi32::<L>(x), _mm_srli_epi32::<R>(x))
}

#[inline]
#[target_feature(enable = "sse2")]
fn choose(b: V, c: V, d: V) -> V {
    xor(d, _mm_and_si128(b, xor(c, d)))
}

#[inline]
#[target_feature(enable = "sse2")]
fn parity(b: V, c: V, d: V) -> V {
    xor3(b, c, d)
}

#[inline]
#[target_feature(enable = "sse2")]
fn majority(b: V, c: V, d: V) -> V {
    _mm_or_si128(_mm_and_si128(b, c), _mm_and_si128(d, _mm_or_si128(b, c)))
}
