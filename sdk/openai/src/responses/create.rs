//! Making an answer: at once, as events, or in the background.

use std::pin::pin;

use inferlet::futures::future::{Either, select};
use inferlet::http::Response;
use inferlet::{Value, json, runtime, spawn};

use super::events::Sink;
use super::items::Conversation;
use super::journal::{self, Journal};
use super::output::Output;
use super::record::{Record, Wishes, begin_to_make, end_making};
use super::request::ResponseRequest;
use super::room::Room;
use crate::completions::now;
use crate::prompts::check_length;
use crate::turn::reasoning;
use crate::turn::{Cost, Piece, Turn, has_form};
use crate::{ApiError, Events, Result, json as response};

impl ResponseRequest {
    /// Answers it.
    ///
    /// # Errors
    /// As for a generation, and when there is no room to keep the answer.
    pub async fn answer(mut self) -> Result<Response> {
        // What is wrong with the prompt is told before a stream begins.
        self.prepare().await?;
        if self.background {
            return self.answer_in_background().await;
        }
        if self.stream {
            return Ok(Events::open(async move |events| self.stream(events).await));
        }
        let record = self.run(&mut Sink::Nowhere).await?;
        self.keep(&record).await?;
        Ok(response(&record.response))
    }

    /// Brings the conversation to its answer, from the state after the answer before where that is there.
    async fn prepare(&mut self) -> Result<()> {
        if let Some(previous) = &self.previous {
            // Another model, or one with an adapter, has other keys and values.
            let is_same = previous.response["model"] == self.served.name.as_str();
            let context = if is_same { previous.context(&self.served.model).await? } else { None };
            if let Some(context) = context {
                self.chat.resume(context);
            }
        }
        self.chat.generation_prompt().map_err(|error| ApiError::from(error).about("input"))?;
        if has_form(&self.tools, self.format.as_ref()) {
            reasoning::open(&mut self.chat)?;
        }
        let context = self.chat.context_mut();
        context.set_adapter(self.served.adapter.clone());
        check_length(context.tokens().len(), "input", &self.served.model)
    }

    /// Makes the answer: what the model says, and as long as it calls tools of MCP servers, what they give and what it
    /// says then.
    async fn run(&mut self, events: &mut Sink<'_>) -> Result<Record> {
        let (mut tools, mut settings) = (self.tools.clone(), self.settings.clone());
        let (mut cost, mut calls, mut rounds) = (Cost::default(), self.tool_calls, Vec::new());
        let mut output = Output::new(self.sources.labels());
        for event in self.sources.lists().into_iter().flat_map(|list| output.list(list)) {
            events.send(event).await?;
        }
        let is_cut = loop {
            let (model, format) = (&self.served.model, self.format.as_ref());
            let turn = Turn { model, settings: &settings, tools: &tools, format };
            let begin = output.items().len();
            let more = async |piece: Piece<'_>| {
                for event in piece.deltas.into_iter().flat_map(|delta| output.take(delta)) {
                    events.send(event).await?;
                }
                Ok(())
            };
            let answered = turn.answer(self.chat.context_mut(), 0, more).await?;
            cost += answered.cost;
            let is_cut = answered.finish_reason.openai() == "length";
            for event in output.finish(is_cut) {
                events.send(event).await?;
            }
            let pending = output.pending();
            if pending.is_empty() {
                break is_cut;
            }
            let used = self.chat.context().tokens().len();
            let room = Room::of(&self.served.model, used, pending.len());
            for at in pending {
                let answer = match &room {
                    Ok(room) => room.fit(self.call(&output.items()[at], &mut calls).await)?,
                    Err(full) => Err(full.clone()),
                };
                for event in output.called(at, answer) {
                    events.send(event).await?;
                }
            }
            let round = &output.items()[begin..];
            if round.iter().any(|item| item["type"] == "function_call") {
                // The client has to answer before the model can go on.
                break false;
            }
            let left = settings.max_tokens.map(|most| most.saturating_sub(answered.cost.generated));
            if left == Some(0) || room.is_err() {
                break true;
            }
            settings.max_tokens = left;
            let mut conversation = Conversation::new(&mut self.chat);
            conversation.add(round, "output")?;
            conversation.finish();
            rounds.push(output.items().len());
            let context =
                self.chat.generation_prompt().map_err(|error| ApiError::from(error).about("tools"))?;
            if check_length(context.tokens().len(), "tools", &self.served.model).is_err() {
                // What the calls gave fits, but not what the template writes around it. The next turn goes on from here.
                context.truncate(used.min(context.tokens().len()))?;
                break true;
            }
            // It had to call once, not in each round.
            tools = if calls == 0 { tools.silent() } else { tools.free() };
            if has_form(&tools, format) {
                reasoning::open(&mut self.chat)?;
            }
        };
        let mut record = self.begun.clone();
        record.rounds = rounds;
        let made = &mut record.response;
        made["status"] = json!(if is_cut { "incomplete" } else { "completed" });
        if is_cut {
            made["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        } else {
            made["completed_at"] = json!(now());
        }
        made["output"] = json!(output.items());
        made["usage"] = usage(cost);
        Ok(record)
    }

    /// Makes a call of a tool of an MCP server, unless there were too many.
    async fn call(&self, item: &Value, left: &mut usize) -> std::result::Result<String, String> {
        let Some(less) = left.checked_sub(1) else {
            return Err(format!("it was not made: `max_tool_calls` is {}", self.tool_calls));
        };
        *left = less;
        let text = |field: &str| item[field].as_str().unwrap_or_default();
        self.sources.call(text("name"), text("arguments")).await
    }

    async fn keep(&mut self, record: &Record) -> Result<()> {
        if self.store {
            record.save().await?;
            record.save_context(self.chat.context_mut()).await?;
        }
        Ok(())
    }

    /// The answer that there is none.
    fn failed(&self, error: &ApiError) -> Record {
        let mut record = self.begun.clone();
        record.fail(error.message());
        record
    }

    async fn stream(&mut self, events: &Events) -> Result<()> {
        let mut sink = Sink::Client(events, 0);
        sink.send_response("created", &self.begun.response).await?;
        sink.send_response("in_progress", &self.begun.response).await?;
        let made = match self.run(&mut sink).await {
            Ok(record) => self.keep(&record).await.map(|()| record),
            Err(error) => Err(error),
        };
        let record = made.unwrap_or_else(|error| self.failed(&error));
        sink.send_response(record.status(), &record.response).await?;
        events.send_done().await
    }

    /// Says that it has begun, or follows its events, and goes on: also when the client leaves.
    async fn answer_in_background(self) -> Result<Response> {
        runtime::detach();
        let id = self.begun.id().to_string();
        let wishes = Wishes::of(&id)?;
        // Before it is kept, or somebody who asks for it would see it without a maker.
        begin_to_make(&id)?;
        let is_streamed = self.stream;
        let begun = async {
            self.begun.save().await?;
            if is_streamed { Journal::begin(&self.begun).await.map(Some) } else { Ok(None) }
        };
        let journal = match begun.await {
            Ok(journal) => journal,
            Err(error) => {
                end_making(&id)?;
                return Err(error);
            }
        };
        let answer = match is_streamed {
            false => response(&self.begun.response),
            true => {
                let id = id.clone();
                Events::response(async move |events| journal::follow(&id, None, events).await)
            }
        };
        spawn(self.make(wishes, journal));
        Ok(answer)
    }

    /// Makes the answer for nobody in particular, until it is not wanted any more.
    async fn make(mut self, wishes: Wishes, mut journal: Option<Journal>) {
        let id = self.begun.id().to_string();
        let work = async {
            let mut sink = journal.as_mut().map_or(Sink::Nowhere, Sink::Kept);
            let record = match self.run(&mut sink).await {
                Ok(record) => record,
                Err(error) => self.failed(&error),
            };
            if record.save_if_wanted().await? && record.status() != "failed" {
                record.save_context(self.chat.context_mut()).await?;
            }
            Ok::<_, ApiError>(())
        };
        let is_done = match select(pin!(work), pin!(wishes.unwanted())).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Ok(()),
        };
        let end = async {
            if let Some(journal) = &mut journal {
                match Record::load(&id) {
                    Ok(record) => journal.end(record.status()).await?,
                    // It was deleted, and what was written meanwhile goes, too.
                    Err(_) => journal::forget(&id).await?,
                }
            }
            Ok(())
        };
        for error in [is_done, end.await].into_iter().filter_map(Result::err) {
            // Nobody else is there to be told.
            eprintln!("{}", error.message());
        }
        // Nobody looks for a maker of what is finished, cancelled or deleted.
        let _ = end_making(&id);
        let _ = journal::look(&id);
    }
}

fn usage(cost: Cost) -> Value {
    json!({
        "input_tokens": cost.prompt,
        "input_tokens_details": { "cached_tokens": cost.cached },
        "output_tokens": cost.generated,
        "output_tokens_details": { "reasoning_tokens": cost.reasoning },
        "total_tokens": cost.prompt + cost.generated,
    })
}
