//! One new connection: the way there, then HTTP/2 up to the server's SETTINGS.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::time::timeout;

use super::dial::{DialError, Lap, Phases, Stream, Target};
use super::watched::{Reads, Watched};

/// The wire under HTTP/2.
pub(super) type Wire = Watched<Stream>;

/// Streams that time out may still be answered; so many of those answers are
/// ignored instead of refused one by one.
const LATE_ANSWERS: usize = 1000;

/// A connection that is up.
pub(super) struct Fresh {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) connection: Connection<Wire, Bytes>,
    pub(super) reads: Arc<Reads>,
    pub(super) phases: Phases,
    pub(super) peer: Option<std::net::SocketAddr>,
}

/// Why there is no connection. Names the phase; holds no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The server was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server speaks TLS but not HTTP/2.
    #[error("{0} does not offer HTTP/2 (no ALPN \"h2\"); is that the right address?")]
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

/// Opens a connection within `limit`.
pub(super) async fn connect(target: &Target, limit: Duration) -> Result<Fresh, ConnectError> {
    match timeout(limit, open(target)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut {
            host: host(target),
            limit,
        }),
    }
}

async fn open(target: &Target) -> Result<Fresh, ConnectError> {
    let (stream, mut phases) = target.dial().await?;
    let agreed = stream.session().map(|session| session.alpn_protocol());
    // Without TLS there is nothing to agree by: HTTP/2 is known to be spoken.
    if agreed.is_some_and(|protocol| protocol != Some(b"h2")) {
        return Err(ConnectError::NoHttp2(host(target)));
    }
    let peer = stream.peer();
    let mut lap = Lap::start();
    let (wire, reads) = Watched::new(stream);
    let spoken = speak(wire, &reads).await;
    let (sender, connection) = spoken.map_err(|error| ConnectError::Http2 {
        host: host(target),
        error,
    })?;
    phases.http = lap.split();
    Ok(Fresh {
        sender,
        connection,
        reads,
        phases,
        peer,
    })
}

/// Waits for the first bytes of the server: they are its SETTINGS, which hold
/// the stream limit, and until they are there nothing proves that the other end
/// took the TLS session (or the client certificate).
async fn speak(
    wire: Wire,
    reads: &Reads,
) -> Result<(SendRequest<Bytes>, Connection<Wire, Bytes>), h2::Error> {
    let (sender, mut connection) = Builder::new()
        // "APNs allows only one stream until the first valid request";
        // anything else is said by the SETTINGS.
        .initial_max_send_streams(1)
        .enable_push(false)
        .max_header_list_size(16 * 1024)
        .max_concurrent_reset_streams(LATE_ANSWERS)
        .handshake(wire)
        .await?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::NO_ERROR.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending if reads.count() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((sender, connection))
}

fn host(target: &Target) -> String {
    target.to_string()
}
