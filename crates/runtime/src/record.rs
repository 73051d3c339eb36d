//! Recordings: what the runtime tells of its inferlets and engines, for the timeline of [`trace`].
//!
//! Calls are noted where they are made, by a guard in each function of `host` that takes time. Here is the rest: lives of
//! inferlets, and the batches and counters of engines.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use scheduler::{BatchObserver, BatchRecord, Stats};
use trace::{Batch, Busy, Counters, EngineTrack, Life, Recorder, Recording};

use crate::inferlet::InferletState;
use crate::{Runtime, RuntimeState};

/// Memory that a recording takes at most: 200,000 passes, which eight streams of 400 tokens a second each make in a minute.
const RECORDING_BYTES: usize = 64 << 20;

/// Tells a recorder of an engine's batches.
struct Batches(EngineTrack);

/// What an engine is started with so that its batches are in the recordings, under the name of its model.
pub fn batch_observer(recorder: &Arc<Recorder>, model: &str) -> Box<dyn BatchObserver> {
    Box::new(Batches(recorder.engine(model)))
}

impl BatchObserver for Batches {
    fn wants(&self) -> bool {
        self.0.is_on()
    }

    fn batch(&mut self, record: BatchRecord) {
        let BatchRecord { began, moved, ended, planned, failed, before, after } = record;
        self.0.sample(began, counters(&before));
        self.0.batch(Batch {
            began,
            moved,
            ended,
            passes: planned.passes.into_iter().map(|(ticket, rows)| (ticket.0, rows)).collect(),
            cached: planned.rows_cached,
            outputs: planned.outputs,
            copies: planned.copies,
            spills: planned.spills,
            restores: planned.restores,
            failed,
        });
        self.0.sample(ended, counters(&after));
    }
}

fn counters(stats: &Stats) -> Counters {
    Counters {
        pages_free: stats.pages_free,
        pages_cached: stats.pages_cached,
        pages_held: stats.pages_held,
        pages_spilled: stats.pages_spilled,
        passes_running: stats.running,
        passes_waiting: stats.waiting,
    }
}

fn life(inferlet: &InferletState) -> Life<'_> {
    Life {
        owner: inferlet.owner.0,
        id: &inferlet.id,
        program: &inferlet.program,
        user: &inferlet.user.name,
        parent: inferlet.parent.as_ref().map(|parent| parent.owner.0),
        began: inferlet.started(),
    }
}

impl RuntimeState {
    /// An inferlet was put on the list of those that run.
    pub(crate) fn note_begin(&self, inferlet: &InferletState) {
        if self.recorder.is_on() {
            self.recorder.inferlet_began(&life(inferlet));
        }
    }

    /// An inferlet was taken off the list, which is still locked: whoever reads the list for a recording sees it there, or
    /// has its end.
    pub(crate) fn note_end(&self, inferlet: &InferletState) {
        self.recorder.inferlet_ended(inferlet.owner.0);
    }
}

impl Runtime {
    /// Records what happens until `end` is ready: inferlets and their calls, batches and counters of engines. Dropping the
    /// future gives the recording up.
    ///
    /// # Errors
    /// When another recording runs.
    pub async fn record(&self, end: impl Future<Output = ()>) -> Result<Recording, Busy> {
        let session = self.0.recorder.begin(RECORDING_BYTES)?;
        {
            let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.values().for_each(|inferlet| self.0.recorder.inferlet_began(&life(inferlet)));
        }
        self.sample_counters().await;
        end.await;
        self.sample_counters().await;
        Ok(session.end())
    }

    /// Notes the counters of every engine, also of one that has nothing to do.
    async fn sample_counters(&self) {
        for model in &self.0.models {
            // An engine that is dead, or has too much to do, has no counters now.
            if let Ok(Ok(stats)) = model.engine.stats().await {
                self.0.recorder.engine(&model.name).sample(Instant::now(), counters(&stats));
            }
        }
    }
}
