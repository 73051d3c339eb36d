//! Table 2: lines of code and size of each program, from its source and its built file.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::json;

use super::Outcome;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;

/// Program, and lines and KB in the paper.
const PROGRAMS: [(&str, u32, u32); 18] = [
    ("text-completion", 38, 129),
    ("tree-of-thought", 198, 148),
    ("recursion-of-thought", 106, 152),
    ("graph-of-thought", 87, 171),
    ("skeleton-of-thought", 82, 173),
    ("prefix-caching", 45, 131),
    ("modular-caching", 72, 139),
    ("constrained-decoding", 225, 2000),
    ("beam-search", 98, 142),
    ("watermarking", 43, 130),
    ("output-validation", 52, 131),
    ("speculative-decoding", 255, 152),
    ("jacobi-decoding", 88, 96),
    ("attention-sink", 60, 133),
    ("windowed-attention", 60, 133),
    ("hierarchical-attention", 42, 130),
    ("agent-react", 60, 309),
    ("agent-codeact", 62, 6700),
];
/// The last row, which has the same columns.
const SWARM: (&str, u32, u32) = ("agent-swarm", 95, 135);

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let built = || setting.inferlets.join("target/wasm32-wasip2/release");
    let folder = setting.servers.programs.clone().unwrap_or_else(built);
    let mut table = Table::new(["program", "lines", "paper", "KB", "paper"]);
    let (mut sum, mut data) = ([0; 4], Vec::new());
    for (name, paper_lines, paper_kb) in PROGRAMS.into_iter().chain([SWARM]) {
        let source = setting.inferlets.join(name).join("src/lib.rs");
        let text = std::fs::read_to_string(&source).with_context(|| {
            format!("no source at `{}`; name its folder with --inferlets", source.display())
        })?;
        let file = folder.join(format!("{}.wasm", name.replace('-', "_")));
        let bytes = size(&file)?;
        let (lines, kb) = (lines_of_code(&text), bytes.div_ceil(1000));
        for (sum, value) in
            sum.iter_mut().zip([lines as u64, u64::from(paper_lines), kb, u64::from(paper_kb)])
        {
            *sum += value;
        }
        table.row([
            name.into(),
            lines.to_string(),
            paper_lines.to_string(),
            kb.to_string(),
            paper_kb.to_string(),
        ]);
        data.push(json!({ "program": name, "lines": lines, "bytes": bytes, "paper_lines": paper_lines, "paper_kb": paper_kb }));
    }
    let [lines, paper_lines, kb, paper_kb] = sum.map(|value: u64| value.to_string());
    table.row(["all".into(), lines, paper_lines, kb, paper_kb]);
    Ok(Outcome {
        title: "Table 2: lines of code and sizes of programs".into(),
        tables: vec![table],
        figure: None,
        notes: vec!["lines without blanks, comments and tests; KB of 1000 bytes".into()],
        data: json!(data),
    })
}

fn size(file: &Path) -> anyhow::Result<u64> {
    let found = std::fs::metadata(file).with_context(|| {
        format!(
            "no program at `{}`; build it with `cargo xtask guests`, or name the folder with --programs",
            file.display()
        )
    })?;
    ensure!(found.is_file() && found.len() > 0, "`{}` is no program", file.display());
    Ok(found.len())
}

/// Lines up to the tests, without blanks and comments.
fn lines_of_code(text: &str) -> usize {
    let lines = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blanks_and_tests_are_no_lines() {
        let text =
            "//! a\n\nuse b; // why\n\nfn main() {\n    // c\n    d();\n}\n\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(lines_of_code(text), 4);
    }

    #[test]
    fn the_programs_are_there() {
        for (name, ..) in PROGRAMS.into_iter().chain([SWARM]) {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../inferlets").join(name);
            assert!(folder.join("src/lib.rs").is_file(), "{name}");
        }
    }
}
