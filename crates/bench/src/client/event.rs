//! What one event or one whole answer says, whichever API it is of: text by channel, counts, why it ended.
//!
//! Read straight into a struct that borrows, without a tree of values: at fifty thousand events a second the reading of
//! JSON must not be what is measured.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::record::Usage;

/// A text that borrows where it has no escapes.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<UsageBody>,
    #[serde(default)]
    error: Option<Value>,
    /// Of `/generate`: the whole text so far.
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(default)]
    meta_info: Option<Meta>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
    #[serde(default)]
    message: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
    #[serde(default)]
    tool_calls: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct UsageBody {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    completion_tokens: Option<u32>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    completion_tokens: Option<u32>,
    #[serde(default)]
    cached_tokens: Option<u32>,
    #[serde(default)]
    finish_reason: Option<Value>,
}

/// What an event says.
#[derive(Debug, Default)]
pub(super) struct Event {
    /// Whether there is a choice at all, even one without text.
    pub(super) has_choice: bool,
    /// Whether there is content.
    pub(super) has_content: bool,
    /// Whether there is a token in any channel.
    pub(super) has_token: bool,
    /// Tokens of this event by their ids; zero where the server does not send them.
    pub(super) tokens: u32,
    /// Counts of the whole answer so far.
    pub(super) usage: Option<Usage>,
    /// Why it ended.
    pub(super) finish_reason: Option<String>,
    /// The server's error.
    pub(super) error: Option<String>,
}

/// Where the text of an answer is gathered.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Whether to keep text.
    pub(super) keep: bool,
    /// The text of all content.
    pub(super) text: String,
    /// Characters of a text that comes whole each time.
    pub(super) cumulative: usize,
}

/// Reads the data of an event, or a whole answer.
///
/// # Errors
/// Says what is wrong with the JSON.
pub(super) fn read(data: &[u8], gathered: &mut Gathered) -> Result<Event, String> {
    let body: Body<'_> = serde_json::from_slice(data).map_err(|error| {
        let shown = String::from_utf8_lossy(&data[..data.len().min(80)]).into_owned();
        format!("found `{}` ({error}), expected JSON", shown.escape_debug())
    })?;
    let mut event = Event::default();
    for choice in body.choices.iter().flatten() {
        event.has_choice = true;
        event.tokens += choice.token_ids.as_ref().map_or(0, |ids| ids.len() as u32);
        let delta = choice.delta.as_ref().or(choice.message.as_ref());
        let content = choice.text.as_ref().or(delta.and_then(|delta| delta.content.as_ref()));
        let is_there = |text: &Option<Text<'_>>| text.as_ref().is_some_and(|text| !text.0.is_empty());
        if let Some(text) = content.filter(|text| !text.0.is_empty()) {
            event.has_content = true;
            if gathered.keep {
                gathered.text.push_str(&text.0);
            }
        }
        if let Some(delta) = delta {
            let calls = delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
            event.has_token |= calls
                || is_there(&delta.reasoning_content)
                || is_there(&delta.reasoning)
                || is_there(&delta.refusal);
        }
        if let Some(reason) = &choice.finish_reason {
            event.finish_reason = Some(reason.0.to_string());
        }
    }
    if let Some(text) = &body.text {
        event.has_choice = true;
        // Such a text is the whole so far; one that does not begin with what was is a piece.
        let new = if text.0.len() >= gathered.cumulative { gathered.cumulative } else { 0 };
        event.has_content = text.0.len() > new;
        if gathered.keep && event.has_content {
            gathered.text.push_str(text.0.get(new..).unwrap_or_default());
        }
        gathered.cumulative = text.0.len();
    }
    event.has_token |= event.has_content || event.tokens > 0;
    event.usage = body.usage.map(|usage| Usage {
        prompt: usage.prompt_tokens,
        output: usage.completion_tokens,
        cached: usage.prompt_tokens_details.and_then(|details| details.cached_tokens),
        reasoning: usage.completion_tokens_details.and_then(|details| details.reasoning_tokens),
    });
    if let Some(meta) = body.meta_info {
        let (prompt, output, cached) = (meta.prompt_tokens, meta.completion_tokens, meta.cached_tokens);
        event.usage = Some(Usage { prompt, output, cached, reasoning: None });
        event.finish_reason =
            meta.finish_reason.filter(|reason| !reason.is_null()).map(|reason| reason.to_string());
    }
    let is_error = body.object.is_some_and(|object| object.0 == "error");
    let error = body.error.or(body.message.filter(|_| is_error));
    event.error = error.filter(|error| !error.is_null()).map(|error| error.to_string());
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(data: &str) -> Event {
        read(data.as_bytes(), &mut Gathered::default()).unwrap()
    }

    #[test]
    fn tokens_count_in_every_channel_and_content_in_one() {
        let content = one(r#"{"choices":[{"delta":{"content":"a\n"}}]}"#);
        assert!(content.has_content && content.has_token);
        for delta in [r#""reasoning_content":"x""#, r#""reasoning":"x""#, r#""tool_calls":[{"index":0}]"#] {
            let event = one(&format!(r#"{{"choices":[{{"delta":{{"content":null,{delta}}}}}]}}"#));
            assert!(event.has_token && !event.has_content, "{delta}");
        }
        let role = one(
            r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        );
        assert!(role.has_choice && !role.has_token && role.usage.is_none());
        assert_eq!(one(r#"{"choices":[{"text":"","token_ids":[5,6]}]}"#).tokens, 2);
    }

    #[test]
    fn counts_and_errors_are_read() {
        let usage = one(
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}"#,
        );
        let expected = Usage { prompt: Some(3), output: Some(4), cached: Some(2), reasoning: None };
        assert_eq!((usage.usage, usage.has_choice), (Some(expected), false));
        assert!(one(r#"{"error":{"message":"no"}}"#).error.unwrap().contains("no"));
        assert!(one(r#"{"object":"error","message":"no"}"#).error.is_some());
        assert!(read(b"{", &mut Gathered::default()).unwrap_err().contains("expected JSON"));
    }

    #[test]
    fn a_text_that_comes_whole_each_time_is_gathered_once() {
        let mut gathered = Gathered { keep: true, ..Gathered::default() };
        for text in ["a", "ab", "ab", "abc"] {
            let data =
                format!(r#"{{"text":"{text}","meta_info":{{"completion_tokens":1,"finish_reason":null}}}}"#);
            read(data.as_bytes(), &mut gathered).unwrap();
        }
        assert_eq!(gathered.text, "abc");
    }
}
