//! The key-value store behind the `store` interface: one database file, a namespace for each user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use crate::error::{ApiError, check_length};
use crate::limits::UserLimits;

/// `(user, key)` -> value.
const TABLE: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("store");
/// User -> keys, and bytes of keys and values.
const USAGE: TableDefinition<&str, (u64, u64)> = TableDefinition::new("usage");

/// Bytes of a key and of a value at most: a value crosses the boundary of the program whole.
const KEY_BYTES: usize = 1024;
const VALUE_BYTES: usize = 16 << 20;
/// Bytes of the file that are kept in memory.
const CACHE_BYTES: usize = 64 << 20;
/// Bytes of the keys of one answer.
const LIST_BYTES: usize = 16 << 20;

/// The store of all users. Its file is opened when a program first uses it: only one server at a time can hold it, and
/// most programs do without.
pub(crate) struct Store {
    file: Option<PathBuf>,
    /// Of each user.
    limits: StoreLimits,
    database: OnceLock<Result<Arc<Database>, String>>,
}

/// What one user may have in it.
#[derive(Clone, Copy)]
struct StoreLimits {
    keys: u64,
    bytes: u64,
}

/// The store as one user sees it. Its calls wait for the disk.
pub(crate) struct UserStore {
    database: Arc<Database>,
    limits: StoreLimits,
    user: String,
}

impl Store {
    /// A store in a database file, made when it is not there; in memory without one.
    pub(crate) fn new(file: Option<PathBuf>, limits: &UserLimits) -> Store {
        let limits = StoreLimits { keys: limits.store_keys, bytes: limits.store_bytes };
        Store { file, limits, database: OnceLock::new() }
    }

    /// Calls that use it now.
    pub(crate) fn calls(&self) -> usize {
        self.database.get().and_then(|opened| opened.as_ref().ok()).map_or(0, |d| Arc::strong_count(d) - 1)
    }

    pub(crate) fn of(&self, user: &str) -> Result<UserStore, ApiError> {
        let open = || open(self.file.as_deref()).map(Arc::new).map_err(|error| error.to_string());
        let path = || self.file.as_deref().unwrap_or(Path::new("")).display();
        match self.database.get_or_init(open) {
            Ok(database) => {
                Ok(UserStore { database: database.clone(), limits: self.limits, user: user.to_string() })
            }
            Err(reason) => {
                Err(ApiError::Denied(format!("the store `{}` cannot be opened: {reason}", path())))
            }
        }
    }
}

fn open(file: Option<&Path>) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = match file {
        Some(file) => builder.create(file)?,
        None => builder.create_with_backend(redb::backends::InMemoryBackend::new())?,
    };
    // A read of a table that was never made would be an error.
    let transaction = database.begin_write()?;
    count_usage(&transaction)?;
    transaction.commit()?;
    Ok(database)
}

/// Counts what users have in a store that was written before this was counted.
fn count_usage(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let table = transaction.open_table(TABLE)?;
    let mut usage = transaction.open_table(USAGE)?;
    if !usage.is_empty()? {
        return Ok(());
    }
    let mut counted: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let ((user, key), value) = (key.value(), value.value());
        let (keys, bytes) = counted.entry(user.to_string()).or_default();
        *keys += 1;
        *bytes += (key.len() + value.len()) as u64;
    }
    for (user, counts) in counted {
        usage.insert(user.as_str(), counts)?;
    }
    Ok(())
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
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for entry in table.range((self.user.as_str(), prefix)..).map_err(failed)? {
            let (key, _) = entry.map_err(failed)?;
            let (user, key) = key.value();
            if user != self.user || !key.starts_with(prefix) {
                break;
            }
            bytes += key.len();
            check_length("the list of keys (ask for a longer prefix)", bytes, LIST_BYTES)?;
            keys.push(key.to_string());
        }
        Ok(keys)
    }

    /// Sets a value. It is on disk when this returns.
    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), ApiError> {
        check_set(key, value)?;
        self.write(
            |table, user| {
                let old = table.insert((user, key), value).map_err(failed)?;
                Ok(((), old.map(|old| old.value().len()), Some(value.len())))
            },
            key,
        )
    }

    /// Deletes a key; whether it was there.
    pub(crate) fn delete(&self, key: &str) -> Result<bool, ApiError> {
        check_key(key)?;
        self.write(
            |table, user| {
                let old = table.remove((user, key)).map_err(failed)?;
                let old = old.map(|old| old.value().len());
                Ok((old.is_some(), old, None))
            },
            key,
        )
    }

    /// Changes a key, which gives the lengths of its values before and after, and counts them for the user. Nothing is
    /// changed where the user would have too much.
    fn write<R>(
        &self,
        change: impl FnOnce(&mut Table<'_>, &str) -> Result<(R, Option<usize>, Option<usize>), ApiError>,
        key: &str,
    ) -> Result<R, ApiError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let (result, old, new) = change(&mut transaction.open_table(TABLE).map_err(failed)?, &self.user)?;
        let mut usage = transaction.open_table(USAGE).map_err(failed)?;
        let before = usage.get(self.user.as_str()).map_err(failed)?.map_or((0, 0), |counts| counts.value());
        let counts = |value: Option<usize>| value.map_or((0, 0), |length| (1, (key.len() + length) as u64));
        let ((old_keys, old_bytes), (new_keys, new_bytes)) = (counts(old), counts(new));
        let after = (before.0 + new_keys - old_keys, before.1 + new_bytes - old_bytes);
        let StoreLimits { keys, bytes } = self.limits;
        // What makes it smaller is always allowed: a limit may have been lowered.
        if (after.0 > keys && after.0 > before.0) || (after.1 > bytes && after.1 > before.1) {
            return Err(ApiError::LimitExceeded(format!(
                "the user's store would have {} keys and {} bytes: the limits are {keys} and {bytes}",
                after.0, after.1
            )));
        }
        usage.insert(self.user.as_str(), after).map_err(failed)?;
        drop(usage);
        transaction.commit().map_err(failed)?;
        Ok(result)
    }
}

type Table<'a> = redb::Table<'a, (&'static str, &'static str), &'static [u8]>;

/// Refuses a key or a value that is too long, before anybody waits for a turn to write it.
pub(crate) fn check_set(key: &str, value: &[u8]) -> Result<(), ApiError> {
    check_key(key)?;
    check_length("the value", value.len(), VALUE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_do_not_see_each_other_and_keys_are_sorted() {
        let store = Store::new(None, &UserLimits::default());
        for (user, key) in [("ann", "b/2"), ("ann", "b/1"), ("ann", "c"), ("bob", "b/9")] {
            store.of(user).unwrap().set(key, key.as_bytes()).unwrap();
        }
        assert_eq!(store.of("ann").unwrap().keys("b/").unwrap(), ["b/1", "b/2"]);
        assert_eq!(store.of("bob").unwrap().get("c").unwrap(), None);
        assert!(store.of("ann").unwrap().delete("c").unwrap());
        assert!(!store.of("ann").unwrap().delete("c").unwrap());
    }

    #[test]
    fn values_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.redb");
        let open = || Store::new(Some(file.clone()), &UserLimits::default());
        open().of("ann").unwrap().set("k", &[7]).unwrap();
        assert_eq!(open().of("ann").unwrap().get("k").unwrap(), Some(vec![7]));
    }

    #[test]
    fn a_key_or_value_too_long_is_refused() {
        let store = Store::new(None, &UserLimits::default()).of("ann").unwrap();
        let long = "k".repeat(KEY_BYTES + 1);
        let refused = [
            store.get(&long).err(),
            store.keys(&long).err(),
            store.delete(&long).err(),
            store.set(&long, &[]).err(),
            store.set("k", &vec![0; VALUE_BYTES + 1]).err(),
        ];
        for refused in refused {
            assert!(matches!(refused, Some(ApiError::LimitExceeded(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_user_has_so_many_keys_and_bytes_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.redb");
        let limits = UserLimits { store_keys: 3, store_bytes: 100, ..UserLimits::default() };
        let open = |limits: &UserLimits| Store::new(Some(file.clone()), limits).of("ann").unwrap();
        let refused = |result| assert!(matches!(result, Err(ApiError::LimitExceeded(_))), "{result:?}");
        {
            let store = open(&limits);
            store.set("a", &[0; 49]).unwrap();
            store.set("b", &[0; 49]).unwrap();
            refused(store.set("c", &[]));
            // Another value for a key takes the place of the old one, and what is refused changes nothing.
            refused(store.set("b", &[1; 50]));
            store.set("b", &[2; 4]).unwrap();
            store.set("c", &[]).unwrap();
            refused(store.set("d", &[]));
        }
        let store = open(&limits);
        assert_eq!(store.get("b").unwrap(), Some(vec![2; 4]));
        refused(store.set("d", &[]));
        assert!(store.delete("a").unwrap());
        store.set("d", &[0; 90]).unwrap();
        drop(store);
        // A limit that was lowered refuses only what takes more.
        let store = open(&UserLimits { store_keys: 1, store_bytes: 10, ..limits });
        refused(store.set("d", &[0; 91]));
        store.set("d", &[0; 89]).unwrap();
        assert!(store.delete("d").unwrap());
    }

    #[test]
    fn what_an_older_store_holds_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.redb");
        {
            let database = Database::create(&file).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(TABLE).unwrap().insert(("ann", "k"), [0; 60].as_slice()).unwrap();
            transaction.commit().unwrap();
        }
        let limits = UserLimits { store_bytes: 100, ..UserLimits::default() };
        let store = Store::new(Some(file), &limits).of("ann").unwrap();
        assert!(store.set("l", &[0; 60]).is_err());
        store.set("l", &[0; 30]).unwrap();
    }
}
