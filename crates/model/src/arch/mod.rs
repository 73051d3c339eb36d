//! The table of architectures. A file here describes one: how its numbers are called and which parts its
//! layers have, in which tensors of a file they are, and how a layer computes. All else reads the description: hyper-parameters, names of
//! safetensors, adapters, and the forward pass of a backend, which has no code for a single architecture.
//!
//! A new one is a file with a [`Spec`] and its row in [`TABLE`].

mod common;
mod names;
mod part;
mod read;

mod llama;
mod mistral;
mod qwen2;
mod qwen3;

mod gpt2;
mod opt;

mod bert;

mod gemma2;
mod gemma3;

mod granite;
mod olmo2;
mod phi3;
mod qwen3moe;
mod smollm3;

pub(crate) use names::{HuggingFaceName, stacked};
pub use part::Part;
pub(crate) use read::Reader;

use std::fmt;

use crate::hyper::{Activation, HyperError, Hyperparameters, NormKind};
use kernels::ops::RopePairing;

/// All architectures.
const TABLE: &[&Spec] = &[
    &llama::SPEC,
    &mistral::SPEC,
    &qwen2::SPEC,
    &qwen3::SPEC,
    &gpt2::SPEC,
    &opt::SPEC,
    &gemma2::SPEC,
    &gemma3::SPEC,
    &phi3::SPEC,
    &olmo2::SPEC,
    &smollm3::SPEC,
    &granite::SPEC,
    &qwen3moe::SPEC,
    &bert::SPEC,
];

/// The description of one architecture.
pub(crate) struct Spec {
    /// `general.architecture` in GGUF, and the prefix of its keys there.
    pub(crate) name: &'static str,
    /// `model_type` in config.json.
    pub(crate) model_types: &'static [&'static str],
    /// How the numbers are called that all architectures have.
    pub(crate) keys: Keys,
    /// How rows of Q and K are ordered in GGUF files; safetensors files are always [`RopePairing::Neox`].
    pub(crate) gguf_pairing: RopePairing,
    /// How rows are normed.
    pub(crate) norm: NormKind,
    /// Whether Q and K are rotated, so that the file says how.
    pub(crate) rotates: bool,
    /// The activation, where the file does not say.
    pub(crate) activation: Activation,
    /// What is in front of the names of tensors in safetensors files; files differ.
    pub(crate) roots: &'static [&'static str],
    /// What is between that and the number of a layer.
    pub(crate) layers: &'static str,
    /// The tensors of a file, in groups that architectures share.
    pub(crate) tensors: &'static [&'static [TensorSpec]],
    /// Tensors in safetensors files that nothing is computed from, without root and number of the layer.
    pub(crate) ignored: &'static [&'static str],
    /// Changes what differs from a llama with this norm and activation: [`Hyperparameters`] says what there is.
    pub(crate) describe: fn(&Reader<'_>, &mut Hyperparameters) -> Result<(), HyperError>,
}

/// A tensor of a file, with its bias if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorSpec {
    /// What it holds; of several parts, the rows of one come after those of the other.
    pub(crate) parts: &'static [Part],
    /// Name in GGUF, without `blk.N.` and `.weight`. It is the name in [`crate::Weights`].
    pub(crate) gguf: &'static str,
    /// Name in safetensors files, without root, number of the layer and `.weight`. A `*` is the number of an expert, each
    /// of which has a tensor of its own.
    pub(crate) hugging_face: &'static str,
    /// Whether safetensors files have a row per input.
    pub(crate) transposed: bool,
}

/// A tensor with one part, its rows being outputs.
pub(crate) const fn tensor(
    parts: &'static [Part],
    gguf: &'static str,
    hugging_face: &'static str,
) -> TensorSpec {
    TensorSpec { parts, gguf, hugging_face, transposed: false }
}

/// Keys of the numbers that all architectures have, in config.json; in GGUF they are everywhere the same.
pub(crate) struct Keys {
    pub(crate) layers: &'static str,
    pub(crate) hidden: &'static str,
    pub(crate) heads: &'static str,
    pub(crate) ffn: &'static str,
    /// The feed-forward width in multiples of the hidden one, where config.json leaves it out.
    pub(crate) ffn_default: Option<u64>,
    pub(crate) context_length: &'static str,
    pub(crate) norm_eps: &'static str,
    /// Epsilon of norms, where config.json leaves it out.
    pub(crate) norm_eps_default: Option<f32>,
    pub(crate) activation: &'static str,
}

impl Spec {
    /// The tensors of a file.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &'static TensorSpec> {
        self.tensors.iter().copied().flatten()
    }

    /// The tensor that holds `part`.
    pub(crate) fn tensor(&self, part: Part) -> Option<&'static TensorSpec> {
        self.tensors().find(|tensor| tensor.parts.contains(&part))
    }

    /// The architecture of a GGUF file.
    pub(crate) fn of_gguf(name: &str) -> Result<&'static Self, HyperError> {
        TABLE.iter().copied().find(|spec| spec.name == name).ok_or_else(|| unknown(name))
    }

    /// The architecture of a model folder.
    pub(crate) fn of_folder(model_type: &str) -> Result<&'static Self, HyperError> {
        let found = TABLE.iter().copied().find(|spec| spec.model_types.contains(&model_type));
        found.ok_or_else(|| unknown(model_type))
    }
}

fn unknown(found: &str) -> HyperError {
    let supported = TABLE.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
    HyperError::Architecture { found: found.to_owned(), supported }
}

/// A model family that pie can run: a row of the table.
#[derive(Clone, Copy)]
pub struct Architecture(&'static Spec);

impl Architecture {
    /// All architectures.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().copied().map(Self)
    }

    /// The one with this name in GGUF files.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|architecture| architecture.name() == name)
    }

    /// The name used in GGUF files and messages.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    pub(crate) fn of(spec: &'static Spec) -> Self {
        Self(spec)
    }

    pub(crate) fn spec(self) -> &'static Spec {
        self.0
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Architecture {}

impl fmt::Debug for Architecture {
    /// The name alone: addresses of the table change from run to run, and this text is hashed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
