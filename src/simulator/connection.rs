//! One HTTP/2 connection to a push server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use http::request::Parts;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::apns_auth::Auth;
use super::certificates::topics_of;
use super::control::{Control, Mode};
use super::exchange::{Judged, Reply};
use super::kind::Environment;
use super::play::{Decision, Endpoint, Place};
use super::script::{Body, Effect};
use super::wire::Wire;
use super::{apns, fcm};

/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may live after its GOAWAY.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long a connection may be a black hole: nobody notices when it is left.
const BLACK_HOLE: Duration = Duration::from_secs(900);
/// Bytes of a body that are kept; more is read and dropped.
const KEPT: usize = 64 * 1024;
/// Streams that may be reset before the library calls it an attack: faults are
/// this server's purpose.
const RESETS: usize = 100_000;
/// Streams of a cold `APNs` connection with token authentication.
const COLD: u32 = 1;

/// When connections end.
#[derive(Clone)]
pub(super) struct Stops {
    /// With a GOAWAY, after what is under way.
    pub(super) drain: CancellationToken,
    /// At once, with a TCP reset.
    pub(super) kill: CancellationToken,
}

/// What the requests of one connection share.
struct Connection {
    id: u64,
    endpoint: Endpoint,
    control: Arc<Control>,
    auth: Option<(Environment, Auth)>,
    warm: AtomicBool,
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TlsStream<TcpStream>, endpoint: Endpoint, id: u64, stops: Stops) {
    let auth = auth_of(&stream, &endpoint);
    let options = &endpoint.world.options;
    let warm = auth.as_ref().is_none_or(|(_, auth)| auth.has_certificate());
    let full = if auth.is_some() {
        options.max_streams
    } else {
        options.fcm_max_streams
    };
    let control = Arc::new(Control::new(if warm { full } else { COLD }));
    let wire = Wire::framed(stream, Arc::clone(&control));
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(None);
    let Ok(Ok(http2)) = timeout(HANDSHAKE, builder.handshake(wire)).await else {
        return;
    };
    let warm = AtomicBool::new(warm);
    let connection = Arc::new(Connection {
        id,
        endpoint,
        control,
        auth,
        warm,
    });
    drive(http2, &connection, &stops).await;
}

fn auth_of(stream: &TlsStream<TcpStream>, endpoint: &Endpoint) -> Option<(Environment, Auth)> {
    let environment = endpoint.kind.environment()?;
    let chain = stream.get_ref().1.peer_certificates();
    let topics = chain.and_then(<[_]>::first).map(|leaf| topics_of(leaf));
    let window = endpoint.world.options.provider_token_window;
    Some((environment, Auth::new(environment, topics, window)))
}

async fn drive(
    mut http2: h2::server::Connection<Wire<TlsStream<TcpStream>>, Bytes>,
    connection: &Arc<Connection>,
    stops: &Stops,
) {
    let control = &connection.control;
    let mut requests = JoinSet::new();
    let mut draining = false;
    let mut end = None;
    loop {
        tokio::select! {
            () = stops.kill.cancelled(), if control.mode() != Mode::Killed => {
                control.set_mode(Mode::Killed);
            }
            () = stops.drain.cancelled(), if !draining => {
                draining = true;
                control.go_away(None, &connection.debug_data("Shutdown"));
            }
            () = control.ending() => {
                let hole = control.mode() == Mode::BlackHole;
                end = Some(Instant::now() + if hole { BLACK_HOLE } else { FAREWELL });
            }
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            Some(_) = requests.join_next() => {}
            accepted = http2.accept() => {
                let Some(Ok((request, mut respond))) = accepted else { break };
                if control.was_refused(respond.stream_id().as_u32()) {
                    respond.send_reset(Reason::REFUSED_STREAM);
                } else {
                    requests.spawn(request_on(Arc::clone(connection), request, respond));
                }
            }
        }
    }
}

/// Judges and answers one request; ends early if the client takes it back.
async fn request_on(
    connection: Arc<Connection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let Some(body) = whole(body).await else {
        return;
    };
    let mut judged = connection.judge(&head, &body);
    let plan = connection.endpoint.decide(&mut judged);
    let stream = respond.stream_id().as_u32();
    let control = &connection.control;
    if let Effect::GoAway {
        processed: false,
        reason,
    } = &plan.effect
    {
        let last = Some(stream.saturating_sub(2));
        control.go_away(last, &connection.debug_data(reason));
    } else if !control.claim(stream) {
        return until_reset(&mut respond).await;
    }
    connection.warm_up(&judged);
    let place = Place {
        connection: connection.id,
        stream,
    };
    connection.endpoint.record(&place, head, body, judged);
    if let Some(delay) = plan.delay {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = until_reset(&mut respond) => return,
        }
    }
    connection.act(plan, stream, respond).await;
}

impl Connection {
    fn judge(&self, head: &Parts, body: &Bytes) -> Judged {
        let world = &self.endpoint.world;
        match &self.auth {
            Some((environment, auth)) => apns::judge(world, *environment, auth, head, body),
            None => fcm::judge(world, head, body),
        }
    }

    /// The debug data of a GOAWAY: with Apple JSON, with Google plain text.
    fn debug_data(&self, reason: &str) -> String {
        match self.auth {
            Some(_) => serde_json::json!({ "reason": reason }).to_string(),
            None => reason.to_owned(),
        }
    }

    /// Opens the streams after the first request of a proven sender.
    fn warm_up(&self, judged: &Judged) {
        if judged.authenticated && !self.warm.swap(true, Ordering::AcqRel) {
            self.control
                .announce(self.endpoint.world.options.max_streams);
        }
    }

    async fn act(&self, plan: Decision, stream: u32, mut respond: SendResponse<Bytes>) {
        if let Effect::Reset(code) = plan.effect {
            return respond.send_reset(Reason::from(code));
        }
        if let Effect::MaxStreams(limit) = plan.effect {
            self.control.announce(limit);
        }
        if let Effect::GoAway { processed, reason } = &plan.effect {
            if *processed {
                let debug = self.debug_data(reason);
                self.control.go_away(Some(stream), &debug);
            } else if self.control.covers(stream) {
                // Processed nothing and says so, if a later stream forbids the
                // GOAWAY to say it.
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
        }
        if self.endpoint.apply(&plan.effect, &self.control) {
            answer(plan.reply, plan.body, respond).await;
        } else {
            until_reset(&mut respond).await;
        }
    }
}

async fn answer(reply: Reply, body: Body, mut respond: SendResponse<Bytes>) {
    let last = reply.body.is_empty() && body == Body::Whole;
    // A client that has gone needs no answer.
    let Ok(mut sender) = respond.send_response(reply.head(), last) else {
        return;
    };
    // Once the headers are out, this half hears of the client's reset.
    let gone = std::future::poll_fn(|cx| sender.poll_reset(cx));
    match body {
        Body::Whole => {}
        Body::Never => {
            let _ = gone.await;
            return;
        }
        Body::After(delay) => tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = gone => return,
        },
    }
    if !last {
        let _ = sender.send_data(reply.body, true);
    }
}

/// Until the client gives up on the stream or the connection ends.
async fn until_reset(respond: &mut SendResponse<Bytes>) {
    let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
}

/// The body, of which at most [`KEPT`] bytes (and one more, so that it is seen
/// to be too long); `None` if the client took the request back.
async fn whole(mut body: RecvStream) -> Option<Bytes> {
    let mut kept = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        let room = (KEPT + 1).saturating_sub(kept.len()).min(chunk.len());
        kept.extend_from_slice(&chunk[..room]);
        body.flow_control().release_capacity(chunk.len()).ok()?;
    }
    Some(kept.freeze())
}
