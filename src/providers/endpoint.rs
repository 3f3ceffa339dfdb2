//! The addresses that a configuration may name: https, or plain http to this
//! very machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// Where a provider or its token server is: scheme, host, port and path, all
/// of them checked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
    scheme: Scheme,
    authority: Authority,
    path: String,
}

/// Why an address cannot be used. Quotes nothing of it but a port in digits:
/// it may stand in a file of secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// Not an absolute URL without user, query and fragment.
    #[error("is not a URL such as https://host or https://host:port")]
    NotAUrl,
    /// Some scheme that is not HTTP.
    #[error("must begin with https://")]
    Scheme,
    /// The credential would cross a network in clear.
    #[error("must be https://; plain http:// is for 127.0.0.1, [::1] and localhost only")]
    PlainHttp,
    /// A port that no server can have.
    #[error("names the port {0}; a port is a number from 1 to 65535")]
    Port(String),
}

impl Endpoint {
    /// Reads `https://host[:port][/path]`, or the same with http for a host
    /// that is this very machine.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that names the key.
    pub fn parse(url: &str) -> Result<Self, EndpointFault> {
        Self::parse_if(url, is_this_machine)
    }

    /// The same, with http also for addresses that no router passes on: those
    /// of the metadata servers of clouds.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_near(url: &str) -> Result<Self, EndpointFault> {
        let near = |host: &str| host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_link_local());
        Self::parse_if(url, |host| is_this_machine(host) || near(host))
    }

    /// http at this host, which is trusted to be near.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn plain(host: &str) -> Result<Self, EndpointFault> {
        Self::parse_if(&format!("http://{host}"), |_| true)
    }

    fn parse_if(url: &str, plain: impl Fn(&str) -> bool) -> Result<Self, EndpointFault> {
        let uri: Uri = url.parse().map_err(|_| EndpointFault::NotAUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(EndpointFault::NotAUrl);
        };
        if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
            return Err(EndpointFault::NotAUrl);
        }
        // Brackets belong to the URL, not to the IPv6 address.
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(EndpointFault::NotAUrl);
        }
        let usual = if *scheme == Scheme::HTTPS {
            443
        } else if *scheme != Scheme::HTTP {
            return Err(EndpointFault::Scheme);
        } else if plain(host) {
            80
        } else {
            return Err(EndpointFault::PlainHttp);
        };
        Ok(Self {
            host: host.to_owned(),
            port: port(authority)?.unwrap_or(usual),
            scheme: scheme.clone(),
            authority: authority.clone(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// https at its usual port, without a path.
    pub(super) fn https(host: &'static str) -> Self {
        Self {
            host: host.to_owned(),
            port: 443,
            scheme: Scheme::HTTPS,
            authority: Authority::from_static(host),
            path: String::new(),
        }
    }

    /// The name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 443 or 80 if none was given.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether it is this very machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_this_machine(&self.host)
    }

    /// The path, without a slash at its end: empty in most cases.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The URL of the endpoint itself.
    #[must_use]
    pub fn uri(&self) -> Uri {
        let path = PathAndQuery::try_from(&*self.path);
        self.at(path.unwrap_or(PathAndQuery::from_static("/")))
    }

    /// The URL of what is at this path, which replaces the endpoint's own.
    #[must_use]
    pub fn at(&self, path: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // Scheme, authority and path are all there, so this cannot fail.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The port that is written there. `http` takes one that is impossible for
/// none at all, and a client would go to the usual one.
fn port(authority: &Authority) -> Result<Option<u16>, EndpointFault> {
    let text = authority.as_str();
    let written = text.strip_prefix(authority.host()).unwrap_or_default();
    let Some(digits) = written.strip_prefix(':').filter(|d| !d.is_empty()) else {
        return Ok(None);
    };
    if digits.len() > 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EndpointFault::NotAUrl);
    }
    match digits.parse() {
        Ok(port) if port != 0 => Ok(Some(port)),
        Ok(_) | Err(_) => Err(EndpointFault::Port(digits.to_owned())),
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_leaves_the_machine_over_tls_only() {
        for good in [
            "https://fcm.googleapis.com",
            "https://gateway.example:8443/fcm",
            "http://127.0.0.1:9100",
            "http://127.8.8.8/token",
            "http://[::1]:80/token",
            "http://LOCALHOST:1/",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for (bad, fault) in [
            ("http://fcm.googleapis.com", EndpointFault::PlainHttp),
            ("http://127.0.0.1.example", EndpointFault::PlainHttp),
            ("http://localhost.example/", EndpointFault::PlainHttp),
            ("ftp://127.0.0.1/", EndpointFault::Scheme),
            ("fcm.googleapis.com", EndpointFault::NotAUrl),
            ("https://user:word@host/", EndpointFault::NotAUrl),
            ("https://host/?a=b", EndpointFault::NotAUrl),
            ("https://host/#part", EndpointFault::NotAUrl),
            ("", EndpointFault::NotAUrl),
        ] {
            assert_eq!(Endpoint::parse(bad).unwrap_err(), fault, "{bad}");
        }
    }

    #[test]
    fn a_port_that_cannot_be_is_named_and_not_taken_for_the_usual_one() {
        for (bad, port) in [
            ("https://gw:84430", "84430"),
            ("https://gw:0", "0"),
            ("https://[::1]:65536/x", "65536"),
            ("http://127.0.0.1:999999", "999999"),
        ] {
            let fault = Endpoint::parse(bad).unwrap_err();
            assert_eq!(fault, EndpointFault::Port(port.to_owned()), "{bad}");
            assert!(fault.to_string().contains(port));
        }
        for bad in ["https://gw:s3cret", "https://gw:-1", "https://gw:+443"] {
            let fault = Endpoint::parse(bad).unwrap_err();
            assert_eq!(fault, EndpointFault::NotAUrl, "{bad}");
        }
    }

    #[test]
    fn its_parts_are_what_a_client_needs() {
        let endpoint = Endpoint::parse("https://[::1]:8443/fcm/").unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("::1", 8443));
        assert_eq!((endpoint.path(), endpoint.is_secure()), ("/fcm", true));
        assert_eq!(endpoint.to_string(), "https://[::1]:8443/fcm");
        let path = PathAndQuery::from_static("/v1/x");
        assert_eq!(endpoint.at(path).to_string(), "https://[::1]:8443/v1/x");
        assert_eq!(Endpoint::parse("https://h:").unwrap().port(), 443);
        assert_eq!(Endpoint::parse("http://localhost").unwrap().port(), 80);
    }
}
