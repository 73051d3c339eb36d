//! `--check-lengths`: whether prompts have the tokens that they should, by the server's own count.

use anyhow::{bail, ensure};

use crate::client::ClientOptions;
use crate::dataset::tokens::{ServerTokens, Tokens};
use crate::dataset::{Prompt, Sample};

/// So many prompts are counted, spread evenly.
const CHECKED: usize = 64;

/// Counts prompts of text at the server's `/tokenize`, without the tokens that it adds at their beginning, and says what
/// was checked.
///
/// # Errors
/// When the server does not count, or a prompt has another length.
pub fn check(samples: &[Sample], options: &ClientOptions) -> anyhow::Result<String> {
    let texts = samples.iter().filter_map(|sample| match &sample.prompt {
        Prompt::Text(text) => Some((text, sample.prompt_tokens)),
        // Ids are as many as they are, and the template of a chat adds to its messages.
        Prompt::Tokens(_) | Prompt::Chat(_) => None,
    });
    let texts: Vec<(&String, u32)> = texts.collect();
    ensure!(!texts.is_empty(), "--check-lengths: the dataset has no prompts of plain text to count");
    let server = Tokens::Server(Box::new(ServerTokens::open(options)?));
    let every = texts.len().div_ceil(CHECKED);
    let mut checked = 0;
    for (text, expected) in texts.iter().step_by(every) {
        let found = server.count(text)?;
        if found != *expected {
            bail!(
                "--check-lengths: the server counts {found} tokens of a prompt that should have {expected}; name the model's tokenizer with --tokenizer"
            );
        }
        checked += 1;
    }
    Ok(format!("{checked} of {} prompts have their length by the server's count", texts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::api::Api;
    use crate::mock::{Mock, Script};

    #[test]
    fn a_prompt_of_another_length_is_found() {
        let mock = Mock::start(Script::default(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = format!("http://{}", mock.address()).parse().unwrap();
        let options = ClientOptions::new(address, Api::COMPLETIONS);
        // The mock counts words.
        let sample = |text: &str, tokens| Sample::new(Prompt::Text(text.into()), tokens, 1);
        let mut samples = vec![sample("one two three", 3); 200];
        assert_eq!(
            check(&samples, &options).unwrap(),
            "50 of 200 prompts have their length by the server's count"
        );
        samples[0] = sample("one two", 3);
        let error = check(&samples, &options).unwrap_err().to_string();
        assert!(error.contains("counts 2 tokens of a prompt that should have 3"), "{error}");
        let ids = [Sample::new(Prompt::Tokens(vec![1, 2]), 2, 1)];
        assert!(check(&ids, &options).unwrap_err().to_string().contains("no prompts of plain text"));
    }
}
