//! A Python wheel that carries the binary (the binary distribution format of packaging.python.org): `pip install` puts
//! `pie` beside the interpreter.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Needs, Packed, VERSION, mode};

/// `pie_server-VERSION-py3-none-manylinux_2_N_PROCESSOR.whl`.
pub(super) fn write(folder: &Path, needs: &Needs, files: &[Packed]) -> Result<PathBuf> {
    let tag = format!("py3-none-manylinux_2_{}_{}", needs.glibc, needs.processor);
    let path = folder.join(format!("pie_server-{VERSION}-{tag}.whl"));
    let mut wheel = Wheel { zip: ZipWriter::new(File::create(&path)?), record: String::new() };
    let about = format!("pie_server-{VERSION}.dist-info");
    for file in files {
        let path = match file.path.strip_prefix("bin/") {
            Some(name) => format!("pie_server-{VERSION}.data/scripts/{name}"),
            None => format!("pie_server-{VERSION}.data/data/{}", file.path),
        };
        wheel.add(&path, &file.bytes, mode(file.is_program))?;
    }
    let readme = files.iter().find(|file| file.path.ends_with("README.md")).context("there is a README")?;
    let metadata = format!(
        "Metadata-Version: 2.1\nName: pie-server\nVersion: {VERSION}\nSummary: Programmable server of language models\n\
         License: Apache-2.0\nDescription-Content-Type: text/markdown\n\n{}",
        String::from_utf8_lossy(&readme.bytes)
    );
    wheel.add(&format!("{about}/METADATA"), metadata.as_bytes(), mode(false))?;
    let kind = format!("Wheel-Version: 1.0\nGenerator: xtask\nRoot-Is-Purelib: false\nTag: {tag}\n");
    wheel.add(&format!("{about}/WHEEL"), kind.as_bytes(), mode(false))?;
    wheel.finish(&format!("{about}/RECORD"))?;
    Ok(path)
}

struct Wheel {
    zip: ZipWriter<File>,
    /// A line for each file: its path, hash and size.
    record: String,
}

impl Wheel {
    fn add(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(bytes));
        self.record += &format!("{path},sha256={hash},{}\n", bytes.len());
        self.put(path, bytes, mode)
    }

    fn put(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.zip.start_file(path, SimpleFileOptions::default().unix_permissions(mode))?;
        self.zip.write_all(bytes)?;
        Ok(())
    }

    /// The list is the last file, and has no hash of itself.
    fn finish(mut self, path: &str) -> Result<()> {
        let record = format!("{}{path},,\n", self.record);
        self.put(path, record.as_bytes(), mode(false))?;
        self.zip.finish()?;
        Ok(())
    }
}
