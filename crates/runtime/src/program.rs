//! Programs: from bytes to something that starts in microseconds.
//!
//! A program is compiled once. The machine code is kept in the cache folder under the hash of the WebAssembly
//! and of everything in this build that decides whether the code still fits, so the next start of the server
//! maps it.

mod catalog;

use std::path::PathBuf;
use std::sync::Arc;

use inferlet_manifest::{ArgumentError, Manifest};
use wasmtime::component::Component;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::host::HostState;
use crate::host::bindings::InferletPre;

pub use catalog::Bundled;
pub(crate) use catalog::Programs;

/// Package and version of the API that programs are made for.
const API: &str = "pie:inferlet/";
/// Its version, which programs must be made for.
pub const API_VERSION: &str = "0.3.0";
/// Bytes of a page of linear memory.
const WASM_PAGE: u64 = 65536;
/// Bytes of a program at most.
const PROGRAM_BYTES: usize = 256 << 20;

/// What answers HTTP requests, whatever its patch version.
const HANDLER: &str = "wasi:http/handler@0.3.";

/// A program ready to be launched, or to serve HTTP. It exports `run`, the WASI HTTP handler, or both.
pub struct Program {
    hash: String,
    name: Option<String>,
    /// Whether a user brought it, who chose its name.
    is_uploaded: bool,
    pub(crate) run: Option<InferletPre<HostState>>,
    pub(crate) handler: Option<ServicePre<HostState>>,
    needs: Option<Needs>,
    manifest: Option<Arc<Manifest>>,
}

/// What a program takes when it is launched, before it asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Linear memories.
    pub memories: u32,
    /// Bytes of the largest of them.
    pub memory_bytes: u64,
    /// Tables.
    pub tables: u32,
    /// Elements of the largest of them.
    pub table_elements: u64,
}

impl Needs {
    fn of(component: &Component) -> Option<Needs> {
        let required = component.resources_required()?;
        Some(Needs {
            memories: required.num_memories,
            memory_bytes: required.max_initial_memory_size.unwrap_or(0) * WASM_PAGE,
            tables: required.num_tables,
            table_elements: required.max_initial_table_size.unwrap_or(0),
        })
    }
}

impl Program {
    /// BLAKE3 hash of the WebAssembly, in hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether it can be launched: it exports `run`.
    pub fn runs(&self) -> bool {
        self.run.is_some()
    }

    /// Whether it answers HTTP requests: it exports the WASI HTTP handler.
    pub fn answers_http(&self) -> bool {
        self.handler.is_some()
    }

    /// What it takes at its launch; none where that depends on what is given to it.
    pub fn needs(&self) -> Option<Needs> {
        self.needs
    }

    /// What it says of itself; none where it says nothing.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_deref()
    }

    /// Whether it takes these arguments, as far as it says what it takes.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_arguments(&self, arguments: &[String]) -> Result<(), ArgumentError> {
        self.manifest().map_or(Ok(()), |manifest| manifest.check(arguments))
    }

    /// Its name where it has one, else the beginning of its hash.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.hash[..12])
    }

    /// What a key's list of programs must have for it: a name that a user gave says nothing about what it is.
    pub(crate) fn listed_as(&self) -> &str {
        if self.is_uploaded { &self.hash } else { self.label() }
    }

    /// The same program of a user, under this name.
    pub(crate) fn called(&self, name: Option<&str>) -> Arc<Program> {
        self.with_name(name, true)
    }

    fn with_name(&self, name: Option<&str>, is_uploaded: bool) -> Arc<Program> {
        let name = name.map(str::to_string);
        let (hash, run, handler) = (self.hash.clone(), self.run.clone(), self.handler.clone());
        let (needs, manifest) = (self.needs, self.manifest.clone());
        Arc::new(Program { hash, name, is_uploaded, run, handler, needs, manifest })
    }
}

/// A program that can be launched by name, as a list shows it.
#[derive(Debug)]
pub struct CatalogEntry {
    /// Its name.
    pub name: String,
    /// Its file; none for one of the binary.
    pub path: Option<PathBuf>,
    /// What it says of itself; none where it says nothing, or nothing sound.
    pub manifest: Option<Manifest>,
}

/// Why some bytes are not a program for this server.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The file cannot be read.
    #[error("cannot read the program `{path}`: {reason}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// No program of that name or hash.
    #[error("no program `{name}`; known are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Names that would work.
        known: String,
    },
    /// Not WebAssembly.
    #[error(
        "the file is not WebAssembly: it begins with {found}; expected a component built with `--target wasm32-wasip2`"
    )]
    NotWasm {
        /// First bytes.
        found: String,
    },
    /// WebAssembly, but a core module.
    #[error(
        "the file is a WebAssembly core module, not a component; build it with `cargo build --target wasm32-wasip2 --release`"
    )]
    NotComponent,
    /// Larger than the server takes.
    #[error("the program has {found} bytes, the limit is {PROGRAM_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Made for another version of the API.
    #[error(
        "the program was made for `{found}`, this server offers version {API_VERSION}; rebuild it with the matching `inferlet` crate"
    )]
    ApiVersion {
        /// The interface and version that it imports.
        found: String,
    },
    /// It exports nothing to start.
    #[error(
        "the component exports neither `run` nor the WASI HTTP handler: is `#[inferlet::main]` on its main function, or `#[inferlet::serve]` on the one that answers requests?"
    )]
    NoEntry,
    /// What it says of itself is not sound.
    #[error("what the program says of itself cannot be relied on: {0}; rebuild it with the `inferlet` crate")]
    Manifest(String),
    /// Something it imports is not offered.
    #[error("the program does not fit this server: {0}")]
    Link(String),
    /// The compiler refused it.
    #[error("the program does not compile: {0}")]
    Compile(String),
}
