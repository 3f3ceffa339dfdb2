//! One connection to a server, looked at step by step: for people who want to
//! know where it fails, how long it takes and what time it is over there.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri, Version};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::http1::{drive, send};
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

/// Opens a connection as a client would, asks for the head of what is there
/// (without credentials, without an effect) and closes it.
///
/// # Errors
/// The phase that failed.
pub async fn probe(target: &Target, limit: Duration) -> Result<Seen, ProbeError> {
    match timeout(limit, open(target)).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::TimedOut(limit)),
    }
}

async fn open(target: &Target) -> Result<Seen, ProbeError> {
    let path = format!("{}/", target.endpoint().path());
    let path = path.try_into().unwrap_or(PathAndQuery::from_static("/"));
    let uri = target.endpoint().at(path);
    let (stream, mut phases) = target.dial().await?;
    let facts = stream.session().map(TlsFacts::of);
    let http2 = facts.as_ref().is_some_and(|facts| facts.http2);
    let mut lap = Lap::start();
    let headers = head(stream, uri, http2)
        .await
        .map_err(|error| ProbeError::Http {
            host: target.to_string(),
            error,
        })?;
    phases.http = lap.split();
    Ok(seen(phases, &headers, facts))
}

/// The headers of the answer to a HEAD request.
async fn head<S>(stream: S, uri: Uri, http2: bool) -> hyper::Result<HeaderMap>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = http::Method::HEAD;
    *request.uri_mut() = uri;
    if !http2 {
        return Ok(send(stream, request).await?.headers().clone());
    }
    *request.version_mut() = Version::HTTP_2;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let answer = drive(connection, sender.send_request(request)).await?;
    Ok(answer.headers().clone())
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
