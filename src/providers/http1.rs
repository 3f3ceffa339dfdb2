//! One request over a connection of its own, in HTTP/1.1: for what is asked now
//! and then, such as an access token. Follows no redirect.

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::http2::dial::{DialError, Target};

/// No more than this is read of an answer: what is longer is not from a service
/// that is known here.
const MAX_ANSWER: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The server was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It was, and there is no HTTP.
    #[error("HTTP with {host}: {error}")]
    Http {
        /// The name.
        host: String,
        /// What hyper says.
        error: hyper::Error,
    },
}

/// Makes a request, whose URI is absolute.
///
/// # Errors
/// No answer came.
pub async fn ask(
    target: &Target,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, AskError> {
    let (stream, _) = target.dial().await?;
    send(stream, request).await.map_err(|error| AskError::Http {
        host: target.to_string(),
        error,
    })
}

/// The same over bytes that lead there.
///
/// # Errors
/// No answer came.
pub async fn send<S>(stream: S, mut request: Request<Full<Bytes>>) -> hyper::Result<Response<Bytes>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let uri = std::mem::take(request.uri_mut());
    if let Some(Ok(host)) = uri.authority().map(|host| host.as_str().parse()) {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(path) = uri.path_and_query() {
        *request.uri_mut() = path.clone().into();
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, read(body).await?))
    };
    drive(connection, answer).await
}

/// A body, cut off at [`MAX_ANSWER`].
async fn read(mut body: Incoming) -> hyper::Result<Bytes> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        let room = MAX_ANSWER - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(bytes.into())
}

/// Drives a connection until the answer is there.
pub(super) async fn drive<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<T>>,
) -> hyper::Result<T> {
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}
