//! Qwen 3: llama with an RMS norm on each head of Q and K before the rotation.

use super::{Spec, llama};
use crate::load::Loader;
use crate::network::Layer;
use crate::options::OpenError;
use model::Architecture;

pub(super) const SPEC: Spec = Spec { architecture: Architecture::Qwen3, layer };

fn layer(load: &Loader<'_>, index: usize) -> Result<Layer, OpenError> {
    let mut layer = llama::layer(load, index)?;
    let head_dim = load.hyper().head_dim;
    layer.attention.q_norm = Some(load.vector(&format!("blk.{index}.attn_q_norm.weight"), head_dim)?);
    layer.attention.k_norm = Some(load.vector(&format!("blk.{index}.attn_k_norm.weight"), head_dim)?);
    Ok(layer)
}
