//! From tensors of a file to a [`Network`]: matrices are packed, the output matrix first since it is the
//! largest, then one layer per thread at a time. Where floats are to be quantized, a matrix is just before it is packed.
//! What a model has, and where in the file it is, its hyper-parameters know. Rows of tokens and positions of which single
//! ones are read are left in the file.

use crate::network::{
    AttentionWeights, Dense, Embedding, EmbeddingEnd, End, ExpertWeights, FeedForwardWeights, Inner, Layer,
    Linear, Network, Norm, Positions, Projections, head_width, pad,
};
use crate::options::{CpuOptions, LoadProgress, OpenError, Quantize};
use kernels::{Arena, DType, Isa, Matrix, quantize_q8_0};
use model::{Hyperparameters, Part, Placement, Rows, Weights};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;

/// Makes the parts of a network.
struct Loader<'a> {
    hyper: &'a Hyperparameters,
    weights: &'a Weights,
    isa: Isa,
    quantize: Option<Quantize>,
    arena: Arena,
}

impl Loader<'_> {
    /// Whether the model has the part.
    fn has(&self, part: Part) -> bool {
        part.shape(self.hyper).is_some()
    }

    /// A part as numbers, in whatever format it is stored.
    fn values(&self, part: Part, layer: usize) -> Result<Vec<f32>, OpenError> {
        Ok(values(&self.hyper.rows(self.weights, part, layer, 0)?))
    }

    fn matrix(&self, part: Part, layer: usize, expert: usize) -> Result<Matrix, OpenError> {
        let mut rows = self.hyper.rows(self.weights, part, layer, expert)?;
        self.pad_heads(part, &mut rows)?;
        self.quantize(&mut rows);
        Matrix::pack(self.isa, &self.arena, rows.dtype, rows.rows, rows.cols, &rows.bytes)
            .map_err(|source| OpenError::Pack { name: part.name(), layer, source })
    }

    /// Fills heads up to the width that they have in buffers.
    fn pad_heads(&self, part: Part, rows: &mut Rows<'_>) -> Result<(), OpenError> {
        let (head_dim, width) = (self.hyper.head_dim, head_width(self.hyper));
        if head_dim == width {
            return Ok(());
        }
        if rows.dtype.is_quantized() {
            return Err(OpenError::HeadDim { found: head_dim });
        }
        let row_bytes = rows.dtype.row_bytes(rows.cols);
        let value_bytes = rows.dtype.row_bytes(1);
        match part {
            Part::Q | Part::K | Part::V => {
                rows.bytes = pad(&rows.bytes, head_dim * row_bytes, width * row_bytes).into();
                rows.rows = rows.rows / head_dim * width;
            }
            Part::AttentionOutput => {
                rows.bytes = pad(&rows.bytes, head_dim * value_bytes, width * value_bytes).into();
                rows.cols = rows.cols / head_dim * width;
            }
            _ => {}
        }
        Ok(())
    }

    /// Quantizes a matrix of floats, where the caller wants that: one matrix per thread at a time, so what is read of the
    /// file, what it becomes and what is packed are never there for all at once.
    fn quantize(&self, rows: &mut Rows<'_>) {
        if self.quantize.is_some_and(|quantize| quantize.takes(rows.dtype, rows.cols)) {
            rows.bytes = quantize_q8_0(self.isa, rows.dtype, &rows.bytes).into();
            rows.dtype = DType::Q8_0;
        }
    }

    fn linear(&self, part: Part, layer: usize) -> Result<Linear, OpenError> {
        let bias = self.hyper.bias(self.weights, part, layer).map(|rows| values(&rows));
        let heads = matches!(part, Part::Q | Part::K | Part::V);
        let bias = bias.map(|bias| match heads {
            true => pad(&bias, self.hyper.head_dim, head_width(self.hyper)),
            false => bias,
        });
        Ok(Linear { matrix: self.matrix(part, layer, 0)?, bias })
    }

    fn expert(&self, layer: usize, expert: usize) -> Result<Dense, OpenError> {
        let linear =
            |part: Part| Ok::<_, OpenError>(Linear { matrix: self.matrix(part, layer, expert)?, bias: None });
        let gate = self.hyper.gated.then(|| linear(Part::ExpertsGate)).transpose()?;
        Ok(Dense { gate, up: linear(Part::ExpertsUp)?, down: linear(Part::ExpertsDown)? })
    }

    /// The norm `part`, if the model has it.
    fn norm(&self, part: Part, layer: usize) -> Result<Option<Norm>, OpenError> {
        if !self.has(part) {
            return Ok(None);
        }
        let mut weight = self.values(part, layer)?;
        weight.iter_mut().for_each(|weight| *weight += self.hyper.norm_offset);
        let bias = self.hyper.bias(self.weights, part, layer).map(|rows| values(&rows));
        Ok(Some(Norm { kind: self.hyper.norm, eps: self.hyper.norm_eps, weight, bias }))
    }

    /// The norms of a branch: that of what goes in, and that at its end.
    fn branch_norms(
        &self,
        before: Part,
        after: Part,
        layer: usize,
    ) -> Result<(Option<Norm>, End), OpenError> {
        let (before, after) = (self.norm(before, layer)?, self.norm(after, layer)?);
        let end = after.map_or(End::Plain, End::NormOfBranch);
        Ok(match (self.hyper.placement, before) {
            (Placement::Sum, Some(norm)) => (None, End::NormOfSum(norm)),
            (_, before) => (before, end),
        })
    }

    fn layer(&self, layer: usize) -> Result<Layer, OpenError> {
        let (norm, end) = self.branch_norms(Part::AttentionNorm, Part::AttentionPostNorm, layer)?;
        let attention = AttentionWeights {
            norm,
            q: self.linear(Part::Q, layer)?,
            k: self.linear(Part::K, layer)?,
            v: self.linear(Part::V, layer)?,
            q_norm: self.norm(Part::QNorm, layer)?,
            k_norm: self.norm(Part::KNorm, layer)?,
            output: self.linear(Part::AttentionOutput, layer)?,
            end,
        };
        let (norm, end) = self.branch_norms(Part::FfnNorm, Part::FfnPostNorm, layer)?;
        let inner = match self.hyper.experts {
            None => {
                let gate = self.has(Part::Gate).then(|| self.linear(Part::Gate, layer)).transpose()?;
                let (up, down) = (self.linear(Part::Up, layer)?, self.linear(Part::Down, layer)?);
                Inner::Dense(Box::new(Dense { gate, up, down }))
            }
            Some(experts) => Inner::Experts(ExpertWeights {
                router: self.values(Part::Router, layer)?,
                experts: (0..experts.count).map(|e| self.expert(layer, e)).collect::<Result<_, _>>()?,
            }),
        };
        let feed_forward = FeedForwardWeights { norm, inner, end };
        Ok(Layer { kind: self.hyper.kinds[layer], attention, feed_forward })
    }

    /// The part whose rows become logits.
    fn output(&self) -> Part {
        if self.hyper.tied_embeddings { Part::Embedding } else { Part::Output }
    }

    /// What the names of the output matrix start with.
    fn output_names(&self) -> String {
        format!("{}.", self.output().name())
    }

    /// Bytes of the tensors whose name starts with `prefix`.
    fn bytes(&self, prefix: &str) -> u64 {
        let of = |name: &str| self.weights.get(name).map_or(0, |tensor| tensor.bytes.len() as u64);
        self.weights.names().filter(|name| name.starts_with(prefix)).map(of).sum()
    }
}

fn values(rows: &Rows<'_>) -> Vec<f32> {
    let mut values = vec![0.0; rows.rows * rows.cols];
    rows.dtype.dequantize(&rows.bytes, &mut values);
    values
}

/// What the names of a layer's tensors start with.
fn layer_names(layer: usize) -> String {
    format!("blk.{layer}.")
}

/// What a thread packed.
enum Packed {
    Output(Matrix),
    Layer(usize, Box<Layer>),
}

/// Packs all weights for `isa`, on the threads of the options. `progress` is called from this thread, each time
/// something is done, and `seen` from the one that packed tensors, with what their names start with.
pub(crate) fn network(
    hyper: &Hyperparameters,
    weights: &Weights,
    isa: Isa,
    options: &CpuOptions,
    mut progress: impl FnMut(LoadProgress),
    seen: &(impl Fn(&str) + Sync),
) -> Result<Network, OpenError> {
    // They may be of another file than the hyper-parameters.
    hyper.check(weights)?;
    let loader = Loader { hyper, weights, isa, quantize: options.quantize, arena: Arena::default() };
    let (mut done, total) = (0, weights.bytes());
    let next = &AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel::<Result<Packed, OpenError>>();
    let mut layers: Vec<Option<Layer>> = (0..hyper.layers).map(|_| None).collect();
    let mut output = None;
    std::thread::scope(|scope| -> Result<(), OpenError> {
        let loader = &loader;
        for _ in 0..options.threads.min(1 + hyper.layers) {
            let sender = sender.clone();
            scope.spawn(move || {
                loop {
                    let (packed, read) = match next.fetch_add(1, Relaxed) {
                        0 => {
                            (loader.matrix(loader.output(), 0, 0).map(Packed::Output), loader.output_names())
                        }
                        n if n > hyper.layers => return,
                        n => {
                            let layer = loader.layer(n - 1).map(Box::new);
                            (layer.map(|layer| Packed::Layer(n - 1, layer)), layer_names(n - 1))
                        }
                    };
                    if packed.is_ok() {
                        seen(&read);
                    }
                    // What was read is packed: else the file would be in memory beside its weights.
                    weights.release_tensors(&read);
                    // Nobody listens any more when another part failed.
                    if sender.send(packed).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for packed in receiver {
            match packed? {
                Packed::Output(matrix) => {
                    output = Some(matrix);
                    done += loader.bytes(&loader.output_names());
                }
                Packed::Layer(index, layer) => {
                    layers[index] = Some(*layer);
                    done += loader.bytes(&layer_names(index));
                }
            }
            progress(LoadProgress { done, total });
        }
        Ok(())
    })?;
    let embedding = match hyper.tied_embeddings {
        true => Embedding::Output,
        false => Embedding::File(weights.clone()),
    };
    let positions = hyper.learned_positions.map(|offset| Positions { weights: weights.clone(), offset });
    let token_type = loader.has(Part::TokenTypes).then(|| loader.values(Part::TokenTypes, 0)).transpose()?;
    let token_type = token_type.map(|rows| rows[..hyper.hidden].to_vec());
    let embedding_end = EmbeddingEnd { token_type, norm: loader.norm(Part::EmbeddingNorm, 0)? };
    let projections = match loader.has(Part::EmbeddingIn) {
        false => None,
        true => Some(Projections {
            into: loader.values(Part::EmbeddingIn, 0)?,
            out: loader.values(Part::EmbeddingOut, 0)?,
        }),
    };
    let output = output.expect("the output matrix was received");
    let output_norm = loader.norm(Part::OutputNorm, 0)?;
    weights.release();
    progress(LoadProgress { done: total, total });
    let layers = layers.into_iter().map(|layer| layer.expect("every layer was received")).collect();
    let hyper = hyper.clone();
    // The model can answer meanwhile. Without a thread for it, pages stay small.
    let arena = loader.arena;
    let _ = std::thread::Builder::new().name("huge-pages".into()).spawn(|| arena.use_huge_pages());
    Ok(Network { hyper, isa, embedding, positions, embedding_end, projections, layers, output_norm, output })
}
