//! Which hosts inferlets may reach over HTTP: none, unless the operator lists them.
//!
//! The name a program asks for decides, not the address behind it: an operator who lists a name trusts the server
//! behind it. Whoever lists `*` names none, and does not mean the services of the own network: of names that only `*` allows,
//! the address must be a public one. Redirects are not followed here, so each hop is a request of its own and is checked
//! again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{HOST, HeaderValue};

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

    /// Whether a request to this host and port may leave; to public addresses only where just `*` allows it.
    pub fn allow(&self, host: &str, port: u16) -> bool {
        self.reach(host, port).is_some()
    }

    /// Where a request to this host and port may go; nowhere for none.
    pub(crate) fn reach(&self, host: &str, port: u16) -> Option<Reach> {
        let host = host.to_ascii_lowercase();
        let matching = self.0.iter().filter(|pattern| pattern.matches(&host, port));
        matching.map(|pattern| if pattern.host == "*" { Reach::Public } else { Reach::Any }).max()
    }
}

/// Addresses that a request may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Those of the internet.
    Public,
    /// All.
    Any,
}

/// Whether an address is one of the internet, by IANA's registries of special addresses.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast();
            // This network; shared by carriers; protocols; tests of devices; reserved.
            let reserved = a == 0
                || (a == 100 && b & 0xc0 == 64)
                || [a, b, c] == [192, 0, 0]
                || (a == 198 && b & 0xfe == 18)
                || a >= 240;
            !(special || v4.is_documentation() || reserved)
        }
        IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), v6.segments()) {
            (Some(v4), _) => is_public(v4.into()),
            // Behind a translator, or a tunnel.
            (None, [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..]) => {
                is_public(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
            }
            // Of the blocks that are given out, without those for protocols and documentation.
            (None, [first, second, ..]) => {
                first & 0xe000 == 0x2000 && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
            }
        },
    }
}

/// Addresses of a host, if all are public.
async fn public_addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let not_found = |_| Error::DnsError { rcode: None, info_code: None };
    let addresses: Vec<SocketAddr> = match literal.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => tokio::net::lookup_host((host, port)).await.map_err(not_found)?.collect(),
    };
    match addresses.iter().all(|address| is_public(address.ip())) {
        true => Ok(addresses),
        false => Err(Error::DestinationIpProhibited),
    }
}

/// Sends a request for a host to an address of it, so that it does not go where a second lookup says.
fn to_address(request: &mut http::Request<WasiBody>, address: SocketAddr) -> Result<(), Error> {
    let mut parts = request.uri().clone().into_parts();
    let authority = parts.authority.take().ok_or(Error::HttpRequestUriInvalid)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
    parts.authority = Some(address.to_string().parse().map_err(|_| Error::HttpRequestUriInvalid)?);
    *request.uri_mut() = http::Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
    request.headers_mut().entry(HOST).or_insert(host);
    Ok(())
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
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Sending<Result<(), Error>>,
    ) -> Sending<Sent> {
        let secure = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
        let to = request.uri().authority().map(|to| {
            let port = to.port_u16().unwrap_or(if secure { 443 } else { 80 });
            (to.host().to_string(), port)
        });
        let reach = to.as_ref().and_then(|(host, port)| self.0.reach(host, *port));
        Box::new(async move {
            let Some(((host, port), reach)) = to.zip(reach) else { return Err(Error::HttpRequestDenied) };
            if reach == Reach::Public {
                let addresses = public_addresses(&host, port).await?;
                // Over TLS the server proves its name, which none of the own network has in a stranger's domain.
                if let Some(address) = addresses.first().filter(|_| !secure) {
                    to_address(&mut request, *address)?;
                }
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
            assert_eq!(hosts.reach(host, port), expected.then_some(Reach::Any), "{host}:{port}");
        }
        assert_eq!(AllowedHosts::default().reach("example.com", 443), None, "nothing is allowed by default");
        let all = AllowedHosts::parse(&["*", "127.0.0.1:8000", "*.corp"]).unwrap();
        assert_eq!(all.reach("anything", 1), Some(Reach::Public));
        assert_eq!(["127.0.0.1", "a.corp"].map(|host| all.reach(host, 8000)), [Some(Reach::Any); 2]);
    }

    #[tokio::test]
    async fn whoever_names_no_host_does_not_mean_the_own_network() {
        for own in [
            "localhost",
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "198.18.0.1",
            "224.0.0.1",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
            "[2002:a00:1::]",
            "[2001:db8::1]",
            "[ff02::1]",
        ] {
            let refused = public_addresses(own, 80).await;
            assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{own}: {refused:?}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "[2606:4700::1111]", "[::ffff:1.1.1.1]", "[64:ff9b::101:101]"]
        {
            assert!(public_addresses(public, 80).await.is_ok(), "{public}");
        }
    }

    #[test]
    fn a_request_goes_to_the_address_that_was_looked_at() {
        use http_body_util::{BodyExt, Empty};
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = http::Request::get("http://example.com:81/a?b").body(body).unwrap();
        to_address(&mut request, "[2606:4700::1111]:81".parse().unwrap()).unwrap();
        assert_eq!(request.uri(), "http://[2606:4700::1111]:81/a?b");
        assert_eq!(request.headers()[HOST], "example.com:81");
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for wrong in ["", "http://example.com", "example.com:port", "exa mple.com", "*.", "a/b", "[::g]"] {
            let error = AllowedHosts::parse(&[wrong]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
