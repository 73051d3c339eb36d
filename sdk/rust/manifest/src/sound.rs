//! Whether a manifest that somebody wrote can be relied on: it comes with a program, from a stranger.

use crate::{Kind, Manifest, Parameter};

/// Parameters of a program at most.
const PARAMETERS: usize = 128;
/// Bytes of a name at most.
const NAME_BYTES: usize = 64;
/// Bytes of a text at most.
const TEXT_BYTES: usize = 16 << 10;

impl Manifest {
    /// Whether names are names, texts have their length, no two parameters are given in the same way, and the defaults are
    /// of their kinds.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check_itself(&self) -> Result<(), String> {
        is_name("the name of the program", &self.name)?;
        is_text("the version", &self.version, NAME_BYTES)?;
        is_text("the description", &self.description, TEXT_BYTES)?;
        let Some(parameters) = &self.parameters else { return Ok(()) };
        if parameters.len() > PARAMETERS {
            return Err(format!("{} parameters are declared, the limit is {PARAMETERS}", parameters.len()));
        }
        for (index, parameter) in parameters.iter().enumerate() {
            parameter.check_itself()?;
            let is_same = |other: &Parameter| {
                other.name == parameter.name || other.short.is_some() && other.short == parameter.short
            };
            if parameters[..index].iter().any(is_same) {
                return Err(format!("the parameter `{}` is given as another one is", parameter.name));
            }
        }
        Ok(())
    }
}

impl Parameter {
    fn check_itself(&self) -> Result<(), String> {
        is_name("the name of a parameter", &self.name)?;
        is_text("what a parameter is", &self.about, TEXT_BYTES)?;
        let name = &self.name;
        if name == "help" || self.short == Some('h') {
            return Err(format!("the parameter `{name}` takes the place of `--help`"));
        }
        if self.short.is_some_and(|short| !short.is_ascii_alphabetic()) {
            return Err(format!("the short name of `{name}` is no letter"));
        }
        if let Kind::Choice { of } = &self.kind {
            if of.is_empty() || of.len() > PARAMETERS {
                return Err(format!("`{name}` has {} choices, expected 1 to {PARAMETERS}", of.len()));
            }
            of.iter().try_for_each(|one| is_text("a choice", one, NAME_BYTES))?;
        }
        if self.kind == Kind::Boolean && (self.list || self.positional || self.default.is_some()) {
            return Err(format!("`{name}` is a boolean: it is false where it is not given, and has a name"));
        }
        if self.required && self.default.is_some() {
            return Err(format!("`{name}` must be given and has a default"));
        }
        let Some(default) = &self.default else { return Ok(()) };
        is_text("a default", default, TEXT_BYTES)?;
        self.check(default).map_err(|error| format!("the default of {error}"))
    }
}

fn is_name(what: &str, name: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    match begins && name.len() <= NAME_BYTES && name.bytes().all(is_word) {
        true => Ok(()),
        false => {
            let shown: String = name.chars().take(NAME_BYTES).collect();
            Err(format!("{what} is `{shown}`, expected 1 to {NAME_BYTES} letters, digits, `-` and `_`"))
        }
    }
}

fn is_text(what: &str, text: &str, limit: usize) -> Result<(), String> {
    match text.len() <= limit {
        true => Ok(()),
        false => Err(format!("{what} has {} bytes, the limit is {limit}", text.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an error says, and what was changed.
    type Change = (&'static str, fn(&mut Parameter));

    fn with(change: impl FnOnce(&mut Parameter)) -> Result<(), String> {
        let mut parameter = Parameter {
            name: "count".into(),
            short: Some('c'),
            about: "how many".into(),
            kind: Kind::Integer { min: 0, max: 9 },
            default: Some("3".into()),
            required: false,
            positional: false,
            list: false,
        };
        let other = Parameter { name: "other".into(), short: Some('o'), ..parameter.clone() };
        change(&mut parameter);
        let (name, version) = ("drafts".into(), "0.1.0".into());
        let parameters = Some(vec![other, parameter].into());
        Manifest { name, version, description: "".into(), parameters }.check_itself()
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        with(|_| {}).unwrap();
        with(|parameter| {
            parameter.default = None;
            parameter.required = true;
            parameter.positional = true;
        })
        .unwrap();
        let changes: [Change; 11] = [
            ("the default of `--count` is `12`", |one| one.default = Some("12".into())),
            ("given as another one", |one| one.name = "other".into()),
            ("given as another one", |one| one.short = Some('o')),
            ("place of `--help`", |one| one.name = "help".into()),
            ("place of `--help`", |one| one.short = Some('h')),
            ("no letter", |one| one.short = Some('é')),
            ("expected 1 to 64 letters", |one| one.name = "a=b".into()),
            ("0 choices", |one| one.kind = Kind::Choice { of: Vec::new().into() }),
            ("is a boolean", |one| one.kind = Kind::Boolean),
            ("must be given and has a default", |one| one.required = true),
            ("the limit is", |one| one.about = "x".repeat(TEXT_BYTES + 1).into()),
        ];
        for (said, change) in changes {
            let error = with(change).unwrap_err();
            assert!(error.contains(said), "{error}, expected {said}");
        }
    }
}
