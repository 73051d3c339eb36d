//! `/infill`: what comes between two texts, as llama.cpp's server has it, by models that were trained to fill in.
//!
//! ```text
//! [repo]myproject↵ [file]NAME↵TEXT … [file]filename↵     where the model has tokens for them
//! [prefix]input_prefix prompt[suffix]input_suffix[middle]     what follows is the answer
//! ```
//!
//! That is `format_prompt_infill` of llama.cpp's `tools/server/server-common.cpp` (named `format_infill` in earlier
//! versions), and the names of the tokens are those that `src/llama-vocab.cpp` looks for. A comment there has `prompt`
//! behind the middle, as the files have it; the code appends it to the prefix. Three things differ. A prompt that is too
//! long is refused, and not cut to a batch. The token that begins a text comes first of all, as models were trained,
//! and not behind the further texts. And `prompt` cannot write control tokens.

use inferlet::http::{Response, StatusCode};
use inferlet::{FinishReason, Model, Usage, Value, json};

use crate::fields::kind;
use crate::generate::{Continuation, Written};
use crate::generation::{Settings, open_model};
use crate::prompts::check_length;
use crate::{ApiError, Events, Fields, Result, json as response};

/// Further texts of a request.
const EXTRA: usize = 1024;
/// What begins a further text for a model that has no token for it.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// The names of a family's tokens.
struct Family {
    prefix: &'static str,
    suffix: &'static str,
    middle: &'static str,
    /// What comes before the name of a repository: the first that the model has.
    repository: &'static [&'static str],
    /// What comes before the name of a file.
    file: &'static str,
    /// What else ends an answer.
    ends: &'static [&'static str],
}

const FAMILIES: [Family; 7] = [
    // Qwen2.5-Coder, CodeGemma.
    Family {
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        middle: "<|fim_middle|>",
        repository: &["<|fim_repo|>", "<|repo_name|>"],
        file: "<|file_sep|>",
        ends: &["<|fim_pad|>", "<|endoftext|>", "<|cursor|>", "<|file_separator|>"],
    },
    // StarCoder, Granite. llama.cpp does not know the two of StarCoder2, which was trained with them.
    Family {
        prefix: "<fim_prefix>",
        suffix: "<fim_suffix>",
        middle: "<fim_middle>",
        repository: &["<reponame>", "<repo_name>"],
        file: "<file_sep>",
        ends: &["<fim_pad>", "<|endoftext|>"],
    },
    // SantaCoder.
    Family {
        prefix: "<fim-prefix>",
        suffix: "<fim-suffix>",
        middle: "<fim-middle>",
        repository: &["<fim-repo>"],
        file: "",
        ends: &["<fim-pad>", "<|endoftext|>"],
    },
    // DeepSeek-Coder: the hole is where the middle is missing, before the suffix.
    Family {
        prefix: "<｜fim▁begin｜>",
        suffix: "<｜fim▁hole｜>",
        middle: "<｜fim▁end｜>",
        repository: &[],
        file: "",
        ends: &["<|EOT|>", "<｜end▁of▁sentence｜>"],
    },
    // CodeLlama.
    Family {
        prefix: "▁<PRE>",
        suffix: "▁<SUF>",
        middle: "▁<MID>",
        repository: &[],
        file: "",
        ends: &["▁<EOT>"],
    },
    // The same as some files name them.
    Family {
        prefix: "<PRE>",
        suffix: "<SUF>",
        middle: "<MID>",
        repository: &["<REPO>"],
        file: "",
        ends: &["<PAD>", "<EOT>"],
    },
    // GLM-4.
    Family {
        prefix: "<|code_prefix|>",
        suffix: "<|code_suffix|>",
        middle: "<|code_middle|>",
        repository: &[],
        file: "",
        ends: &["<|endoftext|>"],
    },
];

/// The tokens of a model.
struct Tokens {
    prefix: u32,
    suffix: u32,
    middle: u32,
    repository: Option<u32>,
    file: Option<u32>,
    ends: Vec<u32>,
}

/// The token that a text is, if the vocabulary has it as one of its own.
fn token(model: &Model, name: &str) -> Result<Option<u32>> {
    if name.is_empty() {
        return Ok(None);
    }
    Ok(match model.tokenize_special(name)?[..] {
        [token] => Some(token),
        _ => None,
    })
}

impl Tokens {
    /// Those of the first family that the model has all of.
    fn of(model: &Model) -> Result<Tokens> {
        for family in &FAMILIES {
            let needed =
                (token(model, family.prefix)?, token(model, family.suffix)?, token(model, family.middle)?);
            let (Some(prefix), Some(suffix), Some(middle)) = needed else { continue };
            let mut repository = None;
            for name in family.repository.iter().rev() {
                repository = token(model, name)?.or(repository);
            }
            let file = token(model, family.file)?;
            let mut ends: Vec<u32> =
                [prefix, suffix, middle].into_iter().chain(repository).chain(file).collect();
            for name in family.ends {
                ends.extend(token(model, name)?);
            }
            return Ok(Tokens { prefix, suffix, middle, repository, file, ends });
        }
        let message = format!(
            "`{}` was not trained to fill in: its vocabulary has no tokens such as `{}`",
            model.facts().name,
            FAMILIES[0].prefix
        );
        Err(ApiError::new(StatusCode::BAD_REQUEST, message).about("model").with_code("unsupported_model"))
    }
}

/// Answers a request.
///
/// # Errors
/// With the parameter that is wrong or not supported, and as for a generation.
pub async fn infill(mut fields: Fields) -> Result<Response> {
    let served = open_model(&mut fields).await?;
    let tokens = Tokens::of(&served.model)?;
    let prompt = prompt(&mut fields, &served.model, &tokens)?;
    // What llama.cpp's server draws by.
    let defaults =
        [("temperature", json!(0.8)), ("top_k", json!(40)), ("top_p", json!(0.95)), ("min_p", json!(0.05))];
    for (field, value) in defaults {
        fields.set_default(field, value);
    }
    // A seed of -1 is none.
    if fields.peek("seed") == json!(-1) {
        fields.ignore(&["seed"]);
    }
    let mut settings = Settings::read(&mut fields, &served.model, "stop")?;
    settings.add_stop_tokens(&tokens.ends);
    let most = fields.number("n_predict", -1..=i64::from(u32::MAX))?;
    settings.max_tokens = most.and_then(|most| usize::try_from(most).ok());
    let stream = fields.get("stream")?.unwrap_or(false);
    fields.ignore(&[
        "cache_prompt",
        "id_slot",
        "n_indent",
        "response_fields",
        "samplers",
        "t_max_predict_ms",
        "t_max_prompt_ms",
    ]);
    fields.finish()?;

    let continuation = Continuation { served, prompt, settings, format: None };
    if stream {
        return Ok(Events::open(async move |events| {
            let more = async |text: &str| events.send(&json!({ "content": text, "stop": false })).await;
            match continuation.write(more).await {
                Ok(written) => events.send(&shown(&continuation, &written, "")).await,
                Err(error) => events.send(&error.body()).await,
            }
        }));
    }
    let written = continuation.write(async |_| Ok::<(), ApiError>(())).await?;
    Ok(response(&shown(&continuation, &written, &written.text)))
}

/// Reads the texts around the gap, and those of other files.
fn prompt(fields: &mut Fields, model: &Model, special: &Tokens) -> Result<Vec<u32>> {
    let mut text = |field: &str| -> Result<Vec<u32>> {
        let text: String = fields.get(field)?.unwrap_or_default();
        model.tokenize(&text).map_err(|error| ApiError::of_prompt(error, &fields.name(field)))
    };
    let (prefix, suffix, begun) = (text("input_prefix")?, text("input_suffix")?, text("prompt")?);
    let mut prompt: Vec<u32> = model.facts().bos.into_iter().collect();
    let param = fields.name("input_extra");
    let extra: Vec<Value> = fields.get("input_extra")?.unwrap_or_default();
    if extra.len() > EXTRA {
        return Err(ApiError::invalid(
            &param,
            format!("{} texts, at most {EXTRA} may be given", extra.len()),
        ));
    }
    if let Some(repository) = special.repository {
        prompt.push(repository);
        prompt.extend(model.tokenize("myproject\n")?);
    }
    for (at, value) in extra.into_iter().enumerate() {
        let (name, text) = extra_of(value, &format!("{param}[{at}]"))?;
        let tokens = |text: &str| {
            model.tokenize(text).map_err(|error| ApiError::of_prompt(error, &format!("{param}[{at}]")))
        };
        match special.file {
            Some(file) => {
                prompt.push(file);
                prompt.extend(tokens(&format!("{name}\n"))?);
            }
            None => prompt.extend(tokens(SNIPPET)?),
        }
        prompt.extend(tokens(&text)?);
        check_length(prompt.len(), &param, model)?;
    }
    if let Some(file) = special.file {
        prompt.push(file);
        prompt.extend(model.tokenize("filename\n")?);
    }
    prompt.push(special.prefix);
    prompt.extend(prefix);
    prompt.extend(begun);
    prompt.push(special.suffix);
    prompt.extend(suffix);
    prompt.push(special.middle);
    check_length(prompt.len(), &fields.name("input_prefix"), model)?;
    Ok(prompt)
}

/// The name and the text of another file.
fn extra_of(value: Value, param: &str) -> Result<(String, String)> {
    if !value.is_object() {
        let message = format!("expected an object with `text`, found {}", kind(&value));
        return Err(ApiError::invalid(param, message));
    }
    let mut extra = Fields::of_value(value, param)?;
    let name = extra.get("filename")?.unwrap_or_else(|| "tmp".to_string());
    let text = extra.required("text")?;
    extra.finish()?;
    Ok((name, text))
}

fn shown(continuation: &Continuation, written: &Written, text: &str) -> Value {
    let (kind, word) = match &written.finish_reason {
        FinishReason::MaxTokens | FinishReason::ContextLength => ("limit", ""),
        FinishReason::StopText(text) => ("word", text.as_str()),
        FinishReason::StopToken(_) | FinishReason::Constraint => ("eos", ""),
    };
    let Usage { prompt, prompt_cached, generated, .. } = written.usage;
    json!({
        "index": 0,
        "content": text,
        "model": continuation.served.name,
        "stop": true,
        "stop_type": kind,
        "stopping_word": word,
        "tokens_predicted": generated,
        "tokens_evaluated": prompt,
        "tokens_cached": prompt_cached,
        "truncated": false,
    })
}

#[cfg(test)]
mod tests {
    use inferlet::serde_json;
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    const QWEN: [&str; 5] =
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>"];

    fn send(model: ScriptedModel, body: Value) -> (u16, Value) {
        let Value::Object(body) = body else { panic!("{body} is no object") };
        Host::new().model(model).run(async {
            match infill(Fields::of_object(body)).await {
                Ok(response) => {
                    let text = response.into_body().text(usize::MAX).await.unwrap();
                    (200, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
                }
                Err(error) => (error.status().as_u16(), error.body()["error"].clone()),
            }
        })
    }

    #[test]
    fn each_family_is_asked_in_its_own_order() {
        for family in &FAMILIES {
            let Family { prefix, suffix, middle, .. } = family;
            let asked = format!("{prefix}beforemid{suffix}after{middle}");
            let model = ScriptedModel::new().words(&[prefix, suffix, middle]).says(&asked, "dle");
            let body = json!({ "input_prefix": "before", "input_suffix": "after", "prompt": "mid" });
            let (status, answer) = send(model, body);
            assert_eq!((status, &answer["content"]), (200, &json!("dle")), "{asked}: {answer}");
            let tokens = "before".len() + "after".len() + "mid".len() + 3;
            assert_eq!(answer["tokens_evaluated"], tokens, "the names are one token each");
            assert_eq!(answer["stop_type"], "eos");
        }
    }

    #[test]
    fn other_files_come_first_under_their_names() {
        let extra = json!([{ "filename": "a.rs", "text": "fn a() {}" }, { "text": "b" }]);
        let body = json!({ "input_extra": extra, "input_prefix": "x", "n_predict": 3, "stream": true });
        let asked = "<|repo_name|>myproject\n<|file_sep|>a.rs\nfn a() {}<|file_sep|>tmp\nb<|file_sep|>filename\n\
                     <|fim_prefix|>x<|fim_suffix|><|fim_middle|>";
        let (_, answer) = send(ScriptedModel::new().words(&QWEN).says(asked, "12345"), body.clone());
        let events: Vec<Value> = answer
            .as_str()
            .unwrap()
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(|event| serde_json::from_str(event).unwrap())
            .collect();
        let text: String = events.iter().filter_map(|event| event["content"].as_str()).collect();
        assert_eq!(text, "123");
        let last = events.last().unwrap();
        assert_eq!((&last["stop"], &last["stop_type"]), (&json!(true), &json!("limit")));

        // The names are there without other files as well, as models were trained.
        let asked =
            "<|repo_name|>myproject\n<|file_sep|>filename\n<|fim_prefix|>x<|fim_suffix|>y<|fim_middle|>";
        let model = ScriptedModel::new().words(&QWEN).says(asked, "z");
        let (_, answer) = send(model, json!({ "input_prefix": "x", "input_suffix": "y" }));
        assert_eq!(answer["content"], "z");

        let asked = "\n\n--- snippet ---\n\nfn a() {}\n\n--- snippet ---\n\nb<|fim_prefix|>x";
        let model = ScriptedModel::new().words(&QWEN[..3]).says(asked, "<|fim_suffix|><|fim_middle|>");
        let (_, answer) = send(model, json!({ "input_extra": extra, "input_prefix": "x" }));
        assert_eq!(answer["stop_type"], "eos", "a token of the markup ends the answer: {answer}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (status, error) = send(ScriptedModel::new(), json!({ "input_prefix": "a" }));
        assert_eq!((status, error["param"].as_str()), (400, Some("model")));
        assert!(
            error["message"].as_str().unwrap().contains("`scripted` was not trained to fill in"),
            "{error}"
        );
        for (body, param) in [
            (json!({ "input_prefix": 5 }), "input_prefix"),
            (json!({ "input_suffix": "a".repeat(5000) }), "input_prefix"),
            (json!({ "input_extra": ["a"] }), "input_extra[0]"),
            (json!({ "input_extra": [{ "filename": "a" }] }), "input_extra[0].text"),
            (json!({ "input_extra": [{ "text": "a".repeat(5000) }] }), "input_extra"),
            (json!({ "n_predict": -2 }), "n_predict"),
            (json!({ "mirostat": 1 }), "mirostat"),
        ] {
            let (status, error) = send(ScriptedModel::new().words(&QWEN), body.clone());
            assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{error}");
        }
    }
}
