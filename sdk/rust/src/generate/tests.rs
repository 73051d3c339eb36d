//! Every setting of a generation alone and with others: the text is that of plain decoding, which these tests write
//! out themselves, and the accounts add up.

use std::collections::BTreeSet;

use crate::testing::{Host, ScriptedModel};
use crate::{
    Answer, Constraint, Context, Draft, Drafter, FinishReason, Generation, Grammar, Item, Model,
    NgramDrafter, Result, SamplingParams, Trigger, Window,
};

const PROMPT: &str = "the quick brown fox";

/// A model of hashes, with words that overlap stop texts and triggers.
fn noise(seed: u64) -> ScriptedModel {
    ScriptedModel::noise(seed).words(&["ab", "abc", "<a", "<a>{", "}x", "the ", "\u{e9}t", "no!"])
}

fn noisy(seed: u64) -> Host {
    Host::new().model(noise(seed)).model(noise(seed ^ 1).name("other"))
}

fn said(prompt: &str, answer: &str) -> Host {
    Host::new().model(ScriptedModel::new().words(&["ab", "<a", "<a>{", "}x"]).says(prompt, answer))
}

fn prompt() -> Result<Context> {
    let mut context = Context::new(&Model::open_default()?)?;
    context.append(PROMPT);
    Ok(context)
}

async fn regex(text: &str) -> Result<Constraint> {
    Model::open_default()?.constraint(Grammar::Regex(text.to_string())).await
}

/// Drafts trees, by a hash: right tokens where it knows the text, wrong ones beside and behind them.
struct Tree {
    start: usize,
    text: Vec<u32>,
    seed: u64,
    rejected: usize,
}

impl Tree {
    fn new(context: &Context, text: &[u32], seed: u64) -> Tree {
        Tree { start: context.tokens().len(), text: text.to_vec(), seed, rejected: 0 }
    }

    fn random(&mut self, most: u64) -> usize {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.seed >> 33) % most) as usize
    }
}

impl Drafter for Tree {
    async fn draft(&mut self, tokens: &[u32]) -> Result<Draft> {
        let rest = &self.text[(tokens.len() - self.start).min(self.text.len())..].to_vec();
        let mut draft = Draft::none();
        for _ in 0..self.random(4) {
            let (right, wrong) = (self.random(4).min(rest.len()), self.random(3));
            let wrong: Vec<u32> = (0..wrong).map(|_| self.random(256) as u32).collect();
            draft.add_chain(&[&rest[..right], &wrong].concat());
        }
        Ok(draft)
    }

    fn rejected(&mut self, drawn: &[u32]) {
        self.rejected += drawn.len();
    }
}

/// What an answer is, without what it cost.
fn outcome(answer: &Answer) -> (&str, &[u32], &FinishReason, bool) {
    (&answer.text, &answer.tokens, &answer.finish_reason, answer.complete)
}

/// The settings that these tests combine.
struct Settings<'a> {
    sampling: SamplingParams,
    constraint: Option<&'a Constraint>,
    trigger: Option<(Trigger, &'a Constraint)>,
    stop: Option<&'a str>,
    min_tokens: usize,
    window: Option<Window>,
    top: Option<u32>,
}

impl<'a> Settings<'a> {
    fn begin(&self, context: &'a mut Context) -> Generation<'a> {
        let mut generation =
            context.generate(self.sampling.clone()).max_tokens(40).min_tokens(self.min_tokens);
        if let Some(constraint) = self.constraint {
            generation = generation.constrain(constraint);
        }
        if let Some((trigger, constraint)) = &self.trigger {
            generation = generation.constrain_after(trigger.clone(), constraint);
        }
        if let Some(stop) = self.stop {
            generation = generation.stop(stop);
        }
        if let Some(window) = self.window {
            generation = generation.window(window);
        }
        match self.top {
            Some(top) => generation.top_logprobs(top),
            None => generation,
        }
    }
}

/// Items together are the answer, and none shows what is taken back later.
fn check_items(items: &[Item], answer: &Answer) {
    assert_eq!(items.iter().map(|item| item.text.as_str()).collect::<String>(), answer.text);
    assert_eq!(items.iter().flat_map(|item| item.tokens.clone()).collect::<Vec<_>>(), answer.tokens);
    assert_eq!(items.iter().flat_map(|item| item.logprobs.clone()).collect::<Vec<_>>(), answer.logprobs);
    assert_eq!(answer.logprobs.iter().map(|logprob| logprob.token).collect::<Vec<_>>(), answer.tokens);
}

/// The passes and rows are those that the host counted, and the tokens come from somewhere. All passes draw, unless
/// there is a window or the log-probabilities of forced tokens are asked for.
fn check_usage(answer: &Answer, passes: usize, rows: usize, all_draw: bool) {
    let usage = answer.usage;
    assert_eq!((usage.passes, usage.computed + usage.cached), (passes, rows), "{usage:?}");
    assert!(usage.accepted <= usage.drafted, "{usage:?}");
    let drawn = usage.passes + usage.accepted + usage.forced;
    assert!(if all_draw { usage.generated == drawn } else { usage.generated <= drawn }, "{usage:?}");
}

#[test]
fn any_settings_with_a_drafter_give_the_text_of_those_without() {
    let mut seen = BTreeSet::new();
    for seed in 0..160u64 {
        let host = noisy(seed);
        host.run(async {
            let chance = |bit: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (20 + bit) & 1 == 1;
            let sampling = SamplingParams::temperature(if chance(0) { 0.0 } else { 1.0 }).seed(seed);
            let sampling =
                if chance(1) { sampling.presence_penalty(5.0).repetition_penalty(1.3) } else { sampling };
            let sampling = match chance(2) {
                true => sampling
                    .allowed_tokens((97..105).chain([60, 62, 123, 125, 257, 258, 259, 260, 261]).collect()),
                false => sampling,
            };
            let forms = ["[a-z<>{}]{30}", "(ab|a<a>){1,9}", "(cab no!|xyz)*", "a{3}b+(<a>\\{x\\})?c{2,8}"];
            let form = forms[(seed % 4) as usize];
            let (constraint, again) = (regex(form).await?, regex(form).await?);
            let inner = regex("\\{[a-c]{2}(yes|no)\\}").await?;
            let settings = |constraint| Settings {
                sampling: sampling.clone(),
                constraint,
                trigger: chance(4)
                    .then(|| (Trigger::text(["a", "<a>", "ab"][(seed % 3) as usize]).every_time(), &inner)),
                stop: chance(5).then_some(["ca", "b", "}"][(seed % 3) as usize]),
                min_tokens: if chance(6) { 6 } else { 0 },
                window: chance(7).then_some(Window { sink: 2, size: 9 }),
                top: chance(8).then_some(2),
            };
            let is_constrained = chance(3);
            let (mut one, mut two) = (prompt()?, prompt()?);
            let plain = settings(is_constrained.then_some(&constraint)).begin(&mut one).rest().await;
            let rows = host.rows();
            let passes = host.passes();
            let with = settings(is_constrained.then_some(&again));
            let Ok(plain) = plain else {
                let mut drafter = NgramDrafter::new(1, 4).branches(3);
                let refused = with.begin(&mut two).drafter(&mut drafter).answer().await;
                assert_eq!(refused.unwrap_err().to_string(), plain.unwrap_err().to_string(), "{seed}");
                seen.insert("refused");
                return Ok(());
            };
            let mut tree = Tree::new(&two, &plain.tokens, seed);
            // A window drops tokens, and so the tree does not know where it is.
            let mut grams = NgramDrafter::new(1, 4).branches(3);
            let (mut generation, mut items) = (with.begin(&mut two), Vec::new());
            generation = match chance(7) {
                true => generation.drafter(&mut grams),
                false => generation.drafter(&mut tree),
            };
            while let Some(item) = generation.next().await? {
                items.push(item);
            }
            let drafted = generation.rest().await?;
            drop(generation);
            assert_eq!(outcome(&drafted), outcome(&plain), "{seed}");
            assert_eq!(drafted.logprobs, plain.logprobs, "{seed}");
            assert_eq!(one.tokens(), two.tokens(), "{seed}");
            check_items(&items, &drafted);
            check_usage(&drafted, host.passes() - passes, host.rows() - rows, !chance(7) && !chance(8));
            assert!(drafted.tokens.len() <= 40);
            for (is, name) in [
                (drafted.usage.accepted > 0, "accepted"),
                (drafted.usage.forced > 0, "forced"),
                (matches!(plain.finish_reason, FinishReason::StopText(_)), "stop text"),
                (plain.finish_reason == FinishReason::Constraint, "constraint"),
                (plain.finish_reason == FinishReason::MaxTokens, "max tokens"),
                (drafted.usage.passes < plain.usage.passes, "fewer passes"),
            ] {
                seen.extend(is.then_some(name));
            }
            Ok::<_, crate::anyhow::Error>(())
        })
        .unwrap();
    }
    assert!(seen.len() >= 6, "{seen:?}");
}

#[test]
fn plain_decoding_is_one_step_after_another() {
    for seed in 0..50 {
        noisy(seed).run(async {
            let sampling = SamplingParams::temperature(1.0).seed(seed).frequency_penalty(0.5);
            let (mut context, mut tokens) = (prompt().unwrap(), Vec::new());
            for _ in 0..20 {
                let token = context.step(&sampling, &[]).await.unwrap().token;
                tokens.push(token);
            }
            let stop = tokens.iter().position(|token| *token == 257).unwrap_or(20);
            let answer = prompt().unwrap().generate(sampling).max_tokens(20).answer().await.unwrap();
            assert_eq!(answer.tokens, tokens[..stop], "{seed}");
            let generated = (stop + 1).min(20);
            let usage = answer.usage;
            assert_eq!(
                (usage.generated, usage.passes, usage.prompt),
                (generated, generated, 15 + 4 - 3),
                "{seed}"
            );
        });
    }
}
