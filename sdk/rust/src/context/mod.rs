//! A context, and the tokens appended to it that are not computed yet.

mod counts;
mod history;

use std::borrow::Cow;
use std::rc::Rc;

use anyhow::bail;

use crate::adapter::Adapter;
use crate::bindings::pie::inferlet::context as api;
use crate::bindings::pie::inferlet::forward::{
    self, Input, Output, OutputKind, OutputRequest, Pass, RowMask, TokenLogProb,
};
use crate::bindings::pie::inferlet::grammar::Constraint;
use crate::embeds::Embeddings;
use crate::generate::Generation;
use crate::model::Work;
use crate::{Error, Model, Result, SamplingParams};
pub(crate) use counts::Counts;
use history::History;

/// What stands for an embedding row among the tokens of a context: the id of no token.
pub const EMBEDDING: u32 = u32::MAX;

/// Tokens in the key/value cache, and *pending* tokens after them that the next pass computes.
///
/// ```text
/// tokens    t0 t1 t2 … t7 | t8 t9
///           computed        pending      <- append() adds here, the next pass moves the bar
/// ```
pub struct Context {
    handle: api::Context,
    model: Model,
    tokens: Vec<u32>,
    computed: usize,
    /// What was removed among the tokens.
    history: History,
    /// Pending embedding rows, in order.
    embeddings: Vec<PendingRows>,
    /// Applied by every pass.
    adapter: Option<Rc<Adapter>>,
    /// The cost of its passes.
    work: Work,
    /// Why a text was not appended; the next pass says so.
    refused: Option<Error>,
    /// Leading tokens that are the prompt to penalties: up to the last one appended, or to where a generation
    /// began. Those behind were drawn.
    prompt: usize,
    /// Once a step was penalized.
    counts: Option<Counts>,
}

/// Embedding rows that are pending together.
#[derive(Clone)]
struct PendingRows {
    /// Index of the first among the tokens.
    start: usize,
    rows: Rc<Embeddings>,
}

impl PendingRows {
    fn end(&self) -> usize {
        self.start + self.rows.rows() as usize
    }
}

/// The error of a draw for which bias and constraint leave no token. The pass is done, and the context holds its tokens.
pub(crate) fn no_token_allowed() -> anyhow::Error {
    Error::InvalidArgument("logit bias, constraints and allowed tokens together leave no token".into()).into()
}

/// Positions and masks of the pending tokens of a pass. By default positions continue, and attention is
/// causal.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// A position for each pending token.
    pub positions: Option<Vec<u32>>,
    /// A mask for each pending token: see [`mask`].
    pub masks: Option<Vec<RowMask>>,
}

/// The run lengths of a mask, from whether each token is attended to: those of the context, then those of the
/// pass up to the row itself.
pub fn mask(seen: impl IntoIterator<Item = bool>) -> RowMask {
    let (mut runs, mut last) = (vec![0], false);
    for seen in seen {
        if seen != last {
            runs.push(0);
            last = seen;
        }
        *runs.last_mut().expect("it begins with one run") += 1;
    }
    runs
}

/// Tokens of several texts as one tree: common beginnings count once.
pub fn tree_tokens<'a>(texts: impl IntoIterator<Item = &'a [u32]>) -> usize {
    let mut texts: Vec<&[u32]> = texts.into_iter().collect();
    texts.sort_unstable();
    let common = |pair: &[&[u32]]| pair[0].iter().zip(pair[1]).take_while(|(a, b)| a == b).count();
    let shared: usize = texts.windows(2).map(common).sum();
    texts.iter().map(|text| text.len()).sum::<usize>() - shared
}

impl Context {
    /// An empty context.
    ///
    /// # Errors
    /// `limit-exceeded` when this inferlet holds too many contexts.
    pub fn new(model: &Model) -> Result<Context> {
        let handle = api::Context::create(model.handle())?;
        Ok(Context::of(handle, model, Vec::new()))
    }

    /// Opens a saved context. Its tokens are not stored with it; the caller knows them.
    ///
    /// # Errors
    /// `not-found` when there is none of that name; when it holds another number of tokens.
    pub async fn open(model: &Model, name: &str, tokens: Vec<u32>) -> Result<Context> {
        let handle = api::open(model.handle(), name.to_string()).await?;
        if handle.length() as usize != tokens.len() {
            bail!("the context holds {} tokens, {} were given", handle.length(), tokens.len());
        }
        Ok(Context::of(handle, model, tokens))
    }

    /// A context of these computed tokens.
    fn of(handle: api::Context, model: &Model, tokens: Vec<u32>) -> Context {
        let (model, length) = (model.clone(), tokens.len());
        Context {
            handle,
            model,
            history: History::default(),
            tokens,
            computed: length,
            embeddings: Vec::new(),
            adapter: None,
            work: Work::default(),
            refused: None,
            prompt: length,
            counts: None,
        }
    }

    /// Saves the computed tokens under a name; pending ones are computed first.
    ///
    /// # Errors
    /// As for a pass; `limit-exceeded` when the user has too many snapshots.
    pub async fn save(&mut self, name: &str, persistent: bool) -> Result<()> {
        self.prefill().await?;
        Ok(self.handle.save(name.to_string(), persistent).await?)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The handle, for calls of [`crate::bindings`]. This type does not notice tokens that such a call adds
    /// or removes.
    pub fn handle(&self) -> &api::Context {
        &self.handle
    }

    /// The cost of the passes on this context.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Applies a low-rank adapter in every pass from now on; none to end that. What was computed before stays
    /// as it is.
    pub fn set_adapter(&mut self, adapter: Option<Rc<Adapter>>) -> &mut Context {
        self.adapter = adapter;
        self
    }

    /// All tokens, computed and pending; [`EMBEDDING`] for an embedding row.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens still to be computed.
    pub fn pending(&self) -> &[u32] {
        &self.tokens[self.computed..]
    }

    /// Appends text; control tokens in it stay plain text. The first text of a context comes after the token
    /// that begins one, where the model wants it (`bos` of its facts). A text longer than 1 MiB is not appended,
    /// and the next pass is refused for it.
    pub fn append(&mut self, text: &str) -> &mut Context {
        if self.tokens.is_empty() {
            let bos = self.model.facts().bos;
            self.append_drawn(bos.as_slice());
        }
        match self.model.handle().tokenize(text, false) {
            Ok(tokens) => self.append_tokens(&tokens),
            Err(error) => {
                self.refused = Some(error);
                self
            }
        }
    }

    /// Appends tokens.
    pub fn append_tokens(&mut self, tokens: &[u32]) -> &mut Context {
        self.append_drawn(tokens);
        self.end_prompt();
        self
    }

    /// Appends embedding rows; each counts as a token.
    pub fn append_embeddings(&mut self, rows: Rc<Embeddings>) -> &mut Context {
        let (start, count) = (self.tokens.len(), rows.rows() as usize);
        self.embeddings.push(PendingRows { start, rows });
        self.append_tokens(&vec![EMBEDDING; count])
    }

    /// Appends tokens that were generated.
    pub(crate) fn append_drawn(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// The tokens, those among them that were removed included: what the conversation was.
    pub(crate) fn with_removed(&self) -> Cow<'_, [u32]> {
        self.history.all(&self.tokens)
    }

    /// All tokens there are have become the prompt of what is drawn from here on.
    pub(crate) fn end_prompt(&mut self) {
        self.prompt = self.tokens.len();
    }

    /// The same tokens in a second context; nothing is recomputed.
    ///
    /// # Errors
    /// `limit-exceeded` when this inferlet holds too many contexts.
    pub fn fork(&self) -> Result<Context> {
        Ok(Context {
            handle: self.handle.fork()?,
            model: self.model.clone(),
            tokens: self.tokens.clone(),
            computed: self.computed,
            history: self.history.clone(),
            embeddings: self.embeddings.clone(),
            adapter: self.adapter.clone(),
            work: Work::default(),
            refused: self.refused.clone(),
            prompt: self.prompt,
            counts: None,
        })
    }

    /// Goes back to the first `length` tokens.
    ///
    /// # Errors
    /// When there are fewer, or when the cut is among pending embedding rows that were appended together.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        if length > self.tokens.len() {
            bail!("cannot truncate {} tokens to {length}", self.tokens.len());
        }
        if self.embeddings.iter().any(|rows| rows.start < length && length < rows.end()) {
            bail!("cannot truncate to {length}, which is among pending embedding rows");
        }
        self.embeddings.retain(|rows| rows.end() <= length);
        if length < self.computed {
            self.handle.truncate(length as u32)?;
            self.computed = length;
        }
        if let Some(counts) = &mut self.counts {
            counts.forget(&self.tokens, length..self.tokens.len())?;
        }
        self.tokens.truncate(length);
        self.history.truncate(length);
        self.refused = None;
        self.prompt = self.prompt.min(length);
        Ok(())
    }

    /// Goes back to where the first `length` of [`Context::with_removed`] had been appended.
    pub(crate) fn truncate_with_removed(&mut self, length: usize) -> Result<()> {
        self.truncate(self.history.kept_before(length))?;
        self.history.truncate_all(length, self.tokens.len());
        Ok(())
    }

    /// Takes computed tokens `start .. end` out of attention; the positions of the rest stay.
    ///
    /// # Errors
    /// When the range is not within the computed tokens.
    pub fn remove(&mut self, start: usize, end: usize) -> Result<()> {
        let taken = self.take_out(start, end)?;
        self.history.remove(start..end, &taken);
        Ok(())
    }

    /// Removes tokens as if they had never been there: guesses that were wrong.
    pub(crate) fn discard(&mut self, start: usize, end: usize) -> Result<()> {
        self.take_out(start, end)?;
        self.history.discard(start..end);
        Ok(())
    }

    fn take_out(&mut self, start: usize, end: usize) -> Result<Vec<u32>> {
        self.handle.remove(start.try_into()?, end.try_into()?)?;
        if let Some(counts) = &mut self.counts {
            counts.forget(&self.tokens, start..end)?;
        }
        let taken = self.tokens.drain(start..end).collect();
        self.computed -= end - start;
        self.embeddings.iter_mut().for_each(|rows| rows.start -= end - start);
        self.prompt -= self.prompt.clamp(start, end) - start;
        Ok(taken)
    }

    /// Computes the pending tokens.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn prefill(&mut self) -> Result<()> {
        if self.computed < self.tokens.len() {
            self.pass(Vec::new()).await?;
        }
        Ok(())
    }

    /// Computes the pending tokens except the last one, which each fork made now needs to sample from. Of
    /// embedding rows, those that were appended last stay pending together.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn prefill_but_last(&mut self) -> Result<()> {
        let last = self.tokens.len().saturating_sub(1);
        let end = self.embeddings.last().filter(|rows| rows.end() > last).map_or(last, |rows| rows.start);
        if self.computed < end {
            self.pass_until(end, Layout::default(), Vec::new()).await?;
        }
        Ok(())
    }

    /// Computes the pending tokens in one pass and answers `outputs`, whose rows count from the first pending
    /// token. Where embedding rows are among them, there is a pass for each stretch of rows of one kind.
    ///
    /// # Errors
    /// When nothing is pending, and those of `forward.execute`.
    pub async fn pass(&mut self, outputs: Vec<OutputRequest<'_>>) -> Result<Vec<Output>> {
        self.pass_in(Layout::default(), outputs).await
    }

    /// [`Context::pass`] with other positions or masks.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn pass_in(&mut self, layout: Layout, outputs: Vec<OutputRequest<'_>>) -> Result<Vec<Output>> {
        self.pass_until(self.tokens.len(), layout, outputs).await
    }

    /// [`Context::pass_in`] for the pending tokens before index `end`.
    pub(crate) async fn pass_until(
        &mut self,
        end: usize,
        layout: Layout,
        outputs: Vec<OutputRequest<'_>>,
    ) -> Result<Vec<Output>> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone().into());
        }
        if self.embeddings.first().is_none_or(|rows| rows.start >= end) {
            return self.pass_stretch(end, layout, outputs).await;
        }
        let first = self.computed;
        let mut values = vec![None; outputs.len()];
        while self.computed < end {
            let stretch = match self.embeddings.first() {
                Some(rows) if rows.start == self.computed => rows.end(),
                Some(rows) => rows.start.min(end),
                None => end,
            };
            let rows = self.computed - first..stretch - first;
            let wanted =
                outputs.iter().enumerate().filter(|(_, output)| rows.contains(&(output.row as usize)));
            let (indices, wanted): (Vec<usize>, Vec<_>) = wanted
                .map(|(index, output)| {
                    (index, OutputRequest { row: output.row - rows.start as u32, ..output.clone() })
                })
                .unzip();
            let layout = Layout {
                positions: layout.positions.as_ref().map(|all| all[rows.clone()].to_vec()),
                masks: layout.masks.as_ref().map(|all| all[rows.clone()].to_vec()),
            };
            let answers = self.pass_stretch(stretch, layout, wanted).await?;
            indices.into_iter().zip(answers).for_each(|(index, answer)| values[index] = Some(answer));
        }
        match values.into_iter().collect() {
            Some(values) => Ok(values),
            None => bail!("an output is asked of a row that is not pending"),
        }
    }

    /// Computes the pending tokens, or the first embedding rows, before index `end`.
    async fn pass_stretch(
        &mut self,
        end: usize,
        layout: Layout,
        outputs: Vec<OutputRequest<'_>>,
    ) -> Result<Vec<Output>> {
        let rows = self.embeddings.first().filter(|rows| rows.start == self.computed).cloned();
        let tokens = &self.tokens[self.computed..end];
        let count = tokens.len();
        let input = rows
            .as_ref()
            .map_or_else(|| Input::Tokens(tokens.to_vec()), |rows| Input::Embeddings(&rows.rows));
        let Layout { positions, masks } = layout;
        let adapter = self.adapter.clone();
        let pass = Pass { input, positions, masks, adapter: adapter.as_deref(), keep: true, outputs };
        let answer = forward::execute(&self.handle, pass).await?;
        let work = Work::of_pass(count, &answer);
        self.work = self.work + work;
        self.model.count(work);
        self.computed = end;
        if rows.is_some() {
            self.embeddings.remove(0);
        }
        Ok(answer.values)
    }

    /// Computes the pending tokens and draws the next one, which is then pending.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn step(
        &mut self,
        sampling: &SamplingParams,
        constraints: &[&Constraint],
    ) -> Result<TokenLogProb> {
        let counts = self.count(sampling)?;
        let handle = counts.as_ref().map(Counts::handle);
        let output = self.last_output(OutputKind::Token(sampling.for_token(handle, constraints))).await;
        self.keep_counts(counts);
        let drawn = match output? {
            Output::Token(drawn) => drawn,
            Output::NoTokenAllowed => return Err(no_token_allowed()),
            other => bail!("requested a token, got {other:?}"),
        };
        self.append_drawn(&[drawn.token]);
        Ok(drawn)
    }

    /// The counts of all tokens, if this sampling looks at them. A pass on this context cannot borrow them from
    /// it, so they are taken out, and given back by [`Context::keep_counts`].
    pub(crate) fn count(&mut self, sampling: &SamplingParams) -> Result<Option<Counts>> {
        if !sampling.penalizes() {
            return Ok(None);
        }
        let mut counts = match self.counts.take() {
            Some(counts) => counts,
            None => Counts::new(self.model.handle())?,
        };
        counts.update(&self.tokens, self.prompt)?;
        Ok(Some(counts))
    }

    pub(crate) fn keep_counts(&mut self, counts: Option<Counts>) {
        self.counts = counts.or(self.counts.take());
    }

    /// Takes a new handle, for which all tokens are pending: the first gets position 0.
    ///
    /// # Errors
    /// When some were embedding rows, and as for [`Context::new`].
    pub(crate) fn restart(&mut self) -> Result<()> {
        if self.tokens.contains(&EMBEDDING) {
            bail!("embedding rows cannot be computed again, and no position is left behind them");
        }
        self.handle = api::Context::create(self.model.handle())?;
        self.computed = 0;
        Ok(())
    }

    /// Computes the pending tokens and gives the log-probability that each of these tokens comes next.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn next_logprobs(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        match self.last_output(OutputKind::LogProbs(tokens.to_vec())).await? {
            Output::LogProbs(values) => Ok(values),
            other => bail!("requested log-probabilities, got {other:?}"),
        }
    }

    /// Computes the pending tokens and gives the `k` most probable next ones.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn top_k(&mut self, k: u32) -> Result<Vec<TokenLogProb>> {
        match self.last_output(OutputKind::TopK(k)).await? {
            Output::TopK(top) => Ok(top),
            other => bail!("requested the top k, got {other:?}"),
        }
    }

    /// Computes the pending tokens and gives all logits of the last row.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        match self.last_output(OutputKind::Logits).await? {
            Output::Logits(logits) => Ok(logits),
            other => bail!("requested logits, got {other:?}"),
        }
    }

    /// Appends tokens and gives the log-probability of each, in one pass. The last one is then pending.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn logprobs(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let Some((last, front)) = tokens.split_last() else { return Ok(Vec::new()) };
        let first = self.last_row()?;
        self.append_tokens(front);
        let wanted = tokens.iter().zip(first..);
        let wanted =
            wanted.map(|(token, row)| OutputRequest { row, kind: OutputKind::LogProbs(vec![*token]) });
        let values = self.pass(wanted.collect()).await?;
        self.append_tokens(&[*last]);
        let value = |output| match output {
            Output::LogProbs(values) if values.len() == 1 => Ok(values[0]),
            other => bail!("requested a log-probability, got {other:?}"),
        };
        values.into_iter().map(value).collect()
    }

    /// Opens a snapshot of these tokens, if there is one of that name.
    ///
    /// # Errors
    /// As for [`Context::open`], except when there is no such snapshot.
    pub async fn find(model: &Model, name: &str, tokens: &[u32]) -> Result<Option<Context>> {
        match Context::open(model, name, tokens.to_vec()).await {
            Ok(context) => Ok(Some(context)),
            Err(error) if matches!(error.downcast_ref(), Some(Error::NotFound(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the snapshot `name` if there is one; otherwise computes `tokens` and saves them under that name.
    /// The flag says whether there was one. The name is used for these tokens only: a hash of them is added
    /// to it.
    ///
    /// # Errors
    /// As for [`Context::open`] and [`Context::save`].
    pub async fn open_or_prefill(
        model: &Model,
        name: &str,
        tokens: &[u32],
        persistent: bool,
    ) -> Result<(Context, bool)> {
        let name = Context::snapshot_name(name, tokens);
        if let Some(context) = Context::find(model, &name, tokens).await? {
            return Ok((context, true));
        }
        let mut context = Context::new(model)?;
        context.append_tokens(tokens).save(&name, persistent).await?;
        Ok((context, false))
    }

    /// The name under which [`Context::open_or_prefill`] saves.
    pub fn snapshot_name(name: &str, tokens: &[u32]) -> String {
        // FNV-1a: the name must be the same in every build.
        let hash =
            tokens.iter().flat_map(|t| t.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{name}-{hash:016x}")
    }

    /// Deletes a snapshot; whether there was one.
    ///
    /// # Errors
    /// Those of `context.delete`, except when there is no such snapshot.
    pub async fn delete(model: &Model, name: &str) -> Result<bool> {
        match api::delete(model.handle(), name.to_string()).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends the computed tokens of another context with their keys, values and positions; nothing is
    /// recomputed.
    ///
    /// # Errors
    /// When either has pending tokens, or the models differ.
    pub fn append_context(&mut self, other: &Context) -> Result<()> {
        if !self.pending().is_empty() || !other.pending().is_empty() {
            bail!("contexts with pending tokens cannot be joined: prefill them first");
        }
        self.handle.append(&other.handle)?;
        self.append_tokens(&other.tokens);
        self.computed = self.tokens.len();
        Ok(())
    }

    /// Position that the next computed token gets.
    pub fn next_position(&self) -> u32 {
        self.handle.next_position()
    }

    /// Positions behind the pending tokens that the model still has; none when it lacks some for these
    /// already.
    pub(crate) fn positions_left(&self) -> Option<usize> {
        let used = self.next_position() as usize + self.pending().len();
        (self.model.facts().context_length as usize).checked_sub(used)
    }

    /// Row of the last pending token, which says what comes next.
    pub(crate) fn last_row(&self) -> Result<u32> {
        match self.pending().len().checked_sub(1) {
            Some(row) => Ok(row as u32),
            None => bail!("nothing is pending: append a token before asking what comes next"),
        }
    }

    /// Computes the pending tokens and gives one output of the last row.
    async fn last_output(&mut self, kind: OutputKind<'_>) -> Result<Output> {
        let row = self.last_row()?;
        let values = self.pass(vec![OutputRequest { row, kind }]).await?;
        Ok(values.into_iter().next().expect("one value for one request"))
    }

    /// Begins to generate; see [`Generation`].
    pub fn generate(&mut self, sampling: SamplingParams) -> Generation<'_> {
        Generation::new(self, sampling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_begin_with_what_is_not_seen() {
        assert_eq!(mask([]), [0]);
        assert_eq!(mask([true, true]), [0, 2]);
        assert_eq!(mask([false, true, true, false]), [1, 2, 1]);
    }

    #[test]
    fn a_tree_counts_what_texts_share_once() {
        assert_eq!(tree_tokens([]), 0);
        assert_eq!(tree_tokens([&[1, 2, 3][..], &[1, 4], &[1, 2, 5], &[6], &[1, 2, 3]]), 6);
    }

    #[test]
    fn names_of_snapshots_tell_tokens_apart() {
        let name = Context::snapshot_name("a", &[1, 2]);
        assert_eq!(name, Context::snapshot_name("a", &[1, 2]));
        assert_ne!(name, Context::snapshot_name("a", &[2, 1]));
    }
}
