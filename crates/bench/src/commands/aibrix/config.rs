//! The configuration: defaults, the file over them, `--override` over both, and then what `${NAME}` stands for.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use super::keys::KEYS;

/// Values by their names in [`KEYS`].
#[derive(Clone, Debug)]
pub struct Config {
    root: Value,
    /// Keys that were given and that nothing reads.
    pub unknown: Vec<String>,
}

fn yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

impl Config {
    /// Reads a configuration. `environment` looks up variables.
    ///
    /// # Errors
    /// What is wrong with the file or an override.
    pub fn load(
        file: Option<&Path>,
        overrides: &[String],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let mut root = Value::Object(Map::new());
        for key in &KEYS {
            let default = yaml(key.default).map_err(anyhow::Error::msg);
            set(&mut root, key.name, default.with_context(|| format!("default of `{}`", key.name))?);
        }
        let mut unknown = Vec::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read `{}`; --write-config makes one", path.display()))?;
            let given = yaml(&text).map_err(|error| anyhow::anyhow!("`{}`: {error}", path.display()))?;
            match given {
                Value::Object(_) => merge(&mut root, given, "", &mut unknown),
                Value::Null => {}
                other => bail!("`{}`: found {other}, expected keys and values", path.display()),
            }
        }
        for text in overrides {
            let (name, value) =
                text.split_once('=').filter(|(name, _)| !name.is_empty()).with_context(|| {
                    format!(
                        "--override: found `{text}`, expected KEY=VALUE; `--override help` lists the keys"
                    )
                })?;
            let value = yaml(value).map_err(|error| anyhow::anyhow!("--override {name}: {error}"))?;
            if !is_known(name) {
                unknown.push(name.to_string());
            }
            set(&mut root, name, value);
        }
        // Top-level keys of one's own are variables for others.
        unknown.retain(|name| name.contains('.'));
        // A value may name a key whose value names another; a circle ends here, and is found when it is read.
        for _ in 0..8 {
            let known = root.clone();
            substitute(&mut root, &known, environment);
        }
        Ok(Self { root, unknown })
    }

    fn get(&self, name: &str) -> &Value {
        name.split('.').fold(&self.root, |value, part| value.get(part).unwrap_or(&Value::Null))
    }

    fn wrong(&self, name: &str, expected: &str) -> anyhow::Error {
        anyhow::anyhow!("`{name}`: found {}, expected {expected}", self.get(name))
    }

    /// A text; `None` for null and for one that names a variable nobody has set.
    ///
    /// # Errors
    /// When it is a list or has members.
    pub fn optional_text(&self, name: &str) -> anyhow::Result<Option<String>> {
        match self.get(name) {
            Value::Null => Ok(None),
            Value::String(text) if text.contains("${") => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Bool(value) => Ok(Some(value.to_string())),
            _ => Err(self.wrong(name, "a text")),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self, name: &str) -> anyhow::Result<String> {
        self.optional_text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| {
            self.wrong(
                name,
                "a text; ${NAME} must be a variable of the environment or a key of the top level",
            )
        })
    }

    /// A path.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.text(name)?.into())
    }

    /// A number that may be null.
    ///
    /// # Errors
    /// When it is something else, or below zero.
    pub fn optional_number(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let number = match self.get(name) {
            Value::Null => return Ok(None),
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        number.map(Some).ok_or_else(|| self.wrong(name, "a number, 0 or more"))
    }

    /// A number that must be there.
    ///
    /// # Errors
    /// When it is not, or below zero.
    pub fn number(&self, name: &str) -> anyhow::Result<f64> {
        self.optional_number(name)?.ok_or_else(|| self.wrong(name, "a number, 0 or more"))
    }

    /// A number above zero.
    ///
    /// # Errors
    /// When it is none.
    pub fn positive(&self, name: &str) -> anyhow::Result<f64> {
        let number = self.number(name)?;
        if number > 0.0 { Ok(number) } else { Err(self.wrong(name, "a number above 0")) }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is none.
    pub fn count(&self, name: &str) -> anyhow::Result<u64> {
        let number = self.number(name)?;
        let is_whole = number.fract() == 0.0 && number <= 1e15;
        if is_whole { Ok(number as u64) } else { Err(self.wrong(name, "a whole number")) }
    }

    /// Yes or no.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(&self, name: &str) -> anyhow::Result<bool> {
        match self.get(name) {
            Value::Bool(value) => Ok(*value),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.wrong(name, "true or false")),
        }
    }

    /// A list of numbers: `[1, 2]`, `"1,2"` or one number.
    ///
    /// # Errors
    /// When it is none, or has another length than `length`.
    pub fn list(&self, name: &str, length: usize) -> anyhow::Result<Vec<f64>> {
        let numbers: Option<Vec<f64>> = match self.get(name) {
            Value::Array(values) => values.iter().map(Value::as_f64).collect(),
            Value::String(text) => text.split(',').map(|part| part.trim().parse().ok()).collect(),
            Value::Number(number) => number.as_f64().map(|number| vec![number]),
            _ => None,
        };
        let good = |numbers: &Vec<f64>| {
            numbers.len() == length && numbers.iter().all(|number| number.is_finite() && *number >= 0.0)
        };
        let expected = format!("{length} numbers, 0 or more, with commas between");
        numbers.filter(good).ok_or_else(|| self.wrong(name, &expected))
    }
}

/// Whether a name is a key, or the beginning of one.
fn is_known(name: &str) -> bool {
    let under =
        |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    KEYS.iter().any(|key| under(key.name))
}

/// Sets a value, with the maps that its name needs.
fn set(root: &mut Value, name: &str, value: Value) {
    let mut at = root;
    for part in name.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(part).or_insert(Value::Null);
    }
    *at = value;
}

/// Puts the members of `given` over those of `root`, map by map.
fn merge(root: &mut Value, given: Value, above: &str, unknown: &mut Vec<String>) {
    match (root, given) {
        (Value::Object(map), Value::Object(given)) => {
            for (name, value) in given {
                let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
                if !is_known(&path) {
                    unknown.push(path.clone());
                }
                merge(map.entry(name).or_insert(Value::Null), value, &path, unknown);
            }
        }
        // A map of keys that all keep their defaults.
        (Value::Object(_), Value::Null) => {}
        (root, given) => *root = given,
    }
}

/// Replaces `${NAME}` in texts by the variable of the environment, else by the key of the top level.
fn substitute(value: &mut Value, known: &Value, environment: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| substitute(value, known, environment)),
        Value::Array(list) => list.iter_mut().for_each(|value| substitute(value, known, environment)),
        Value::String(text) => {
            let mut done = String::new();
            let mut rest = text.as_str();
            while let Some((before, after)) = rest.split_once("${") {
                done += before;
                let Some((name, after)) = after.split_once('}') else {
                    rest = &rest[before.len()..];
                    break;
                };
                let own = match known.get(name) {
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
                    _ => None,
                };
                match environment(name).or(own) {
                    Some(found) => done += &found,
                    None => done += &format!("${{{name}}}"),
                }
                rest = after;
            }
            *text = done + rest;
        }
        _ => {}
    }
}

/// The table of keys, for people.
pub fn help() -> String {
    let line = |key: &super::keys::Key| format!("{} = {}\n    {}\n", key.name, key.default, key.about);
    KEYS.iter().map(line).collect()
}

/// A file with every key and its default.
pub fn example() -> String {
    let mut text = String::from("# Configuration of `pie-bench aibrix`. Every key has its default.\n");
    let mut above: Vec<&str> = Vec::new();
    for key in &KEYS {
        let parts: Vec<&str> = key.name.split('.').collect();
        let maps = &parts[..parts.len() - 1];
        let same = above.iter().zip(maps).take_while(|(a, b)| a == b).count();
        for (depth, map) in maps.iter().enumerate().skip(same) {
            text += &format!("{}{map}:\n", "  ".repeat(depth));
        }
        above = maps.to_vec();
        let indent = "  ".repeat(maps.len());
        text += &format!("{indent}# {}\n{indent}{}: {}\n", key.about, parts[parts.len() - 1], key.default);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn the_example_has_every_key_with_its_default_and_no_key_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, example()).unwrap();
        let read = Config::load(Some(&path), &[], &none).unwrap();
        let defaults = Config::load(None, &[], &none).unwrap();
        assert_eq!(read.root, defaults.root);
        assert!(read.unknown.is_empty());
    }

    #[test]
    fn names_in_braces_are_variables_then_keys() {
        let environment = |name: &str| (name == "HOST").then(|| "box".to_string());
        let overrides =
            ["prompt_type=sharegpt", "endpoint=http://${HOST}:1", "client_output=${mine}/x", "mine=/m"];
        let overrides = overrides.map(String::from);
        let config = Config::load(None, &overrides, &environment).unwrap();
        assert_eq!(config.text("dataset_file").unwrap(), "./output/dataset/sharegpt.jsonl");
        assert_eq!(config.text("endpoint").unwrap(), "http://box:1");
        // A key that names a key that names a key.
        assert_eq!(config.text("dataset_configs.client_trace.trace").unwrap(), "/m/x/output.jsonl");
        assert_eq!(config.optional_text("api_key").unwrap(), None);
        assert!(config.text("api_key").unwrap_err().to_string().contains("${API_KEY}"));
    }

    #[test]
    fn overrides_make_maps_and_are_yaml() {
        let overrides =
            ["workload_configs.constant.target_qps=2.5", "a.b=[1, 2]", "client_duration_limit=null"];
        let config = Config::load(None, &overrides.map(String::from), &none).unwrap();
        assert_eq!(config.number("workload_configs.constant.target_qps").unwrap(), 2.5);
        assert_eq!(config.list("a.b", 2).unwrap(), [1.0, 2.0]);
        assert_eq!(config.unknown, ["a.b"]);
        assert_eq!(
            config.list("dataset_configs.synthetic_shared.prompt_std", 3).unwrap(),
            [17.0, 28.0, 1338.0]
        );
        assert!(config.list("dataset_configs.synthetic_shared.prompt_std", 2).is_err());
        assert!(Config::load(None, &["novalue".to_string()], &none).is_err());
    }
}
