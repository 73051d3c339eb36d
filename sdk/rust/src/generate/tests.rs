//! Every setting of a generation alone and with others: the text is that of plain decoding, which these tests write
//! out themselves, and the accounts add up.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::adapter::{Adapter, Source};
use crate::embeds::Embeddings;
use crate::testing::{Host, ScriptedModel};
use crate::{
    Answer, Budget, Constraint, Context, Draft, Drafter, EMBEDDING, Error, FinishReason, Generation, Grammar,
    Item, Model, ModelDrafter, NgramDrafter, Result, SamplingParams, Trigger, Window,
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

/// An answer of a model that says so after the prompt, under some settings.
fn answer(says: &str, settings: impl AsyncFnOnce(Context) -> Result<Answer>) -> Answer {
    said(PROMPT, says).run(async { settings(prompt()?).await }).unwrap()
}

fn greedy() -> SamplingParams {
    SamplingParams::greedy()
}

#[test]
fn forced_tokens_cost_no_pass_unless_their_logprobs_are_asked_for() {
    let run = |top: Option<u32>| {
        answer("x: 7, and so on", async |mut context| {
            let constraint = regex("(x|y): [0-9], and so (on|off)!").await?;
            let generation = context.generate(greedy()).constrain(&constraint);
            let generation = if let Some(top) = top { generation.top_logprobs(top) } else { generation };
            generation.answer().await
        })
    };
    let (without, with) = (run(None), run(Some(2)));
    assert_eq!(
        (without.text.as_str(), &without.finish_reason),
        ("x: 7, and so on!", &FinishReason::Constraint)
    );
    assert_eq!(outcome(&with), outcome(&without));
    // Drawn: `x`, `7`, and `n` of `on`; the rest cannot be otherwise.
    let usage = without.usage;
    assert_eq!((usage.generated, usage.forced, usage.passes), (16, 13, 3), "{usage:?}");
    assert!(with.usage.passes > 3 && with.usage.forced == 13, "{:?}", with.usage);
    assert_eq!(without.logprobs.iter().filter(|logprob| logprob.logprob.is_some()).count(), 3);
    assert!(with.logprobs.iter().all(|logprob| logprob.logprob.is_some() && logprob.top.len() == 2));
}

#[test]
fn a_trigger_begins_a_constraint_each_time_and_text_is_free_around_it() {
    let says = "hm <a>{\"x\":1}</a> so <a>no</a> end";
    let run = |trigger: Trigger| {
        answer(says, async |mut context| {
            let constraint = regex("\\{\"x\":[0-9]\\}</a>").await?;
            context.generate(greedy()).constrain_after(trigger, &constraint).max_tokens(60).answer().await
        })
    };
    assert_eq!(run(Trigger::text("<a>")).text, says);
    let twice = run(Trigger::text("<a>").every_time()).text;
    assert!(twice.starts_with("hm <a>{\"x\":1}</a> so <a>{\"x\":"), "{twice}");
    let by_token = run(Trigger::token(b'm'.into())).text;
    assert!(by_token.starts_with("hm{\"x\":"), "{by_token}");
}

#[test]
fn constraints_are_switched_between_items_and_intersected() {
    let text = answer("aaaabbbb", async |mut context| {
        let (one, two, three) = (regex("[ab]*").await?, regex("[bc]{2}").await?, regex("[cd]*").await?);
        let mut generation = context.generate(greedy()).constrain(&one);
        let first = generation.next().await?.unwrap();
        assert_eq!((first.text.as_str(), first.tokens.len(), generation.finish_reason()), ("a", 1, None));
        generation.set_constraints(&[&two, &three]);
        generation.rest().await
    });
    assert_eq!((text.text.as_str(), text.complete, text.usage.forced), ("acc", true, 0));
}

#[test]
fn stop_tokens_wait_for_the_least_length_and_stop_texts_too() {
    let plain =
        answer("one. two. three", async |mut context| context.generate(greedy()).stop(".").answer().await);
    assert_eq!((plain.text.as_str(), plain.finish_reason.openai()), ("one", "stop"));
    let later = answer("one. two. three", async |mut context| {
        context.generate(greedy()).stop("x").stop(".").min_tokens(5).answer().await
    });
    assert_eq!(
        (later.text.as_str(), &later.finish_reason),
        ("one. two", &FinishReason::StopText(".".into()))
    );
    let longer = answer("hi", async |mut context| context.generate(greedy()).min_tokens(7).answer().await);
    assert!(longer.tokens.len() >= 7 && longer.text.starts_with("hi"), "{longer:?}");
    let token = answer("one", async |mut context| {
        context.generate(greedy()).stop_tokens(&[b'e'.into()]).answer().await
    });
    assert_eq!((token.text.as_str(), token.finish_reason), ("on", FinishReason::StopToken(b'e'.into())));
    let cut = answer("one", async |mut context| context.generate(greedy()).max_tokens(2).answer().await);
    assert_eq!((cut.text.as_str(), cut.finish_reason.openai(), cut.usage.generated), ("on", "length", 2));
}

#[test]
fn what_the_prompt_was_worth_is_known_of_what_was_pending() {
    noisy(5).run(async {
        let mut context = prompt().unwrap();
        let tokens = context.tokens().to_vec();
        let expected = {
            let mut context = Context::new(&Model::open_default().unwrap()).unwrap();
            context.append_tokens(&tokens[..1]).logprobs(&tokens[1..]).await.unwrap()
        };
        let mut generation = context.generate(greedy()).max_tokens(3).prompt_logprobs(2);
        let answer = generation.rest().await.unwrap();
        let prompt = generation.logprobs_of_prompt();
        assert!(prompt[0].is_none() && prompt.len() == tokens.len());
        let found: Vec<f32> = prompt[1..].iter().map(|one| one.as_ref().unwrap().logprob.unwrap()).collect();
        assert_eq!(found, expected);
        assert!(
            prompt[1..]
                .iter()
                .flatten()
                .zip(&tokens[1..])
                .all(|(one, t)| one.token == *t && one.top.len() == 2)
        );
        assert_eq!(answer.usage.passes, 4, "one for the prompt, and one a token");
        assert_eq!(answer.usage.computed, tokens.len() + 2);
    });
}

#[test]
fn embedding_rows_are_a_prompt_like_the_tokens_they_come_from() {
    noisy(6).run(async {
        let model = Model::open_default().unwrap();
        let expected = prompt().unwrap().generate(greedy()).max_tokens(12).answer().await.unwrap();
        let tokens = prompt().unwrap().tokens().to_vec();
        for end in [tokens.len() - 2, tokens.len()] {
            let rows = Embeddings::from_tokens(model.handle(), tokens[3..end].to_vec()).await.unwrap();
            let mut context = Context::new(&model).unwrap();
            context
                .append_tokens(&tokens[..3])
                .append_embeddings(Rc::new(rows))
                .append_tokens(&tokens[end..]);
            assert_eq!(context.tokens()[3], EMBEDDING);
            let sampling = greedy().presence_penalty(0.01);
            let penalized =
                prompt().unwrap().generate(sampling.clone()).max_tokens(12).answer().await.unwrap();
            let mut fork = context.fork().unwrap();
            fork.prefill_but_last().await.unwrap();
            assert_eq!(
                fork.generate(sampling).max_tokens(12).answer().await.unwrap().tokens,
                penalized.tokens
            );
            let answer = context.generate(greedy()).max_tokens(12).answer().await.unwrap();
            assert_eq!(answer.tokens, expected.tokens, "{end}");
        }
    });
}

#[test]
fn another_model_drafts_and_an_adapter_changes_the_text() {
    let host = Host::new().model(noise(9)).model(noise(9).name("other"));
    host.run(async {
        let sampling = SamplingParams::temperature(1.0).seed(4);
        let plain = prompt().unwrap().generate(sampling.clone()).max_tokens(24).answer().await.unwrap();
        let small = Context::new(&Model::open("other").unwrap()).unwrap();
        let mut drafter = ModelDrafter::new(small, sampling.clone(), 5);
        let mut context = prompt().unwrap();
        let generation = context.generate(sampling.clone()).max_tokens(24).drafter(&mut drafter);
        let drafted = generation.answer().await.unwrap();
        assert_eq!(drafted.tokens, plain.tokens);
        // An equal model with the same seed is always right.
        assert_eq!((drafted.usage.drafted, drafted.usage.accepted), (20, 20));
        assert_eq!(drafted.usage.passes, 4);
        let model = Model::open_default().unwrap();
        let adapter = Adapter::load(model.handle(), Source::Name("pirate".to_string())).await.unwrap();
        let mut context = prompt().unwrap();
        let adapted =
            context.generate(sampling).max_tokens(24).adapter(&Rc::new(adapter)).answer().await.unwrap();
        assert_ne!(adapted.tokens, plain.tokens);
    });
}

#[test]
fn a_failed_pass_leaves_the_context_as_it_was() {
    let host = noisy(7).fail(2, Error::Backend("power".to_string()));
    host.run(async {
        let (mut context, mut grams) = (prompt().unwrap(), NgramDrafter::new(1, 3));
        let mut generation =
            context.generate(greedy()).max_tokens(9).ignore_stop_tokens().drafter(&mut grams);
        let failed = generation.rest().await.unwrap_err();
        assert!(matches!(failed.downcast_ref(), Some(Error::Backend(_))), "{failed}");
        let whole = generation.rest().await.unwrap();
        let plain =
            prompt().unwrap().generate(greedy()).max_tokens(9).ignore_stop_tokens().answer().await.unwrap();
        assert_eq!(whole.tokens, plain.tokens);
        assert_eq!(context.tokens()[16..], plain.tokens[..]);
    });
}

#[test]
fn a_character_of_several_tokens_is_never_split() {
    let text = "caf\u{e9} \u{20ac}5 \u{1f600}!";
    said(PROMPT, text).run(async {
        let (mut context, mut items) = (prompt().unwrap(), Vec::new());
        let mut generation = context.generate(greedy());
        while let Some(item) = generation.next().await.unwrap() {
            assert!(!item.text.contains(char::REPLACEMENT_CHARACTER), "{item:?}");
            items.push(item);
        }
        let answer = generation.rest().await.unwrap();
        assert_eq!(answer.text, text);
        check_items(&items, &answer);
    });
}

#[test]
fn settings_that_say_nothing_are_refused() {
    said(PROMPT, "a").run(async {
        let constraint = regex("a").await.unwrap();
        for number in 0..2 {
            let mut context = prompt().unwrap();
            let generation = context.generate(greedy());
            let generation = match number {
                0 => generation.stop(""),
                _ => generation.constrain_after(Trigger::text(""), &constraint),
            };
            let refused = generation.answer().await.unwrap_err();
            assert!(matches!(refused.downcast_ref(), Some(Error::InvalidArgument(_))), "{refused}");
        }
    });
}

#[test]
fn drafts_end_where_a_trigger_or_a_forced_token_comes() {
    let says = "so <a>{\"x\":1}</a> and so on";
    let run = async |is_drafted: bool| {
        let mut context = prompt()?;
        let constraint = regex("\\{\"(x|y)\":[0-9]\\}</a>").await?;
        let text = context.model().tokenize(says)?;
        let mut known = Known { start: context.tokens().len(), text };
        let generation = context.generate(greedy()).constrain_after(Trigger::text("<a>"), &constraint);
        let generation = if is_drafted { generation.drafter(&mut known) } else { generation };
        let answer = generation.max_tokens(60).answer().await?;
        Ok::<_, crate::anyhow::Error>((answer, context.pending().len()))
    };
    said(PROMPT, says).run(async {
        let ((plain, one), (drafted, two)) = (run(false).await.unwrap(), run(true).await.unwrap());
        assert_eq!(outcome(&drafted), outcome(&plain));
        assert_eq!((plain.text.as_str(), one, two), (says, 0, 0));
        assert!(drafted.usage.accepted > 8 && drafted.usage.forced > 8, "{:?}", drafted.usage);
        assert!(drafted.usage.passes * 2 < plain.usage.passes, "{:?} {:?}", drafted.usage, plain.usage);
    });
}

/// Drafts the rest of a text, as the tokenizer cuts it.
struct Known {
    start: usize,
    text: Vec<u32>,
}

impl Drafter for Known {
    async fn draft(&mut self, tokens: &[u32]) -> Result<Draft> {
        // The text may have been cut into other tokens: by bytes.
        let bytes = |tokens: &[u32]| {
            Model::open_default()?.handle().detokenize(tokens).map_err(crate::anyhow::Error::from)
        };
        let done = bytes(&tokens[self.start..])?.len();
        let mut whole = 0;
        let rest = self.text.iter().skip_while(|token| {
            let is_done = whole < done;
            whole += bytes(&[**token]).map_or(0, |bytes| bytes.len());
            is_done
        });
        Ok(Draft::chain(&rest.copied().take(6).collect::<Vec<_>>()))
    }
}

#[test]
fn of_the_prompt_what_the_context_had_is_not_computed_again() {
    noisy(4).run(async {
        let mut context = prompt().unwrap();
        context.prefill().await.unwrap();
        let (held, new) = (context.tokens().len(), " jumps");
        let answer = context.append(new).generate(SamplingParams::greedy()).max_tokens(3).answer().await;
        let usage = answer.unwrap().usage;
        assert_eq!((usage.prompt, usage.prompt_cached), (held + new.len(), held));
        assert_eq!(usage.computed, usage.prompt - usage.prompt_cached + usage.passes - 1);
    });
}

#[test]
fn a_part_ends_at_its_budget_by_tokens_that_are_not_drawn() -> Result<()> {
    // Thoughts that never end; what comes after their end is an answer.
    let host = Host::new().model(
        ScriptedModel::new()
            .words(&["<think>", "</think>"])
            .says(PROMPT, &format!("<think>{}", "hm ".repeat(100)))
            .says("</think>\n", "Four."),
    );
    let think = |tokens| Budget::new("</think>", tokens).opened_by("<think>").written_as("\n</think>\n");
    for tokens in [0, 1, 7, 40] {
        let answer = host.run(async {
            prompt()?.generate(SamplingParams::greedy()).budget(think(tokens)).answer().await
        })?;
        let thoughts: String = "hm ".repeat(40).chars().take(tokens).collect();
        assert_eq!(answer.text, format!("<think>{thoughts}\n</think>\nFour."));
        // The mark that opens it, the thoughts, the answer and its end are drawn, in a pass each; the rest is not.
        let drawn = 1 + tokens + "Four.".len() + 1;
        assert_eq!((answer.usage.passes, answer.usage.forced), (drawn, 3), "{tokens}");
        assert_eq!(answer.usage.generated, drawn + 3);
    }
    // The prompt may have opened it.
    let answer = host.run(async {
        let mut context = prompt()?;
        context.append_tokens(&context.model().tokenize("<think>")?);
        context
            .generate(SamplingParams::greedy())
            .budget(Budget::new("</think>", 2))
            .max_tokens(6)
            .answer()
            .await
    })?;
    assert!(answer.text.starts_with("hm</think>"), "{}", answer.text);
    // No more than `max_tokens`, in the middle of the end as well.
    let answer = host.run(async {
        prompt()?.generate(SamplingParams::greedy()).budget(think(2)).max_tokens(4).answer().await
    })?;
    assert_eq!((answer.text.as_str(), answer.finish_reason), ("<think>hm\n", FinishReason::MaxTokens));
    Ok(())
}

#[test]
fn a_budget_says_nothing_where_the_part_ends_before_or_is_none() -> Result<()> {
    for said_text in ["<think>hm</think>Four.", "Four <think>and more</think> later.", "Four."] {
        let host = said(PROMPT, said_text);
        let budget = Budget::new("</think>", 10).opened_by("<think>");
        let answer =
            host.run(async { prompt()?.generate(SamplingParams::greedy()).budget(budget).answer().await })?;
        assert_eq!((answer.text.as_str(), answer.usage.forced), (said_text, 0));
    }
    Ok(())
}

#[test]
fn a_budget_holds_with_a_drafter_and_a_constraint_as_without() -> Result<()> {
    let host = noisy(5);
    host.run(async {
        let budget = || Budget::new("}x", 9).written_as("ab}x");
        let sampling = || SamplingParams::temperature(1.0).seed(4);
        let plain = prompt()?.generate(sampling()).budget(budget()).max_tokens(40).answer().await?;
        let mut context = prompt()?;
        let mut tree = Tree::new(&context, &plain.tokens, 3);
        let drafted =
            context.generate(sampling()).budget(budget()).max_tokens(40).drafter(&mut tree).answer().await?;
        assert_eq!((&drafted.text, &drafted.tokens), (&plain.text, &plain.tokens));
        assert!(plain.text.contains("ab}x") && drafted.usage.accepted > 0);
        // A constraint that does not allow the end is not broken for it.
        let letters = regex("[a-w]{30}").await?;
        let answer = prompt()?
            .generate(sampling())
            .budget(budget())
            .constrain(&letters)
            .max_tokens(60)
            .answer()
            .await?;
        assert!(answer.complete && answer.text.len() == 30, "{}", answer.text);
        Ok(())
    })
}

#[test]
fn a_text_ends_with_the_constraint_of_a_trigger_and_not_before() -> Result<()> {
    // The model ends its text before the mark, which it may not.
    let host = said(PROMPT, "thinking");
    host.run(async {
        let digits = regex("[0-9]{3}").await?;
        let last = || Trigger::text("g").to_the_end();
        let answer = prompt()?
            .generate(SamplingParams::greedy())
            .constrain_after(last(), &digits)
            .max_tokens(40)
            .answer()
            .await?;
        assert!(
            answer.text.starts_with("thinking") && answer.text.len() == "thinking".len() + 3,
            "{answer:?}"
        );
        assert_eq!((answer.complete, &answer.finish_reason), (true, &FinishReason::Constraint));
        let cut = prompt()?
            .generate(SamplingParams::greedy())
            .constrain_after(Trigger::text("no such").to_the_end(), &digits)
            .max_tokens(20)
            .answer()
            .await?;
        assert_eq!((cut.complete, cut.finish_reason), (false, FinishReason::MaxTokens));
        assert_eq!(cut.tokens.len(), 20, "it did not end before the constraint began");
        Ok(())
    })
}

#[test]
fn a_trigger_may_count_at_the_start_only() -> Result<()> {
    for (text, begins) in [("<a12", true), (" \n<a12", true), ("x <a12", false), ("<<a12", false)] {
        let host = said(PROMPT, text);
        let answer = host.run(async {
            let letters = regex("[x-z]{2}").await?;
            prompt()?
                .generate(SamplingParams::greedy())
                .constrain_after(Trigger::text("<a").at_start(), &letters)
                .max_tokens(12)
                .answer()
                .await
        })?;
        assert_eq!(answer.text == text, !begins, "{text:?} became {:?}", answer.text);
    }
    Ok(())
}
