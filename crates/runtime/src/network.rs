//! Which hosts inferlets may reach over HTTP: none, unless the operator lists them.
//!
//! The name a program asks for decides, not the address behind it: an operator who lists a name trusts the server
//! behind it. Redirects are not followed here, so each hop is a request of its own and is checked again.

use std::sync::Arc;

use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// The hosts that programs may send HTTP requests to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<HostPattern>);

/// One entry: a host, and the port if only one is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPattern {
    /// Lower case; `*` for all, `*.example.com` for whatever ends in `.example.com`.
    host: String,
    port: Option<u16>,
}

/// An entry that is no host.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a host: expected a name as `example.com`, `*.example.com`, `127.0.0.1:8000`, `[::1]` or `*`"
)]
pub struct HostPatternError(String);

impl AllowedHosts {
    /// Reads entries such as `example.com`, `*.example.com`, `127.0.0.1:8000`, `[::1]:80` and `*`.
    ///
    /// # Errors
    /// Names the entry that is not one.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<AllowedHosts, HostPatternError> {
        entries
            .iter()
            .map(|entry| HostPattern::parse(entry.as_ref()))
            .collect::<Result<_, _>>()
            .map(AllowedHosts)
    }

    /// Whether a request to this host and port may leave.
    pub fn allow(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        self.0.iter().any(|pattern| pattern.matches(&host, port))
    }
}

impl HostPattern {
    fn parse(entry: &str) -> Result<HostPattern, HostPatternError> {
        let bad = || HostPatternError(entry.to_string());
        // A colon within brackets belongs to an address of IPv6.
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| bad())?)),
            _ => (entry, None),
        };
        let name = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().map(|_| "v6").map_err(|_| bad())?,
            None => host.strip_prefix("*.").unwrap_or(host),
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host != "*" && (name.is_empty() || !name.chars().all(valid)) {
            return Err(bad());
        }
        Ok(HostPattern { host: host.to_ascii_lowercase(), port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let named = match self.host.strip_prefix('*') {
            Some("") => true,
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.host,
        };
        named && self.port.is_none_or(|only| only == port)
    }
}

/// Sends the requests of one inferlet, if they may leave.
pub(crate) struct Outgoing(pub(crate) Arc<AllowedHosts>);

type Sending<T> = Box<dyn Future<Output = T> + Send>;
type Sent = Result<(http::Response<WasiBody>, Sending<Result<(), Error>>), Error>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Sending<Result<(), Error>>,
    ) -> Sending<Sent> {
        let secure = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
        let allowed = request.uri().authority().is_some_and(|to| {
            let port = to.port_u16().unwrap_or(if secure { 443 } else { 80 });
            self.0.allow(to.host(), port)
        });
        Box::new(async move {
            if !allowed {
                return Err(Error::HttpRequestDenied);
            }
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let response = response.map(http_body_util::BodyExt::boxed_unsync);
            Ok((response, Box::new(io) as Sending<_>))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_by_name_suffix_and_port() {
        let hosts =
            AllowedHosts::parse(&["Example.com", "*.example.org", "127.0.0.1:8000", "[::1]:80"]).unwrap();
        for (host, port, expected) in [
            ("example.com", 443, true),
            ("EXAMPLE.com", 80, true),
            ("sub.example.com", 443, false),
            ("notexample.com", 443, false),
            ("a.example.org", 443, true),
            ("a.b.example.org", 1, true),
            ("example.org", 443, false),
            ("badexample.org", 443, false),
            ("127.0.0.1", 8000, true),
            ("127.0.0.1", 8001, false),
            ("[::1]", 80, true),
            ("[::1]", 81, false),
        ] {
            assert_eq!(hosts.allow(host, port), expected, "{host}:{port}");
        }
        assert!(!AllowedHosts::default().allow("example.com", 443), "nothing is allowed by default");
        assert!(AllowedHosts::parse(&["*"]).unwrap().allow("anything", 1));
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for wrong in ["", "http://example.com", "example.com:port", "exa mple.com", "*.", "a/b", "[::g]"] {
            let error = AllowedHosts::parse(&[wrong]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
