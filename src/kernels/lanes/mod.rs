//! SHA-1 (FIPS 180-4) of many messages side by side, one in each lane of a vector register.
//!
//! A torrent's pieces are independent, so a register of sixteen 32-bit lanes advances sixteen of them with each
//! instruction. This file holds what all instruction sets share: the choice at run time, cutting messages into runs
//! of blocks that all lanes have, and the padding. Each instruction set has a file with its loads, which transpose
//! blocks in registers, and its round functions. `sha1_smol` is the portable path, and the oracle of the tests.
//!
//! Apart from ogbox's `sys`, only this room has `unsafe`: vector loads from pointers, and the one call of a function
//! whose instructions were detected on the CPU.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use sha1_smol::Sha1;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod rounds;
#[cfg(target_arch = "x86_64")]
mod shani;
#[cfg(target_arch = "x86_64")]
mod sse2;

pub use rounds::BLOCK;
use rounds::State;

/// Lanes of the widest kernel: the number of messages worth gathering.
pub const WIDTH: usize = 16;

const INITIAL: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// An instruction set to hash with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Sixteen lanes of AVX-512, with its three-input logic and rotations.
    Avx512,
    /// Eight lanes of AVX2.
    Avx2,
    /// Four lanes of SSE2, which every x86-64 has.
    Sse2,
    /// The SHA extensions, on two messages at a time.
    ShaNi,
    /// `sha1_smol`, one message after the other.
    Portable,
}

impl Kernel {
    /// The kernels that this CPU and operating system can run.
    pub fn available() -> Vec<Kernel> {
        let all = [Kernel::Avx512, Kernel::Avx2, Kernel::Sse2, Kernel::ShaNi, Kernel::Portable];
        all.into_iter().filter(|kernel| kernel.runs_here()).collect()
    }

    /// Number of messages that it hashes at a time.
    pub fn width(self) -> usize {
        match self {
            Kernel::Avx512 => 16,
            Kernel::Avx2 => 8,
            Kernel::Sse2 => 4,
            Kernel::ShaNi => 2,
            Kernel::Portable => 1,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn runs_here(self) -> bool {
        match self {
            Kernel::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            Kernel::ShaNi => is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1"),
            Kernel::Sse2 | Kernel::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn runs_here(self) -> bool {
        self == Kernel::Portable
    }

    /// Advances each state by its chunk. There are at most [`Kernel::width`] states; all chunks have the same
    /// length, a multiple of [`BLOCK`].
    #[cfg(target_arch = "x86_64")]
    #[inline(never)] // else the SSE2 kernel, 11 KiB, is inlined into each caller, having no features of its own
    fn compress(self, states: &mut [State], chunks: &[&[u8]]) {
        let blocks = chunks[0].len() / BLOCK;
        assert!(states.len() == chunks.len() && (1..=self.width()).contains(&states.len()));
        assert!(chunks.iter().all(|chunk| chunk.len() == blocks * BLOCK));
        assert!(self.runs_here());
        // SAFETY: the assertion above checks that the CPU has the instructions, the one before it that there are
        // `blocks` blocks behind every pointer, which is each function's own demand.
        unsafe {
            match self {
                Kernel::Avx512 => avx512::compress(states, chunks, blocks),
                Kernel::Avx2 => avx2::compress(states, chunks, blocks),
                Kernel::Sse2 => sse2::compress(states, chunks, blocks),
                Kernel::ShaNi => shani::compress(states, chunks, blocks),
                Kernel::Portable => unreachable!("the portable path keeps no states"),
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn compress(self, _: &mut [State], _: &[&[u8]]) {
        unreachable!("the portable path keeps no states")
    }
}

/// The kernel to use first when `PLAN[n]` messages are left.
type Plan = [Kernel; WIDTH + 1];

/// The plan for this CPU.
fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| plan_for(Kernel::runs_here))
}

/// The fastest kernels by measurement. In GB/s on a Zen 4 at 2.6 GHz (`cargo bench --bench lanes`):
///
/// ```text
/// messages        1      2      4      8     16
/// Avx512       0.45   0.89   1.78   3.57   6.23
/// Avx2         0.53   1.07   2.14   4.27   4.27
/// Sse2         0.52   1.04   2.09   2.09   2.08
/// ShaNi        1.95   3.31   3.31   3.31   3.31
/// Portable     0.83   0.83   0.83   0.83   0.82
/// ```
///
/// A vector kernel takes the same time for one message as for its full width. So with the SHA extensions
/// AVX2 pays from seven messages on (the last of nine or ten are left to the extensions) and AVX-512 from
/// eleven; without them, only a lone message is better off without vectors.
fn plan_for(has: impl Fn(Kernel) -> bool) -> Plan {
    use Kernel::{Avx2, Avx512, Portable, ShaNi, Sse2};
    std::array::from_fn(|messages| {
        let order: &[Kernel] = match (messages, has(ShaNi)) {
            (..=1, _) | (..=6, true) => &[ShaNi],
            (..=10, true) => &[Avx2, ShaNi],
            (..=8, false) => &[Avx2, Sse2],
            _ => &[Avx512, Avx2, ShaNi, Sse2],
        };
        order.iter().copied().find(|kernel| has(*kernel)).unwrap_or(Portable)
    })
}

/// SHA-1 of several messages that arrive in chunks of equal length.
pub struct Lanes {
    kind: Kind,
    /// Bytes of each message so far.
    length: u64,
}

enum Kind {
    Portable(Vec<Sha1>),
    /// The states, and the kernel to use in place of the planned one.
    Vector(Vec<State>, Option<Kernel>),
}

impl Lanes {
    /// Starts `n` messages. Sixteen at a time are the fastest.
    pub fn new(n: usize) -> Lanes {
        match plan()[n.min(WIDTH)] {
            Kernel::Portable => Lanes::with(Kernel::Portable, n),
            _ => Lanes { kind: Kind::Vector(vec![INITIAL; n], None), length: 0 },
        }
    }

    /// Like [`new`](Self::new) with the given kernel, for measuring and for tests.
    ///
    /// # Panics
    /// When hashing with a kernel that is not in [`Kernel::available`].
    pub fn with(kernel: Kernel, n: usize) -> Lanes {
        let kind = match kernel {
            Kernel::Portable => Kind::Portable(vec![Sha1::new(); n]),
            _ => Kind::Vector(vec![INITIAL; n], Some(kernel)),
        };
        Lanes { kind, length: 0 }
    }

    /// Advances every message by its chunk.
    ///
    /// # Panics
    /// Unless there are as many chunks as messages, all of one length that is a multiple of [`BLOCK`].
    pub fn update(&mut self, chunks: &[&[u8]]) {
        let length = chunks.first().map_or(0, |chunk| chunk.len());
        assert!(length.is_multiple_of(BLOCK) && chunks.iter().all(|chunk| chunk.len() == length));
        self.length += length as u64;
        match &mut self.kind {
            Kind::Portable(messages) => {
                assert_eq!(messages.len(), chunks.len());
                messages.iter_mut().zip(chunks).for_each(|(message, chunk)| message.update(chunk));
            }
            Kind::Vector(states, kernel) => {
                assert_eq!(states.len(), chunks.len());
                if length > 0 {
                    compress(states, chunks, *kernel);
                }
            }
        }
    }

    /// Ends every message with its tail, of any length, and writes the digests to `out`. The lanes can then be used
    /// anew.
    ///
    /// # Panics
    /// Unless there are as many tails and digests as messages.
    pub fn finish(&mut self, tails: &[&[u8]], out: &mut [[u8; 20]]) {
        assert_eq!(tails.len(), out.len());
        let length = std::mem::take(&mut self.length);
        match &mut self.kind {
            Kind::Portable(messages) => {
                assert_eq!(messages.len(), tails.len());
                for ((message, tail), out) in messages.iter_mut().zip(tails).zip(out) {
                    message.update(tail);
                    *out = std::mem::take(message).digest().bytes();
                }
            }
            Kind::Vector(states, kernel) => {
                assert_eq!(states.len(), tails.len());
                finish(states, tails, length, *kernel);
                for (state, out) in states.iter_mut().zip(out) {
                    let words = std::mem::replace(state, INITIAL);
                    out.as_chunks_mut().0.iter_mut().zip(words).for_each(|(bytes, word)| *bytes = word.to_be_bytes());
                }
            }
        }
    }
}

/// Advances all states, as many at a time as the kernel takes.
fn compress(mut states: &mut [State], mut chunks: &[&[u8]], forced: Option<Kernel>) {
    while !chunks.is_empty() {
        let kernel = forced.unwrap_or_else(|| match plan()[chunks.len().min(WIDTH)] {
            // The last of many: its state is laid out for a vector kernel.
            Kernel::Portable => Kernel::Sse2,
            kernel => kernel,
        });
        let taken = kernel.width().min(chunks.len());
        let (now, later) = std::mem::take(&mut states).split_at_mut(taken);
        kernel.compress(now, &chunks[..taken]);
        (states, chunks) = (later, &chunks[taken..]);
    }
}

/// Ends messages of which `length` bytes are already in the states.
fn finish(states: &mut [State], tails: &[&[u8]], length: u64, forced: Option<Kernel>) {
    for (states, tails) in states.chunks_mut(WIDTH).zip(tails.chunks(WIDTH)) {
        let mut rest: [&[u8]; WIDTH] = [&[]; WIDTH];
        rest.iter_mut().zip(tails).for_each(|(rest, tail)| *rest = &tail[..tail.len() - tail.len() % BLOCK]);
        together(states, &mut rest[..tails.len()], forced);
        // The end of a message: the remainder of its last block, a one bit, zeros, its length in bits.
        let mut ends = [[0; 2 * BLOCK]; WIDTH];
        for (end, tail) in ends.iter_mut().zip(tails) {
            let partial = &tail[tail.len() - tail.len() % BLOCK..];
            end[..partial.len()].copy_from_slice(partial);
            end[partial.len()] = 0x80;
            let size = end_size(tail);
            end[size - 8..size].copy_from_slice(&((length + tail.len() as u64) * 8).to_be_bytes());
        }
        rest.iter_mut().zip(&ends).zip(tails).for_each(|((rest, end), tail)| *rest = &end[..end_size(tail)]);
        together(states, &mut rest[..tails.len()], forced);
    }
}

/// One block, or two when the length does not fit the first.
fn end_size(tail: &[u8]) -> usize {
    if tail.len() % BLOCK + 9 <= BLOCK { BLOCK } else { 2 * BLOCK }
}

/// Advances at most [`WIDTH`] states by whole blocks, of which some may have more than others: in runs that all
/// remaining messages have, until none remains.
fn together(states: &mut [State], rest: &mut [&[u8]], forced: Option<Kernel>) {
    while let Some(run) = rest.iter().map(|rest| rest.len()).filter(|length| *length > 0).min() {
        let (mut now, mut chunks): ([State; WIDTH], [&[u8]; WIDTH]) = ([INITIAL; WIDTH], [&[]; WIDTH]);
        let (mut lanes, mut left) = ([0; WIDTH], 0);
        for (lane, rest) in rest.iter_mut().enumerate().filter(|(_, rest)| !rest.is_empty()) {
            now[left] = states[lane];
            (chunks[left], *rest) = rest.split_at(run);
            lanes[left] = lane;
            left += 1;
        }
        compress(&mut now[..left], &chunks[..left], forced);
        lanes[..left].iter().zip(now).for_each(|(lane, state)| states[*lane] = state);
    }
}

/// SHA-1 of one message.
pub fn sha1(message: &[u8]) -> [u8; 20] {
    let mut out = [[0; 20]];
    sha1_many(&[message], &mut out);
    out[0]
}

/// SHA-1 of several messages of any lengths.
///
/// # Panics
/// Unless there are as many digests as messages.
pub fn sha1_many(messages: &[&[u8]], out: &mut [[u8; 20]]) {
    Lanes::new(messages.len()).finish(messages, out);
}

#[cfg(test)]
mod tests;
