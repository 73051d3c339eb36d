//! Every encoder of the table: against the plain forward pass of `common::naive`, and for equal bits however it is
//! computed. Its rows attend in both directions, so a text is one batch.

mod common;

use backend::{Backend, Batch, Output, OutputKind};
use common::naive::Naive;
use common::*;
use kernels::DType;
use model::test_model::SplitMix64;
use model::{Hyperparameters, Weights};

/// As for decoders, of rows whose norm makes them about 1 large.
const FLOAT_BOUND: f32 = 0.005;
const QUANTIZED_BOUND: f32 = 0.2;

fn models() -> impl Iterator<Item = Tiny> {
    let dtypes = [DType::F32, DType::F16, DType::Q8_0];
    encoders().flat_map(move |a| dtypes.map(|d| Tiny::new(a, d)))
}

#[test]
fn every_encoder_of_the_table_agrees_with_the_plain_forward_pass() {
    assert!(encoders().count() > 0);
    for tiny in models() {
        let gguf = tiny.gguf();
        let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
        let tokens = random_tokens(5, 45);
        let positions: Vec<u32> = (0..45).collect();
        let expected = Naive::new(hyper, &weights).hidden(&tokens, &positions, |_, _| true);
        let found = hidden(&mut open(&gguf, 1), &mut Sequence::new([7, 3, 9]), &tokens);
        let distance = distance(&expected, &found);
        let bound = if tiny.dtype == DType::Q8_0 { QUANTIZED_BOUND } else { FLOAT_BOUND };
        assert!(distance < bound, "{tiny:?}: rows differ by {distance}");
        let scale = expected.iter().flatten().fold(0.0_f32, |m, v| m.max(v.abs()));
        assert!(scale > 1.0, "values of at most {scale} prove little");
    }
}

#[test]
fn each_row_attends_to_those_behind_it() {
    for tiny in models() {
        let mut backend = tiny.open(2);
        let mut tokens = random_tokens(6, 30);
        let before = hidden(&mut backend, &mut Sequence::new(0..2), &tokens);
        tokens[29] = (tokens[29] + 1) % VOCAB as u32;
        let after = hidden(&mut backend, &mut Sequence::new(0..2), &tokens);
        for (row, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_ne!(before, after, "{tiny:?}: row {row}");
        }
    }
}

#[test]
fn pages_and_threads_change_no_bit() {
    for tiny in models() {
        // The longer one has two splits of 256 slots.
        for count in [1, 150, 300] {
            let tokens = random_tokens(3, count);
            let whole = hidden(&mut tiny.open(1), &mut Sequence::new(0..19), &tokens);
            for threads in [1, 2, 3] {
                let pages = (0..19).map(|page| (page * 37 + threads as u32) % 128);
                let found = hidden(&mut tiny.open(threads), &mut Sequence::new(pages), &tokens);
                assert_same_bits(&whole, &found, &format!("{tiny:?} {threads} threads, {count} tokens"));
            }
        }
    }
}

#[test]
fn a_batch_of_strangers_changes_no_bit() {
    for tiny in models() {
        let mut random = SplitMix64(11);
        let texts: Vec<Vec<u32>> = (0..24)
            .map(|_| {
                let count = 1 + (random.next() % 40) as usize;
                tokens_of(&mut random, count)
            })
            .collect();
        let mut alone = tiny.open(1);
        let sequence = |i: usize| Sequence::new((0..3).map(|page| i as u32 * 3 + page));
        let expected: Vec<Vec<Vec<f32>>> =
            texts.iter().enumerate().map(|(i, text)| hidden(&mut alone, &mut sequence(i), text)).collect();
        for threads in [1, 2] {
            let mut together = tiny.open(threads);
            // Others have left their keys and values in the pages.
            for i in 0..24 {
                hidden(&mut together, &mut sequence(i), &random_tokens(i as u64, 48));
            }
            let mut batch = Batch::default();
            for (i, text) in texts.iter().enumerate().filter(|(i, _)| i % 2 == 0) {
                let rows = sequence(i).push(&mut batch, text);
                ask(&mut batch, rows, &OutputKind::Hidden);
            }
            let found: Vec<_> = run(&mut together, &batch).into_iter().map(into_hidden).collect();
            let expected: Vec<_> = expected.iter().step_by(2).flatten().cloned().collect();
            assert_same_bits(&expected, &found, &format!("{tiny:?} {threads} threads, 12 strangers"));
        }
    }
}

#[test]
fn a_text_is_not_gone_on_with_and_has_no_logits() {
    for tiny in models().filter(|tiny| tiny.dtype == DType::F32) {
        let mut backend = tiny.open(1);
        assert!(backend.limits().encoder);
        let mut refused = |batch: &Batch, words: &str| {
            let error = backend.run(batch, &mut Output::default()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let mut sequence = Sequence::new(0..2);
        let mut batch = Batch::default();
        let rows = sequence.push(&mut batch, &[1, 2, 3]);
        ask(&mut batch, rows.start..rows.start + 1, &OutputKind::Logits);
        refused(&batch, "hidden outputs only");
        let mut batch = Batch::default();
        sequence.push(&mut batch, &[4]);
        refused(&batch, "live slots");
    }
}
