//! The recorder, and the handles of those who tell it something.
//!
//! A recording is under one lock, which is held for a push. While none runs, nobody takes it: everybody looks at a flag
//! first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::events::{
    Argument, Batch, BatchEvent, CallEvent, Counters, Inferlet, Life, Sample, Value, argument_bytes,
};

/// Records while a [`Session`] is open.
#[derive(Debug, Default)]
pub struct Recorder {
    on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts recordings: what began in one does not end in another.
    number: u64,
    recording: Option<Recording>,
    engines: Vec<String>,
}

/// Another recording runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a recording is being made already, and there is one at a time: try again when it is over")]
pub struct Busy;

impl Recorder {
    /// Whether a recording runs.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A push leaves the state valid at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the recording, if one runs.
    fn with<R>(&self, push: impl FnOnce(&mut Recording) -> R) -> Option<R> {
        if !self.is_on() {
            return None;
        }
        self.lock().recording.as_mut().map(push)
    }

    /// Begins a recording that takes up to so many bytes of memory.
    ///
    /// # Errors
    /// When another runs.
    pub fn begin(self: &Arc<Recorder>, capacity: usize) -> Result<Session, Busy> {
        let mut state = self.lock();
        if state.recording.is_some() {
            return Err(Busy);
        }
        state.number += 1;
        state.recording = Some(Recording::new(capacity));
        self.on.store(true, Ordering::Relaxed);
        Ok(Session { recorder: self.clone(), number: state.number })
    }

    /// The track of the engine that computes a model; the same for the same name.
    pub fn engine(self: &Arc<Recorder>, model: &str) -> EngineTrack {
        let mut state = self.lock();
        let known = state.engines.iter().position(|name| name == model);
        let engine = known.unwrap_or_else(|| {
            state.engines.push(model.to_string());
            state.engines.len() - 1
        });
        EngineTrack { recorder: self.clone(), engine: engine as u16 }
    }

    /// An inferlet begins, or runs already. One that is known is not new.
    pub fn inferlet_began(&self, life: &Life<'_>) {
        self.with(|recording| recording.inferlet(life));
    }

    /// An inferlet has ended.
    pub fn inferlet_ended(&self, owner: u64) {
        self.with(|recording| {
            if let Some(index) = recording.by_owner.get(&owner) {
                recording.inferlets[*index as usize].ended = Some(Instant::now());
            }
        });
    }

    /// An inferlet begins a call of the host, which ends when the guard is dropped. Without a recording the arguments are
    /// not made.
    pub fn call(
        self: &Arc<Recorder>,
        owner: u64,
        name: &'static str,
        arguments: impl FnOnce() -> Vec<Argument>,
    ) -> Call {
        self.begin_call(owner, name, None, arguments)
    }

    /// As [`Recorder::call`], for one that asks for a forward pass.
    pub fn pass(
        self: &Arc<Recorder>,
        owner: u64,
        name: &'static str,
        ticket: u64,
        arguments: impl FnOnce() -> Vec<Argument>,
    ) -> Call {
        self.begin_call(owner, name, Some(ticket), arguments)
    }

    fn begin_call(
        self: &Arc<Recorder>,
        owner: u64,
        name: &'static str,
        ticket: Option<u64>,
        arguments: impl FnOnce() -> Vec<Argument>,
    ) -> Call {
        if !self.is_on() {
            return Call(None);
        }
        let (began, arguments) = (Instant::now(), arguments());
        let mut state = self.lock();
        let number = state.number;
        let index = state.recording.as_mut().and_then(|recording| {
            let inferlet = recording.by_owner.get(&owner).copied();
            let bytes = size_of::<CallEvent>() + argument_bytes(&arguments);
            let Some(inferlet) = inferlet.filter(|_| recording.takes(bytes)) else {
                recording.dropped += 1;
                return None;
            };
            let (ended, answered) = (None, false);
            recording.calls.push(CallEvent { inferlet, name, began, ended, ticket, answered, arguments });
            Some(recording.calls.len() - 1)
        });
        let open = |index| OpenCall { recorder: self.clone(), number, index, answered: false, more: None };
        Call(index.map(open))
    }
}

/// A call of the host under way. Dropping it ends the call.
#[derive(Debug)]
#[must_use = "the call ends when this is dropped"]
pub struct Call(Option<OpenCall>);

#[derive(Debug)]
struct OpenCall {
    recorder: Arc<Recorder>,
    /// Of the recording.
    number: u64,
    /// Of the call.
    index: usize,
    answered: bool,
    /// Arguments that are known at its end.
    more: Option<Vec<Argument>>,
}

impl Call {
    /// What is known of it at its end, which is near.
    pub fn ends_with(&mut self, arguments: impl FnOnce() -> Vec<Argument>) {
        if let Some(open) = &mut self.0 {
            open.more = Some(arguments());
        }
    }

    /// Its pass was answered with outputs.
    pub fn answered(&mut self, arguments: impl FnOnce() -> Vec<Argument>) {
        self.ends_with(arguments);
        if let Some(open) = &mut self.0 {
            open.answered = true;
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let ended = Instant::now();
        let mut state = self.recorder.lock();
        let same = state.number == self.number;
        let Some(recording) = state.recording.as_mut().filter(|_| same) else { return };
        let more = self.more.take().unwrap_or_default();
        let more = if recording.takes(argument_bytes(&more)) { more } else { Vec::new() };
        let call = &mut recording.calls[self.index];
        (call.ended, call.answered) = (Some(ended), self.answered);
        call.arguments.extend(more);
    }
}

/// What an engine tells.
#[derive(Clone, Debug)]
pub struct EngineTrack {
    recorder: Arc<Recorder>,
    engine: u16,
}

impl EngineTrack {
    /// Whether anybody wants to know.
    pub fn is_on(&self) -> bool {
        self.recorder.is_on()
    }

    /// A batch has run.
    pub fn batch(&self, batch: Batch) {
        let engine = self.engine;
        self.recorder.with(|recording| {
            let bytes = size_of::<BatchEvent>() + size_of_val(&batch.passes[..]);
            if recording.takes_event(bytes) {
                recording.batches.push(BatchEvent { engine, batch });
            }
        });
    }

    /// What the engine has at a moment.
    pub fn sample(&self, at: Instant, counters: Counters) {
        let engine = self.engine;
        self.recorder.with(|recording| {
            if recording.takes_event(size_of::<Sample>()) {
                recording.samples.push(Sample { engine, at, counters });
            }
        });
    }
}

/// A recording that runs. Dropping it gives it up.
#[derive(Debug)]
pub struct Session {
    recorder: Arc<Recorder>,
    number: u64,
}

impl Session {
    /// Ends the recording and hands it out.
    pub fn end(self) -> Recording {
        let mut recording = self.take().expect("only the session takes it");
        recording.ended = Instant::now();
        recording.engines.clone_from(&self.recorder.lock().engines);
        recording
    }

    /// The recording, if it is there still. Another may have begun since.
    fn take(&self) -> Option<Recording> {
        let mut state = self.recorder.lock();
        if state.number != self.number {
            return None;
        }
        self.recorder.on.store(false, Ordering::Relaxed);
        state.recording.take()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// What was recorded.
#[derive(Debug)]
pub struct Recording {
    pub(crate) began: Instant,
    /// Time of the day when it began, since 1970.
    pub(crate) began_unix: Duration,
    pub(crate) ended: Instant,
    pub(crate) engines: Vec<String>,
    pub(crate) inferlets: Vec<Inferlet>,
    by_owner: HashMap<u64, u32>,
    pub(crate) calls: Vec<CallEvent>,
    pub(crate) batches: Vec<BatchEvent>,
    pub(crate) samples: Vec<Sample>,
    /// Bytes that it may take, and takes.
    pub(crate) capacity: usize,
    pub(crate) bytes: usize,
    /// Events that were not recorded for want of room.
    pub(crate) dropped: u64,
}

impl Recording {
    fn new(capacity: usize) -> Recording {
        let began = Instant::now();
        Recording {
            began,
            began_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            ended: began,
            engines: Vec::new(),
            inferlets: Vec::new(),
            by_owner: HashMap::new(),
            calls: Vec::new(),
            batches: Vec::new(),
            samples: Vec::new(),
            capacity,
            bytes: 0,
            dropped: 0,
        }
    }

    /// Events in it: lives, calls, batches and samples.
    pub fn events(&self) -> u64 {
        (self.inferlets.len() + self.calls.len() + self.batches.len() + self.samples.len()) as u64
    }

    /// Events that are not in it, since it was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes room for so many bytes, if it has it.
    fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= self.capacity;
        self.bytes += if fits { bytes } else { 0 };
        fits
    }

    /// As [`Recording::takes`]; an event for which there is none is counted.
    fn takes_event(&mut self, bytes: usize) -> bool {
        let fits = self.takes(bytes);
        self.dropped += u64::from(!fits);
        fits
    }

    fn inferlet(&mut self, life: &Life<'_>) {
        let Life { owner, id, program, user, parent, began } = *life;
        let text = |text: &str| match Value::from(text) {
            Value::Text(text) => text,
            Value::Count(_) => unreachable!("made of a text"),
        };
        let texts = [id, program, user].map(text);
        let bytes =
            size_of::<Inferlet>() + size_of::<(u64, u32)>() + texts.iter().map(|t| t.len()).sum::<usize>();
        if self.by_owner.contains_key(&owner) || !self.takes_event(bytes) {
            return;
        }
        let [id, program, user] = texts;
        self.by_owner.insert(owner, self.inferlets.len() as u32);
        self.inferlets.push(Inferlet { owner, id, program, user, parent, began, ended: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(owner: u64) -> Life<'static> {
        Life { owner, id: "id", program: "p", user: "u", parent: None, began: Instant::now() }
    }

    #[test]
    fn nothing_is_kept_without_a_recording_and_there_is_one_at_a_time() {
        let recorder = Arc::new(Recorder::default());
        recorder.inferlet_began(&life(1));
        drop(recorder.call(1, "early", || panic!("nobody wants the arguments")));
        let session = recorder.begin(1 << 20).unwrap();
        assert_eq!(recorder.begin(1 << 20).unwrap_err(), Busy);
        assert_eq!(session.end().events(), 0);
        // Given up, it is gone as well.
        drop(recorder.begin(1 << 20).unwrap());
        assert!(!recorder.is_on() && recorder.begin(1).is_ok());
    }

    #[test]
    fn a_call_ends_in_its_own_recording_only() {
        let recorder = Arc::new(Recorder::default());
        let first = recorder.begin(1 << 20).unwrap();
        recorder.inferlet_began(&life(1));
        let mut call = recorder.pass(1, "forward.execute", 7, || vec![("rows", 3u32.into())]);
        call.answered(|| vec![("cached", 2u32.into())]);
        drop(call);
        let open = recorder.call(1, "clock.sleep", Vec::new);
        let recording = first.end();
        let [done, lasting] = &recording.calls[..] else { panic!("two calls: {recording:?}") };
        assert!(done.ended >= Some(done.began) && done.answered && done.ticket == Some(7));
        assert_eq!(done.arguments, [("rows", Value::Count(3)), ("cached", Value::Count(2))]);
        assert!(lasting.ended.is_none());
        let second = recorder.begin(1 << 20).unwrap();
        recorder.inferlet_began(&life(1));
        let _other = recorder.call(1, "store.get", Vec::new);
        drop(open);
        assert!(second.end().calls[0].ended.is_none(), "the call of the first ended after it");
    }

    #[test]
    fn a_full_recording_takes_no_more_memory_and_counts_what_it_drops() {
        let recorder = Arc::new(Recorder::default());
        let session = recorder.begin(10_000).unwrap();
        recorder.inferlet_began(&life(1));
        let engine = recorder.engine("m");
        let now = Instant::now();
        for ticket in 0..1000 {
            // However long the text is.
            drop(recorder.call(1, "messaging.pull", || vec![("queue", "é".repeat(5000).as_str().into())]));
            recorder.inferlet_began(&life(1000 + ticket));
            engine.batch(Batch {
                began: now,
                moved: now,
                ended: now,
                passes: vec![(ticket, 1); 100],
                cached: 0,
                outputs: 0,
                copies: 0,
                spills: 0,
                restores: 0,
                failed: false,
            });
        }
        let recording = session.end();
        assert!(recording.bytes <= 10_000, "{}", recording.bytes);
        assert!(recording.events() > 10);
        assert_eq!(recording.events() + recording.dropped(), 3001);
        // Calls of inferlets that it does not know are among the dropped.
        let session = recorder.begin(10_000).unwrap();
        drop(recorder.call(5, "store.get", Vec::new));
        let recording = session.end();
        assert_eq!((recording.events(), recording.dropped()), (0, 1));
    }
}
