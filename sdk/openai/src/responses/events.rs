//! The events of an answer, each with its number.

use inferlet::{Value, json};

use super::journal::Journal;
use crate::{Events, Result};

/// Where events go.
pub(super) enum Sink<'a> {
    /// Nowhere: nobody asked for them.
    Nowhere,
    /// To the client, with the number of the next one.
    Client(&'a Events, u64),
    /// To where clients find them, also those that come back.
    Kept(&'a mut Journal),
}

impl Sink<'_> {
    /// Sends an event.
    pub(super) async fn send(&mut self, mut event: Value) -> Result<()> {
        match self {
            Sink::Nowhere => Ok(()),
            Sink::Client(events, next) => {
                event["sequence_number"] = json!(*next);
                *next += 1;
                events.send_typed(&event).await
            }
            Sink::Kept(journal) => journal.add(event).await,
        }
    }

    /// Sends an event about the answer as a whole.
    pub(super) async fn send_response(&mut self, kind: &str, response: &Value) -> Result<()> {
        self.send(json!({ "type": format!("response.{kind}"), "response": response })).await
    }
}
