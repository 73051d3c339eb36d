//! JSON Schemas of all kinds: what the models draw under each is complete, is JSON, and validates.
//!
//! `testdata/schemas.jsonl` holds them, one a line, with the keywords that each is there for.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

/// What llguidance 1.9 implements (`IMPLEMENTED` in its `json/schema.rs`), and its own options.
const IMPLEMENTED: [&str; 28] = [
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "const",
    "enum",
    "type",
    "items",
    "additionalItems",
    "prefixItems",
    "minItems",
    "maxItems",
    "properties",
    "additionalProperties",
    "patternProperties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "x-guidance",
];

/// What it takes and passes over (`META_AND_ANNOTATIONS`).
const ANNOTATIONS: [&str; 15] = [
    "$anchor",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "id",
    "$comment",
    "title",
    "description",
    "default",
    "readOnly",
    "writeOnly",
    "examples",
    "contentMediaType",
    "contentEncoding",
];

/// Its formats (`lookup_format` in `json/formats.rs`).
const FORMATS: [&str; 11] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown"];

/// Its options, given in `x-guidance`.
const OPTIONS: [&str; 8] = [
    "item_separator",
    "key_separator",
    "whitespace_flexible",
    "whitespace_pattern",
    "coerce_one_of",
    "lenient",
    "json_allowed_escapes",
    "json_allow_general_unicode_escapes",
];

struct Case {
    name: String,
    keywords: Vec<String>,
    schema: Value,
}

fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/schemas.jsonl");
    let case = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let keywords = line["keywords"].as_array().expect("keywords").iter();
        Case {
            name: line["name"].as_str().expect("name").to_string(),
            keywords: keywords.map(|k| k.as_str().expect("keyword").to_string()).collect(),
            schema: line["schema"].clone(),
        }
    };
    std::fs::read_to_string(file).unwrap().lines().map(case).collect()
}

/// Whether an object anywhere in the schema has this key.
fn has_key(schema: &Value, key: &str) -> bool {
    match schema {
        Value::Object(map) => map.contains_key(key) || map.values().any(|value| has_key(value, key)),
        Value::Array(list) => list.iter().any(|value| has_key(value, key)),
        _ => false,
    }
}

/// Runs a case on these messages, and gives what it says of each.
fn run(model: &str, arguments: &[&str], messages: impl IntoIterator<Item = String>) -> Vec<Value> {
    let messages: Vec<String> = messages.into_iter().collect();
    let answers = common::ask(&common::home("schemas"), model, arguments, &messages);
    assert_eq!(answers.len(), messages.len(), "an answer for each message");
    answers
}

/// The tiny model as a file, made once a test.
fn tiny(name: &str) -> String {
    let folder = common::home("schemas");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    model::test_model::write(&path, kernels::DType::F32, 1).unwrap();
    path.to_str().unwrap().to_string()
}

/// Why a text is no JSON of the schema.
fn fault(schema: &Value, text: &str) -> Option<String> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Some(format!("no JSON, {error}: {text}")),
    };
    let validator = match jsonschema::options().should_validate_formats(true).build(schema) {
        Ok(validator) => validator,
        Err(error) => return Some(format!("no schema: {error}")),
    };
    validator.validate(&value).err().map(|error| format!("not valid, {error}: {text}"))
}

/// Each schema's answer, drawn with this seed, is complete and holds.
fn check(model: &str, seed: u64) {
    let cases = cases();
    let schemas = cases.iter().map(|case| case.schema.to_string());
    let answers = run(model, &["schemas", &seed.to_string()], schemas);
    let fault = |case: &Case, answer: &Value| match (answer["text"].as_str(), &answer["complete"]) {
        (None, _) => Some(format!("refused: {}", answer["refused"])),
        (Some(text), Value::Bool(true)) => fault(&case.schema, text),
        (Some(text), _) => Some(format!("not complete: {text}")),
    };
    let faults: Vec<String> = cases
        .iter()
        .zip(&answers)
        .filter_map(|(case, answer)| Some(format!("`{}`: {}", case.name, fault(case, answer)?)))
        .collect();
    assert!(faults.is_empty(), "{model}, seed {seed}: {} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_tiny_model_answers_in_every_schema() {
    check(&tiny("answers.gguf"), 1);
}

#[test]
fn the_real_model_answers_in_every_schema() {
    let Some(model) = common::real_model() else { return };
    check(&model, 2);
}

#[test]
fn the_schemas_cover_every_keyword_format_and_option() {
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let texts: BTreeSet<String> = cases.iter().map(|case| case.schema.to_string()).collect();
    assert_eq!((cases.len(), names.len(), texts.len()), (200, 200, 200), "200 names and 200 schemas");
    for case in &cases {
        for keyword in &case.keywords {
            assert!(has_key(&case.schema, keyword), "`{}` does not use `{keyword}`", case.name);
        }
    }
    for keyword in IMPLEMENTED.iter().chain(&ANNOTATIONS) {
        let used = cases.iter().any(|case| case.keywords.iter().any(|k| k == keyword));
        assert!(used, "no schema uses `{keyword}`");
    }
    for format in FORMATS {
        let used = texts.iter().any(|text| text.contains(&format!(r#""format":"{format}""#)));
        assert!(used, "no schema uses format `{format}`");
    }
    for option in OPTIONS {
        let used = |case: &Case| case.schema["x-guidance"].get(option).is_some();
        assert!(cases.iter().any(used), "no schema uses option `{option}`");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let text = json!({ "type": "string", "maxLength": 3 });
    let keywords = [
        ("not", json!({ "not": { "type": "null" } })),
        ("if", json!({ "if": text, "then": text, "else": { "type": "null" } })),
        ("contains", json!({ "type": "array", "contains": text })),
        ("minContains", json!({ "type": "array", "contains": text, "minContains": 2 })),
        ("maxContains", json!({ "type": "array", "contains": text, "maxContains": 2 })),
        ("uniqueItems", json!({ "type": "array", "uniqueItems": true })),
        ("unevaluatedItems", json!({ "type": "array", "unevaluatedItems": false })),
        ("propertyNames", json!({ "type": "object", "propertyNames": text })),
        ("dependencies", json!({ "type": "object", "dependencies": { "a": ["b"] } })),
        ("dependentRequired", json!({ "type": "object", "dependentRequired": { "a": ["b"] } })),
        ("dependentSchemas", json!({ "type": "object", "dependentSchemas": { "a": text } })),
        ("unevaluatedProperties", json!({ "type": "object", "unevaluatedProperties": false })),
        ("$dynamicRef", json!({ "$dynamicRef": "#node" })),
        ("$dynamicAnchor", json!({ "type": "string", "$dynamicAnchor": "node" })),
        ("$recursiveRef", json!({ "$recursiveRef": "#" })),
        ("$recursiveAnchor", json!({ "type": "string", "$recursiveAnchor": true })),
    ];
    let within = |schema: &Value| json!({ "type": "object", "properties": { "a": { "items": schema } } });
    // Values of keywords, and combinations, that are refused by what they are.
    let others = [
        ("iban", json!({ "type": "string", "format": "iban" })),
        ("tuple", json!({ "type": "tuple" })),
        ("oneOf", json!({ "oneOf": [{ "minimum": 1, "type": "integer" }, { "type": "integer" }] })),
        ("#named", json!({ "$ref": "#named", "$defs": { "a": { "$anchor": "named", "type": "null" } } })),
        ("https://example.com/a", json!({ "$ref": "https://example.com/a" })),
        ("minProperties", json!({ "properties": { "a": {}, "b": {} }, "minProperties": 2 })),
    ];
    let mut schemas = Vec::new();
    for (name, schema) in keywords.iter().chain(&others) {
        schemas.push((name, schema.clone()));
        schemas.push((name, within(schema)));
    }
    let messages = schemas.iter().map(|(_, schema)| schema.to_string());
    let answers = run(&tiny("refused.gguf"), &["schemas", "1"], messages);
    for ((name, schema), answer) in schemas.iter().zip(&answers) {
        let said = answer["refused"].as_str().unwrap_or_else(|| panic!("{schema} was taken: {answer}"));
        // `minProperties` and `maxProperties` share their message.
        let said = said.replace("min/maxProperties", "minProperties");
        assert!(said.contains(*name), "`{name}` is not named: {said}");
    }
}

/// The limits that `docs/api.md` names: each text is taken though it does not hold. One that is no longer
/// taken leaves the list there and here.
#[test]
fn the_known_limits_of_json_schema_are_those_of_the_documents() {
    let bit = json!({ "type": "integer", "minimum": 0, "maximum": 1 });
    let cases = [
        (json!({ "type": "string", "format": "date" }), r#""2023-02-29""#),
        (json!({ "type": "string", "format": "date-time" }), r#""2023-02-29T00:00:00Z""#),
        (json!({ "type": "string", "format": "time" }), r#""12:00:60Z""#),
        (json!({ "type": "object", "additionalProperties": bit, "minProperties": 2 }), r#"{"a":1,"a":0}"#),
        (
            json!({ "type": "object", "properties": { "a": bit }, "additionalProperties": { "type": "null" } }),
            r#"{"\u0061":null}"#,
        ),
        (json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001 }), "0"),
        (json!({ "type": "number" }), "1e999"),
    ];
    let messages = cases.iter().map(|(schema, text)| json!([schema, text]).to_string());
    let answers = run(&tiny("limits.gguf"), &["accepted"], messages);
    for ((schema, text), taken) in cases.iter().zip(answers) {
        assert_eq!(taken, json!(true), "{schema} does not take {text} any more");
        assert!(fault(schema, text).is_some(), "{text} holds");
    }
}
