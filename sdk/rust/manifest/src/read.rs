//! Reading arguments by what is declared: which value each parameter has.
//!
//! `--name VALUE`, `--name=VALUE` and `-s VALUE`; of a boolean the name alone. What follows a name is its value, whatever
//! it looks like. Other arguments are the positional parameters, in their order, and so is everything behind `--`.

use std::borrow::Cow;
use std::fmt;

use crate::{Kind, Parameter};

/// Characters of an argument that an error quotes.
const QUOTED: usize = 80;

/// What arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// `--help` or `-h` is among them.
    Help,
    /// Values for the parameters.
    Values(Values<'a>),
}

/// The value of each parameter, in the order in which they are declared; none where none is given and none is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values<'a> {
    /// Those that are given.
    pub given: Vec<Option<&'a str>>,
    parameters: &'a [Parameter],
}

impl<'a> Values<'a> {
    /// The value of a parameter: that which is given, or the default.
    pub fn get(&self, index: usize) -> Option<&'a str> {
        self.given[index].or(self.parameters[index].default.as_deref())
    }

    /// Arguments that say the same, with each value as a function gives it: `pie run` puts the text of a file in the place
    /// of its path.
    ///
    /// # Errors
    /// That of the function.
    pub fn arguments<E>(
        &self,
        value: impl Fn(&Parameter, &'a str) -> Result<Cow<'a, str>, E>,
    ) -> Result<Vec<String>, E> {
        let (mut named, mut placed) = (Vec::new(), Vec::new());
        for (parameter, given) in self.parameters.iter().zip(&self.given) {
            let Some(given) = given else { continue };
            let value = value(parameter, given)?;
            match parameter.positional {
                true => placed.push(value.into_owned()),
                false => named.push(format!("--{}={value}", parameter.name)),
            }
        }
        if !placed.is_empty() {
            named.push("--".to_string());
        }
        Ok(named.into_iter().chain(placed).collect())
    }
}

/// Why a program does not take its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// No parameter is called so.
    Unknown {
        /// The argument.
        found: String,
        /// The parameters there are.
        known: String,
    },
    /// An argument too many.
    Extra(String),
    /// A name without a value.
    NoValue(String),
    /// A parameter that is given twice.
    Twice(String),
    /// A parameter that must be given and is not.
    Missing {
        /// How it is given.
        usage: String,
        /// What it is.
        about: String,
    },
    /// A value of another kind.
    Value {
        /// The name of the parameter.
        name: String,
        /// The value.
        found: String,
        /// What it can be.
        expected: String,
    },
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgumentError::Unknown { found, known } if known.is_empty() => {
                write!(f, "unknown argument `{found}`: the program takes none")
            }
            ArgumentError::Unknown { found, known } => {
                write!(f, "unknown argument `{found}`; the program takes {known}")
            }
            ArgumentError::Extra(found) => {
                write!(f, "`{found}` is one argument too many; `--help` shows what the program takes")
            }
            ArgumentError::NoValue(name) => write!(f, "`--{name}` needs a value"),
            ArgumentError::Twice(name) => write!(f, "`{name}` is given twice, expected once"),
            ArgumentError::Missing { usage, about } => write!(f, "`{usage}` must be given: {about}"),
            ArgumentError::Value { name, found, expected } => {
                write!(f, "`{name}` is `{found}`, expected {expected}")
            }
        }
    }
}

impl std::error::Error for ArgumentError {}

/// The values of a list.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// Which value each parameter has; all that are given are of their kind, and all that must be are given.
///
/// # Errors
/// When the arguments are not what is declared.
pub fn read<'a>(parameters: &'a [Parameter], arguments: &'a [String]) -> Result<Given<'a>, ArgumentError> {
    let mut given: Vec<Option<&str>> = vec![None; parameters.len()];
    let mut left = arguments.iter().map(String::as_str);
    let (mut is_named, mut help) = (true, false);
    while let Some(argument) = left.next() {
        if is_named && argument == "--" {
            is_named = false;
            continue;
        }
        if is_named && matches!(argument, "--help" | "-h") {
            help = true;
            continue;
        }
        if !is_named || !looks_named(argument) {
            let place =
                |(index, parameter): &(usize, &Parameter)| parameter.positional && given[*index].is_none();
            let place = parameters.iter().enumerate().find(place);
            let (index, _) = place.ok_or_else(|| ArgumentError::Extra(quoted(argument)))?;
            given[index] = Some(argument);
            continue;
        }
        let (index, joined) = find(parameters, argument)?;
        let parameter = &parameters[index];
        let value = match joined {
            Some(value) => value,
            None if parameter.kind == Kind::Boolean => "true",
            None => left.next().ok_or_else(|| ArgumentError::NoValue(parameter.name.to_string()))?,
        };
        if given[index].replace(value).is_some() {
            return Err(ArgumentError::Twice(format!("--{}", parameter.name)));
        }
    }
    if help {
        return Ok(Given::Help);
    }
    for (parameter, given) in parameters.iter().zip(&given) {
        match given {
            Some(value) => parameter.check(value)?,
            None if parameter.required => {
                return Err(ArgumentError::Missing {
                    usage: parameter.usage(),
                    about: parameter.about.to_string(),
                });
            }
            None => {}
        }
    }
    Ok(Given::Values(Values { given, parameters }))
}

/// Whether an argument is a name; a negative number is a value.
fn looks_named(argument: &str) -> bool {
    match argument.strip_prefix('-') {
        Some(rest) => !rest.is_empty() && rest.parse::<f64>().is_err(),
        None => false,
    }
}

/// The parameter that an argument names, and the value behind `=`.
fn find<'a>(parameters: &[Parameter], argument: &'a str) -> Result<(usize, Option<&'a str>), ArgumentError> {
    let named = parameters.iter().enumerate().filter(|(_, parameter)| !parameter.positional);
    let found = match argument.strip_prefix("--") {
        Some(long) => {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let mut named = named.clone();
            named.find(|(_, parameter)| parameter.name == name).map(|(index, _)| (index, value))
        }
        None => {
            let mut letters = argument[1..].chars();
            let short = letters.next().filter(|_| letters.as_str().is_empty());
            let mut named = named.clone();
            named
                .find(|(_, parameter)| short.is_some() && parameter.short == short)
                .map(|(index, _)| (index, None))
        }
    };
    found.ok_or_else(|| {
        let known: Vec<String> = named.map(|(_, parameter)| format!("`--{}`", parameter.name)).collect();
        ArgumentError::Unknown { found: quoted(argument), known: known.join(", ") }
    })
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

impl Parameter {
    /// Whether a value is of this kind.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, value: &str) -> Result<(), ArgumentError> {
        let wrong = match self.list {
            true => pieces(value).find(|piece| !self.kind.takes(piece)),
            false => Some(value).filter(|value| !self.kind.takes(value)),
        };
        let Some(wrong) = wrong else { return Ok(()) };
        let name = if self.positional { self.name.to_string() } else { format!("--{}", self.name) };
        Err(ArgumentError::Value { name, found: quoted(wrong), expected: self.kind.expected() })
    }
}

impl Kind {
    fn takes(&self, value: &str) -> bool {
        match self {
            Kind::String | Kind::File => true,
            Kind::Integer { min, max } => value
                .parse::<i128>()
                .is_ok_and(|number| (i128::from(*min)..=i128::from(*max)).contains(&number)),
            Kind::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            Kind::Boolean => matches!(value, "true" | "false"),
            Kind::Choice { of } => of.iter().any(|known| known == value),
        }
    }

    fn expected(&self) -> String {
        match self {
            Kind::String | Kind::File => "a text".to_string(),
            Kind::Integer { min, max: u64::MAX } => format!("a whole number from {min} on"),
            Kind::Integer { min: i64::MIN, max } if *max == i64::MAX as u64 => "a whole number".to_string(),
            Kind::Integer { min, max } => format!("a whole number of {min} to {max}"),
            Kind::Number => "a number".to_string(),
            Kind::Boolean => "`true` or `false`".to_string(),
            Kind::Choice { of } => {
                let of: Vec<String> = of.iter().map(|one| format!("`{one}`")).collect();
                format!("one of {}", of.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &'static str, kind: Kind) -> Parameter {
        Parameter {
            name: name.into(),
            short: name.chars().next(),
            about: "of a test".into(),
            kind,
            default: None,
            required: false,
            positional: false,
            list: false,
        }
    }

    fn declared() -> Vec<Parameter> {
        let choices = Kind::Choice { of: vec!["red".into(), "blue".into()].into() };
        vec![
            parameter("name", Kind::String),
            Parameter { default: Some("3".into()), ..parameter("count", Kind::Integer { min: 0, max: 255 }) },
            parameter("temperature", Kind::Number),
            parameter("verbose", Kind::Boolean),
            parameter("o", choices),
            Parameter { list: true, ..parameter("lengths", Kind::Integer { min: i64::MIN, max: u64::MAX }) },
            Parameter { positional: true, ..parameter("place", Kind::String) },
        ]
    }

    fn values(text: &str) -> Result<Vec<Option<String>>, String> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_string).collect();
        let declared = declared();
        match read(&declared, &arguments).map_err(|error| error.to_string())? {
            Given::Help => Err("help".to_string()),
            Given::Values(values) => {
                Ok((0..declared.len()).map(|i| values.get(i).map(str::to_string)).collect())
            }
        }
    }

    #[test]
    fn values_are_given_in_any_order_and_in_each_form() {
        let read = values("-n --x here --count=7 --verbose -t -1.5 --o blue -l 1,-2").unwrap();
        let expected = ["--x", "7", "-1.5", "true", "blue", "1,-2", "here"];
        assert_eq!(read, expected.map(|value| Some(value.to_string())));
        assert_eq!(values("").unwrap()[1].as_deref(), Some("3"), "the default");
        assert_eq!(values("--name=a=b --verbose=false").unwrap()[3].as_deref(), Some("false"));
        assert_eq!(values("-- --name").unwrap()[6].as_deref(), Some("--name"));
        assert_eq!(values("-5").unwrap()[6].as_deref(), Some("-5"), "a number is no name");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_expected() {
        for (given, said) in [
            ("--nmae x", "unknown argument `--nmae`; the program takes `--name`, `--count`,"),
            ("-x 3", "unknown argument `-x`"),
            ("-né", "unknown argument `-né`"),
            ("--name", "`--name` needs a value"),
            ("--count 256", "`--count` is `256`, expected a whole number of 0 to 255"),
            ("--count three", "`--count` is `three`, expected a whole number of 0 to 255"),
            ("--temperature NaN", "`--temperature` is `NaN`, expected a number"),
            ("--verbose=maybe", "`--verbose` is `maybe`, expected `true` or `false`"),
            ("--o green", "`--o` is `green`, expected one of `red`, `blue`"),
            ("--lengths 1,,2", "`--lengths` is ``, expected a whole number"),
            ("--count 1 -c 2", "`--count` is given twice, expected once"),
            ("one two", "`two` is one argument too many"),
            ("--help --count 256", "help"),
        ] {
            let error = values(given).unwrap_err();
            assert!(error.contains(said), "{given}: {error}");
        }
        let needed = [Parameter { required: true, ..parameter("name", Kind::String) }];
        let error = read(&needed, &[]).unwrap_err().to_string();
        assert_eq!(error, "`--name <TEXT>` must be given: of a test");
        let long = ["-".to_string() + &"é".repeat(1000)];
        assert!(read(&needed, &long).unwrap_err().to_string().len() < 300);
        assert!(read(&[], &["-a".to_string()]).unwrap_err().to_string().ends_with("the program takes none"));
    }

    #[test]
    fn arguments_written_anew_say_the_same() {
        let declared = declared();
        let arguments = ["--name", "a.txt", "-c", "1", "--verbose", "--", "-place"].map(str::to_string);
        let Ok(Given::Values(read_once)) = read(&declared, &arguments) else { panic!("they are right") };
        let again = read_once.arguments(|parameter, value| match &*parameter.name {
            "name" => Ok(Cow::Owned("its\ntext".to_string())),
            _ => Ok::<_, String>(Cow::Borrowed(value)),
        });
        let again = again.unwrap();
        assert_eq!(again, ["--name=its\ntext", "--count=1", "--verbose=true", "--", "-place"]);
        let Ok(Given::Values(read_again)) = read(&declared, &again) else { panic!("they are right") };
        assert_eq!(read_again.given[1..], read_once.given[1..]);
    }
}
