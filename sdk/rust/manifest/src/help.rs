//! The parameters of a program as people read them.

use std::fmt::Write;

use crate::{Kind, Manifest, Parameter};

/// Between an option and what it is.
const GAP: usize = 2;
/// A column of options is no wider; what is wider has its text on the next line.
const COLUMN: usize = 34;

impl Manifest {
    /// What `--help` shows: what the program does, how it is run, its parameters with their defaults. `command` is what is
    /// written before the arguments.
    pub fn help(&self, command: &str) -> String {
        let mut text = format!("{} {}\n", self.name, self.version);
        if !self.description.is_empty() {
            let _ = writeln!(text, "{}", self.description);
        }
        let Some(parameters) = &self.parameters else {
            let _ =
                write!(text, "\nUsage: {command} [ARGUMENT]...\n\nThe program does not say what it takes.\n");
            return text;
        };
        let usage = usage(parameters);
        let _ = writeln!(text, "\nUsage: {}", format!("{command} {usage}").trim_end());
        list(&mut text, "Arguments", parameters.iter().filter(|parameter| parameter.positional));
        list(&mut text, "Options", parameters.iter().filter(|parameter| !parameter.positional));
        text
    }
}

fn usage(parameters: &[Parameter]) -> String {
    let mut words = Vec::new();
    let required = parameters.iter().filter(|parameter| parameter.required && !parameter.positional);
    words.extend(required.map(Parameter::usage));
    if parameters.iter().any(|parameter| !parameter.required && !parameter.positional) {
        words.push("[OPTIONS]".to_string());
    }
    for parameter in parameters.iter().filter(|parameter| parameter.positional) {
        let usage = parameter.usage();
        words.push(if parameter.required { usage } else { format!("[{usage}]") });
    }
    words.join(" ")
}

fn list<'a>(text: &mut String, title: &str, parameters: impl Iterator<Item = &'a Parameter>) {
    let rows: Vec<(String, String)> = parameters.map(|one| (one.left(), one.right())).collect();
    if rows.is_empty() {
        return;
    }
    let widths = rows.iter().map(|(left, _)| left.chars().count()).filter(|width| *width <= COLUMN);
    let width = widths.max().unwrap_or(COLUMN);
    let _ = writeln!(text, "\n{title}:");
    for (left, right) in rows {
        let used = left.chars().count();
        let between = match used <= width {
            true => " ".repeat(width - used + GAP),
            false => format!("\n{}", " ".repeat(width + GAP)),
        };
        let _ = writeln!(text, "{left}{between}{right}");
    }
}

impl Parameter {
    /// How it is given.
    pub fn usage(&self) -> String {
        match (self.positional, self.placeholder()) {
            (true, _) => format!("<{}>", self.name.to_uppercase()),
            (false, Some(value)) => format!("--{} <{value}>", self.name),
            (false, None) => format!("--{}", self.name),
        }
    }

    fn placeholder(&self) -> Option<String> {
        let one = match &self.kind {
            Kind::Boolean => return None,
            Kind::String => "TEXT",
            Kind::File => "FILE",
            Kind::Integer { .. } | Kind::Number => "NUMBER",
            Kind::Choice { .. } => "CHOICE",
        };
        Some(if self.list { format!("{one},...") } else { one.to_string() })
    }

    fn left(&self) -> String {
        match (self.positional, self.short) {
            (true, _) => format!("  {}", self.usage()),
            (false, Some(short)) => format!("  -{short}, {}", self.usage()),
            (false, None) => format!("      {}", self.usage()),
        }
    }

    fn right(&self) -> String {
        let mut notes = Vec::new();
        if let Kind::Choice { of } = &self.kind {
            notes.push(format!("[one of: {}]", of.join(", ")));
        }
        match &self.default {
            Some(default) => notes.push(format!("[default: {}]", one_line(default))),
            None if self.required => notes.push("[required]".to_string()),
            None => {}
        }
        [&[self.about.to_string()], &notes[..]].concat().join(" ")
    }
}

/// Characters of a default that are shown.
const SHOWN: usize = 100;

/// The beginning of a text, without the ends of its lines.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_help_has_usage_parameters_and_defaults() {
        let parameter = |name: &'static str, short, kind, default: Option<&'static str>| Parameter {
            name: name.into(),
            short,
            about: "what it is".into(),
            kind,
            required: default.is_none(),
            default: default.map(Into::into),
            positional: false,
            list: false,
        };
        let parameters = vec![
            parameter("prompt", Some('p'), Kind::String, None),
            parameter("max-tokens", Some('n'), Kind::Integer { min: 0, max: 9 }, Some("4")),
            parameter("mode", None, Kind::Choice { of: vec!["a".into(), "b".into()].into() }, Some("a")),
            Parameter { required: false, ..parameter("check", None, Kind::Boolean, None) },
            Parameter { positional: true, ..parameter("role", None, Kind::String, None) },
        ];
        let manifest = Manifest {
            name: "drafts".into(),
            version: "0.1.0".into(),
            description: "Writes drafts".into(),
            parameters: Some(parameters.into()),
        };
        let expected = "\
drafts 0.1.0
Writes drafts

Usage: pie run drafts -- --prompt <TEXT> [OPTIONS] <ROLE>

Arguments:
  <ROLE>  what it is [required]

Options:
  -p, --prompt <TEXT>        what it is [required]
  -n, --max-tokens <NUMBER>  what it is [default: 4]
      --mode <CHOICE>        what it is [one of: a, b] [default: a]
      --check                what it is
";
        let help = manifest.help("pie run drafts --");
        assert_eq!(help, expected);
        let silent = Manifest { parameters: None, ..manifest };
        assert!(silent.help("pie run drafts --").contains("does not say what it takes"));
    }
}
