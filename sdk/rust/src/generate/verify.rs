//! One pass that draws the next token, and a token after each candidate of a draft.
//!
//! ```text
//! rows       … p | a b c d       p: the last pending token; b follows a, c and d follow p
//! positions  … 7 | 8 9 8 8
//! draws      a  →  the candidate a is right: its row drew x, and no candidate x follows a: `a x` is what comes
//! ```
//! A draw depends on the seed, the position, the tokens attended to, and what sampling, penalties and constraints say
//! there. All of that is for a candidate's row as it would be if its ancestors had been drawn one by one, so the draws
//! are those of plain decoding.

use anyhow::bail;

use super::constraint::{advance, fork, leave_no_choice};
use super::draft::{Candidate, Draft};
use super::prompt::top_of;
use super::{Logprob, Window};
use crate::context::{Counts, no_token_allowed};
use crate::forward::{Output, OutputKind, OutputRequest, TokenCounts, TokenOrigin};
use crate::{Constraint, Context, Layout, Result, SamplingParams, mask};

/// What holds for all draws of a pass.
pub(super) struct Rules<'a> {
    pub sampling: &'a SamplingParams,
    /// Those for the row of the last pending token.
    pub constraints: &'a [&'a Constraint],
    pub stop_tokens: &'a [u32],
    /// Draws during which no stop token is allowed.
    pub without_stop: usize,
    /// Alternatives to each token, for none the token's own log-probability only.
    pub top: u32,
    pub window: Option<Window>,
    /// Candidates in a row at most.
    pub depth: usize,
}

/// What a pass drew.
pub(super) struct Drawn {
    /// The next tokens, one at least: those of right candidates and one more.
    pub tokens: Vec<Logprob>,
    /// Candidates verified.
    pub drafted: usize,
    /// Tokens drawn after wrong candidates.
    pub rejected: Vec<u32>,
}

/// A candidate that is verified.
struct Node {
    candidate: Candidate,
    /// Candidates up to and with this one.
    depth: usize,
    constraints: Vec<Constraint>,
    counts: Option<TokenCounts>,
}

impl Rules<'_> {
    /// Computes the pending tokens and the draft, and draws. The context keeps the right candidates; the token after
    /// them is not appended.
    ///
    /// # Errors
    /// When no token is allowed, and as for a pass. No candidate is left in the context then.
    pub async fn draw(&self, context: &mut Context, draft: &Draft) -> Result<Drawn> {
        let counts = context.count(self.sampling)?;
        let nodes = self.nodes(draft, counts.as_ref().map(Counts::handle))?;
        let (first_row, length, position) =
            (context.last_row()?, context.tokens().len(), context.next_position() + context.last_row()?);
        let layout = self.layout(context, &nodes, position);
        context.append_drawn(&nodes.iter().map(|node| node.candidate.token).collect::<Vec<_>>());
        let layout = match (layout, self.window) {
            (None, Some(window)) => window.layout(context, context.tokens().len()),
            (layout, _) => layout.unwrap_or_default(),
        };
        let mut outputs = self.requests(first_row, 0, counts.as_ref().map(Counts::handle), self.constraints);
        for (node, row) in nodes.iter().zip(first_row + 1..) {
            let constraints: Vec<&Constraint> = node.constraints.iter().collect();
            outputs.extend(self.requests(row, node.depth, node.counts.as_ref(), &constraints));
        }
        let answer = context.pass_in(layout, outputs).await;
        context.keep_counts(counts);
        let drawn = match answer.and_then(|values| self.drawn(values)) {
            Ok(drawn) => drawn,
            Err(error) => {
                context.truncate(length)?;
                return Err(error);
            }
        };
        let (tokens, path) = walk(&nodes, &drawn);
        settle(context, length, position, &path, &nodes)?;
        if tokens.is_empty() {
            return Err(no_token_allowed());
        }
        let wrong = (0..nodes.len()).filter(|index| !path.contains(index));
        let rejected = wrong.filter_map(|index| Some(drawn[index + 1].as_ref()?.token)).collect();
        Ok(Drawn { tokens, drafted: nodes.len(), rejected })
    }

    /// The candidates worth a row: those that may be drawn, and after which there is something to draw.
    fn nodes(&self, draft: &Draft, counts: Option<&TokenCounts>) -> Result<Vec<Node>> {
        let candidates = draft.ordered();
        // Where each candidate is among the nodes.
        let mut places: Vec<Option<usize>> = Vec::with_capacity(candidates.len());
        let mut nodes: Vec<Node> = Vec::with_capacity(candidates.len());
        for Candidate { token, parent } in candidates {
            let parent = parent.map(|parent| places[parent]);
            places.push(None);
            // Its parent is not worth a row.
            if parent == Some(None) {
                continue;
            }
            let parent = parent.flatten();
            let before = parent.map(|parent| &nodes[parent]);
            let depth = before.map_or(0, |before| before.depth) + 1;
            if depth > self.depth || self.stop_tokens.contains(&token) || !self.sampling.allows(token) {
                continue;
            }
            let constraints = match before {
                Some(before) => fork(&before.constraints.iter().collect::<Vec<_>>())?,
                None => fork(self.constraints)?,
            };
            let states: Vec<&Constraint> = constraints.iter().collect();
            // Behind a token that ends the text, or before forced ones, nothing is drawn.
            if advance(&states, token).is_err() || leave_no_choice(&states)? {
                continue;
            }
            let counts = before.map_or(counts, |before| before.counts.as_ref()).map(TokenCounts::fork);
            let counts = counts.transpose()?;
            if let Some(counts) = &counts {
                counts.add(&[token], TokenOrigin::Generated)?;
            }
            places.pop();
            places.push(Some(nodes.len()));
            nodes.push(Node { candidate: Candidate { token, parent }, depth, constraints, counts });
        }
        Ok(nodes)
    }

    /// The outputs of a row whose draw comes after `depth` others.
    fn requests<'a>(
        &self,
        row: u32,
        depth: usize,
        counts: Option<&'a TokenCounts>,
        constraints: &[&'a Constraint],
    ) -> Vec<OutputRequest<'a>> {
        let mut sampling = self.sampling.for_token(counts, constraints);
        if depth < self.without_stop {
            sampling.logit_bias.extend(self.stop_tokens.iter().map(|stop| (*stop, f32::NEG_INFINITY)));
        }
        let mut outputs = vec![OutputRequest { row, kind: OutputKind::Token(sampling) }];
        if self.top > 0 {
            outputs.push(OutputRequest { row, kind: OutputKind::TopK(self.top) });
        }
        outputs
    }

    /// What each row drew; none where nothing was allowed.
    fn drawn(&self, values: Vec<Output>) -> Result<Vec<Option<Logprob>>> {
        let (mut values, mut drawn) = (values.into_iter(), Vec::new());
        while let Some(value) = values.next() {
            let token = match value {
                Output::Token(token) => Some(token),
                Output::NoTokenAllowed => None,
                other => bail!("requested a token, got {other:?}"),
            };
            let top = if self.top > 0 { top_of(values.next())? } else { Vec::new() };
            drawn.push(token.map(|t| Logprob { token: t.token, logprob: Some(t.log_prob), top }));
        }
        Ok(drawn)
    }

    /// Positions and masks of a tree, whose root is the pending token at `position`. A chain needs none.
    fn layout(&self, context: &Context, nodes: &[Node], position: u32) -> Option<Layout> {
        let is_chain = nodes.iter().enumerate().all(|(index, node)| node.depth == index + 1);
        if is_chain {
            return None;
        }
        let (length, pending) = (context.tokens().len(), context.pending().len());
        let sees = |place: usize, other: usize| self.window.is_none_or(|window| window.sees(place, other));
        let mut positions: Vec<u32> = (position + 1 - pending as u32..=position).collect();
        let mut masks: Vec<_> = (length - pending..length)
            .map(|place| mask((0..=place).map(|other| sees(place, other))))
            .collect();
        for (index, node) in nodes.iter().enumerate() {
            let mut ancestors = Vec::with_capacity(node.depth);
            let mut next = node.candidate.parent;
            while let Some(ancestor) = next {
                ancestors.push(ancestor);
                next = nodes[ancestor].candidate.parent;
            }
            let place = length + node.depth - 1;
            let text = (0..length).map(|other| sees(place, other));
            let tree = (0..index)
                .map(|other| ancestors.contains(&other) && sees(place, length + nodes[other].depth - 1));
            positions.push(position + node.depth as u32);
            masks.push(mask(text.chain(tree).chain([true])));
        }
        Some(Layout { positions: Some(positions), masks: Some(masks) })
    }
}

/// Follows the draws from the root on: the tokens that come next, and the nodes among them.
fn walk(nodes: &[Node], drawn: &[Option<Logprob>]) -> (Vec<Logprob>, Vec<usize>) {
    let (mut tokens, mut path) = (Vec::new(), Vec::new());
    let mut next = drawn.first().and_then(Option::as_ref);
    while let Some(logprob) = next {
        let parent = path.last().copied();
        // A row that may draw nothing is not entered: the next pass finds that out again.
        let is_next = |(index, node): &(usize, &Node)| {
            node.candidate == Candidate { token: logprob.token, parent } && drawn[index + 1].is_some()
        };
        let right = nodes.iter().enumerate().find(is_next).map(|(index, _)| index);
        path.extend(right);
        tokens.push(logprob.clone());
        next = right.and_then(|right| drawn[right + 1].as_ref());
    }
    (tokens, path)
}

/// Takes the wrong candidates out of the context, whose text had `length` tokens, the last one at `position`.
fn settle(context: &mut Context, length: usize, position: u32, path: &[usize], nodes: &[Node]) -> Result<()> {
    context.truncate(length + path.last().map_or(0, |last| last + 1))?;
    // Behind a leaf may have been a row with a smaller position, at which the context would go on: then the leaf is
    // computed once more, with the token after it.
    if let Some(last) = path.last()
        && context.next_position() != position + path.len() as u32 + 1
    {
        context.truncate(length + last)?;
        context.append_drawn(&[nodes[*last].candidate.token]);
    }
    for (index, end) in path.iter().enumerate().rev() {
        let start = index.checked_sub(1).map_or(0, |before| path[before] + 1);
        if start < *end {
            context.discard(length + start, length + end)?;
        }
    }
    Ok(())
}
