//! Rotations of Q and K. Scaling of their frequencies is reduced to one divisor per frequency.

use kernels::DType;

use super::HyperError;
use super::tensors::ROPE_FACTORS;
use crate::arch::Reader;
use crate::weights::Weights;

/// How Q and K are rotated: pair `i` turns by `position * theta^(-2 i / dims) / factors[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// Leading values of each head that are rotated; even, at most `head_dim`.
    pub dims: usize,
    /// Divisors of the frequencies, `dims / 2` of them; `None` is all 1.
    pub factors: Option<Vec<f32>>,
}

impl Rope {
    /// Turns per position of each pair, in radians.
    pub fn frequencies(&self) -> Vec<f32> {
        let factor = |pair: usize| self.factors.as_ref().map_or(1.0, |factors| f64::from(factors[pair]));
        let frequency =
            |pair: usize| f64::from(self.theta).powf(-2.0 * pair as f64 / self.dims as f64) / factor(pair);
        (0..self.dims / 2).map(|pair| frequency(pair) as f32).collect()
    }
}

/// How a file stretches the rotary frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RopeScaling {
    /// As trained, unless the file has the tensor `rope_freqs.weight`.
    None,
    /// All frequencies divided by one factor.
    Linear { factor: f32 },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a smooth change between.
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: f32 },
}

impl RopeScaling {
    /// As `rope_scaling` or `rope_parameters` of config.json have it.
    pub(super) fn from_config(scaling: &Reader<'_>) -> Result<Self, HyperError> {
        let kind = scaling.text("", "rope_type")?.or(scaling.text("", "type")?).unwrap_or("default");
        let required = |key: &str| {
            let missing = || scaling.missing("", &format!("rope_scaling.{key}"));
            scaling.float("", key)?.ok_or_else(missing)
        };
        match kind {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: required("factor")? }),
            "llama3" => Ok(Self::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_context: required("original_max_position_embeddings")?,
            }),
            found => Err(HyperError::Unsupported {
                what: format!("rotary scaling of type `{found}`"),
                instead: "remove `rope_scaling` from config.json to use the original context length",
            }),
        }
    }

    /// As the metadata of GGUF files has it.
    pub(super) fn from_gguf(reader: &Reader<'_>) -> Result<Self, HyperError> {
        let kind = reader.text("rope.scaling.type", "")?;
        // Files of before 2023-11 have only `scale_linear`, and it means linear scaling.
        let factor = reader.float("rope.scaling.factor", "")?.or(reader.float("rope.scale_linear", "")?);
        match (kind, factor) {
            (None | Some("linear"), Some(factor)) if factor != 1.0 => Ok(Self::Linear { factor }),
            (None | Some("linear" | "none"), _) => Ok(Self::None),
            (Some(found), _) => Err(HyperError::Unsupported {
                what: format!("rotary scaling of type `{found}`"),
                instead: "use a file converted without it, within the model's original context length",
            }),
        }
    }

    /// The divisors of the `rope_dims / 2` frequencies; `None` is all 1.
    pub(super) fn factors(
        self,
        weights: &Weights,
        theta: f32,
        rope_dims: usize,
    ) -> Result<Option<Vec<f32>>, HyperError> {
        let factors = match (self, weights.get(ROPE_FACTORS)) {
            (_, Some(tensor)) => {
                if tensor.dtype != DType::F32 {
                    return Err(HyperError::TensorType {
                        name: ROPE_FACTORS.to_owned(),
                        found: tensor.dtype,
                    });
                }
                if tensor.shape != [rope_dims / 2] {
                    return Err(HyperError::TensorShape {
                        name: ROPE_FACTORS.to_owned(),
                        found: tensor.shape.to_vec(),
                        expected: vec![rope_dims / 2],
                    });
                }
                let (values, _) = tensor.bytes.as_chunks::<4>();
                values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect::<Vec<_>>()
            }
            (Self::None, None) => return Ok(None),
            (Self::Linear { factor }, None) => vec![factor; rope_dims / 2],
            (Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }, None) => {
                if high_freq_factor <= low_freq_factor {
                    return Err(HyperError::Inconsistent {
                        what: format!(
                            "high_freq_factor {high_freq_factor} is not above low_freq_factor {low_freq_factor}"
                        ),
                    });
                }
                llama3(theta, rope_dims, factor, low_freq_factor, high_freq_factor, original_context)
            }
        };
        match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            Some(&found) => Err(HyperError::NotPositive { what: "rotary frequency divisor", found }),
            None => Ok(Some(factors)),
        }
    }
}

/// The rule of Llama 3.1, as in the transformers library: a frequency whose wavelength is shorter than
/// `original / high` is kept, one longer than `original / low` is divided, and between them the frequencies
/// (not the divisors) are mixed.
fn llama3(theta: f32, rope_dims: usize, factor: f32, low: f32, high: f32, original: f32) -> Vec<f32> {
    (0..rope_dims / 2)
        .map(|pair| {
            let frequency = f64::from(theta).powf(-2.0 * pair as f64 / rope_dims as f64);
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            let (factor, low, high, original) =
                (f64::from(factor), f64::from(low), f64::from(high), f64::from(original));
            let divisor = if wavelength < original / high {
                1.0
            } else if wavelength > original / low {
                factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            };
            divisor as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let factors = llama3(500_000.0, 128, 8.0, 1.0, 4.0, 8192.0);
        assert_eq!(factors.len(), 64);
        assert_eq!(factors[0], 1.0);
        assert_eq!(factors[63], 8.0);
        assert!(factors.is_sorted(), "{factors:?}");
        // Llama 3.1 8B, by the same formula in Python.
        for (pair, expected) in
            [(28, 1.0), (29, 1.207_483_9), (32, 2.694_529_7), (34, 5.257_326_6), (35, 8.0)]
        {
            assert!((factors[pair] - expected).abs() < 1e-4, "{pair}: {}", factors[pair]);
        }
    }
}
