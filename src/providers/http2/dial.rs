//! The way to a server, phase by phase: look-up, TCP, TLS.

use std::error::Error;
use std::fmt;
use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::proxy::{Hop, Proxy, TunnelError};
use crate::providers::endpoint::Endpoint;

/// Of all the addresses of a name, so many of each family are tried.
const ADDRESSES: usize = 4;
/// The addresses of one family share this, so that a dead one does not eat the
/// whole time.
const TCP: Duration = Duration::from_secs(4);
/// The other family is tried beside the first one after this ("Happy
/// Eyeballs", RFC 8305, 5).
const OTHER_FAMILY: Duration = Duration::from_millis(250);

/// Where connections go and with what TLS.
pub struct Target {
    endpoint: Endpoint,
    /// None where the server is reached straight.
    hop: Option<Hop>,
    /// None where no TLS is spoken.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// How long each phase of a connection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Looking up the name.
    pub dns: Duration,
    /// TCP, with the addresses that did not answer.
    pub tcp: Duration,
    /// The TLS handshake; `None` without TLS.
    pub tls: Option<Duration>,
    /// HTTP: until the server's SETTINGS were there, or a probe's answer.
    pub http: Duration,
}

/// Why a server was not reached. Names the phase; holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name's look-up failed.
    #[error("looking up {host}: {error}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// No address took a TCP connection.
    #[error("connecting to {host}: {error}")]
    Tcp {
        /// Host and port.
        host: String,
        /// What the system says of the first address.
        error: String,
    },
    /// The proxy on the way is not there, or opens no tunnel.
    #[error("proxy {proxy} {error}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What it says, and the cure.
        error: TunnelError,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host}: {error}")]
    Tls {
        /// The name.
        host: String,
        /// What rustls says.
        error: io::Error,
    },
}

impl Target {
    /// A target, behind the proxy if that has a hop to it; `tls` is used if the
    /// endpoint is https.
    ///
    /// # Errors
    /// The host cannot be named in TLS.
    pub fn new(
        endpoint: Endpoint,
        tls: ClientConfig,
        proxy: &Proxy,
    ) -> Result<Self, rustls_pki_types::InvalidDnsNameError> {
        let tls = if endpoint.is_secure() {
            let name = ServerName::try_from(endpoint.host().to_owned())?;
            Some((TlsConnector::from(Arc::new(tls)), name))
        } else {
            None
        };
        let hop = proxy.hop(&endpoint);
        Ok(Self { endpoint, hop, tls })
    }

    /// Where it is.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Reaches the server, and says how long the phases up to TLS took.
    ///
    /// # Errors
    /// The phase that failed.
    pub async fn dial(&self) -> Result<(Stream, Phases), DialError> {
        let mut phases = Phases::default();
        let mut lap = Lap::start();
        let host = self.hop.as_ref().map_or(self.endpoint.host(), Hop::host);
        let port = self.hop.as_ref().map_or(self.endpoint.port(), Hop::port);
        let addresses = look_up(host, port).await;
        let addresses = addresses.map_err(|error| self.not_found(error))?;
        phases.dns = lap.split();
        let tcp = self.reach(addresses).await?;
        phases.tcp = lap.split();
        let Some((connector, name)) = &self.tls else {
            return Ok((Stream::Plain(tcp), phases));
        };
        let secured = connector.connect(name.clone(), tcp).await;
        let secured = secured.map_err(|error| DialError::Tls {
            host: self.to_string(),
            error,
        })?;
        phases.tls = Some(lap.split());
        Ok((Stream::Tls(Box::new(secured)), phases))
    }

    /// Bytes to the server and back, through the proxy's tunnel if there is one:
    /// TLS then goes through that.
    async fn reach(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
        let reached = connect(addresses).await;
        let stream = reached.map_err(|error| self.not_reached(error))?;
        match &self.hop {
            None => Ok(stream),
            Some(hop) => {
                let tunnel = hop.tunnel(stream, &self.endpoint).await;
                tunnel.map_err(|error| proxy(hop, error))
            }
        }
    }

    fn not_found(&self, error: io::Error) -> DialError {
        match &self.hop {
            Some(hop) => proxy(hop, TunnelError::Lookup(error)),
            None => DialError::Lookup {
                host: self.endpoint.host().to_owned(),
                error,
            },
        }
    }

    fn not_reached(&self, error: String) -> DialError {
        match &self.hop {
            Some(hop) => proxy(hop, TunnelError::Unreachable(error)),
            None => DialError::Tcp {
                host: format!("{}:{}", self.endpoint.host(), self.endpoint.port()),
                error,
            },
        }
    }
}

fn proxy(hop: &Hop, error: TunnelError) -> DialError {
    let proxy = hop.to_string();
    DialError::Proxy { proxy, error }
}

/// A look-up for every connection and no cache of our own: Apple spreads load by
/// DNS ("Sending notification requests to APNs").
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = lookup_host((host, port)).await?;
    let (mut six, mut four): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    six.truncate(ADDRESSES);
    four.truncate(ADDRESSES);
    six.append(&mut four);
    Ok(six)
}

/// TCP, the address families raced.
async fn connect(addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let port = addresses.first().map_or(0, SocketAddr::port);
    let mut connector = HttpConnector::new_with_resolver(Found(addresses));
    // Nagle would hold a push back until the last one is acknowledged.
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(TCP));
    connector.set_happy_eyeballs_timeout(Some(OTHER_FAMILY));
    // It wants a name, and looks up what was found.
    let uri = Uri::builder()
        .scheme("http")
        .authority(format!("found:{port}"));
    let uri = uri.path_and_query("/").build().map_err(|e| e.to_string())?;
    let reached = connector.call(uri).await;
    Ok(reached.map_err(|error| innermost(&error))?.into_inner())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.endpoint.host())?;
        match &self.hop {
            Some(hop) => write!(f, " through proxy {hop}"),
            None => Ok(()),
        }
    }
}

/// The addresses that were found, for the connector: its own look-up could not
/// be timed apart.
#[derive(Clone)]
struct Found(Vec<SocketAddr>);

impl Service<Name> for Found {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(std::mem::take(&mut self.0).into_iter()))
    }
}

/// The connector's own words say only that it could not connect.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Bytes to a server and back.
pub enum Stream {
    /// Without TLS, which only happens on this machine.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What TLS has agreed on, if there is TLS.
    #[must_use]
    pub fn session(&self) -> Option<&ClientConnection> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().1),
        }
    }

    /// The address at the other end.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        let tcp = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        tcp.peer_addr().ok()
    }
}

/// The same call on whichever stream it is.
macro_rules! on_stream {
    ($self:expr, $call:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).$call($($argument),*),
            Self::Tls(stream) => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// Times one phase after the other.
pub struct Lap(tokio::time::Instant);

impl Lap {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// The time since the last split.
    pub fn split(&mut self) -> Duration {
        let now = tokio::time::Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}
