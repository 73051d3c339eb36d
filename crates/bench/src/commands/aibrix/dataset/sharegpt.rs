//! `sharegpt`: the user's turns of each conversation as a session, with the answers where every turn has one.

use fastrand::Rng;

use super::Spec;
use crate::commands::aibrix::config::Config;
use crate::commands::aibrix::rows::{Prompts, SessionRow};
use crate::dataset::sharegpt::{is_user, read};
use crate::dataset::tokens::Tokens;

pub(super) const SPEC: Spec = Spec { name: "sharegpt", make };

fn make(config: &Config, _: &Tokens, _: &mut Rng, notes: &mut Vec<String>) -> anyhow::Result<Prompts> {
    let conversations = read(&config.path("dataset_configs.sharegpt.target_dataset")?)?;
    let mut sessions = Vec::new();
    let mut without = 0;
    for (index, (turns, id)) in conversations.list.iter().zip(&conversations.ids).enumerate() {
        let (mut prompts, mut completions): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for (from, text) in turns {
            if is_user(from) {
                prompts.push(text.clone());
            } else if completions.len() + 1 == prompts.len() {
                // The answer to the last question. Of several in a row the first.
                completions.push(text.clone());
            }
        }
        if prompts.is_empty() {
            without += 1;
            continue;
        }
        let completions = Some(completions).filter(|answers| answers.len() == prompts.len());
        let session_id = if id.is_null() { index.into() } else { id.clone() };
        sessions.push(SessionRow { session_id, prompts, completions });
    }
    if without > 0 {
        notes.push(format!("{without} conversations without a question are left out"));
    }
    if conversations.bytes_cut > 0 {
        notes.push(format!("the file ends within a conversation: {} whole ones before it", sessions.len()));
    }
    Ok(Prompts::Sessions(sessions))
}
