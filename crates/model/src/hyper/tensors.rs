//! The tensors of a model: whether all are there and no others, and where its parts are in them.

use std::borrow::Cow;
use std::ops::Range;

use super::{HyperError, Hyperparameters};
use crate::arch::{Part, TensorSpec, stacked};
use crate::weights::{Tensor, Weights};
use kernels::DType;

/// Rotary divisors of Llama 3, in GGUF files.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";
/// Rotary divisors of LongRoPE within the original context, and beyond it, which is not used.
pub(super) const ROPE_FACTORS_SHORT: &str = "rope_factors_short.weight";
const ROPE_FACTORS_LONG: &str = "rope_factors_long.weight";

/// The rows of one part, one row per output.
#[derive(Debug)]
pub struct Rows<'a> {
    /// How the values are stored.
    pub dtype: DType,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Values per row.
    pub cols: usize,
    /// `rows` rows of `dtype.row_bytes(cols)` bytes each.
    pub bytes: Cow<'a, [u8]>,
}

impl Hyperparameters {
    /// The weight of a part, of layer `layer` for parts of layers (else any number), of expert `expert` for
    /// those of experts. Copied only where the file has it in another order.
    ///
    /// # Errors
    /// When `weights` lack it: they are not those that the hyper-parameters were read with.
    ///
    /// # Panics
    /// When a model of these numbers has no such part, as [`Part::shape`] tells.
    pub fn rows<'w>(
        &self,
        weights: &'w Weights,
        part: Part,
        layer: usize,
        expert: usize,
    ) -> Result<Rows<'w>, HyperError> {
        let (spec, mut range) = self.place(part);
        let name = spec.name(layer);
        let own = format!("{}.weight", stacked(&name, expert));
        let experts = self.experts.map(|experts| experts.count).filter(|_| part.is_of_experts());
        let tensor = match weights.get(&own) {
            Some(tensor) => tensor,
            None => {
                if let Some(count) = experts {
                    let rows = range.len() / count;
                    range = expert * rows..(expert + 1) * rows;
                }
                found(weights, &format!("{name}.weight"))?
            }
        };
        if experts.is_some() && weights.contains(&own) {
            range = 0..tensor.rows;
        }
        let is_vector = part.shape(self).is_some_and(|shape| shape.len() == 1);
        if is_vector {
            return Ok(Rows { dtype: tensor.dtype, rows: 1, cols: tensor.cols, bytes: tensor.bytes.into() });
        }
        Ok(Rows { dtype: tensor.dtype, rows: range.len(), cols: tensor.cols, bytes: tensor.row_range(range) })
    }

    /// The bias of a part, if it has one: [`Self::rows`] of a single row.
    pub fn bias<'w>(&self, weights: &'w Weights, part: Part, layer: usize) -> Option<Rows<'w>> {
        let (spec, range) = self.place(part);
        let tensor = weights.get(&format!("{}.bias", spec.name(layer)))?;
        let of = |index: usize| tensor.dtype.row_bytes(index);
        // One block holds one value: biases are floats, as `check` says.
        let bytes = &tensor.bytes[of(range.start)..of(range.end)];
        Some(Rows { dtype: tensor.dtype, rows: 1, cols: range.len(), bytes: bytes.into() })
    }

    /// The name of the tensor of a part, and its rows there.
    fn place(&self, part: Part) -> (&'static TensorSpec, Range<usize>) {
        let spec = self.architecture.spec().tensor(part).expect("the table has a tensor for each part");
        let rows = |part: Part| self.rows_of(part);
        let start = spec.parts.iter().take_while(|before| **before != part).map(|p| rows(*p)).sum();
        (spec, start..start + rows(part))
    }

    /// Rows of a part's matrix, or values of its vector.
    fn rows_of(&self, part: Part) -> usize {
        let shape = part.shape(self).expect("the part is one of the model");
        if shape.len() == 1 { shape[0] } else { shape[..shape.len() - 1].iter().product() }
    }

    /// The weights of a GGUF file of such a model: names and shapes, slowest dimension first. A bias has the
    /// name with `.bias` for `.weight`, and the first dimension of its weight.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let specs = self.architecture.spec().tensors().filter(|spec| self.has(spec));
        let all = specs.flat_map(|spec| {
            let layers = if spec.is_in_layers() { self.layers } else { 1 };
            (0..layers).map(|layer| (format!("{}.weight", spec.name(layer)), self.shape(spec)))
        });
        all.collect()
    }

    /// Checks that `weights` has each tensor that these hyper-parameters need, in the right shape, and no
    /// tensor that the architecture would ignore.
    ///
    /// # Errors
    /// The first tensor that is missing, has another shape, or is not known.
    pub fn check(&self, weights: &Weights) -> Result<(), HyperError> {
        let specs: Vec<&TensorSpec> = self.architecture.spec().tensors().filter(|s| self.has(s)).collect();
        for spec in &specs {
            let layers = if spec.is_in_layers() { self.layers } else { 1 };
            for layer in 0..layers {
                self.check_weight(weights, spec, layer)?;
                // A bias is there in all layers or in none.
                if weights.contains(&format!("{}.bias", spec.name(0))) {
                    self.check_bias(weights, spec, layer)?;
                }
            }
        }
        let is_rotary = |name: &str| [ROPE_FACTORS, ROPE_FACTORS_SHORT, ROPE_FACTORS_LONG].contains(&name);
        match weights.names().find(|name| !is_rotary(name) && !self.knows(&specs, name)) {
            None => Ok(()),
            Some(name) => Err(HyperError::UnknownTensor {
                name: name.to_owned(),
                architecture: self.architecture.name(),
            }),
        }
    }

    /// Whether a model of these numbers has the tensor.
    fn has(&self, spec: &TensorSpec) -> bool {
        spec.parts.iter().all(|part| part.shape(self).is_some())
    }

    fn knows(&self, specs: &[&TensorSpec], name: &str) -> bool {
        let Some((name, "weight" | "bias")) = name.rsplit_once('.') else { return false };
        let in_layer = |stem: &str| {
            specs.iter().any(|spec| {
                let expert = || stem.strip_prefix(spec.gguf)?.strip_prefix('.')?.parse().ok();
                let one = |expert: usize| {
                    spec.is_of_experts() && self.experts.is_some_and(|experts| expert < experts.count)
                };
                spec.is_in_layers() && (spec.gguf == stem || expert().is_some_and(one))
            })
        };
        match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, stem)) => {
                layer.parse::<usize>().is_ok_and(|layer| layer < self.layers) && in_layer(stem)
            }
            None => specs.iter().any(|spec| !spec.is_in_layers() && spec.gguf == name),
        }
    }

    /// The shape of a weight that the model has.
    fn shape(&self, spec: &TensorSpec) -> Vec<usize> {
        let mut shape = spec.parts[0].shape(self).expect("the caller has asked");
        if spec.parts.len() > 1 {
            shape[0] = spec.parts.iter().map(|part| self.rows_of(*part)).sum();
        }
        shape
    }

    fn check_weight(&self, weights: &Weights, spec: &TensorSpec, layer: usize) -> Result<(), HyperError> {
        let mut shape = self.shape(spec);
        let name = spec.name(layer);
        if spec.is_of_experts() && weights.contains(&format!("{}.weight", stacked(&name, 0))) {
            let count = shape.remove(0);
            return (0..count).try_for_each(|expert| {
                check_shape(weights, &format!("{}.weight", stacked(&name, expert)), &shape)
            });
        }
        check_shape(weights, &format!("{name}.weight"), &shape)
    }

    fn check_bias(&self, weights: &Weights, spec: &TensorSpec, layer: usize) -> Result<(), HyperError> {
        let name = format!("{}.bias", spec.name(layer));
        check_shape(weights, &name, &[spec.parts.iter().map(|part| self.rows_of(*part)).sum()])?;
        match found(weights, &name)?.dtype {
            dtype if dtype.is_quantized() => Err(HyperError::TensorType { name, found: dtype }),
            _ => Ok(()),
        }
    }
}

impl TensorSpec {
    /// Its name in [`Weights`], without `.weight`; `layer` counts for tensors of layers.
    fn name(&self, layer: usize) -> String {
        match self.is_in_layers() {
            true => format!("blk.{layer}.{}", self.gguf),
            false => self.gguf.to_owned(),
        }
    }

    fn is_of_experts(&self) -> bool {
        self.parts.iter().all(|part| part.is_of_experts())
    }
}

impl<'a> Tensor<'a> {
    /// Some rows, one per output.
    fn row_range(&self, rows: Range<usize>) -> Cow<'a, [u8]> {
        let row = self.dtype.row_bytes(self.cols);
        if !self.transposed {
            return Cow::Borrowed(&self.bytes[rows.start * row..rows.end * row]);
        }
        // Stored as a row per input; the formats of safetensors have whole bytes per value.
        let value = self.dtype.row_bytes(1);
        let mut bytes = Vec::with_capacity(rows.len() * row);
        for output in rows {
            for input in 0..self.cols {
                bytes.extend_from_slice(&self.bytes[(input * self.rows + output) * value..][..value]);
            }
        }
        Cow::Owned(bytes)
    }
}

fn found<'w>(weights: &'w Weights, name: &str) -> Result<Tensor<'w>, HyperError> {
    weights.get(name).ok_or_else(|| HyperError::MissingTensor { name: name.to_owned() })
}

fn check_shape(weights: &Weights, name: &str, expected: &[usize]) -> Result<(), HyperError> {
    let tensor = found(weights, name)?;
    // Dimensions of 1 in front are written by some converters and mean nothing.
    let shape: &[usize] = match tensor.shape {
        [1, rest @ ..] if tensor.shape.len() > expected.len() => rest,
        shape => shape,
    };
    if shape != expected {
        return Err(HyperError::TensorShape {
            name: name.to_owned(),
            found: tensor.shape.to_vec(),
            expected: expected.to_vec(),
        });
    }
    Ok(())
}
