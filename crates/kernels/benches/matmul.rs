//! Speed of matrix products, per format, shape and rows of activations, and of packing, beside the limits of the machine.
//!
//! `cargo bench -p kernels --bench matmul -- q4_k`: the argument is a part of a case's name, or a regular expression.
//! With one row of activations several copies of the matrix take turns, so that weights come from memory as in a model;
//! with more, the same one is read again and again.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

mod shares;

use criterion::Throughput;
use kernels::{Activations, Arena, DType, Input, Isa, Matrix, Shared, Tile, matmul};
use shares::{Shares, Work};

/// Feed-forward shapes of SmolLM2-135M and Qwen2.5-0.5B: (rows, cols).
const SHAPES: [(usize, usize); 4] = [(1536, 576), (576, 1536), (4864, 896), (896, 4864)];

/// Rows of activations.
const ROWS: [usize; 4] = [1, 8, 32, 128];

/// Bytes of weights that take turns with one row: more than caches hold.
const TURNS: usize = 64 << 20;

fn main() {
    let mut shares = Shares::from_arguments();
    let shapes = if Shares::is_measuring() { &SHAPES[..] } else { &SHAPES[..1] };
    for isa in Shares::isas() {
        for dtype in DType::all() {
            for &(rows, cols) in shapes.iter().filter(|(_, cols)| cols % dtype.block_size() == 0) {
                for n in ROWS {
                    let name = format!("{} {rows}x{cols} rows {n}", dtype.name().to_lowercase());
                    let operations = Throughput::Elements((2 * rows * cols * n) as u64);
                    shares.case("matmul", isa, &name, operations, || product(isa, dtype, rows, cols, n));
                }
            }
        }
    }
    let (rows, cols) = if Shares::is_measuring() { SHAPES[2] } else { (96, 256) };
    for isa in Shares::isas() {
        for dtype in DType::all() {
            let cols = cols.next_multiple_of(dtype.block_size());
            let name = format!("{} {rows}x{cols}", dtype.name().to_lowercase());
            let bytes = dtype.row_bytes(cols) * rows;
            shares.case("pack", isa, &name, Throughput::Bytes(bytes as u64), || {
                let file = bytes_of(dtype, rows, cols);
                let work = Work { bytes, of_bytes: TURNS, ..Work::default() };
                (work, move || drop(Matrix::pack(isa, &Arena::default(), dtype, rows, cols, &file)))
            });
        }
    }
    shares.finish();
}

/// A product with `n` rows of activations.
fn product(isa: Isa, dtype: DType, rows: usize, cols: usize, n: usize) -> (Work, impl FnMut()) {
    let arena = Arena::default();
    let first = pack(isa, &arena, dtype, rows, cols);
    let bytes = first.bytes();
    let copies = if n == 1 && Shares::is_measuring() { TURNS / bytes } else { 0 };
    let matrices: Vec<Matrix> =
        [first].into_iter().chain((0..copies).map(|_| pack(isa, &arena, dtype, rows, cols))).collect();
    let operations = 2 * rows * cols * n;
    let work = match dtype.is_quantized() {
        true => Work { int8_ops: operations, ..Work::default() },
        false => Work { f32_ops: operations, ..Work::default() },
    };
    let work = Work { bytes, of_bytes: matrices.len() * bytes, ..work };

    let x: Vec<f32> = (0..n * cols).map(|i| (i % 61) as f32 / 30.0 - 1.0).collect();
    let mut activations = Activations::default();
    activations.reshape(n, cols.next_multiple_of(32));
    if dtype.is_quantized() {
        activations.quantize(isa, 0..n, &x);
    }
    let out = Shared::new(n, rows);
    let mut turn = 0;
    let run = move || {
        let tile = Tile::from_slice(&x, cols);
        let input = if dtype.is_quantized() { Input::Quantized(&activations) } else { Input::Float(&tile) };
        matmul(&matrices[turn], input, &mut out.write_rows(0..n));
        turn = (turn + 1) % matrices.len();
    };
    (work, run)
}

fn pack(isa: Isa, arena: &Arena, dtype: DType, rows: usize, cols: usize) -> Matrix {
    let bytes = bytes_of(dtype, rows, cols);
    Matrix::pack(isa, arena, dtype, rows, cols, &bytes).expect("the shape is whole blocks")
}

/// What a file has for a matrix.
fn bytes_of(dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Below 0x3c, so that numbers made of these bytes are finite and small.
        (state >> 24) as u8 % 0x3c
    };
    (0..dtype.row_bytes(cols) * rows).map(|_| byte()).collect()
}
