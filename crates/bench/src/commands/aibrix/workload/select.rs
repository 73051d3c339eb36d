//! Which prompt is next.
//!
//! ```text
//! sessions            a random one of the first `k` that are not used up; its prompts in order
//! lengths wanted      a random one in a window about them that widens until it holds one, else the nearest
//! otherwise           all in a random order, and again in another
//! ```

use std::collections::VecDeque;

use fastrand::Rng;
use serde_json::Value;

use crate::commands::aibrix::rows::{Prompts, Request};
use crate::dataset::tokens::Tokens;

/// A prompt that may be chosen.
#[derive(Clone, Debug)]
struct Candidate {
    prompt: String,
    tokens: u32,
    /// Tokens of the recorded answer.
    output: Option<u32>,
}

struct Session {
    id: Value,
    left: VecDeque<Candidate>,
}

/// Chooses prompts of a dataset.
pub(super) struct Selector {
    sessions: VecDeque<Session>,
    open: usize,
    /// Those without a session, the shortest first.
    plain: Vec<Candidate>,
    /// What is left of a round, as places in `plain`.
    round: Vec<usize>,
    /// Half of the first window, as a share of the length.
    window: f64,
    chosen: usize,
    /// Of them, those that were in no window.
    far: usize,
}

/// By how much a window widens.
const STEP: f64 = 0.05;

impl Selector {
    pub(super) fn new(prompts: Prompts, tokens: &Tokens, open: usize, rng: &mut Rng) -> anyhow::Result<Self> {
        let candidate = |prompt: String, known: Option<u32>, answer: Option<&String>| -> anyhow::Result<_> {
            let count = known.map_or_else(|| tokens.count(&prompt), Ok)?;
            let output = answer.map(|answer| tokens.count(answer)).transpose()?;
            Ok(Candidate { prompt, tokens: count, output })
        };
        let mut selector = Self {
            sessions: VecDeque::new(),
            open,
            plain: Vec::new(),
            round: Vec::new(),
            window: 0.5,
            chosen: 0,
            far: 0,
        };
        match prompts {
            Prompts::Plain(rows) => {
                for row in rows {
                    selector.plain.push(candidate(row.prompt, row.token_count, row.completion.as_ref())?);
                }
                rng.shuffle(&mut selector.plain);
                selector.plain.sort_by_key(|candidate| candidate.tokens);
            }
            Prompts::Sessions(rows) => {
                for row in rows {
                    let answers = row.completions.unwrap_or_default();
                    let turns = row.prompts.into_iter().enumerate();
                    let left = turns.map(|(turn, prompt)| candidate(prompt, None, answers.get(turn)));
                    let left = left.collect::<anyhow::Result<_>>()?;
                    selector.sessions.push_back(Session { id: row.session_id, left });
                }
            }
        }
        Ok(selector)
    }

    /// All prompts on their own, whatever their session, with a first window of this share of the length.
    pub(super) fn by_length(mut self, window: f64) -> Self {
        self.plain.extend(self.sessions.drain(..).flat_map(|session| session.left));
        self.plain.sort_by_key(|candidate| candidate.tokens);
        self.window = window;
        self
    }

    /// The next prompt, near these lengths where they are wanted. `None` when all sessions are used up.
    pub(super) fn next(&mut self, input: Option<f64>, output: Option<f64>, rng: &mut Rng) -> Option<Request> {
        self.chosen += 1;
        let wanted = output.map(|output| output.round().max(1.0) as u32);
        if self.plain.is_empty() {
            self.sessions.retain(|session| !session.left.is_empty());
            if self.sessions.is_empty() {
                return None;
            }
            let open = self.open.min(self.sessions.len());
            let session = &mut self.sessions[rng.usize(..open)];
            let candidate = session.left.pop_front()?;
            return Some(request(candidate, wanted, Some(session.id.clone())));
        }
        let index = match input {
            Some(input) => self.near(input, output, rng),
            None => {
                if self.round.is_empty() {
                    self.round = (0..self.plain.len()).collect();
                    rng.shuffle(&mut self.round);
                }
                self.round.pop()?
            }
        };
        Some(request(self.plain[index].clone(), wanted, None))
    }

    fn near(&mut self, input: f64, output: Option<f64>, rng: &mut Rng) -> usize {
        let fits = |candidate: &Candidate, share: f64| match (output, candidate.output) {
            (Some(wanted), Some(found)) => (f64::from(found) - wanted).abs() <= wanted * share,
            _ => true,
        };
        let mut share = self.window;
        // A window of the whole length would hold every shorter prompt.
        while share < 1.0 - STEP / 2.0 {
            let least = self.plain.partition_point(|one| f64::from(one.tokens) < input * (1.0 - share));
            let end = self.plain.partition_point(|one| f64::from(one.tokens) <= input * (1.0 + share));
            let inside: Vec<usize> = (least..end).filter(|&index| fits(&self.plain[index], share)).collect();
            if !inside.is_empty() {
                return inside[rng.usize(..inside.len())];
            }
            share += STEP;
        }
        self.far += 1;
        let distance = |candidate: &Candidate| {
            let answer =
                output.zip(candidate.output).map_or(0.0, |(wanted, found)| f64::from(found) - wanted);
            (f64::from(candidate.tokens) - input).powi(2) + answer.powi(2)
        };
        let nearest = (0..self.plain.len())
            .min_by(|&a, &b| distance(&self.plain[a]).total_cmp(&distance(&self.plain[b])));
        nearest.unwrap_or(0)
    }

    /// What a reader should know of the choice.
    pub(super) fn note(&self) -> Option<String> {
        (self.far > 0).then(|| {
            format!(
                "{} of {} requests: the dataset has no prompt of about that length, so the nearest is taken",
                self.far, self.chosen
            )
        })
    }
}

fn request(candidate: Candidate, wanted: Option<u32>, session_id: Option<Value>) -> Request {
    Request {
        prompt: candidate.prompt,
        prompt_length: Some(candidate.tokens),
        output_length: wanted.or(candidate.output),
        session_id,
        agent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::aibrix::rows::{PlainRow, SessionRow};

    fn plain(lengths: &[usize]) -> Prompts {
        let row = |length: &usize| PlainRow {
            prompt: vec!["w"; *length].join(" "),
            completion: None,
            token_count: None,
            prefix_group: None,
            config_id: None,
        };
        Prompts::Plain(lengths.iter().map(row).collect())
    }

    #[test]
    fn a_prompt_is_of_the_window_or_else_the_nearest() {
        let mut rng = Rng::with_seed(1);
        let mut selector = Selector::new(plain(&[1, 10, 11, 100]), &Tokens::Words, 1, &mut rng).unwrap();
        for _ in 0..20 {
            let length = selector.next(Some(12.0), Some(7.0), &mut rng).unwrap();
            assert!(matches!(length.prompt_length, Some(10 | 11)) && length.output_length == Some(7));
        }
        assert_eq!(selector.note(), None);
        assert_eq!(selector.next(Some(5000.0), None, &mut rng).unwrap().prompt_length, Some(100));
        assert!(selector.note().unwrap().starts_with("1 of 21"));
    }

    #[test]
    fn without_a_length_all_are_used_before_one_is_used_again() {
        let mut rng = Rng::with_seed(1);
        let mut selector = Selector::new(plain(&[1, 2, 3]), &Tokens::Words, 1, &mut rng).unwrap();
        for _ in 0..3 {
            let mut round: Vec<_> =
                (0..3).map(|_| selector.next(None, None, &mut rng).unwrap().prompt_length).collect();
            round.sort();
            assert_eq!(round, [Some(1), Some(2), Some(3)]);
        }
    }

    #[test]
    fn sessions_keep_their_order_and_so_many_are_open() {
        let row = |id: usize| SessionRow {
            session_id: id.into(),
            prompts: vec![format!("{id} a"), format!("{id} b")],
            completions: Some(vec!["x y z".into(), "x".into()]),
        };
        let prompts = Prompts::Sessions((0..4).map(row).collect());
        let mut rng = Rng::with_seed(2);
        let mut selector = Selector::new(prompts, &Tokens::Words, 2, &mut rng).unwrap();
        let mut seen: Vec<(u64, String, Option<u32>)> = Vec::new();
        while let Some(request) = selector.next(None, None, &mut rng) {
            let id = request.session_id.and_then(|id| id.as_u64()).unwrap();
            let begun = seen.iter().filter(|(other, ..)| *other == id).count();
            assert!(request.prompt == format!("{id} {}", ["a", "b"][begun]));
            seen.push((id, request.prompt, request.output_length));
            let open = |id: u64| seen.iter().filter(|(other, ..)| *other == id).count() == 1;
            assert!((0..4).filter(|id| open(*id)).count() <= 2);
        }
        assert_eq!(seen.len(), 8);
        assert_eq!(seen.iter().map(|(.., output)| output.unwrap()).sum::<u32>(), 4 * (3 + 1));
    }
}
