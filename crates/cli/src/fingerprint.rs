//! The name of what a model computes: of its weights and what they become, its numbers, and the layout and format of a page.
//! Saved contexts are found by it.
//!
//! The weights are hashed whole: two fine-tunes of one model differ in nothing else, and in few of them perhaps. Packing reads
//! nearly all of them, so each is hashed when it was packed: it is mapped then, and small ones lie in the caches.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use backend_cpu::CpuBackend;
use model::{Hyperparameters, Weights};

use crate::config::ModelSettings;

/// The hashes of tensors, by name.
#[derive(Default)]
pub(crate) struct Hashes(Mutex<BTreeMap<String, blake3::Hash>>);

impl Hashes {
    /// Hashes the tensors whose name starts with `prefix`. Several threads may, each its own.
    pub(crate) fn add(&self, weights: &Weights, prefix: &str) {
        weights.names().filter(|name| name.starts_with(prefix)).for_each(|name| self.hash(weights, name));
    }

    fn hash(&self, weights: &Weights, name: &str) {
        let tensor = weights.get(name).expect("a name of the list");
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{name} {:?} {:?}\n", tensor.dtype, tensor.shape).as_bytes());
        hasher.update(tensor.bytes);
        let hash = hasher.finalize();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), hash);
    }

    /// Hashes what is left, and all hashes.
    pub(crate) fn finish(
        self,
        weights: &Weights,
        hyperparameters: &Hyperparameters,
        settings: &ModelSettings,
    ) -> String {
        self.hash_rest(weights);
        // A read maps pages around its own as well, those of tensors that were given back among them.
        weights.release();
        let mut all = blake3::Hasher::new();
        let page_tokens = settings.kv_page_size;
        all.update(format!("{} {page_tokens} {:?}\n", CpuBackend::KV_LAYOUT, hyperparameters).as_bytes());
        if let Some(quantize) = settings.quantize() {
            all.update(quantize.name().as_bytes());
        }
        all.update(format!("pages of {}", settings.kv_cache_type().name()).as_bytes());
        for hash in self.0.into_inner().unwrap_or_else(PoisonError::into_inner).values() {
            all.update(hash.as_bytes());
        }
        all.finalize().to_hex()[..32].to_string()
    }

    /// Hashes what is left on all processors, the largest first, so that no thread is left with one when the others are done.
    fn hash_rest(&self, weights: &Weights) {
        let mut names: Vec<&str> = {
            let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            weights.names().filter(|name| !done.contains_key(*name)).collect()
        };
        names.sort_by_key(|name| Reverse(weights.get(name).map_or(0, |tensor| tensor.bytes.len())));
        let next = AtomicUsize::new(0);
        let hash_some = || {
            while let Some(name) = names.get(next.fetch_add(1, Relaxed)) {
                self.hash(weights, name);
                // Else the whole file would be in memory once more, beside what was packed of it.
                weights.release_tensors(name);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(names.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(hash_some);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backend_cpu::KvType;
    use model::Model;

    /// The fingerprint of a file of these bytes.
    fn of(bytes: &[u8], page_tokens: u32) -> String {
        of_model(bytes, &ModelSettings { kv_page_size: page_tokens, ..ModelSettings::new("model") })
    }

    fn of_model(bytes: &[u8], settings: &ModelSettings) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        let model = Model::open(&path).unwrap();
        Hashes::default().finish(&model.weights, &model.hyperparameters, settings)
    }

    #[test]
    fn a_fingerprint_tells_weights_and_pages_apart() {
        let bytes = |seed| model::test_model::build(kernels::DType::F32, seed).unwrap().to_bytes();
        let model = bytes(1);
        assert_eq!(of(&model, 16), of(&model, 16));
        assert_ne!(of(&model, 16), of(&model, 8));
        assert_ne!(of(&model, 16), of(&bytes(2), 16));
        let of_8_bits = |weights: bool, pages: bool| {
            let quantize = weights.then(|| "q8_0".to_string());
            let kv_cache_type = if pages { KvType::Q8_0 } else { KvType::default() }.name().to_string();
            of_model(&model, &ModelSettings { quantize, kv_cache_type, ..ModelSettings::new("model") })
        };
        let all = [(false, false), (true, false), (false, true), (true, true)];
        let all = all.map(|(weights, pages)| of_8_bits(weights, pages));
        assert_eq!(all[0], of(&model, ModelSettings::default().kv_page_size));
        assert_eq!(std::collections::BTreeSet::from(all).len(), 4, "weights and pages in 8 bits or not");
        // One number, anywhere: all of the second half are weights.
        for at in [model.len() / 2, model.len() * 3 / 4 + 2, model.len() - 3] {
            let mut tuned = model.clone();
            tuned[at] ^= 1;
            assert_ne!(of(&model, 16), of(&tuned, 16), "byte {at}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_was_hashed_does_not_stay_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        model::test_model::write(&path, kernels::DType::F32, 1).unwrap();
        let resident = || model::test_model::resident(&path).unwrap().expect("the file is mapped") as u64;
        let model = Model::open(&path).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        let first = |name: &str| u64::from(model.weights.get(name).unwrap().bytes[0]);
        assert!(model.weights.names().map(first).sum::<u64>() > 0, "a byte of each is read");
        assert!(resident() > size / 4, "what was read is there");
        let hashes = Hashes::default();
        hashes.add(&model.weights, "blk.0.");
        model.weights.release_tensors("blk.0.");
        hashes.finish(&model.weights, &model.hyperparameters, &ModelSettings::default());
        assert!(resident() < size / 4, "{} of {size} bytes of the file stayed", resident());
    }

    #[test]
    fn fine_tunes_that_share_everything_but_their_weights_are_told_apart() {
        use safetensors::tensor::{Dtype, TensorView, serialize};
        let path = tempfile::tempdir().unwrap();
        let file = path.path().join("tiny.gguf");
        model::test_model::write(&file, kernels::DType::F32, 1).unwrap();
        let hyperparameters = Model::open(&file).unwrap().hyperparameters;
        let of = |value: f32| {
            let folder = tempfile::tempdir().unwrap();
            let bytes = value.to_le_bytes().repeat(8);
            let norm = TensorView::new(Dtype::F32, vec![8], &bytes).unwrap();
            let shard = serialize([("model.norm.weight", norm)], None).unwrap();
            std::fs::write(folder.path().join("model.safetensors"), shard).unwrap();
            std::fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
            Hashes::default().finish(
                &model::safetensors::open(folder.path()).unwrap(),
                &hyperparameters,
                &ModelSettings::default(),
            )
        };
        assert_eq!(of(0.5), of(0.5));
        assert_ne!(of(0.5), of(0.25));
    }

    #[test]
    fn what_is_hashed_while_it_is_packed_gives_the_same_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        model::test_model::write(&path, kernels::DType::F32, 1).unwrap();
        let model = Model::open(&path).unwrap();
        let of = |prefixes: &[&str]| {
            let hashes = Hashes::default();
            prefixes.iter().for_each(|prefix| hashes.add(&model.weights, prefix));
            hashes.finish(&model.weights, &model.hyperparameters, &ModelSettings::default())
        };
        let expected = of(&[]);
        for prefixes in [&["blk.0."] as &[_], &["blk.1.", "token_embd.", "blk.0."], &[""]] {
            assert_eq!(of(prefixes), expected, "{prefixes:?}");
        }
        // Loading asks for every part that it packs.
        let (seen, options) = (Hashes::default(), backend_cpu::CpuOptions::default());
        let packed = |prefix: &str| seen.add(&model.weights, prefix);
        CpuBackend::open_watched(&model.hyperparameters, &model.weights, &options, |_| (), packed).unwrap();
        let names: Vec<String> = seen.0.lock().unwrap().keys().cloned().collect();
        let output = if model.weights.contains("output.weight") { "output." } else { "token_embd." };
        let is_packed = |name: &&str| name.starts_with("blk.") || name.starts_with(output);
        assert_eq!(names, model.weights.names().filter(is_packed).collect::<Vec<_>>());
        assert_eq!(seen.finish(&model.weights, &model.hyperparameters, &ModelSettings::default()), expected);
    }
}
