//! Which tensors an architecture has, in which shapes.

use super::{HyperError, Hyperparameters};
use crate::weights::Weights;

pub(super) const EMBEDDINGS: &str = "token_embd.weight";
pub(super) const OUTPUT: &str = "output.weight";
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

pub(super) fn check(hyper: &Hyperparameters, weights: &Weights) -> Result<(), HyperError> {
    let model = model_tensors(hyper);
    let layer = layer_tensors(hyper);
    for (name, shape) in &model {
        check_tensor(weights, name, shape)?;
    }
    for index in 0..hyper.layers {
        for (name, shape) in &layer {
            check_tensor(weights, &format!("blk.{index}.{name}"), shape)?;
        }
    }

    let is_known = |name: &str| match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((index, rest)) => {
            index.parse::<usize>().is_ok_and(|index| index < hyper.layers)
                && layer.iter().any(|(known, _)| *known == rest)
        }
        None => name == ROPE_FACTORS || model.iter().any(|(known, _)| *known == name),
    };
    match weights.names().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            Err(HyperError::UnknownTensor { name: name.to_owned(), architecture: hyper.architecture.name() })
        }
    }
}

fn model_tensors(hyper: &Hyperparameters) -> Vec<(&'static str, Vec<usize>)> {
    let mut tensors =
        vec![(EMBEDDINGS, vec![hyper.vocab, hyper.hidden]), ("output_norm.weight", vec![hyper.hidden])];
    if !hyper.tied_embeddings {
        tensors.push((OUTPUT, vec![hyper.vocab, hyper.hidden]));
    }
    tensors
}

fn layer_tensors(hyper: &Hyperparameters) -> Vec<(&'static str, Vec<usize>)> {
    let (hidden, ffn) = (hyper.hidden, hyper.ffn);
    let (q, kv) = (hyper.q_width(), hyper.kv_width());
    let mut tensors = vec![
        ("attn_norm.weight", vec![hidden]),
        ("attn_q.weight", vec![q, hidden]),
        ("attn_k.weight", vec![kv, hidden]),
        ("attn_v.weight", vec![kv, hidden]),
        ("attn_output.weight", vec![hidden, q]),
        ("ffn_norm.weight", vec![hidden]),
        ("ffn_gate.weight", vec![ffn, hidden]),
        ("ffn_up.weight", vec![ffn, hidden]),
        ("ffn_down.weight", vec![hidden, ffn]),
    ];
    if hyper.attention_bias {
        tensors.extend([("attn_q.bias", vec![q]), ("attn_k.bias", vec![kv]), ("attn_v.bias", vec![kv])]);
    }
    if hyper.attention_output_bias {
        tensors.push(("attn_output.bias", vec![hidden]));
    }
    if hyper.qk_norm {
        tensors.extend([
            ("attn_q_norm.weight", vec![hyper.head_dim]),
            ("attn_k_norm.weight", vec![hyper.head_dim]),
        ]);
    }
    tensors
}

fn check_tensor(weights: &Weights, name: &str, expected: &[usize]) -> Result<(), HyperError> {
    let Some(tensor) = weights.get(name) else {
        return Err(HyperError::MissingTensor { name: name.to_owned() });
    };
    // Dimensions of 1 in front are written by some converters and mean nothing.
    let found: &[usize] = match tensor.shape {
        [1, rest @ ..] if tensor.shape.len() > expected.len() => rest,
        shape => shape,
    };
    if found != expected {
        return Err(HyperError::TensorShape {
            name: name.to_owned(),
            found: tensor.shape.to_vec(),
            expected: expected.to_vec(),
        });
    }
    Ok(())
}
