//! A way out for workers that reach the internet through an HTTP proxy only
//! (CONNECT, RFC 9110, 9.3.6).

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::response::Parts;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::call::secret::Secret;
use crate::providers::endpoint::Endpoint;

/// Until the proxy has its tunnel: less than a whole connection may take, so
/// that the proxy is named and not the server behind it.
const TUNNEL: Duration = Duration::from_secs(4);

/// The proxy's answer holds no more than this.
const MAX_HEAD: usize = 8 * 1024;

/// The table `[proxy]`: the proxy that is asked for tunnels, if there is one.
/// Cheap to clone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Settings")]
pub struct Proxy {
    matcher: Option<Arc<Matcher>>,
    settings: Settings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// `http://host:port`, with user and password if it asks for them.
    #[serde(deserialize_with = "address")]
    url: Option<Secret>,
    /// What is reached without it.
    #[serde(deserialize_with = "places")]
    no_proxy: Vec<String>,
}

/// A value that cannot be used, and the cure. Quotes nothing of the address: it
/// may hold a password.
#[derive(Debug, thiserror::Error)]
enum SettingsError {
    #[error(
        "is not an address such as http://proxy.example:3128 or \
         http://user:password@proxy.example:3128; of user and password write what is not a letter \
         or a digit as %XX (\"@\" is %40)"
    )]
    Url,
    #[error("must begin with http://; a proxy that speaks TLS or SOCKS is not supported")]
    Scheme,
    #[error("names no port from 1 to 65535; write it, such as http://proxy.example:3128")]
    Port,
    #[error(
        "holds {0:?}; write host names, which stand for all names below them too, addresses or \
         networks, all without a port, such as push.example or 10.0.0.0/8"
    )]
    Place(String),
}

/// Set to nothing it is not set: Compose does so with a variable that it does
/// not have.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let url = String::deserialize(deserializer)?;
    if url.is_empty() {
        return Ok(None);
    }
    check_address(&url).map_err(Error::custom)?;
    Ok(Some(url.into()))
}

fn check_address(url: &str) -> Result<(), SettingsError> {
    let (scheme, _) = url.split_once("://").ok_or(SettingsError::Url)?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(SettingsError::Scheme);
    }
    let uri: Uri = url.parse().map_err(|_| SettingsError::Url)?;
    let authority = uri.authority().ok_or(SettingsError::Url)?;
    // A password with one of these in it would show as a part of the host.
    let torn = authority.as_str().matches('@').count() > 1 || url.contains(['#', '?']);
    if torn || authority.host().is_empty() || !matches!(uri.path(), "" | "/") {
        return Err(SettingsError::Url);
    }
    match authority.port_u16() {
        Some(1..) => Ok(()),
        Some(0) | None => Err(SettingsError::Port),
    }
}

/// A list, or in a variable of the environment a text with commas.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of host names")]
    enum Places {
        List(Vec<String>),
        Text(String),
    }
    let list = match Places::deserialize(deserializer)? {
        Places::List(list) => list,
        Places::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    match list.iter().find(|text| !is_place(text)) {
        Some(wrong) => Err(Error::custom(SettingsError::Place(wrong.clone()))),
        None => Ok(list),
    }
}

/// A host's name, `*`, an address or a network.
fn is_place(text: &str) -> bool {
    let named = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if let Some((address, bits)) = text.split_once('/') {
        let longest = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        return bits.parse::<u8>().is_ok_and(|bits| bits <= longest);
    }
    text == "*" || text.parse::<IpAddr>().is_ok() || text.chars().all(named)
}

impl From<Settings> for Proxy {
    fn from(settings: Settings) -> Self {
        let matcher = settings.url.as_ref().map(|url| {
            let builder = Matcher::builder().all(url.expose());
            Arc::new(builder.no(settings.no_proxy.join(",")).build())
        });
        Self { matcher, settings }
    }
}

impl Proxy {
    /// All that is set, the password too: to see whether it has changed.
    #[must_use]
    pub fn exposed(&self) -> String {
        let url = self.settings.url.as_ref().map_or("", Secret::expose);
        format!("{url} {:?}", self.settings.no_proxy)
    }

    /// The hop on the way to a server, if that is not reached straight. This
    /// machine always is.
    #[must_use]
    pub fn hop(&self, server: &Endpoint) -> Option<Hop> {
        let matcher = self.matcher.as_ref()?;
        let found = (!server.is_loopback()).then(|| matcher.intercept(&server.uri()))?;
        found.map(Hop)
    }
}

/// The proxy on the way to one server. Its text is host and port.
pub struct Hop(Intercept);

/// Why a proxy gives no tunnel, and the cure.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Its name is not known.
    #[error("cannot be looked up ({0}); mend proxy.url, or DNS on this machine")]
    Lookup(io::Error),
    /// It is not there.
    #[error(
        "cannot be reached ({0}); see whether it runs and lets this machine in, or mend proxy.url"
    )]
    Unreachable(String),
    /// It asks for a password.
    #[error(
        "asks for a user and a password (407); write them into proxy.url: \
         http://user:password@host:port"
    )]
    NoPassword,
    /// It has another one.
    #[error("does not take the user and the password of proxy.url (407); mend them")]
    WrongPassword,
    /// It asks for what is not spoken here.
    #[error(
        "asks for a login by {0} (407), and only Basic is spoken here; have it take Basic from \
         this machine, or let it pass without a login"
    )]
    Scheme(String),
    /// It does not lead there.
    #[error("forbids a tunnel to {0} (403); allow CONNECT to that host and port there")]
    Forbidden(String),
    /// It cannot get there.
    #[error("cannot reach {to} itself ({status}); look at DNS and the firewall there, and its log")]
    BadGateway {
        /// Host and port.
        to: String,
        /// What it answers.
        status: u16,
    },
    /// Some other answer.
    #[error(
        "answers CONNECT to {to} with {status}; is proxy.url an HTTP proxy, and does it allow \
         CONNECT?"
    )]
    Status {
        /// Host and port.
        to: String,
        /// What it answers.
        status: u16,
    },
    /// It is silent.
    #[error("says nothing to CONNECT within {0:?}; is proxy.url an HTTP proxy, and is it well?")]
    Silent(Duration),
    /// There is no HTTP.
    #[error("does not answer CONNECT in HTTP ({0}); is proxy.url an HTTP proxy?")]
    Http(#[from] hyper::Error),
}

impl Hop {
    pub(super) fn host(&self) -> &str {
        self.0
            .uri()
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
    }

    pub(super) fn port(&self) -> u16 {
        self.0.uri().port_u16().unwrap_or_default()
    }

    /// Has the proxy open a tunnel to a server.
    pub(super) async fn tunnel(
        &self,
        stream: TcpStream,
        server: &Endpoint,
    ) -> Result<TcpStream, TunnelError> {
        let uri = server.uri();
        // The host as the URL has it: an IPv6 address in brackets.
        let to = format!("{}:{}", uri.host().unwrap_or_default(), server.port());
        let asked = timeout(TUNNEL, self.ask(stream, &to)).await;
        let (answer, stream) = asked.map_err(|_| TunnelError::Silent(TUNNEL))??;
        match stream {
            Some(stream) if answer.status.is_success() => Ok(stream),
            Some(_) | None => Err(self.refusal(&answer, to)),
        }
    }

    async fn ask(&self, stream: TcpStream, to: &str) -> hyper::Result<(Parts, Option<TcpStream>)> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        // Neither can fail: a URI and a header were made of the same text before.
        *request.uri_mut() = to.parse().unwrap_or_default();
        if let Ok(host) = HeaderValue::from_str(to) {
            request.headers_mut().insert(HOST, host);
        }
        if let Some(login) = self.0.basic_auth() {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, login.clone());
        }
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        let opened = connection.without_shutdown();
        let answer = sender.send_request(request);
        tokio::pin!(opened, answer);
        let (answer, opened) = tokio::select! {
            biased;
            answer = &mut answer => {
                let answer = answer?;
                let tunnel = answer.status().is_success();
                (answer, if tunnel { Some(opened.await?) } else { None })
            }
            parts = &mut opened => (answer.await?, Some(parts?)),
        };
        let (head, _) = answer.into_parts();
        Ok((head, opened.map(|parts| parts.io.into_inner())))
    }

    fn refusal(&self, answer: &Parts, to: String) -> TunnelError {
        let status = answer.status.as_u16();
        match status {
            407 => {
                let schemes = answer.headers.get_all(PROXY_AUTHENTICATE).iter();
                let schemes: Vec<&str> = schemes
                    .filter_map(|header| header.to_str().ok()?.split_whitespace().next())
                    .collect();
                let basic = |scheme: &&str| scheme.eq_ignore_ascii_case("basic");
                if !schemes.is_empty() && !schemes.iter().any(basic) {
                    TunnelError::Scheme(schemes.join(", "))
                } else if self.0.basic_auth().is_some() {
                    TunnelError::WrongPassword
                } else {
                    TunnelError::NoPassword
                }
            }
            403 => TunnelError::Forbidden(to),
            502..=504 => TunnelError::BadGateway { to, status },
            _ => TunnelError::Status { to, status },
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.uri().authority().map_or("", |a| a.as_str()))
    }
}
