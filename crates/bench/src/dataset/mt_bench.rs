//! `mt_bench`: questions in the format of MT-bench and Spec-Bench, `{"question_id", "category", "turns": [..]}`.

use super::rows::Rows;
use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Message, Prompt, Sample, Spec};

/// Questions of one or more turns.
pub const SPEC: Spec = Spec {
    name: "mt_bench",
    about: "questions with turns (MT-bench, Spec-Bench): each a session, sent with the answers so far",
    reads_file: true,
    load,
};

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let path = options.path.as_deref().ok_or(DatasetError::NoPath(SPEC.name))?;
    let rows = Rows::read(path)?;
    let mut samples = Vec::new();
    let categories = rows.rows.iter().map(|row| row.values.get("category").and_then(|name| name.as_str()));
    let wanted = |name: Option<&str>| options.category.is_none() || name == options.category.as_deref();
    let chosen = rows.rows.iter().zip(categories.clone()).filter(|(_, name)| wanted(*name));
    for (session, (row, _)) in chosen.enumerate() {
        let turns = row.values.get("turns").and_then(|turns| turns.as_array());
        let turns = turns.ok_or_else(|| rows.malformed(row, "no list as `turns`", "a list of texts"))?;
        for (turn, question) in turns.iter().enumerate() {
            let question =
                question.as_str().ok_or_else(|| rows.malformed(row, question.to_string(), "a text"))?;
            let prompt = Prompt::Chat(vec![Message::user(question)]);
            let count = tokens.count(question)?;
            let mut sample = Sample::new(prompt, count, options.output_tokens.unwrap_or(256));
            sample.session = Some(session as u32);
            sample.turn = turn as u32;
            samples.push(sample);
        }
    }
    super::finish(samples, options, || match &options.category {
        Some(name) => {
            let mut known: Vec<&str> = categories.flatten().collect();
            known.sort_unstable();
            known.dedup();
            rows.no_sample(format!("none is of the category `{name}`, expected one of {}", known.join(", ")))
        }
        None => rows.no_sample("it has no question"),
    })
}
