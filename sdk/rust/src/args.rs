//! Command-line arguments of a program: what stands after `--` at launch.

use std::fmt::{Display, Write};
use std::str::FromStr;

use anyhow::{anyhow, bail};

use crate::Result;

/// The arguments not yet taken. Each `option` and `flag` call takes its own; [`Args::finish`] refuses the rest and
/// answers `--help` with everything that was asked for.
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
        match self.take(name, short)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|e| anyhow!("`--{name} {text}`: {e}")),
        }
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
    /// When an argument is left over, or `--help` was given: the error is the list of options.
    pub fn finish(self) -> Result<()> {
        if self.left.iter().any(|a| a == "--help" || a == "-h") {
            bail!("options of this program:\n{}", self.help);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(text.split_whitespace().map(str::to_string).collect())
    }

    #[test]
    fn options_and_flags_are_taken_in_any_order() {
        let mut args = args("-n 3 file --check --name=x=y");
        assert!(args.flag("check", 'c', ""));
        assert_eq!(args.option("name", 'm', "", String::new()).unwrap(), "x=y");
        assert_eq!(args.option("number", 'n', "", 1).unwrap(), 3);
        assert_eq!(args.option("other", 'o', "", 1.5).unwrap(), 1.5);
        assert_eq!(args.positional("file", "").as_deref(), Some("file"));
        args.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(args("--n").option("n", 'n', "", 1).is_err());
        assert!(args("--n x").option("n", 'n', "", 1).unwrap_err().to_string().contains("--n x"));
        assert!(args("--what").finish().unwrap_err().to_string().contains("--what"));
    }
}
