use super::*;
use proptest::prelude::*;

fn oracle(message: &[u8]) -> [u8; 20] {
    Sha1::from(message).digest().bytes()
}

/// Pseudo-random bytes from a seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    (0..length)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect()
}

fn slices(messages: &[Vec<u8>]) -> Vec<&[u8]> {
    messages.iter().map(Vec::as_slice).collect()
}

#[test]
fn the_examples_of_the_standard_come_out() {
    let examples: [(&[u8], &str); 4] = [
        (b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
        (&[b'a'; 1_000_000], "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
    ];
    for kernel in Kernel::available() {
        let messages: Vec<&[u8]> = examples.iter().map(|(message, _)| *message).collect();
        let mut out = [[0; 20]; 4];
        Lanes::with(kernel, 4).finish(&messages, &mut out);
        for (digest, (_, expected)) in out.iter().zip(examples) {
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{kernel:?}");
        }
    }
}

#[test]
fn every_length_around_a_block_is_padded_right() {
    let messages: Vec<Vec<u8>> = (0..200).map(|length| noise(length, length as u64)).collect();
    let expected: Vec<_> = messages.iter().map(|message| oracle(message)).collect();
    for kernel in Kernel::available() {
        let mut out = vec![[0; 20]; messages.len()];
        Lanes::with(kernel, messages.len()).finish(&slices(&messages), &mut out);
        assert_eq!(out, expected, "{kernel:?}");
    }
}

#[test]
fn a_plan_is_made_of_what_the_cpu_has() {
    use Kernel::{Avx2, Avx512, Portable, ShaNi, Sse2};
    for has in [
        &[Portable][..],
        &[Sse2, Portable],
        &[Avx2, Sse2, Portable],
        &[Avx512, Avx2, Sse2, Portable],
        &[ShaNi, Sse2, Portable],
        &[Avx512, Avx2, Sse2, ShaNi, Portable],
    ] {
        let plan = plan_for(|kernel| has.contains(&kernel));
        assert!(plan.iter().all(|kernel| has.contains(kernel)), "{has:?}: {plan:?}");
        assert_eq!(plan[16], has[0], "{has:?}");
        assert_eq!(plan[1], if has.contains(&ShaNi) { ShaNi } else { Portable });
    }
    assert!(plan().iter().all(|kernel| Kernel::available().contains(kernel)));
}

#[test]
#[should_panic(expected = "assertion")]
fn chunks_of_different_lengths_are_refused() {
    Lanes::new(2).update(&[&[0; 64], &[0; 128]]);
}

#[test]
#[should_panic(expected = "assertion")]
fn a_chunk_too_few_is_refused() {
    Lanes::new(3).update(&[&[0; 64], &[0; 64]]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_kernels_agree_with_the_oracle_on_messages_of_any_lengths(
        lengths in prop::collection::vec(0usize..3000, 1..40), seed in any::<u64>()
    ) {
        let messages: Vec<Vec<u8>> = lengths.iter().zip(seed..).map(|(length, seed)| noise(*length, seed)).collect();
        let expected: Vec<_> = messages.iter().map(|message| oracle(message)).collect();
        let mut out = vec![[0; 20]; messages.len()];
        for kernel in Kernel::available() {
            Lanes::with(kernel, messages.len()).finish(&slices(&messages), &mut out);
            prop_assert_eq!(&out, &expected, "{:?}", kernel);
        }
        sha1_many(&slices(&messages), &mut out);
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(sha1(&messages[0]), expected[0]);
    }

    #[test]
    fn messages_given_piecemeal_at_any_alignment_hash_as_wholes(
        lanes in 1usize..36, updates in prop::collection::vec(0usize..6, 0..5),
        tails in prop::collection::vec(0usize..300, 36), offset in 0usize..64, seed in any::<u64>()
    ) {
        let head: usize = updates.iter().sum::<usize>() * BLOCK;
        let backing: Vec<Vec<u8>> = (0..lanes).map(|lane| noise(offset + head + tails[lane], seed ^ lane as u64)).collect();
        let messages: Vec<&[u8]> = backing.iter().map(|bytes| &bytes[offset..]).collect();
        let expected: Vec<_> = messages.iter().map(|message| oracle(message)).collect();
        let mut forms: Vec<Lanes> = Kernel::available().into_iter().map(|kernel| Lanes::with(kernel, lanes)).collect();
        forms.push(Lanes::new(lanes));
        for lanes in &mut forms {
            // Twice, because finished lanes can be used anew.
            for _ in 0..2 {
                let mut at = 0;
                for blocks in &updates {
                    let chunks: Vec<&[u8]> = messages.iter().map(|message| &message[at..at + blocks * BLOCK]).collect();
                    lanes.update(&chunks);
                    at += blocks * BLOCK;
                }
                let rest: Vec<&[u8]> = messages.iter().map(|message| &message[at..]).collect();
                let mut out = vec![[0; 20]; messages.len()];
                lanes.finish(&rest, &mut out);
                prop_assert_eq!(&out, &expected);
            }
        }
    }
}
