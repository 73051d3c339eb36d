//! Ids, and one forward pass as it comes in and goes out.
//!
//! Ids are chosen by the caller, from counters of its own, so creating a context or starting a pass needs no round
//! trip. An id is used once: a context or ticket id that was dropped or answered must not come again.

use std::sync::Arc;
use std::time::Duration;

use backend::{AdapterId, Limits, OutputKind, Value};

/// One context, chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub u64);

/// The holder of contexts, accounted and freed as a whole: one inferlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u64);

/// A user: a group of owners that may share the prefix cache with each other, and have one share of the work. Numbered
/// from the first to come; where nothing else tells two apart, the lower number keeps its pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u64);

/// Parts what a tenant has in the prefix cache: contexts share cached prefixes with those of the same salt only. It is a
/// hash that nobody can aim at another; contexts without one share 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheSalt(pub u128);

/// One forward pass in flight, chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Priority of a context among those of its tenant: orders its passes, and decides which of them give up pages first. See
/// [`crate::SchedulerConfig::priority_across_tenants`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Served when nobody else wants to be.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Served first.
    High,
}

/// The attention mask of one row of a pass, as run lengths.
///
/// The runs cover, in order, the context's live tokens before the pass and then the rows of the pass up to and
/// including this one. They alternate, and **the first run is *not* attended to** (it may be 0), the second is
/// attended to, and so on. Tokens after the last run are attended to; runs beyond the row's tokens are ignored. A row
/// always attends to itself, whatever the runs say.
///
/// `[]` attends to everything (the default of a pass without masks), `[4]` to all but the first 4 tokens, `[0, 4, 10]`
/// to the first 4 tokens and to those after the next 10: a sink and a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowRuns(pub Vec<u32>);

impl RowRuns {
    /// Whether each of `tokens` tokens (live ones, then rows up to and including this one) is attended to.
    pub fn attended(&self, tokens: usize) -> impl Iterator<Item = bool> + '_ {
        let runs = self.0.iter().enumerate();
        let given = runs.flat_map(|(index, length)| std::iter::repeat_n(index % 2 == 1, *length as usize));
        given
            .chain(std::iter::repeat(true))
            .take(tokens.saturating_sub(1))
            .chain((tokens > 0).then_some(true))
    }
}

/// One forward pass on a context: rows to compute, and the outputs wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardRequest {
    /// Name of this pass, for its reply and its cancellation.
    pub ticket: Ticket,
    /// The context read and, with `keep_kv`, extended.
    pub context: ContextId,
    /// Token of each row; at least one. Ignored for rows that have an embedding.
    pub tokens: Vec<u32>,
    /// Rows that are given by an embedding of `limits.hidden` values, by strictly increasing row.
    pub embeddings: Vec<(usize, Arc<[f32]>)>,
    /// Position of each row; `None` continues at the context's next position.
    pub positions: Option<Vec<u32>>,
    /// What each row attends to; `None` is all live tokens and all earlier rows. One entry a row.
    pub masks: Option<Vec<RowRuns>>,
    /// Adapter applied to all rows.
    pub adapter: Option<AdapterId>,
    /// Whether the rows become tokens of the context. If not, the context is afterwards as it was. Those of an encoder
    /// cannot.
    pub keep_kv: bool,
    /// Outputs wanted: row and kind, in any order; a row may have several. Answered in this order.
    pub outputs: Vec<(usize, OutputKind)>,
}

impl ForwardRequest {
    /// A pass over `tokens` that keeps its keys and values and asks for nothing yet.
    pub fn new(ticket: Ticket, context: ContextId, tokens: Vec<u32>) -> ForwardRequest {
        ForwardRequest {
            ticket,
            context,
            tokens,
            embeddings: Vec::new(),
            positions: None,
            masks: None,
            adapter: None,
            keep_kv: true,
            outputs: Vec::new(),
        }
    }

    /// Checks every rule stated on the fields, for a context of `length` tokens that continues at `next_position`.
    ///
    /// # Errors
    /// The first rule broken: [`ForwardError::OutOfPages`] when the pool could never hold the rows, else
    /// [`ForwardError::InvalidArgument`].
    pub fn check(&self, length: u32, next_position: u32, limits: &Limits) -> Result<(), ForwardError> {
        self.check_rows(next_position, limits)
            .and_then(|()| self.check_length(length, limits))
            .and_then(|()| self.check_outputs(limits))
            .and_then(|()| if limits.encoder { self.check_whole(length, limits) } else { Ok(()) })
            .map_err(ForwardError::InvalidArgument)?;
        let needed = (self.tokens.len() as u64).div_ceil(u64::from(limits.page_tokens));
        match needed > u64::from(limits.pages) {
            true => Err(ForwardError::OutOfPages {
                needed: needed.try_into().unwrap_or(u32::MAX),
                available: limits.pages,
            }),
            false => Ok(()),
        }
    }

    fn check_rows(&self, next_position: u32, limits: &Limits) -> Result<(), String> {
        let rows = self.tokens.len();
        if rows == 0 {
            return Err("a pass needs at least one row".into());
        }
        let mut before = None;
        for (row, values) in &self.embeddings {
            if *row >= rows || before >= Some(*row) || values.len() != limits.hidden as usize {
                return Err(format!(
                    "embedding of row {row}: {} values, expected {} by increasing row below {rows}",
                    values.len(),
                    limits.hidden
                ));
            }
            before = Some(*row);
        }
        let given = |row: usize| self.embeddings.binary_search_by_key(&row, |(r, _)| *r).is_ok();
        let mut tokens = self.tokens.iter().enumerate();
        if let Some((_, token)) = tokens.find(|(row, token)| **token >= limits.vocabulary && !given(*row)) {
            return Err(format!("token {token} is outside the vocabulary of {}", limits.vocabulary));
        }
        let last = match &self.positions {
            Some(positions) if positions.len() != rows => {
                return Err(format!("{} positions for {rows} rows", positions.len()));
            }
            Some(positions) => u64::from(positions.iter().copied().max().unwrap_or(0)),
            None => u64::from(next_position) + rows as u64 - 1,
        };
        if last >= u64::from(limits.context_tokens) {
            return Err(format!(
                "position {last} is beyond the model's context of {} tokens",
                limits.context_tokens
            ));
        }
        match self.masks.as_ref().filter(|masks| masks.len() != rows) {
            Some(masks) => Err(format!("{} masks for {rows} rows", masks.len())),
            None => Ok(()),
        }
    }

    /// Rows may share positions; their number is bounded all the same.
    fn check_length(&self, length: u32, limits: &Limits) -> Result<(), String> {
        let (rows, most) = (self.tokens.len(), limits.context_tokens);
        match u64::from(length) + rows as u64 > u64::from(most) {
            true => {
                Err(format!("{rows} rows after {length} tokens exceed the model's context of {most} tokens"))
            }
            false => Ok(()),
        }
    }

    /// What an encoder computes is a text in one batch, and of no use to another pass.
    fn check_whole(&self, length: u32, limits: &Limits) -> Result<(), String> {
        let (rows, most) = (self.tokens.len(), limits.batch_tokens);
        if rows > most as usize {
            return Err(format!(
                "{rows} rows: the model is an encoder, which computes a text in one batch, of {most} rows at most"
            ));
        }
        if self.keep_kv || length > 0 {
            return Err(
                "the model is an encoder: a pass is a whole text on an empty context, and cannot be kept"
                    .into(),
            );
        }
        if self.masks.is_some() {
            return Err(
                "the model is an encoder: its rows attend to all of the pass, and take no masks".into()
            );
        }
        let values: u64 = self.outputs.iter().map(|(_, kind)| kind.values(limits)).sum();
        match self.outputs.len() > limits.batch_outputs as usize || values > limits.batch_output_values {
            true => Err(format!(
                "{} outputs of {values} values: the model is an encoder, whose pass is one batch, of {} outputs of {} values at most",
                self.outputs.len(),
                limits.batch_outputs,
                limits.batch_output_values
            )),
            false => Ok(()),
        }
    }

    fn check_outputs(&self, limits: &Limits) -> Result<(), String> {
        let rows = self.tokens.len();
        self.outputs.iter().try_for_each(|(row, kind)| match *row < rows {
            true => kind.check(limits),
            false => Err(format!("output of row {row}: the pass has {rows} rows")),
        })?;
        let mut of_row: Vec<usize> = self.outputs.iter().map(|(row, _)| *row).collect();
        of_row.sort_unstable();
        match of_row.chunk_by(|a, b| a == b).find(|same| same.len() > limits.row_outputs as usize) {
            Some(same) => Err(format!(
                "row {} has {} outputs: expected at most {}",
                same[0],
                same.len(),
                limits.row_outputs
            )),
            None => Ok(()),
        }
    }
}

/// The answer to a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardReply {
    /// One value for each of `ForwardRequest::outputs`, in the same order.
    pub values: Vec<Value>,
    /// Live tokens of the context after the pass.
    pub length: u32,
    /// Position that the next pass continues at by default: one more than the largest so far.
    pub next_position: u32,
    /// Rows that were computed.
    pub computed_tokens: u32,
    /// Rows that were taken from the prefix cache.
    pub cached_tokens: u32,
    /// How long the backend computed the batches in which the pass took part.
    pub compute: Duration,
    /// This pass's share of that time: that of each batch, divided evenly among its rows.
    pub compute_share: Duration,
}

/// Why a pass was not computed. The context is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The request breaks a rule stated on its fields, or names a context that does not exist.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// The context with this pass does not fit the pool or its owner's quota; waiting would not help.
    #[error("{needed} pages are needed, {available} can be had")]
    OutOfPages {
        /// Pages needed: by context and pass when the pool is too small, else by the owner as a whole.
        needed: u32,
        /// The pool's size, the owner's quota, or what host memory left when it is full.
        available: u32,
    },
    /// Cancelled by its caller, or its context or owner is gone.
    #[error("cancelled")]
    Cancelled,
    /// The computation failed.
    #[error("backend: {0}")]
    Backend(String),
    /// The engine has shut down.
    #[error("the engine has shut down")]
    Closed,
    /// A pass is already in flight on the context.
    #[error("a pass is already in flight on the context")]
    Busy,
    /// The engine's inbox is full; nothing was queued, try again later.
    #[error("the engine's inbox is full")]
    Overloaded,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attended(runs: &[u32], tokens: usize) -> String {
        RowRuns(runs.to_vec()).attended(tokens).map(|a| if a { 'x' } else { '.' }).collect()
    }

    #[test]
    fn runs_start_unattended_and_the_rest_is_attended_to() {
        let cases: [(&[u32], &str); 8] = [
            (&[], "xxxxxx"),
            (&[0], "xxxxxx"),
            (&[4], "....xx"),
            (&[0, 2, 2], "xx..xx"),
            (&[0, 2], "xxxxxx"),
            (&[1, 0, 1, 1, 1], "..x.xx"),
            (&[0, u32::MAX, 7], "xxxxxx"),
            (&[u32::MAX], ".....x"),
        ];
        for (runs, expected) in cases {
            assert_eq!(attended(runs, 6), expected, "{runs:?}");
        }
        assert_eq!(attended(&[9], 0), "");
    }
}
