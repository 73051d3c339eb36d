//! What requests of all kinds say about how tokens are drawn.

use std::ops::RangeInclusive;
use std::rc::Rc;

use inferlet::bindings::pie::inferlet::adapter::{self, Adapter, Source};
use inferlet::http::StatusCode;
use inferlet::serde_json::Map;
use inferlet::{Generation, Model, SamplingParams, Value, json};

use crate::fields::kind;
use crate::{ApiError, Fields, Result};

/// Stop texts of a request.
const STOPS: usize = 64;
/// Alternatives to each token that a request may ask for.
pub(crate) const TOP_LOGPROBS: u32 = 20;
/// Answers to one prompt.
pub(crate) const CHOICES: RangeInclusive<usize> = 1..=128;

/// What a request names as its model.
pub struct Served {
    /// The name, as answers repeat it.
    pub name: String,
    /// The model; the server's default one if no model has the name.
    pub model: Model,
    /// The adapter, if one has the name.
    pub adapter: Option<Rc<Adapter>>,
}

/// The model that a request names, or the server's default one, or that with an adapter of the name.
///
/// # Errors
/// 404 when there is neither.
pub async fn open_model(fields: &mut Fields) -> Result<Served> {
    let Some(name) = fields.get::<String>("model")? else {
        let model = Model::open_default()?;
        return Ok(Served { name: model.facts().name.clone(), model, adapter: None });
    };
    if Model::names().contains(&name) {
        return Ok(Served { model: Model::open(&name)?, name, adapter: None });
    }
    if adapter::available()?.contains(&name) {
        let model = Model::open_default()?;
        let adapter = Adapter::load(model.handle(), Source::Name(name.clone())).await?;
        return Ok(Served { name, model, adapter: Some(Rc::new(adapter)) });
    }
    let known = Model::names().join(", ");
    let message = format!("there is no model `{name}`; the server has: {known}");
    Err(ApiError::new(StatusCode::NOT_FOUND, message).about("model").with_code("model_not_found"))
}

/// Reads what requests for vLLM say in full though it is the default there, and holds here in any case.
///
/// # Errors
/// 400 when it is to be another way.
pub(crate) fn as_vllm(fields: &mut Fields) -> Result<()> {
    fields.only("use_beam_search", &[json!(false)])?;
    fields.only("length_penalty", &[json!(1.0), json!(1)])?;
    fields.only("skip_special_tokens", &[json!(true)])?;
    fields.only("spaces_between_special_tokens", &[json!(true)])?;
    fields.only("include_stop_str_in_output", &[json!(false)])?;
    fields.only("return_token_ids", &[json!(false)])?;
    fields.only("return_tokens_as_token_ids", &[json!(false)])
}

/// How the tokens of an answer are drawn, and what ends it.
#[derive(Clone, Debug)]
pub struct Settings {
    sampling: SamplingParams,
    /// At most this many tokens; no limit but the context for none.
    pub max_tokens: Option<usize>,
    min_tokens: usize,
    stops: Vec<String>,
    stop_tokens: Vec<u32>,
    ignores_stop_tokens: bool,
    /// Alternatives to each token, if log-probabilities are asked for.
    pub top_logprobs: Option<u32>,
    /// Tokens of an answer's thoughts at most, where the model marks them.
    pub thinking_tokens: Option<usize>,
}

impl Settings {
    /// Reads all of them but the number of tokens and log-probabilities, which have other names and defaults in each
    /// request. `stop` names the parameter with the stop texts.
    ///
    /// # Errors
    /// 400 with the parameter that is wrong.
    pub fn read(fields: &mut Fields, model: &Model, stop: &str) -> Result<Settings> {
        let vocabulary = model.facts().vocabulary_size;
        let mut sampling =
            SamplingParams::temperature(fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0));
        if let Some(top_p) = fields.number("top_p", 0.0..=1.0)? {
            // 0 is as little as there can be: the most probable token.
            sampling = sampling.top_p(f32::max(top_p, f32::MIN_POSITIVE));
        }
        if let Some(top_k) = fields.number("top_k", -1..=i64::from(u32::MAX))? {
            // -1 is off, as for vLLM.
            sampling = sampling.top_k(u32::try_from(top_k).unwrap_or(0));
        }
        if let Some(min_p) = fields.number("min_p", 0.0..=1.0)? {
            sampling = sampling.min_p(min_p);
        }
        if let Some(penalty) = fields.number("presence_penalty", -2.0..=2.0)? {
            sampling = sampling.presence_penalty(penalty);
        }
        if let Some(penalty) = fields.number("frequency_penalty", -2.0..=2.0)? {
            sampling = sampling.frequency_penalty(penalty);
        }
        if let Some(penalty) = fields.number("repetition_penalty", 0.01..=2.0)? {
            sampling = sampling.repetition_penalty(penalty);
        }
        if let Some(bias) = logit_bias(fields, vocabulary)? {
            sampling = sampling.logit_bias(bias);
        }
        if let Some(allowed) = tokens(fields, "allowed_token_ids", vocabulary)? {
            if allowed.is_empty() {
                return Err(ApiError::invalid(&fields.name("allowed_token_ids"), "allows no token"));
            }
            sampling = sampling.allowed_tokens(allowed);
        }
        if let Some(seed) = fields.get::<i64>("seed")? {
            sampling = sampling.seed(seed.cast_unsigned());
        }
        Ok(Settings {
            sampling,
            max_tokens: None,
            min_tokens: fields.get("min_tokens")?.unwrap_or(0),
            stops: stops(fields, stop)?,
            stop_tokens: tokens(fields, "stop_token_ids", vocabulary)?.unwrap_or_default(),
            ignores_stop_tokens: fields.get("ignore_eos")?.unwrap_or(false),
            top_logprobs: None,
            thinking_tokens: None,
        })
    }

    /// Checks that an answer may have the tokens that it must have, once the most is known.
    ///
    /// # Errors
    /// 400 when it must have more.
    pub(crate) fn check(&self) -> Result<()> {
        match self.max_tokens.filter(|most| self.min_tokens > *most) {
            Some(most) => {
                let message =
                    format!("{} is more than the {most} tokens that an answer may have", self.min_tokens);
                Err(ApiError::invalid("min_tokens", message))
            }
            None => Ok(()),
        }
    }

    /// The sampling of the `index`th answer to one prompt: each has a seed of its own.
    pub fn sampling(&self, index: usize) -> SamplingParams {
        self.sampling.seed_after(index as u64)
    }

    /// These tokens end an answer, too.
    pub(crate) fn add_stop_tokens(&mut self, tokens: &[u32]) {
        self.stop_tokens.extend_from_slice(tokens);
    }

    /// A generation with these settings.
    pub fn apply<'a>(&self, generation: Generation<'a>) -> Generation<'a> {
        let mut generation =
            generation.max_tokens(self.max_tokens.unwrap_or(usize::MAX)).min_tokens(self.min_tokens);
        if self.ignores_stop_tokens {
            generation = generation.ignore_stop_tokens();
        }
        generation = generation.stop_tokens(&self.stop_tokens);
        for stop in &self.stops {
            generation = generation.stop(stop);
        }
        match self.top_logprobs {
            Some(top) => generation.top_logprobs(top),
            None => generation,
        }
    }
}

/// Stop texts: one or several.
fn stops(fields: &mut Fields, stop: &str) -> Result<Vec<String>> {
    let name = fields.name(stop);
    let texts = match fields.value(stop) {
        None => return Ok(Vec::new()),
        Some(Value::Array(texts)) => texts,
        Some(text) => vec![text],
    };
    if texts.len() > STOPS {
        return Err(ApiError::invalid(&name, format!("{} texts, at most {STOPS} may be given", texts.len())));
    }
    let text = |value| match value {
        Value::String(text) if text.is_empty() => Err(ApiError::invalid(&name, "a text is empty")),
        Value::String(text) => Ok(text),
        other => Err(ApiError::invalid(&name, format!("expected texts, found {}", kind(&other)))),
    };
    texts.into_iter().map(text).collect()
}

/// A list of tokens.
pub(crate) fn tokens(fields: &mut Fields, field: &str, vocabulary: u32) -> Result<Option<Vec<u32>>> {
    let tokens = fields.get::<Vec<u32>>(field)?;
    match tokens.iter().flatten().find(|token| **token >= vocabulary) {
        Some(token) => Err(ApiError::invalid(
            &fields.name(field),
            format!("token {token} is not below {vocabulary}, the size of the vocabulary"),
        )),
        None => Ok(tokens),
    }
}

/// `logit_bias`: an object from tokens to numbers.
fn logit_bias(fields: &mut Fields, vocabulary: u32) -> Result<Option<Vec<(u32, f32)>>> {
    let Some(bias) = fields.get::<Map<String, Value>>("logit_bias")? else { return Ok(None) };
    let wrong = |message: String| ApiError::invalid(&fields.name("logit_bias"), message);
    let entry = |(token, bias): (String, Value)| {
        let id = token.parse::<u32>().ok().filter(|id| *id < vocabulary);
        let id = id.ok_or_else(|| wrong(format!("`{token}` is no token below {vocabulary}")))?;
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let bias =
            bias.ok_or_else(|| wrong(format!("the bias of token {token} is no number from -100 to 100")))?;
        Ok((id, bias as f32))
    };
    bias.into_iter().map(entry).collect::<Result<_>>().map(Some)
}
