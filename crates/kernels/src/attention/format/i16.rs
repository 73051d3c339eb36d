//! 16 bits and a scale for each 128 numbers, about as exact as half precision, whose products of floats take twice as long.
//!
//! A sum of products must fit into 32 bits, which leaves 12 bits to a number of a key and of a query, with its sign 13:
//! `128 * 4095 * 4095 < 2^31`; and 11 to one of a value, as a weight has 14: `64 * 2047 * 16383 < 2^31`.

use super::Format;
use crate::lanes::Lanes;

pub(in super::super) struct I16;

impl Format for I16 {
    const NAME: &'static str = "i16";

    type Code = i16;

    const BLOCK: usize = 128;

    const LARGEST_KEY: f32 = 4095.0;
    const LARGEST_QUERY: f32 = 4095.0;
    const LARGEST_VALUE: f32 = 2047.0;
    const LARGEST_WEIGHT: f32 = 16383.0;

    const ZERO_KEYS: u32 = 0;

    type Keys<L: Lanes> = L::Pairs;

    #[inline(always)]
    fn load_keys<L: Lanes>(from: &[i16]) -> L::Pairs {
        L::load_pairs(from)
    }

    #[inline(always)]
    fn add_keys<L: Lanes>(sums: L::Ints, keys: L::Pairs, query: i32) -> L::Ints {
        L::add_pairs(sums, keys, query)
    }

    #[inline(always)]
    fn load_values<L: Lanes>(from: &[i16]) -> L::Pairs {
        L::load_pairs(from)
    }

    #[inline(always)]
    fn word(codes: &[i16]) -> i32 {
        i32::from(codes[0].cast_unsigned()) | i32::from(codes[1]) << 16
    }

    #[inline(always)]
    fn narrow(code: i16) -> i16 {
        code
    }
}
