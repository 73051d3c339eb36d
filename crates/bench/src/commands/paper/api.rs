//! The server that a client-side application asks: completions over the OpenAI API, with the state as text.
//!
//! Servers differ in how a form is asked for, so the kind of the server is found out first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::counters::Counters;
use super::markup::{Markup, Message};
use crate::client::api::Api as Spoken;
use crate::client::{ClientOptions, fetch};

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The kinds of servers, by how they take a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// llama.cpp's server: a grammar in its own notation.
    LlamaCpp,
    /// vLLM, and pie, which takes its parameters.
    Vllm,
}

/// A form that an answer must have.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// One of these texts.
    Choice(&'a [&'a str]),
    /// A text that a regular expression matches, with the same as a grammar of llama.cpp.
    Regex {
        /// The expression.
        regex: &'a str,
        /// The grammar.
        gbnf: &'a str,
    },
    /// Any JSON object.
    Json,
}

/// JSON as a grammar of llama.cpp.
const JSON_GBNF: &str = r#"root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( string ws ":" ws value ws ( "," ws string ws ":" ws value ws )* )? "}"
array ::= "[" ws ( value ws ( "," ws value ws )* )? "]"
string ::= "\"" ( [^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F]{4} ) )* "\""
number ::= "-"? ( "0" | [1-9] [0-9]* ) ( "." [0-9]+ )? ( [eE] [-+]? [0-9]+ )?
ws ::= [ \t\n]*"#;

impl Form<'_> {
    /// The members of the body that ask for it.
    fn members(self, dialect: Dialect) -> (&'static str, Value) {
        match (dialect, self) {
            (Dialect::LlamaCpp, Form::Choice(choices)) => {
                let quoted: Vec<String> = choices.iter().map(|choice| json!(choice).to_string()).collect();
                ("grammar", json!(format!("root ::= {}", quoted.join(" | "))))
            }
            (Dialect::LlamaCpp, Form::Regex { gbnf, .. }) => ("grammar", json!(gbnf)),
            (Dialect::LlamaCpp, Form::Json) => ("grammar", json!(JSON_GBNF)),
            (Dialect::Vllm, Form::Choice(choices)) => ("structured_outputs", json!({ "choice": choices })),
            (Dialect::Vllm, Form::Regex { regex, .. }) => ("structured_outputs", json!({ "regex": regex })),
            (Dialect::Vllm, Form::Json) => ("response_format", json!({ "type": "json_object" })),
        }
    }
}

/// A completion that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    prompt: String,
    max_tokens: usize,
    ignore_eos: bool,
    temperature: f64,
    seed: Option<u64>,
    stop: Option<&'a str>,
    form: Option<Form<'a>>,
}

impl<'a> Ask<'a> {
    /// Greedy, of so many tokens at most.
    pub fn new(prompt: String, max_tokens: usize) -> Self {
        Self { prompt, max_tokens, ..Self::default() }
    }

    /// Of just so many tokens.
    pub fn ignore_eos(mut self) -> Self {
        self.ignore_eos = true;
        self
    }

    /// Drawn at a temperature.
    pub fn drawn(mut self, temperature: f64, seed: u64) -> Self {
        (self.temperature, self.seed) = (temperature, Some(seed));
        self
    }

    /// Up to this text.
    pub fn stop(mut self, text: &'a str) -> Self {
        self.stop = Some(text);
        self
    }

    /// In this form.
    pub fn form(mut self, form: Form<'a>) -> Self {
        self.form = Some(form);
        self
    }
}

/// What a server was asked for so far, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
}

/// A server, and what it was asked for.
#[derive(Debug)]
pub struct Api {
    options: ClientOptions,
    model: String,
    dialect: Dialect,
    markup: Markup,
    requests: AtomicU64,
    prompt_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

impl Api {
    /// Finds out what kind of server it is, its model and the markup of its conversations.
    ///
    /// # Errors
    /// When it does not answer, or has no `/apply-template`.
    pub fn connect(url: &str, api_key: Option<String>) -> anyhow::Result<Self> {
        let mut options = ClientOptions::new(url.parse()?, Spoken::COMPLETIONS);
        options.api_key = api_key;
        let models = get(&options, "/v1/models").with_context(|| format!("the server at {url}"))?;
        let model = models["data"][0]["id"].as_str().context("`/v1/models` lists no model")?.to_string();
        let dialect = match get(&options, "/props") {
            Ok(_) => Dialect::LlamaCpp,
            Err(_) => Dialect::Vllm,
        };
        let markup = Markup::learn(|messages| {
            let answer = post(&options, "/apply-template", &json!({ "messages": messages }))?;
            Ok(answer["prompt"].as_str().context("`/apply-template` gives no `prompt`")?.to_string())
        });
        let markup =
            markup.context("a baseline needs `/apply-template`, as llama.cpp's server and pie have it")?;
        let [requests, prompt_tokens, output_tokens] = Default::default();
        Ok(Self { options, model, dialect, markup, requests, prompt_tokens, output_tokens })
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The kind of the server.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The prompt of a conversation.
    pub fn prompt(&self, messages: &[Message]) -> String {
        self.markup.prompt(messages)
    }

    /// What was asked for so far.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            prompt_tokens: read(&self.prompt_tokens),
            output_tokens: read(&self.output_tokens),
        }
    }

    /// What the server has counted of itself so far; `None` where it does not say.
    pub fn counters(&self) -> Option<Counters> {
        Counters::fetch(&self.options).ok().flatten()
    }

    /// The text of a completion.
    ///
    /// # Errors
    /// What the server says, or that its answer is not one.
    pub fn complete(&self, ask: Ask<'_>) -> anyhow::Result<String> {
        let mut body = json!({
            "model": self.model, "prompt": ask.prompt, "max_tokens": ask.max_tokens,
            "temperature": ask.temperature,
        });
        if ask.ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        if let Some(seed) = ask.seed {
            body["seed"] = json!(seed);
        }
        if let Some(stop) = ask.stop {
            body["stop"] = json!([stop]);
        }
        if let Some(form) = ask.form {
            let (name, value) = form.members(self.dialect);
            body[name] = value;
        }
        let answer = self.ask(&body)?;
        let text = answer["choices"][0]["text"].as_str();
        Ok(text.context("the answer has no text, expected `choices[0].text`")?.to_string())
    }

    /// The likeliest next tokens as texts, with their log-probabilities. Where the likeliest ends the answer, a server may
    /// tell of none: then that is all that is known, an empty text that nothing speaks against.
    ///
    /// # Errors
    /// As for [`Api::complete`].
    pub fn next_tokens(&self, prompt: &str, count: usize) -> anyhow::Result<Vec<(String, f64)>> {
        let body = json!({
            "model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": count,
        });
        let answer = self.ask(&body)?;
        let found = &answer["choices"][0]["logprobs"];
        let tokens: Vec<(String, f64)> = if let Some(list) = found["content"][0]["top_logprobs"].as_array() {
            let of = |one: &Value| Some((one["token"].as_str()?.to_string(), one["logprob"].as_f64()?));
            list.iter().filter_map(of).collect()
        } else if let Some(list) = found["top_logprobs"][0].as_object() {
            list.iter().filter_map(|(token, value)| Some((token.clone(), value.as_f64()?))).collect()
        } else if found.is_object() && answer["choices"][0]["finish_reason"] == "stop" {
            vec![(String::new(), 0.0)]
        } else {
            bail!("the answer has no log-probabilities, expected `choices[0].logprobs`");
        };
        Ok(tokens)
    }

    fn ask(&self, body: &Value) -> anyhow::Result<Value> {
        let answer = post(&self.options, "/v1/completions", body)?;
        let count = |name: &str| {
            let count = answer["usage"][name].as_u64();
            count.with_context(|| format!("the answer does not count its tokens, expected `usage.{name}`"))
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.prompt_tokens.fetch_add(count("prompt_tokens")?, Ordering::Relaxed);
        self.output_tokens.fetch_add(count("completion_tokens")?, Ordering::Relaxed);
        Ok(answer)
    }
}

/// A JSON document of a server.
///
/// # Errors
/// The failure, with what the server said.
pub fn get(options: &ClientOptions, route: &str) -> anyhow::Result<Value> {
    read(options, "GET", route, None)
}

/// The answer to a JSON document.
///
/// # Errors
/// The failure, with what the server said.
pub fn post(options: &ClientOptions, route: &str, body: &Value) -> anyhow::Result<Value> {
    read(options, "POST", route, Some(body))
}

fn read(options: &ClientOptions, method: &str, route: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let fetched = fetch(options, method, route, body, TIMEOUT);
    let fetched = fetched.map_err(|failure| anyhow::anyhow!("{method} {route}: {}", failure.message))?;
    let text = String::from_utf8_lossy(&fetched.body);
    if fetched.status != 200 {
        let said: String = text.chars().take(500).collect();
        bail!("{method} {route}: status {}: {said}", fetched.status);
    }
    serde_json::from_str(&text).with_context(|| format!("{method} {route}: found no JSON"))
}
