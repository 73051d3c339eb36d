//! The file of keys: who may send requests, and how much. It has hashes of keys only.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Args;
use runtime::{GrantOptions, Runtime};
use serde::{Deserialize, Serialize};
use server::{ClientBounds, KEY_PREFIX, Key};

use crate::config::{LimitSettings, is_user};

/// Bytes of the secret of a key.
const SECRET_BYTES: usize = 32;
/// Bytes of its public part.
const ID_BYTES: usize = 6;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    #[serde(rename = "key")]
    pub(crate) keys: Vec<Entry>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Its public part.
    pub(crate) id: String,
    /// For people: what it is for.
    pub(crate) name: String,
    /// Whose store, saved contexts and cached prefixes its programs see.
    pub(crate) user: String,
    /// Of the whole key: BLAKE3, in hexadecimal.
    pub(crate) hash: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Seconds since 1970; without, it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<u64>,
    /// Whether it opens what shows the whole server.
    #[serde(default)]
    pub(crate) admin: bool,
    #[serde(default)]
    pub(crate) limits: KeyLimits,
}

/// What a key allows: the flags of `pie key add`, and `[key.limits]` of the file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeyLimits {
    /// Requests in a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u32>,
    /// Tokens computed in a minute, those of prompts among them; cached ones are free
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_minute: Option<u64>,
    /// Requests that run at once; more wait [default: `admission.key_running`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u32>,
    /// Requests that wait; more are refused [default: `admission.key_waiting`]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u32>,
    /// Inferlets that run or wait, those that programs launch among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    inferlets: Option<u64>,
    /// Linear memory of all its inferlets, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
    /// What the server holds for all its inferlets, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    #[serde(skip_serializing_if = "Option::is_none")]
    host_memory_mb: Option<u64>,
    /// Pages of key/value memory that all its inferlets hold, of each model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_pages: Option<u32>,
    /// Processor time of each inferlet, in milliseconds [default: `limits.cpu_ms`]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ms: Option<u64>,
    /// Programs that it may run, for instance api-chat,api-models [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<Vec<String>>,
    /// Models that its programs may open [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<String>>,
    /// MCP servers that its programs may call [default: those of its user]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp: Option<Vec<String>>,
}

impl KeyLimits {
    /// Names that are allowed and that nothing has, as a typo makes them: each with what it should be a name of, and those
    /// there are. `none` is a way to allow nothing, and a hash means what a user has uploaded or will.
    pub(crate) fn unknown<'a>(&'a self, names: &'a Names) -> Vec<(&'static str, &'a str, &'a [String])> {
        let lists = [
            ("model", &self.models, &names.models),
            ("program", &self.programs, &names.programs),
            ("MCP server", &self.mcp, &names.mcp),
        ];
        let unknown = lists.into_iter().flat_map(|(what, allowed, known)| {
            let wrong = move |name: &&String| {
                !known.contains(name) && *name != NOTHING && blake3::Hash::from_hex(name.as_bytes()).is_err()
            };
            let allowed = allowed.iter().flatten().filter(wrong);
            allowed.map(move |name| (what, name.as_str(), known.as_slice()))
        });
        unknown.collect()
    }

    /// For people; empty where there are none.
    pub(crate) fn text(&self) -> String {
        let fields = serde_json::to_value(self).expect("they are plain values");
        let fields = fields.as_object().into_iter().flatten();
        fields.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ").replace('"', "")
    }
}

/// A name that nothing has.
const NOTHING: &str = "none";

/// What the names in lists of keys can mean.
pub(crate) struct Names {
    pub(crate) models: Vec<String>,
    pub(crate) programs: Vec<String>,
    pub(crate) mcp: Vec<String>,
}

/// A new key, and what the file keeps of it.
pub(crate) struct Made {
    /// The key itself, which is shown once.
    pub(crate) text: String,
    pub(crate) entry: Entry,
}

impl Entry {
    /// Makes a key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn make(
        name: &str,
        user: &str,
        expires_in: Option<Duration>,
        admin: bool,
        limits: KeyLimits,
    ) -> Result<Made> {
        let random = |bytes: usize| -> Result<String> {
            let mut random = vec![0; bytes];
            getrandom::fill(&mut random).context("the system gives no random bytes")?;
            Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
        };
        let (id, created) = (random(ID_BYTES)?, seconds(SystemTime::now()));
        let expires = expires_in.map(|time| created.saturating_add(time.as_secs()));
        ensure!(
            expires.is_none_or(|end| end <= LAST_SECOND),
            "the key would end after the year 2100: expected a shorter time, or none for a key that does not end"
        );
        let text = format!("{KEY_PREFIX}{id}-{}", random(SECRET_BYTES)?);
        let entry = Entry {
            id,
            name: name.to_string(),
            user: user.to_string(),
            hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
            created,
            expires,
            admin,
            limits,
        };
        Ok(Made { text, entry })
    }

    /// The key as the server takes it. `limits` are those of an inferlet where the key says nothing.
    ///
    /// # Errors
    /// When its hash is none.
    pub(crate) fn key(&self, runtime: &Runtime, limits: &LimitSettings) -> Result<Key> {
        let hash = blake3::Hash::from_hex(&self.hash);
        let hash = hash.with_context(|| format!("the hash of key `{}`", self.id))?;
        let of = &self.limits;
        let limits = of.cpu_ms.map(|cpu_ms| {
            let mut limits = limits.of_an_inferlet();
            limits.cpu = Some(Duration::from_millis(cpu_ms));
            limits
        });
        let grant = runtime.grant(GrantOptions {
            name: self.id.clone(),
            user: self.user.clone(),
            models: of.models.clone(),
            programs: of.programs.clone(),
            mcp: of.mcp.clone(),
            limits,
            inferlets: of.inferlets,
            memory_bytes: of.memory_mb.map(|mib| mib << 20),
            host_memory_bytes: of.host_memory_mb.map(|mib| mib << 20),
            pages: of.kv_pages,
        });
        Ok(Key {
            id: self.id.clone(),
            hash,
            expires: self.expires.map(time),
            admin: self.admin,
            requests_per_minute: of.requests_per_minute,
            tokens_per_minute: of.tokens_per_minute,
            bounds: ClientBounds { running: of.running, waiting: of.waiting },
            grant,
        })
    }
}

/// No key ends later: the year 2100.
const LAST_SECOND: u64 = 4_102_444_800;

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time so many seconds after 1970.
pub(crate) fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND))
}

impl Keys {
    /// The keys of a file; none where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is wrong.
    pub(crate) fn read(path: &Path) -> Result<Keys> {
        match path.try_exists() {
            Ok(false) => Ok(Keys::default()),
            _ => Keys::read_existing(path),
        }
    }

    /// The keys of a file. One that is not there, or is empty as while somebody writes it, is not one without keys.
    ///
    /// # Errors
    /// When it cannot be read, or is wrong.
    pub(crate) fn read_existing(path: &Path) -> Result<Keys> {
        let of_file = || format!("the file of keys `{}`", path.display());
        let text = fs::read_to_string(path).with_context(of_file)?;
        let keys: Keys = toml::from_str(&text).with_context(of_file)?;
        keys.check().with_context(of_file)?;
        Ok(keys)
    }

    fn check(&self) -> Result<()> {
        let mut ids = BTreeSet::new();
        for Entry { id, user, hash, .. } in &self.keys {
            let is_id = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric());
            ensure!(is_id, "the id `{id}`: expected letters and digits");
            ensure!(ids.insert(id), "key `{id}` is there twice");
            ensure!(is_user(user), "the user of key `{id}`: expected 1 to 256 bytes, no control characters");
            ensure!(
                blake3::Hash::from_hex(hash).is_ok(),
                "the hash of key `{id}`: expected 64 hexadecimal digits"
            );
        }
        Ok(())
    }

    /// Changes the file: it is whole at any moment, and two changes at once follow each other.
    ///
    /// # Errors
    /// When it cannot be read or written, and those of `change`, after which it is as before.
    pub(crate) fn change<T>(path: &Path, change: impl FnOnce(&mut Keys) -> Result<T>) -> Result<T> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let of_folder = || format!("the folder of keys `{}`", folder.display());
        fs::create_dir_all(folder).with_context(of_folder)?;
        let lock_path = with_ending(path, "lock");
        let lock = File::create(&lock_path).with_context(|| format!("`{}`", lock_path.display()))?;
        lock.lock().with_context(|| format!("cannot lock `{}`", lock_path.display()))?;
        let mut keys = Keys::read(path)?;
        let result = change(&mut keys)?;
        // Readable for its owner only, as tempfile makes it.
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(of_folder)?;
        let before = if path.exists() { path } else { folder };
        keep_owner(file.as_file(), before, path)?;
        file.write_all(toml::to_string(&keys)?.as_bytes()).and_then(|()| file.as_file().sync_all())?;
        file.persist(path).with_context(|| format!("cannot replace `{}`", path.display()))?;
        // The new name is on disk with its folder.
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(of_folder)?;
        Ok(result)
    }
}

/// Gives a file that takes the place of another to that one's owner: the server must be able to read it, whoever changed it.
#[cfg(unix)]
fn keep_owner(file: &File, before: &Path, path: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let (owner, own) = (fs::metadata(before)?, file.metadata()?);
    if (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid())).with_context(|| {
        let (path, user) = (path.display(), owner.uid());
        format!(
            "`{path}` belongs to user {user}, who must be able to read it: run this as that user, or as root"
        )
    })
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &Path, _: &Path) -> Result<()> {
    Ok(())
}

/// A path with one more ending.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> Made {
        Entry::make(name, name, None, false, KeyLimits::default()).unwrap()
    }

    fn add(path: &Path, entry: Entry) {
        let add = |keys: &mut Keys| {
            keys.keys.push(entry);
            Ok(())
        };
        Keys::change(path, add).unwrap();
    }

    #[test]
    fn a_key_is_not_in_the_file_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/keys.toml");
        let limits = KeyLimits { models: Some(vec!["small".into()]), ..KeyLimits::default() };
        let key = Entry::make("ann", "ann", Some(Duration::from_secs(60)), true, limits).unwrap();
        add(&path, key.entry.clone());
        let text = fs::read_to_string(&path).unwrap();
        let secret = key.text.rsplit('-').next().unwrap();
        assert!(secret.len() == 2 * SECRET_BYTES && !text.contains(secret), "{text}");
        assert_eq!(Keys::read(&path).unwrap().keys, [key.entry]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn names_that_nothing_has_are_told_but_for_none_and_hashes() {
        let list = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        let names = |names: &[&str]| list(names).unwrap();
        let known = Names {
            models: names(&["small"]),
            programs: names(&["api-chat", "api-models"]),
            mcp: Vec::new(),
        };
        let hash = blake3::hash(b"a program").to_hex().to_string();
        let limits = KeyLimits {
            models: list(&["small", "smal"]),
            programs: list(&["api-chat", "api_chat", &hash]),
            mcp: list(&["files"]),
            ..KeyLimits::default()
        };
        let expected: [(&str, &str, &[String]); 3] = [
            ("model", "smal", &known.models),
            ("program", "api_chat", &known.programs),
            ("MCP server", "files", &[]),
        ];
        assert_eq!(limits.unknown(&known), expected);
        let nothing = KeyLimits { programs: list(&["none"]), mcp: list(&["none"]), ..KeyLimits::default() };
        assert!(nothing.unknown(&known).is_empty() && KeyLimits::default().unknown(&known).is_empty());
    }

    #[test]
    fn a_change_that_fails_changes_nothing_and_those_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let failed = Keys::change(&path, |keys| {
            keys.keys.clear();
            anyhow::bail!("no")
        });
        let failed: Result<()> = failed;
        assert!(failed.is_err() && !path.exists());
        std::thread::scope(|scope| {
            for at in 0..8 {
                let path = &path;
                scope.spawn(move || add(path, made(&at.to_string()).entry));
            }
        });
        assert_eq!(Keys::read(&path).unwrap().keys.len(), 8);
    }

    #[test]
    fn a_file_that_is_gone_or_being_written_is_not_one_without_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        assert!(Keys::read_existing(&path).is_err() && Keys::read(&path).unwrap().keys.is_empty());
        fs::write(&path, "").unwrap();
        assert!(Keys::read_existing(&path).is_err());
        fs::remove_file(&path).unwrap();
        // The last one is revoked: that says so.
        let revoke_all = |keys: &mut Keys| {
            keys.keys.clear();
            Ok(())
        };
        Keys::change(&path, revoke_all).unwrap();
        assert!(Keys::read_existing(&path).unwrap().keys.is_empty());
        let far = Entry::make("a", "a", Some(Duration::from_secs(u64::MAX)), false, KeyLimits::default());
        assert!(far.is_err_and(|error| error.to_string().contains("2100")));
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let good = toml::to_string(&Keys { keys: vec![made("a").entry] }).unwrap();
        for (wrong, expected) in [
            (good.repeat(2), "is there twice"),
            (good.replace("hash = \"", "hash = \"x"), "64 hexadecimal digits"),
            (good.replace("user = \"a\"", "user = \"\""), "1 to 256 bytes"),
            (good.replace("admin", "admins"), "unknown field `admins`"),
            (good.clone() + "requests = 3\n", "unknown field `requests`"),
        ] {
            fs::write(&path, &wrong).unwrap();
            let error = format!("{:#}", Keys::read(&path).unwrap_err());
            assert!(error.contains(expected) && error.contains("keys.toml"), "{wrong}: {error}");
        }
    }
}
