//! The SHA extensions: four rounds of one message an instruction, two messages interleaved, because a single one
//! waits for its own results half of the time.

use std::arch::x86_64::*;

use super::rounds::{BLOCK, State};

type V = __m128i;

/// Advances each state by `blocks` blocks of its chunk.
///
/// # Safety
/// SHA, SSSE3 and SSE4.1 are available, every chunk has `blocks` blocks, and there are as many states as chunks, one
/// or two.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub unsafe fn compress(states: &mut [State], chunks: &[&[u8]], blocks: usize) {
    match (states, chunks) {
        // SAFETY: the caller's own promise.
        ([a, b], [x, y]) => unsafe { interleaved([a, b], [x.as_ptr(), y.as_ptr()], blocks) },
        // SAFETY: the same.
        ([a], [x]) => unsafe { interleaved([a], [x.as_ptr()], blocks) },
        _ => unreachable!("one or two messages"),
    }
}

/// # Safety
/// At least `blocks` blocks are readable behind every pointer.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
unsafe fn interleaved<const N: usize>(states: [&mut State; N], chunks: [*const u8; N], blocks: usize) {
    // The instructions want `a` in the highest word, so each 16 bytes of a block are reversed as a whole.
    let swap = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut abcd: [V; N] = std::array::from_fn(|n| {
        let [a, b, c, d, _] = states[n].map(|word| word as i32);
        _mm_set_epi32(a, b, c, d)
    });
    let mut e: [V; N] = std::array::from_fn(|n| _mm_set_epi32(states[n][4] as i32, 0, 0, 0));
    for block in 0..blocks {
        let mut w: [[V; N]; 4] = std::array::from_fn(|four| {
            std::array::from_fn(|n| {
                // SAFETY: block < blocks, so the 64 bytes are the chunk's own.
                let word = unsafe { _mm_loadu_si128(chunks[n].add(block * BLOCK + 16 * four).cast()) };
                _mm_shuffle_epi8(word, swap)
            })
        });
        let (begin, begin_e) = (abcd, e);
        // The state four rounds ago: its `a`, rotated, is the current `e`.
        let mut before = abcd;
        macro_rules! four_rounds {
            ($t:expr) => {
                for n in 0..N {
                    if $t >= 4 {
                        let mixed =
                            _mm_xor_si128(_mm_sha1msg1_epu32(w[$t & 3][n], w[($t + 1) & 3][n]), w[($t + 2) & 3][n]);
                        w[$t & 3][n] = _mm_sha1msg2_epu32(mixed, w[($t + 3) & 3][n]);
                    }
                    let word = w[$t & 3][n];
                    let e = if $t == 0 { _mm_add_epi32(e[n], word) } else { _mm_sha1nexte_epu32(before[n], word) };
                    before[n] = abcd[n];
                    abcd[n] = _mm_sha1rnds4_epu32::<{ $t / 5 }>(abcd[n], e);
                }
            };
        }
        macro_rules! twenty_rounds {
            ($t:expr) => {
                four_rounds!($t);
                four_rounds!($t + 1);
                four_rounds!($t + 2);
                four_rounds!($t + 3);
                four_rounds!($t + 4);
            };
        }
        twenty_rounds!(0);
        twenty_rounds!(5);
        twenty_rounds!(10);
        twenty_rounds!(15);
        for n in 0..N {
            e[n] = _mm_sha1nexte_epu32(before[n], begin_e[n]);
            abcd[n] = _mm_add_epi32(abcd[n], begin[n]);
        }
    }
    for (n, state) in states.into_iter().enumerate() {
        let words = [
            _mm_extract_epi32::<3>(abcd[n]),
            _mm_extract_epi32::<2>(abcd[n]),
            _mm_extract_epi32::<1>(abcd[n]),
            _mm_extract_epi32::<0>(abcd[n]),
            _mm_extract_epi32::<3>(e[n]),
        ];
        *state = words.map(|word| word as u32);
    }
}
