//! The weights of a model, packed for the kernels.

use crate::load::EMBEDDING;
use kernels::{Isa, Matrix};
use model::{Hyperparameters, Weights};

/// A matrix product with its bias.
pub(crate) struct Linear {
    /// Name of the weight, by which adapters find it.
    pub(crate) name: String,
    pub(crate) matrix: Matrix,
    /// One value per output.
    pub(crate) bias: Option<Vec<f32>>,
}

/// What turns the residual stream into queries, keys, values, and back.
pub(crate) struct AttentionWeights {
    pub(crate) norm: Vec<f32>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    /// RMS norm of each head, `head_dim` values.
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    pub(crate) output: Linear,
}

/// The gated feed-forward part: `down(silu(gate x) * up x)`.
pub(crate) struct FeedForwardWeights {
    pub(crate) norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// One transformer layer.
pub(crate) struct Layer {
    pub(crate) attention: AttentionWeights,
    pub(crate) feed_forward: FeedForwardWeights,
}

impl Layer {
    /// Every matrix of the layer; an adapter addresses them as (layer, index here).
    pub(crate) fn linears(&self) -> [&Linear; LINEARS] {
        let (a, f) = (&self.attention, &self.feed_forward);
        [&a.q, &a.k, &a.v, &a.output, &f.gate, &f.up, &f.down]
    }
}

/// Matrices of a layer.
pub(crate) const LINEARS: usize = 7;

/// Where the embedding rows of tokens are.
pub(crate) enum Embedding {
    /// In the output matrix, which is the same one.
    Output,
    /// In the weight file, as the tensor [`EMBEDDING`] whose shape is checked.
    File(Weights),
}

/// A whole model; never changes once loaded.
pub(crate) struct Network {
    pub(crate) hyper: Hyperparameters,
    pub(crate) isa: Isa,
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    pub(crate) output: Matrix,
}

impl Network {
    pub(crate) fn output(&self) -> &Matrix {
        &self.output
    }

    /// Writes the embedding row of `token`, which is below the vocabulary's size.
    pub(crate) fn embed(&self, token: u32, row: &mut [f32]) {
        match &self.embedding {
            Embedding::Output => self.output.row(token as usize, row),
            Embedding::File(weights) => {
                let tensor = weights.get(EMBEDDING).expect("checked when the model was loaded");
                let bytes = tensor.dtype.row_bytes(tensor.cols);
                tensor.dtype.dequantize(&tensor.bytes[token as usize * bytes..][..bytes], row);
            }
        }
    }

    /// Bytes of weights that a batch reads: those of all layers, and those of the output matrix, which is
    /// read when a row asks for an output.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let vector = |v: &Vec<f32>| v.len() * 4;
        let layer = |layer: &Layer| {
            let linear = |l: &Linear| l.matrix.bytes() + l.bias.as_ref().map_or(0, vector);
            let norms = vector(&layer.attention.norm) + vector(&layer.feed_forward.norm);
            layer.linears().into_iter().map(linear).sum::<usize>() + norms
        };
        let layers = self.layers.iter().map(layer).sum::<usize>();
        (layers, self.output().bytes() + vector(&self.output_norm))
    }

    /// Multiplications of all layers' matrices for one row, and those of the output matrix.
    pub(crate) fn multiplications(&self) -> (usize, usize) {
        let size = |matrix: &Matrix| matrix.rows() * matrix.cols();
        let layer = |layer: &Layer| layer.linears().iter().map(|linear| size(&linear.matrix)).sum::<usize>();
        (self.layers.iter().map(layer).sum(), size(self.output()))
    }
}
