//! GPUs, as NVIDIA's library (NVML) tells of them. It comes with the driver, and is opened when GPUs are asked for.

use std::sync::OnceLock;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use serde_json::{Value, json};

/// Names of the library: that of the driver, and that of its files for developers.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
const MB: f64 = (1 << 20) as f64;

/// A GPU at one moment. What it does not tell is none and not zero: a card that is in parts (MIG) has no utilization.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// Its number.
    pub index: u32,
    /// Memory in use, in MB.
    pub memory_used_mb: Option<f64>,
    /// All its memory, in MB.
    pub memory_total_mb: Option<f64>,
    /// Share of time that it computed, in percent.
    pub busy_percent: Option<f64>,
    /// Share of time that its memory was read or written, in percent.
    pub memory_busy_percent: Option<f64>,
    /// Watts.
    pub power_watts: Option<f64>,
}

impl Gpu {
    /// Its figures by name.
    pub fn json(&self) -> Value {
        json!({
            "index": self.index, "memory_used_mb": self.memory_used_mb, "memory_total_mb": self.memory_total_mb,
            "busy_percent": self.busy_percent, "memory_busy_percent": self.memory_busy_percent,
            "power_watts": self.power_watts,
        })
    }
}

/// What GPUs this machine has.
#[derive(Clone, Debug, PartialEq)]
pub struct Cards {
    /// The name of the first.
    pub name: String,
    /// Its memory, in MB.
    pub memory_mb: Option<f64>,
    /// How many there are.
    pub count: u32,
    /// The version of the driver.
    pub driver: Option<String>,
}

/// The GPUs of this machine.
///
/// # Errors
/// Says why there are no figures.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    gpus_of(library()?)
}

/// What GPUs this machine has; none where there is not one.
///
/// # Errors
/// Says why that is not known.
pub fn cards() -> Result<Option<Cards>, String> {
    cards_of(library()?)
}

/// The library, opened once.
fn library() -> Result<&'static Nvml, String> {
    static LIBRARY: OnceLock<Result<Nvml, String>> = OnceLock::new();
    LIBRARY.get_or_init(|| open(&LIBRARIES)).as_ref().map_err(Clone::clone)
}

/// The first library of these that can be opened.
fn open(names: &[&str]) -> Result<Nvml, String> {
    let mut why = Vec::new();
    for name in names {
        match Nvml::builder().lib_path(name.as_ref()).init() {
            Ok(nvml) => return Ok(nvml),
            Err(error) => why.push(error.to_string()),
        }
    }
    Err(format!("the library of NVIDIA's driver: {}", why.join("; ")))
}

fn gpus_of(nvml: &Nvml) -> Result<Vec<Gpu>, String> {
    devices(nvml)?
        .map(|(index, device)| {
            let device = device?;
            let memory = told(device.memory_info())?;
            let busy = told(device.utilization_rates())?;
            let milliwatts = told(device.power_usage())?;
            Ok(Gpu {
                index,
                memory_used_mb: memory.as_ref().map(|memory| memory.used as f64 / MB),
                memory_total_mb: memory.as_ref().map(|memory| memory.total as f64 / MB),
                busy_percent: busy.as_ref().map(|busy| f64::from(busy.gpu)),
                memory_busy_percent: busy.as_ref().map(|busy| f64::from(busy.memory)),
                power_watts: milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            })
        })
        .collect()
}

fn cards_of(nvml: &Nvml) -> Result<Option<Cards>, String> {
    let mut devices = devices(nvml)?;
    let Some((_, first)) = devices.next() else { return Ok(None) };
    let first = first?;
    Ok(Some(Cards {
        name: told(first.name())?.unwrap_or_else(|| "unknown".into()),
        memory_mb: told(first.memory_info())?.map(|memory| memory.total as f64 / MB),
        count: 1 + devices.count() as u32,
        driver: told(nvml.sys_driver_version())?,
    }))
}

/// The devices by their numbers.
fn devices(nvml: &Nvml) -> Result<impl Iterator<Item = (u32, Result<Device<'_>, String>)>, String> {
    let count = nvml.device_count().map_err(|error| error.to_string())?;
    let device = |index| nvml.device_by_index(index).map_err(|error| format!("GPU {index}: {error}"));
    Ok((0..count).map(move |index| (index, device(index))))
}

/// What a device says; none where it does not say that.
fn told<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, String> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(NvmlError::NotSupported | NvmlError::NoPermission | NvmlError::FailedToLoadSymbol(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// A library with the functions of NVML that are called here, of a machine with a whole card and one that is in parts.
    fn scripted(folder: &tempfile::TempDir) -> PathBuf {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nvml/scripted.rs");
        let library = folder.path().join("libscripted.so");
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut compile = Command::new(compiler);
        compile.args(["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", source, "-o"]);
        assert!(compile.arg(&library).status().expect("a compiler").success());
        library
    }

    #[test]
    fn what_a_card_does_not_tell_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let library = scripted(&folder);
        let library = library.to_str().expect("UTF-8");
        let nvml = open(&["libthere-is-none.so", library]).unwrap();
        let [whole, parted] = &gpus_of(&nvml).unwrap()[..] else { panic!("two are expected") };
        assert_eq!(
            (whole.index, whole.memory_used_mb, whole.memory_total_mb),
            (0, Some(512.0), Some(81559.0))
        );
        assert_eq!((whole.busy_percent, whole.memory_busy_percent), (Some(37.0), Some(12.0)));
        assert_eq!(whole.power_watts, Some(103.22));
        assert_eq!((parted.index, parted.memory_used_mb), (1, Some(5.0)));
        assert_eq!((parted.busy_percent, parted.memory_busy_percent, parted.power_watts), (None, None, None));
        assert_eq!(parted.json()["busy_percent"], Value::Null);
        let cards = cards_of(&nvml).unwrap().unwrap();
        assert_eq!((cards.name.as_str(), cards.count, cards.memory_mb), ("Scripted GPU", 2, Some(81559.0)));
        assert_eq!(cards.driver.as_deref(), Some("570.1"));
    }

    #[test]
    fn without_a_driver_it_is_said_why() {
        let Err(why) = open(&["libthere-is-none.so.1", "libthere-is-none.so"]) else {
            panic!("it was opened")
        };
        assert!(why.contains("libthere-is-none.so.1: ") && why.contains("libthere-is-none.so: "), "{why}");
    }
}
