//! The weights of a model, packed for the kernels.

use crate::profile::{Cost, Operation};
use kernels::{Isa, Matrix, ops};
use model::{Hyperparameters, LayerKind, NormKind, Part, Weights};

/// A matrix product with its bias.
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    /// One value per output.
    pub(crate) bias: Option<Vec<f32>>,
}

/// A norm of a row.
pub(crate) struct Norm {
    pub(crate) kind: NormKind,
    pub(crate) eps: f32,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Norm {
    /// Writes the normed values of `x`.
    pub(crate) fn apply(&self, isa: Isa, x: &[f32], out: &mut [f32]) {
        match self.kind {
            NormKind::Rms => ops::rms_norm(isa, x, &self.weight, self.eps, out),
            NormKind::Layer => {
                ops::layer_norm(isa, x, &self.weight, self.bias.as_deref(), self.eps, out);
            }
        }
    }
}

/// How what a branch has computed is added to the residual stream.
pub(crate) enum End {
    /// As it is.
    Plain,
    /// After a norm of it.
    NormOfBranch(Norm),
    /// And then the sum is normed.
    NormOfSum(Norm),
}

/// What turns the residual stream into queries, keys, values, and back.
pub(crate) struct AttentionWeights {
    pub(crate) norm: Option<Norm>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    /// Norms of each head, or of all heads together.
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    pub(crate) output: Linear,
    pub(crate) end: End,
}

/// The feed-forward part.
pub(crate) struct FeedForwardWeights {
    pub(crate) norm: Option<Norm>,
    pub(crate) inner: Inner,
    pub(crate) end: End,
}

/// What a feed-forward part computes.
pub(crate) enum Inner {
    /// The same for all rows.
    Dense(Box<Dense>),
    /// For each row that of some experts.
    Experts(ExpertWeights),
}

/// `down(activation(gate x) * up x)`, or `down(activation(up x))`.
pub(crate) struct Dense {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl Dense {
    fn linears(&self) -> [Option<&Linear>; 3] {
        [self.gate.as_ref(), Some(&self.up), Some(&self.down)]
    }
}

/// Feed-forward parts of which each row goes through some.
pub(crate) struct ExpertWeights {
    /// `[experts][hidden]`.
    pub(crate) router: Vec<f32>,
    pub(crate) experts: Vec<Dense>,
}

/// One transformer layer.
pub(crate) struct Layer {
    pub(crate) kind: LayerKind,
    pub(crate) attention: AttentionWeights,
    pub(crate) feed_forward: FeedForwardWeights,
}

/// The matrices of a layer; an adapter addresses them as (layer, index here).
pub(crate) const LINEARS: [Part; 7] =
    [Part::Q, Part::K, Part::V, Part::AttentionOutput, Part::Gate, Part::Up, Part::Down];

impl Layer {
    /// Every matrix of [`LINEARS`] that the layer has; experts are not among them.
    pub(crate) fn linears(&self) -> [Option<&Linear>; LINEARS.len()] {
        let a = &self.attention;
        let [gate, up, down] = match &self.feed_forward.inner {
            Inner::Dense(dense) => dense.linears(),
            Inner::Experts(_) => [None; 3],
        };
        [Some(&a.q), Some(&a.k), Some(&a.v), Some(&a.output), gate, up, down]
    }

    /// The experts, if the layer has them.
    fn experts(&self) -> &[Dense] {
        match &self.feed_forward.inner {
            Inner::Dense(_) => &[],
            Inner::Experts(weights) => &weights.experts,
        }
    }

    /// Every norm.
    fn norms(&self) -> impl Iterator<Item = &Norm> {
        let end = |end| match end {
            &End::Plain => None,
            End::NormOfBranch(norm) | End::NormOfSum(norm) => Some(norm),
        };
        let (a, f) = (&self.attention, &self.feed_forward);
        let norms = [a.norm.as_ref(), a.q_norm.as_ref(), a.k_norm.as_ref(), f.norm.as_ref()];
        norms.into_iter().chain([end(&a.end), end(&f.end)]).flatten()
    }
}

/// Where the embedding rows of tokens are.
pub(crate) enum Embedding {
    /// In the output matrix, which is the same one.
    Output,
    /// In the weight file.
    File(Weights),
}

/// What a row of a token becomes before the first layer, but for its position.
#[derive(Default)]
pub(crate) struct EmbeddingEnd {
    /// Added to each row: that of the first type of tokens.
    pub(crate) token_type: Option<Vec<f32>>,
    pub(crate) norm: Option<Norm>,
}

/// The embedding rows of positions, in the weight file.
pub(crate) struct Positions {
    pub(crate) weights: Weights,
    /// The row of position 0.
    pub(crate) offset: usize,
}

/// Matrices between rows of tokens of one width and layers of another: `[outputs][inputs]`.
pub(crate) struct Projections {
    pub(crate) into: Vec<f32>,
    pub(crate) out: Vec<f32>,
}

/// A whole model; never changes once loaded.
pub(crate) struct Network {
    pub(crate) hyper: Hyperparameters,
    pub(crate) isa: Isa,
    pub(crate) embedding: Embedding,
    pub(crate) positions: Option<Positions>,
    pub(crate) embedding_end: EmbeddingEnd,
    pub(crate) projections: Option<Projections>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Option<Norm>,
    pub(crate) output: Matrix,
}

/// Numbers that a head takes in buffers and pages: whole vectors of eight, those behind `head_dim` being zero.
pub(crate) fn head_width(hyper: &Hyperparameters) -> usize {
    hyper.head_dim.next_multiple_of(8)
}

/// `values` with zeros behind each `len` of them, up to `padded`.
pub(crate) fn pad<T: Copy + Default>(values: &[T], len: usize, padded: usize) -> Vec<T> {
    let mut out = vec![T::default(); values.len() / len * padded];
    for (out, values) in out.chunks_exact_mut(padded).zip(values.chunks_exact(len)) {
        out[..len].copy_from_slice(values);
    }
    out
}

impl Network {
    pub(crate) fn output(&self) -> &Matrix {
        &self.output
    }

    /// Numbers of all query heads of a row, as buffers have them.
    pub(crate) fn q_width(&self) -> usize {
        self.hyper.heads * head_width(&self.hyper)
    }

    /// Numbers of all key heads of a row, as buffers have them.
    pub(crate) fn kv_width(&self) -> usize {
        self.hyper.kv_heads * head_width(&self.hyper)
    }

    /// Writes what enters the layers for `token`, which is below the vocabulary's size; without its position.
    pub(crate) fn embed(&self, token: u32, row: &mut [f32]) {
        match &self.projections {
            None => self.token_row(token, row),
            Some(projections) => {
                let mut narrow = vec![0.0; self.hyper.embedding_width];
                self.token_row(token, &mut narrow);
                self.project(&projections.into, &narrow, row);
            }
        }
        if self.hyper.embedding_scale != 1.0 {
            ops::scale(self.isa, row, self.hyper.embedding_scale);
        }
    }

    fn token_row(&self, token: u32, row: &mut [f32]) {
        match &self.embedding {
            Embedding::Output => self.output.row(token as usize, row),
            Embedding::File(weights) => self.file_row(weights, Part::Embedding, token as usize, row),
        }
    }

    fn file_row(&self, weights: &Weights, part: Part, index: usize, row: &mut [f32]) {
        let rows = self.hyper.rows(weights, part, 0, 0).expect("checked when the model was loaded");
        let bytes = rows.dtype.row_bytes(rows.cols);
        rows.dtype.dequantize(&rows.bytes[index * bytes..][..bytes], row);
    }

    /// Makes of a row of [`Network::embed`], or one that was given in its place, the row that enters the first layer: adds
    /// those of its position and of its type, and norms the sum, as far as the model has them. `scratch` has the length of
    /// `row`.
    pub(crate) fn enter(&self, position: u32, row: &mut [f32], scratch: &mut [f32]) {
        if let Some(positions) = &self.positions {
            let index = positions.offset + position as usize;
            self.file_row(&positions.weights, Part::Positions, index, scratch);
            ops::add(self.isa, row, scratch);
        }
        if let Some(token_type) = &self.embedding_end.token_type {
            ops::add(self.isa, row, token_type);
        }
        if let Some(norm) = &self.embedding_end.norm {
            scratch.copy_from_slice(row);
            norm.apply(self.isa, scratch, row);
        }
    }

    /// `out = matrix * x`, row by row: only models of two widths have it, once before and once after all layers.
    pub(crate) fn project(&self, matrix: &[f32], x: &[f32], out: &mut [f32]) {
        for (out, row) in out.iter_mut().zip(matrix.chunks_exact(x.len())) {
            *out = ops::dot(self.isa, row, x);
        }
    }

    /// Bytes of weights that a batch reads: those of all layers, and those of the output matrix, which is
    /// read when a row asks for an output.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let vector = |v: &Vec<f32>| v.len() * 4;
        let linear = |l: &Linear| l.matrix.bytes() + l.bias.as_ref().map_or(0, vector);
        let norm = |n: &Norm| vector(&n.weight) + n.bias.as_ref().map_or(0, vector);
        let layer = |layer: &Layer| {
            let experts = layer.experts().iter().flat_map(Dense::linears);
            let linears = layer.linears().into_iter().chain(experts).flatten().map(linear).sum::<usize>();
            linears + layer.norms().map(norm).sum::<usize>()
        };
        let layers = self.layers.iter().map(layer).sum::<usize>();
        let (into, out) = self.projections.as_ref().map_or((0, 0), |p| (vector(&p.into), vector(&p.out)));
        let output = self.output().bytes() + self.output_norm.as_ref().map_or(0, norm);
        (layers + into, output + out)
    }

    /// What an operation costs, of all layers together; nothing where it is no product.
    pub(crate) fn cost(&self, operation: Operation) -> Cost {
        let of =
            |matrix: &Matrix| Cost { multiplications: matrix.rows() * matrix.cols(), bytes: matrix.bytes() };
        let numbers = match operation {
            Operation::QueryKeyValue => 0..3,
            Operation::AttentionOutput => 3..4,
            Operation::FeedForwardInner => 4..6,
            Operation::FeedForwardOutput => 6..7,
            Operation::Head => return of(self.output()),
            _ => return Cost::default(),
        };
        let linears = self.layers.iter().flat_map(|layer| layer.linears()[numbers.clone()].to_vec());
        linears.flatten().map(|linear| of(&linear.matrix)).fold(Cost::default(), |sum, cost| Cost {
            multiplications: sum.multiplications + cost.multiplications,
            bytes: sum.bytes + cost.bytes,
        })
    }

    /// Multiplications of all layers' matrices for one row, and those of the output matrix, which an encoder does not use.
    pub(crate) fn multiplications(&self) -> (usize, usize) {
        let size = |matrix: &Matrix| matrix.rows() * matrix.cols();
        let used = self.hyper.experts.map_or(0, |experts| experts.used);
        let layer = |layer: &Layer| {
            let experts = layer.experts().iter().take(used).flat_map(Dense::linears);
            layer.linears().into_iter().chain(experts).flatten().map(|l| size(&l.matrix)).sum::<usize>()
        };
        let output = if self.hyper.encoder { 0 } else { size(self.output()) };
        (self.layers.iter().map(layer).sum(), output)
    }
}
