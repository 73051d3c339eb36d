//! What a program is given at its launch: the struct that it declares, read from the arguments after `--`.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::anyhow;
use inferlet_manifest::{Given, Manifest, Parameter, Values, pieces, read};

use crate::Result;

/// The parameters of a program: a struct with `#[derive(Parameters)]`, which says what it can be given.
///
/// The server reads the declaration too: it refuses arguments that the program would not take, before it launches it.
pub trait Parameters: Sized {
    /// What is declared, a field after the other.
    const DECLARED: &'static [Parameter];

    /// Makes one of the values that were read.
    ///
    /// # Errors
    /// When a value is not of its type.
    fn from_values(values: Values<'_>) -> Result<Self>;

    /// Those that this inferlet was launched with.
    ///
    /// # Errors
    /// When the arguments are not what is declared. `--help` is an error too: a program that passes it on ends well, with
    /// the list of parameters as its result.
    fn from_launch() -> Result<Self> {
        Self::from_arguments(&crate::runtime::arguments())
    }

    /// Those of arguments of one's own, for tests.
    ///
    /// # Errors
    /// As [`Parameters::from_launch`].
    fn from_arguments(arguments: &[impl AsRef<str>]) -> Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|one| one.as_ref().to_string()).collect();
        match read(Self::DECLARED, &arguments)? {
            Given::Values(values) => Self::from_values(values),
            Given::Help => Err(Help(Self::DECLARED).into()),
        }
    }
}

/// The list of parameters: the program's result when `--help` is given.
#[derive(Debug)]
pub(crate) struct Help(&'static [Parameter]);

impl Display for Help {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, version, description) = ("program".into(), "".into(), "".into());
        let manifest = Manifest { name, version, description, parameters: Some(self.0.into()) };
        let help = manifest.help("PROGRAM");
        // Of which program it is, it knows who launched it.
        f.write_str(help.split_once("\n\n").map_or(&*help, |(_, rest)| rest))
    }
}

impl std::error::Error for Help {}

/// A field's value. Called by the derive.
///
/// # Errors
/// When it is not of the field's type.
pub fn take<T: FromText>(values: &Values<'_>, index: usize) -> Result<T> {
    T::from_text(values.get(index)).map_err(|reason| anyhow!("argument {index}: {reason}"))
}

/// What a field can be.
pub trait FromText: Sized {
    /// Of its text, if there is one.
    fn from_text(text: Option<&str>) -> Result<Self, String>;
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("`{text}`: {error}"))
}

macro_rules! from_text {
    ($($ty:ty),*) => {$(
        impl FromText for $ty {
            fn from_text(text: Option<&str>) -> Result<$ty, String> {
                parse(text.ok_or("it is not given")?)
            }
        }
    )*};
}

from_text!(String, u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, f32, f64);

impl FromText for bool {
    fn from_text(text: Option<&str>) -> Result<bool, String> {
        text.map_or(Ok(false), parse)
    }
}

impl<T: FromStr<Err: Display>> FromText for Option<T> {
    fn from_text(text: Option<&str>) -> Result<Option<T>, String> {
        text.map(parse).transpose()
    }
}

impl<T: FromStr<Err: Display>> FromText for Vec<T> {
    fn from_text(text: Option<&str>) -> Result<Vec<T>, String> {
        pieces(text.ok_or("it is not given")?).map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "rivers";

    #[derive(Debug, PartialEq, crate::Parameters)]
    struct Options {
        /// What to write about.
        #[parameter(short = 't', default = TOPIC)]
        topic: String,
        /// How many drafts,
        /// all in all.
        #[parameter(short = 'c', default = 3, min = 1)]
        count: u8,
        /// Of the draws.
        #[parameter(default = -0.5)]
        temperature: f32,
        /// Tokens of each.
        #[parameter(default = "1,2")]
        lengths: Vec<usize>,
        /// A random one without it.
        seed: Option<u64>,
        /// How it is written.
        #[parameter(choices = ["plain", "verse"], default = "plain")]
        form: String,
        /// Whether to compare.
        check: bool,
        /// What is to be continued.
        #[parameter(positional)]
        begin: String,
    }

    #[test]
    fn a_struct_is_read_from_arguments() {
        let read = Options::from_arguments(&["--lengths", "3, 4", "Once", "--check", "-c", "2"]).unwrap();
        let expected = Options {
            topic: TOPIC.to_string(),
            count: 2,
            temperature: -0.5,
            lengths: vec![3, 4],
            seed: None,
            form: "plain".to_string(),
            check: true,
            begin: "Once".to_string(),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_declared_is_what_is_written() {
        let declared = Options::DECLARED;
        assert_eq!(declared[1].about, "How many drafts, all in all");
        assert_eq!(declared[1].kind, inferlet_manifest::Kind::Integer { min: 1, max: 255 });
        let required: Vec<&str> = declared.iter().filter(|one| one.required).map(|one| &*one.name).collect();
        assert_eq!(required, ["begin"]);
    }

    #[test]
    fn help_is_a_result_and_what_is_wrong_an_error() {
        let said =
            |arguments: &[&str]| crate::finish(Options::from_arguments(arguments).map(|_| String::new()));
        let help = said(&["--help"]).unwrap();
        assert!(help.starts_with("Usage: PROGRAM [OPTIONS] <BEGIN>\n"), "{help}");
        assert!(help.contains("-c, --count <NUMBER>"), "{help}");
        assert!(said(&["a", "--count", "0"]).unwrap_err().contains("expected a whole number of 1 to 255"));
        assert!(said(&[]).unwrap_err().contains("`<BEGIN>` must be given"));
    }
}
