//! The Hugging Face hub, or a mirror with the same addresses.

use std::path::Path;

use reqwest::blocking::Client;
use serde::Deserialize;

use crate::index::Checksum;
use crate::{Delivery, Phase, Progress, ProgressFn, SourceError, StoreSettings, download};

/// Quantizations in the order of preference, when a repository has several GGUF files and none is named.
const PREFERRED: &[&str] = &["q4_k_m", "q8_0", "q5_k_m", "q4_0", "q4_1", "q6_k", "bf16", "f16", "f32"];

/// Files of a model folder beside its weights; those that are there are fetched.
const SIDE_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// Access to a hub.
pub(crate) struct Hub<'a> {
    pub(crate) client: &'a Client,
    pub(crate) settings: &'a StoreSettings,
}

/// A file of a repository, as the hub lists it.
#[derive(Debug, Clone, Deserialize)]
struct Listed {
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lfs {
    /// SHA-256.
    oid: String,
}

impl Hub<'_> {
    pub(crate) fn deliver(
        &self,
        repository: &str,
        file: Option<&str>,
        checksum: Option<&Checksum>,
        partial: &Path,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Delivery, SourceError> {
        let item = format!("hf:{repository}");
        progress(Progress { phase: Phase::Connecting, item, bytes_done: 0, bytes_total: None });
        let listed = self.list(repository)?;
        let chosen = choose(repository, file, &listed)?;
        let mut files = Vec::new();
        for listed in &chosen {
            let own = Checksum {
                bytes: listed.size,
                // Small files are not in LFS, and the hub knows no SHA-256 of them.
                sha256: listed.lfs.as_ref().map(|lfs| lfs.oid.clone()).unwrap_or_default(),
            };
            let url = format!("{}/{repository}/resolve/main/{}", self.settings.hub, listed.path);
            // Files of folders in the repository are kept flat.
            let name = listed.path.rsplit('/').next().unwrap_or(&listed.path);
            let token = self.settings.hub_token.as_deref();
            let expected = checksum.unwrap_or(&own);
            files.push(download::fetch(self.client, &url, token, partial, name, Some(expected), progress)?);
        }
        let main = match files.as_slice() {
            [single] if single.file.ends_with(".gguf") => Some(single.file.clone()),
            _ => None,
        };
        Ok(Delivery { main, source: format!("hf:{repository}"), files })
    }

    fn list(&self, repository: &str) -> Result<Vec<Listed>, SourceError> {
        let url = format!("{}/api/models/{repository}/tree/main?recursive=true", self.settings.hub);
        let response = download::get(self.client, &url, self.settings.hub_token.as_deref(), 0)?;
        if !response.status().is_success() {
            return Err(SourceError::Status { url, status: response.status().as_u16() });
        }
        response.json().map_err(|error| SourceError::Answer { url, reason: error.to_string() })
    }
}

/// The files to fetch: the named one, else a GGUF file, else a model folder in safetensors.
fn choose(repository: &str, file: Option<&str>, listed: &[Listed]) -> Result<Vec<Listed>, SourceError> {
    let no_file = |reason: String| SourceError::NoFile { repository: repository.to_owned(), reason };
    let find = |path: &str| listed.iter().find(|listed| listed.path == path).cloned();
    if let Some(file) = file {
        let found = find(file)
            .ok_or_else(|| no_file(format!("there is no `{file}`; there are {}", names(listed))))?;
        return if file.to_lowercase().ends_with(".gguf") {
            Ok(vec![found])
        } else {
            Err(no_file(format!("`{file}` is no GGUF file; leave it out to get the whole model")))
        };
    }
    let ggufs: Vec<&Listed> =
        listed.iter().filter(|listed| listed.path.to_lowercase().ends_with(".gguf")).collect();
    if let [only] = ggufs.as_slice() {
        return Ok(vec![(*only).clone()]);
    }
    if !ggufs.is_empty() {
        let by_preference =
            PREFERRED.iter().find_map(|kind| ggufs.iter().find(|listed| is_single_of(&listed.path, kind)));
        return by_preference.map(|&listed| vec![listed.clone()]).ok_or_else(|| {
            no_file(format!("no file in a usual quantization; name one of {}", names(listed)))
        });
    }
    let weights: Vec<Listed> = listed
        .iter()
        .filter(|listed| listed.path.ends_with(".safetensors") && !listed.path.contains('/'))
        .cloned()
        .collect();
    if weights.is_empty() {
        let is_pickle =
            |listed: &Listed| [".bin", ".pt", ".pth"].iter().any(|end| listed.path.ends_with(end));
        return Err(no_file(if listed.iter().any(is_pickle) {
            "it has only pickled weights, which can run any code and are not read; use a version in safetensors or GGUF".to_owned()
        } else {
            "it has neither GGUF nor safetensors files".to_owned()
        }));
    }
    let has = |path: &str| find(path).is_some();
    let has_tokenizer = has("tokenizer.json") || (has("vocab.json") && has("merges.txt"));
    if !has_tokenizer {
        let what = "it has neither tokenizer.json nor vocab.json with merges.txt; use a version in GGUF";
        return Err(no_file(what.to_owned()));
    }
    // The side files first: they are small, and what is wrong with them shows early.
    Ok(SIDE_FILES.iter().filter_map(|path| find(path)).chain(weights).collect())
}

fn is_single_of(path: &str, kind: &str) -> bool {
    let path = path.to_lowercase();
    path.contains(kind) && !path.contains("-of-") && !path.contains("mmproj")
}

fn names(listed: &[Listed]) -> String {
    let names = listed.iter().map(|listed| listed.path.as_str());
    names.filter(|path| path.to_lowercase().ends_with(".gguf")).take(20).collect::<Vec<_>>().join(", ")
}
