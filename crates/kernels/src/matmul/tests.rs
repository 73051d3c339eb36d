use super::*;
use crate::testing::{random_blocks, seeded, values};
use crate::{Arena, DType, Isa, Shared};

struct Case {
    dtype: DType,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
}

impl Case {
    fn new(dtype: DType, rows: usize, cols: usize, seed: u64) -> Case {
        let bytes = random_blocks(dtype, rows * cols / dtype.block_size(), seed);
        Case { dtype, rows, cols, bytes }
    }

    fn pack(&self, isa: Isa) -> Matrix {
        Matrix::pack(isa, &Arena::default(), self.dtype, self.rows, self.cols, &self.bytes).unwrap()
    }

    /// The whole product, in one call.
    fn product(&self, isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.cols * self.rows];
        self.multiply(&self.pack(isa), x, &mut TileMut::from_slice(&mut out, self.rows));
        out
    }

    /// One rectangle of it.
    fn multiply(&self, matrix: &Matrix, x: &[f32], out: &mut TileMut<'_, f32>) {
        let rows = x.len() / self.cols;
        if self.dtype.is_quantized() {
            let mut activations = Activations::default();
            activations.reshape(rows, self.cols);
            activations.quantize(matrix.isa, 0..rows, x);
            matmul(matrix, Input::Quantized(&activations), out);
        } else {
            matmul(matrix, Input::Float(&Tile::from_slice(x, self.cols)), out);
        }
    }

    fn dequantized(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        self.dtype.dequantize(&self.bytes, &mut values);
        values
    }
}

/// Shapes with tails of every kind: fewer rows than a tile, one block, odd numbers of blocks and rows.
fn cases(dtype: DType) -> Vec<Case> {
    let block = dtype.block_size().max(32);
    [(1, block), (7, 3 * block), (8, block), (33, 2 * block), (50, block), (16, 5 * block)]
        .into_iter()
        .enumerate()
        .map(|(i, (rows, cols))| Case::new(dtype, rows, cols, i as u64 + 1))
        .collect()
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_scalar_one() {
    for dtype in DType::all() {
        for case in cases(dtype) {
            let x = values(&mut seeded(3), 11 * case.cols);
            let expected = case.product(Isa::SCALAR, &x);
            for isa in Isa::available() {
                assert_eq!(case.product(isa, &x), expected, "{dtype:?} {isa} {} x {}", case.rows, case.cols);
            }
        }
    }
}

#[test]
fn every_number_of_rows_gives_the_bits_of_single_rows() {
    for dtype in DType::all() {
        let case = Case::new(dtype, 19, 512, 5);
        for isa in Isa::available().into_iter().skip(1) {
            let x = values(&mut seeded(4), 18 * case.cols);
            let single: Vec<f32> = x.chunks(case.cols).flat_map(|row| case.product(isa, row)).collect();
            for n in 1..=18 {
                assert_eq!(
                    case.product(isa, &x[..n * case.cols]),
                    single[..n * case.rows],
                    "{dtype:?} {isa} n = {n}"
                );
            }
        }
    }
}

#[test]
fn rectangles_on_several_threads_give_the_bits_of_the_whole() {
    for dtype in DType::all() {
        let case = Case::new(dtype, 75, 256, 6);
        for isa in Isa::available() {
            let x = values(&mut seeded(8), 6 * case.cols);
            let matrix = case.pack(isa);
            let out = Shared::new(6, case.rows);
            std::thread::scope(|scope| {
                for rows in [0..4, 4..6] {
                    for start in (0..case.rows).step_by(matrix.tile_rows()) {
                        let (rows, cols) = (rows.clone(), start..(start + matrix.tile_rows()).min(case.rows));
                        let (case, matrix, out, x) = (&case, &matrix, &out, &x);
                        scope.spawn(move || case.multiply(matrix, x, &mut out.write(rows, cols)));
                    }
                }
            });
            assert_eq!(out.read_rows(0..6).as_slice(), case.product(isa, &x), "{dtype:?} {isa}");
        }
    }
}

/// More rows than one chunk of the cache holds, and rows that do not start at zero.
#[test]
fn many_rows_and_a_later_start_give_the_same_bits() {
    for dtype in [DType::Q4_1, DType::Q8_0, DType::F16] {
        let case = Case::new(dtype, 24, 2048 + if dtype.is_quantized() { 0 } else { 1 }, 7);
        let x = values(&mut seeded(2), 90 * case.cols);
        for isa in Isa::available().into_iter().skip(1) {
            let whole = case.product(isa, &x);
            let single: Vec<f32> = x.chunks(case.cols).flat_map(|row| case.product(isa, row)).collect();
            assert_eq!(whole, single, "{dtype:?} {isa}");
            let out = Shared::new(90, case.rows);
            case.multiply(&case.pack(isa), &x, &mut out.write_rows(37..90));
            assert_eq!(out.read_rows(37..90).as_slice(), &whole[37 * case.rows..], "{dtype:?} {isa}");
        }
    }
}

/// The only errors are those of the 8-bit activations (half a step of 1/127 of the block's largest value
/// each, so 0.0023 of the root mean square of a sum of independent ones) and of f16 scales of K-quants (2^-11
/// each).
#[test]
fn products_are_near_those_of_the_dequantized_weights() {
    for dtype in DType::all() {
        let case = Case::new(dtype, 40, 1024, 9);
        let x = values(&mut seeded(10), 2 * case.cols);
        let weights = case.dequantized();
        let out = case.product(Isa::detect(), &x);
        for (x, out) in x.chunks(case.cols).zip(out.chunks(case.rows)) {
            for (weights, out) in weights.chunks(case.cols).zip(out) {
                let terms = || weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (exact, size) =
                    (terms().sum::<f64>(), weights.iter().map(|w| f64::from(w * w)).sum::<f64>().sqrt());
                let bound = if dtype.is_quantized() { 0.012 } else { 4e-6 } * size;
                assert!(
                    (exact - f64::from(*out)).abs() < bound,
                    "{dtype:?}: {out} for {exact}, bound {bound}"
                );
            }
        }
    }
}

#[test]
fn extreme_codes_do_not_overflow() {
    for dtype in DType::all() {
        let Some(quant) = dtype.quant() else { continue };
        for fill in [0x00, 0xff, 0x80, 0x7f] {
            let mut case = Case::new(dtype, 17, 256, 2);
            let block = dtype.block_bytes();
            // Keep the scales of the random blocks, set every byte that holds codes.
            let halves = random_blocks(dtype, 1, 2);
            for bytes in case.bytes.chunks_mut(block) {
                bytes.copy_from_slice(&halves);
                bytes[quant.code_bytes.clone()].fill(fill);
            }
            for sign in [1.0, -1.0] {
                let x = vec![sign; 3 * case.cols];
                let expected = case.product(Isa::SCALAR, &x);
                for isa in Isa::available() {
                    assert_eq!(case.product(isa, &x), expected, "{dtype:?} {isa} {fill:#x}");
                }
            }
        }
    }
}

#[test]
fn rows_of_a_packed_matrix_are_those_of_the_file() {
    for dtype in DType::all() {
        for isa in Isa::available() {
            let case = Case::new(dtype, 21, 512, 12);
            let matrix = case.pack(isa);
            let mut row = vec![0.0; case.cols];
            for (i, expected) in case.dequantized().chunks(case.cols).enumerate() {
                matrix.row(i, &mut row);
                // Two scales of a K-quant are multiplied out and rounded to f16, as is the product for the
                // minimum.
                let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let tolerance = if dtype.block_size() == 256 { largest / 500.0 } else { largest * 1e-6 };
                for (value, expected) in row.iter().zip(expected) {
                    assert!((value - expected).abs() <= tolerance, "{dtype:?} {isa}: {value} {expected}");
                }
            }
        }
    }
}

#[test]
fn memory_stays_near_the_size_of_the_file() {
    for (dtype, bits) in
        [(DType::Q4_0, 4.5), (DType::Q4_1, 5.0), (DType::Q4_K, 5.0), (DType::Q5_0, 5.5), (DType::Q6_K, 7.0)]
    {
        for isa in Isa::available() {
            let matrix = Case::new(dtype, 64, 512, 1).pack(isa);
            assert_eq!(matrix.bytes() as f64 * 8.0 / (64.0 * 512.0), bits, "{dtype:?} {isa}");
        }
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let pack = |rows, cols, len| {
        Matrix::pack(Isa::SCALAR, &Arena::default(), DType::Q4_K, rows, cols, &vec![0; len]).err().unwrap()
    };
    assert_eq!(pack(0, 256, 0), crate::PackError::Empty { rows: 0, cols: 256 });
    assert_eq!(pack(2, 128, 144), crate::PackError::Columns { cols: 128, block: 256, dtype: DType::Q4_K });
    assert_eq!(pack(2, 256, 144).to_string(), "2 x 256 values in Q4_K take 288 bytes, found 144");
}

/// The scales of MXFP4 are powers of two that f16 has exactly, that are too small for it, or too large.
#[test]
fn scales_below_f16_are_zero_and_those_above_are_refused() {
    for isa in Isa::available() {
        for exponent in 0..=255 {
            let mut block = [0x11u8; 17];
            block[0] = exponent;
            let case = Case { dtype: DType::MXFP4, rows: 1, cols: 32, bytes: block.to_vec() };
            let packed = Matrix::pack(isa, &Arena::default(), DType::MXFP4, 1, 32, &block);
            if exponent > 143 {
                assert_eq!(packed.err(), Some(crate::PackError::Scale { row: 0, dtype: DType::MXFP4 }));
                continue;
            }
            let mut row = [0.0; 32];
            packed.unwrap().row(0, &mut row);
            let expected = if exponent < 104 { vec![0.0; 32] } else { case.dequantized() };
            assert_eq!(row.to_vec(), expected, "{isa} {exponent}");
            let out = case.product(isa, &[1.0; 32]);
            assert!((out[0] - 32.0 * expected[0]).abs() <= 1e-6 * out[0], "{isa} {exponent}: {out:?}");
        }
    }
}

/// Of a matrix of several tiles, the row that is named is the bad one.
#[test]
fn a_scale_or_minimum_beyond_f16_is_refused_wherever_it_is() {
    // d and dmin are 4000, as f16, and their factors 1 but for one of 63: 252,000.
    let dtype = DType::Q4_K;
    let mut block = [0x11u8; 144];
    block[..4].copy_from_slice(&[f16::from_f32(4000.0).to_le_bytes(); 2].concat());
    block[4..16].fill(1);
    let (rows, cols) = (37, 512);
    for isa in Isa::available() {
        for (row, at) in [(0, 4), (7, 8), (8, 144 + 5), (15, 144 + 9), (16, 6), (31, 10), (36, 144 + 8)] {
            let mut bytes = block.repeat(rows * cols / 256);
            assert!(Matrix::pack(isa, &Arena::default(), dtype, rows, cols, &bytes).is_ok());
            bytes[row * 2 * 144 + at] = 63;
            let refused = Matrix::pack(isa, &Arena::default(), dtype, rows, cols, &bytes).err();
            assert_eq!(refused, Some(crate::PackError::Scale { row, dtype }), "{isa}, byte {at}");
        }
    }
}

/// One row of Q4_K times one row of activations, with the numbers that the head of this module computes on
/// paper.
#[test]
fn the_example_of_the_module_docs_is_right() {
    // d = 0.5 and dmin = 4, both scales of the first 32 values 1; after the three codes, 8 is a weight of 0.
    let mut block = [0x88u8; 144];
    block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
    block[2..4].copy_from_slice(&f16::from_f32(4.0).to_le_bytes());
    block[4..16].fill(1);
    block[16..19].copy_from_slice(&[3, 12, 7]);
    let mut x = [0.0; 256];
    x[..3].copy_from_slice(&[1.0, -0.5, 1.27]);
    let case = Case { dtype: DType::Q4_K, rows: 1, cols: 256, bytes: block.to_vec() };
    assert_eq!(case.dequantized()[..4], [-2.5, 2.0, -0.5, 0.0]);
    for isa in Isa::available() {
        let out = case.product(isa, &x);
        assert!((out[0] + 4.135).abs() < 1e-5, "{isa}: {out:?}");
    }
}
