//! A small GGUF writer: test models, and files for tests of the reader.
//!
//! It keeps everything in memory and writes what it is given; checking is the reader's work.

use std::io::Write;
use std::path::Path;

use kernels::DType;

use super::{ALIGNMENT_DEFAULT, Array, Value};

/// A GGUF file being put together.
///
/// ```
/// use model::gguf::{Gguf, Value, writer::GgufWriter};
/// let mut writer = GgufWriter::new();
/// writer.metadata("general.architecture", Value::String("llama".to_owned()));
/// writer.tensor_f32("output_norm.weight", &[4], &[1.0; 4]);
/// let gguf = Gguf::parse(writer.to_bytes()).unwrap();
/// assert_eq!(gguf.get_str("general.architecture").unwrap(), Some("llama"));
/// assert_eq!(gguf.tensors()[0].shape, [4]);
/// ```
#[derive(Debug, Default, Clone)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl GgufWriter {
    /// A file without metadata and tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata pair.
    pub fn metadata(&mut self, key: &str, value: Value) -> &mut Self {
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// Adds an integer, as most of llama.cpp's counts are written.
    pub fn metadata_u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.metadata(key, Value::U32(value))
    }

    /// Adds a string.
    pub fn metadata_str(&mut self, key: &str, value: &str) -> &mut Self {
        self.metadata(key, Value::String(value.to_owned()))
    }

    /// Adds a tensor as raw bytes; `shape` has the slowest dimension first.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: Vec<u8>) -> &mut Self {
        self.tensors.push(Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes });
        self
    }

    /// Adds a tensor of 32-bit floats.
    pub fn tensor_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) -> &mut Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, DType::F32, shape, bytes)
    }

    /// Adds a tensor of 16-bit floats, rounded to nearest.
    pub fn tensor_f16(&mut self, name: &str, shape: &[usize], values: &[f32]) -> &mut Self {
        let bytes = values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
        self.tensor(name, DType::F16, shape, bytes)
    }

    /// Changes the values of a tensor of 32-bit floats.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn change_f32(&mut self, name: &str, change: impl FnOnce(&mut [f32])) -> &mut Self {
        let tensor = self.tensors.iter_mut().find(|t| t.name == name && t.dtype == DType::F32);
        let tensor = tensor.unwrap_or_else(|| panic!("no F32 tensor `{name}`"));
        let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let mut values: Vec<f32> = tensor.bytes.chunks_exact(4).map(value).collect();
        change(&mut values);
        tensor.bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self
    }

    /// The bytes of the file, version 3 with the default alignment.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for &n in tensor.shape.iter().rev() {
                out.extend((n as u64).to_le_bytes());
            }
            out.extend(tensor.dtype.ggml_id().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + tensor.bytes.len() as u64).next_multiple_of(ALIGNMENT_DEFAULT);
        }
        for tensor in &self.tensors {
            pad(&mut out);
            out.extend(&tensor.bytes);
        }
        out
    }

    /// Writes the file to `path`, replacing what is there.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(&self.to_bytes())?;
        file.sync_all()
    }
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT_DEFAULT as usize), 0);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(value) => put(0, &value.to_le_bytes()),
        Value::I8(value) => put(1, &value.to_le_bytes()),
        Value::U16(value) => put(2, &value.to_le_bytes()),
        Value::I16(value) => put(3, &value.to_le_bytes()),
        Value::U32(value) => put(4, &value.to_le_bytes()),
        Value::I32(value) => put(5, &value.to_le_bytes()),
        Value::F32(value) => put(6, &value.to_le_bytes()),
        Value::Bool(value) => put(7, &[u8::from(*value)]),
        Value::String(value) => {
            put(8, &[]);
            put_string(out, value);
        }
        Value::Array(array) => {
            put(9, &[]);
            put_array(out, array);
        }
        Value::U64(value) => put(10, &value.to_le_bytes()),
        Value::I64(value) => put(11, &value.to_le_bytes()),
        Value::F64(value) => put(12, &value.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn put<T: Copy, const N: usize>(
        out: &mut Vec<u8>,
        kind: u32,
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) {
        out.extend(kind.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        out.extend(values.iter().flat_map(|&value| bytes(value)));
    }
    match array {
        Array::U8(values) => put(out, 0, values, u8::to_le_bytes),
        Array::I8(values) => put(out, 1, values, i8::to_le_bytes),
        Array::U16(values) => put(out, 2, values, u16::to_le_bytes),
        Array::I16(values) => put(out, 3, values, i16::to_le_bytes),
        Array::U32(values) => put(out, 4, values, u32::to_le_bytes),
        Array::I32(values) => put(out, 5, values, i32::to_le_bytes),
        Array::F32(values) => put(out, 6, values, f32::to_le_bytes),
        Array::Bool(values) => put(out, 7, values, |value| [u8::from(value)]),
        Array::String(values) => {
            out.extend(8_u32.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            for value in values {
                put_string(out, value);
            }
        }
        Array::U64(values) => put(out, 10, values, u64::to_le_bytes),
        Array::I64(values) => put(out, 11, values, i64::to_le_bytes),
        Array::F64(values) => put(out, 12, values, f64::to_le_bytes),
    }
}
