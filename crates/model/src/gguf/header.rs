//! Everything before the tensor bytes, read and checked.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use kernels::DType;

use super::cursor::Cursor;
use super::{ALIGNMENT_DEFAULT, DIMENSIONS_MAX, GgufError, Value};

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Unique in the file.
    pub name: String,
    /// How its values are stored.
    pub dtype: DType,
    /// 1 to 4 dimensions, slowest first (the file has them fastest first), none zero.
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: Vec<(String, Value)>,
    pub(super) keys: HashMap<String, usize>,
    pub(super) tensors: Vec<TensorInfo>,
}

/// A tensor as the file describes it; `offset` counts from the start of the data section.
struct RawTensor {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    offset: u64,
    bytes: u64,
}

/// The least bytes of a metadata pair: length of the key, type, value.
const PAIR_BYTES_MIN: usize = 8 + 4 + 1;
/// The least bytes of a row of the tensor table: length of the name, dimension count, one dimension, type,
/// offset.
const TENSOR_BYTES_MIN: usize = 8 + 4 + 8 + 4 + 8;

pub(super) fn read(data: &[u8]) -> Result<Header, GgufError> {
    if !data.starts_with(b"GGUF") {
        return Err(GgufError::Magic { found: data[..data.len().min(4)].to_vec() });
    }
    let mut cursor = Cursor::new(data);
    cursor.take(4, "the signature")?;
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if version.swap_bytes() <= 3 && version != 0 && version > 3 => return Err(GgufError::BigEndian),
        found => return Err(GgufError::Version { found }),
    }
    let tensor_count = cursor.u64("the tensor count")?;
    let pair_count = cursor.u64("the metadata count")?;

    let pair_count = cursor.count(pair_count, PAIR_BYTES_MIN, "metadata pairs")?;
    let mut metadata = Vec::new();
    let mut keys = HashMap::new();
    for index in 0..pair_count {
        let key = cursor.string("a metadata key")?.to_owned();
        let value = Value::read(&mut cursor, &key)?;
        if keys.insert(key.clone(), index).is_some() {
            return Err(GgufError::DuplicateKey { key });
        }
        metadata.push((key, value));
    }

    let alignment = match keys.get("general.alignment").map(|&index| &metadata[index].1) {
        None => ALIGNMENT_DEFAULT,
        Some(value) => {
            let found = value.as_u64().ok_or(GgufError::ValueType {
                key: "general.alignment".to_owned(),
                expected: "an integer that is not negative",
                found: value.type_name(),
            })?;
            if !found.is_power_of_two() || !(8..=65536).contains(&found) {
                return Err(GgufError::Alignment { found });
            }
            found
        }
    };

    let tensor_count = cursor.count(tensor_count, TENSOR_BYTES_MIN, "tensors")?;
    let mut raw = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..tensor_count {
        let tensor = read_tensor(&mut cursor)?;
        if !names.insert(tensor.name.clone()) {
            return Err(GgufError::DuplicateTensor { name: tensor.name });
        }
        raw.push(tensor);
    }

    let data_start = (cursor.offset() as u64).next_multiple_of(alignment);
    let tensors = place(raw, data_start, data.len() as u64, alignment)?;
    Ok(Header { version, metadata, keys, tensors })
}

fn read_tensor(cursor: &mut Cursor<'_>) -> Result<RawTensor, GgufError> {
    let what = "the tensor table";
    let name = cursor.string("a tensor name")?.to_owned();
    let n_dimensions = cursor.u32(what)?;
    if n_dimensions == 0 || n_dimensions as usize > DIMENSIONS_MAX {
        return Err(GgufError::Dimensions { name, found: n_dimensions });
    }
    let mut fastest_first = Vec::new();
    for _ in 0..n_dimensions {
        fastest_first.push(cursor.u64(what)?);
    }
    let kind = cursor.u32(what)?;
    let offset = cursor.u64(what)?;

    let values = fastest_first.iter().try_fold(1_u64, |product, &n| product.checked_mul(n));
    let shape = fastest_first.iter().rev().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>();
    let (values, shape) = match (values, shape) {
        (Some(values), Some(shape)) if (1..1 << 63).contains(&values) => (values, shape),
        _ => return Err(GgufError::Shape { name, shape: fastest_first }),
    };
    let Some(dtype) = DType::from_ggml(kind) else {
        return Err(GgufError::UnknownTensorType { name, found: kind });
    };
    let columns = fastest_first[0];
    let block = dtype.block_size();
    if !columns.is_multiple_of(block as u64) {
        return Err(GgufError::RowLength { name, dtype, found: columns, block });
    }
    let Some(bytes) = (values / block as u64).checked_mul(dtype.block_bytes() as u64) else {
        return Err(GgufError::Shape { name, shape: fastest_first });
    };
    Ok(RawTensor { name, dtype, shape, offset, bytes })
}

/// Turns offsets into ranges of the file, `[data_start, file_bytes)` being the data section.
fn place(
    raw: Vec<RawTensor>,
    data_start: u64,
    file_bytes: u64,
    alignment: u64,
) -> Result<Vec<TensorInfo>, GgufError> {
    let data_bytes = file_bytes.saturating_sub(data_start);
    let mut tensors = Vec::with_capacity(raw.len());
    for tensor in raw {
        let RawTensor { name, dtype, shape, offset, bytes } = tensor;
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned { name, offset, alignment });
        }
        match offset.checked_add(bytes) {
            Some(end) if end <= data_bytes => {
                // Both ends are at most `file_bytes`, the length of a slice.
                let range = (data_start + offset) as usize..(data_start + end) as usize;
                tensors.push(TensorInfo { name, dtype, shape, range });
            }
            _ => return Err(GgufError::OutOfFile { name, offset, needed: bytes, found: data_bytes }),
        }
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.range.start);
    for pair in order.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            return Err(GgufError::Overlap { first: pair[0].name.clone(), second: pair[1].name.clone() });
        }
    }
    Ok(tensors)
}
