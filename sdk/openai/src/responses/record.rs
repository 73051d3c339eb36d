//! What is kept of an answer: the answer with what it was asked, and the state of the model after it.
//!
//! ```text
//! store      responses/ID          the answer and the items of its request, in JSON
//!            response-tokens/ID    the tokens of the snapshot
//!            response-events/ID/…  its events, see `journal`
//! snapshots  ID                    keys and values after the answer, for the next turn
//! topics     responses/ID/maker    a message that is kept while the answer is made in the background
//! ```
//!
//! Only the last answer of a conversation has a snapshot: a turn takes that of the one before away, since most
//! conversations go on at their end. Elsewhere a turn is computed from the items. Ids are in the order of time, so the
//! oldest snapshot is the first one by name. Topics are in the server's memory: after a restart nobody makes an answer.

use std::pin::pin;
use std::time::Duration;

use inferlet::bindings::pie::inferlet::context as api;
use inferlet::futures::future::{Either, select};
use inferlet::http::StatusCode;
use inferlet::{Context, Error, Model, Value, json, messaging, serde_json, sleep, store};
use serde::{Deserialize, Serialize};

use super::journal;
use crate::completions::{now, random};
use crate::{ApiError, Result};

/// How long a message that is kept may take to come.
const MOMENT: Duration = Duration::from_millis(200);

/// Beginning of an id.
const PREFIX: &str = "resp_";

/// An answer, and what it was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) response: Value,
    pub(super) input: Vec<Value>,
    /// Where in the output the model went on after calls that the server made.
    #[serde(default)]
    pub(super) rounds: Vec<usize>,
}

/// An id that no other answer has, greater than all before.
pub(super) fn new_id() -> String {
    format!("{PREFIX}{:08x}{:016x}", now(), random())
}

fn key(id: &str) -> String {
    format!("responses/{id}")
}

fn tokens_key(id: &str) -> String {
    format!("response-tokens/{id}")
}

/// Where who makes one in the background hears what others want of it.
fn topic(id: &str) -> String {
    format!("responses/{id}/cancel")
}

/// The message that asks whether the answer is still made.
const PING: &str = "ping";

/// Asks whoever makes an answer to tell the readers of its events that it does.
pub(super) fn ping(id: &str) -> Result<()> {
    Ok(messaging::broadcast(&topic(id), PING, false)?)
}

/// What others want of the maker of an answer.
pub(super) struct Wishes {
    id: String,
    heard: messaging::Subscription,
}

impl Wishes {
    /// Begins to listen.
    pub(super) fn of(id: &str) -> Result<Wishes> {
        Ok(Wishes { id: id.to_string(), heard: messaging::subscribe(&topic(id), false)? })
    }

    /// Waits until the answer is not wanted any more.
    pub(super) async fn unwanted(&self) {
        while self.heard.next().await.is_ok_and(|text| text == PING) {
            // Who does not hear of it asks again.
            let _ = journal::look(&self.id);
        }
    }
}

/// An answer is not made any more, since its maker is gone.
pub(super) async fn abandon(id: &str, why: &str) -> Result<()> {
    end_making(id)?;
    let mut record = Record::load(id)?;
    if record.is_running() {
        record.fail(why);
        record.save().await?;
    }
    journal::end_of_abandoned(id, record.status()).await
}

/// Where it is known that somebody makes an answer in the background.
fn maker(id: &str) -> String {
    format!("responses/{id}/maker")
}

/// Somebody makes this answer from here on.
pub(super) fn begin_to_make(id: &str) -> Result<()> {
    Ok(messaging::broadcast(&maker(id), "at work", true)?)
}

/// Nobody does any more.
pub(super) fn end_making(id: &str) -> Result<()> {
    Ok(messaging::forget(&maker(id))?)
}

/// Whether somebody makes this answer.
async fn is_made(id: &str) -> Result<bool> {
    let kept = messaging::subscribe(&maker(id), true)?;
    // A message that is kept is there at once.
    let (message, moment) = (pin!(kept.next()), pin!(sleep(MOMENT)));
    Ok(matches!(select(message, moment).await, Either::Left(_)))
}

/// Why something is not kept, and what can be done.
fn not_kept(error: Error) -> ApiError {
    let error = ApiError::from(error);
    let message =
        format!("the answer cannot be kept: {}; with `store` false it need not be", error.message());
    ApiError::new(error.status(), message)
}

/// Whether there is a place to keep answers.
pub(super) fn check_store() -> Result<()> {
    store::get(&key("")).map(drop).map_err(not_kept)
}

impl Record {
    /// An answer that was kept.
    pub(super) fn load(id: &str) -> Result<Record> {
        let missing = || {
            let message = format!("there is no response `{id}`: it was deleted, or never stored");
            ApiError::new(StatusCode::NOT_FOUND, message)
        };
        let bytes = store::get(&key(id))?.ok_or_else(missing)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!("the response `{id}` is stored in another form: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        })
    }

    /// An answer that was kept, as it is now: it has failed if it was being made when the server stopped.
    pub(super) async fn load_now(id: &str) -> Result<Record> {
        let record = Record::load(id)?;
        if !record.is_running() || is_made(id).await? {
            return Ok(record);
        }
        // It may have been finished meanwhile.
        if Record::load(id)?.is_running() {
            abandon(id, "the server stopped while the answer was made").await?;
        }
        Record::load(id)
    }

    /// The answer as it was when it began.
    pub(super) fn as_begun(&self) -> Value {
        let mut response = self.response.clone();
        for field in ["completed_at", "error", "incomplete_details", "usage"] {
            response[field] = Value::Null;
        }
        response["output"] = json!([]);
        response["status"] = json!("in_progress");
        response
    }

    /// There is no answer, and why.
    pub(super) fn fail(&mut self, message: &str) {
        self.response["status"] = json!("failed");
        self.response["error"] = json!({ "code": "server_error", "message": message });
    }

    /// An answer with all before it in its conversation, the first one first.
    pub(super) fn conversation(id: &str) -> Result<Vec<Record>> {
        let (mut records, mut next) = (Vec::new(), Some(id.to_string()));
        while let Some(id) = next {
            let record = Record::load(&id).map_err(|error| {
                ApiError::invalid("previous_response_id", error.message())
                    .with_code("previous_response_not_found")
            })?;
            if !matches!(record.status(), "completed" | "incomplete") {
                let message = format!("the response `{id}` is {}", record.status());
                return Err(ApiError::invalid("previous_response_id", message));
            }
            next = record.response["previous_response_id"].as_str().map(str::to_string);
            records.push(record);
        }
        records.reverse();
        Ok(records)
    }

    /// The items of its output, apart where the model went on after calls that the server made.
    pub(super) fn rounds(&self) -> Vec<&[Value]> {
        let mut rest = self.response["output"].as_array().map_or(&[][..], Vec::as_slice);
        let (mut rounds, mut from) = (Vec::new(), 0);
        for at in &self.rounds {
            let (round, after) = rest.split_at((at - from).min(rest.len()));
            (rest, from) = (after, *at);
            rounds.push(round);
        }
        rounds.push(rest);
        rounds
    }

    pub(super) fn id(&self) -> &str {
        self.response["id"].as_str().unwrap_or_default()
    }

    pub(super) fn status(&self) -> &str {
        self.response["status"].as_str().unwrap_or_default()
    }

    /// Keeps it, or what has become of it.
    pub(super) async fn save(&self) -> Result<()> {
        let bytes = serde_json::to_vec(self).expect("it is JSON");
        store::set(key(self.id()), bytes).await.map_err(not_kept)
    }

    /// Keeps what one in the background has become, unless it was cancelled or deleted meanwhile; whether it did.
    pub(super) async fn save_if_wanted(&self) -> Result<bool> {
        let is_wanted = Record::load(self.id()).is_ok_and(|kept| kept.is_running());
        if is_wanted {
            self.save().await?;
        }
        Ok(is_wanted)
    }

    /// Forgets it.
    pub(super) async fn delete(self) -> Result<Value> {
        let id = self.id();
        store::delete(key(id)).await?;
        journal::forget(id).await?;
        if self.is_running() {
            // Its maker finds that it is gone.
            messaging::broadcast(&topic(id), "deleted", false)?;
        }
        if store::delete(tokens_key(id)).await? {
            Context::delete(&self.model()?, id).await?;
        }
        Ok(json!({ "id": id, "object": "response", "deleted": true }))
    }

    /// Ends it, if it is still being made; what it is then.
    pub(super) async fn cancel(mut self) -> Result<Value> {
        if self.response["background"] != true {
            let message = "only a response that is made in the background can be cancelled";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
        }
        if self.is_running() {
            self.response["status"] = json!("cancelled");
            self.save().await?;
            messaging::broadcast(&topic(self.id()), "cancelled", false)?;
        }
        Ok(self.response)
    }

    fn is_running(&self) -> bool {
        self.status() == "in_progress"
    }

    /// The model that has its snapshot: an adapter has none of its own.
    fn model(&self) -> Result<Model> {
        let name = self.response["model"].as_str().unwrap_or_default();
        match Model::names().iter().any(|known| known == name) {
            true => Ok(Model::open(name)?),
            false => Ok(Model::open_default()?),
        }
    }

    /// The state of the model after it, if that is still there.
    pub(super) async fn context(&self, model: &Model) -> Result<Option<Context>> {
        let Some(bytes) = store::get(&tokens_key(self.id()))? else { return Ok(None) };
        let tokens =
            bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("are four")));
        Ok(Context::find(model, self.id(), &tokens.collect::<Vec<u32>>()).await?)
    }

    /// Keeps the state of the model after it, and forgets that after the answer before it. There may be no room for it:
    /// then the next turn computes more.
    pub(super) async fn save_context(&self, context: &mut Context) -> Result<()> {
        while let Err(error) = context.save(self.id(), true).await {
            match error.downcast_ref() {
                Some(Error::LimitExceeded(_)) if drop_oldest(context.model()).await? => {}
                Some(Error::LimitExceeded(_)) => return Ok(()),
                _ => return Err(error.into()),
            }
        }
        let bytes = context.tokens().iter().flat_map(|token| token.to_le_bytes()).collect();
        store::set(tokens_key(self.id()), bytes).await.map_err(not_kept)?;
        if let Some(before) = self.response["previous_response_id"].as_str() {
            drop_context(context.model(), before).await?;
        }
        Ok(())
    }
}

/// Forgets the snapshot after an answer.
async fn drop_context(model: &Model, id: &str) -> Result<()> {
    store::delete(tokens_key(id)).await?;
    Context::delete(model, id).await?;
    Ok(())
}

/// Forgets the oldest snapshot after an answer; whether there was one.
async fn drop_oldest(model: &Model) -> Result<bool> {
    let snapshots = api::snapshots(model.handle()).await?;
    let Some(oldest) = snapshots.into_iter().find(|snapshot| snapshot.name.starts_with(PREFIX)) else {
        return Ok(false);
    };
    drop_context(model, &oldest.name).await?;
    Ok(true)
}
