//! Which program answers which path.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use runtime::Service;

use crate::routes::ROUTES;

/// Programs by the path below which each is mounted.
#[derive(Default)]
pub struct Mounts(RwLock<BTreeMap<String, Arc<Service>>>);

/// Why a program cannot be mounted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not a path.
    #[error(
        "`{0}` is not a path to serve: expected `/`, or names of letters, digits, `-`, `_` and `.` each after a `/`"
    )]
    Path(String),
    /// Another program has it.
    #[error("`{0}` is served already; end that with `unserve {0}`")]
    Taken(String),
    /// The server's own.
    #[error("`{0}` is the server's own; choose another path")]
    Reserved(String),
}

impl Mounts {
    fn programs(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn programs_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a program answer a path and all below it. The longest path that fits a request decides.
    ///
    /// # Errors
    /// When the path is malformed, taken or the server's own.
    pub fn mount(&self, path: &str, service: Service) -> Result<(), MountError> {
        let path = normalize_mount(path)?;
        let mut programs = self.programs_mut();
        if programs.contains_key(&path) {
            return Err(MountError::Taken(path));
        }
        programs.insert(path, Arc::new(service));
        Ok(())
    }

    /// Frees a path; whether anything answered it. Requests that are being answered go on.
    pub fn unmount(&self, path: &str) -> bool {
        let Ok(path) = normalize_mount(path) else { return false };
        self.programs_mut().remove(&path).is_some()
    }

    /// The paths and the programs that answer them.
    pub fn list(&self) -> Vec<(String, String)> {
        self.programs().iter().map(|(path, service)| (path.clone(), service.label().to_string())).collect()
    }

    /// The program that answers `path`, and where it is mounted.
    pub(crate) fn find(&self, path: &str) -> Option<(Arc<Service>, String)> {
        let programs = self.programs();
        let fitting = programs.iter().filter(|(mount, _)| strip_mount(path, mount).is_some());
        fitting.max_by_key(|(mount, _)| mount.len()).map(|(mount, service)| (service.clone(), mount.clone()))
    }
}

/// A path as it is kept: no slash at its end, unless it is nothing else.
fn normalize_mount(path: &str) -> Result<String, MountError> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let name = |name: &str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && name.chars().all(valid) && !name.chars().all(|c| c == '.')
    };
    match trimmed.strip_prefix('/') {
        None if path == "/" => Ok("/".to_string()),
        Some(names) if names.split('/').all(name) => match ROUTES.iter().any(|route| route.path == trimmed) {
            true => Err(MountError::Reserved(trimmed.to_string())),
            false => Ok(trimmed.to_string()),
        },
        _ => Err(MountError::Path(path.to_string())),
    }
}

/// What remains of `path` below `mount`; none when it is not below.
pub(crate) fn strip_mount<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(mount.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        for (path, expected) in [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a.b/c-d_e", "/a.b/c-d_e")] {
            assert_eq!(normalize_mount(path).as_deref(), Ok(expected));
        }
        for path in ["", "a", "//", "/a//b", "/a b", "/..", "/a/./b", "/a?b", "/%61"] {
            assert_eq!(normalize_mount(path), Err(MountError::Path(path.into())));
        }
        for route in ROUTES {
            let with_slash = format!("{}/", route.path);
            assert_eq!(normalize_mount(&with_slash), Err(MountError::Reserved(route.path.into())));
        }
    }

    #[test]
    fn a_prefix_ends_where_a_name_ends() {
        assert_eq!(strip_mount("/a/b", "/a"), Some("/b"));
        assert_eq!(strip_mount("/a", "/a"), Some(""));
        assert_eq!(strip_mount("/ab", "/a"), None);
        assert_eq!(strip_mount("/x/y", "/"), Some("/x/y"));
    }
}
