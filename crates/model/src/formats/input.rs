//! What has been read of an answer, and what it has been read as.
//!
//! A format reads markup with an `async` function, which waits where the text read so far ends: so it is
//! written as if the whole answer were there, and goes on where it stood when more of it has come. Nothing
//! else is asynchronous: [`Parser`](super::Parser) polls it whenever it is given text.
//!
//! ```text
//!      gone         held                       to come
//! ────────────── mark ─ marker ──────── at ─────────────
//!    parts of it   space   markup being read
//! ```
//!
//! Markup is held until it is known to be right, as it comes back as text if it is not. What has been read of
//! it does not change that, so of a call that fails the beginning has been given already, and
//! [`Part::CallFailed`] takes it back.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use serde_json::Value;

use super::tools::{self, Kinds, Tools};
use super::{Part, Spec, write};

/// Text that is not markup, as it turned out. The next character is the first that is wrong.
#[derive(Debug)]
pub(super) struct Wrong;

/// What text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// What the model says.
    Content,
    /// What the model thinks.
    Reasoning,
}

/// The text of an answer, for a format to read.
#[derive(Clone)]
pub(super) struct Input(Arc<Mutex<State>>);

pub(super) struct State {
    spec: &'static Spec,
    pub(super) tools: Tools,
    is_any_tool: bool,
    /// Text that is held.
    text: String,
    /// Where in it the first byte is that no part has.
    mark: usize,
    /// Where the markup begins that is being read.
    marker: usize,
    /// Whether a call of that markup has ended.
    is_past_call: bool,
    /// The next character to read.
    at: usize,
    /// Whether nothing follows `text`.
    is_ended: bool,
    mode: Mode,
    /// What has been said before: nothing, calls only, or something.
    before: Before,
    /// Whether new lines are skipped, as they belong to the mark before them.
    is_after_mark: bool,
    /// Whether markup has been read, right or wrong.
    is_marked: bool,
    parts: Vec<Part>,
    /// Calls that have begun.
    calls: usize,
    /// Whether the last of them has not ended.
    is_calling: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Calls,
    Text,
}

/// Whether a marker is at a place.
enum Marker {
    Here,
    /// What follows will say.
    Perhaps,
    No,
}

impl Input {
    pub(super) fn new(spec: &'static Spec, tools: Tools, is_any_tool: bool, mode: Mode) -> Input {
        Input(Arc::new(Mutex::new(State {
            spec,
            tools,
            is_any_tool,
            text: String::new(),
            mark: 0,
            marker: 0,
            is_past_call: false,
            at: 0,
            is_ended: false,
            mode,
            before: Before::Nothing,
            is_after_mark: mode == Mode::Reasoning && spec.reasoning.is_on_lines,
            is_marked: false,
            parts: Vec::new(),
            calls: 0,
            is_calling: false,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next character, without reading it; `None` at the end of the answer.
    pub(super) async fn peek(&self) -> Option<char> {
        poll_fn(|_| {
            let state = self.lock();
            match state.text[state.at..].chars().next() {
                None if !state.is_ended => Poll::Pending,
                next => Poll::Ready(next),
            }
        })
        .await
    }

    /// Reads the next character if it is as wanted.
    pub(super) async fn take(&self, is_wanted: impl Fn(char) -> bool) -> Result<char, Wrong> {
        let next = self.peek().await.filter(|c| is_wanted(*c)).ok_or(Wrong)?;
        self.lock().at += next.len_utf8();
        Ok(next)
    }

    /// Reads `text`.
    pub(super) async fn expect(&self, text: &str) -> Result<(), Wrong> {
        for expected in text.chars() {
            self.take(|c| c == expected).await?;
        }
        Ok(())
    }

    /// Reads `text` if it is there.
    pub(super) async fn maybe(&self, text: &str) -> bool {
        poll_fn(|_| {
            let mut state = self.lock();
            let rest = &state.text[state.at..];
            if rest.starts_with(text) {
                state.at += text.len();
                return Poll::Ready(true);
            }
            if text.starts_with(rest) && !state.is_ended { Poll::Pending } else { Poll::Ready(false) }
        })
        .await
    }

    /// Reads what closes a call. At the end of the answer it may be missing: it may have been the stop token.
    pub(super) async fn close(&self, text: &str) -> Result<(), Wrong> {
        if self.peek().await.is_none() { Ok(()) } else { self.expect(text).await }
    }

    /// Reads white space.
    pub(super) async fn space(&self) {
        while self.take(char::is_whitespace).await.is_ok() {}
    }

    /// Reads a name: letters, digits and `_-.:/`.
    pub(super) async fn name(&self) -> Result<String, Wrong> {
        let mut name = String::new();
        while let Ok(c) = self.take(is_name).await {
            name.push(c);
        }
        if name.is_empty() { Err(Wrong) } else { Ok(name) }
    }

    /// Reads text up to `end`, and that, and gives each piece of it to `each`. With
    /// `is_line_optional` a new line before `end` belongs to it.
    pub(super) async fn until(
        &self,
        end: &str,
        is_line_optional: bool,
        mut each: impl FnMut(&str),
    ) -> Result<(), Wrong> {
        let mut held = String::new();
        loop {
            held.push(self.take(|_| true).await?);
            if let Some(last) = held.strip_suffix(end) {
                let last = if is_line_optional { last.strip_suffix('\n').unwrap_or(last) } else { last };
                each(last);
                return Ok(());
            }
            // What could belong to the end stays.
            let mut sure = held.len().saturating_sub(end.len() + 1);
            while !held.is_char_boundary(sure) {
                sure -= 1;
            }
            if sure > 0 {
                each(&held[..sure]);
                held.drain(..sure);
            }
        }
    }

    /// Begins a call, which must be of a tool on offer.
    pub(super) fn begin(&self, name: &str) -> Result<(), Wrong> {
        let mut state = self.lock();
        if name.is_empty() || !(state.is_any_tool || state.tools.get(name).is_some()) {
            return Err(Wrong);
        }
        assert!(!state.is_calling, "calls do not nest");
        state.put_space_before_call();
        let index = state.calls;
        state.parts.push(Part::CallBegin { index, name: name.to_owned() });
        state.calls += 1;
        state.is_calling = true;
        Ok(())
    }

    /// Adds to the arguments of the call.
    pub(super) fn arguments(&self, json: &str) {
        let mut state = self.lock();
        assert!(state.is_calling, "arguments belong to a call");
        let index = state.calls - 1;
        match state.parts.last_mut() {
            _ if json.is_empty() => {}
            Some(Part::CallArguments { json: before, .. }) => before.push_str(json),
            _ => state.parts.push(Part::CallArguments { index, json: json.to_owned() }),
        }
    }

    /// Ends the call: its markup will not come back.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        assert!(state.is_calling, "a call has begun");
        let index = state.calls - 1;
        state.parts.push(Part::CallEnd { index });
        state.is_calling = false;
        state.is_past_call = true;
        state.before = Before::Calls;
        state.mark = state.at;
    }

    /// Whether what is being read is within reasoning.
    pub(super) fn is_reasoning(&self) -> bool {
        self.lock().mode == Mode::Reasoning
    }

    /// Reads the value of an argument up to `end`, and that, and adds it to the arguments of the call. A string
    /// goes on as it comes; anything else is known when it is complete.
    pub(super) async fn value(
        &self,
        tool: &str,
        parameter: &str,
        end: &str,
        is_line_optional: bool,
    ) -> Result<(), Wrong> {
        let schema = self.schema(tool, parameter);
        if tools::kinds(schema.as_ref()) == Kinds::Strings {
            self.arguments("\"");
            self.until(end, is_line_optional, |text| {
                let quoted = write::json(&Value::from(text));
                self.arguments(&quoted[1..quoted.len() - 1]);
            })
            .await?;
            self.arguments("\"");
        } else {
            let mut text = String::new();
            self.until(end, is_line_optional, |piece| text.push_str(piece)).await?;
            self.arguments(&write::json(&tools::value(schema.as_ref(), &text)));
        }
        Ok(())
    }

    /// Begins the next member of the arguments.
    pub(super) fn key(&self, key: &str, is_first: &mut bool) {
        let comma = if std::mem::replace(is_first, false) { "" } else { ", " };
        self.arguments(&format!("{comma}{}: ", write::json(&Value::from(key))));
    }

    /// The schema of a parameter, if it is known.
    pub(super) fn schema(&self, tool: &str, parameter: &str) -> Option<Value> {
        self.lock().tools.parameter(tool, parameter).cloned()
    }

    /// Gives text until a marker; false at the end of the answer.
    pub(super) async fn text(&self) -> bool {
        poll_fn(|_| self.lock().text()).await
    }

    /// The markup is right, and `mode` is what follows.
    pub(super) fn accept(&self, mode: Mode) {
        self.lock().accept(mode);
    }

    /// The markup is wrong: what was read of it is text.
    pub(super) fn give_back(&self) {
        self.lock().give_back();
    }
}

impl State {
    /// Appends text that the model has said.
    pub(super) fn push(&mut self, text: &str) {
        self.text.drain(..self.mark);
        self.at -= self.mark;
        self.marker = self.marker.saturating_sub(self.mark);
        self.mark = 0;
        self.text.push_str(text);
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    /// The parts since the last time.
    pub(super) fn take_parts(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    fn text(&mut self) -> Poll<bool> {
        loop {
            let rest = &self.text[self.at..];
            let next = rest.chars().next();
            if self.is_after_mark && next == Some('\n') {
                self.at += 1;
                self.mark = self.at;
                continue;
            }
            match self.marker(rest) {
                Marker::Here => {
                    self.marker = self.at;
                    self.is_past_call = false;
                    return Poll::Ready(true);
                }
                Marker::Perhaps if !self.is_ended => return Poll::Pending,
                Marker::Perhaps | Marker::No => {}
            }
            let Some(next) = next else {
                if !self.is_ended {
                    return Poll::Pending;
                }
                if self.mode == Mode::Reasoning || self.before != Before::Calls {
                    self.put(self.at);
                }
                return Poll::Ready(false);
            };
            self.is_after_mark = false;
            self.at += next.len_utf8();
            if !next.is_whitespace() {
                self.before = if self.mode == Mode::Content { Before::Text } else { self.before };
                self.put(self.at);
            }
        }
    }

    fn marker(&self, rest: &str) -> Marker {
        let spec = self.spec;
        let is_content = self.mode == Mode::Content;
        let is_unmarked = is_content && self.before == Before::Nothing && !self.is_marked;
        if is_unmarked && spec.begins_in_markup && rest.starts_with(is_name) {
            return Marker::Here;
        }
        let tag = match self.before {
            _ if !is_content => spec.reasoning.close,
            Before::Text => "",
            Before::Nothing | Before::Calls => spec.reasoning.open,
        };
        let markers: &[&str] = if is_content { spec.markers } else { &[] };
        let has_tools = self.is_any_tool || !self.tools.is_empty();
        let may_start = is_content && self.before == Before::Nothing && has_tools;
        let at_start: &[&str] = if may_start { spec.markers_at_start } else { &[] };
        let mut found = Marker::No;
        for marker in [tag].iter().chain(markers).chain(at_start).filter(|marker| !marker.is_empty()) {
            if rest.starts_with(marker) {
                return Marker::Here;
            }
            if marker.starts_with(rest) {
                found = Marker::Perhaps;
            }
        }
        found
    }

    /// Gives the held text before `end` as a part.
    fn put(&mut self, end: usize) {
        let text = &self.text[self.mark..end];
        self.mark = end;
        if text.is_empty() {
            return;
        }
        match (self.parts.last_mut(), self.mode) {
            (Some(Part::Content(before)), Mode::Content) => before.push_str(text),
            (Some(Part::Reasoning(before)), Mode::Reasoning) => before.push_str(text),
            (_, Mode::Content) => self.parts.push(Part::Content(text.to_owned())),
            (_, Mode::Reasoning) => self.parts.push(Part::Reasoning(text.to_owned())),
        }
    }

    /// Gives the space before a call, without that which templates write before calls themselves.
    fn put_space_before_call(&mut self) {
        if self.before != Before::Text || self.mark >= self.marker {
            return;
        }
        let space = self.text[self.mark..self.marker].char_indices().rev();
        let gap = self.spec.gap.chars().rev();
        let of_call = space.zip(gap).take_while(|((_, one), other)| one == other).count();
        self.put(self.marker - of_call);
    }

    fn accept(&mut self, mode: Mode) {
        let tags = &self.spec.reasoning;
        if self.mark < self.marker {
            let space = &self.text[self.mark..self.marker];
            match (self.mode, self.before) {
                (Mode::Reasoning, _) if tags.is_on_lines => {
                    self.put(self.mark + space.trim_end_matches('\n').len());
                }
                (Mode::Reasoning, _) | (Mode::Content, Before::Text) => self.put(self.marker),
                (Mode::Content, _) => {}
            }
        }
        self.mark = self.at;
        self.is_marked = true;
        self.is_after_mark = tags.is_on_lines && self.mode != mode;
        self.mode = mode;
    }

    fn give_back(&mut self) {
        if self.is_calling {
            self.parts.push(Part::CallFailed { index: self.calls - 1 });
            self.is_calling = false;
        }
        if self.at == self.marker && !self.is_past_call {
            // The marker itself is text, or it would be found again.
            self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        }
        self.is_after_mark = false;
        self.is_marked = true;
        if self.mode == Mode::Content && !self.text[self.mark..self.at].trim().is_empty() {
            self.before = Before::Text;
        }
        self.put(self.at);
    }
}

/// Whether a character may be one of a name in markup.
pub(super) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || "_-.:/".contains(c)
}
