//! GGUF, the single-file model format of llama.cpp: metadata pairs, a table of tensors, then their bytes.
//!
//! ```text
//! "GGUF" version:u32 tensors:u64 pairs:u64 | pairs… | tensor table… | padding to `alignment` | tensor bytes…
//! ```
//!
//! A file comes from anywhere, so nothing it says is believed: the header must end within
//! [`HEADER_BYTES_MAX`], each count and length is checked against the bytes of it that are left, memory is
//! taken as values are read and not as they are promised, and each tensor must lie inside of the file,
//! aligned, overlapping no other. Reading never panics and allocates at most a small multiple of the header.
//! Versions 2 and 3, little endian.

mod cursor;
mod error;
mod header;
mod value;
pub mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

pub use error::GgufError;
pub use header::TensorInfo;
pub use value::{Array, Value};

use crate::data::Data;

/// Most dimensions of a tensor, the limit of ggml.
pub const DIMENSIONS_MAX: usize = 4;

/// Alignment of tensor bytes when `general.alignment` is absent.
pub const ALIGNMENT_DEFAULT: u64 = 32;

/// Most bytes before the tensor bytes. The longest known header, of a vocabulary of 262 thousand tokens with
/// its merges, has 16 MB. Without a limit a file could pass its weights off as a list of billions of strings.
pub const HEADER_BYTES_MAX: usize = 128 << 20;

/// A checked GGUF file: its metadata, and where its tensors are.
#[derive(Debug)]
pub struct Gguf {
    data: Arc<Data>,
    version: u32,
    metadata: Vec<(String, Value)>,
    keys: HashMap<String, usize>,
    tensors: Vec<TensorInfo>,
}

impl Gguf {
    /// Maps and checks the file at `path`.
    ///
    /// # Errors
    /// [`GgufError::Io`] when it cannot be opened, else the first thing found wrong in it.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let data = Data::map(path).map_err(|source| GgufError::Io { path: path.to_owned(), source })?;
        Self::parse(data)
    }

    /// Checks bytes that are already in memory.
    ///
    /// # Errors
    /// The first thing found wrong in them.
    pub fn parse(data: impl Into<Data>) -> Result<Self, GgufError> {
        let data = data.into();
        let header::Header { version, metadata, keys, tensors } = header::read(&data)?;
        Ok(Self { data: Arc::new(data), version, metadata, keys, tensors })
    }

    /// Format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata pairs in file order; keys are unique.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }

    /// All tensors in file order; names are unique.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The bytes of a tensor of this file.
    ///
    /// # Panics
    /// When `tensor` belongs to another, larger file.
    pub fn tensor_bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.data[tensor.range.clone()]
    }

    /// The file's bytes, shared with the [`crate::Weights`] read from it.
    pub fn data(&self) -> &Arc<Data> {
        &self.data
    }

    /// The value of `key`, if the file has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|&index| &self.metadata[index].1)
    }

    /// The value of `key` as an integer that is not negative.
    ///
    /// # Errors
    /// [`GgufError::ValueType`] when the value is of another type or negative.
    pub fn get_u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an integer that is not negative", Value::as_u64)
    }

    /// The value of `key` as a token id.
    ///
    /// # Errors
    /// [`GgufError::ValueType`] when the value is no integer of 32 bits.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, "an integer of 32 bits", |value| value.as_u64()?.try_into().ok())
    }

    /// The value of `key` as a float.
    ///
    /// # Errors
    /// [`GgufError::ValueType`] when the value is of another type.
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, "a float", Value::as_f32)
    }

    /// The value of `key` as a bool.
    ///
    /// # Errors
    /// [`GgufError::ValueType`] when the value is of another type.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a bool", Value::as_bool)
    }

    /// The value of `key` as a string.
    ///
    /// # Errors
    /// [`GgufError::ValueType`] when the value is of another type.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// The value of `key` as an array.
    ///
    /// # Errors
    /// [`GgufError::ValueType`] when the value is of another type.
    pub fn get_array(&self, key: &str) -> Result<Option<&Array>, GgufError> {
        self.typed(key, "an array", Value::as_array)
    }

    /// The value of `key` as an array of strings.
    ///
    /// # Errors
    /// [`GgufError::ValueType`] when the value is of another type.
    pub fn get_strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.typed(key, "an array of strings", |value| value.as_array()?.as_strings())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| GgufError::ValueType {
                key: key.to_owned(),
                expected,
                found: value.type_name(),
            }),
        }
    }
}
