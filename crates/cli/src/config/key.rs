//! A key of the config file: a row of data, and the macro that makes a table of rows into a struct.
//!
//! ```text
//! section! {
//!     /// What one inferlet may use.
//!     LimitSettings {
//!         /// Processor time of the program itself; the model's is not counted.
//!         cpu_ms: u64 = none .unit("ms").range(1, 86_400_000);
//!     }
//! }
//! ```
//!
//! declares the field `LimitSettings::cpu_ms: Option<u64>` and the [`Key`] `limits.cpu_ms`. A default is
//! `(EXPR)`, `none` (the field is an `Option`) or `required`. The checks of the parser, the flags with their
//! helps, the example file and the tables of docs/config.md walk the keys; nothing else lists them. A field
//! that is never read is a warning of the compiler.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use toml::Value;

/// One key of a section.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// A sentence or two: help of the flag, comment of the example, cell of the table.
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
    allowed: Allowed,
    /// What holds without the key, where no value of the key says so.
    pub(crate) absent: &'static str,
    /// The key of the same section that must not be given together with this one.
    pub(crate) excludes: Option<&'static str>,
    pub(crate) flag: Option<Flag>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the documents, which a test writes"))]
    pub(crate) unit: &'static str,
    /// A value to show where there is no default, in TOML.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the documents, which a test writes"))]
    pub(crate) example: &'static str,
}

/// What a value is in TOML.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Path,
    Integer,
    Boolean,
    Texts,
}

/// Which values of the kind are allowed.
enum Allowed {
    Any,
    Integers { low: i64, high: i64, step: i64 },
    OneOf(fn() -> Vec<Choice>),
    Checked { expected: &'static str, check: fn(&Value) -> Result<()> },
}

/// A value of a key that has few, and what it means.
pub(crate) struct Choice {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

/// The flag that sets a key, for every model where the key is one of a model.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    /// Name of its value in the help.
    pub(crate) value: &'static str,
    pub(crate) commands: Commands,
    /// The flag without which this one has no meaning.
    pub(crate) requires: Option<&'static str>,
    /// The value of the key, where the flag itself has none.
    pub(crate) sets: Option<&'static str>,
}

/// Which subcommands have a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commands {
    RunAndStart,
    Start,
}

impl Flag {
    pub(crate) const fn new(name: &'static str, value: &'static str, commands: Commands) -> Flag {
        Flag { name, short: None, value, commands, requires: None, sets: None }
    }

    /// A flag without a value, which sets the key to this one.
    pub(crate) const fn switch(name: &'static str, sets: &'static str, commands: Commands) -> Flag {
        Flag { sets: Some(sets), ..Flag::new(name, "", commands) }
    }

    pub(crate) const fn short(self, short: char) -> Flag {
        Flag { short: Some(short), ..self }
    }

    pub(crate) const fn requires(self, flag: &'static str) -> Flag {
        Flag { requires: Some(flag), ..self }
    }
}

/// What a row of a table may say of its key, in any order.
impl Key {
    pub(super) const fn new(name: &'static str, about: &'static str, kind: Kind, is_required: bool) -> Key {
        Key {
            name,
            about: about.trim_ascii(),
            kind,
            is_required,
            allowed: Allowed::Any,
            absent: "",
            excludes: None,
            flag: None,
            unit: "",
            example: "",
        }
    }

    pub(super) const fn range(self, low: i64, high: i64) -> Key {
        self.multiples(1, low, high)
    }

    pub(super) const fn at_least(self, low: i64) -> Key {
        self.multiples(1, low, i64::MAX)
    }

    pub(super) const fn multiples(self, step: i64, low: i64, high: i64) -> Key {
        Key { allowed: Allowed::Integers { low, high, step }, ..self }
    }

    pub(super) const fn one_of(self, choices: fn() -> Vec<Choice>) -> Key {
        Key { allowed: Allowed::OneOf(choices), ..self }
    }

    pub(super) const fn checked(self, expected: &'static str, check: fn(&Value) -> Result<()>) -> Key {
        Key { allowed: Allowed::Checked { expected, check }, ..self }
    }

    pub(super) const fn absent(self, absent: &'static str) -> Key {
        Key { absent, ..self }
    }

    pub(super) const fn excludes(self, other: &'static str) -> Key {
        Key { excludes: Some(other), ..self }
    }

    pub(super) const fn flag(self, flag: Flag) -> Key {
        Key { flag: Some(flag), ..self }
    }

    pub(super) const fn unit(self, unit: &'static str) -> Key {
        Key { unit, ..self }
    }

    pub(super) const fn example(self, example: &'static str) -> Key {
        Key { example, ..self }
    }
}

impl Key {
    /// Whether a value is allowed. One of another kind passes: serde names it with its line.
    pub(super) fn check(&self, value: &Value) -> Result<()> {
        let Key { name, allowed, .. } = self;
        match (allowed, value) {
            (Allowed::Integers { low, high, step }, Value::Integer(found)) => {
                let fits = (low..=high).contains(&found) && found % step == 0;
                ensure!(fits, "`{name}` is {found}: expected {allowed}");
            }
            (Allowed::OneOf(choices), Value::String(found)) => {
                let fits = choices().iter().any(|choice| choice.name == found);
                ensure!(fits, "`{name}` is `{found}`: expected {allowed}");
            }
            (Allowed::Checked { check, .. }, value) => check(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The value of a flag.
    pub(super) fn read(&self, text: &str) -> Result<Value> {
        let value = match self.kind {
            Kind::Text | Kind::Path => Value::String(text.to_string()),
            Kind::Texts => Value::Array(vec![Value::String(text.to_string())]),
            Kind::Integer => match text.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => bail!("expected an integer"),
            },
            Kind::Boolean => match text.parse() {
                Ok(boolean) => Value::Boolean(boolean),
                Err(_) => bail!("expected `true` or `false`"),
            },
        };
        self.check(&value)?;
        Ok(value)
    }

    /// The values a key can have where they are few.
    pub(crate) fn choices(&self) -> Option<Vec<Choice>> {
        match self.allowed {
            Allowed::OneOf(choices) => Some(choices()),
            _ => None,
        }
    }

    /// Which values are allowed, in words; empty for all.
    pub(crate) fn expected(&self) -> String {
        self.allowed.to_string()
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Any => Ok(()),
            Allowed::Integers { low, high: i64::MAX, .. } => write!(f, "at least {low}"),
            Allowed::Integers { low, high, step: 1 } => write!(f, "{low} to {high}"),
            Allowed::Integers { low, high, step } => write!(f, "a multiple of {step} from {low} to {high}"),
            Allowed::OneOf(choices) => {
                let names: Vec<&str> = choices().iter().map(|choice| choice.name).collect();
                write!(f, "one of {}", names.join(", "))
            }
            Allowed::Checked { expected, .. } => f.write_str(expected),
        }
    }
}

/// The types that keys have.
pub(super) trait KeyType {
    const KIND: Kind;
}

macro_rules! key_types {
    ($($type:ty = $kind:ident),*) => { $(impl KeyType for $type { const KIND: Kind = Kind::$kind; })* };
}

key_types!(String = Text, PathBuf = Path, u16 = Integer, u32 = Integer, u64 = Integer, usize = Integer);
key_types!(bool = Boolean, Vec<String> = Texts);

/// A struct with a field for each key.
pub(super) trait Section: Sized {
    const KEYS: &'static [Key];
    #[cfg(test)]
    const ABOUT: &'static str;

    /// The default of each key that has one.
    #[cfg(test)]
    fn defaults() -> Vec<(&'static str, Value)>;
}

/// See the head of this file.
macro_rules! section {
    ($(#[doc = $about:literal])+ $Section:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:tt $(. $said:ident ($($value:tt)*))*;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $Section {
            $($(#[doc = $doc])+ pub(crate) $key: field_type!($default, $type),)*
        }

        impl Default for $Section {
            fn default() -> $Section {
                $Section { $($key: field_default!($default, $type),)* }
            }
        }

        impl<'de> serde::Deserialize<'de> for $Section {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<$Section, D::Error> {
                #[derive(serde::Deserialize)]
                struct Written {
                    $($key: Option<$type>,)*
                }
                let written = Written::deserialize(from)?;
                Ok($Section {
                    $($key: match written.$key {
                        Some(value) => value.into(),
                        None => field_default!($default, $type),
                    },)*
                })
            }
        }

        impl Section for $Section {
            const KEYS: &'static [Key] = &[$(
                Key::new(
                    stringify!($key),
                    concat!($($doc),+),
                    <$type as KeyType>::KIND,
                    is_required!($default),
                )$(.$said($($value)*))*,
            )*];
            #[cfg(test)]
            const ABOUT: &'static str = concat!($($about),+).trim_ascii();

            #[cfg(test)]
            fn defaults() -> Vec<(&'static str, toml::Value)> {
                let section = $Section::default();
                let all = [$((stringify!($key), is_required!($default), serde_json::json!(section.$key)),)*];
                all.into_iter()
                    .filter(|(_, is_required, value)| !is_required && !value.is_null())
                    .map(|(key, _, value)| (key, toml::Value::try_from(value).expect("a default is a value")))
                    .collect()
            }
        }
    };
}

macro_rules! field_type {
    (none, $type:ty) => { Option<$type> };
    ($default:tt, $type:ty) => { $type };
}

macro_rules! field_default {
    (none, $type:ty) => {
        None
    };
    (required, $type:ty) => {
        <$type>::default()
    };
    (($default:expr), $type:ty) => {
        $default
    };
    ($default:literal, $type:ty) => {
        $default
    };
}

macro_rules! is_required {
    (required) => {
        true
    };
    ($default:tt) => {
        false
    };
}

pub(super) use {field_default, field_type, is_required, section};
