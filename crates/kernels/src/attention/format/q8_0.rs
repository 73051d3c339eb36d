//! 8 bits and a scale for each 32 numbers, as the blocks of [`crate::DType::Q8_0`] are.

use super::Format;
use crate::lanes::Lanes;

pub(in super::super) struct Q8_0;

impl Format for Q8_0 {
    const NAME: &'static str = "q8_0";

    type Code = i8;

    const BLOCK: usize = 32;

    const LARGEST_KEY: f32 = 127.0;
    const LARGEST_QUERY: f32 = 127.0;
    const LARGEST_VALUE: f32 = 127.0;
    const LARGEST_WEIGHT: f32 = 32767.0;

    /// Codes of keys are unsigned for `vpdpbusd`.
    const ZERO_KEYS: u32 = 0x8080_8080;

    type Keys<L: Lanes> = L::Codes;

    #[inline(always)]
    fn load_keys<L: Lanes>(from: &[i8]) -> L::Codes {
        L::load_codes(from)
    }

    #[inline(always)]
    fn add_keys<L: Lanes>(sums: L::Ints, keys: L::Codes, query: i32) -> L::Ints {
        L::add_products(sums, keys, query)
    }

    #[inline(always)]
    fn load_values<L: Lanes>(from: &[i8]) -> L::Pairs {
        L::load_pairs_i8(from)
    }

    #[inline(always)]
    fn word(codes: &[i16]) -> i32 {
        i32::from_le_bytes([0, 1, 2, 3].map(|i| codes[i].to_le_bytes()[0]))
    }

    #[inline(always)]
    fn narrow(code: i16) -> i8 {
        code as i8
    }
}
