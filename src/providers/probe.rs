//! One connection to a server, looked at step by step: for people who want to
//! know where it fails, how long it takes and what time it is over there.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HOST};
use http::{HeaderMap, Request, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::call::time::Timestamp;

/// For each address of a name.
const EACH_ADDRESS: Duration = Duration::from_millis(1500);

/// How long each phase took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Looking up the name.
    pub dns: Duration,
    /// TCP, with the addresses that did not answer.
    pub tcp: Duration,
    /// The TLS handshake; `None` without TLS.
    pub tls: Option<Duration>,
    /// HTTP: until the answer to a HEAD request.
    pub http: Duration,
}

/// What a connection showed.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How long it took.
    pub phases: Phases,
    /// The server's clock, if it says so (`Date`), and ours at that moment.
    pub clock: Option<(SystemTime, SystemTime)>,
    /// When the server's certificate expires.
    pub certificate_expires: Option<Timestamp>,
    /// `TLSv1_3` and the like.
    pub tls_version: Option<String>,
}

/// Where a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The address is none.
    #[error("{0} is not an address")]
    Address(String),
    /// The name cannot be looked up.
    #[error("looking up {host}: {error}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// Nobody takes a connection.
    #[error("connecting to {host}: {error}")]
    Tcp {
        /// Host and port.
        host: String,
        /// What the system says.
        error: io::Error,
    },
    /// The handshake fails.
    #[error("TLS with {host}: {error}")]
    Tls {
        /// The name.
        host: String,
        /// What rustls says.
        error: io::Error,
    },
    /// There is no HTTP.
    #[error("HTTP with {host}: {error}")]
    Http {
        /// The name.
        host: String,
        /// What hyper says.
        error: hyper::Error,
    },
    /// The whole took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// Opens a connection to `url` as a client with this TLS would, asks for its
/// head (without credentials, without an effect) and closes it.
///
/// # Errors
/// The phase that failed.
pub async fn probe(url: &str, tls: ClientConfig, limit: Duration) -> Result<Seen, ProbeError> {
    match timeout(limit, open(url, tls)).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::TimedOut(limit)),
    }
}

async fn open(url: &str, tls: ClientConfig) -> Result<Seen, ProbeError> {
    let wrong = || ProbeError::Address(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let secure = uri.scheme_str() == Some("https");
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let mut phases = Phases::default();
    let mut lap = Instant::now();
    let addresses: Vec<_> = lookup_host((host, port))
        .await
        .map_err(|error| ProbeError::Lookup {
            host: host.to_owned(),
            error,
        })?
        .collect();
    phases.dns = split(&mut lap);
    let tcp = dial(&addresses).await.map_err(|error| ProbeError::Tcp {
        host: format!("{host}:{port}"),
        error,
    })?;
    phases.tcp = split(&mut lap);
    let failed = |error| ProbeError::Http {
        host: host.to_owned(),
        error,
    };
    if !secure {
        let headers = head(tcp, &uri, false).await.map_err(failed)?;
        phases.http = split(&mut lap);
        return Ok(seen(phases, &headers, None));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
    let connector = TlsConnector::from(std::sync::Arc::new(tls));
    let stream = connector.connect(name, tcp).await;
    let stream = stream.map_err(|error| ProbeError::Tls {
        host: host.to_owned(),
        error,
    })?;
    phases.tls = Some(split(&mut lap));
    let facts = TlsFacts::of(&stream);
    let headers = head(stream, &uri, facts.http2).await.map_err(failed)?;
    phases.http = split(&mut lap);
    Ok(seen(phases, &headers, Some(facts)))
}

async fn dial(addresses: &[std::net::SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(EACH_ADDRESS, TcpStream::connect(address)).await {
            // Nagle would hold back the request until SETTINGS are acknowledged.
            Ok(Ok(stream)) => return stream.set_nodelay(true).map(|()| stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// The headers of the answer to a HEAD request.
async fn head<S>(stream: S, uri: &Uri, http2: bool) -> hyper::Result<HeaderMap>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = http::Method::HEAD;
    let io = TokioIo::new(stream);
    if http2 {
        *request.uri_mut() = uri.clone();
        *request.version_mut() = Version::HTTP_2;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        return exchange(connection, sender.send_request(request)).await;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_default();
    if let Some(Ok(value)) = uri.authority().map(|a| a.as_str().parse()) {
        request.headers_mut().insert(HOST, value);
    }
    let (mut sender, connection) = http1::handshake(io).await?;
    exchange(connection, sender.send_request(request)).await
}

/// Drives the connection until the answer is there.
async fn exchange<B>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<http::Response<B>>>,
) -> hyper::Result<HeaderMap> {
    tokio::pin!(connection, answer);
    let response = tokio::select! {
        biased;
        response = &mut answer => response?,
        ended = &mut connection => {
            ended?;
            answer.await?
        }
    };
    Ok(response.headers().clone())
}

/// What a handshake shows of the server.
struct TlsFacts {
    http2: bool,
    version: Option<String>,
    expires: Option<Timestamp>,
}

impl TlsFacts {
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let session = stream.get_ref().1;
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let expires = leaf.and_then(|leaf| {
            let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
            let seconds = parsed.validity().not_after.timestamp();
            Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
        });
        Self {
            http2: session.alpn_protocol() == Some(b"h2"),
            version: session
                .protocol_version()
                .and_then(|version| version.as_str().map(str::to_owned)),
            expires,
        }
    }
}

fn seen(phases: Phases, headers: &HeaderMap, tls: Option<TlsFacts>) -> Seen {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let (certificate_expires, tls_version) =
        tls.map_or((None, None), |tls| (tls.expires, tls.version));
    Seen {
        phases,
        clock: theirs.map(|theirs| (theirs, SystemTime::now())),
        certificate_expires,
        tls_version,
    }
}

fn split(lap: &mut Instant) -> Duration {
    let now = Instant::now();
    now - std::mem::replace(lap, now)
}
