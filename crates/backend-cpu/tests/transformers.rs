//! Every architecture, from a folder with safetensors, against what Hugging Face transformers computes:
//! `testdata/architectures`, whose `record.py` says how that was made.

mod common;

use backend_cpu::{CpuBackend, CpuOptions};
use common::naive::Naive;
use common::{Sequence, distance, hidden, logits};
use model::test_model::SplitMix64;
use model::{Architecture, Hyperparameters, Weights, safetensors};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Both compute in f32 and round the same numbers in other orders.
const PLAIN_BOUND: f32 = 1e-3;
/// The backend keeps keys and queries in 12 bits and a sign, and values in 11, of blocks.
const BACKEND_BOUND: f32 = 0.02;

#[derive(Deserialize)]
struct Case {
    config: serde_json::Value,
    /// Name, shape, base and scale.
    tensors: Vec<(String, Vec<usize>, f32, f32)>,
    /// Names of tensors in GGUF files, where there are such files.
    gguf: Option<BTreeMap<String, String>>,
    ids: Vec<u32>,
    rows: Vec<usize>,
    /// Of a model that generates.
    logits: Option<Vec<Vec<f32>>>,
    /// Of an encoder.
    hidden: Option<Vec<Vec<f32>>>,
}

fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/architectures");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    paths.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|p| (name(p), serde_json::from_slice(&std::fs::read(p).unwrap()).unwrap())).collect()
}

/// Values as `record.py` makes them.
fn values(name: &str, count: usize, base: f32, scale: f32) -> impl Iterator<Item = f32> {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut random = SplitMix64(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash));
    (0..count).map(move |_| base + scale * random.uniform())
}

impl Case {
    /// Writes config.json and model.safetensors.
    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, shape, base, scale) in &self.tensors {
            let start = data.len();
            let values = values(name, shape.iter().product(), *base, *scale);
            data.extend(values.flat_map(f32::to_le_bytes));
            let entry =
                serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
            header.insert(name.clone(), entry);
        }
        let header = serde_json::Value::Object(header).to_string();
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        std::fs::write(folder.join("model.safetensors"), file).unwrap();
    }

    fn open(&self) -> (Hyperparameters, Weights) {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        let weights = safetensors::open(folder.path()).unwrap();
        (Hyperparameters::from_config(&self.config, &weights).unwrap(), weights)
    }

    fn compare(&self, all: &[Vec<f32>]) -> f32 {
        let found: Vec<Vec<f32>> = self.rows.iter().map(|&row| all[row].clone()).collect();
        distance(self.logits.as_ref().or(self.hidden.as_ref()).unwrap(), &found)
    }
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, case) in cases() {
        let (hyper, weights) = case.open();
        let positions: Vec<u32> = (0..case.ids.len() as u32).collect();
        let plain = Naive::new(hyper.clone(), &weights);
        let plain = match hyper.encoder {
            false => plain.logits(&case.ids, &positions, |_, _| true),
            true => plain.hidden(&case.ids, &positions, |_, _| true),
        };
        let apart = case.compare(&plain);
        assert!(apart < PLAIN_BOUND, "{name}: the plain forward pass is {apart} apart");
        let options = CpuOptions { threads: 2, pages: 4, pin: false, ..CpuOptions::default() };
        let mut backend = CpuBackend::open(&hyper, &weights, &options, |_| ()).unwrap();
        if hyper.encoder {
            let found = hidden(&mut backend, &mut Sequence::new([2, 1]), &case.ids);
            let apart = case.compare(&found);
            assert!(apart < BACKEND_BOUND, "{name}: the backend is {apart} apart");
            continue;
        }
        for chunk in [case.ids.len(), 3] {
            let found = logits(&mut backend, &mut Sequence::new([2, 1]), &case.ids, chunk);
            let apart = case.compare(&found);
            assert!(apart < BACKEND_BOUND, "{name}: the backend is {apart} apart in chunks of {chunk}");
        }
    }
}

#[test]
fn every_architecture_is_recorded() {
    let recorded: Vec<String> =
        cases().iter().map(|(_, case)| case.open().0.architecture.name().to_owned()).collect();
    for architecture in Architecture::all() {
        assert!(recorded.iter().any(|name| name == architecture.name()), "{architecture:?}");
    }
}

/// Folders get the names of GGUF files, so this says that a GGUF file of llama.cpp is read too.
#[test]
fn names_of_gguf_files_are_those_of_llama_cpp() {
    let mut compared = 0;
    for (name, case) in cases() {
        let (_, weights) = case.open();
        let Some(gguf) = &case.gguf else { continue };
        for (theirs, ours) in gguf {
            let end = theirs.rsplit_once('.').unwrap().1;
            let ours = if ours.ends_with(end) { ours.clone() } else { format!("{ours}.{end}") };
            assert!(weights.contains(&ours), "{name}: `{theirs}` is `{ours}` in GGUF files");
            compared += 1;
        }
        assert_eq!(weights.len(), gguf.len(), "{name}");
    }
    assert!(compared > 100, "{compared}");
}
