//! The forward pass of the supported architectures written plainly in f32, one token after another.

use kernels::DType;
use model::{Hyperparameters, RopePairing, Weights};
use std::collections::HashMap;

pub(crate) struct Naive {
    hyper: Hyperparameters,
    tensors: HashMap<String, Vec<f32>>,
}

impl Naive {
    pub(crate) fn new(hyper: Hyperparameters, weights: &Weights) -> Naive {
        let values = |name: &str| {
            let tensor = weights.get(name).unwrap();
            let mut values = vec![0.0; tensor.rows * tensor.cols];
            match tensor.dtype {
                DType::Q8_0 | DType::F16 | DType::F32 => tensor.dtype.dequantize(tensor.bytes, &mut values),
                other => panic!("{other:?}"),
            }
            (name.to_owned(), values)
        };
        Naive { hyper, tensors: weights.names().map(values).collect() }
    }

    /// Adds `scale * B A` to a weight: what an adapter amounts to.
    pub(crate) fn merge(&mut self, lora: &backend::LoraMatrix) {
        let rank = lora.rank as usize;
        let (inputs, outputs) = (lora.a.len() / rank, lora.b.len() / rank);
        let weight = self.tensors.get_mut(&lora.tensor).unwrap();
        for o in 0..outputs {
            for i in 0..inputs {
                let product: f32 = (0..rank).map(|r| lora.b[o * rank + r] * lora.a[r * inputs + i]).sum();
                weight[o * inputs + i] += lora.scale * product;
            }
        }
    }

    /// Logits of every token; token `i` at `positions[i]` attends to the tokens `j <= i` for which
    /// `attends(i, j)` holds.
    pub(crate) fn logits(
        &self,
        tokens: &[u32],
        positions: &[u32],
        attends: impl Fn(usize, usize) -> bool,
    ) -> Vec<Vec<f32>> {
        let h = &self.hyper;
        let (group, dim) = (h.heads / h.kv_heads, h.head_dim);
        let embedding = &self.tensors["token_embd.weight"];
        let mut keys: Vec<Vec<Vec<f32>>> = vec![Vec::new(); h.layers];
        let mut values = keys.clone();
        let mut rows = Vec::new();
        for (i, (&token, &position)) in tokens.iter().zip(positions).enumerate() {
            let mut x = embedding[token as usize * h.hidden..][..h.hidden].to_vec();
            for layer in 0..h.layers {
                let name = |part: &str| format!("blk.{layer}.{part}");
                let normed = self.norm(&x, &name("attn_norm.weight"));
                let mut q = self.linear(&normed, &name("attn_q"));
                let mut k = self.linear(&normed, &name("attn_k"));
                for (vector, norm) in [(&mut q, "attn_q_norm.weight"), (&mut k, "attn_k_norm.weight")] {
                    for head in vector.chunks_mut(dim) {
                        if h.qk_norm {
                            head.copy_from_slice(&self.norm(head, &name(norm)));
                        }
                        self.rotate(head, position);
                    }
                }
                keys[layer].push(k);
                values[layer].push(self.linear(&normed, &name("attn_v")));
                let mut attended = vec![0.0; h.heads * dim];
                for head in 0..h.heads {
                    let at = head / group * dim..(head / group + 1) * dim;
                    let seen: Vec<usize> = (0..=i).filter(|&j| attends(i, j)).collect();
                    let score = |j: usize| {
                        let dot: f32 =
                            q[head * dim..].iter().zip(&keys[layer][j][at.clone()]).map(|(a, b)| a * b).sum();
                        dot / (dim as f32).sqrt()
                    };
                    let scores: Vec<f32> = seen.iter().map(|&j| score(j)).collect();
                    let max = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
                    let sum: f32 = scores.iter().map(|s| (s - max).exp()).sum();
                    for (&j, score) in seen.iter().zip(&scores) {
                        let weight = (score - max).exp() / sum;
                        for (out, v) in attended[head * dim..].iter_mut().zip(&values[layer][j][at.clone()]) {
                            *out += weight * v;
                        }
                    }
                }
                add(&mut x, &self.linear(&attended, &name("attn_output")));
                let normed = self.norm(&x, &name("ffn_norm.weight"));
                let mut gate = self.linear(&normed, &name("ffn_gate"));
                let up = self.linear(&normed, &name("ffn_up"));
                gate.iter_mut().zip(up).for_each(|(g, u)| *g = *g / (1.0 + (-*g).exp()) * u);
                add(&mut x, &self.linear(&gate, &name("ffn_down")));
            }
            let hidden = self.norm(&x, "output_norm.weight");
            let output = self.tensors.get("output.weight").unwrap_or(embedding);
            rows.push(product(output, &hidden));
        }
        rows
    }

    fn linear(&self, x: &[f32], name: &str) -> Vec<f32> {
        let mut y = product(&self.tensors[&format!("{name}.weight")], x);
        if let Some(bias) = self.tensors.get(&format!("{name}.bias")) {
            add(&mut y, bias);
        }
        y
    }

    fn norm(&self, x: &[f32], weight: &str) -> Vec<f32> {
        let mean = x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32;
        let scale = 1.0 / (mean + self.hyper.norm_eps).sqrt();
        x.iter().zip(&self.tensors[weight]).map(|(v, w)| v * scale * w).collect()
    }

    fn rotate(&self, head: &mut [f32], position: u32) {
        let h = &self.hyper;
        let pairs = h.rope_dims / 2;
        for pair in 0..pairs {
            let factor = h.rope_factors.as_ref().map_or(1.0, |f| f[pair]);
            let frequency =
                f64::from(h.rope_theta).powf(-2.0 * pair as f64 / h.rope_dims as f64) / f64::from(factor);
            let (sin, cos) = (f64::from(position) * frequency).sin_cos();
            let (sin, cos) = (sin as f32, cos as f32);
            let (a, b) = match h.rope_pairing {
                RopePairing::Interleaved => (2 * pair, 2 * pair + 1),
                RopePairing::Neox => (pair, pair + pairs),
            };
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
        }
    }
}

fn product(matrix: &[f32], x: &[f32]) -> Vec<f32> {
    matrix.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
