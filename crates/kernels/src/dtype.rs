//! The table of number formats a weight file may use.

use crate::matmul;
use crate::quant::{self, Quant};
use half::{bf16, f16};

/// What [`DType`] says of a format.
struct Spec {
    /// Its number in `enum ggml_type` of ggml.h.
    ggml_id: u32,
    block_size: usize,
    block_bytes: usize,
    quant: Option<&'static Quant>,
}

impl Spec {
    const fn float(ggml_id: u32, bytes: usize) -> Spec {
        Spec { ggml_id, block_size: 1, block_bytes: bytes, quant: None }
    }

    /// Fails to compile when the declaration contradicts itself or no kernel computes with the format.
    const fn quant(quant: &'static Quant) -> Spec {
        quant.check();
        matmul::check_kernel(quant);
        Spec {
            ggml_id: quant.ggml_id,
            block_size: quant.block_size,
            block_bytes: quant.block_bytes,
            quant: Some(quant),
        }
    }
}

/// Makes the enum and the table of one list, so that neither can lack a format of the other.
macro_rules! formats {
    ($($(#[$doc:meta])* $dtype:ident = $spec:expr,)*) => {
        /// How the numbers of a tensor are stored.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[allow(non_camel_case_types, reason = "the names of the formats in GGUF")]
        pub enum DType {
            $($(#[$doc])* $dtype,)*
        }

        /// Format, name and what it is, in the order of the enum.
        static TABLE: &[(DType, &str, Spec)] = &[$((DType::$dtype, stringify!($dtype), $spec),)*];
    };
}

formats! {
    /// IEEE single precision.
    F32 = Spec::float(0, 4),
    /// IEEE half precision.
    F16 = Spec::float(1, 2),
    /// The upper half of a single.
    BF16 = Spec::float(30, 2),
    /// 8 bits, scale per 32.
    Q8_0 = Spec::quant(&quant::q8_0::QUANT),
    /// 4 bits, scale per 32.
    Q4_0 = Spec::quant(&quant::q4_0::QUANT),
    /// 4 bits, scale and minimum per 32.
    Q4_1 = Spec::quant(&quant::q4_1::QUANT),
    /// 5 bits, scale per 32.
    Q5_0 = Spec::quant(&quant::q5_0::QUANT),
    /// 5 bits, scale and minimum per 32.
    Q5_1 = Spec::quant(&quant::q5_1::QUANT),
    /// 2 bits, 4-bit scale and minimum per 16.
    Q2_K = Spec::quant(&quant::q2_k::QUANT),
    /// 3 bits, 6-bit scale per 16.
    Q3_K = Spec::quant(&quant::q3_k::QUANT),
    /// 4 bits, 6-bit scale and minimum per 32.
    Q4_K = Spec::quant(&quant::q4_k::QUANT),
    /// 5 bits, 6-bit scale and minimum per 32.
    Q5_K = Spec::quant(&quant::q5_k::QUANT),
    /// 6 bits, 8-bit scale per 16.
    Q6_K = Spec::quant(&quant::q6_k::QUANT),
    /// 4-bit index into a table of 8-bit values, scale per 32.
    IQ4_NL = Spec::quant(&quant::iq4_nl::QUANT),
    /// 4-bit index into the table of IQ4_NL, 6-bit scale per 32.
    IQ4_XS = Spec::quant(&quant::iq4_xs::QUANT),
    /// 4-bit float, power of two as the scale per 32.
    MXFP4 = Spec::quant(&quant::mxfp4::QUANT),
}

impl DType {
    /// Every format, in table order.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|(dtype, ..)| *dtype)
    }

    /// The format with this id in GGUF (`enum ggml_type`), if supported.
    pub fn from_ggml(id: u32) -> Option<DType> {
        DType::all().find(|dtype| dtype.ggml_id() == id)
    }

    /// The format with this name, in any case (`q4_k`, `BF16`).
    pub fn from_name(name: &str) -> Option<DType> {
        DType::all().find(|dtype| dtype.name().eq_ignore_ascii_case(name))
    }

    /// Its id in GGUF.
    pub fn ggml_id(self) -> u32 {
        self.spec().ggml_id
    }

    /// Its name in GGUF, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Values per block: 1, 32 or 256. The columns of a matrix are a multiple of it.
    pub fn block_size(self) -> usize {
        self.spec().block_size
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.spec().block_bytes
    }

    /// Whether values share scales, so that matrix products use 8-bit activations.
    pub fn is_quantized(self) -> bool {
        self.spec().quant.is_some()
    }

    /// Bytes of `cols` values. Panics unless `cols` is a multiple of the block.
    pub fn row_bytes(self, cols: usize) -> usize {
        assert!(
            cols.is_multiple_of(self.block_size()),
            "{cols} values are not whole blocks of {}",
            self.name()
        );
        cols / self.block_size() * self.block_bytes()
    }

    /// Turns whole blocks into values, one by one as the format's source defines it; slow, exact.
    /// Panics unless `bytes` is what `values.len()` values take.
    pub fn dequantize(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(
            bytes.len(),
            self.row_bytes(values.len()),
            "bytes of {} {} values",
            values.len(),
            self.name()
        );
        let blocks = bytes.chunks_exact(self.block_bytes()).zip(values.chunks_exact_mut(self.block_size()));
        match (self, self.spec().quant) {
            (_, Some(quant)) => blocks.for_each(|(block, values)| (quant.dequantize)(block, values)),
            (DType::F16, None) => blocks.for_each(|(b, v)| v[0] = f16::from_le_bytes([b[0], b[1]]).to_f32()),
            (DType::BF16, None) => {
                blocks.for_each(|(b, v)| v[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32())
            }
            (_, None) => blocks.for_each(|(b, v)| v[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        }
    }

    pub(crate) fn quant(self) -> Option<&'static Quant> {
        self.spec().quant
    }

    fn spec(self) -> &'static Spec {
        &TABLE[self as usize].2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Codes, Offset};
    use crate::testing::random_blocks;

    #[test]
    fn the_table_is_in_order_and_names_are_found() {
        for (index, dtype) in DType::all().enumerate() {
            assert_eq!(dtype as usize, index);
            assert_eq!(DType::from_ggml(dtype.ggml_id()), Some(dtype));
            assert_eq!(DType::from_name(&dtype.name().to_lowercase()), Some(dtype));
        }
        assert_eq!(DType::from_ggml(4), None);
    }

    /// The bytes of a text in hex.
    fn bytes(hex: &str) -> Vec<u8> {
        let (pairs, _) = hex.as_bytes().as_chunks::<2>();
        pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// testdata/formats/record.py says what is in the file.
    #[test]
    fn every_quantized_format_gives_the_values_of_llama_cpp() {
        let records = include_str!("../../../testdata/formats/blocks.txt");
        let mut seen = Vec::new();
        for line in records.lines() {
            let [name, block, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let dtype = DType::from_name(name).unwrap();
            let mut values = vec![0.0; dtype.block_size()];
            dtype.dequantize(&bytes(block), &mut values);
            let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(values, bytes(expected), "{name} {block}");
            seen.push(dtype);
        }
        assert!(DType::all().all(|dtype| !dtype.is_quantized() || seen.contains(&dtype)), "only {seen:?}");
    }

    #[test]
    fn codes_say_the_same_as_the_definition() {
        for dtype in DType::all() {
            let Some(quant) = dtype.quant() else { continue };
            for block in random_blocks(dtype, 40, 7).chunks(dtype.block_bytes()) {
                let mut values = vec![0.0; dtype.block_size()];
                (quant.dequantize)(block, &mut values);
                let mut codes = Codes::new();
                (quant.unpack)(block, &mut codes);
                for (i, value) in values.iter().enumerate() {
                    let (code, scale) = (f32::from(codes.codes[i]), codes.scales[i / quant.group]);
                    assert!(u32::from(codes.codes[i]) < 1 << quant.bits);
                    let seen = match quant.offset {
                        Offset::Zero(shift) => scale * (code - (1 << shift) as f32),
                        Offset::Min => scale * code + codes.mins[i / quant.group],
                    };
                    assert!(
                        (seen - value).abs() <= 1e-6 * value.abs() + 1e-6,
                        "{dtype:?} {i}: {seen} {value}"
                    );
                }
            }
        }
    }
}
