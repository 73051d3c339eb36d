//! What can be wrong with a GGUF file.

use std::io;
use std::path::PathBuf;

use kernels::DType;

/// Why a GGUF file was refused. Each message names the thing, what was found, what was expected, and the way
/// out where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be opened or mapped.
    #[error("cannot read `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it starts with {found:02x?}, expected 47 47 55 46 (`GGUF`){}", hint(.found))]
    Magic {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// A version this reader does not know.
    #[error(
        "GGUF version {found} is not supported, expected 2 or 3; convert the model again with a current llama.cpp"
    )]
    Version {
        /// The version as read in little endian.
        found: u32,
    },
    /// The file was written in big endian.
    #[error("this GGUF file is big endian, expected little endian; convert it with `gguf-convert-endian`")]
    BigEndian,
    /// The file ends inside of something.
    #[error(
        "the GGUF file ends inside of {what}: it needs {needed} bytes at offset {offset}, {left} are left; is the download complete?"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts in the file, in bytes.
        offset: usize,
        /// Bytes it needs.
        needed: u64,
        /// Bytes between `offset` and the end.
        left: usize,
    },
    /// A count that the rest of the file cannot hold.
    #[error(
        "the GGUF file claims {found} {what}, but the {left} bytes left hold at most {most}; the file is damaged"
    )]
    Count {
        /// What is counted.
        what: &'static str,
        /// The claimed count.
        found: u64,
        /// Bytes left in the file.
        left: usize,
        /// Most that fit into them.
        most: u64,
    },
    /// The header does not end where it must.
    #[error(
        "the header of the GGUF file claims more than {limit} bytes for {what}; the longest known has 16 MB, so the file is damaged"
    )]
    HeaderLength {
        /// What was being read.
        what: &'static str,
        /// Most bytes of a header, [`super::HEADER_BYTES_MAX`].
        limit: usize,
    },
    /// A string is not UTF-8.
    #[error(
        "the {what} at offset {offset} is not valid UTF-8; the file is damaged or was written by a broken tool"
    )]
    Utf8 {
        /// Which string.
        what: &'static str,
        /// Where its bytes start in the file.
        offset: usize,
    },
    /// A metadata value of a type that does not exist.
    #[error("metadata `{key}` has value type {found}, expected 0 to 12")]
    UnknownValueType {
        /// The key.
        key: String,
        /// The type number.
        found: u32,
    },
    /// A bool that is neither 0 nor 1.
    #[error("metadata `{key}` is a bool with value {found}, expected 0 or 1")]
    Bool {
        /// The key.
        key: String,
        /// The byte found.
        found: u8,
    },
    /// An array of arrays; no known model has one.
    #[error(
        "metadata `{key}` is an array of arrays, which is not supported; expected numbers, bools or strings"
    )]
    NestedArray {
        /// The key.
        key: String,
    },
    /// Two metadata pairs with one key.
    #[error("metadata key `{key}` occurs twice, expected unique keys")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A metadata value has another type than the model needs.
    #[error("metadata `{key}` is {found}, expected {expected}")]
    ValueType {
        /// The key.
        key: String,
        /// The expected type in words.
        expected: &'static str,
        /// The found type in words.
        found: &'static str,
    },
    /// `general.alignment` is unusable.
    #[error("`general.alignment` is {found}, expected a power of two from 8 to 65536")]
    Alignment {
        /// The value.
        found: u64,
    },
    /// Two tensors with one name.
    #[error("tensor `{name}` occurs twice, expected unique names")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// Too many dimensions, or none.
    #[error("tensor `{name}` has {found} dimensions, expected 1 to 4")]
    Dimensions {
        /// The name.
        name: String,
        /// The count.
        found: u32,
    },
    /// A dimension is zero or the product overflows.
    #[error(
        "tensor `{name}` has the impossible shape {shape:?}: each dimension must be at least 1 and all together below 2^63"
    )]
    Shape {
        /// The name.
        name: String,
        /// The dimensions, fastest first, as in the file.
        shape: Vec<u64>,
    },
    /// A tensor type that pie cannot read.
    #[error(
        "tensor `{name}` has ggml type {found}, which is not supported; use a file in a common quantization such as Q8_0, Q4_0, Q4_K_M or F16"
    )]
    UnknownTensorType {
        /// The name.
        name: String,
        /// The type number of ggml.
        found: u32,
    },
    /// A row does not consist of whole blocks.
    #[error("tensor `{name}` in {dtype:?} has rows of {found} values, expected a multiple of {block}")]
    RowLength {
        /// The name.
        name: String,
        /// Its type.
        dtype: DType,
        /// Values per row.
        found: u64,
        /// Values per block.
        block: usize,
    },
    /// A tensor does not start at a multiple of the alignment.
    #[error("tensor `{name}` starts at offset {offset} of the data, expected a multiple of {alignment}")]
    Misaligned {
        /// The name.
        name: String,
        /// Its offset in the data section, in bytes.
        offset: u64,
        /// The file's alignment, in bytes.
        alignment: u64,
    },
    /// A tensor reaches past the end of the file.
    #[error(
        "tensor `{name}` needs {needed} bytes at offset {offset} of the data, which has {found} bytes; is the download complete?"
    )]
    OutOfFile {
        /// The name.
        name: String,
        /// Its offset in the data section, in bytes.
        offset: u64,
        /// Bytes its shape and type need.
        needed: u64,
        /// Bytes of the data section.
        found: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors `{first}` and `{second}` overlap in the file; the file is damaged")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The one that starts inside of it.
        second: String,
    },
}

/// What a file with another signature probably is.
fn hint(found: &[u8]) -> &'static str {
    match found {
        b"ggml" | b"lmgg" | b"ggjt" | b"tjgg" | b"fmgg" => {
            "; this is a GGML file of before 2023-08, get the model as GGUF"
        }
        [b'P', b'K', ..] => "; this is a zip or PyTorch file, get the model as GGUF or safetensors",
        b"vers" => "; this is a Git LFS pointer, fetch the real file with `git lfs pull`",
        [b'<', ..] => "; this is an HTML page, the download was answered by a web site",
        _ => "; is the download complete?",
    }
}
