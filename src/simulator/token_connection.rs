//! One HTTP/1.1 connection to the token server: plain, on loopback, as a
//! `token_uri` may be.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::connection::Stops;
use super::control::{Control, Mode};
use super::exchange::Reply;
use super::oauth;
use super::play::{Endpoint, Place};
use super::script::Body;
use super::wire::Wire;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(300);
/// An assertion is about a kilobyte.
const MOST: usize = 64 * 1024;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, endpoint: Endpoint, id: u64, stops: Stops) {
    let control = Arc::new(Control::new(1));
    let io = TokioIo::new(Wire::plain(stream, Arc::clone(&control)));
    let killer = Arc::clone(&control);
    let endpoint = Arc::new(endpoint);
    let service = service_fn(move |request| {
        request_on(Arc::clone(&endpoint), Arc::clone(&control), id, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            // How a client ends a connection is its own affair.
            _ = connection.as_mut() => return,
            () = stops.kill.cancelled(), if killer.mode() != Mode::Killed => {
                killer.set_mode(Mode::Killed);
            }
            () = stops.drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn request_on(
    endpoint: Arc<Endpoint>,
    control: Arc<Control>,
    id: u64,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MOST)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let mut judged = oauth::judge(&endpoint.world, &head, &body);
    let plan = endpoint.decide(&mut judged);
    let place = Place {
        connection: id,
        stream: 0,
    };
    endpoint.record(&place, head, body, judged);
    if let Some(delay) = plan.delay {
        tokio::time::sleep(delay).await;
    }
    if !endpoint.apply(&plan.effect, &control) {
        return std::future::pending().await;
    }
    Ok(response(&plan.reply, plan.body))
}

fn response(reply: &Reply, body: Body) -> Answer {
    let bytes = reply.body.clone();
    let body = match body {
        Body::Whole => Full::new(bytes).boxed_unsync(),
        Body::Never => {
            let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
            StreamBody::new(never).boxed_unsync()
        }
        Body::After(delay) => StreamBody::new(stream::once(async move {
            tokio::time::sleep(delay).await;
            Ok(Frame::data(bytes))
        }))
        .boxed_unsync(),
    };
    reply.head().map(|()| body)
}
