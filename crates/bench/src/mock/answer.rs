//! The bytes of answers.

use serde_json::{Value, json};

use super::Script;

/// Every token.
const WORD: &str = " token";

/// An answer in the making.
pub(super) struct Answer<'a> {
    pub(super) script: &'a Script,
    pub(super) id: &'a str,
    pub(super) is_chat: bool,
    pub(super) prompt_tokens: u32,
    pub(super) tokens: u32,
}

/// A chunk of a body in chunks.
pub(super) fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A whole answer with a body of known length.
pub(super) fn whole(status: u16, kind: &str, body: &[u8]) -> Vec<u8> {
    let reason = if status == 200 { "OK" } else { "Scripted" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head of a stream.
pub(super) const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

fn event(value: &Value) -> Vec<u8> {
    chunk(format!("data: {value}\n\n").as_bytes())
}

impl Answer<'_> {
    /// Chunks with tokens.
    pub(super) fn chunks(&self) -> u32 {
        self.tokens.div_ceil(self.script.tokens_per_chunk.max(1))
    }

    fn tokens_until(&self, chunk: u32) -> u32 {
        ((chunk + 1) * self.script.tokens_per_chunk.max(1)).min(self.tokens)
    }

    fn usage(&self, tokens: u32) -> Value {
        json!({"prompt_tokens": self.prompt_tokens, "completion_tokens": tokens, "total_tokens": self.prompt_tokens + tokens})
    }

    /// The event of a chunk, from zero.
    pub(super) fn token(&self, index: u32) -> Vec<u8> {
        let before = if index == 0 { 0 } else { self.tokens_until(index - 1) };
        let text = WORD.repeat((self.tokens_until(index) - before) as usize);
        let finish = if index + 1 == self.chunks() { json!("length") } else { Value::Null };
        let choice = match (self.is_chat, index < self.script.reasoning_chunks) {
            (false, _) => json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish}),
            (true, true) => {
                json!({"index": 0, "delta": {"reasoning_content": text}, "finish_reason": finish})
            }
            (true, false) => json!({"index": 0, "delta": {"content": text}, "finish_reason": finish}),
        };
        let object = if self.is_chat { "chat.completion.chunk" } else { "text_completion" };
        let mut value = json!({
            "id": self.id, "object": object, "created": 0, "model": self.script.model, "choices": [choice]
        });
        if self.script.continuous_usage {
            value["usage"] = self.usage(self.tokens_until(index));
        }
        event(&value)
    }

    /// Whether all chunks but the first and the last have the same bytes.
    pub(super) fn is_uniform(&self) -> bool {
        !self.script.continuous_usage && self.script.reasoning_chunks == 0
    }

    /// A chat begins with an event that only names the role.
    pub(super) fn role(&self) -> Option<Vec<u8>> {
        self.is_chat.then(|| {
            let delta = json!({"role": "assistant", "content": ""});
            event(&json!({
                "id": self.id, "object": "chat.completion.chunk", "created": 0, "model": self.script.model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": null}]
            }))
        })
    }

    /// What follows the last token.
    pub(super) fn tail(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.script.usage {
            let object = if self.is_chat { "chat.completion.chunk" } else { "text_completion" };
            bytes = event(&json!({
                "id": self.id, "object": object, "created": 0, "model": self.script.model, "choices": [],
                "usage": self.usage(self.tokens)
            }));
        }
        bytes.extend(chunk(b"data: [DONE]\n\n"));
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    /// An event with an error.
    pub(super) fn error(&self) -> Vec<u8> {
        event(&json!({"error": {"message": "scripted error", "code": 500}}))
    }

    /// An answer in one piece.
    pub(super) fn at_once(&self) -> Vec<u8> {
        let text = WORD.repeat(self.tokens as usize);
        let choice = if self.is_chat {
            json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"})
        } else {
            json!({"index": 0, "text": text, "finish_reason": "length"})
        };
        let mut value = json!({"id": self.id, "created": 0, "model": self.script.model, "choices": [choice]});
        if self.script.usage {
            value["usage"] = self.usage(self.tokens);
        }
        whole(200, "application/json", value.to_string().as_bytes())
    }
}
