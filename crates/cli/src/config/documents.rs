//! What the documents say of the keys, written from their rows: the tables of docs/config.md and
//! example_config.toml; and of the metrics, the table of docs/operating.md.
//!
//! `cargo xtask docs` writes them; without it a test fails where they differ.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use metrics::Declared;
use toml::Value;

use super::key::{Commands, Key, Kind};
use super::keys::{FOREIGN_KEYS, TABLES, Table};
use super::{ModelSettings, ServerSettings, Settings};

/// Where the variable is set, the documents are written instead of compared.
const UPDATE: &str = "PIE_UPDATE_DOCUMENTS";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a document with what it should be, or makes it so.
fn hold(path: &str, expected: &str) {
    let file = repository().join(path);
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(file, expected).unwrap();
    } else if let Some((found, expected)) = first_difference(&found, expected) {
        panic!(
            "{path} says\n  {found}\nwhere the code says\n  {expected}\n`cargo xtask docs` writes it anew"
        );
    }
}

fn first_difference<'a>(found: &'a str, expected: &'a str) -> Option<(&'a str, &'a str)> {
    if found == expected {
        return None;
    }
    let longest = found.lines().count().max(expected.lines().count());
    let line = |text: &'a str, at| text.lines().nth(at).unwrap_or("(nothing)");
    let pairs = (0..longest).map(|at| (line(found, at), line(expected, at)));
    Some(pairs.into_iter().find(|(a, b)| a != b).unwrap_or(("another end", "one line end")))
}

#[test]
fn the_tables_of_the_page_are_those_of_the_code() {
    hold_parts("docs/config.md", parts());
    hold_parts("docs/operating.md", vec![("metrics".to_string(), metrics())]);
}

/// Holds a page to its generated parts.
fn hold_parts(path: &str, mut parts: Vec<(String, String)>) {
    let page = std::fs::read_to_string(repository().join(path)).unwrap();
    let mut written = String::new();
    let mut rest = page.as_str();
    while let Some((before, after)) = rest.split_once("<!-- generated: ") {
        let (name, after) = after.split_once(" -->\n").expect("the marker ends its line");
        let (_, after) = after.split_once("<!-- end -->").expect("a generated part has an end");
        let part = parts.iter().position(|(known, _)| known == name);
        let (_, part) = parts.remove(part.unwrap_or_else(|| panic!("`{name}` is no part, or there twice")));
        written += &format!("{before}<!-- generated: {name} -->\n{part}<!-- end -->");
        rest = after;
    }
    assert!(parts.is_empty(), "{path} has no place for {:?}", parts[0].0);
    hold(path, &(written + rest));
}

/// All metrics of a server.
fn all_metrics() -> Vec<Declared> {
    metrics::declared(runtime::METRICS).chain(metrics::declared(server::METRICS)).collect()
}

fn metrics() -> String {
    let row = |metric: Declared| {
        let labels: Vec<String> = metric.labels.iter().map(|label| code(label)).collect();
        vec![code(metric.name), metric.kind.name().to_string(), labels.join(" "), metric.help.to_string()]
    };
    markdown(&["metric", "kind", "labels", "what"], all_metrics().into_iter().map(row))
}

#[test]
fn metrics_have_names_of_their_own_as_their_kinds_want_them() {
    let mut names = BTreeSet::new();
    for metric in all_metrics() {
        let name = metric.name;
        assert!(names.insert(name), "`{name}` is there twice");
        assert_eq!(name.ends_with("_total"), metric.kind == metrics::Kind::Counter, "{name}");
        assert!(!metric.help.ends_with('.') && !metric.help.is_empty(), "{name}: {}", metric.help);
        assert!(metric.labels.iter().all(|label| *label != "le"), "{name}");
    }
}

#[test]
fn every_metric_of_the_dashboard_exists() {
    let dashboard = std::fs::read_to_string(repository().join("docs/grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut shown = BTreeSet::new();
    for expression in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expression = expression["expr"].as_str().unwrap();
        let mut words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let is_metric =
            |word: &&str| ["pie_", "vllm:", "process_"].iter().any(|begin| word.starts_with(begin));
        let word = words.find(is_metric).unwrap_or_else(|| panic!("no metric is in {expression}"));
        for word in [word].into_iter().chain(words.filter(is_metric)) {
            let named = all_metrics().into_iter().find(|metric| match metric.kind {
                metrics::Kind::Histogram => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|end| word.strip_suffix(end) == Some(metric.name)),
                _ => word == metric.name,
            });
            shown.insert(named.unwrap_or_else(|| panic!("`{word}` of the dashboard is no metric")).name);
        }
    }
    assert!(shown.len() > 20, "the dashboard shows {shown:?}");
}

#[test]
fn the_example_has_every_key_and_changes_nothing() {
    let example = example();
    hold("example_config.toml", &example);
    let same = |settings: &Settings| format!("{settings:?}");
    let parse = |text: &str| Settings::parse(text, "default-model", &[]).unwrap();
    assert_eq!(same(&parse(&example)), same(&parse("")));
    // With every key taken that may be together with the others, it is a file that says all defaults.
    let tables = TABLES.iter().map(|table| {
        let keys = table.keys.iter().filter(|key| key.excludes.is_none());
        let keys: String = keys.map(|key| assignment(table, key)).collect();
        if table.name.is_empty() { keys } else { format!("{}\n{keys}", place(table)) }
    });
    let settings = parse(&tables.collect::<String>());
    assert_eq!(settings.server.port, ServerSettings::default().port);
    assert_eq!(settings.models[0].kv_page_size, ModelSettings::default().kv_page_size);
    assert_eq!(settings.services.len(), 1);
}

/// The generated parts of docs/config.md by their names.
fn parts() -> Vec<(String, String)> {
    let mut parts = Vec::new();
    for table in TABLES {
        parts.push((format!("keys of {}", place(table)), keys(table)));
        for key in table.keys {
            if let Some(choices) = key.choices() {
                let rows = choices.iter().map(|choice| vec![code(choice.name), choice.about.to_string()]);
                parts.push((format!("values of {}", key.name), markdown(&["value", key.about], rows)));
            }
        }
    }
    let foreign = FOREIGN_KEYS.iter().map(|(key, reason)| vec![code(key), reason.to_string()]);
    parts.push(("keys that are refused".to_string(), markdown(&["key", "why"], foreign)));
    parts.push(("flags".to_string(), flags()));
    let routes = server::ROUTES.iter().map(|route| vec![code(route.path), route.about.to_string()]);
    parts.push(("routes".to_string(), markdown(&["path", "answer"], routes)));
    parts
}

fn place(table: &Table) -> String {
    match (table.name, table.is_list) {
        ("", _) => "the top level".to_string(),
        (name, true) => format!("[[{name}]]"),
        (name, false) => format!("[{name}]"),
    }
}

fn keys(table: &Table) -> String {
    let rows = table.keys.iter().map(|key| {
        let default = match default(table, key) {
            Some(value) => code(&value.to_string()),
            None if key.is_required => "required".to_string(),
            None => key.absent.to_string(),
        };
        let mut what = sentence(key.about);
        if let Some(other) = key.excludes {
            what += &format!(". Not together with {}", code(other));
        }
        vec![code(key.name), kind(key), default, key.expected(), what]
    });
    markdown(&["key", "type", "default", "allowed", "what"], rows)
}

fn flags() -> String {
    let mut rows = Vec::new();
    for table in TABLES {
        for key in table.keys {
            let Some(flag) = &key.flag else { continue };
            let short = flag.short.map(|short| format!(", `-{short}`")).unwrap_or_default();
            let names = format!("`--{} {}`{short}", flag.name, flag.value);
            let commands = match flag.commands {
                Commands::RunAndStart => "`pie run`, `pie start`",
                Commands::Start => "`pie start`",
            };
            let name = match table.name {
                "" => key.name.to_string(),
                name => format!("{name}.{}", key.name),
            };
            let mut sets = code(&name);
            if table.is_list {
                sets += " of every model";
            }
            if key.kind == Kind::Texts {
                sets += "; may be given several times, and replaces the list of the file";
            }
            if let Some(other) = flag.requires {
                sets += &format!("; only together with `--{other}`");
            }
            rows.push(vec![names, commands.to_string(), sets]);
        }
    }
    markdown(&["flag", "of", "sets"], rows.into_iter())
}

/// A table; a column that is empty in every row is left out.
fn markdown(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let used: Vec<usize> =
        (0..heads.len()).filter(|&column| rows.iter().any(|row| !row[column].is_empty())).collect();
    let line = |cells: &dyn Fn(usize) -> String| {
        let cells = used.iter().map(|&column| cells(column));
        let cells = cells.map(|cell| if cell.is_empty() { " |".to_string() } else { format!(" {cell} |") });
        format!("|{}\n", cells.collect::<String>())
    };
    let mut table = line(&|column| sentence(heads[column]).to_lowercase());
    table += &format!("|{}\n", "---|".repeat(used.len()));
    for row in &rows {
        table += &line(&|column| row[column].clone());
    }
    table
}

/// The whole of example_config.toml.
fn example() -> String {
    let mut text = comment(
        "Settings for `pie start --config FILE` and `pie run --config FILE`. Every key is here with its default, or \
         with an example where it has none; delete the `#` before a key to set it. The tables of docs/config.md say \
         the same, and what belongs together.",
    );
    for table in TABLES {
        text += "\n";
        if !table.name.is_empty() {
            text += &comment(table.about);
            text += &format!("{}{}\n", if table.is_list { "#" } else { "" }, place(table));
        }
        for key in table.keys {
            text += &comment(&format!("{} ({})", sentence(key.about), notes(key)));
            text += &format!("#{}", assignment(table, key));
        }
    }
    text
}

/// A line that sets a key to its default, or to an example where it has none.
fn assignment(table: &Table, key: &Key) -> String {
    let value = default(table, key).map_or(key.example.to_string(), |value| value.to_string());
    assert!(!value.is_empty(), "`{}` has neither a default nor an example", key.name);
    format!("{} = {value}\n", key.name)
}

fn default(table: &Table, key: &Key) -> Option<Value> {
    (table.defaults)().into_iter().find(|(name, _)| *name == key.name).map(|(_, value)| value)
}

/// What a key's values are, and what holds without it.
fn notes(key: &Key) -> String {
    let mut notes = vec![kind(key)];
    notes.extend(Some(key.expected()).filter(|expected| !expected.is_empty()));
    if key.is_required {
        notes.push("required".to_string());
    }
    if !key.absent.is_empty() {
        notes.push(format!("without it: {}", key.absent));
    }
    notes.extend(key.excludes.map(|other| format!("not together with {}", code(other))));
    notes.join("; ")
}

fn kind(key: &Key) -> String {
    let kind = match key.kind {
        Kind::Text => "text",
        Kind::Path => "path",
        Kind::Integer => "integer",
        Kind::Boolean => "boolean",
        Kind::Texts => "list of texts",
    };
    [kind, key.unit].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Without the point at its end.
fn sentence(text: &str) -> String {
    text.trim_end_matches('.').to_string()
}

/// Comment lines of at most 110 columns.
fn comment(text: &str) -> String {
    let mut lines = vec!["#".to_string()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("one line at least");
        if line.len() + 1 + word.len() > 110 {
            lines.push(format!("# {word}"));
        } else {
            *line += &format!(" {word}");
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn every_default_is_allowed() {
    for table in TABLES {
        for (name, value) in (table.defaults)() {
            let key = table.keys.iter().find(|key| key.name == name).unwrap();
            key.check(&value).unwrap();
        }
        for key in table.keys.iter().filter(|key| !key.example.is_empty()) {
            let document: toml::Table = format!("example = {}", key.example).parse().unwrap();
            let value: &Value = &document["example"];
            key.check(value).unwrap();
        }
    }
}
