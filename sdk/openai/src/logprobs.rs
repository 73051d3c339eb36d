//! Log-probabilities of tokens, as answers have them.

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
        let (name, bytes) = text(model, token)?;
        self.offsets.push(self.offset);
        // A token may have part of a character: it counts where it begins.
        self.offset += bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        self.tokens.push(name);
        self.logprobs.push(logprob.map(|logprob| finite(logprob.logprob)));
        self.top.push(match logprob {
            None => None,
            Some(logprob) => {
                // The token itself is among them, as in the OpenAI API, also where it is none of the most probable.
                let own = logprob.logprob.map(|value| (logprob.token, value));
                let known = logprob.top.iter().copied().chain(own);
                let top = known.map(|(token, value)| Ok((text(model, token)?.0, json!(finite(Some(value))))));
                Some(Value::Object(top.collect::<Result<_>>()?))
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
