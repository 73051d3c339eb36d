//! Metadata values.

use super::GgufError;
use super::cursor::Cursor;

/// Strings that an array gets memory for before the first is read: a `String` takes three times the least
/// that it takes in the file.
const STRINGS_AT_FIRST: usize = 1 << 16;

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the Rust type it holds")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of metadata values of one type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the Rust type it holds")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Value {
    /// The value as an integer; `None` for other types and negative numbers.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a float of 32 bits; integers are not converted.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(value) => Some(value),
            Self::F64(value) => Some(value as f32),
            _ => None,
        }
    }

    /// The value as a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// The value as an array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(value) => Some(value),
            _ => None,
        }
    }

    /// The type in words, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "a u8",
            Self::I8(_) => "an i8",
            Self::U16(_) => "a u16",
            Self::I16(_) => "an i16",
            Self::U32(_) => "a u32",
            Self::I32(_) => "an i32",
            Self::F32(_) => "an f32",
            Self::Bool(_) => "a bool",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::U64(_) => "a u64",
            Self::I64(_) => "an i64",
            Self::F64(_) => "an f64",
        }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let what = "a metadata value";
        Ok(match cursor.u32(what)? {
            0 => Self::U8(cursor.u8(what)?),
            1 => Self::I8(cursor.u8(what)? as i8),
            2 => Self::U16(cursor.u16(what)?),
            3 => Self::I16(cursor.u16(what)? as i16),
            4 => Self::U32(cursor.u32(what)?),
            5 => Self::I32(cursor.u32(what)? as i32),
            6 => Self::F32(f32::from_bits(cursor.u32(what)?)),
            7 => Self::Bool(bool_of(cursor.u8(what)?, key)?),
            8 => Self::String(cursor.string(what)?.to_owned()),
            9 => Self::Array(Array::read(cursor, key)?),
            10 => Self::U64(cursor.u64(what)?),
            11 => Self::I64(cursor.u64(what)? as i64),
            12 => Self::F64(f64::from_bits(cursor.u64(what)?)),
            found => return Err(GgufError::UnknownValueType { key: key.to_owned(), found }),
        })
    }
}

impl Array {
    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, when they are strings.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Self::String(values) => Some(values),
            _ => None,
        }
    }

    /// The values, when they are floats of 32 bits.
    pub fn as_f32s(&self) -> Option<&[f32]> {
        match self {
            Self::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The values, when they are integers that fit into an `i64`.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        match self {
            Self::U8(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::I8(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::U16(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::I16(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::U32(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::I32(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::U64(values) => values.iter().map(|&value| value.try_into().ok()).collect(),
            Self::I64(values) => Some(values.clone()),
            _ => None,
        }
    }

    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let what = "a metadata array";
        let kind = cursor.u32(what)?;
        let count = cursor.u64(what)?;
        Ok(match kind {
            0 => Self::U8(fixed(cursor, count, |[byte]| byte)?),
            1 => Self::I8(fixed(cursor, count, |[byte]| byte as i8)?),
            2 => Self::U16(fixed(cursor, count, u16::from_le_bytes)?),
            3 => Self::I16(fixed(cursor, count, i16::from_le_bytes)?),
            4 => Self::U32(fixed(cursor, count, u32::from_le_bytes)?),
            5 => Self::I32(fixed(cursor, count, i32::from_le_bytes)?),
            6 => Self::F32(fixed(cursor, count, f32::from_le_bytes)?),
            7 => {
                let bytes: Vec<u8> = fixed(cursor, count, |[byte]| byte)?;
                Self::Bool(bytes.into_iter().map(|byte| bool_of(byte, key)).collect::<Result<_, _>>()?)
            }
            8 => {
                let count = cursor.count(count, size_of::<u64>(), "strings in an array")?;
                let mut values = Vec::with_capacity(count.min(STRINGS_AT_FIRST));
                for _ in 0..count {
                    values.push(cursor.string("a string of an array")?.to_owned());
                }
                Self::String(values)
            }
            9 => return Err(GgufError::NestedArray { key: key.to_owned() }),
            10 => Self::U64(fixed(cursor, count, u64::from_le_bytes)?),
            11 => Self::I64(fixed(cursor, count, i64::from_le_bytes)?),
            12 => Self::F64(fixed(cursor, count, f64::from_le_bytes)?),
            found => return Err(GgufError::UnknownValueType { key: key.to_owned(), found }),
        })
    }
}

/// `count` values of `N` bytes each.
fn fixed<T, const N: usize>(
    cursor: &mut Cursor<'_>,
    count: u64,
    read: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, GgufError> {
    let count = cursor.count(count, N, "values in an array")?;
    let bytes = cursor.take((count * N) as u64, "a metadata array")?;
    let (values, _) = bytes.as_chunks::<N>();
    Ok(values.iter().map(|&value| read(value)).collect())
}

fn bool_of(found: u8, key: &str) -> Result<bool, GgufError> {
    match found {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(GgufError::Bool { key: key.to_owned(), found }),
    }
}
