//! What a program says of itself, declared once in its source and carried by its WebAssembly.
//!
//! ```text
//! #[derive(Parameters)] ──> MANIFEST, a constant ──> the custom section `pie:program`, as JSON
//!                                │                       │
//!                   the program reads its arguments      the server checks them before a launch; `pie run --help`
//!                                                        and the form of the dashboard are made of it
//! ```
//! So all of them read arguments by the one function [`read`]. Nothing here knows the server or the SDK.

mod help;
mod json;
mod read;
mod sound;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use read::{ArgumentError, Given, Values, pieces, read};

/// Name of the custom section with a program's [`Manifest`], as JSON.
pub const SECTION: &str = "pie:program";

/// A text of a constant, or one that was read.
pub type Text = Cow<'static, str>;

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of its package.
    pub name: Text,
    /// Version of its package.
    pub version: Text,
    /// What it does, in a line; empty where the package does not say.
    #[serde(default)]
    pub description: Text,
    /// What it can be given. None: it declares nothing, and takes any arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Cow<'static, [Parameter]>>,
}

/// Something that a program can be given at its launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name: `--NAME VALUE`, or that of the place where it stands alone.
    pub name: Text,
    /// One letter or digit in place of the name: `-s VALUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<char>,
    /// What it is, for people.
    pub about: Text,
    /// What its value is.
    pub kind: Kind,
    /// The value where none is given, as a user writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Text>,
    /// Whether it has to be given.
    #[serde(default)]
    pub required: bool,
    /// Whether it is given by its place, without its name.
    #[serde(default)]
    pub positional: bool,
    /// Whether it is several values, with commas between.
    #[serde(default)]
    pub list: bool,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// Any text.
    String,
    /// The text of a file: `pie run` takes the file's path, the server and the program the text.
    File,
    /// A whole number, `min ..= max`.
    Integer {
        /// The least.
        min: i64,
        /// The largest.
        max: u64,
    },
    /// A finite number.
    Number,
    /// True where it is given, false where not; `--NAME=false` is false too.
    Boolean,
    /// One of these texts.
    Choice {
        /// The texts.
        of: Cow<'static, [Text]>,
    },
}

impl Manifest {
    /// Reads arguments, if the program declares what it takes.
    ///
    /// # Errors
    /// When the program does not take them.
    pub fn check(&self, arguments: &[String]) -> Result<(), ArgumentError> {
        match &self.parameters {
            Some(parameters) => read(parameters, arguments).map(|_| ()),
            None => Ok(()),
        }
    }
}
