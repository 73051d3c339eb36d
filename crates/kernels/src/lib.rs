//! Numeric loops of pie: quantized block formats, packed matrices, matrix products, attention over pages,
//! elementwise operations. All compute `unsafe` of the workspace is here, behind safe functions over slices.
//!
//! Reading order: [`Isa`] (what the CPU can do) · [`DType`] (how weights are stored in a file) · [`Matrix`]
//! (how they are stored in memory) · [`Arena`] (where) · [`quantize`] (from floats to Q8_0) · [`Activations`] (their 8-bit
//! counterpart) · [`matmul()`] · [`attention`] · [`ops`].
//!
//! Two promises hold everywhere. *Batch invariance*: every output element is summed in one order that depends
//! on nothing but its own inputs, so neither the number of rows, nor the tile, nor the thread changes a bit.
//! *A scalar twin*: each SIMD function has a portable one that gives the same bits and serves as its
//! specification.

#![allow(
    unsafe_code,
    reason = "SIMD loads and stores, memory of weights, and the cells that several threads write at once"
)]

#[cfg(target_endian = "big")]
compile_error!("the codes of a word, and the numbers of model files, lie lowest first");

#[cfg(test)]
mod testing;

pub mod isa;

pub mod dtype;
mod quant;

pub mod activations;
pub mod arena;
pub mod matmul;
pub mod matrix;
pub mod quantize;
pub mod shared;

mod lanes;
mod memory;

pub mod attention;
pub mod ops;

pub mod measure;

pub use activations::Activations;
pub use arena::Arena;
pub use attention::Attention;
pub use dtype::DType;
pub use half::{bf16, f16};
pub use isa::Isa;
pub use matmul::{Input, matmul};
pub use matrix::{Matrix, PackError};
pub use quantize::quantize_q8_0;
pub use shared::{Shared, Tile, TileMut};
