//! Low-rank adapters: `y += scale * B (A x)`, in f32, on the rows of the sequences that have one.

use crate::network::{LINEARS, Network, head_width, pad};
use backend::{AdapterId, BackendError, LoraMatrix};
use kernels::{Isa, ops};
use model::Part;
use std::collections::HashMap;

/// One adapted matrix.
pub(crate) struct LoraWeights {
    rank: usize,
    scale: f32,
    /// `[rank][inputs]`
    a: Vec<f32>,
    /// `[outputs][rank]`
    b: Vec<f32>,
}

impl LoraWeights {
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// `activations = A x`, one per rank.
    pub(crate) fn down(&self, isa: Isa, x: &[f32], activations: &mut [f32]) {
        for (activation, a) in activations.iter_mut().zip(self.a.chunks_exact(x.len())) {
            *activation = ops::dot(isa, a, x);
        }
    }

    /// `out += scale * B activations` for the outputs from `first`.
    pub(crate) fn up(&self, isa: Isa, activations: &[f32], first: usize, out: &mut [f32]) {
        let b = self.b[first * self.rank..].chunks_exact(self.rank);
        for (out, b) in out.iter_mut().zip(b) {
            *out += self.scale * ops::dot(isa, b, &activations[..self.rank]);
        }
    }
}

/// All loaded adapters.
#[derive(Default)]
pub(crate) struct Adapters {
    /// Per adapter, for each layer and each of its matrices.
    loaded: HashMap<AdapterId, Vec<Option<LoraWeights>>>,
}

impl Adapters {
    pub(crate) fn contains(&self, id: AdapterId) -> bool {
        self.loaded.contains_key(&id)
    }

    /// What the adapter does to matrix `linear` (see [`LINEARS`]) of `layer`.
    pub(crate) fn get(&self, id: AdapterId, layer: usize, linear: usize) -> Option<&LoraWeights> {
        self.loaded.get(&id)?[layer * LINEARS.len() + linear].as_ref()
    }

    /// The largest rank of any matrix of any adapter.
    pub(crate) fn rank_max(&self) -> usize {
        self.loaded.values().flatten().flatten().map(LoraWeights::rank).max().unwrap_or(0)
    }

    /// Checks every matrix against the model before anything is kept.
    pub(crate) fn load(
        &mut self,
        network: &Network,
        id: AdapterId,
        matrices: Vec<LoraMatrix>,
    ) -> Result<(), BackendError> {
        let hyper = &network.hyper;
        let mut places: HashMap<String, (usize, Part)> = HashMap::new();
        for (index, layer) in network.layers.iter().enumerate() {
            for (linear, part) in LINEARS.into_iter().enumerate() {
                if layer.linears()[linear].is_some() {
                    let name = format!("blk.{index}.{}.weight", part.name());
                    places.insert(name, (index * LINEARS.len() + linear, part));
                }
            }
        }
        let mut loras: Vec<Option<LoraWeights>> = Vec::new();
        loras.resize_with(network.layers.len() * LINEARS.len(), || None);
        for matrix in matrices {
            let refuse =
                |why: String| Err(BackendError::Adapter(format!("matrix `{}` {why}", matrix.tensor)));
            let Some(&(place, part)) = places.get(&matrix.tensor) else {
                return refuse("is none that an adapter can change in this model".into());
            };
            let shape = part.shape(hyper).expect("the layer has it");
            let (outputs, inputs) = (shape[0], shape[1]);
            let rank = matrix.rank as usize;
            if rank == 0 || rank > inputs.max(outputs) {
                return refuse(format!(
                    "has rank {rank}, a rank from 1 to {} makes sense",
                    inputs.max(outputs)
                ));
            }
            if matrix.a.len() != rank * inputs || matrix.b.len() != outputs * rank {
                return refuse(format!(
                    "has {} and {} values, rank {rank} by {inputs} inputs and {outputs} outputs by rank need {} and {}",
                    matrix.a.len(),
                    matrix.b.len(),
                    rank * inputs,
                    outputs * rank
                ));
            }
            if !matrix.scale.is_finite() {
                return refuse(format!("has scale {}", matrix.scale));
            }
            if loras[place].is_some() {
                return refuse("is given twice".into());
            }
            let LoraMatrix { scale, mut a, mut b, .. } = matrix;
            // Heads are as wide as in the matrix that it changes.
            let (head, width) = (hyper.head_dim, head_width(hyper));
            match part {
                Part::Q | Part::K | Part::V => b = pad(&b, head * rank, width * rank),
                Part::AttentionOutput => a = pad(&a, head, width),
                _ => {}
            }
            loras[place] = Some(LoraWeights { rank, scale, a, b });
        }
        self.loaded.insert(id, loras);
        Ok(())
    }

    pub(crate) fn unload(&mut self, id: AdapterId) {
        self.loaded.remove(&id);
    }
}
