//! From tensors of a file to a [`Network`]: shapes are checked and matrices packed, one layer per thread at a
//! time.

use crate::arch;
use crate::network::{Layer, Linear, Network};
use crate::options::{LoadProgress, OpenError};
use kernels::{Isa, Matrix};
use model::{Hyperparameters, Weights};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;

/// Gives an architecture the parts of its layers.
pub(crate) struct Loader<'a> {
    hyper: &'a Hyperparameters,
    weights: &'a Weights,
    isa: Isa,
}

impl Loader<'_> {
    pub(crate) fn hyper(&self) -> &Hyperparameters {
        self.hyper
    }

    /// A vector of `len` values, in whatever format it is stored.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, OpenError> {
        let tensor = self.tensor(name, 1, len)?;
        let mut values = vec![0.0; len];
        tensor.dtype.dequantize(tensor.bytes, &mut values);
        Ok(values)
    }

    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, OpenError> {
        let tensor = self.tensor(name, rows, cols)?;
        Matrix::pack(self.isa, tensor.dtype, rows, cols, tensor.bytes)
            .map_err(|source| OpenError::Pack { name: name.to_owned(), source })
    }

    /// `name.weight`, and `name.bias` if there is one.
    pub(crate) fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear, OpenError> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let matrix = self.matrix(&weight, rows, cols)?;
        let bias = self.weights.contains(&bias).then(|| self.vector(&bias, rows)).transpose()?;
        Ok(Linear { name: weight, matrix, bias })
    }

    fn tensor(&self, name: &str, rows: usize, cols: usize) -> Result<model::Tensor<'_>, OpenError> {
        let missing = || OpenError::MissingTensor { name: name.to_owned() };
        let tensor = self.weights.get(name).ok_or_else(missing)?;
        if (tensor.rows, tensor.cols) != (rows, cols) {
            let (found_rows, found_cols) = (tensor.rows, tensor.cols);
            return Err(OpenError::Shape { name: name.to_owned(), found_rows, found_cols, rows, cols });
        }
        Ok(tensor)
    }

    /// Bytes of the tensors whose name starts with `prefix`.
    fn bytes(&self, prefix: &str) -> u64 {
        let of = |name: &str| self.weights.get(name).map_or(0, |tensor| tensor.bytes.len() as u64);
        self.weights.names().filter(|name| name.starts_with(prefix)).map(of).sum()
    }
}

/// Packs all weights on `threads` threads. `progress` is called from this thread, each time something is
/// done.
pub(crate) fn network(
    hyper: &Hyperparameters,
    weights: &Weights,
    isa: Isa,
    threads: usize,
    mut progress: impl FnMut(LoadProgress),
) -> Result<Network, OpenError> {
    let spec = arch::find(hyper.architecture)?;
    let loader = &Loader { hyper, weights, isa };
    let (mut done, total) = (0, weights.bytes());
    let next = &AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel::<(usize, Result<Layer, OpenError>)>();
    let mut layers: Vec<Option<Layer>> = (0..hyper.layers).map(|_| None).collect();
    let embedding = std::thread::scope(|scope| -> Result<Matrix, OpenError> {
        let embedding = scope.spawn(|| loader.matrix("token_embd.weight", hyper.vocab, hyper.hidden));
        for _ in 0..threads.min(hyper.layers) {
            let sender = sender.clone();
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    // Nobody listens any more when another layer failed.
                    if index >= hyper.layers || sender.send((index, (spec.layer)(loader, index))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, layer) in receiver {
            layers[index] = Some(layer?);
            done += loader.bytes(&format!("blk.{index}."));
            progress(LoadProgress { done, total });
        }
        embedding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let output = match hyper.tied_embeddings {
        true => None,
        false => Some(loader.matrix("output.weight", hyper.vocab, hyper.hidden)?),
    };
    let output_norm = loader.vector("output_norm.weight", hyper.hidden)?;
    progress(LoadProgress { done: total, total });
    let layers = layers.into_iter().map(|layer| layer.expect("every layer was received")).collect();
    Ok(Network { hyper: hyper.clone(), isa, embedding, layers, output_norm, output })
}
