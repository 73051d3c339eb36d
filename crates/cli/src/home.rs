//! Where pie keeps its files, and what the environment says.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use model_store::StoreSettings;

/// The folders under `PIE_HOME`.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// From `PIE_HOME`, else the user's data directory.
    pub(crate) fn find() -> Result<Home> {
        if let Some(root) = env::var_os("PIE_HOME").filter(|root| !root.is_empty()) {
            return Ok(Home { root: root.into() });
        }
        let base = etcetera::choose_base_strategy().context("no home directory is known: set PIE_HOME")?;
        Ok(Home { root: base.data_dir().join("pie") })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// Models, one folder each.
    pub(crate) fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Programs that can be launched by name.
    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// The source of the SDK, of this version.
    pub(crate) fn sdk(&self) -> PathBuf {
        self.root.join("sdk").join(env!("CARGO_PKG_VERSION"))
    }

    /// Compiled programs.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The store and saved contexts.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The file of keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys.toml")
    }

    /// Adapters that programs can load by name.
    pub(crate) fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }
}

/// Folders with programs: `PIE_PROGRAMS` (a path list), then `PIE_HOME/programs`.
pub(crate) fn program_folders(home: &Home) -> Vec<PathBuf> {
    let listed = env::var_os("PIE_PROGRAMS").unwrap_or_default();
    env::split_paths(&listed).filter(|p| !p.as_os_str().is_empty()).chain([home.programs()]).collect()
}

/// How the store reaches the Hugging Face hub.
pub(crate) fn store_settings() -> StoreSettings {
    let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let mut settings = StoreSettings::default();
    if let Some(endpoint) = given("HF_ENDPOINT") {
        settings.hub = endpoint.trim_end_matches('/').to_string();
    }
    settings.hub_token = given("HF_TOKEN");
    settings.is_offline = given("HF_HUB_OFFLINE").is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"));
    settings
}
