//! What this machine can do at most, for `pie bench`, `pie doctor` and the benchmarks of this crate: the limits that speeds
//! are stated as fractions of.

use crate::Isa;
use crate::isa::Kind;
use crate::lanes::{Kernel, Lanes, Reduce, ReduceKernel, run, run_wide};
#[cfg(target_arch = "x86_64")]
use crate::matmul::{EVEX, VEX};
use crate::memory::prefer_huge_pages;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Bytes that a thread reads in a round at least.
const LEAST: usize = 4 << 20;

/// Bytes per second that `threads` threads read together from a buffer of `bytes` bytes (a few times that
/// much is read, and 4 MiB at least in each round, of which the best counts). Use 256 MiB or more for DRAM, less
/// than a cache's size for that cache. Huge pages lie behind it, as behind weights.
pub fn read_bandwidth(isa: Isa, threads: usize, bytes: usize) -> f64 {
    let len = (bytes / 4).max(threads * 64);
    let mut values = Vec::with_capacity(len);
    prefer_huge_pages(values.spare_capacity_mut());
    values.resize(len, 1f32);
    let part = values.len() / threads;
    // A clock cannot tell how long a small cache takes to be read once.
    let times = (LEAST / (part * 4)).max(1);
    let seconds = best_round(threads, |thread| {
        for _ in 0..times {
            black_box(run(isa, Largest(black_box(&values[thread * part..][..part]))));
        }
    });
    (times * part * threads * 4) as f64 / seconds
}

/// The largest value, in several chains: one alone could not load faster than a maximum after the other is
/// known, a vector every 4 cycles, which is slower than the caches and than fast memory.
struct Largest<'a>(&'a [f32]);

impl ReduceKernel for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Reduce>(self) -> f32 {
        // Two loads a cycle, for the 4 cycles that a maximum takes.
        const CHAINS: usize = 8;
        let mut chains = [L::splat(f32::NEG_INFINITY); CHAINS];
        let blocks = self.0.chunks_exact(CHAINS * L::N);
        let rest = blocks.remainder();
        for block in blocks {
            for (chain, values) in chains.iter_mut().zip(block.chunks_exact(L::N)) {
                *chain = L::load(values).max(*chain);
            }
        }
        let mut max = chains[0];
        for chain in &chains[1..] {
            max = chain.max(max);
        }
        rest.iter().fold(max.max_lane(), |max, value| value.max(max))
    }
}

/// Operations per second (a multiplication and an addition count two) of f32 on `threads` threads together: fused, with
/// operands in registers, so an upper bound of every kernel.
pub fn f32_rate(isa: Isa, threads: usize) -> f64 {
    const ROUNDS: usize = 1 << 18;
    let in_a_round = run_wide(isa, Fused { rounds: 0 });
    let seconds = best_round(threads, |_| _ = black_box(run_wide(isa, Fused { rounds: black_box(ROUNDS) })));
    (in_a_round * ROUNDS * threads) as f64 / seconds
}

/// Products and sums in several chains. The result is how many operations a round has.
struct Fused {
    rounds: usize,
}

impl Kernel for Fused {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self) -> usize {
        // Two a cycle, for the 4 or 5 cycles that one takes.
        const CHAINS: usize = 10;
        let (factor, addend) = (L::splat(black_box(0.5)), L::splat(black_box(1.0)));
        let mut chains = [addend; CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = chain.fma(factor, addend);
            }
        }
        let mut sums = [0.0; 16];
        for chain in chains {
            chain.store(&mut sums);
            black_box(&sums);
        }
        2 * CHAINS * L::N
    }
}

/// Operations per second (a multiplication and an addition count two) of 8-bit products on `threads` threads
/// together: what the multipliers do with operands in registers, so an upper bound of every kernel.
pub fn int8_rate(isa: Isa, threads: usize) -> f64 {
    const ROUNDS: usize = 1 << 18;
    let products = match isa.0 {
        Kind::Scalar => 1,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni { .. } => x86::CHAINS * 32,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => x86::CHAINS * 64,
        #[cfg(target_arch = "aarch64")]
        Kind::Neon | Kind::NeonDot => neon::CHAINS * 16,
        #[cfg(target_arch = "aarch64")]
        Kind::NeonI8mm => neon::CHAINS * 32,
    };
    let seconds = best_round(threads, |_| match isa.0 {
        Kind::Scalar => scalar_products(ROUNDS),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with AVX2.
        Kind::Avx2 => unsafe { x86::avx2_products(ROUNDS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with AVX2 and this encoding of `vpdpbusd`.
        Kind::AvxVnni { evex: false } => unsafe { x86::avx_dot_products::<VEX>(ROUNDS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Kind::AvxVnni { evex: true } => unsafe { x86::avx_dot_products::<EVEX>(ROUNDS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with AVX-512 VNNI.
        Kind::Avx512Vnni => unsafe { x86::avx512_products(ROUNDS) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with NEON.
        Kind::Neon => unsafe { neon::products(ROUNDS) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with `sdot`.
        Kind::NeonDot => unsafe { neon::dot_products(ROUNDS) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with `smmla`.
        Kind::NeonI8mm => unsafe { neon::matrix_products(ROUNDS) },
    });
    (2 * products * ROUNDS * threads) as f64 / seconds
}

fn scalar_products(rounds: usize) {
    let (mut sum, code) = (0i32, black_box(3i8));
    for _ in 0..rounds {
        sum = sum.wrapping_add(i32::from(black_box(code)) * i32::from(code));
    }
    black_box(sum);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::matmul::dot_256;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Independent sums: enough to hide the latency of 5 cycles at two per cycle.
    pub(super) const CHAINS: usize = 10;

    /// `vpmaddubsw` and the addition that must follow it.
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2_products(rounds: usize) {
        let codes = black_box(_mm256_set1_epi8(3));
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // The sum is an operand, so that no product can be computed before the loop.
                *sum = _mm256_add_epi16(_mm256_maddubs_epi16(codes, *sum), codes);
            }
        }
        black_box(sums);
    }

    /// `vpdpbusd` of 256 bits alone.
    ///
    /// # Safety
    /// The CPU has it in the encoding `PRODUCT`.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx_dot_products<const PRODUCT: u8>(rounds: usize) {
        let codes = black_box(_mm256_set1_epi8(3));
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // SAFETY: the caller's promise.
                *sum = unsafe { dot_256::<PRODUCT>(*sum, codes, codes) };
            }
        }
        black_box(sums);
    }

    /// `vpdpbusd` of 512 bits alone.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512_products(rounds: usize) {
        let codes = black_box(_mm512_set1_epi8(3));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, codes, codes);
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use crate::matmul::{dot, multiply};
    use std::arch::aarch64::*;
    use std::hint::black_box;

    /// Independent sums: enough to hide the latency of 4 cycles at four per cycle.
    pub(super) const CHAINS: usize = 16;

    /// `smull`, `smlal` and `sadalp`: 16 products.
    #[target_feature(enable = "neon")]
    pub(super) fn products(rounds: usize) {
        let codes = black_box(vdupq_n_s8(3));
        let mut sums = [vdupq_n_s32(0); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // The sum is an operand, so that no product can be computed before the loop.
                let other = vget_low_s8(vreinterpretq_s8_s32(*sum));
                let products = vmlal_s8(vmull_s8(vget_low_s8(codes), other), vget_high_s8(codes), other);
                *sum = vpadalq_s16(*sum, products);
            }
        }
        black_box(sums);
    }

    /// `sdot` alone.
    ///
    /// # Safety
    /// The CPU has it.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn dot_products(rounds: usize) {
        let codes = black_box(vdupq_n_s8(3));
        let mut sums = [vdupq_n_s32(0); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // SAFETY: the caller's promise.
                *sum = unsafe { dot::<0>(*sum, codes, codes) };
            }
        }
        black_box(sums);
    }

    /// `smmla` alone.
    ///
    /// # Safety
    /// The CPU has it.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn matrix_products(rounds: usize) {
        let codes = black_box(vdupq_n_s8(3));
        let mut sums = [vdupq_n_s32(0); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // SAFETY: the caller's promise.
                *sum = unsafe { multiply(*sum, codes, codes) };
            }
        }
        black_box(sums);
    }
}

/// Seconds that the slowest of `threads` threads needs for `work`, the best of five rounds.
fn best_round(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
    let start = Barrier::new(threads);
    (0..6)
        .map(|_| {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads)
                    .map(|thread| {
                        let (start, work) = (&start, &work);
                        scope.spawn(move || {
                            start.wait();
                            let began = Instant::now();
                            work(thread);
                            began.elapsed().as_secs_f64()
                        })
                    })
                    .collect();
                running
                    .into_iter()
                    .map(|thread| thread.join().expect("measuring does not panic"))
                    .fold(0.0, f64::max)
            })
        })
        .fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read() {
        for isa in Isa::available() {
            for len in [1, 7, 63, 64, 65, 200, 256] {
                let mut values = vec![1.0; len];
                for index in 0..len {
                    values[index] = 2.0;
                    assert_eq!(run(isa, Largest(&values)), 2.0, "{isa} value {index} of {len}");
                    values[index] = 1.0;
                }
            }
        }
    }

    #[test]
    fn rates_are_positive() {
        let isa = Isa::detect();
        assert!(read_bandwidth(isa, 2, 1 << 16) > 0.0 && int8_rate(isa, 1) > 0.0 && f32_rate(isa, 1) > 0.0);
    }
}
