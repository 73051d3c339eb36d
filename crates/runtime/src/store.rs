//! The key-value store behind the `store` interface: one database file, a namespace for each user.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use redb::{Database, ReadableDatabase, TableDefinition};

use crate::error::{ApiError, check_length};

/// `(user, key)` -> value.
const TABLE: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("store");

/// Bytes of a key and of a value at most: a value crosses the boundary of the program whole.
const KEY_BYTES: usize = 1024;
const VALUE_BYTES: usize = 16 << 20;

/// The store of all users. Its file is opened when a program first uses it: only one server at a time can hold it, and
/// most programs do without.
pub(crate) struct Store {
    file: Option<PathBuf>,
    database: OnceLock<Result<Arc<Database>, String>>,
}

/// The store as one user sees it.
pub(crate) struct UserStore {
    database: Arc<Database>,
    user: String,
}

impl Store {
    /// A store in a database file, made when it is not there; in memory without one.
    pub(crate) fn new(file: Option<PathBuf>) -> Store {
        Store { file, database: OnceLock::new() }
    }

    /// Calls that use it now.
    pub(crate) fn calls(&self) -> usize {
        self.database.get().and_then(|opened| opened.as_ref().ok()).map_or(0, |d| Arc::strong_count(d) - 1)
    }

    pub(crate) fn of(&self, user: &str) -> Result<UserStore, ApiError> {
        let open = || open(self.file.as_deref()).map(Arc::new).map_err(|error| error.to_string());
        let path = || self.file.as_deref().unwrap_or(Path::new("")).display();
        match self.database.get_or_init(open) {
            Ok(database) => Ok(UserStore { database: database.clone(), user: user.to_string() }),
            Err(reason) => {
                Err(ApiError::Denied(format!("the store `{}` cannot be opened: {reason}", path())))
            }
        }
    }
}

fn open(file: Option<&Path>) -> Result<Database, redb::Error> {
    let database = match file {
        Some(file) => Database::create(file)?,
        None => Database::builder().create_with_backend(redb::backends::InMemoryBackend::new())?,
    };
    // A read of a table that was never made would be an error.
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(database)
}

fn check_key(key: &str) -> Result<(), ApiError> {
    check_length("the key", key.len(), KEY_BYTES)
}

fn failed(error: impl Into<redb::Error>) -> ApiError {
    ApiError::Backend(format!("the store failed: {}", error.into()))
}

impl UserStore {
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ApiError> {
        check_key(key)?;
        let table = self.database.begin_read().map_err(failed)?.open_table(TABLE).map_err(failed)?;
        let value = table.get((self.user.as_str(), key)).map_err(failed)?;
        Ok(value.map(|v| v.value().to_vec()))
    }

    pub(crate) fn keys(&self, prefix: &str) -> Result<Vec<String>, ApiError> {
        check_key(prefix)?;
        let table = self.database.begin_read().map_err(failed)?.open_table(TABLE).map_err(failed)?;
        let mut keys = Vec::new();
        for entry in table.range((self.user.as_str(), prefix)..).map_err(failed)? {
            let (key, _) = entry.map_err(failed)?;
            let (user, key) = key.value();
            if user != self.user || !key.starts_with(prefix) {
                break;
            }
            keys.push(key.to_string());
        }
        Ok(keys)
    }

    /// Sets a value. It is on disk when this returns.
    pub(crate) async fn set(self, key: String, value: Vec<u8>) -> Result<(), ApiError> {
        check_key(&key)?;
        check_length("the value", value.len(), VALUE_BYTES)?;
        self.write(move |table, user| table.insert((user, key.as_str()), value.as_slice()).map(|_| ())).await
    }

    /// Deletes a key; whether it was there.
    pub(crate) async fn delete(self, key: String) -> Result<bool, ApiError> {
        check_key(&key)?;
        self.write(move |table, user| table.remove((user, key.as_str())).map(|old| old.is_some())).await
    }

    async fn write<R: Send + 'static>(
        self,
        change: impl FnOnce(&mut redb::Table<'_, (&str, &str), &[u8]>, &str) -> Result<R, redb::StorageError>
        + Send
        + 'static,
    ) -> Result<R, ApiError> {
        let commit = move || {
            let transaction = self.database.begin_write().map_err(failed)?;
            let result =
                change(&mut transaction.open_table(TABLE).map_err(failed)?, &self.user).map_err(failed)?;
            transaction.commit().map_err(failed)?;
            Ok(result)
        };
        // A commit waits for the disk.
        tokio::task::spawn_blocking(commit).await.map_err(|e| ApiError::Backend(e.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn users_do_not_see_each_other_and_keys_are_sorted() {
        let store = Store::new(None);
        for (user, key) in [("ann", "b/2"), ("ann", "b/1"), ("ann", "c"), ("bob", "b/9")] {
            store.of(user).unwrap().set(key.into(), key.as_bytes().to_vec()).await.unwrap();
        }
        assert_eq!(store.of("ann").unwrap().keys("b/").unwrap(), ["b/1", "b/2"]);
        assert_eq!(store.of("bob").unwrap().get("c").unwrap(), None);
        assert!(store.of("ann").unwrap().delete("c".into()).await.unwrap());
        assert!(!store.of("ann").unwrap().delete("c".into()).await.unwrap());
    }

    #[tokio::test]
    async fn values_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.redb");
        Store::new(Some(file.clone())).of("ann").unwrap().set("k".into(), vec![7]).await.unwrap();
        assert_eq!(Store::new(Some(file.clone())).of("ann").unwrap().get("k").unwrap(), Some(vec![7]));
    }

    #[tokio::test]
    async fn a_key_or_value_too_long_is_refused() {
        let store = Store::new(None);
        let store = || store.of("ann").unwrap();
        let long = "k".repeat(KEY_BYTES + 1);
        let refused = [
            store().get(&long).err(),
            store().keys(&long).err(),
            store().delete(long.clone()).await.err(),
            store().set(long, vec![]).await.err(),
            store().set("k".into(), vec![0; VALUE_BYTES + 1]).await.err(),
        ];
        for refused in refused {
            assert!(matches!(refused, Some(ApiError::LimitExceeded(_))), "{refused:?}");
        }
    }
}
