//! The instruction sets the kernels are written for, found once at start.

use std::fmt;
use std::str::FromStr;

/// An instruction set that this CPU has: holding a value is the proof, since only [`Isa::available`] makes
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(pub(crate) Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 with `vpdpbusd` of 256 bits, in the encoding of AVX-VNNI or, if the CPU has no other, in that of AVX-512
    /// (`evex`): so tests and benchmarks on a machine with AVX-512 run all that this kind computes.
    #[cfg(target_arch = "x86_64")]
    AvxVnni {
        evex: bool,
    },
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
}

/// Every name that any build of pie knows, of each architecture the slowest first.
const NAMES: [&str; 7] = ["scalar", "avx2", "avxvnni", "avx512vnni", "neon", "neondot", "neoni8mm"];

impl Isa {
    /// Portable code, on every CPU; the specification of the others.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// The fastest instruction set of this CPU.
    pub fn detect() -> Isa {
        *Isa::available().last().expect("scalar is always available")
    }

    /// All instruction sets of this CPU, slowest first; never empty.
    pub fn available() -> Vec<Isa> {
        let mut found = vec![Isa::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if avx2 {
                found.push(Isa(Kind::Avx2));
            }
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            let vnni = is_x86_feature_detected!("avxvnni");
            if avx2 && (vnni || avx512) {
                found.push(Isa(Kind::AvxVnni { evex: !vnni }));
            }
            if avx512 {
                found.push(Isa(Kind::Avx512Vnni));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(Isa(Kind::Neon));
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Isa(Kind::NeonDot));
                if std::arch::is_aarch64_feature_detected!("i8mm") {
                    found.push(Isa(Kind::NeonI8mm));
                }
            }
        }
        found
    }

    /// `scalar`, `avx2`, `avxvnni`, `avx512vnni`, `neon`, `neondot` or `neoni8mm`; the inverse of [`FromStr`].
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni { .. } => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => "neondot",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonI8mm => "neoni8mm",
        }
    }
}

/// Why a name gives no [`Isa`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No build of pie knows the name.
    #[error("no instruction set is called `{0}`; known are {known}", known = NAMES.join(", "))]
    Unknown(String),
    /// The name is known, but this CPU or this build lacks it.
    #[error("this CPU has no `{0}`; it has {found}", found = available_names())]
    Unavailable(String),
}

fn available_names() -> String {
    Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Isa, IsaError> {
        if let Some(isa) = Isa::available().into_iter().find(|isa| isa.name() == name) {
            return Ok(isa);
        }
        Err(match NAMES.contains(&name) {
            true => IsaError::Unavailable(name.to_owned()),
            false => IsaError::Unknown(name.to_owned()),
        })
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isa({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_explained() {
        for isa in Isa::available() {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        assert_eq!("sse9".parse::<Isa>(), Err(IsaError::Unknown("sse9".into())));
        assert!("sse9".parse::<Isa>().unwrap_err().to_string().contains("scalar, avx2"));
    }
}
