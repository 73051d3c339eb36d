//! Rotary position embedding.

use crate::Isa;
use crate::lanes::{Kernel, Lanes, run_wide};

/// Which two values of a head one rotary angle turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RopePairing {
    /// Values `2i` and `2i + 1`: "norm" in llama.cpp. GGUF files of llama models: their rows of Q and K were
    /// permuted for it.
    Interleaved,
    /// Values `i` and `i + half` of the rotated ones: "neox", the order of Hugging Face. Everything else.
    Neox,
}

/// Fills the cosines and sines of one position: pair `i` turns by `position * frequencies[i]` (as the caller
/// computed them: `base^(-2i / dim)`, divided by scaling factors if the model has them). Panics unless the
/// lengths are equal.
pub fn rope_tables(position: u32, frequencies: &[f32], cos: &mut [f32], sin: &mut [f32]) {
    assert!(cos.len() == frequencies.len() && sin.len() == frequencies.len());
    for (i, &frequency) in frequencies.iter().enumerate() {
        // f64, since the angle of a late position has few digits left of its turn in f32.
        let (s, c) = (f64::from(position) * f64::from(frequency)).sin_cos();
        (cos[i], sin[i]) = (c as f32, s as f32);
    }
}

/// Rotates heads of `head_dim` numbers in place, all at one position. The first `2 * cos.len()` numbers of
/// each head take part, the rest stay (partial rotary). Panics unless `values` is whole heads and `cos` and
/// `sin` have one length that fits.
pub fn rope(isa: Isa, pairing: RopePairing, values: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    assert_eq!(cos.len(), sin.len());
    assert!(2 * cos.len() <= head_dim && values.len().is_multiple_of(head_dim), "heads of {head_dim}");
    for head in values.chunks_exact_mut(head_dim) {
        let head = &mut head[..2 * cos.len()];
        match pairing {
            RopePairing::Interleaved => run_wide(isa, Interleaved { head, cos, sin }),
            RopePairing::Neox => run_wide(isa, Neox { head, cos, sin }),
        }
    }
}

/// The rotation of one pair; fused as the vector path does it, so that tails agree with it.
#[inline(always)]
fn rotate(a: f32, b: f32, cos: f32, sin: f32) -> (f32, f32) {
    (a.mul_add(cos, -(b * sin)), a.mul_add(sin, b * cos))
}

struct Interleaved<'a> {
    head: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Interleaved<'_> {
    type Output = ();

    /// Left to the compiler, which sees pairs of two.
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (pairs, _) = self.head.as_chunks_mut::<2>();
        for ((pair, &cos), &sin) in pairs.iter_mut().zip(self.cos).zip(self.sin) {
            (pair[0], pair[1]) = rotate(pair[0], pair[1], cos, sin);
        }
    }
}

struct Neox<'a> {
    head: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Neox<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (low, high) = self.head.split_at_mut(self.cos.len());
        for (((a, b), &cos), &sin) in low.iter_mut().zip(high).zip(self.cos).zip(self.sin) {
            (*a, *b) = rotate(*a, *b, cos, sin);
        }
    }
}
