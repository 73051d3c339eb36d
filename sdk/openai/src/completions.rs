//! `/v1/completions`: the continuation of a text.

use std::time::{SystemTime, UNIX_EPOCH};

use inferlet::futures::future::try_join_all;
use inferlet::http::Response;
use inferlet::{Context, Usage, Value, json};

use crate::generation::{CHOICES, Served, Settings, TOP_LOGPROBS, as_vllm, open_model};
use crate::logprobs::{self, Lists};
use crate::prompts::prompts;
use crate::{ApiError, Events, Fields, OutputFormat, Result, json as response, usage};

/// Tokens of an answer, where a request says nothing.
const MAX_TOKENS: usize = 16;

/// A request that was read.
pub struct CompletionRequest {
    id: String,
    created: u64,
    served: Served,
    prompts: Vec<Vec<u32>>,
    settings: Settings,
    format: Option<OutputFormat>,
    n: usize,
    best_of: usize,
    echo: bool,
    logprobs: bool,
    prompt_logprobs: Option<u32>,
    streaming: Streaming,
}

/// An answer to one of the prompts.
struct Choice {
    text: String,
    finish_reason: &'static str,
    logprobs: Value,
    prompt_logprobs: Value,
    /// Tokens of the prompt that were not computed.
    cached: usize,
    generated: usize,
    /// Sum of the log-probabilities of its tokens, for `best_of`.
    score: f32,
}

impl CompletionRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// With the parameter that is wrong or not supported.
    pub async fn read(mut fields: Fields) -> Result<CompletionRequest> {
        let served = open_model(&mut fields).await?;
        let prompts = prompts(&mut fields, "prompt", &served.model)?;
        let mut settings = Settings::read(&mut fields, &served.model, "stop")?;
        settings.max_tokens = Some(fields.get("max_tokens")?.unwrap_or(MAX_TOKENS));
        settings.check()?;
        let logprobs = fields.number("logprobs", 0..=TOP_LOGPROBS)?;
        settings.top_logprobs = logprobs;
        let streaming = Streaming::read(&mut fields)?;
        let n = fields.number("n", CHOICES)?.unwrap_or(1);
        let best_of = fields.number("best_of", CHOICES)?.unwrap_or(n);
        if best_of < n {
            return Err(ApiError::invalid("best_of", format!("{best_of} is less than `n`, which is {n}")));
        }
        if streaming.is_on && best_of > n {
            return Err(ApiError::invalid(
                "best_of",
                "the best of several is not known while they are streamed",
            ));
        }
        let prompt_logprobs = fields.number("prompt_logprobs", 0..=TOP_LOGPROBS)?;
        if streaming.is_on && prompt_logprobs.is_some() {
            return Err(ApiError::invalid("prompt_logprobs", "an answer that is streamed has none"));
        }
        let request = CompletionRequest {
            id: format!("cmpl-{:016x}", random()),
            created: now(),
            format: OutputFormat::read(&mut fields)?,
            echo: fields.get("echo")?.unwrap_or(false),
            prompt_logprobs,
            logprobs: logprobs.is_some(),
            served,
            prompts,
            settings,
            n,
            best_of,
            streaming,
        };
        fields.only("suffix", &[json!("")])?;
        fields.only("add_special_tokens", &[json!(true)])?;
        as_vllm(&mut fields)?;
        fields.ignore(&["user"]);
        fields.finish()?;
        Ok(request)
    }

    /// Answers it.
    ///
    /// # Errors
    /// As for a generation.
    pub async fn answer(self) -> Result<Response> {
        if self.streaming.is_on {
            return Ok(Events::response(async move |events| self.stream(events).await));
        }
        let of_prompts = self.prompts.iter().enumerate().map(|(at, _)| self.choices(at, None));
        let of_prompts = try_join_all(of_prompts).await?;
        let usage = self.usage(&of_prompts);
        let mut choices = Vec::new();
        for mut of_prompt in of_prompts {
            of_prompt.sort_by(|a, b| b.score.total_cmp(&a.score));
            for choice in of_prompt.into_iter().take(self.n) {
                let mut shown = self.shown(choices.len(), &choice.text, &choice.logprobs);
                shown["finish_reason"] = json!(choice.finish_reason);
                if self.prompt_logprobs.is_some() {
                    shown["prompt_logprobs"] = choice.prompt_logprobs;
                }
                choices.push(shown);
            }
        }
        let mut answer = self.answer_with(Value::Array(choices));
        answer["usage"] = usage;
        Ok(response(&answer))
    }

    async fn stream(&self, events: &Events) -> Result<()> {
        let of_prompts = self.prompts.iter().enumerate().map(|(at, _)| self.choices(at, Some(events)));
        let of_prompts = try_join_all(of_prompts).await?;
        if self.streaming.ends_with_usage {
            let mut last = self.answer_with(json!([]));
            last["usage"] = self.usage(&of_prompts);
            events.send(&last).await?;
        }
        Ok(())
    }

    fn usage(&self, of_prompts: &[Vec<Choice>]) -> Value {
        let prompt = self.prompts.iter().map(Vec::len).sum();
        let cached =
            of_prompts.iter().filter_map(|choices| choices.first()).map(|choice| choice.cached).sum();
        let generated = of_prompts.iter().flatten().map(|choice| choice.generated).sum();
        usage(prompt, cached, generated, 0)
    }

    fn answer_with(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.served.name,
            "choices": choices,
        })
    }

    /// An event with a piece of one choice, which has cost so much.
    fn piece(&self, shown: Value, prompt: usize, cost: Usage) -> Value {
        let mut piece = self.answer_with(json!([shown]));
        if self.streaming.has_usage_in_each {
            piece["usage"] = usage(self.prompts[prompt].len(), cost.prompt_cached, cost.generated, 0);
        }
        piece
    }

    fn shown(&self, index: usize, text: &str, logprobs: &Value) -> Value {
        json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": null })
    }

    /// Alternatives to each token of the prompt, if its log-probabilities are asked for.
    fn prompt_top(&self) -> Option<u32> {
        self.prompt_logprobs.or(self.settings.top_logprobs.filter(|_| self.echo))
    }

    /// The answers to one prompt: as many as may be the best.
    async fn choices(&self, prompt: usize, events: Option<&Events>) -> Result<Vec<Choice>> {
        let mut context = Context::new(&self.served.model)?;
        context.set_adapter(self.served.adapter.clone()).append_tokens(&self.prompts[prompt]);
        let mut contexts = Vec::new();
        if self.best_of > 1 {
            // Log-probabilities of the prompt come with its pass, so each answer has one.
            if self.prompt_top().is_none() {
                context.prefill_but_last().await?;
            }
            contexts = (1..self.best_of).map(|_| context.fork()).collect::<inferlet::Result<Vec<_>>>()?;
        }
        let cached_before = context.work().cached() as usize;
        contexts.insert(0, context);
        let choices =
            contexts.iter_mut().enumerate().map(|(at, context)| self.choice(context, prompt, at, events));
        let mut choices = try_join_all(choices).await?;
        if self.best_of > 1 {
            // The prompt of several was computed before them, once.
            choices.iter_mut().for_each(|choice| choice.cached = cached_before);
        }
        Ok(choices)
    }

    async fn choice(
        &self,
        context: &mut Context,
        prompt: usize,
        at: usize,
        events: Option<&Events>,
    ) -> Result<Choice> {
        let constraint = match &self.format {
            Some(format) => Some(format.constraint(&self.served.model).await?),
            None => None,
        };
        let mut generation = self.settings.apply(context.generate(self.settings.sampling(at)));
        if let Some(constraint) = &constraint {
            generation = generation.constrain(constraint);
        }
        if let Some(top) = self.prompt_top() {
            generation = generation.prompt_logprobs(top);
        }
        let index = prompt * self.n + at;
        let mut lists = Lists::default();
        let mut is_first = true;
        while let Some(item) = generation.next().await? {
            let mut text = String::new();
            if std::mem::take(&mut is_first) && self.echo {
                text = self.served.model.detokenize(&self.prompts[prompt])?;
                self.add_prompt(prompt, generation.logprobs_of_prompt(), &mut lists)?;
            }
            for logprob in item.logprobs.iter().filter(|_| self.logprobs) {
                lists.add(&self.served.model, logprob.token, Some(logprob))?;
            }
            if let Some(events) = events {
                text.push_str(&item.text);
                let logprobs = if self.logprobs { lists.take() } else { Value::Null };
                let shown = self.shown(index, &text, &logprobs);
                events.send(&self.piece(shown, prompt, generation.usage())).await?;
            }
        }
        let mut text = String::new();
        if self.echo {
            text = self.served.model.detokenize(&self.prompts[prompt])?;
            if is_first {
                self.add_prompt(prompt, generation.logprobs_of_prompt(), &mut lists)?;
            }
        }
        text.push_str(generation.text());
        let prompt_logprobs = logprobs::of_prompt(&self.served.model, generation.logprobs_of_prompt())?;
        let finish_reason = generation.finish_reason().map_or("stop", |reason| reason.openai());
        if let Some(events) = events {
            let shown_text = if is_first && self.echo { text.as_str() } else { "" };
            let logprobs = if self.logprobs { lists.take() } else { Value::Null };
            let mut shown = self.shown(index, shown_text, &logprobs);
            shown["finish_reason"] = json!(finish_reason);
            events.send(&self.piece(shown, prompt, generation.usage())).await?;
        }
        Ok(Choice {
            text,
            finish_reason,
            logprobs: if self.logprobs { lists.take() } else { Value::Null },
            prompt_logprobs,
            cached: generation.usage().prompt_cached,
            generated: generation.usage().generated,
            score: generation.logprobs().iter().filter_map(|logprob| logprob.logprob).sum(),
        })
    }

    /// The prompt's own tokens come first in the lists of an answer that repeats it.
    fn add_prompt(
        &self,
        prompt: usize,
        known: &[Option<inferlet::Logprob>],
        lists: &mut Lists,
    ) -> Result<()> {
        if !self.logprobs {
            return Ok(());
        }
        for (at, token) in self.prompts[prompt].iter().enumerate() {
            lists.add(&self.served.model, *token, known.get(at).and_then(Option::as_ref))?;
        }
        Ok(())
    }
}

/// `stream` and `stream_options`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streaming {
    pub(crate) is_on: bool,
    /// Whether the last event has the usage.
    pub(crate) ends_with_usage: bool,
    /// Whether each event has that of its choice so far, `continuous_usage_stats` as vLLM has it.
    pub(crate) has_usage_in_each: bool,
}

impl Streaming {
    pub(crate) fn read(fields: &mut Fields) -> Result<Streaming> {
        let mut streaming =
            Streaming { is_on: fields.get("stream")?.unwrap_or(false), ..Streaming::default() };
        let name = fields.name("stream_options");
        let Some(options) = fields.value("stream_options") else { return Ok(streaming) };
        if !streaming.is_on {
            return Err(ApiError::invalid(&name, "only an answer that is streamed has these"));
        }
        let mut options = Fields::of_value(options, &name)?;
        streaming.ends_with_usage = options.get("include_usage")?.unwrap_or(false);
        let in_each = options.get("continuous_usage_stats")?.unwrap_or(false);
        // Without the one the other has no effect, as in vLLM.
        streaming.has_usage_in_each = streaming.ends_with_usage && in_each;
        options.only("include_obfuscation", &[json!(false)])?;
        options.finish()?;
        Ok(streaming)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A number that nobody else has.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
