//! Every architecture of the table against the plain forward pass of `common::naive`.

mod common;

use backend::{Batch, OutputKind};
use common::naive::Naive;
use common::*;
use kernels::DType;
use model::{Hyperparameters, Weights};

/// With float weights only the rounding of keys, queries and values (to 2^-12 of the largest one) and other orders of summation
/// differ; logits here are of the order of 5.
const FLOAT_BOUND: f32 = 0.02;
/// 8-bit activations add about 1/254 of a block's maximum per product input.
const QUANTIZED_BOUND: f32 = 0.5;

fn check(tiny: Tiny, bound: f32) {
    let gguf = tiny.gguf();
    let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
    let tokens = random_tokens(5, 45);
    let positions: Vec<u32> = (0..45).collect();
    let expected = Naive::new(hyper, &weights).logits(&tokens, &positions, |_, _| true);
    let found = logits(&mut open(&gguf, 1), &mut Sequence::new([7, 3, 9]), &tokens, 45);
    let distance = distance(&expected, &found);
    assert!(distance < bound, "{:?} {:?}: logits differ by {distance}", tiny.architecture, tiny.dtype);
    let scale = expected.iter().flatten().fold(0.0_f32, |m, v| m.max(v.abs()));
    assert!(scale > 2.0, "logits of at most {scale} prove little");
}

#[test]
fn every_decoder_of_the_table_agrees_with_the_plain_forward_pass() {
    for architecture in decoders() {
        for tied in [true, false] {
            check(Tiny { tied, ..Tiny::new(architecture, DType::F32) }, FLOAT_BOUND);
        }
        check(Tiny::new(architecture, DType::F16), FLOAT_BOUND);
        check(Tiny::new(architecture, DType::Q8_0), QUANTIZED_BOUND);
    }
}

#[test]
fn rope_factors_of_llama_3_are_applied() {
    check(Tiny { rope_factors: true, ..Tiny::new(architecture("llama"), DType::F32) }, FLOAT_BOUND);
}

#[test]
fn masks_positions_and_removed_slots_agree_with_the_plain_forward_pass() {
    for architecture in decoders() {
        let gguf = Tiny::new(architecture, DType::F32).gguf();
        let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
        let naive = Naive::new(hyper, &weights);
        let mut backend = open(&gguf, 2);
        let tokens = random_tokens(6, 40);
        let positions: Vec<u32> = (0..40).collect();

        // Slots 3..20 leave attention after 30 tokens; the rest goes on.
        let mut sequence = Sequence::new([1, 2, 3]);
        logits(&mut backend, &mut sequence, &tokens[..30], 30);
        sequence.remove(3..20);
        let found = logits(&mut backend, &mut sequence, &tokens[30..], 4);
        let expected = naive.logits(&tokens, &positions, |i, j| i < 30 || !(3..20).contains(&j));
        assert!(distance(&expected[30..], &found) < FLOAT_BOUND);

        // A tree: rows 20..30 and 30..40 are two branches after the same 20 tokens, at the same positions.
        let mut sequence = Sequence::new([4, 5, 6]);
        let mut batch = Batch::default();
        let rows = sequence.push(&mut batch, &tokens);
        for row in 30..40_u32 {
            batch.positions[row as usize] = row - 10;
            batch.masks.push(mask(row as usize, 3, (0..20).chain(30..=row)));
        }
        ask(&mut batch, rows, &OutputKind::Logits);
        let found: Vec<_> = run(&mut backend, &batch).into_iter().map(into_logits).collect();
        let expected = naive.logits(&tokens, &batch.positions, |i, j| i < 30 || !(20..30).contains(&j));
        assert!(distance(&expected, &found) < FLOAT_BOUND);

        // A mask says all: a row may leave itself out, or attend to nothing.
        let mut sequence = Sequence::new([4, 5, 6]);
        let mut batch = Batch::default();
        let rows = sequence.push(&mut batch, &tokens[..8]);
        batch.masks.push(mask(3, 3, []));
        batch.masks.push(mask(7, 3, [0, 2]));
        ask(&mut batch, rows, &OutputKind::Logits);
        let found: Vec<_> = run(&mut backend, &batch).into_iter().map(into_logits).collect();
        let expected =
            naive.logits(&tokens[..8], &positions[..8], |i, j| i != 3 && (i < 7 || [0, 2].contains(&j)));
        assert!(distance(&expected, &found) < FLOAT_BOUND);
    }
}

#[test]
fn a_mask_may_not_reach_what_the_sequence_does_not_hold() {
    use backend::Backend;
    let mut backend = Tiny::new(architecture("llama"), DType::F32).open(1);
    for slot in [9, 5, 40] {
        let mut sequence = Sequence::new([4, 5, 6]);
        let mut batch = Batch::default();
        sequence.push(&mut batch, &[1, 2, 3, 4, 5, 6]);
        batch.masks.push(mask(4, 3, [0, slot]));
        let error = backend.run(&batch, &mut backend::Output::default()).unwrap_err().to_string();
        assert!(error.contains("mask of row 4"), "{error}");
    }
}

#[test]
fn embeddings_take_the_place_of_tokens() {
    use backend::{Backend, EmbeddingRow};
    let mut backend = Tiny::new(architecture("llama"), DType::Q8_0).open(1);
    let tokens = random_tokens(8, 9);
    let expected = logits(&mut backend, &mut Sequence::new([0]), &tokens, 9);
    let mut rows = Vec::new();
    backend.embed(&tokens, &mut rows).unwrap();
    assert!(backend.embed(&[VOCAB as u32], &mut rows).is_err());
    let mut batch = Batch::default();
    let range = Sequence::new([1]).push(&mut batch, &[0; 9]);
    let values = rows.chunks(HIDDEN).enumerate();
    batch.embeddings = values.map(|(row, values)| EmbeddingRow { row, values: values.to_vec() }).collect();
    ask(&mut batch, range, &OutputKind::Logits);
    let found: Vec<_> = run(&mut backend, &batch).into_iter().map(into_logits).collect();
    assert_same_bits(&expected, &found, "embeddings of the same tokens");
}

#[test]
fn embedding_rows_are_those_of_the_file() {
    use backend::Backend;
    let tokens = random_tokens(9, 20);
    for (dtype, tied) in
        [DType::F32, DType::F16, DType::Q8_0].into_iter().flat_map(|d| [(d, true), (d, false)])
    {
        let gguf = Tiny { tied, ..Tiny::new(architecture("llama"), dtype) }.gguf();
        let weights = Weights::from_gguf(&gguf);
        let tensor = weights.get("token_embd.weight").unwrap();
        let mut all = vec![0.0; tensor.rows * tensor.cols];
        dtype.dequantize(tensor.bytes, &mut all);
        let expected: Vec<f32> =
            tokens.iter().flat_map(|&token| all[token as usize * HIDDEN..][..HIDDEN].to_vec()).collect();
        let mut rows = Vec::new();
        open(&gguf, 2).embed(&tokens, &mut rows).unwrap();
        assert_eq!(rows, expected, "{dtype:?}, tied: {tied}");
    }
}
