//! What an experiment is given: servers, sizes, repetitions.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::api::Api;
use super::pie::{Pie, Start};
use crate::commands::child::Children;

/// The servers, or how they are started.
#[derive(Clone, Debug)]
pub struct Servers {
    /// A pie that runs.
    pub pie: Option<String>,
    /// Servers for the same work from outside.
    pub baselines: Vec<String>,
    /// Key for all of them.
    pub api_key: Option<String>,
    /// What is started where no pie runs.
    pub binary: PathBuf,
    /// Models for it.
    pub models: Vec<String>,
    /// Threads for it.
    pub threads: Option<usize>,
    /// Folder of built programs; without one a pie that is started has its own.
    pub programs: Option<PathBuf>,
    /// Whose a started pie becomes one of.
    pub children: Children,
}

impl Servers {
    /// pie with the first model.
    ///
    /// # Errors
    /// When it does not answer or start.
    pub fn pie(&self) -> anyhow::Result<Pie> {
        match &self.pie {
            Some(url) => Pie::connect(url, self.api_key.clone()),
            None => self.start(&self.models[0], None),
        }
    }

    /// A pie of its own, with a model and a batching strategy.
    ///
    /// # Errors
    /// When it does not start, or `--pie` names one, which cannot be told how to start.
    pub fn start(&self, model: &str, strategy: Option<&str>) -> anyhow::Result<Pie> {
        if let Some(url) = &self.pie {
            bail!("pie must be started with other settings; leave --pie out, which is {url}");
        }
        let whole = |folder: &PathBuf| {
            let whole = folder.canonicalize();
            whole.with_context(|| format!("--programs or PIE_PROGRAMS: no folder `{}`", folder.display()))
        };
        let programs = self.programs.as_ref().map(whole).transpose()?;
        let start = Start {
            binary: self.binary.clone(),
            model: model.to_string(),
            threads: self.threads,
            strategy: strategy.map(str::to_string),
            programs,
        };
        Pie::start(&start, self.api_key.clone(), &self.children)
    }

    /// The first baseline, if there is one.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn baseline(&self) -> anyhow::Result<Option<Api>> {
        self.baselines.first().map(|url| Api::connect(url, self.api_key.clone())).transpose()
    }
}

/// What an experiment is given.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The servers.
    pub servers: Servers,
    /// Factor on the paper's sizes.
    pub scale: f64,
    /// Repetitions of each measurement.
    pub repeats: usize,
    /// Names of workloads; all where there are none.
    pub only: Vec<String>,
    /// Sources of the programs.
    pub inferlets: PathBuf,
}

impl Setting {
    /// A size of the paper on this machine; at least one.
    pub fn size(&self, paper: usize) -> usize {
        ((paper as f64 * self.scale).round() as usize).max(1)
    }

    /// Different sizes of the paper on this machine, the smallest first.
    pub fn sizes(&self, paper: &[usize]) -> Vec<usize> {
        let mut sizes: Vec<usize> = paper.iter().map(|size| self.size(*size)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Whether bounds are the paper's, too.
    pub fn is_full(&self) -> bool {
        self.scale >= 1.0
    }

    /// Whether a workload is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Those of a table that are wanted.
    ///
    /// # Errors
    /// When none is, with the names that there are.
    pub fn wanted<T: Copy>(&self, all: &[T], name: impl Fn(&T) -> &'static str) -> anyhow::Result<Vec<T>> {
        let wanted: Vec<T> = all.iter().filter(|one| self.wants(name(one))).copied().collect();
        if wanted.is_empty() {
            let names: Vec<&str> = all.iter().map(name).collect();
            bail!("--only: found {}, expected some of {}", self.only.join(","), names.join(", "));
        }
        Ok(wanted)
    }
}
