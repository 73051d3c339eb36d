//! `pie doctor`: is everything in place, and what to do where it is not.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use kernels::{Isa, measure};
use model_store::{DEFAULT_MODEL, ModelStore};
use serde::Serialize;

use crate::bundled::PROGRAMS;
use crate::home::{Home, program_folders, store_settings};
use crate::output;

/// Flags of `pie doctor`.
#[derive(Args)]
pub(crate) struct DoctorFlags {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    good: bool,
    found: String,
    /// What to do; empty where nothing is.
    hint: String,
}

pub(crate) async fn doctor(flags: &DoctorFlags) -> Result<()> {
    let home = Home::find()?;
    let findings = [processor(), folder(&home.root()), models(&home), programs(&home), threads()];
    for finding in &findings {
        if flags.json {
            output::line(serde_json::to_string(finding)?)?;
            continue;
        }
        let mark = if finding.good { "ok  " } else { "FAIL" };
        output::line(format_args!("{mark} {}: {}", finding.check, finding.found))?;
        if !finding.hint.is_empty() {
            output::line(format_args!("     hint: {}", finding.hint))?;
        }
    }
    match findings.iter().filter(|finding| !finding.good).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed", findings.len()),
    }
}

fn processor() -> Finding {
    let isa = Isa::detect();
    let slow = isa == Isa::SCALAR;
    Finding {
        check: "processor",
        good: true,
        found: format!(
            "{} kernels, {:.0} int8 GOP/s on one thread",
            isa.name(),
            measure::int8_rate(isa, 1) / 1e9
        ),
        hint: if slow {
            "no fast kernels for this processor: models run, slowly".into()
        } else {
            String::new()
        },
    }
}

fn threads() -> Finding {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let isa = Isa::detect();
    let (one, all) = (measure::int8_rate(isa, 1), measure::int8_rate(isa, threads));
    let share = all / (one * threads as f64);
    Finding {
        check: "threads",
        good: true,
        found: format!("{threads}, together {:.1} times the rate of one", all / one),
        hint: match share < 0.75 {
            true => {
                "the machine is busy, or its threads share cores: figures measured now are too low".into()
            }
            false => String::new(),
        },
    }
}

fn folder(root: &Path) -> Finding {
    let probe = root.join(".doctor");
    let written = std::fs::create_dir_all(root).and_then(|()| std::fs::write(&probe, b"x"));
    let _ = std::fs::remove_file(&probe);
    Finding {
        check: "PIE_HOME",
        good: written.is_ok(),
        found: match &written {
            Ok(()) => format!("{} can be written", root.display()),
            Err(error) => format!("{}: {error}", root.display()),
        },
        hint: if written.is_ok() { String::new() } else { "set PIE_HOME to a folder of yours".into() },
    }
}

fn models(home: &Home) -> Finding {
    let listed = ModelStore::open(&home.models(), store_settings()).and_then(|store| store.list());
    let (good, found) = match &listed {
        Ok(models) if models.is_empty() => (false, "none".to_string()),
        Ok(models) => (true, models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ")),
        Err(error) => (false, error.to_string()),
    };
    let hint =
        if good { String::new() } else { format!("`pie model add {DEFAULT_MODEL}` fetches the default one") };
    Finding { check: "models", good, found, hint }
}

fn programs(home: &Home) -> Finding {
    let folders = program_folders(home);
    let count = |folder: &std::path::PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|e| e.path().extension().is_some_and(|x| x == "wasm")).count()
    };
    let found: usize = folders.iter().map(count).sum();
    let bundled = PROGRAMS.len();
    Finding {
        check: "programs",
        good: true,
        found: format!("{bundled} come with pie, {found} in PIE_PROGRAMS and PIE_HOME/programs"),
        hint: String::new(),
    }
}
