//! The part of the vector kernels that differs in its width only, written once.

/// Defines `load_f16` and `unpack` for one instruction set, from its intrinsics.
macro_rules! define_unpack {
    (
        features: $features:literal,
        vector: $vector:ty,
        load: $load:ident, and: $and:ident, or: $or:ident, splat: $splat:ident,
        shift_left: $shift_left:ident, shift_right: $shift_right:ident,
        floats: $floats:ty, load_half: $load_half:ident, convert: $convert:ident,
    ) => {
        /// A vector of f16 as f32.
        ///
        /// # Safety
        /// As many f16 can be read at `from`.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn load_f16(from: *const half::f16) -> $floats {
            // SAFETY: the caller's promise; no alignment is needed.
            $convert(unsafe { $load_half(from.cast()) })
        }

        /// The codes of block `index`, a vector per group of four inputs, one byte each; see `matrix.rs` for
        /// the layout.
        ///
        /// # Safety
        /// The tile has more than `index` blocks.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn unpack<const BITS: usize>(weights: Weights<'_>, index: usize) -> [$vector; 8] {
            let vector = |v: usize| {
                // SAFETY: a block has `BITS` vectors, and no `v` below reaches that.
                unsafe { $load(weights.codes.as_ptr().add((index * BITS + v) * 4 * TILE_ROWS).cast()) }
            };
            if BITS == 8 {
                let v = vector;
                return [v(0), v(1), v(2), v(3), v(4), v(5), v(6), v(7)];
            }
            let nibbles = $splat(15);
            let low = |v| $and(vector(v), nibbles);
            let high = |v| $and($shift_right::<4>(vector(v)), nibbles);
            let codes = [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)];
            // Each shift moves the high bits of a group to bit 4 and up; what crosses bytes is masked away.
            let with = |mask: i8, bits: [$vector; 8]| {
                let or = |i: usize| $or(codes[i], $and(bits[i], $splat(mask)));
                [or(0), or(1), or(2), or(3), or(4), or(5), or(6), or(7)]
            };
            match BITS {
                5 => {
                    let v = vector(4);
                    let left =
                        [$shift_left::<4>(v), $shift_left::<3>(v), $shift_left::<2>(v), $shift_left::<1>(v)];
                    let right = [$shift_right::<1>(v), $shift_right::<2>(v), $shift_right::<3>(v)];
                    with(16, [left[0], left[1], left[2], left[3], v, right[0], right[1], right[2]])
                }
                6 => {
                    let spread = |v| [$shift_left::<4>(v), $shift_left::<2>(v), v, $shift_right::<2>(v)];
                    let ([a, b, c, d], [e, f, g, h]) = (spread(vector(4)), spread(vector(5)));
                    with(48, [a, b, c, d, e, f, g, h])
                }
                _ => codes,
            }
        }
    };
}

pub(super) use define_unpack;
