//! Events of an answer in the background that are kept, for clients that come, leave and come back.
//!
//! ```text
//! store      response-events/ID/NUMBER    a block of events; NUMBER is that of the first
//! topics     responses/ID/events          a message that is kept for each event behind the last block
//!
//! sequence numbers    0 .. a | a .. b | b .. c  c+1  c+2 …
//!                      block   block    messages, of which the next block will be
//! ```
//!
//! Who makes the answer writes: a message for each event, and now and then a block in place of all messages. Who reads
//! listens first and looks at the blocks then, so nothing falls between the two; what is there twice has the same
//! number. Blocks survive a restart, messages do not: an answer that a stop of the server broke off ends with
//! `response.failed`, with a number beyond those that anybody may have seen.
//!
//! An event about the answer as a whole is kept without the answer, which the record has. What is kept is bounded: for
//! an answer the last blocks, for a user the last answers.

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::time::Duration;

use inferlet::futures::future::{Either, select};
use inferlet::http::StatusCode;
use inferlet::messaging::Subscription;
use inferlet::{Error, Value, json, messaging, serde_json, sleep, store};

use super::record::{Record, abandon, ping};
use crate::{ApiError, Events, Result};

/// Events of a block: a restart loses fewer.
const BLOCK: usize = 256;
/// Bytes of an event that is no message any more, and of those that are: then there is a block at once.
const MESSAGE_BYTES: usize = 128 << 10;
/// Blocks of an answer, and their bytes, of which the last one may be more: some 65,000 tokens.
const BLOCKS: usize = 256;
const BLOCKS_BYTES: usize = 1 << 20;
/// Answers of a user whose events are kept.
const ANSWERS: usize = 64;
/// Silence after which a reader asks whether the answer is still made.
const SILENCE: Duration = Duration::from_secs(15);

/// Between two looks at the blocks.
const MOMENT: Duration = Duration::from_millis(20);

/// Beginning of the keys of all blocks.
const KEYS: &str = "response-events/";
/// The message that there is a new block.
const LOOK: &str = "look";

fn keys_of(id: &str) -> String {
    format!("{KEYS}{id}/")
}

/// The number has as many digits as the greatest one, so that blocks are in their order.
fn key(id: &str, number: u64) -> String {
    format!("{KEYS}{id}/{number:020}")
}

fn topic(id: &str) -> String {
    format!("responses/{id}/events")
}

/// Where the maker of an answer writes its events.
pub(super) struct Journal {
    id: String,
    /// The number of the next event.
    next: u64,
    /// Events that no block has yet, and their bytes.
    open: Vec<Value>,
    open_bytes: usize,
    /// The blocks that are kept, with their bytes.
    blocks: VecDeque<(u64, usize)>,
}

impl Journal {
    /// That of an answer that begins. It has a block from here on, which says that events are kept.
    pub(super) async fn begin(begun: &Record) -> Result<Journal> {
        make_room().await?;
        let id = begun.id().to_string();
        let mut journal = Journal { id, next: 0, open: Vec::new(), open_bytes: 0, blocks: VecDeque::new() };
        for kind in ["created", "in_progress"] {
            journal.add(json!({ "type": format!("response.{kind}") })).await?;
        }
        journal.write_block().await?;
        Ok(journal)
    }

    /// Writes an event.
    pub(super) async fn add(&mut self, mut event: Value) -> Result<()> {
        event["sequence_number"] = json!(self.next);
        if is_about_all(&event) {
            event.as_object_mut().expect("it has fields").shift_remove("response");
        }
        self.next += 1;
        let text = event.to_string();
        self.open.push(event);
        self.open_bytes += text.len();
        if self.open_bytes > MESSAGE_BYTES {
            return self.write_block().await;
        }
        messaging::broadcast(&topic(&self.id), &text, true)?;
        if self.open.len() < BLOCK { Ok(()) } else { self.write_block().await }
    }

    /// Writes the last event, which says what has become of the answer.
    pub(super) async fn end(&mut self, status: &str) -> Result<()> {
        self.add(json!({ "type": format!("response.{status}") })).await?;
        self.write_block().await
    }

    async fn write_block(&mut self) -> Result<()> {
        let Some(first) = self.open.first() else { return Ok(()) };
        let first = number(first);
        let bytes = pack(&self.open);
        self.blocks.push_back((first, bytes.len()));
        store::set(key(&self.id, first), bytes).await?;
        self.open.clear();
        self.open_bytes = 0;
        messaging::forget(&topic(&self.id))?;
        look(&self.id)?;
        let bytes = |blocks: &VecDeque<(u64, usize)>| blocks.iter().map(|block| block.1).sum::<usize>();
        while self.blocks.len() > 1 && (self.blocks.len() > BLOCKS || bytes(&self.blocks) > BLOCKS_BYTES) {
            let (oldest, _) = self.blocks.pop_front().expect("there are two");
            store::delete(key(&self.id, oldest)).await?;
        }
        Ok(())
    }
}

/// Tells readers to look at the blocks, and at the answer.
pub(super) fn look(id: &str) -> Result<()> {
    Ok(messaging::broadcast(&topic(id), LOOK, false)?)
}

/// Forgets the events of an answer.
pub(super) async fn forget(id: &str) -> Result<()> {
    for key in store::keys(&keys_of(id))? {
        store::delete(key).await?;
    }
    messaging::forget(&topic(id))?;
    look(id)
}

/// Ends the events of an answer that nobody makes any more, if it has any.
pub(super) async fn end_of_abandoned(id: &str, status: &str) -> Result<()> {
    let Some(last) = store::keys(&keys_of(id))?.pop() else { return Ok(()) };
    let events = unpack(&store::get(&last)?.unwrap_or_default());
    let Some(event) = events.last().filter(|event| !is_last(event)) else { return Ok(()) };
    // Behind all messages that there may have been.
    let number = number(event) + 1 + BLOCK as u64;
    let end = json!({ "type": format!("response.{status}"), "sequence_number": number });
    store::set(key(id, number), pack(&[end])).await?;
    messaging::forget(&topic(id))?;
    look(id)
}

/// Forgets the events of the oldest answers, so that there is room for those of one more.
async fn make_room() -> Result<()> {
    let keys = store::keys(KEYS)?;
    let id = |key: &str| key.strip_prefix(KEYS)?.split_once('/').map(|(id, _)| id.to_string());
    // Ids are in the order of time.
    let ids: BTreeSet<String> = keys.iter().filter_map(|key| id(key)).collect();
    let too_many = (ids.len() + 1).saturating_sub(ANSWERS);
    for id in ids.iter().take(too_many) {
        forget(id).await?;
    }
    Ok(())
}

/// An error for a client that asks for the events of an answer that has none.
///
/// # Errors
/// 400 when there are none.
pub(super) fn check(id: &str) -> Result<()> {
    match store::keys(&keys_of(id))?.is_empty() {
        false => Ok(()),
        true => Err(ApiError::invalid(
            "stream",
            format!(
                "`{id}` has no events to give: they are kept of answers that were asked for with `background` and \
                 `stream`, and of the last {ANSWERS} of these; without `stream`, the answer as it is now is given"
            ),
        )),
    }
}

/// Sends the events of an answer with greater numbers than `after`: those that are kept, and those to come, up to the
/// last one.
pub(super) async fn follow(id: &str, after: Option<u64>, events: &Events) -> Result<()> {
    let mut reader = Reader { id, sent: after, events };
    let mut is_silent = false;
    loop {
        let news = messaging::subscribe(&topic(id), true)?;
        // An answer that nobody makes any more gets its end here.
        Record::load_now(id).await?;
        if reader.send_blocks().await? {
            return Ok(());
        }
        let sent = reader.sent;
        let why = reader.send_news(&news).await?;
        let has_moved = reader.sent != sent;
        is_silent &= !has_moved;
        match why {
            News::End => return Ok(()),
            News::Look => {
                is_silent = false;
                if !has_moved {
                    // Whatever is written there, it is not looked at all the time.
                    sleep(MOMENT).await;
                }
            }
            News::Silence if is_silent => abandon(id, "the program that made the answer has ended").await?,
            News::Silence => {
                ping(id)?;
                is_silent = true;
            }
        }
    }
}

/// Why a reader stops to listen.
enum News {
    /// The last event was sent.
    End,
    /// There is more in the blocks.
    Look,
    /// Nothing was said for a while.
    Silence,
}

struct Reader<'a> {
    id: &'a str,
    /// The number of the last event that the client has.
    sent: Option<u64>,
    events: &'a Events,
}

impl Reader<'_> {
    /// Sends what the blocks have; whether the last event was among it.
    async fn send_blocks(&mut self) -> Result<bool> {
        let keys = store::keys(&keys_of(self.id))?;
        let first = |key: &String| key.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let next = self.sent.map_or(0, |sent| sent.saturating_add(1));
        match keys.first().map(first) {
            Some(first) if first <= next => {}
            first => return Err(self.too_old(first)),
        }
        for (at, block) in keys.iter().enumerate() {
            // One is of interest when the next one does not begin before what is to come.
            if keys.get(at + 1).is_some_and(|after| first(after) <= next) {
                continue;
            }
            let Some(bytes) = store::get(block)? else { return Err(self.too_old(None)) };
            for event in unpack(&bytes) {
                if self.send(&event).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn too_old(&self, first: Option<u64>) -> ApiError {
        let kept =
            first.map_or("none is kept".to_string(), |first| format!("those from {first} on are kept"));
        let message = format!(
            "the next event of `{}` is not kept any more: {kept}; without `stream`, the answer as it is now is given",
            self.id
        );
        ApiError::new(StatusCode::BAD_REQUEST, message).about("starting_after")
    }

    /// Sends what comes.
    async fn send_news(&mut self, news: &Subscription) -> Result<News> {
        loop {
            let (message, silence) = (pin!(news.next()), pin!(sleep(SILENCE)));
            let text = match select(message, silence).await {
                Either::Left((Ok(text), _)) => text,
                // Some were lost, since this client is slow.
                Either::Left((Err(Error::LimitExceeded(_)), _)) => return Ok(News::Look),
                Either::Left((Err(error), _)) => return Err(error.into()),
                Either::Right(_) => return Ok(News::Silence),
            };
            let Ok(event) = serde_json::from_str::<Value>(&text) else { return Ok(News::Look) };
            let next = self.sent.map_or(0, |sent| sent.saturating_add(1));
            if number(&event) > next {
                // Those between are in a block.
                return Ok(News::Look);
            }
            if self.send(&event).await? {
                return Ok(News::End);
            }
        }
    }

    /// Sends an event unless the client has it; whether it is the last one.
    async fn send(&mut self, event: &Value) -> Result<bool> {
        if self.sent.is_none_or(|sent| number(event) > sent) {
            let mut whole = event.clone();
            if is_about_all(event) {
                let record = Record::load(self.id)?;
                whole["response"] = if is_last(event) { record.response } else { record.as_begun() };
            }
            self.events.send_typed(&whole).await?;
            self.sent = Some(number(event));
        }
        Ok(is_last(event))
    }
}

fn number(event: &Value) -> u64 {
    event["sequence_number"].as_u64().unwrap_or_default()
}

fn kind(event: &Value) -> &str {
    event["type"].as_str().and_then(|kind| kind.strip_prefix("response.")).unwrap_or_default()
}

fn is_about_all(event: &Value) -> bool {
    matches!(kind(event), "created" | "in_progress") || is_last(event)
}

fn is_last(event: &Value) -> bool {
    matches!(kind(event), "completed" | "incomplete" | "failed" | "cancelled")
}

/// Events as a block has them, in JSON: `[event]`, or `[event, [delta, delta, …]]` for those in succession that differ
/// in nothing but their deltas.
fn pack(events: &[Value]) -> Vec<u8> {
    let mut packed: Vec<(Value, Vec<Value>)> = Vec::new();
    for event in events {
        let mut event = event.clone();
        let fields = event.as_object_mut().expect("it has fields");
        let deltas: Vec<Value> = fields.shift_remove("delta").into_iter().collect();
        if let Some((first, before)) =
            packed.last_mut().filter(|(_, before)| !before.is_empty() && !deltas.is_empty())
        {
            let mut same = first.clone();
            same["sequence_number"] = event["sequence_number"].clone();
            if same == event {
                before.extend(deltas);
                continue;
            }
        }
        packed.push((event, deltas));
    }
    let entry = |(event, deltas): &(Value, Vec<Value>)| match deltas.is_empty() {
        true => json!([event]),
        false => json!([event, deltas]),
    };
    Value::Array(packed.iter().map(entry).collect()).to_string().into_bytes()
}

/// The events of a block.
fn unpack(bytes: &[u8]) -> Vec<Value> {
    let packed: Vec<Vec<Value>> = serde_json::from_slice(bytes).unwrap_or_default();
    let mut events = Vec::new();
    for entry in packed {
        match entry.as_slice() {
            [event, Value::Array(deltas)] => {
                for (at, delta) in deltas.iter().enumerate() {
                    let mut event = event.clone();
                    event["sequence_number"] = json!(number(&event) + at as u64);
                    event["delta"] = delta.clone();
                    events.push(event);
                }
            }
            [event] => events.push(event.clone()),
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use inferlet::testing::Host;

    use super::*;

    #[test]
    fn a_block_has_what_was_put_into_it() {
        let kind = "response.output_text.delta";
        let delta = |number: u64, item: &str, text: &str| json!({ "type": kind, "item_id": item, "sequence_number": number, "delta": text });
        let mut events = vec![json!({ "type": "response.created", "sequence_number": 0 })];
        events.extend((1..200).map(|number| delta(number, "a", &format!("word {number}"))));
        events.extend((200..300).map(|number| delta(number, "b", "")));
        events.push(json!({ "type": "response.completed", "sequence_number": 300 }));
        events.push(delta(305, "b", "after a gap"));
        let packed = pack(&events);
        let size = Value::Array(events.clone()).to_string().len();
        assert!(packed.len() * 5 < size, "{} of {size} bytes", packed.len());
        assert_eq!(unpack(&packed), events);
        assert!(unpack(b"").is_empty() && unpack(b"[7]").is_empty() && unpack(b"[[]]").is_empty());
    }

    #[test]
    fn the_last_blocks_of_a_long_answer_are_kept() {
        Host::new().run(async {
            let response = json!({ "id": "resp_1", "status": "completed", "output": ["all"] });
            let record = Record { response, input: Vec::new(), rounds: Vec::new() };
            record.save().await.unwrap();
            let mut journal = Journal::begin(&record).await.unwrap();
            let delta =
                |text: &str| json!({ "type": "response.output_text.delta", "item_id": "a", "delta": text });
            let most = (BLOCKS + 3) * BLOCK;
            for _ in 0..most {
                journal.add(delta("word ")).await.unwrap();
            }
            assert_eq!(store::keys(&keys_of("resp_1")).unwrap().len(), BLOCKS);
            // One that is large is in a block at once.
            let large = "x".repeat(BLOCKS_BYTES / 2);
            journal.add(delta(&large)).await.unwrap();
            journal.end("completed").await.unwrap();
            let read = async |after: u64| {
                let response =
                    Events::response(async move |events| follow("resp_1", Some(after), events).await);
                response.into_body().text(usize::MAX).await.unwrap()
            };
            let too_old = read(0).await;
            assert!(
                too_old.contains("\"param\":\"starting_after\"") && too_old.contains("are kept"),
                "{too_old}"
            );
            let rest = read(most as u64).await;
            assert!(rest.contains(&large) && rest.contains("\"output\":[\"all\"]"), "{}", rest.len());
        });
    }
}
