//! The binary's own copy of the SDK, as files: what programs depend on outside of a checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bundled::SDK;
use crate::home::Home;

/// Says which SDK a folder has.
const STAMP: &str = ".hash";

/// The folder of the SDK for programs of this version, written where it is missing or of another build. It has `rust`
/// (the crate `inferlet`) and `openai` (`inferlet-openai`).
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn unpack(home: &Home) -> Result<PathBuf> {
    let folder = home.sdk();
    unpack_into(&folder, SDK).with_context(|| format!("cannot write the SDK to {}", folder.display()))?;
    Ok(folder)
}

/// Puts the files beside the folder first: cargo, or another `pie`, never sees half of them.
fn unpack_into(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    for (path, text) in files {
        hasher.update(format!("{path} {}\n{text}", text.len()).as_bytes());
    }
    let hash = hasher.finalize().to_hex().to_string();
    let is_there = |folder: &Path| fs::read_to_string(folder.join(STAMP)).is_ok_and(|there| there == hash);
    if is_there(folder) {
        return Ok(());
    }
    let above = folder.parent().context("the SDK's folder has none above it")?;
    fs::create_dir_all(above)?;
    let fresh = tempfile::tempdir_in(above)?;
    for (path, text) in files {
        let file = fresh.path().join(path);
        fs::create_dir_all(file.parent().expect("below the folder"))?;
        fs::write(file, text)?;
    }
    fs::write(fresh.path().join(STAMP), &hash)?;
    let old = tempfile::tempdir_in(above)?;
    if folder.exists() {
        // A folder takes the place of an empty one.
        fs::rename(folder, old.path())?;
    }
    let fresh = fresh.keep();
    match fs::rename(&fresh, folder) {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = fs::remove_dir_all(&fresh);
            // Another `pie` was faster.
            if is_there(folder) { Ok(()) } else { Err(error.into()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_written_once_and_again_when_they_are_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("sdk/1");
        unpack_into(&folder, &[("rust/src/lib.rs", "one"), ("rust/old.rs", "")]).unwrap();
        assert_eq!(fs::read_to_string(folder.join("rust/src/lib.rs")).unwrap(), "one");

        fs::write(folder.join("rust/src/lib.rs"), "by hand").unwrap();
        unpack_into(&folder, &[("rust/src/lib.rs", "one"), ("rust/old.rs", "")]).unwrap();
        assert_eq!(fs::read_to_string(folder.join("rust/src/lib.rs")).unwrap(), "by hand", "it was there");

        unpack_into(&folder, &[("rust/src/lib.rs", "two")]).unwrap();
        assert_eq!(fs::read_to_string(folder.join("rust/src/lib.rs")).unwrap(), "two");
        assert!(!folder.join("rust/old.rs").exists());
        let left = fs::read_dir(home.path().join("sdk")).unwrap().count();
        assert_eq!(left, 1, "nothing is left beside it");
    }

    #[test]
    fn the_sdk_is_whole() {
        let paths: Vec<&str> = SDK.iter().map(|(path, _)| *path).collect();
        for needed in [
            "rust/Cargo.toml",
            "rust/src/lib.rs",
            "rust/macros/src/lib.rs",
            "rust/wit/world.wit",
            "openai/Cargo.toml",
        ] {
            assert!(paths.contains(&needed), "{needed} is missing among {paths:?}");
        }
    }
}
