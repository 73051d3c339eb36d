//! Where a server is: scheme, host, port and the path in front of its routes.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Name or number, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// In front of every route, without a slash at its end.
    pub base: String,
}

/// A text that is no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no address: expected http://HOST:PORT or https://HOST[:PORT][/PATH]")]
pub struct AddressError {
    found: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError { found: text.to_string() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(error()),
        };
        let (authority, base) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let clean = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '"' | '<' | '>');
        if authority.is_empty() || !rest.chars().all(clean) {
            return Err(error());
        }
        let default_port = if tls { 443 } else { 80 };
        let (host, port) = if let Some(inside) = authority.strip_prefix('[') {
            let (host, after) = inside.split_once(']').ok_or_else(error)?;
            (host, after.strip_prefix(':'))
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| error()))?;
        if host.is_empty() {
            return Err(error());
        }
        Ok(Self { tls, host: host.to_string(), port, base: base.trim_end_matches('/').to_string() })
    }
}

impl Address {
    /// What the header `host` has.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }

    /// The path of a route of this server.
    pub fn path(&self, route: &str) -> String {
        // Both `http://host` and `http://host/v1` are usual as the address of an API whose routes begin with /v1.
        let base = if route.starts_with("/v1/") { self.base.trim_end_matches("/v1") } else { &self.base };
        format!("{base}{route}")
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_refused() {
        let read = |text: &str| text.parse::<Address>().unwrap();
        assert_eq!(read("http://127.0.0.1:8080").path("/v1/models"), "/v1/models");
        assert_eq!(read("https://a.b/v1/").path("/v1/models"), "/v1/models");
        assert_eq!(read("https://a.b/x/v1").path("/v1/models"), "/x/v1/models");
        assert_eq!(read("https://a.b").port, 443);
        assert_eq!(read("http://[::1]:5/").authority(), "[::1]:5");
        assert_eq!(read("localhost:3").to_string(), "http://localhost:3");
        for text in ["", "ftp://a", "http://", "http://a:b", "http://a b", "http://a:70000", "http://u@h"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
