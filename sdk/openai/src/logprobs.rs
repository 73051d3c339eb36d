//! Log-probabilities of tokens, as answers have them.

use inferlet::serde_json::Map;
use inferlet::{Logprob, Model, Value, json};

use crate::Result;

/// What stands for a log-probability that is not known, or below all: JSON has no infinity. The API has the same.
const LOWEST: f32 = -9999.0;

fn finite(logprob: Option<f32>) -> f32 {
    logprob.filter(|value| value.is_finite()).unwrap_or(LOWEST)
}

fn text(model: &Model, token: u32) -> Result<(String, Vec<u8>)> {
    let bytes = model.handle().detokenize(&[token])?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), bytes))
}

/// The name of a token in the lists of a completion: its text, or its bytes where they are parts of characters, for which
/// the API has this form. So two of them have two names.
fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().fold("bytes:".to_string(), |name, byte| name + &format!("\\x{byte:02x}")),
    }
}

/// An entry of `logprobs.content` of a chat.
pub(crate) fn of_chat(model: &Model, logprob: &Logprob) -> Result<Value> {
    let entry = |token: u32, value: Option<f32>| {
        let (text, bytes) = text(model, token)?;
        Ok(json!({ "token": text, "logprob": finite(value), "bytes": bytes }))
    };
    let mut found = entry(logprob.token, logprob.logprob)?;
    let top: Result<Vec<Value>> =
        logprob.top.iter().map(|(token, value)| entry(*token, Some(*value))).collect();
    found["top_logprobs"] = Value::Array(top?);
    Ok(found)
}

/// `logprobs` of a completion: four lists with an entry for each token.
#[derive(Default)]
pub(crate) struct Lists {
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    top: Vec<Option<Value>>,
    offsets: Vec<usize>,
    /// Characters so far.
    offset: usize,
}

impl Lists {
    pub(crate) fn add(&mut self, model: &Model, token: u32, logprob: Option<&Logprob>) -> Result<()> {
        let bytes = model.handle().detokenize(&[token])?;
        self.offsets.push(self.offset);
        // A token may have part of a character: it counts where it begins.
        self.offset += bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        self.tokens.push(name(&bytes));
        self.logprobs.push(logprob.map(|logprob| finite(logprob.logprob)));
        self.top.push(match logprob {
            None => None,
            Some(logprob) => {
                // The token itself is among them, as in the OpenAI API, also where it is none of the most probable.
                let own = logprob.logprob.map(|value| (logprob.token, value));
                let mut top = Map::new();
                for (token, value) in own.into_iter().chain(logprob.top.iter().copied()) {
                    let name = name(&model.handle().detokenize(&[token])?);
                    // A name that two tokens have is that of the first: the token's own, or the more probable one.
                    top.entry(name).or_insert(json!(finite(Some(value))));
                }
                Some(Value::Object(top))
            }
        });
        Ok(())
    }

    /// The lists, which begin anew where they end.
    pub(crate) fn take(&mut self) -> Value {
        let lists = std::mem::replace(self, Lists { offset: self.offset, ..Lists::default() });
        json!({
            "tokens": lists.tokens,
            "token_logprobs": lists.logprobs,
            "top_logprobs": lists.top,
            "text_offset": lists.offsets,
        })
    }
}

/// `prompt_logprobs` as vLLM has them: for each token of the prompt an object from token to what is known of it.
pub(crate) fn of_prompt(model: &Model, logprobs: &[Option<Logprob>]) -> Result<Value> {
    let entry = |logprob: &Logprob| {
        let own = (logprob.token, finite(logprob.logprob));
        let others = logprob.top.iter().copied().filter(|(token, _)| *token != logprob.token);
        let entries = std::iter::once(own).chain(others).map(|(token, value)| {
            Ok((token.to_string(), json!({ "logprob": value, "decoded_token": text(model, token)?.0 })))
        });
        Ok(Value::Object(entries.collect::<Result<_>>()?))
    };
    let all: Result<Vec<Value>> =
        logprobs.iter().map(|logprob| logprob.as_ref().map_or(Ok(Value::Null), entry)).collect();
    Ok(Value::Array(all?))
}

#[cfg(test)]
mod tests {
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    #[test]
    fn parts_of_a_character_have_names_of_their_own() {
        let lists = Host::new().model(ScriptedModel::new()).run(async {
            let model = Model::open_default().unwrap();
            let top = vec![(0xe2, -0.5), (0xe3, -1.0), (u32::from(b'a'), -2.0)];
            let logprob = Logprob { token: 0x80, logprob: Some(-3.0), top };
            let mut lists = Lists::default();
            lists.add(&model, 0x80, Some(&logprob)).unwrap();
            lists.take()
        });
        assert_eq!(lists["tokens"], json!(["bytes:\\x80"]));
        let expected = json!({ "bytes:\\x80": -3.0, "bytes:\\xe2": -0.5, "bytes:\\xe3": -1.0, "a": -2.0 });
        assert_eq!(lists["top_logprobs"][0], expected);
    }
}
