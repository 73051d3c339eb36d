//! Who a request comes from: keys, and what each may ask for in a minute.
//!
//! A key is `sk-pie-<id>-<secret>`: the id is public and names it in lists and logs, the secret is 32 random bytes. Only
//! the hash of the whole key is kept; since the secret cannot be guessed, a fast hash does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use runtime::Grant;

use crate::admission::ClientBounds;

/// What every key begins with.
pub const KEY_PREFIX: &str = "sk-pie-";
/// Longest text that is looked at as a key.
const KEY_BYTES: usize = 256;
/// The header of Anthropic's clients.
pub(crate) const X_API_KEY: &str = "x-api-key";
/// Before the key, as a subprotocol of a WebSocket: a page in a browser can set no headers of one.
const KEY_PROTOCOL: &str = "pie.key.";

/// A key, as the server knows it.
#[derive(Clone)]
pub struct Key {
    /// Its public part.
    pub id: String,
    /// Of the whole key.
    pub hash: blake3::Hash,
    /// When it ends by itself.
    pub expires: Option<SystemTime>,
    /// Whether it opens what shows the whole server.
    pub admin: bool,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens computed in a minute, those of prompts among them.
    pub tokens_per_minute: Option<u64>,
    /// Requests that run and wait.
    pub bounds: ClientBounds,
    /// What its inferlets may do and take.
    pub grant: Arc<Grant>,
}

/// Who may send requests.
pub(crate) struct Auth(RwLock<Access>);

enum Access {
    /// Everybody who reaches the port.
    Open,
    /// Nobody: the keys are not there yet.
    Starting,
    /// Holders of keys, by their ids.
    Keys(BTreeMap<String, Arc<Client>>),
}

/// A key and what it has used of its minute.
pub(crate) struct Client {
    pub(crate) key: Key,
    rates: Mutex<Rates>,
}

struct Rates {
    requests: Bucket,
    tokens: Bucket,
    /// The count of tokens when the bucket was last looked at.
    tokens_seen: u64,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "no key is given: expected `Authorization: Bearer {KEY_PREFIX}…` or `x-api-key: {KEY_PREFIX}…`; \
        `pie key add NAME` makes one"
    )]
    NoKey,
    /// One text for all that is wrong with a key, so that nobody learns which ids there are.
    #[error("the key is not known, or has ended; `pie key list` shows those there are")]
    WrongKey,
    #[error("the server is starting: it does not know its keys yet")]
    Starting,
    #[error("the key allows {limit} requests a minute, and these are used up; try again in {after:?}")]
    Requests { limit: u32, after: Duration },
    #[error("the key allows {limit} tokens a minute, and these are used up; try again in {after:?}")]
    Tokens { limit: u64, after: Duration },
}

/// So much in a minute: it holds a minute's worth at most, and fills all the time.
struct Bucket {
    level: f64,
    at: Instant,
}

const MINUTE: f64 = 60.0;

impl Bucket {
    fn full(capacity: f64, now: Instant) -> Bucket {
        Bucket { level: capacity, at: now }
    }

    /// Lets it fill until now.
    fn fill(&mut self, capacity: f64, now: Instant) {
        let filled = capacity / MINUTE * now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + filled).min(capacity);
        self.at = now;
    }

    /// Until it holds so much.
    fn time_until(&self, level: f64, capacity: f64) -> Duration {
        Duration::from_secs_f64(((level - self.level) * MINUTE / capacity).clamp(0.0, MINUTE * 60.0))
    }
}

impl Client {
    fn new(key: Key) -> Client {
        let now = Instant::now();
        let requests = Bucket::full(key.requests_per_minute.map_or(0.0, f64::from), now);
        let tokens = Bucket::full(key.tokens_per_minute.map_or(0.0, |tokens| tokens as f64), now);
        let tokens_seen = key.grant.tokens().get();
        Client { key, rates: Mutex::new(Rates { requests, tokens, tokens_seen }) }
    }

    /// Counts a request. Tokens are known only when they are computed: with a minute's worth used up, and more, the next
    /// request waits until they are earned.
    pub(crate) fn take_request(&self) -> Result<(), Refused> {
        self.take_request_at(Instant::now(), self.key.grant.tokens().get())
    }

    fn take_request_at(&self, now: Instant, tokens: u64) -> Result<(), Refused> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limit) = self.key.tokens_per_minute {
            let capacity = limit as f64;
            // Less than nothing where what was counted turned out to be cached.
            let used = tokens as f64 - rates.tokens_seen as f64;
            rates.tokens_seen = tokens;
            rates.tokens.fill(capacity, now);
            rates.tokens.level = (rates.tokens.level - used).min(capacity);
            if rates.tokens.level <= 0.0 {
                let after = rates.tokens.time_until(1.0, capacity);
                return Err(Refused::Tokens { limit, after });
            }
        }
        if let Some(limit) = self.key.requests_per_minute {
            let capacity = f64::from(limit);
            rates.requests.fill(capacity, now);
            if rates.requests.level < 1.0 {
                let after = rates.requests.time_until(1.0, capacity);
                return Err(Refused::Requests { limit, after });
            }
            rates.requests.level -= 1.0;
        }
        Ok(())
    }
}

impl Auth {
    /// Everybody who reaches the port may send requests.
    pub(crate) fn open() -> Auth {
        Auth(RwLock::new(Access::Open))
    }

    /// Nobody may, until there are keys.
    pub(crate) fn closed() -> Auth {
        Auth(RwLock::new(Access::Starting))
    }

    /// From now on these keys open the server and no others. One that stays as it is keeps what it has used of its
    /// minute. Returns the grants of those that are gone, or say something else now.
    pub(crate) fn set_keys(&self, keys: Vec<Key>) -> Vec<Arc<Grant>> {
        let mut access = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = match std::mem::replace(&mut *access, Access::Open) {
            Access::Open | Access::Starting => BTreeMap::new(),
            Access::Keys(keys) => keys,
        };
        let client = |key: Key| {
            let kept = before.get(&key.id).is_some_and(|known| known.key.is_same(&key));
            let kept = if kept { before.remove(&key.id) } else { None };
            (key.id.clone(), kept.unwrap_or_else(|| Arc::new(Client::new(key))))
        };
        *access = Access::Keys(keys.into_iter().map(client).collect());
        before.into_values().map(|client| client.key.grant.clone()).collect()
    }

    /// Takes keys off whose time is over, and gives their grants.
    pub(crate) fn take_expired(&self) -> Vec<Arc<Grant>> {
        let now = SystemTime::now();
        let mut access = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Access::Keys(keys) = &mut *access else { return Vec::new() };
        let has_ended =
            |_: &String, client: &mut Arc<Client>| client.key.expires.is_some_and(|end| end <= now);
        keys.extract_if(.., has_ended).map(|(_, client)| client.key.grant.clone()).collect()
    }

    /// The client of a request; none where everybody may send some.
    ///
    /// # Errors
    /// When the key is missing or wrong.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Result<Option<Arc<Client>>, Refused> {
        let access = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let keys = match &*access {
            Access::Open => return Ok(None),
            Access::Starting => return Err(Refused::Starting),
            Access::Keys(keys) => keys,
        };
        let text = key_of(headers)?;
        let id = text.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('-')).map(|(id, _)| id);
        let client = id.and_then(|id| keys.get(id)).ok_or(Refused::WrongKey)?;
        // Hashes compare in constant time.
        let is_right = blake3::hash(text.as_bytes()) == client.key.hash;
        let has_ended = client.key.expires.is_some_and(|end| end <= SystemTime::now());
        match is_right && !has_ended {
            true => Ok(Some(client.clone())),
            false => Err(Refused::WrongKey),
        }
    }
}

impl Key {
    /// Whether another says the same.
    fn is_same(&self, other: &Key) -> bool {
        let facts = |key: &Key| {
            (key.hash, key.expires, key.admin, key.requests_per_minute, key.tokens_per_minute, key.bounds)
        };
        facts(self) == facts(other) && self.grant.options() == other.grant.options()
    }
}

/// The key that a request gives: a bearer's, in the header for it, or as a subprotocol. A proxy may use `authorization` for
/// itself.
fn key_of(headers: &HeaderMap) -> Result<&str, Refused> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    let subprotocol = || {
        let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
        offered.split(',').find_map(|offer| offer.trim().strip_prefix(KEY_PROTOCOL))
    };
    let given = bearer.or_else(|| headers.get(X_API_KEY)?.to_str().ok()).or_else(subprotocol);
    let Some(given) = given else {
        let gives_one = headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY);
        return Err(if gives_one { Refused::WrongKey } else { Refused::NoKey });
    };
    let key = given.trim();
    if key.len() > KEY_BYTES { Err(Refused::WrongKey) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(level: f64, now: Instant) -> Bucket {
        Bucket::full(level, now)
    }

    #[test]
    fn a_bucket_holds_a_minute_and_fills_all_the_time() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut full = bucket(60.0, start);
        full.level -= 60.0;
        full.fill(60.0, later(10));
        assert!((full.level - 10.0).abs() < 1e-6);
        assert_eq!(full.time_until(30.0, 60.0), Duration::from_secs(20));
        full.fill(60.0, later(500));
        assert!((full.level - 60.0).abs() < 1e-6, "never more than a minute's worth");
    }

    #[test]
    fn a_key_is_read_from_the_headers_of_both_kinds_of_clients() {
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            key_of(&headers).map(str::to_string)
        };
        assert_eq!(of("authorization", "Bearer sk-pie-a-b").as_deref(), Ok("sk-pie-a-b"));
        assert_eq!(of("authorization", "bearer  sk-pie-a-b ").as_deref(), Ok("sk-pie-a-b"));
        assert_eq!(of("x-api-key", "sk-pie-a-b").as_deref(), Ok("sk-pie-a-b"));
        assert_eq!(of("sec-websocket-protocol", "pie.v1, pie.key.sk-pie-a-b").as_deref(), Ok("sk-pie-a-b"));
        assert_eq!(of("sec-websocket-protocol", "pie.v1"), Err(Refused::NoKey));
        assert_eq!(of("authorization", "Basic abc"), Err(Refused::WrongKey));
        assert_eq!(of("authorization", "sk-pie-a-b"), Err(Refused::WrongKey));
        assert_eq!(of("x-other", "sk-pie-a-b"), Err(Refused::NoKey));
        // A proxy that has a password of its own before the server.
        let mut both = HeaderMap::new();
        both.insert("authorization", "Basic abc".parse().unwrap());
        both.insert("x-api-key", "sk-pie-a-b".parse().unwrap());
        assert_eq!(key_of(&both), Ok("sk-pie-a-b"));
        assert_eq!(of("x-api-key", &"a".repeat(KEY_BYTES + 1)), Err(Refused::WrongKey));
    }
}
