//! Rotations of Q and K. Scaling of their frequencies is reduced to one divisor per frequency.

use kernels::DType;

use super::tensors::{ROPE_FACTORS, ROPE_FACTORS_SHORT};
use super::{HyperError, positive};
use crate::arch::Reader;
use crate::weights::Weights;

/// How Q and K are rotated: pair `i` turns by `position * theta^(-2 i / dims) / factors[i]`, and is multiplied with `scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// Leading values of each head that are rotated; even, at most `head_dim`.
    pub dims: usize,
    /// Divisors of the frequencies, `dims / 2` of them; `None` is all 1.
    pub factors: Option<Vec<f32>>,
    /// What rotated values are multiplied with.
    pub scale: f32,
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
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RopeScaling {
    /// As trained, unless the file has the tensor `rope_freqs.weight`.
    None,
    /// All frequencies divided by one factor.
    Linear { factor: f32 },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a smooth change between.
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: f32 },
    /// YaRN: likewise, the change being even over the pairs.
    Yarn(Yarn),
    /// LongRoPE, within the original context: divisors of which the file has others for longer texts.
    LongRope { short: Vec<f32>, scale: f32, original_context: u64 },
}

/// The numbers of YaRN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Yarn {
    factor: f32,
    original_context: f32,
    /// Turns within the original context above which a frequency is kept, and below which it is divided.
    beta_fast: f32,
    beta_slow: f32,
    /// Whether the change begins and ends at whole pairs.
    truncate: bool,
    scale: f32,
}

impl RopeScaling {
    /// As `rope_scaling` or `rope_parameters` of config.json have it.
    pub(super) fn from_config(scaling: &Reader<'_>, config: &Reader<'_>) -> Result<Self, HyperError> {
        let kind = scaling.text("", "rope_type")?.or(scaling.text("", "type")?).unwrap_or("default");
        let required = |key: &str| {
            let missing = || scaling.missing("", &format!("rope_scaling.{key}"));
            scaling.float("", key)?.ok_or_else(missing)
        };
        let original = || {
            let key = "original_max_position_embeddings";
            // Phi has it beside the object.
            match config.float("", key)?.or(scaling.float("", key)?) {
                Some(found) => Ok(found),
                None => config.required("", "max_position_embeddings").map(|found| found as f32),
            }
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
            "yarn" => {
                let factor = required("factor")?;
                let scale_of =
                    |weight: f32| if factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 };
                let scales = (scaling.float("", "mscale")?, scaling.float("", "mscale_all_dim")?);
                let scale = match (scaling.float("", "attention_factor")?, scales) {
                    (Some(scale), _) => scale,
                    (None, (Some(one), Some(all))) if one != 0.0 && all != 0.0 => {
                        scale_of(one) / scale_of(all)
                    }
                    (None, _) => scale_of(1.0),
                };
                Ok(Self::Yarn(Yarn {
                    factor,
                    original_context: original()?,
                    beta_fast: scaling.float("", "beta_fast")?.unwrap_or(32.0),
                    beta_slow: scaling.float("", "beta_slow")?.unwrap_or(1.0),
                    truncate: scaling.config_flag("truncate")?.unwrap_or(true),
                    scale,
                }))
            }
            // `su` is the name in the first files of Phi 3.
            "longrope" | "su" => {
                let short = scaling.config_list("short_factor")?;
                let short = short.ok_or_else(|| scaling.missing("", "rope_scaling.short_factor"))?;
                let short = short.iter().map(|factor| factor.as_f64().unwrap_or(0.0) as f32).collect();
                let original_context = original()?;
                let longest = config.required("", "max_position_embeddings")? as f32;
                let factor = match scaling.float("", "factor")? {
                    Some(factor) => factor,
                    None => longest / original_context,
                };
                let by_rule =
                    if factor > 1.0 { (1.0 + factor.ln() / original_context.ln()).sqrt() } else { 1.0 };
                let scale = scaling.float("", "attention_factor")?.unwrap_or(by_rule);
                Ok(Self::LongRope { short, scale, original_context: original_context as u64 })
            }
            found => Err(HyperError::Unsupported {
                what: format!("rotary scaling of type `{found}`"),
                instead: "remove `rope_scaling` from config.json to use the original context length",
            }),
        }
    }

    /// As the metadata of GGUF files has it, and for LongRoPE the tensors.
    pub(super) fn from_gguf(reader: &Reader<'_>, weights: &Weights, dims: usize) -> Result<Self, HyperError> {
        let kind = reader.text("rope.scaling.type", "")?;
        // Files of before 2023-11 have only `scale_linear`, and it means linear scaling.
        let factor = reader.float("rope.scaling.factor", "")?.or(reader.float("rope.scale_linear", "")?);
        let number = |key: &str, default: f32| Ok::<_, HyperError>(reader.float(key, "")?.unwrap_or(default));
        let scale = number("rope.scaling.attn_factor", 1.0)?;
        if weights.contains(ROPE_FACTORS_SHORT) {
            let original_context = reader.required("rope.scaling.original_context_length", "")?;
            let short = divisors(weights, ROPE_FACTORS_SHORT, dims)?;
            return Ok(Self::LongRope { short, scale, original_context });
        }
        match (kind, factor) {
            (None | Some("linear"), Some(factor)) if factor != 1.0 => Ok(Self::Linear { factor }),
            (None | Some("linear" | "none"), _) => Ok(Self::None),
            (Some("yarn"), Some(factor)) => Ok(Self::Yarn(Yarn {
                factor,
                original_context: reader.required("rope.scaling.original_context_length", "")? as f32,
                beta_fast: number("rope.scaling.yarn_beta_fast", 32.0)?,
                beta_slow: number("rope.scaling.yarn_beta_slow", 1.0)?,
                truncate: true,
                scale: scale * if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 },
            })),
            (Some(found), _) => Err(HyperError::Unsupported {
                what: format!("rotary scaling of type `{found}`"),
                instead: "use a file converted without it, within the model's original context length",
            }),
        }
    }

    /// The longest context for which it is meant, if that is less than the file's.
    pub(super) fn context(&self) -> Option<u64> {
        match self {
            Self::LongRope { original_context, .. } => Some(*original_context),
            _ => None,
        }
    }

    /// The rotation with these frequencies.
    pub(super) fn rope(self, weights: &Weights, theta: f32, dims: usize) -> Result<Rope, HyperError> {
        let scale = match &self {
            Self::Yarn(Yarn { scale, .. }) | Self::LongRope { scale, .. } => *scale,
            Self::None | Self::Linear { .. } | Self::Llama3 { .. } => 1.0,
        };
        let factors = match self {
            _ if weights.contains(ROPE_FACTORS) => Some(divisors(weights, ROPE_FACTORS, dims)?),
            Self::None => None,
            Self::Linear { factor } => Some(vec![factor; dims / 2]),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                if high_freq_factor <= low_freq_factor {
                    return Err(HyperError::Inconsistent {
                        what: format!(
                            "high_freq_factor {high_freq_factor} is not above low_freq_factor {low_freq_factor}"
                        ),
                    });
                }
                Some(llama3(theta, dims, factor, low_freq_factor, high_freq_factor, original_context))
            }
            Self::Yarn(numbers) => Some(yarn(theta, dims, numbers)),
            Self::LongRope { short, .. } => Some(short),
        };
        if let Some(factors) = &factors {
            if factors.len() != dims / 2 {
                let what = format!("{} rotary divisors for {} pairs", factors.len(), dims / 2);
                return Err(HyperError::Inconsistent { what });
            }
            if let Some(&found) = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
                return Err(HyperError::NotPositive { what: "rotary frequency divisor", found });
            }
        }
        Ok(Rope { theta, dims, factors, scale: positive("scale of rotated values", scale)? })
    }
}

/// A tensor of divisors.
fn divisors(weights: &Weights, name: &str, dims: usize) -> Result<Vec<f32>, HyperError> {
    let missing = || HyperError::MissingTensor { name: name.to_owned() };
    let tensor = weights.get(name).ok_or_else(missing)?;
    if tensor.dtype != DType::F32 {
        return Err(HyperError::TensorType { name: name.to_owned(), found: tensor.dtype });
    }
    if tensor.shape != [dims / 2] {
        return Err(HyperError::TensorShape {
            name: name.to_owned(),
            found: tensor.shape.to_vec(),
            expected: vec![dims / 2],
        });
    }
    let (values, _) = tensor.bytes.as_chunks::<4>();
    Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// The rule of YaRN, as in the transformers library: pair `i` turns `original / (2 pi theta^(2 i / dims))` times
/// within the original context. From the pair that turns `beta_fast` times to the one that turns `beta_slow` times
/// the frequencies go evenly from those that are kept to those that are divided.
fn yarn(theta: f32, dims: usize, numbers: Yarn) -> Vec<f32> {
    let (theta, factor) = (f64::from(theta), f64::from(numbers.factor));
    let pair_of = |turns: f32| {
        let wavelength =
            f64::from(numbers.original_context) / f64::from(turns) / (2.0 * std::f64::consts::PI);
        dims as f64 * wavelength.ln() / (2.0 * theta.ln())
    };
    let (low, high) = (pair_of(numbers.beta_fast), pair_of(numbers.beta_slow));
    let (low, high) = if numbers.truncate { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
    // Nothing is divided by zero where both are one pair.
    let width = if low == high { 0.001 } else { high - low };
    let divisor = |pair: usize| {
        let divided = ((pair as f64 - low) / width).clamp(0.0, 1.0);
        1.0 / (divided / factor + 1.0 - divided)
    };
    (0..dims / 2).map(|pair| divisor(pair) as f32).collect()
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
