//! Speed of the operations on rows, beside the limits of the machine.
//!
//! `cargo bench -p kernels --bench ops -- norm`. Rows are those of Qwen2.5-0.5B: 896 numbers wide, 4864 within a
//! feed-forward layer, 14 heads of 64, and 151,936 logits. Work that is no addition or multiplication is counted as one
//! operation each: a division
//! takes longer than that, and so an operation with one cannot reach the limit of f32.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

mod shares;

use criterion::Throughput;
use kernels::ops::{self, Activation, RopePairing};
use kernels::{Activations, Isa};
use shares::{Shares, Work};
use std::hint::black_box;

const HIDDEN: usize = 896;
const FFN: usize = 4864;
const HEAD_DIM: usize = 64;
const VOCABULARY: usize = 151_936;

/// Operations of `e^x` on a number, as `kernels` computes it; a fused multiplication and addition are two.
const EXP: usize = 30;

/// A case: values per row, operations per value, f32 rows that are read, and what is run.
struct Case {
    name: &'static str,
    len: usize,
    f32_ops: usize,
    inputs: usize,
    run: fn(Isa, &mut Buffers),
}

/// What the operations work on, each as long as the row.
struct Buffers {
    values: Vec<f32>,
    other: Vec<f32>,
    out: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    codes: Activations,
}

const CASES: [Case; 14] = [
    Case {
        name: "rms norm 896",
        len: HIDDEN,
        f32_ops: 4,
        inputs: 2,
        run: |isa, b| ops::rms_norm(isa, &b.values, &b.other, 1e-6, &mut b.out),
    },
    Case {
        name: "layer norm 896",
        len: HIDDEN,
        f32_ops: 6,
        inputs: 2,
        run: |isa, b| ops::layer_norm(isa, &b.values, &b.other, None, 1e-6, &mut b.out),
    },
    Case {
        name: "add 896",
        len: HIDDEN,
        f32_ops: 1,
        inputs: 2,
        run: |isa, b| {
            b.out.copy_from_slice(&b.values);
            ops::add(isa, &mut b.out, &b.other);
        },
    },
    Case {
        name: "rope neox 14 heads",
        len: HIDDEN,
        f32_ops: 3,
        inputs: 1,
        run: |isa, b| ops::rope(isa, RopePairing::Neox, &mut b.values, HEAD_DIM, &b.cos, &b.sin),
    },
    Case {
        name: "rope interleaved 14 heads",
        len: HIDDEN,
        f32_ops: 3,
        inputs: 1,
        run: |isa, b| ops::rope(isa, RopePairing::Interleaved, &mut b.values, HEAD_DIM, &b.cos, &b.sin),
    },
    Case { name: "quantize 896", len: HIDDEN, f32_ops: 3, inputs: 1, run: quantize },
    Case { name: "quantize 4864", len: FFN, f32_ops: 3, inputs: 1, run: quantize },
    Case {
        name: "gate silu 4864",
        len: FFN,
        f32_ops: EXP + 4,
        inputs: 2,
        run: |isa, b| {
            b.out.copy_from_slice(&b.values);
            ops::gate(isa, Activation::Silu, &mut b.out, &b.other);
        },
    },
    Case {
        name: "gate gelu 4864",
        len: FFN,
        f32_ops: EXP + 9,
        inputs: 2,
        run: |isa, b| {
            b.out.copy_from_slice(&b.values);
            ops::gate(isa, Activation::GeluTanh, &mut b.out, &b.other);
        },
    },
    Case {
        name: "exp of 4864",
        len: FFN,
        f32_ops: EXP + 2,
        inputs: 1,
        run: |isa, b| {
            b.out.copy_from_slice(&b.values);
            ops::exp_scaled(isa, &mut b.out, 1.0, 0.8);
        },
    },
    Case {
        name: "softmax 151936: exp",
        len: VOCABULARY,
        f32_ops: EXP + 2,
        inputs: 1,
        run: |isa, b| {
            b.out.copy_from_slice(&b.values);
            ops::exp_scaled(isa, &mut b.out, 1.0, 0.8);
        },
    },
    Case {
        name: "softmax 151936: log of the sum",
        len: VOCABULARY,
        f32_ops: EXP + 3,
        inputs: 1,
        run: |isa, b| _ = black_box(ops::log_sum_exp(isa, &b.values)),
    },
    Case {
        name: "max 151936",
        len: VOCABULARY,
        f32_ops: 1,
        inputs: 1,
        run: |isa, b| _ = black_box(ops::max(isa, &b.values)),
    },
    Case {
        name: "argmax 151936",
        len: VOCABULARY,
        f32_ops: 1,
        inputs: 1,
        run: |isa, b| _ = black_box(ops::argmax(isa, &b.values)),
    },
];

fn quantize(isa: Isa, buffers: &mut Buffers) {
    buffers.codes.quantize(isa, 0..1, &buffers.values);
}

fn main() {
    let mut shares = Shares::from_arguments();
    for isa in Shares::isas() {
        for case in &CASES {
            let bytes = case.inputs * case.len * size_of::<f32>();
            shares.case("ops", isa, case.name, Throughput::Bytes(bytes as u64), || {
                let work =
                    Work { f32_ops: case.f32_ops * case.len, bytes, of_bytes: bytes, ..Work::default() };
                let mut buffers = buffers(case.len);
                (work, move || (case.run)(isa, black_box(&mut buffers)))
            });
        }
    }
    shares.finish();
}

/// Numbers around zero, the largest of them last.
fn buffers(len: usize) -> Buffers {
    let numbers = |step: usize| (0..len).map(|i| (i * step % 61) as f32 / 61.0 - 0.5).collect::<Vec<_>>();
    let mut values = numbers(7);
    values[len - 1] = 0.6;
    let angles = (0..HEAD_DIM / 2).map(|i| i as f32 * 0.1);
    let mut codes = Activations::default();
    codes.reshape(1, len.next_multiple_of(32));
    Buffers {
        values,
        other: numbers(11),
        out: vec![0.0; len],
        cos: angles.clone().map(f32::cos).collect(),
        sin: angles.map(f32::sin).collect(),
        codes,
    }
}
