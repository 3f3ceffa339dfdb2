//! Warm connections of one client: one request at a time goes in, its answer
//! comes out.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use http::{Request, response};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::call::push::{Answer, Class, Gate};
use crate::metrics::Metrics;
use crate::providers::endpoint::Endpoint;

use super::connection::Connection;
use super::dial::Target;
use super::fault;
use super::link::Link;
use super::proxy::Proxy;
use super::shared::{Options, Shared, Status};
use super::supervisor::supervise;

/// So many connections may turn out to be closed before a request is on one.
const UNSENT: usize = 4;
/// Waiting this long for an answer is enough to doubt the connections: they are
/// asked whether they are alive, and should the attempt end without an answer,
/// its own is no longer trusted.
const DOUBT: Duration = Duration::from_secs(1);

/// The endpoint's host cannot be named in TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a host name")]
pub struct HostError(String);

/// The connections of one client, kept open. Its tasks end when it is dropped;
/// [`Pool::close`] waits for them.
pub struct Pool {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    _guard: DropGuard,
}

/// An answer and what it came on.
pub struct Reply {
    /// Status and headers.
    pub head: response::Parts,
    /// The body, cut off at the limit; empty if the head was enough.
    pub body: Bytes,
    slot: Slot,
}

impl Reply {
    /// The connection took the request and its credential. `trouble` is a 5xx:
    /// others are preferred for now.
    pub fn answered(&self, trouble: bool) {
        self.slot.link().answered(trouble);
    }

    /// The connection answered, and refused the credential.
    pub fn refused(&self) {
        self.slot.link().refused();
    }

    /// No more requests go there.
    pub fn retire(&self) {
        self.slot.link().retire();
    }

    /// When the connection was opened.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.slot.link().opened
    }

    /// Whether the connection has ever taken the credential.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.slot.link().is_trusted()
    }
}

/// A stream of a connection, for one request.
struct Slot {
    connection: Arc<Connection>,
    taken: Instant,
}

impl Slot {
    fn link(&self) -> &Link {
        self.connection.link()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.link().release();
    }
}

impl Pool {
    /// A pool that connects when it is told to or with its first request. Needs
    /// a tokio runtime. `tls` is for an endpoint that is https; it has to offer
    /// `h2`.
    ///
    /// # Errors
    /// The endpoint's host cannot be named in TLS.
    pub fn new(
        endpoint: Endpoint,
        tls: ClientConfig,
        proxy: &Proxy,
        options: Options,
        metrics: &Metrics,
    ) -> Result<Self, HostError> {
        let wrong = HostError(endpoint.host().to_owned());
        let target = Target::new(endpoint, tls, proxy).map_err(|_| wrong)?;
        let cancel = CancellationToken::new();
        let tracker = TaskTracker::new();
        let shared = Arc::new(Shared::new(target, options, metrics));
        let supervisor = supervise(Arc::clone(&shared), tracker.clone(), cancel.clone());
        tracker.spawn(supervisor);
        Ok(Self {
            shared,
            tracker,
            _guard: cancel.clone().drop_guard(),
            cancel,
        })
    }

    /// Begins to connect, if it has not yet.
    pub fn connect(&self) {
        let wanted = self.shared.options.connections;
        let first = self.shared.status.send_if_modified(|status| {
            let before = std::mem::replace(&mut status.wanted, wanted);
            before != wanted
        });
        if first {
            self.shared.signals.changed.notify_one();
        }
    }

    /// Makes one request, which has ended by `until`. `request` makes it once
    /// there is a stream for it, right before the gate is passed; it is asked
    /// again should that connection turn out to be closed.
    ///
    /// # Errors
    /// How the attempt ended, when no answer came: not sent, not processed, or
    /// unclear.
    pub async fn exchange(
        &self,
        gate: &Gate,
        until: Instant,
        mut request: impl FnMut() -> (Request<()>, Bytes) + Send,
    ) -> Result<Reply, Answer> {
        for _ in 0..UNSENT {
            let Some(slot) = self.acquire(until).await else {
                return Err(not_sent(self.why_no_stream()));
            };
            let (head, body) = request();
            // The caller may have hung up while this waited for a stream.
            if !gate.pass() {
                return Err(Answer::new(Class::NotProcessed).unstarted());
            }
            match slot.connection.open(head, body) {
                Ok(response) => return self.finish(slot, response, until).await,
                // It went away between being picked and being used: nothing
                // was sent, so another one may be taken within this attempt.
                Err(error) => {
                    debug!(error = %fault::describe(&error), "connection was closed already");
                    slot.link().retire();
                }
            }
        }
        Err(not_sent(
            "one connection after the other was closed".to_owned(),
        ))
    }

    async fn finish(
        &self,
        slot: Slot,
        response: ResponseFuture,
        until: Instant,
    ) -> Result<Reply, Answer> {
        let mut receiving = pin!(receive(response, &self.shared.options));
        let doubt = slot.taken + DOUBT;
        let mut received = timeout_at(until.min(doubt), receiving.as_mut()).await;
        if received.is_err() && doubt < until {
            // It may be the path that they all go: the next attempt has to find
            // one that is alive.
            for connection in self.shared.lock().iter() {
                connection.link().ask_probe();
            }
            received = timeout_at(until, receiving).await;
        }
        match received {
            Ok(Ok((head, body))) => Ok(Reply { head, body, slot }),
            Ok(Err(error)) => {
                if error.is_reset() {
                    slot.link().set_back();
                }
                let mut answer = Answer::new(fault::classify(&error)).because("connection");
                answer.detail = Some(fault::describe(&error));
                Err(answer)
            }
            Err(_) => {
                let limit = self.shared.options.attempt_timeout;
                if slot.taken.elapsed() >= limit.min(DOUBT) {
                    slot.link().timed_out();
                } else {
                    slot.link().ask_probe();
                }
                Err(Answer::new(Class::Unclear).because("timeout"))
            }
        }
    }

    /// A stream of the connection with the least to do. Waits for one until
    /// `until`; `None` if there was none by then.
    async fn acquire(&self, until: Instant) -> Option<Slot> {
        let now = Instant::now();
        if now >= until {
            return None;
        }
        if let Some(connection) = self.shared.pick(now) {
            let taken = now;
            return Some(Slot { connection, taken });
        }
        self.connect();
        loop {
            // Registered before looking again, so that no stream that is freed
            // in between is missed.
            let mut freed = pin!(self.shared.signals.free.notified());
            freed.as_mut().enable();
            let taken = Instant::now();
            if let Some(connection) = self.shared.pick(taken) {
                // Where one stream came free there may be more: wake the next.
                self.shared.signals.free.notify_one();
                return Some(Slot { connection, taken });
            }
            timeout_at(until, freed).await.ok()?;
        }
    }

    fn why_no_stream(&self) -> String {
        let status = self.status();
        match status.error {
            Some(error) if status.ready == 0 => error,
            _ if status.ready == 0 => "no connection was up in time".to_owned(),
            _ => "no stream was free in time".to_owned(),
        }
    }

    /// Takes every connection out of use that was opened before `moment`.
    pub fn retire_older_than(&self, moment: Instant) {
        for connection in self.shared.lock().iter() {
            if connection.link().opened < moment {
                connection.link().retire();
            }
        }
    }

    /// How the connections are.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Waits, at most `limit`, until each wanted connection is up or has failed
    /// once, and says how they are. Failed ones go on being tried.
    pub async fn warm(&self, limit: Duration) -> Status {
        self.connect();
        let mut status = self.shared.status.subscribe();
        let all_tried = status.wait_for(|status| {
            let failed = usize::try_from(status.failures).unwrap_or(usize::MAX);
            status.ready.saturating_add(failed) >= status.wanted
        });
        let _ = timeout(limit, all_tried).await;
        self.status()
    }

    /// Closes all connections and waits for every task. Requests that are under
    /// way end as unclear.
    pub async fn close(&self) {
        self.cancel.cancel();
        self.shared.lock().clear();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("endpoint", self.shared.target.endpoint())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Head and body, as much of it as is of use.
async fn receive(
    response: ResponseFuture,
    options: &Options,
) -> Result<(response::Parts, Bytes), h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    if options.head_is_enough == Some(head.status) {
        return Ok((head, Bytes::new()));
    }
    let Some(first) = stream.data().await.transpose()? else {
        return Ok((head, Bytes::new()));
    };
    if stream.is_end_stream() && first.len() <= options.body_limit {
        // Most bodies are one frame. Its window is given back with the stream.
        return Ok((head, first));
    }
    let mut body = BytesMut::new();
    let mut next = Some(first);
    while let Some(chunk) = next {
        let _ = stream.flow_control().release_capacity(chunk.len());
        let room = options.body_limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == options.body_limit {
            break;
        }
        next = stream.data().await.transpose()?;
    }
    Ok((head, body.freeze()))
}

fn not_sent(detail: String) -> Answer {
    let mut answer = Answer::new(Class::NotProcessed)
        .because("connection")
        .unstarted();
    answer.detail = Some(detail);
    answer
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
