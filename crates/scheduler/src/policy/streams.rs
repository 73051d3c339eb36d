//! The streams that decode, and the time that they leave to prompts.
//!
//! A *stream* is a context whose passes have few rows, at most a page. Beside streams, a batch takes so many rows of prompts
//! that these are a share of its time:
//!
//! ```text
//! |<- the streams alone ->|<- prompts: share of the whole ->|
//! slowdown of a stream = 1 / (1 - share)        of a prompt, while streams are there = 1 / share
//! ```
//! With 58 hundredths those are 2.4 and 1.7. Where no stream is at work, or `share` is all, prompts take what fits.
//!
//! How long rows take is known from batches that completed. While those were of streams alone it is little known, so the rows of
//! prompts begin with what the rows of streams would take, and then at most double from one batch to the next.
//!
//! A stream is *at work* while it has a pass, and from its last answer for as long as the batch would take that its prompts
//! could fill: as tenants are, see `fair`. So one that is away for a moment comes back to short batches, and one that is away
//! for longer waits at most for one batch, which is less than it was away.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::batch_time::{BatchTime, Work};
use super::fair::Waiting;
use crate::request::{ContextId, Priority, TenantId};

/// A stream between two of its passes.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) answered: Duration,
    pub(crate) tenant: TenantId,
    pub(crate) priority: Priority,
    /// What its next pass will want, as far as the last one tells.
    pub(crate) work: Work,
}

/// See the module docs.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    away: BTreeMap<ContextId, Stream>,
    /// Of the time of a batch, that of prompts, in hundredths.
    prefill_share: u32,
    /// Rows of prompts that were allowed beside streams lately. `None` where no prompt waits.
    prompt_rows: Option<u32>,
    /// Whether priority counts across tenants.
    across: bool,
}

/// What the streams allow to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Rows of the batch, those of streams among them.
    pub(super) rows: u32,
    /// Of these, rows of prompts.
    pub(super) prompt_rows: u32,
}

impl Streams {
    pub(super) fn new(prefill_share: u32, across: bool) -> Streams {
        Streams { prefill_share, across, ..Streams::default() }
    }

    /// A pass of a stream was answered.
    pub(crate) fn answered(&mut self, context: ContextId, stream: Stream) {
        self.away.insert(context, stream);
    }

    /// It has a pass again, or is gone.
    pub(crate) fn not_away(&mut self, context: ContextId) {
        self.away.remove(&context);
    }

    /// Forgets those that were answered before a time.
    pub(super) fn forget(&mut self, before: Duration) {
        self.away.retain(|_, stream| stream.answered > before);
    }

    /// What a batch may take beside the streams at work; `tenants` are those of the shares, in order. `None`: what fits.
    pub(super) fn allow(
        &mut self,
        waiting: &[Waiting],
        tenants: &[TenantId],
        batch_time: &BatchTime,
        batch_tokens: u32,
    ) -> Option<Allowance> {
        let prompts = || waiting.iter().filter(|pass| pass.long);
        let Some(first_prompt) = prompts().min_by_key(|pass| (Reverse(pass.priority), pass.arrival)) else {
            self.prompt_rows = None;
            return None;
        };
        // One that gets its pages after long patience takes them all: it might lose them to a stream, and be patient again.
        if self.prefill_share >= 100 || prompts().any(Waiting::takes_pages_first) {
            return None;
        }
        let streams = self.at_work(waiting, tenants).at_most(batch_tokens);
        let own = streams.rows as u32;
        if own == 0 {
            return None;
        }
        let times = 100.0 / f64::from(100 - self.prefill_share);
        // As rows of the prompt are on average, if there are as many as the streams have.
        let more = Work::of(own, first_prompt.length);
        let rows = batch_time.rows_in(times, streams, more, own + 1);
        let before = self.prompt_rows.unwrap_or(((times - 1.0) * f64::from(own) / 2.0) as u32).max(1);
        let prompt_rows = (rows - own).min(before.saturating_mul(2));
        // A batch that is smaller, to learn of its size, is no reason to begin anew.
        self.prompt_rows = Some(prompt_rows.max(before / 2));
        Some(Allowance { rows: own + prompt_rows, prompt_rows })
    }

    /// The work of all streams but those that a prompt goes before anyway, by its tenant's word or, across tenants, by
    /// anybody's, and those that wait for pages.
    fn at_work(&self, waiting: &[Waiting], tenants: &[TenantId]) -> Work {
        let mut prompts: Vec<Option<Priority>> = vec![None; tenants.len()];
        for prompt in waiting.iter().filter(|pass| pass.long) {
            let of_tenant = &mut prompts[prompt.share];
            *of_tenant = (*of_tenant).max(Some(prompt.priority));
        }
        let of_all = prompts.iter().copied().max().flatten().filter(|_| self.across);
        let counts = |share: Option<usize>, priority| {
            let of_tenant = share.and_then(|share| prompts[share]);
            of_tenant.max(of_all) <= Some(priority)
        };
        let waiting = waiting.iter().filter(|pass| !pass.long && !pass.blocked);
        let waiting = waiting.filter(|pass| counts(Some(pass.share), pass.priority)).map(Waiting::work);
        let share_of = |stream: &Stream| tenants.binary_search(&stream.tenant).ok();
        let away = self.away.values().filter(|stream| counts(share_of(stream), stream.priority));
        waiting.chain(away.map(|stream| stream.work)).sum()
    }
}
