//! Names and nesting of files against recorded ones: readers of other tools look for them. Values are not compared, and
//! of a list the first element stands for all. `PIE_BENCH_BLESS=1` records anew.

use std::path::Path;

use serde_json::{Map, Value, json};

fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let shapes: Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), shape(value))).collect();
            Value::Object(shapes)
        }
        Value::Array(list) => Value::Array(list.first().map(shape).into_iter().collect()),
        _ => json!("value"),
    }
}

pub(super) fn check(name: &str, value: &Value) {
    let found = format!("{:#}\n", shape(value));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sage").join(name);
    if std::env::var_os("PIE_BENCH_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &found).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, recorded, "{} differs; PIE_BENCH_BLESS=1 records it anew", path.display());
}
