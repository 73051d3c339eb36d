//! `/v1/generate`: a prompt in, a text out, for people with curl.

use inferlet::http::Response;
use inferlet::{Context, FinishReason, Usage, Value, json};

use crate::completions::Streaming;
use crate::generation::{Served, Settings, open_model};
use crate::prompts::prompt;
use crate::{ApiError, Events, Fields, OutputFormat, Result, json as response, usage};

/// Tokens of an answer, where a request says nothing.
const MAX_TOKENS: usize = 256;

/// A prompt, and how it goes on.
pub(crate) struct Continuation {
    pub(crate) served: Served,
    pub(crate) prompt: Vec<u32>,
    pub(crate) settings: Settings,
    pub(crate) format: Option<OutputFormat>,
}

/// What was written.
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) finish_reason: FinishReason,
    pub(crate) usage: Usage,
}

impl Continuation {
    /// Writes it. `more` is told of each piece.
    pub(crate) async fn write(&self, mut more: impl AsyncFnMut(&str) -> Result<()>) -> Result<Written> {
        let constraint = match &self.format {
            Some(format) => Some(format.constraint(&self.served.model).await?),
            None => None,
        };
        let mut context = Context::new(&self.served.model)?;
        context.set_adapter(self.served.adapter.clone()).append_tokens(&self.prompt);
        let mut generation = self.settings.apply(context.generate(self.settings.sampling(0)));
        if let Some(constraint) = &constraint {
            generation = generation.constrain(constraint);
        }
        while let Some(item) = generation.next().await? {
            if !item.text.is_empty() {
                more(&item.text).await?;
            }
        }
        Ok(Written {
            text: generation.text().to_string(),
            finish_reason: generation.finish_reason().cloned().unwrap_or(FinishReason::MaxTokens),
            usage: generation.usage(),
        })
    }
}

/// Answers a request.
///
/// # Errors
/// With the parameter that is wrong or not supported, and as for a generation.
pub async fn generate(mut fields: Fields) -> Result<Response> {
    let served = open_model(&mut fields).await?;
    let param = fields.name("prompt");
    let prompt = prompt(fields.required("prompt")?, &param, &served.model)?;
    let mut settings = Settings::read(&mut fields, &served.model, "stop")?;
    settings.max_tokens = Some(fields.get("max_tokens")?.unwrap_or(MAX_TOKENS));
    settings.check()?;
    let format = OutputFormat::read(&mut fields)?;
    let streaming = Streaming::read(&mut fields)?;
    fields.ignore(&["user"]);
    fields.finish()?;

    let continuation = Continuation { served, prompt, settings, format };
    if streaming.is_on {
        return Ok(Events::response(async move |events| {
            let more = async |text: &str| events.send(&json!({ "text": text })).await;
            let written = continuation.write(more).await?;
            events.send(&shown(&continuation, &written, "")).await
        }));
    }
    let written = continuation.write(async |_| Ok::<(), ApiError>(())).await?;
    Ok(response(&shown(&continuation, &written, &written.text)))
}

fn shown(continuation: &Continuation, written: &Written, text: &str) -> Value {
    let Usage { prompt, prompt_cached, generated, .. } = written.usage;
    json!({
        "text": text,
        "finish_reason": written.finish_reason.openai(),
        "model": continuation.served.name,
        "usage": usage(prompt, prompt_cached, generated, 0),
    })
}

#[cfg(test)]
mod tests {
    use inferlet::serde_json;
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    fn send(body: Value) -> (u16, String) {
        let Value::Object(body) = body else { panic!("{body} is no object") };
        let host = Host::new().model(ScriptedModel::new().says("Once", " upon a time."));
        host.run(async {
            match generate(Fields::of_object(body)).await {
                Ok(response) => (200, response.into_body().text(usize::MAX).await.unwrap()),
                Err(error) => (error.status().as_u16(), error.body()["error"].to_string()),
            }
        })
    }

    #[test]
    fn a_prompt_goes_on() {
        let (_, answer) = send(json!({ "prompt": "Once" }));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&answer["text"], &answer["finish_reason"]), (&json!(" upon a time."), &json!("stop")));
        assert_eq!(answer["usage"]["prompt_tokens"], 4);
        let (_, answer) = send(json!({ "prompt": "Once", "max_tokens": 5 }));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&answer["text"], &answer["finish_reason"]), (&json!(" upon"), &json!("length")));
    }

    #[test]
    fn events_have_the_same_text_and_end_with_the_reason() {
        let (_, events) = send(json!({ "prompt": "Once", "stream": true }));
        let events: Vec<&str> =
            events.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        let (done, events) = events.split_last().unwrap();
        assert_eq!(*done, "[DONE]");
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let text: String = events.iter().map(|event| event["text"].as_str().unwrap()).collect();
        assert_eq!(text, " upon a time.");
        assert_eq!(events.last().unwrap()["finish_reason"], "stop");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param) in [
            (json!({}), "prompt"),
            (json!({ "prompt": "" }), "prompt"),
            (json!({ "prompt": ["a", "b"] }), "prompt"),
            (json!({ "prompt": "a", "max_tokens": -1 }), "max_tokens"),
            (json!({ "prompt": "a", "max_tokens": 5, "min_tokens": 6 }), "min_tokens"),
            (json!({ "prompt": "a", "inputs": "a" }), "inputs"),
        ] {
            let (status, error) = send(body.clone());
            let error: Value = serde_json::from_str(&error).unwrap();
            assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{body}: {error}");
        }
    }
}
