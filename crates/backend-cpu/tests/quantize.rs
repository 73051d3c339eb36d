//! Models of floats that are quantized when they are loaded, against files that hold the quantized weights.

mod common;

use backend_cpu::{CpuBackend, CpuOptions, Quantize};
use common::*;
use kernels::DType;
use model::gguf::Gguf;
use model::{Hyperparameters, Weights};
use std::path::Path;

fn open_quantized(gguf: &Gguf) -> CpuBackend {
    let options =
        CpuOptions { threads: 2, pages: 8, quantize: Some(Quantize::Q8_0), ..CpuOptions::default() };
    CpuBackend::open(&Hyperparameters::from_gguf(gguf).unwrap(), &Weights::from_gguf(gguf), &options, |_| ())
        .unwrap()
}

fn logits_of(backend: &mut CpuBackend, tokens: &[u32]) -> Vec<Vec<f32>> {
    logits(backend, &mut Sequence::new([4, 1, 2]), tokens, 20)
}

fn hidden_of(backend: &mut CpuBackend, tokens: &[u32]) -> Vec<Vec<f32>> {
    hidden(backend, &mut Sequence::new([4, 1, 2]), tokens)
}

/// All but those of which the file in Q8_0 has more quantized than loading does: rows of positions, routers.
#[test]
fn a_model_of_floats_gives_the_bits_and_takes_the_memory_of_its_file_in_q8_0() {
    let mut seen = 0;
    for architecture in decoders() {
        let floats = Tiny::new(architecture, DType::F32).gguf();
        let hyper = Hyperparameters::from_gguf(&floats).unwrap();
        if hyper.learned_positions.is_some() || hyper.experts.is_some() {
            continue;
        }
        let mut quantized = Tiny::new(architecture, DType::Q8_0).open(1);
        let mut found = open_quantized(&floats);
        let tokens = random_tokens(3, 40);
        let what = architecture.name();
        assert_same_bits(&logits_of(&mut found, &tokens), &logits_of(&mut quantized, &tokens), what);
        assert_eq!(found.weight_bytes(), quantized.weight_bytes(), "{what}");
        seen += 1;
    }
    assert!(seen > 8, "only {seen} architectures");
}

#[test]
fn every_architecture_is_near_its_floats_when_it_is_quantized() {
    type Rows = fn(&mut CpuBackend, &[u32]) -> Vec<Vec<f32>>;
    let tied_or_not = [true, false].into_iter().flat_map(|tied| decoders().map(move |one| (one, tied)));
    let cases = tied_or_not.map(|(architecture, tied)| (architecture, tied, logits_of as Rows));
    // An encoder has no matrix of logits.
    let cases = cases.chain(encoders().map(|architecture| (architecture, true, hidden_of as Rows)));
    for (architecture, tied, rows) in cases {
        let floats = Tiny { tied, ..Tiny::new(architecture, DType::F32) }.gguf();
        let tokens = random_tokens(3, 40);
        let expected = rows(&mut open(&floats, 1), &tokens);
        let distance = distance(&expected, &rows(&mut open_quantized(&floats), &tokens));
        // As files in Q8_0, for which tests/architectures.rs has the bound, and the weights' own rounding.
        assert!(distance > 0.0 && distance < 0.6, "{architecture:?}: rows differ by {distance}");
    }
}

#[test]
fn what_is_quantized_in_the_file_stays_as_it_is() {
    let gguf = Tiny::new(architecture("llama"), DType::Q8_0).gguf();
    let tokens = random_tokens(3, 40);
    let expected = logits_of(&mut open(&gguf, 1), &tokens);
    assert_same_bits(&logits_of(&mut open_quantized(&gguf), &tokens), &expected, "quantized twice");
}

/// A token beside the best of F16 is one of nearly the same probability.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_real_model_takes_the_memory_of_q8_0_and_nearly_says_what_it_said() {
    let Some(folder) = std::env::var_os("PIE_TEST_MODELS") else {
        return eprintln!("PIE_TEST_MODELS is not set: no real model is quantized");
    };
    let Ok(gguf) = Gguf::open(&Path::new(&folder).join("smollm2-135m-f16.gguf")) else {
        return eprintln!("PIE_TEST_MODELS has no smollm2-135m-f16.gguf: no real model is quantized");
    };
    let tokens = random_tokens(3, 40);
    let (mut found, mut expected) = (open_quantized(&gguf), open(&gguf, 2));
    // 34 bytes for 32 weights, where F16 takes 64; norms are F32 in both.
    let bytes = |backend: &CpuBackend| (backend.weight_bytes().0 + backend.weight_bytes().1) as f64;
    let share = bytes(&found) / bytes(&expected);
    assert!((share - 34.0 / 64.0).abs() < 1e-3, "{share} of the memory of F16");
    let (found, expected) = (logits_of(&mut found, &tokens), logits_of(&mut expected, &tokens));
    for (found, expected) in found.iter().zip(&expected) {
        let best = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        let (token, of_floats) = (best(found), best(expected));
        let behind = expected[of_floats] - expected[token];
        assert!(behind < 0.3, "token {token} is {behind} behind {of_floats}");
    }
}
