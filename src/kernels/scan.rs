//! Finds bytes in text, comparing sixteen at a time in the machine's vectors.

/// Bytes compared together.
const LANE: usize = 16;

/// Index of the first `wanted`.
#[inline(never)]
pub fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    first(bytes, |byte| byte == wanted)
}

/// Index of the first ASCII control character or member of `signs`.
#[inline(never)]
pub fn find_control(bytes: &[u8], signs: [u8; 2]) -> Option<usize> {
    first(bytes, |byte| (byte < 0x20) | (byte == 0x7f) | (byte == signs[0]) | (byte == signs[1]))
}

#[inline(always)]
fn first(bytes: &[u8], is_it: impl Fn(u8) -> bool) -> Option<usize> {
    let (lanes, _) = bytes.as_chunks::<LANE>();
    let without = |lane: &&[u8; LANE]| !lane.iter().fold(false, |found, byte| found | is_it(*byte));
    let passed = lanes.iter().take_while(without).count() * LANE;
    Some(passed + bytes[passed..].iter().position(|byte| is_it(*byte))?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_found_is_what_a_plain_search_finds(bytes in prop::collection::vec(0u8..40, 0..80), wanted in 0u8..40, sign in 32u8..40) {
            prop_assert_eq!(find(&bytes, wanted), bytes.iter().position(|byte| *byte == wanted));
            let text: Vec<u8> = bytes.iter().map(|byte| byte + 31).collect();
            let plain = text.iter().position(|byte| byte.is_ascii_control() || *byte == sign);
            prop_assert_eq!(find_control(&text, [sign, 0x7f]), plain);
        }
    }
}
