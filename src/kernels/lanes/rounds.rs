//! Shared by the instruction sets: the size of a block, the state, the rounds.

/// Bytes of a SHA-1 block.
pub const BLOCK: usize = 64;

/// State of a message: `a` to `e`.
pub type State = [u32; 5];

/// The 80 rounds of one block in each lane. `$s` is the state `[V; 5]`, `$w` the first sixteen words of the
/// schedule `[V; 16]`; `splat`, `add`, `xor3`, `xor`, `rol`, `choose`, `parity` and `majority` are those in
/// scope. A macro, because every function of a vector path must carry its own `target_feature`, and because
/// each index must be a constant for the schedule to stay in registers.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip] // it indents nested macros further each time
macro_rules! rounds {
    ($s:ident, $w:ident) => {{
        let [mut a, mut b, mut c, mut d, mut e] = $s;
        macro_rules! round {
            ($a:ident $b:ident $c:ident $d:ident $e:ident, $f:ident, $k:ident, $t:expr) => {
                if $t >= 16 {
                    let mixed = xor(xor3($w[($t + 13) & 15], $w[($t + 8) & 15], $w[($t + 2) & 15]), $w[$t & 15]);
                    $w[$t & 15] = rol::<1, 31>(mixed);
                }
                // The parts that do not depend on the previous round are added first.
                $e = add(add($e, add($w[$t & 15], $k)), $f($b, $c, $d));
                $e = add($e, rol::<5, 27>($a));
                $b = rol::<30, 2>($b);
            };
        }
        macro_rules! five {
            ($f:ident, $k:ident, $t:expr) => {
                round!(a b c d e, $f, $k, $t);
                round!(e a b c d, $f, $k, $t + 1);
                round!(d e a b c, $f, $k, $t + 2);
                round!(c d e a b, $f, $k, $t + 3);
                round!(b c d e a, $f, $k, $t + 4);
            };
        }
        macro_rules! twenty {
            ($f:ident, $k:expr, $t:expr) => {
                let k = splat($k);
                five!($f, k, $t);
                five!($f, k, $t + 5);
                five!($f, k, $t + 10);
                five!($f, k, $t + 15);
            };
        }
        twenty!(choose, 0x5a82_7999, 0);
        twenty!(parity, 0x6ed9_eba1, 20);
        twenty!(majority, 0x8f1b_bcdc, 40);
        twenty!(parity, 0xca62_c1d6, 60);
        $s = [add($s[0], a), add($s[1], b), add($s[2], c), add($s[3], d), add($s[4], e)];
    }};
}

#[cfg(target_arch = "x86_64")]
pub(super) use rounds;
