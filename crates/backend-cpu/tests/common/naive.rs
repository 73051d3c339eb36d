//! The forward pass of all architectures written plainly in f32, layer by layer.

use super::LINEARS;
use model::{
    Activation, Experts, Hyperparameters, NormKind, Part, Placement, QkNorm, RopePairing, Rows, Weights,
};
use std::collections::HashMap;

pub(crate) struct Naive {
    hyper: Hyperparameters,
    /// Weights by part, layer and expert, and biases by part and layer.
    weights: HashMap<(Part, usize, usize), Vec<f32>>,
    biases: HashMap<(Part, usize), Vec<f32>>,
}

/// Whether it is a vector that a norm multiplies with.
fn is_norm(part: Part) -> bool {
    use Part::{
        AttentionNorm, AttentionPostNorm, EmbeddingNorm, FfnNorm, FfnPostNorm, KNorm, OutputNorm, QNorm,
    };
    [EmbeddingNorm, OutputNorm, AttentionNorm, QNorm, KNorm, AttentionPostNorm, FfnNorm, FfnPostNorm]
        .contains(&part)
}

impl Naive {
    pub(crate) fn new(hyper: Hyperparameters, weights: &Weights) -> Naive {
        let values = |rows: Rows<'_>| {
            let mut values = vec![0.0; rows.rows * rows.cols];
            rows.dtype.dequantize(&rows.bytes, &mut values);
            values
        };
        let mut naive = Naive { weights: HashMap::new(), biases: HashMap::new(), hyper: hyper.clone() };
        for part in Part::all().filter(|part| part.shape(&hyper).is_some()) {
            for layer in 0..if part.is_in_layers() { hyper.layers } else { 1 } {
                let experts = hyper.experts.map_or(1, |experts| experts.count);
                for expert in 0..if part.is_of_experts() { experts } else { 1 } {
                    let mut weight = values(hyper.rows(weights, part, layer, expert).unwrap());
                    if is_norm(part) {
                        weight.iter_mut().for_each(|weight| *weight += hyper.norm_offset);
                    }
                    naive.weights.insert((part, layer, expert), weight);
                }
                if let Some(bias) = hyper.bias(weights, part, layer) {
                    naive.biases.insert((part, layer), values(bias));
                }
            }
        }
        naive
    }

    /// Adds `scale * B A` to a weight: what an adapter amounts to.
    pub(crate) fn merge(&mut self, lora: &backend::LoraMatrix) {
        let rank = lora.rank as usize;
        let (inputs, outputs) = (lora.a.len() / rank, lora.b.len() / rank);
        let (layer, name) = lora.tensor.strip_prefix("blk.").unwrap().split_once('.').unwrap();
        let part = LINEARS.into_iter().find(|part| name == format!("{}.weight", part.name())).unwrap();
        let weight = self.weights.get_mut(&(part, layer.parse().unwrap(), 0)).unwrap();
        for o in 0..outputs {
            for i in 0..inputs {
                let product: f32 = (0..rank).map(|r| lora.b[o * rank + r] * lora.a[r * inputs + i]).sum();
                weight[o * inputs + i] += lora.scale * product;
            }
        }
    }

    /// Logits of every token; token `i` at `positions[i]` attends to the tokens `j <= i`, those of an encoder to all, for
    /// which `attends(i, j)` holds, and which are within the layer's window.
    pub(crate) fn logits(
        &self,
        tokens: &[u32],
        positions: &[u32],
        attends: impl Fn(usize, usize) -> bool,
    ) -> Vec<Vec<f32>> {
        self.hidden(tokens, positions, attends).iter().map(|hidden| self.output(hidden)).collect()
    }

    /// The rows of the same after the last norm.
    pub(crate) fn hidden(
        &self,
        tokens: &[u32],
        positions: &[u32],
        attends: impl Fn(usize, usize) -> bool,
    ) -> Vec<Vec<f32>> {
        let h = &self.hyper;
        let mut rows: Vec<Vec<f32>> =
            tokens.iter().zip(positions).map(|(&token, &position)| self.embed(token, position)).collect();
        for layer in 0..h.layers {
            let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for (x, &position) in rows.iter().zip(positions) {
                let input = self.before(x, Part::AttentionNorm, layer);
                let mut q = self.linear(&input, Part::Q, layer);
                let mut k = self.linear(&input, Part::K, layer);
                self.finish(&mut q, Part::QNorm, layer, position);
                self.finish(&mut k, Part::KNorm, layer, position);
                queries.push(q);
                keys.push(k);
                values.push(self.linear(&input, Part::V, layer));
            }
            for (i, (x, &position)) in rows.iter_mut().zip(positions).enumerate() {
                let near = |j: usize| h.kinds[layer].window.is_none_or(|w| positions[j] + w > position);
                let end = if h.encoder { tokens.len() } else { i + 1 };
                let seen: Vec<usize> = (0..end).filter(|&j| attends(i, j) && near(j)).collect();
                let attended = self.attend(&queries[i], &keys, &values, &seen);
                let branch = self.linear(&attended, Part::AttentionOutput, layer);
                self.join(x, branch, [Part::AttentionNorm, Part::AttentionPostNorm], layer);

                let input = self.before(x, Part::FfnNorm, layer);
                let branch = self.feed_forward(&input, layer);
                self.join(x, branch, [Part::FfnNorm, Part::FfnPostNorm], layer);
            }
        }
        match h.output_norm {
            true => rows.iter().map(|x| self.norm(x, Part::OutputNorm, 0)).collect(),
            false => rows,
        }
    }

    fn embed(&self, token: u32, position: u32) -> Vec<f32> {
        let h = &self.hyper;
        let row = |part: Part, index: usize, width: usize| {
            self.weights[&(part, 0, 0)][index * width..][..width].to_vec()
        };
        let mut x = row(Part::Embedding, token as usize, h.embedding_width);
        if h.embedding_width != h.hidden {
            x = self.linear(&x, Part::EmbeddingIn, 0);
        }
        x.iter_mut().for_each(|x| *x *= h.embedding_scale);
        if let Some(offset) = h.learned_positions {
            add(&mut x, &row(Part::Positions, offset + position as usize, h.hidden));
        }
        if h.token_types.is_some() {
            add(&mut x, &row(Part::TokenTypes, 0, h.hidden));
        }
        if h.embedding_norm { self.norm(&x, Part::EmbeddingNorm, 0) } else { x }
    }

    /// What goes into a branch.
    fn before(&self, x: &[f32], norm: Part, layer: usize) -> Vec<f32> {
        match self.hyper.placement {
            Placement::Before | Placement::Around => self.norm(x, norm, layer),
            Placement::After | Placement::Sum => x.to_vec(),
        }
    }

    /// Adds what a branch gives.
    fn join(&self, x: &mut Vec<f32>, mut branch: Vec<f32>, [norm, post_norm]: [Part; 2], layer: usize) {
        let placement = self.hyper.placement;
        if matches!(placement, Placement::After | Placement::Around) {
            branch = self.norm(&branch, post_norm, layer);
        }
        branch.iter_mut().for_each(|value| *value *= self.hyper.residual_scale);
        add(x, &branch);
        if placement == Placement::Sum {
            *x = self.norm(x, norm, layer);
        }
    }

    /// Norms and rotates the heads of Q or K.
    fn finish(&self, heads: &mut [f32], norm: Part, layer: usize, position: u32) {
        let h = &self.hyper;
        let width = match h.qk_norm {
            Some(QkNorm::Row) => heads.len(),
            _ => h.head_dim,
        };
        for values in heads.chunks_mut(width).filter(|_| h.qk_norm.is_some()) {
            values.copy_from_slice(&self.norm(values, norm, layer));
        }
        if let Some(rope) = h.kinds[layer].rope {
            heads.chunks_mut(h.head_dim).for_each(|head| self.rotate(head, rope, position));
        }
    }

    fn attend(&self, q: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>], seen: &[usize]) -> Vec<f32> {
        let h = &self.hyper;
        let (group, dim) = (h.heads / h.kv_heads, h.head_dim);
        let mut attended = vec![0.0; h.heads * dim];
        for (head, out) in attended.chunks_mut(dim).enumerate() {
            let at = head / group * dim..(head / group + 1) * dim;
            let score = |j: usize| {
                let dot: f32 = q[head * dim..].iter().zip(&keys[j][at.clone()]).map(|(a, b)| a * b).sum();
                cap(dot * h.attention_scale, h.score_cap)
            };
            let scores: Vec<f32> = seen.iter().map(|&j| score(j)).collect();
            let max = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
            let sum: f32 = scores.iter().map(|s| (s - max).exp()).sum();
            for (&j, score) in seen.iter().zip(&scores) {
                let weight = (score - max).exp() / sum;
                out.iter_mut().zip(&values[j][at.clone()]).for_each(|(out, v)| *out += weight * v);
            }
        }
        attended
    }

    fn feed_forward(&self, x: &[f32], layer: usize) -> Vec<f32> {
        if let Some(experts) = self.hyper.experts {
            return self.experts(x, layer, experts);
        }
        let up = self.linear(x, Part::Up, layer);
        let inner: Vec<f32> = match self.hyper.gated {
            false => up.into_iter().map(|up| self.activate(up)).collect(),
            true => {
                let gate = self.linear(x, Part::Gate, layer);
                gate.into_iter().zip(up).map(|(gate, up)| self.activate(gate) * up).collect()
            }
        };
        self.linear(&inner, Part::Down, layer)
    }

    fn experts(&self, x: &[f32], layer: usize, experts: Experts) -> Vec<f32> {
        let scores = product(&self.weights[&(Part::Router, layer, 0)], x);
        let sum: f32 = scores.iter().map(|score| score.exp()).sum();
        let mut weights: Vec<(usize, f32)> =
            scores.iter().map(|score| score.exp() / sum).enumerate().collect();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1));
        weights.truncate(experts.used);
        let sum: f32 = if experts.normalized { weights.iter().map(|(_, weight)| weight).sum() } else { 1.0 };
        let mut out = vec![0.0; x.len()];
        for (expert, weight) in weights {
            let of = |part: Part, x: &[f32]| product(&self.weights[&(part, layer, expert)], x);
            let gate = of(Part::ExpertsGate, x).into_iter();
            let inner: Vec<f32> =
                gate.zip(of(Part::ExpertsUp, x)).map(|(gate, up)| self.activate(gate) * up).collect();
            let down = of(Part::ExpertsDown, &inner);
            out.iter_mut().zip(down).for_each(|(out, down)| *out += weight / sum * down);
        }
        out
    }

    fn activate(&self, x: f32) -> f32 {
        match self.hyper.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let u = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                x / 2.0 * (1.0 + u.tanh())
            }
            Activation::Gelu => {
                // The error function as the integral that it is, by Simpson's rule.
                let (z, steps) = (f64::from(x) / std::f64::consts::SQRT_2, 400);
                let step = z / f64::from(steps);
                let at = |n: i32| (-(f64::from(n) * step).powi(2)).exp();
                let sum: f64 = (1..steps).map(|n| at(n) * if n % 2 == 1 { 4.0 } else { 2.0 }).sum();
                let erf = 2.0 / std::f64::consts::PI.sqrt() * step / 3.0 * (1.0 + sum + at(steps));
                (f64::from(x) / 2.0 * (1.0 + erf)) as f32
            }
            Activation::Relu => x.max(0.0),
        }
    }

    fn output(&self, hidden: &[f32]) -> Vec<f32> {
        let h = &self.hyper;
        let mut hidden = hidden.to_vec();
        if h.embedding_width != h.hidden {
            hidden = self.linear(&hidden, Part::EmbeddingOut, 0);
        }
        let part = if h.tied_embeddings { Part::Embedding } else { Part::Output };
        let logits = product(&self.weights[&(part, 0, 0)], &hidden);
        logits.into_iter().map(|logit| cap(logit * h.logit_scale, h.logit_cap)).collect()
    }

    fn linear(&self, x: &[f32], part: Part, layer: usize) -> Vec<f32> {
        let mut y = product(&self.weights[&(part, layer, 0)], x);
        if let Some(bias) = self.biases.get(&(part, layer)) {
            add(&mut y, bias);
        }
        y
    }

    fn norm(&self, x: &[f32], part: Part, layer: usize) -> Vec<f32> {
        let mean = |values: &mut dyn Iterator<Item = f32>| values.sum::<f32>() / x.len() as f32;
        let middle = match self.hyper.norm {
            NormKind::Rms => 0.0,
            NormKind::Layer => mean(&mut x.iter().copied()),
        };
        let variance = mean(&mut x.iter().map(|v| (v - middle) * (v - middle)));
        let scale = 1.0 / (variance + self.hyper.norm_eps).sqrt();
        let mut y: Vec<f32> =
            x.iter().zip(&self.weights[&(part, layer, 0)]).map(|(v, w)| (v - middle) * scale * w).collect();
        if let Some(bias) = self.biases.get(&(part, layer)) {
            add(&mut y, bias);
        }
        y
    }

    fn rotate(&self, head: &mut [f32], rope: usize, position: u32) {
        let rope = &self.hyper.ropes[rope];
        let pairs = rope.dims / 2;
        for pair in 0..pairs {
            let factor = rope.factors.as_ref().map_or(1.0, |f| f[pair]);
            let frequency =
                f64::from(rope.theta).powf(-2.0 * pair as f64 / rope.dims as f64) / f64::from(factor);
            let (sin, cos) = (f64::from(position) * frequency).sin_cos();
            let (sin, cos) = (sin as f32 * rope.scale, cos as f32 * rope.scale);
            let (a, b) = match self.hyper.rope_pairing {
                RopePairing::Interleaved => (2 * pair, 2 * pair + 1),
                RopePairing::Neox => (pair, pair + pairs),
            };
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
        }
    }
}

fn cap(value: f32, cap: Option<f32>) -> f32 {
    cap.map_or(value, |cap| cap * (value / cap).tanh())
}

fn product(matrix: &[f32], x: &[f32]) -> Vec<f32> {
    matrix.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
