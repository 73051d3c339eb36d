//! Sums, products and the activation functions of feed-forward layers.

use crate::Isa;
use crate::lanes::{Kernel, Lanes, exp, run, update};

/// One elementwise function `f(value, other)`, written to `values`.
macro_rules! binary {
    ($(#[$doc:meta])* $name:ident, |$a:ident, $b:ident| $e:expr) => {
        $(#[$doc])*
        pub fn $name(isa: Isa, values: &mut [f32], other: &[f32]) {
            struct Binary<'a>(&'a mut [f32], &'a [f32]);
            impl Kernel for Binary<'_> {
                type Output = ();
                #[inline(always)]
                fn run<L: Lanes>(self) {
                    update::<L>(self.0, self.1, #[inline(always)] |$a, $b| $e);
                }
            }
            run(isa, Binary(values, other));
        }
    };
}

/// One elementwise function of a single argument.
macro_rules! unary {
    ($(#[$doc:meta])* $name:ident, |$a:ident| $e:expr) => {
        $(#[$doc])*
        pub fn $name(isa: Isa, values: &mut [f32]) {
            struct Unary<'a>(&'a mut [f32]);
            impl Kernel for Unary<'_> {
                type Output = ();
                #[inline(always)]
                fn run<L: Lanes>(self) {
                    crate::lanes::map::<L>(self.0, #[inline(always)] |$a| $e);
                }
            }
            run(isa, Unary(values));
        }
    };
}

binary! {
    /// `values += other`. Panics unless the lengths are equal.
    add, |a, b| a.add(b)
}

binary! {
    /// `values *= other`. Panics unless the lengths are equal.
    mul, |a, b| a.mul(b)
}

binary! {
    /// `values = silu(values) * other`, the gate of llama. Panics unless the lengths are equal.
    silu_mul, |a, b| silu_lanes(a).mul(b)
}

binary! {
    /// `values = gelu(values) * other` with the tanh form of gelu, the gate of gemma. Panics unless the lengths are equal.
    gelu_mul, |a, b| gelu_lanes(a).mul(b)
}

unary! {
    /// `values = x / (1 + e^-x)`.
    silu, |a| silu_lanes(a)
}

unary! {
    /// `values = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    gelu, |a| gelu_lanes(a)
}

/// `values *= factor`.
pub fn scale(isa: Isa, values: &mut [f32], factor: f32) {
    struct Scale<'a>(&'a mut [f32], f32);
    impl Kernel for Scale<'_> {
        type Output = ();
        #[inline(always)]
        fn run<L: Lanes>(self) {
            let factor = L::splat(self.1);
            crate::lanes::map::<L>(
                self.0,
                #[inline(always)]
                |a| a.mul(factor),
            );
        }
    }
    run(isa, Scale(values, factor));
}

#[inline(always)]
fn silu_lanes<L: Lanes>(x: L) -> L {
    x.div(L::splat(1.0).add(exp(L::splat(0.0).sub(x))))
}

/// `(1 + tanh(y)) / 2` is `1 / (1 + e^-2y)`, so gelu is a silu with another argument inside.
#[inline(always)]
fn gelu_lanes<L: Lanes>(x: L) -> L {
    let cubic = x.mul(x).fma(L::splat(0.044_715), L::splat(1.0)).mul(x);
    let exponent = cubic.mul(L::splat(-2.0 * 0.797_884_6));
    x.div(L::splat(1.0).add(exp(exponent)))
}
