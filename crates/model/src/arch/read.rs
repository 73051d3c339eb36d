//! The numbers of a file by their keys, whichever kind of file it is.

use serde_json::Value;

use crate::gguf::Gguf;
use crate::hyper::HyperError;

/// Where hyper-parameters come from.
pub(crate) enum Reader<'a> {
    /// Metadata; keys begin with the name of the architecture.
    Gguf { gguf: &'a Gguf, prefix: &'static str },
    /// The content of config.json, or an object in it.
    Config(&'a Value),
}

impl<'a> Reader<'a> {
    /// An integer, under its key in GGUF and in config.json; `""` is no key.
    pub(crate) fn count(&self, gguf: &str, config: &str) -> Result<Option<u64>, HyperError> {
        match self {
            Self::Gguf { .. } if gguf.is_empty() => Ok(None),
            Self::Gguf { gguf: file, prefix } => Ok(file.get_u64(&format!("{prefix}.{gguf}"))?),
            Self::Config(value) => read(value, config, "an integer that is not negative", Value::as_u64),
        }
    }

    /// An integer whose key in GGUF has no architecture in front.
    pub(crate) fn common_count(&self, gguf: &str, config: &str) -> Result<Option<u64>, HyperError> {
        match self {
            Self::Gguf { gguf: file, .. } => Ok(file.get_u64(gguf)?),
            Self::Config(_) => self.count("", config),
        }
    }

    /// A number.
    pub(crate) fn float(&self, gguf: &str, config: &str) -> Result<Option<f32>, HyperError> {
        match self {
            Self::Gguf { .. } if gguf.is_empty() => Ok(None),
            Self::Gguf { gguf: file, prefix } => Ok(file.get_f32(&format!("{prefix}.{gguf}"))?),
            Self::Config(value) => {
                read(value, config, "a number", |value| value.as_f64().map(|value| value as f32))
            }
        }
    }

    /// A text.
    pub(crate) fn text(&self, gguf: &str, config: &str) -> Result<Option<&'a str>, HyperError> {
        match self {
            Self::Gguf { gguf: file, prefix } => Ok(file.get_str(&format!("{prefix}.{gguf}"))?),
            Self::Config(value) => read(value, config, "a string", Value::as_str),
        }
    }

    /// A text that only config.json has.
    pub(crate) fn config_text(&self, config: &str) -> Result<Option<&'a str>, HyperError> {
        match self {
            Self::Gguf { .. } => Ok(None),
            Self::Config(_) => self.text("", config),
        }
    }

    /// A switch that only config.json has.
    pub(crate) fn config_flag(&self, config: &str) -> Result<Option<bool>, HyperError> {
        match self {
            Self::Gguf { .. } => Ok(None),
            Self::Config(value) => read(value, config, "true or false", Value::as_bool),
        }
    }

    /// A list that only config.json has.
    pub(crate) fn config_list(&self, config: &str) -> Result<Option<&'a [Value]>, HyperError> {
        match self {
            Self::Gguf { .. } => Ok(None),
            Self::Config(value) => read(value, config, "a list", |value| value.as_array().map(Vec::as_slice)),
        }
    }

    /// The object `key` of config.json, if this is one and has it.
    pub(crate) fn config_object(&self, key: &str) -> Option<Reader<'a>> {
        match self {
            Self::Gguf { .. } => None,
            Self::Config(value) => value.get(key).filter(|value| value.is_object()).map(Reader::Config),
        }
    }

    /// Whether the file is GGUF.
    pub(crate) fn is_gguf(&self) -> bool {
        matches!(self, Self::Gguf { .. })
    }

    /// The error for a number that must be there.
    pub(crate) fn missing(&self, gguf: &str, config: &str) -> HyperError {
        match self {
            Self::Gguf { prefix, .. } => {
                HyperError::Missing { place: "metadata", key: format!("{prefix}.{gguf}") }
            }
            Self::Config(_) => HyperError::Missing { place: "config.json", key: config.to_owned() },
        }
    }

    /// An integer that must be there.
    pub(crate) fn required(&self, gguf: &str, config: &str) -> Result<u64, HyperError> {
        self.count(gguf, config)?.ok_or_else(|| self.missing(gguf, config))
    }
}

fn read<'a, T>(
    object: &'a Value,
    key: &str,
    expected: &'static str,
    convert: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, HyperError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => convert(value).map(Some).ok_or_else(|| HyperError::ConfigType {
            key: key.to_owned(),
            found: value.to_string().chars().take(100).collect(),
            expected,
        }),
    }
}
