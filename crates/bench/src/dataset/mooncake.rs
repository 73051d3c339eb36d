//! `mooncake`: traces with the names of the prompt's blocks, `{"timestamp", "input_length", "output_length",
//! "hash_ids"}`. Prompts with the same names begin with the same tokens, so a prefix cache meets what the trace had.

use std::collections::HashMap;

use fastrand::Rng;

use super::rows::Rows;
use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Prompt, Sample, Spec, text};
use crate::clock::Nanos;

/// Traces with block names.
pub const SPEC: Spec = Spec {
    name: "mooncake",
    about: "a trace with hash_ids (Mooncake, Bailian): blocks of the same name have the same text",
    reads_file: true,
    load,
};

/// The block sizes in use, smallest first.
const BLOCKS: [u32; 9] = [8, 16, 32, 64, 128, 256, 512, 1024, 2048];

/// The size for which each row has as many names as its prompt has blocks.
fn block_tokens(rows: &[(u32, usize)]) -> Option<u32> {
    let fits = |size: &u32| rows.iter().all(|(tokens, names)| tokens.div_ceil(*size) as usize == *names);
    BLOCKS.into_iter().find(fits)
}

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let path = options.path.as_deref().ok_or(DatasetError::NoPath(SPEC.name))?;
    let rows = Rows::read(path)?;
    let column = options.columns.blocks.as_deref().unwrap_or("hash_ids");
    let mut parsed = Vec::new();
    let mut start = None;
    for row in rows.rows.iter().take(options.count) {
        let at = rows.number(row, &["timestamp"])? * options.time_unit_secs.unwrap_or(0.001);
        let input = rows.tokens(row, &["input_length"])?.max(1);
        let output = rows.tokens(row, &["output_length"])?.max(1);
        let names = row.values.get(column).and_then(|value| value.as_array());
        let names =
            names.and_then(|names| names.iter().map(|name| name.as_u64()).collect::<Option<Vec<u64>>>());
        let names =
            names.ok_or_else(|| rows.malformed(row, format!("no list of numbers as {column}"), "one"))?;
        if options.max_input_tokens.is_none_or(|limit| input <= limit) {
            parsed.push((at - *start.get_or_insert(at), input, output, names));
        }
    }
    let lengths: Vec<(u32, usize)> =
        parsed.iter().map(|(_, input, _, names)| (*input, names.len())).collect();
    let Some(block) = options.block_tokens.or_else(|| block_tokens(&lengths)) else {
        return Err(
            rows.no_sample("no block size from 8 to 2048 explains its hash_ids; name it with --block-tokens")
        );
    };
    let mut made = HashMap::new();
    let mut samples = Vec::new();
    for (at, input, output, names) in parsed {
        let mut rng = Rng::with_seed(
            options.seed ^ names.last().copied().unwrap_or(0).rotate_left(32) ^ u64::from(input),
        );
        let mut parts: Vec<String> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let length = (input - (index as u32 * block).min(input)).min(block);
            if length == block {
                // 1. The text of a whole block is a function of its name.
                let text = match made.get(name) {
                    Some(text) => String::clone(text),
                    None => {
                        let mut rng = Rng::with_seed(options.seed ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                        let text = text::make(&mut rng, tokens, block)?;
                        made.insert(*name, text.clone());
                        text
                    }
                };
                parts.push(text);
            } else if length > 0 {
                // 2. A last block that is not whole is no prefix of another prompt.
                parts.push(text::make(&mut rng, tokens, length)?);
            }
        }
        let mut sample =
            Sample::new(Prompt::Text(parts.join(" ")), input, options.output_tokens.unwrap_or(output));
        sample.at = Some(Nanos::from_secs(at));
        sample.blocks = names;
        samples.push(sample);
    }
    let mut dataset = super::finish(samples, options, || rows.no_sample("it has no row within the limits"))?;
    dataset.notes.push(format!("blocks of {block} tokens"));
    Ok(dataset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_size_is_found() {
        assert_eq!(block_tokens(&[(6755, 14), (512, 1), (513, 2)]), Some(512));
        assert_eq!(block_tokens(&[(100, 7), (16, 1)]), Some(16));
        assert_eq!(block_tokens(&[(100, 90)]), None);
    }
}
