//! One new connection: look-up, TCP, TLS, HTTP/2, up to the server's SETTINGS.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::settings::Endpoint;
use super::watched::{Reads, Watched};

/// Of all the addresses of a name, so many are tried.
const ADDRESSES: usize = 4;
/// And each for so long, so that one dead address does not eat the whole time.
const EACH_ADDRESS: Duration = Duration::from_millis(1500);

/// The wire under HTTP/2.
pub(super) type Wire = Watched<TlsStream<TcpStream>>;

/// Where connections go and with what TLS.
pub(super) struct Target {
    endpoint: Endpoint,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// How long each phase of a connection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Looking up the name.
    pub dns: Duration,
    /// TCP, with the addresses that did not answer.
    pub tcp: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// HTTP/2: until the server's SETTINGS were there.
    pub http2: Duration,
}

/// A connection that is up.
pub(super) struct Fresh {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) connection: Connection<Wire, Bytes>,
    pub(super) reads: Arc<Reads>,
    pub(super) timings: Timings,
    pub(super) peer: SocketAddr,
}

/// Why there is no connection. Names the phase; holds no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name's look-up failed.
    #[error("looking up {host}: {error}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// The name has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// No address took a TCP connection; the last one's error.
    #[error("connecting to {address}: {error}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host}: {error}")]
    Tls {
        /// The name.
        host: String,
        /// What rustls says.
        error: io::Error,
    },
    /// The server speaks TLS but not HTTP/2.
    #[error("{0} does not offer HTTP/2 (no ALPN \"h2\"); is that address an APNs server?")]
    NoHttp2(String),
    /// The connection broke before the server's first frame. With TLS 1.3 a
    /// refused client certificate shows here.
    #[error("HTTP/2 with {host}: {error}")]
    Http2 {
        /// The name.
        host: String,
        /// What h2 says.
        error: h2::Error,
    },
    /// The whole took too long.
    #[error("{host} did not answer within {limit:?}")]
    TimedOut {
        /// The name.
        host: String,
        /// The bound.
        limit: Duration,
    },
}

impl Target {
    pub(super) fn new(
        endpoint: Endpoint,
        tls: ClientConfig,
    ) -> Result<Self, rustls_pki_types::InvalidDnsNameError> {
        let name = ServerName::try_from(endpoint.host().to_owned())?;
        Ok(Self {
            endpoint,
            name,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Opens a connection within `limit`.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Fresh, ConnectError> {
        match timeout(limit, self.open()).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut {
                host: self.host(),
                limit,
            }),
        }
    }

    async fn open(&self) -> Result<Fresh, ConnectError> {
        let mut timings = Timings::default();
        let mut watch = Stopwatch::start();
        let addresses = self.look_up().await?;
        timings.dns = watch.lap();
        let (tcp, peer) = self.dial(&addresses).await?;
        timings.tcp = watch.lap();
        let tls = self.secure(tcp).await?;
        timings.tls = watch.lap();
        let (wire, reads) = Watched::new(tls);
        let (sender, connection) = self.speak(wire, &reads).await?;
        timings.http2 = watch.lap();
        Ok(Fresh {
            sender,
            connection,
            reads,
            timings,
            peer,
        })
    }

    /// A look-up for every connection and no cache of our own: Apple spreads
    /// load by DNS ("Sending notification requests to APNs").
    async fn look_up(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let found = lookup_host((self.endpoint.host(), self.endpoint.port())).await;
        let found = found.map_err(|error| ConnectError::Lookup {
            host: self.host(),
            error,
        })?;
        Ok(found.take(ADDRESSES).collect())
    }

    async fn dial(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(TcpStream, SocketAddr), ConnectError> {
        let mut last = ConnectError::NoAddress(self.host());
        for &address in addresses {
            let dialled = timeout(EACH_ADDRESS, TcpStream::connect(address)).await;
            let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            // Nagle would hold a push back until the last one is acknowledged.
            match dialled.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => last = ConnectError::Tcp { address, error },
            }
        }
        Err(last)
    }

    async fn secure(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, ConnectError> {
        let stream = self.tls.connect(self.name.clone(), tcp).await;
        let stream = stream.map_err(|error| ConnectError::Tls {
            host: self.host(),
            error,
        })?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            Ok(stream)
        } else {
            Err(ConnectError::NoHttp2(self.host()))
        }
    }

    /// Waits for the first bytes of the server: they are its SETTINGS, which
    /// hold the stream limit, and until they are there nothing proves that the
    /// other end took the TLS session (or the client certificate).
    async fn speak(
        &self,
        wire: Wire,
        reads: &Reads,
    ) -> Result<(SendRequest<Bytes>, Connection<Wire, Bytes>), ConnectError> {
        let failed = |error| ConnectError::Http2 {
            host: self.host(),
            error,
        };
        let (sender, mut connection) = Builder::new()
            // "APNs allows only one stream until the first valid request";
            // anything else is said by the SETTINGS.
            .initial_max_send_streams(1)
            .enable_push(false)
            .max_header_list_size(16 * 1024)
            .handshake(wire)
            .await
            .map_err(failed)?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::NO_ERROR.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if reads.count() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await
        .map_err(failed)?;
        Ok((sender, connection))
    }

    fn host(&self) -> String {
        self.endpoint.host().to_owned()
    }
}

struct Stopwatch(Instant);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}
