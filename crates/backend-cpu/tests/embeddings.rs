//! Vectors of a real encoder against those of transformers: `testdata/reference/all-minilm-l6-v2.json`, whose
//! `record_embeddings.py` says how they were made and makes the files.
//!
//! `PIE_TEST_MODELS` names a folder with the files; without it this test says so and passes.

mod common;

use backend::Backend;
use backend_cpu::{CpuBackend, CpuOptions};
use common::{Sequence, hidden};
use model::{Model, Pooling};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

/// The files and folders of the model, and how near their vectors have to be: weights of F32, and of F16.
const FILES: [(&str, f64); 2] = [("all-minilm-l6-v2", 0.99999), ("all-minilm-l6-v2-f16.gguf", 0.9999)];

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn file(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PIE_TEST_MODELS").map(|folder| Path::new(&folder).join(name));
    let path = path.filter(|path| path.exists());
    if path.is_none() {
        eprintln!("PIE_TEST_MODELS names no folder with {name}: it is not tested");
    }
    path
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
#[expect(clippy::print_stderr, reason = "the figures are the point")]
fn vectors_of_a_real_encoder_are_those_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/reference/all-minilm-l6-v2.json");
    let reference: Reference = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (name, bound) in FILES {
        let Some(path) = file(name) else { continue };
        let model = Model::open(&path).unwrap();
        let (hyper, tokenizer) = (&model.hyperparameters, &model.tokenizer);
        assert!(hyper.encoder && hyper.pooling == Some(Pooling::Mean), "{name}: {:?}", hyper.pooling);
        let options = CpuOptions { threads: 2, pages: 64, pin: false, ..CpuOptions::default() };
        let mut backend = CpuBackend::open(hyper, &model.weights, &options, |_| ()).unwrap();
        assert_eq!(backend.limits().context_tokens, 512);
        let mut worst = 1.0_f64;
        for Text { text, ids, vector } in &reference.texts {
            let found = tokenizer.with_bos_and_eos(tokenizer.encode(text).unwrap());
            assert_eq!(&found, ids, "{name}: {text:?}");
            let rows = hidden(&mut backend, &mut Sequence::new(0..ids.len().div_ceil(16) as u32), ids);
            let mut mean = vec![0.0; vector.len()];
            rows.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value));
            let near = cosine(&mean, vector);
            worst = worst.min(near);
            assert!(near >= bound, "{name}: {near} of {text:?}");
        }
        eprintln!("{name}: {} texts, cosines of {worst:.7} at least", reference.texts.len());
    }
}
