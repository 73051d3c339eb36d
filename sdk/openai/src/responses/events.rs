//! The events of an answer, each with its number.

use inferlet::{Value, json};

use crate::{Events, Result};

/// Where events go: to a client that asked for them, or nowhere.
pub(super) struct Numbered<'a> {
    events: Option<&'a Events>,
    next: u64,
}

impl<'a> Numbered<'a> {
    pub(super) fn new(events: Option<&'a Events>) -> Numbered<'a> {
        Numbered { events, next: 0 }
    }

    /// Sends an event.
    pub(super) async fn send(&mut self, mut event: Value) -> Result<()> {
        let Some(events) = self.events else { return Ok(()) };
        event["sequence_number"] = json!(self.next);
        self.next += 1;
        events.send_typed(&event).await
    }

    /// Sends an event about the answer as a whole.
    pub(super) async fn send_response(&mut self, kind: &str, response: &Value) -> Result<()> {
        self.send(json!({ "type": format!("response.{kind}"), "response": response })).await
    }
}
