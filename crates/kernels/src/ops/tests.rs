use super::*;
use crate::Isa;
use crate::testing::{seeded, values};

/// Applies `f` to rows of every length up to 130 on every instruction set, and wants the bits of the scalar
/// one and the value of `naive` within `bound`, relative and absolute.
fn check(bound: f64, f: impl Fn(Isa, &mut Vec<f32>, &[f32]), naive: impl Fn(&[f64], &[f64]) -> Vec<f64>) {
    for len in 1..=130 {
        let mut rng = seeded(len);
        let mut row = || values(&mut rng, len as usize);
        let (values, other) = (row().iter().map(|x| x * 8.0).collect::<Vec<f32>>(), row());
        let widen = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let mut expected = values.clone();
        f(Isa::SCALAR, &mut expected, &other);
        let exact = naive(&widen(&values), &widen(&other));
        assert_eq!(exact.len(), expected.len());
        for (value, exact) in expected.iter().zip(exact) {
            assert!(
                (f64::from(*value) - exact).abs() <= bound * (1.0 + exact.abs()),
                "{value} {exact} of {len}"
            );
        }
        for isa in Isa::available() {
            let mut found = values.clone();
            f(isa, &mut found, &other);
            assert_eq!(found, expected, "{isa}, length {len}");
        }
    }
}

fn map2(f: impl Fn(f64, f64) -> f64) -> impl Fn(&[f64], &[f64]) -> Vec<f64> {
    move |a, b| a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

/// The error function by its series, up to 4, where it is 1 within 2e-8.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    2.0 / std::f64::consts::PI.sqrt() * sum
}

fn exact(activation: Activation) -> impl Fn(f64) -> f64 {
    move |x| match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            x / 2.0 * (1.0 + u.tanh())
        }
        Activation::Gelu => x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::Relu => x.max(0.0),
    }
}

#[test]
fn elementwise_operations_agree_with_the_naive_ones() {
    check(1e-7, |isa, a, b| add(isa, a, b), map2(|a, b| a + b));
    check(1e-7, |isa, a, _| scale(isa, a, 0.3), map2(|a, _| a * f64::from(0.3f32)));
    check(1e-6, |isa, a, _| soft_cap(isa, a, 1.5), map2(|a, _| 1.5 * (a / 1.5).tanh()));
    for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
        check(1e-6, |isa, a, _| activate(isa, kind, a), map2(|a, _| exact(kind)(a)));
        check(1e-6, |isa, a, b| gate(isa, kind, a, b), map2(|a, b| exact(kind)(a) * b));
    }
}

#[test]
fn norms_agree_with_the_naive_ones() {
    check(
        1e-6,
        |isa, a, b| {
            let x = a.clone();
            rms_norm(isa, &x, b, 1e-5, a);
        },
        |a, b| {
            let mean = a.iter().map(|x| x * x).sum::<f64>() / a.len() as f64;
            a.iter().zip(b).map(|(a, b)| a / (mean + 1e-5).sqrt() * b).collect()
        },
    );
    for bias in [false, true] {
        check(
            1e-5,
            |isa, a, b| {
                let x = a.clone();
                layer_norm(isa, &x, b, bias.then_some(b), 1e-5, a);
            },
            |a, b| {
                let n = a.len() as f64;
                let mean = a.iter().sum::<f64>() / n;
                let variance = a.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                let normed = |x: f64| (x - mean) / (variance + 1e-5).sqrt();
                a.iter().zip(b).map(|(a, b)| normed(*a) * b + if bias { *b } else { 0.0 }).collect()
            },
        );
    }
}

#[test]
fn reductions_agree_with_the_naive_ones() {
    let sum_exp = |a: &[f64]| a.iter().map(|x| x.exp()).sum::<f64>();
    let scaled = |x: &f64, max: f64| ((x - max) / 1.5).exp();
    check(1e-6, |isa, a, _| exp_scaled(isa, a, 3.0, 1.5), |a, _| a.iter().map(|x| scaled(x, 3.0)).collect());
    check(1e-6, |isa, a, _| *a = vec![log_sum_exp(isa, a)], |a, _| vec![sum_exp(a).ln()]);
    check(
        1e-5,
        |isa, a, b| *a = vec![dot(isa, a, b)],
        |a, b| vec![a.iter().zip(b).map(|(a, b)| a * b).sum()],
    );
    let largest = |a: &[f64]| a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    check(0.0, |isa, a, _| *a = vec![max(isa, a)], |a, _| vec![largest(a)]);
    let index = |a: &[f64]| a.iter().position(|&x| x == largest(a)).unwrap() as f64;
    check(0.0, |isa, a, _| *a = vec![argmax(isa, a) as f32], |a, _| vec![index(a)]);
}

#[test]
fn the_first_of_the_largest_is_found_wherever_it_is() {
    for isa in Isa::available() {
        let mut values = vec![-2.0; 301];
        values[7] = f32::NAN;
        for at in (0..301).filter(|at| *at != 7) {
            values[at] = 1.0;
            values[at + 1..].iter_mut().step_by(5).for_each(|later| *later = 1.0);
            assert_eq!((argmax(isa, &values), max(isa, &values)), (at, 1.0), "{isa}");
            values[at..].fill(-2.0);
        }
        assert_eq!([argmax(isa, &[]), argmax(isa, &[f32::NEG_INFINITY; 100])], [0, 0], "{isa}");
    }
}

#[test]
fn masked_logits_have_probability_zero() {
    for isa in Isa::available() {
        let mut logits = vec![f32::NEG_INFINITY; 20];
        assert_eq!(log_sum_exp(isa, &logits), f32::NEG_INFINITY);
        exp_scaled(isa, &mut logits, 100.0, 1.0);
        assert_eq!(logits, [0.0; 20]);
        let mut logits = [[f32::NEG_INFINITY; 13], [100.0; 13]].concat();
        assert!((log_sum_exp(isa, &logits) - 100.0 - 13f32.ln()).abs() < 1e-5);
        exp_scaled(isa, &mut logits, 100.0, 1.0);
        assert_eq!(logits, [[0.0; 13], [1.0; 13]].concat());
    }
}

#[test]
fn rope_turns_pairs() {
    let frequencies: Vec<f32> = (0..20).map(|i| 10_000f32.powf(-(i as f32) / 20.0)).collect();
    let (mut cos, mut sin) = (vec![0.0; 20], vec![0.0; 20]);
    rope_tables(1234, &frequencies, &mut cos, &mut sin);
    let heads = values(&mut seeded(1), 3 * 48);
    for pairing in [RopePairing::Interleaved, RopePairing::Neox] {
        let mut expected: Vec<f64> = heads.iter().map(|&x| f64::from(x)).collect();
        for head in expected.chunks_mut(48) {
            for (i, &frequency) in frequencies.iter().enumerate() {
                let (a, b) = if pairing == RopePairing::Neox { (i, i + 20) } else { (2 * i, 2 * i + 1) };
                let (s, c) = (1234.0 * f64::from(frequency)).sin_cos();
                (head[a], head[b]) = (head[a] * c - head[b] * s, head[a] * s + head[b] * c);
            }
        }
        let mut scalar = heads.clone();
        rope(Isa::SCALAR, pairing, &mut scalar, 48, &cos, &sin);
        for isa in Isa::available() {
            let mut found = heads.clone();
            rope(isa, pairing, &mut found, 48, &cos, &sin);
            assert_eq!(found, scalar, "{pairing:?} {isa}");
            assert!(
                found.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6),
                "{pairing:?}"
            );
        }
    }
}
