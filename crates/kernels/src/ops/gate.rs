//! Elementwise sums and scaling, and the activations of feed-forward layers.

use crate::Isa;
use crate::lanes::{Kernel, Lanes, exp, map, run_wide, tanh, update};

/// `values += other`. Panics unless the lengths are equal.
pub fn add(isa: Isa, values: &mut [f32], other: &[f32]) {
    run_wide(isa, Add { values, other });
}

/// `values *= factor`.
pub fn scale(isa: Isa, values: &mut [f32], factor: f32) {
    run_wide(isa, Scale { values, factor });
}

/// What the inner values of a feed-forward layer go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// The usual approximation of GELU, `x / 2 (1 + tanh(u))` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
    GeluTanh,
    /// GELU itself, `x / 2 (1 + erf(x / sqrt(2)))`, within 5e-7.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

/// `values = activation(values)`.
pub fn activate(isa: Isa, activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Silu => run_wide(isa, Activate { values, function: Silu }),
        Activation::GeluTanh => run_wide(isa, Activate { values, function: GeluTanh }),
        Activation::Gelu => run_wide(isa, Activate { values, function: Gelu }),
        Activation::Relu => run_wide(isa, Activate { values, function: Relu }),
    }
}

/// `values = activation(values) * other`, the gate of llama. Panics unless the lengths are equal.
pub fn gate(isa: Isa, activation: Activation, values: &mut [f32], other: &[f32]) {
    match activation {
        Activation::Silu => run_wide(isa, Gate { values, other, function: Silu }),
        Activation::GeluTanh => run_wide(isa, Gate { values, other, function: GeluTanh }),
        Activation::Gelu => run_wide(isa, Gate { values, other, function: Gelu }),
        Activation::Relu => run_wide(isa, Gate { values, other, function: Relu }),
    }
}

/// `values = cap * tanh(values / cap)`.
pub fn soft_cap(isa: Isa, values: &mut [f32], cap: f32) {
    run_wide(isa, SoftCap { values, cap });
}

struct Add<'a> {
    values: &'a mut [f32],
    other: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        update::<L>(
            self.values,
            self.other,
            #[inline(always)]
            |value, other| value.add(other),
        );
    }
}

struct Scale<'a> {
    values: &'a mut [f32],
    factor: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let factor = L::splat(self.factor);
        map::<L>(
            self.values,
            #[inline(always)]
            |value| value.mul(factor),
        );
    }
}

struct SoftCap<'a> {
    values: &'a mut [f32],
    cap: f32,
}

impl Kernel for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let cap = L::splat(self.cap);
        map::<L>(
            self.values,
            #[inline(always)]
            |value| cap.mul(tanh(value.div(cap))),
        );
    }
}

/// An activation on lanes.
trait Function {
    /// Implementations are `#[inline(always)]`.
    fn of<L: Lanes>(x: L) -> L;
}

struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        x.div(L::splat(1.0).add(exp(L::splat(0.0).sub(x))))
    }
}

struct GeluTanh;

impl Function for GeluTanh {
    /// `(1 + tanh(u)) / 2` is `1 / (1 + e^-2u)`.
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        let cubed = x.mul(x).mul(x);
        // -2 sqrt(2 / pi).
        let exponent = cubed.fma(L::splat(0.044_715), x).mul(L::splat(-1.595_769_2));
        x.div(L::splat(1.0).add(exp(exponent)))
    }
}

struct Gelu;

impl Function for Gelu {
    /// `max(x, 0) - |x| / 2 erfc(|x| / sqrt(2))`, which loses nothing where the two parts of `1 + erf` would cancel out.
    ///
    /// `erfc(z)` is `(a1 t + .. + a5 t^5) e^(-z^2)` with `t = 1 / (1 + p z)`, within 1.5e-7: Abramowitz and Stegun, 7.1.26.
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        let z = x.abs().mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = L::splat(1.0).div(z.fma(L::splat(0.327_591_1), L::splat(1.0)));
        let mut p = L::splat(1.061_405_4);
        for a in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = p.fma(t, L::splat(a));
        }
        let erfc = p.mul(t).mul(exp(L::splat(0.0).sub(z.mul(z))));
        x.max(L::splat(0.0)).sub(x.abs().mul(L::splat(0.5)).mul(erfc))
    }
}

struct Relu;

impl Function for Relu {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        x.max(L::splat(0.0))
    }
}

struct Activate<'a, F> {
    values: &'a mut [f32],
    #[expect(dead_code, reason = "says which function by its type")]
    function: F,
}

impl<F: Function> Kernel for Activate<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        map::<L>(
            self.values,
            #[inline(always)]
            |x| F::of(x),
        );
    }
}

struct Gate<'a, F> {
    values: &'a mut [f32],
    other: &'a [f32],
    #[expect(dead_code, reason = "says which function by its type")]
    function: F,
}

impl<F: Function> Kernel for Gate<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        update::<L>(
            self.values,
            self.other,
            #[inline(always)]
            |x, other| F::of(x).mul(other),
        );
    }
}
