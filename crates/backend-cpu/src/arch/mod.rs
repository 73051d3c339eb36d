//! The table of architectures: what their layers are made of.
//!
//! All decoders here share one forward pass ([`crate::layers`]); an architecture says which parts a layer has
//! and where they come from. A new one is a file with a [`Spec`] and a line in [`TABLE`].

mod llama;
mod qwen2;
mod qwen3;

use crate::load::Loader;
use crate::network::Layer;
use crate::options::OpenError;
use model::Architecture;

/// One architecture.
pub(crate) struct Spec {
    /// Which it is.
    pub(crate) architecture: Architecture,
    /// Loads the layer with this number.
    pub(crate) layer: fn(&Loader<'_>, usize) -> Result<Layer, OpenError>,
}

const TABLE: [Spec; 3] = [llama::SPEC, qwen2::SPEC, qwen3::SPEC];

/// The names of all architectures that the backend runs, as GGUF files spell them.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|spec| spec.architecture.name())
}

pub(crate) fn find(architecture: Architecture) -> Result<&'static Spec, OpenError> {
    TABLE.iter().find(|spec| spec.architecture == architecture).ok_or_else(|| OpenError::Architecture {
        found: architecture.name(),
        known: architectures().collect::<Vec<_>>().join(", "),
    })
}
