//! From tensors of a file to a [`Network`]: shapes are checked and matrices packed, the output matrix first
//! since it is the largest, then one layer per thread at a time. An embedding matrix that is not the output
//! matrix as well is left in its file, as only single rows of it are read.

use crate::arch;
use crate::network::{Embedding, Layer, Linear, Network};
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

/// The name of the embedding matrix.
pub(crate) const EMBEDDING: &str = "token_embd.weight";

/// What a thread packed.
enum Part {
    Output(Matrix),
    Layer(usize, Box<Layer>),
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
    let output_name = if hyper.tied_embeddings { EMBEDDING } else { "output.weight" };
    let (mut done, total) = (0, weights.bytes());
    let next = &AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel::<Result<Part, OpenError>>();
    let mut layers: Vec<Option<Layer>> = (0..hyper.layers).map(|_| None).collect();
    let mut output = None;
    std::thread::scope(|scope| -> Result<(), OpenError> {
        for _ in 0..threads.min(1 + hyper.layers) {
            let sender = sender.clone();
            scope.spawn(move || {
                loop {
                    let part = match next.fetch_add(1, Relaxed) {
                        0 => loader.matrix(output_name, hyper.vocab, hyper.hidden).map(Part::Output),
                        n if n > hyper.layers => return,
                        n => (spec.layer)(loader, n - 1).map(|layer| Part::Layer(n - 1, Box::new(layer))),
                    };
                    // Nobody listens any more when another part failed.
                    if sender.send(part).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for part in receiver {
            match part? {
                Part::Output(matrix) => {
                    output = Some(matrix);
                    done += loader.bytes(output_name);
                }
                Part::Layer(index, layer) => {
                    layers[index] = Some(*layer);
                    done += loader.bytes(&format!("blk.{index}."));
                }
            }
            progress(LoadProgress { done, total });
        }
        Ok(())
    })?;
    let embedding = match hyper.tied_embeddings {
        true => Embedding::Output,
        false => {
            loader.tensor(EMBEDDING, hyper.vocab, hyper.hidden)?;
            Embedding::File(weights.clone())
        }
    };
    let output = output.expect("the output matrix was received");
    let output_norm = loader.vector("output_norm.weight", hyper.hidden)?;
    progress(LoadProgress { done: total, total });
    let layers = layers.into_iter().map(|layer| layer.expect("every layer was received")).collect();
    Ok(Network { hyper: hyper.clone(), isa, embedding, layers, output_norm, output })
}
