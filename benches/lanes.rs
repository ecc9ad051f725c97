//! SHA-1 in GB/s on one core, by kernel and by number of messages side by side, compared with `sha1_smol`. The
//! candidates take turns and the best of many turns counts, so that noise on the machine affects all alike:
//! `cargo bench --bench lanes`.

use std::hint::black_box;
use std::time::Instant;

use kernels::lanes::{Kernel, Lanes};

/// Bytes of a message: sixteen of them fill half of a usual second-level cache.
const CHUNK: usize = 32 << 10;
const TURNS: usize = 60;
const ROUNDS: usize = 12;
const COUNTS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

fn main() {
    let data: Vec<u8> = (0..16 * CHUNK as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let chunks: Vec<&[u8]> = data.chunks(CHUNK).collect();
    let mut candidates: Vec<(String, Option<Kernel>)> =
        Kernel::available().into_iter().map(|kernel| (format!("{kernel:?}"), Some(kernel))).collect();
    candidates.push(("planned".into(), None));

    let mut best = vec![[0f64; COUNTS.len()]; candidates.len()];
    for _ in 0..TURNS {
        for (best, (_, kernel)) in best.iter_mut().zip(&candidates) {
            for (best, count) in best.iter_mut().zip(COUNTS) {
                let mut lanes = kernel.map_or_else(|| Lanes::new(count), |kernel| Lanes::with(kernel, count));
                let begin = Instant::now();
                for _ in 0..ROUNDS {
                    lanes.update(black_box(&chunks[..count]));
                }
                let seconds = begin.elapsed().as_secs_f64();
                *best = best.max((ROUNDS * count * CHUNK) as f64 / seconds / 1e9);
            }
        }
    }

    println!("GB/s on one core, {} KiB a message", CHUNK >> 10);
    println!("{:<10}{}", "messages", COUNTS.map(|count| format!("{count:>7}")).concat());
    for ((name, _), best) in candidates.iter().zip(best) {
        println!("{name:<10}{}", best.map(|rate| format!("{rate:>7.2}")).concat());
    }
}
