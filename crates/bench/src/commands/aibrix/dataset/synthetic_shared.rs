//! `synthetic_shared`: prompts of controlled lengths that share beginnings of controlled lengths. Several configs, each
//! with its own prefixes, follow each other in one file.

use fastrand::Rng;

use super::Spec;
use crate::commands::aibrix::config::Config;
use crate::commands::aibrix::rows::{PlainRow, Prompts};
use crate::dataset::text;
use crate::dataset::tokens::Tokens;
use crate::draw::truncated_normal;

pub(super) const SPEC: Spec = Spec { name: "synthetic_shared", make };

fn make(config: &Config, tokens: &Tokens, rng: &mut Rng, notes: &mut Vec<String>) -> anyhow::Result<Prompts> {
    let key = |name: &str| format!("dataset_configs.synthetic_shared.{name}");
    let configs = config.count(&key("num_dataset_configs"))? as usize;
    let list = |name: &str| config.list(&key(name), configs);
    let (means, deviations) = (list("prompt_length")?, list("prompt_std")?);
    let (shares, share_deviations) = (list("shared_prop")?, list("shared_prop_std")?);
    let (samples, prefixes) = (list("num_samples")?, list("num_prefix")?);
    anyhow::ensure!(
        shares.iter().all(|share| *share <= 1.0),
        "`{}`: found {shares:?}, expected 0 to 1",
        key("shared_prop")
    );
    let mut rows = Vec::new();
    for index in 0..configs {
        let (mut shared, mut whole) = (0u64, 0u64);
        for group in 0..prefixes[index] as u32 {
            let base = text::make(rng, tokens, (means[index] * shares[index]) as u32)?;
            for _ in 0..samples[index] as usize {
                let length = truncated_normal(rng, means[index], deviations[index], 1.0, 1e6).round();
                let (mean, deviation) = (shares[index] * length, share_deviations[index] * length);
                let prefix_length = truncated_normal(rng, mean, deviation, 0.0, length).round() as u32;
                let length = length as u32;
                let prefix = text::fit(rng, tokens, &base, prefix_length)?;
                let rest = text::make(rng, tokens, length - prefix_length)?;
                let prompt = match (prefix.is_empty(), rest.is_empty()) {
                    (true, _) => rest,
                    (_, true) => prefix,
                    _ => format!("{prefix} {rest}"),
                };
                shared += u64::from(prefix_length);
                whole += u64::from(length);
                rows.push(PlainRow {
                    token_count: Some(tokens.count(&prompt)?),
                    prompt,
                    completion: None,
                    prefix_group: Some(group),
                    config_id: Some(index as u32),
                });
            }
        }
        let share = if whole == 0 { 0.0 } else { shared as f64 / whole as f64 };
        notes.push(format!(
            "config {index}: {whole} tokens, {:.1} % of them in shared prefixes",
            share * 100.0
        ));
    }
    Ok(Prompts::Plain(rows))
}
