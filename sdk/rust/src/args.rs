//! Command-line arguments of a program, given after `--` at launch.

use std::fmt::{Display, Write};
use std::str::FromStr;

use anyhow::{anyhow, bail};

use crate::Result;
use crate::sampling::random_seed;

/// The arguments not yet taken. Each `option` and `flag` call takes its own; [`Args::finish`] refuses the
/// rest and answers `--help` with the list of all options.
pub struct Args {
    left: Vec<String>,
    help: String,
}

impl Args {
    /// The arguments this inferlet was launched with.
    pub fn from_launch() -> Args {
        Args::new(crate::runtime::arguments())
    }

    /// Arguments of one's own, for tests.
    pub fn new(arguments: Vec<String>) -> Args {
        Args { left: arguments, help: String::new() }
    }

    /// `--name VALUE`, `--name=VALUE` or `-s VALUE`; the default when absent.
    ///
    /// # Errors
    /// When the value is missing or does not parse.
    pub fn option<T>(&mut self, name: &str, short: char, about: &str, default: T) -> Result<T>
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        let _ = writeln!(self.help, "  -{short}, --{name} <VALUE>  {about} [default: {default}]");
        self.take(name, short)?.map_or(Ok(default), |text| parse(name, &text))
    }

    /// `--seed NUMBER` or `-r NUMBER`; a random seed when absent. A program that draws reports it, so that a
    /// run can be repeated.
    ///
    /// # Errors
    /// When the value is missing or does not parse.
    pub fn seed(&mut self) -> Result<u64> {
        self.help.push_str("  -r, --seed <VALUE>  of the random draws [default: a random one]\n");
        self.take("seed", 'r')?.map_or_else(|| Ok(random_seed()), |text| parse("seed", &text))
    }

    /// `--name VALUE,VALUE`: like [`Args::option`], for several values; `default` is written in the same way.
    ///
    /// # Errors
    /// When the list is missing or a value of it, from the user or `default`, does not parse.
    pub fn list<T>(&mut self, name: &str, short: char, about: &str, default: &str) -> Result<Vec<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let _ = writeln!(self.help, "  -{short}, --{name} <VALUE,...>  {about} [default: {default}]");
        let text = self.take(name, short)?.unwrap_or_else(|| default.to_string());
        text.split(',').map(|value| parse(name, value.trim())).collect()
    }

    /// `--name` or `-s`: whether it is there.
    pub fn flag(&mut self, name: &str, short: char, about: &str) -> bool {
        let _ = writeln!(self.help, "  -{short}, --{name}  {about}");
        let before = self.left.len();
        self.left.retain(|a| *a != format!("--{name}") && *a != format!("-{short}"));
        self.left.len() < before
    }

    /// The next argument that is not an option; call it after all options.
    pub fn positional(&mut self, name: &str, about: &str) -> Option<String> {
        let _ = writeln!(self.help, "  <{name}>  {about}");
        let index = self.left.iter().position(|a| !a.starts_with('-'))?;
        Some(self.left.remove(index))
    }

    /// Ends the reading of arguments.
    ///
    /// # Errors
    /// When an argument is left over. `--help` is an error too: a program that passes it on ends well, with
    /// the list of options as its result.
    pub fn finish(self) -> Result<()> {
        if self.left.iter().any(|a| a == "--help" || a == "-h") {
            bail!(Help(self.help));
        }
        match self.left.first() {
            Some(unknown) => bail!("unknown argument `{unknown}`; options of this program:\n{}", self.help),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str, short: char) -> Result<Option<String>> {
        let (long, short) = (format!("--{name}"), format!("-{short}"));
        let joined = format!("{long}=");
        if let Some(index) = self.left.iter().position(|a| a.starts_with(&joined)) {
            return Ok(Some(self.left.remove(index)[joined.len()..].to_string()));
        }
        let Some(index) = self.left.iter().position(|a| *a == long || *a == short) else { return Ok(None) };
        self.left.remove(index);
        if index == self.left.len() {
            bail!("`{long}` needs a value");
        }
        Ok(Some(self.left.remove(index)))
    }
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T>
where
    T::Err: Display,
{
    text.parse().map_err(|error| {
        let expected = match std::any::type_name::<T>() {
            "u8" | "u16" | "u32" | "u64" | "usize" => "; expected a whole number, not negative",
            "i8" | "i16" | "i32" | "i64" | "isize" => "; expected a whole number",
            "f32" | "f64" => "; expected a number",
            _ => "",
        };
        anyhow!("`--{name} {text}`: {error}{expected}")
    })
}

/// The list of options: the program's result when `--help` is given.
#[derive(Debug)]
pub(crate) struct Help(String);

impl Display for Help {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "options of this program:\n{}", self.0)
    }
}

impl std::error::Error for Help {}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(text.split_whitespace().map(str::to_string).collect())
    }

    #[test]
    fn options_and_flags_are_taken_in_any_order() {
        let mut args = args("-n 3 file --check --name=x=y --seed 7");
        assert_eq!(args.seed().unwrap(), 7);
        assert_ne!(args.seed().unwrap(), args.seed().unwrap(), "random");
        assert!(args.flag("check", 'c', ""));
        assert_eq!(args.option("name", 'm', "", String::new()).unwrap(), "x=y");
        assert_eq!(args.option("number", 'n', "", 1).unwrap(), 3);
        assert_eq!(args.option("other", 'o', "", 1.5).unwrap(), 1.5);
        assert_eq!(args.positional("file", "").as_deref(), Some("file"));
        args.finish().unwrap();
    }

    #[test]
    fn lists_have_commas() {
        let mut args = args("--n 3,4 -m 5");
        assert_eq!(args.list::<u8>("n", 'n', "", "1").unwrap(), [3, 4]);
        assert_eq!(args.list::<u8>("m", 'm', "", "1,2").unwrap(), [5]);
        assert_eq!(args.list::<f32>("o", 'o', "", "1, 2").unwrap(), [1.0, 2.0]);
        args.finish().unwrap();
    }

    #[test]
    fn help_is_a_result() {
        let mut asked = args("--help");
        asked.option("number", 'n', "how many", 1).unwrap();
        let said = crate::finish(asked.finish().map(|()| "it ran".to_string())).unwrap();
        assert!(said.contains("-n, --number <VALUE>  how many [default: 1]"), "{said}");
        assert!(crate::finish(args("--helm").finish().map(|()| String::new())).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(args("--n").option("n", 'n', "", 1).is_err());
        let said = |error: crate::Result<i32>| error.unwrap_err().to_string();
        let wrong = said(args("--n x").option("n", 'n', "", 1));
        assert!(wrong.contains("--n x") && wrong.ends_with("expected a whole number"), "{wrong}");
        let wrong = args("--n 1,,3").list::<usize>("n", 'n', "", "1").unwrap_err().to_string();
        assert!(
            wrong.contains("`--n `") && wrong.ends_with("expected a whole number, not negative"),
            "{wrong}"
        );
        assert!(args("--what").finish().unwrap_err().to_string().contains("--what"));
    }
}
