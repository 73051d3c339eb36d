//! Speed of matrix products beside the limits of the machine, on one thread.
//!
//! `cargo bench -p kernels -- [DTYPE]...`: per format and shape, GB/s of weights with one row of activations
//! and GOP/s with 128, best of many rounds. Compare the first with the read bandwidth and the second with the
//! int8 rate.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

use kernels::{Activations, DType, Input, Isa, Matrix, Shared, Tile, matmul, measure};
use std::time::Instant;

/// Feed-forward shapes of SmolLM2-135M and Qwen2.5-0.5B: (rows, cols).
const SHAPES: [(usize, usize); 4] = [(1536, 576), (576, 1536), (4864, 896), (896, 4864)];

fn main() {
    let isa = Isa::detect();
    let named: Vec<DType> = std::env::args().skip(1).filter_map(|name| DType::from_name(&name)).collect();
    let dtypes: Vec<DType> = if named.is_empty() { DType::all().collect() } else { named };
    let rate = measure::int8_rate(isa, 1) / 1e9;
    println!("{isa}, one thread: int8 {rate:.0} GOP/s; two threads {:.0}", measure::int8_rate(isa, 2) / 1e9);
    for (name, bytes) in [("1 MiB", 1 << 20), ("8 MiB", 8 << 20), ("512 MiB", 512 << 20)] {
        let read = |threads| measure::read_bandwidth(isa, threads, bytes) / 1e9;
        println!("read {name}: {:.1} GB/s, two threads {:.1}", read(1), read(2));
    }
    println!("{:8} {:>12} {:>10} {:>10} {:>10}", "", "shape", "n=1 GB/s", "n=128 GOP/s", "of int8");
    for dtype in dtypes {
        for (rows, cols) in SHAPES.into_iter().filter(|(_, cols)| cols % dtype.block_size() == 0) {
            let single = seconds(isa, dtype, rows, cols, 1);
            let many = seconds(isa, dtype, rows, cols, 128);
            let bytes = pack(isa, dtype, rows, cols).bytes();
            let gops = (2 * rows * cols * 128) as f64 / many / 1e9;
            println!(
                "{:8} {:>12} {:>10.1} {gops:>10.0} {:>10.2}",
                dtype.name(),
                format!("{rows}x{cols}"),
                bytes as f64 / single / 1e9,
                gops / rate
            );
        }
    }
}

fn pack(isa: Isa, dtype: DType, rows: usize, cols: usize) -> Matrix {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Below 0x3c, so that numbers made of these bytes are finite and small.
        (state >> 24) as u8 % 0x3c
    };
    let bytes: Vec<u8> = (0..dtype.row_bytes(cols) * rows).map(|_| byte()).collect();
    Matrix::pack(isa, dtype, rows, cols, &bytes).expect("the shape is whole blocks")
}

/// Seconds of one product with `n` rows. Several copies of the matrix take turns when `n` is 1, so that
/// weights come from the third-level cache or memory as in a model, 32 MiB in all.
fn seconds(isa: Isa, dtype: DType, rows: usize, cols: usize, n: usize) -> f64 {
    let matrix = pack(isa, dtype, rows, cols);
    let copies = if n == 1 { (64 << 20) / matrix.bytes() + 1 } else { 1 };
    let matrices: Vec<Matrix> = (0..copies).map(|_| pack(isa, dtype, rows, cols)).collect();
    let x: Vec<f32> = (0..n * cols).map(|i| (i % 61) as f32 / 30.0 - 1.0).collect();
    let mut activations = Activations::default();
    activations.reshape(n, cols.next_multiple_of(32));
    if dtype.is_quantized() {
        activations.quantize(isa, 0..n, &x);
    }
    let tile = Tile::from_slice(&x, cols);
    let input = if dtype.is_quantized() { Input::Quantized(&activations) } else { Input::Float(&tile) };
    let out = Shared::new(n, rows);
    // Many short rounds and the best of them: what other processes disturb is left out.
    let group = (4 << 20) / (matrix.bytes() * n) + 1;
    let (begun, mut best) = (Instant::now(), f64::INFINITY);
    while begun.elapsed().as_millis() < 300 {
        for matrices in matrices.chunks(group) {
            let start = Instant::now();
            for matrix in matrices {
                matmul(matrix, input, &mut out.write_rows(0..n));
            }
            best = best.min(start.elapsed().as_secs_f64() / matrices.len() as f64);
        }
    }
    best
}
