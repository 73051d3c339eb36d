//! The programs that are installed on this machine: files `NAME@VERSION.wasm` in a folder, which the server launches by name.
//!
//! Each file is written whole or not at all, and none takes the place of another: a version is one program.

use std::path::{Path, PathBuf};

use crate::files::write_atomically;
use crate::uploads::is_name;

/// Why a program is not installed or not removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not a name.
    #[error(
        "`{0}` is no name of a program: expected `NAME@VERSION` of letters, digits, `-`, `_` and `.`, each beginning with a \
        letter or digit, of at most 128 bytes"
    )]
    Name(String),
    /// The name stands for another program.
    #[error("`{0}` is installed and is another program; raise the version, or `pie remove {0}` first")]
    Taken(String),
    /// No such program is installed.
    #[error("no program `{name}` is installed in {folder}; installed are: {known}", folder = folder.display())]
    Unknown {
        /// The name.
        name: String,
        /// Where programs are installed.
        folder: PathBuf,
        /// Those that are.
        known: String,
    },
    /// Several versions of a name are installed.
    #[error("of `{name}` several versions are installed: say which of {versions}")]
    Several {
        /// The name.
        name: String,
        /// The versions.
        versions: String,
    },
    /// A file cannot be written, read or removed.
    #[error("cannot change `{path}`: {reason}", path = path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
}

/// A folder of installed programs.
pub struct InstalledPrograms {
    folder: PathBuf,
}

impl InstalledPrograms {
    /// Those in a folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> InstalledPrograms {
        InstalledPrograms { folder }
    }

    /// Keeps the bytes of a program, which are not looked at, under `NAME@VERSION`. They are on disk when this returns.
    ///
    /// # Errors
    /// When the name is none or stands for other bytes, and when the file cannot be written.
    pub fn install(&self, name: &str, wasm: &[u8]) -> Result<PathBuf, InstallError> {
        if !is_name(name) {
            return Err(InstallError::Name(name.chars().take(128).collect()));
        }
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(there) if there == wasm => return Ok(path),
            Ok(_) => return Err(InstallError::Taken(name.to_string())),
            Err(reason) if reason.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&path, reason));
            }
            Err(_) => {}
        }
        write_atomically(&path, wasm).map_err(|reason| failed(&path, reason))?;
        Ok(path)
    }

    /// Takes a program away, by `NAME@VERSION`, or by `NAME` where one version of it is installed. What it was called.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn remove(&self, name: &str) -> Result<String, InstallError> {
        let known = self.names()?;
        let is_meant =
            |known: &&String| *known == name || known.split_once('@').is_some_and(|(known, _)| known == name);
        let meant: Vec<&String> = known.iter().filter(is_meant).collect();
        let meant = match meant[..] {
            [one] => one,
            [] => {
                let (folder, known) = (self.folder.clone(), known.join(", "));
                return Err(InstallError::Unknown { name: name.chars().take(128).collect(), folder, known });
            }
            _ => {
                let versions = meant.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
                return Err(InstallError::Several { name: name.to_string(), versions });
            }
        };
        let path = self.path(meant);
        std::fs::remove_file(&path).map_err(|reason| failed(&path, reason))?;
        Ok(meant.clone())
    }

    /// The names of those there are, sorted.
    fn names(&self) -> Result<Vec<String>, InstallError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(reason) => return Err(failed(&self.folder, reason)),
        };
        let files = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let names = files.filter_map(|file| Some(file.strip_suffix(".wasm")?.to_string()));
        let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }
}

fn failed(path: &Path, reason: std::io::Error) -> InstallError {
    InstallError::Storage { path: path.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_program_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let programs = InstalledPrograms::new(folder.path().join("programs"));
        assert!(matches!(programs.remove("drafts"), Err(InstallError::Unknown { .. })));
        let path = programs.install("drafts@0.1.0", b"one").unwrap();
        programs.install("drafts@0.1.0", b"one").unwrap();
        assert!(matches!(programs.install("drafts@0.1.0", b"other"), Err(InstallError::Taken(_))));
        assert_eq!(std::fs::read(path).unwrap(), b"one", "what is refused changes nothing");
        programs.install("drafts@0.2.0", b"two").unwrap();
        let several = programs.remove("drafts").unwrap_err().to_string();
        assert!(several.ends_with("drafts@0.1.0, drafts@0.2.0"), "{several}");
        assert_eq!(programs.remove("drafts@0.1.0").unwrap(), "drafts@0.1.0");
        assert_eq!(programs.remove("drafts").unwrap(), "drafts@0.2.0");
        assert_eq!(std::fs::read_dir(folder.path().join("programs")).unwrap().count(), 0);
    }

    #[test]
    fn a_name_stays_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let programs = InstalledPrograms::new(folder.path().join("programs"));
        for name in ["", "drafts", "../a@1", "a@../b", "a/b@1", "a@1.part", "@1", "a@", "é@1"] {
            assert!(matches!(programs.install(name, b"x"), Err(InstallError::Name(_))), "{name}");
            assert!(programs.remove(name).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
