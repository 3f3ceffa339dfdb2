//! One connection to a server, looked at step by step: for people who want to
//! know where it fails, how long it takes and what time it is over there.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::endpoint::{Endpoint, EndpointFault};
use super::http2::Phases;
use super::http2::dial::{DialError, Lap, Target};
use crate::call::time::Timestamp;

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
    #[error("{0} {1}")]
    Address(String, EndpointFault),
    /// The host cannot be named in TLS.
    #[error("{0} is not a host name")]
    Host(String),
    /// The server was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
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
    let endpoint =
        Endpoint::parse(url).map_err(|fault| ProbeError::Address(url.to_owned(), fault))?;
    let host = endpoint.host().to_owned();
    let path = format!("{}/", endpoint.path());
    let uri = endpoint.at(path.try_into().unwrap_or(PathAndQuery::from_static("/")));
    let target = Target::new(endpoint, tls).map_err(|_| ProbeError::Host(host.clone()))?;
    let (stream, mut phases) = target.dial().await?;
    let facts = stream.session().map(TlsFacts::of);
    let http2 = facts.as_ref().is_some_and(|facts| facts.http2);
    let mut lap = Lap::start();
    let headers = head(stream, &uri, http2)
        .await
        .map_err(|error| ProbeError::Http { host, error })?;
    phases.http = lap.split();
    Ok(seen(phases, &headers, facts))
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
    fn of(session: &ClientConnection) -> Self {
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
