//! One connection: the handle that requests go through, and the task that drives
//! it and watches over its health.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::Request;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::connect::{Fresh, Wire};
use super::fault;
use super::gauges::Counted;
use super::link::{Link, Signals, State};

/// A closing connection may take this long to say so.
const GOODBYE: Duration = Duration::from_millis(500);

/// When a silent connection is asked, doubted and given up.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// Nothing heard for this long: PING.
    pub interval: Duration,
    /// Nothing heard for this long when a request is sent: PING along with it.
    pub stale: Duration,
    /// Nothing heard for this long after a PING: suspect.
    pub silence: Duration,
    /// Nothing heard for this long after a PING: dead.
    pub timeout: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            stale: Duration::from_secs(5),
            silence: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
        }
    }
}

/// The handle. When the last one is dropped, the connection closes as soon as
/// nothing is under way on it.
pub(super) struct Connection {
    // Dropped in this order: h2 does not wake a parked connection when its
    // last sender goes, so the driver is poked after that.
    sender: SendRequest<Bytes>,
    link: PokeOnDrop,
}

struct PokeOnDrop(Arc<Link>);

impl Drop for PokeOnDrop {
    fn drop(&mut self) {
        self.0.poke.notify_one();
    }
}

impl Connection {
    /// Splits a fresh connection into its handle and its driver.
    pub(super) fn split(
        fresh: Fresh,
        signals: Arc<Signals>,
        liveness: Liveness,
        streams_at_most: usize,
        counted: Counted,
    ) -> (Self, Driver) {
        let link = Link::new(fresh.reads, signals, liveness.stale, streams_at_most);
        let link = Arc::new(link);
        let mut h2 = fresh.connection;
        link.publish_limit(h2.max_concurrent_send_streams());
        let driver = Driver {
            pings: h2.ping_pong(),
            h2,
            sender: Some(fresh.sender.clone()),
            link: Arc::clone(&link),
            liveness,
            gauge: counted,
            seen: 0,
            heard: Instant::now(),
            probe: None,
            pong_due: false,
        };
        let handle = Self {
            sender: fresh.sender,
            link: PokeOnDrop(link),
        };
        (handle, driver)
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link.0
    }

    /// Gives a request to HTTP/2. An error means that it was not sent at all.
    pub(super) fn open(
        &self,
        request: Request<()>,
        body: Bytes,
    ) -> Result<ResponseFuture, h2::Error> {
        // A sender of its own for each request: one that is shared refuses a
        // second request while its first waits for a stream.
        let (response, mut stream) = self.sender.clone().send_request(request, false)?;
        // h2 keeps what flow control does not let out yet. Should the stream be
        // gone already, its response says why.
        let _ = stream.send_data(body, true);
        Ok(response)
    }
}

/// Drives one connection. It never ends before the connection does.
pub(super) struct Driver {
    h2: h2::client::Connection<Wire, Bytes>,
    pings: Option<PingPong>,
    /// Tells of a GOAWAY. Given up when draining, or h2 would never close.
    sender: Option<SendRequest<Bytes>>,
    link: Arc<Link>,
    liveness: Liveness,
    gauge: Counted,
    seen: u64,
    heard: Instant,
    probe: Option<Probe>,
    pong_due: bool,
}

/// A PING, or rather the question whether anything came after it.
struct Probe {
    at: Instant,
    reads: u64,
}

enum Step {
    Closed(Result<(), h2::Error>),
    Look,
}

impl Driver {
    /// Runs until the connection is closed, found dead or cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let why = tokio::select! {
            biased;
            why = AssertUnwindSafe(self.watch()).catch_unwind() => {
                why.unwrap_or_else(|_| "its task panicked, which is a bug to report".to_owned())
            }
            () = cancel.cancelled() => self.say_goodbye().await,
        };
        debug!(%why, "connection ended");
        self.link.close(why);
    }

    async fn watch(&mut self) -> String {
        let mut timer = pin!(sleep_until(self.heard + self.liveness.interval));
        let link = Arc::clone(&self.link);
        loop {
            let mut poked = pin!(link.poke.notified());
            let step = poll_fn(|cx| self.poll_step(cx, timer.as_mut(), poked.as_mut())).await;
            match step {
                Step::Closed(Ok(())) => return "closed".to_owned(),
                Step::Closed(Err(error)) => return fault::describe(&error),
                Step::Look => match self.look() {
                    Some(next) => timer.as_mut().reset(next),
                    None => return "no answer to PING".to_owned(),
                },
            }
        }
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        timer: Pin<&mut Sleep>,
        poked: Pin<&mut Notified<'_>>,
    ) -> Poll<Step> {
        // The connection first: what it has to say may answer the timer.
        let closed = Pin::new(&mut self.h2).poll(cx);
        self.observe(cx);
        if let Poll::Ready(result) = closed {
            return Poll::Ready(Step::Closed(result));
        }
        let pong = self.poll_pong(cx);
        let woken = poked.poll(cx).is_ready() || timer.poll(cx).is_ready();
        if pong || woken {
            Poll::Ready(Step::Look)
        } else {
            Poll::Pending
        }
    }

    /// Publishes what the last frames have changed. Most times there are none:
    /// a request has woken this to be written.
    fn observe(&mut self, cx: &mut Context<'_>) {
        let reads = self.link.reads();
        if reads != self.seen {
            self.seen = reads;
            self.heard = Instant::now();
            self.link.heard(self.heard);
            self.link
                .publish_limit(self.h2.max_concurrent_send_streams());
            if let Some(sender) = &mut self.sender
                && let Poll::Ready(Err(error)) = sender.poll_ready(cx)
            {
                debug!(error = %fault::describe(&error), "connection is going away");
                if error.is_go_away() && error.is_remote() {
                    self.gauge.goaway();
                }
                self.link.retire();
            }
        }
        if self.link.state() == State::Draining {
            self.sender = None;
        }
        self.gauge.set(self.link.state());
    }

    fn poll_pong(&mut self, cx: &mut Context<'_>) -> bool {
        let answered = |pings: &mut PingPong| matches!(pings.poll_pong(cx), Poll::Ready(Ok(_)));
        let pong = self.pong_due && self.pings.as_mut().is_some_and(answered);
        if pong {
            self.pong_due = false;
        }
        pong
    }

    /// Looks after the connection's health. The moment of the next look, or
    /// `None` if it is dead.
    fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let wanted = self.link.probe_asked();
        if self.probe.as_ref().is_some_and(|p| p.reads != self.seen) {
            self.probe = None;
        }
        if let Some(probe) = &self.probe {
            if now >= probe.at + self.liveness.timeout {
                return None;
            }
            if now >= probe.at + self.liveness.silence {
                self.link.suspect();
                self.gauge.set(self.link.state());
                return Some(probe.at + self.liveness.timeout);
            }
            return Some(probe.at + self.liveness.silence);
        }
        if wanted || now >= self.heard + self.liveness.interval {
            self.ping(now);
            return Some(now + self.liveness.silence);
        }
        Some(self.heard + self.liveness.interval)
    }

    fn ping(&mut self, now: Instant) {
        if !self.pong_due
            && let Some(pings) = &mut self.pings
        {
            self.pong_due = pings.send_ping(Ping::opaque()).is_ok();
        }
        self.probe = Some(Probe {
            at: now,
            reads: self.seen,
        });
    }

    /// Lets h2 send its GOAWAY and close, for a moment.
    async fn say_goodbye(&mut self) -> String {
        self.sender = None;
        self.link.retire();
        let _ = timeout(GOODBYE, &mut self.h2).await;
        "closed by us".to_owned()
    }
}
