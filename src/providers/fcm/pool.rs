//! A few HTTP/2 connections to one host.
//!
//! A `reqwest::Client` with HTTP/2 by prior knowledge keeps exactly one
//! connection, so a slot here is a client. Which of them is in trouble can
//! only be told from what happens to requests on it.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keeper::{Opener, Rhythm, keep};
use super::message;
use super::settings::STREAMS_PER_CONNECTION;
use crate::metrics::ConnectionLabels;

/// Idle connections are asked for a sign of life this often: NATs forget
/// them silently after minutes.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long they may take to give it.
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection that cannot be made in this time is tried anew. Never more than
/// half of an attempt, so that the attempt can say that nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

type Gauges = Family<ConnectionLabels, Gauge>;

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Not yet proven: fresh, or its last request got no answer.
    Connecting,
    /// Its last request was answered.
    Ready,
    /// A request on it timed out; it has been replaced and dies with the last
    /// request on it.
    Suspect,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Suspect => "suspect",
        }
    }

    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Connecting,
            1 => Self::Ready,
            _ => Self::Suspect,
        }
    }
}

/// One connection.
pub(super) struct Channel {
    client: reqwest::Client,
    state: AtomicU8,
    in_flight: AtomicUsize,
    gauges: Gauges,
}

impl Channel {
    fn new(client: reqwest::Client, gauges: Gauges) -> Arc<Self> {
        let channel = Self {
            client,
            state: AtomicU8::new(State::Connecting as u8),
            in_flight: AtomicUsize::new(0),
            gauges,
        };
        channel.gauge(State::Connecting).inc();
        Arc::new(channel)
    }

    /// A request on it was answered.
    pub(super) fn answered(&self) {
        self.move_to(State::Ready);
    }

    /// A request on it ended without an answer.
    pub(super) fn broken(&self) {
        self.move_to(State::Connecting);
    }

    pub(super) fn state(&self) -> State {
        State::from_u8(self.state.load(Ordering::Relaxed))
    }

    fn move_to(&self, new: State) {
        // Suspicion is final: by then another connection has its place.
        let moved = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                let old = State::from_u8(old);
                (old != new && old != State::Suspect).then_some(new as u8)
            });
        if let Ok(old) = moved {
            self.gauge(State::from_u8(old)).dec();
            self.gauge(new).inc();
        }
    }

    fn gauge(&self, state: State) -> Gauge {
        self.gauges.get_or_create_owned(&ConnectionLabels {
            platform: "android",
            state: state.name(),
        })
    }

    /// Nothing is under way that would show how it is.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    pub(super) const fn http(&self) -> &reqwest::Client {
        &self.client
    }

    /// Lower is better: proven ones with room, then unproven ones, then full.
    fn rank(&self) -> (u8, usize) {
        let load = self.in_flight.load(Ordering::Relaxed);
        let rank = match self.state() {
            State::Ready if load < STREAMS_PER_CONNECTION => 0,
            State::Connecting if load < STREAMS_PER_CONNECTION => 1,
            State::Ready | State::Connecting => 2,
            State::Suspect => 3,
        };
        (rank, load)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.gauge(self.state()).dec();
    }
}

/// A connection that carries one more request until this is dropped.
pub(super) struct Seat(Arc<Channel>);

impl Seat {
    fn take(channel: Arc<Channel>) -> Self {
        channel.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(channel)
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0.client
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections of one client.
pub(super) struct Pool {
    slots: Arc<Slots>,
    next: AtomicUsize,
    tls: rustls::ClientConfig,
    gauges: Gauges,
    opener: Opener,
    attempt_timeout: Duration,
    tasks: TaskTracker,
    end: Ending,
}

/// Ends the background work of a pool, also of one that is only dropped.
#[derive(Default)]
struct Ending(CancellationToken);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A place for each connection.
pub(super) struct Slots(Vec<Mutex<Arc<Channel>>>);

impl Slots {
    /// What is in them now.
    pub(super) fn all(&self) -> Vec<Arc<Channel>> {
        self.0.iter().map(current).collect()
    }

    /// How many connections have answered their last request.
    pub(super) fn ready(&self) -> usize {
        let all = self.0.iter().map(current);
        all.filter(|channel| channel.state() == State::Ready)
            .count()
    }
}

impl Pool {
    /// As many connections as asked for, none of them open yet.
    pub(super) fn new(
        size: usize,
        tls: rustls::ClientConfig,
        root: String,
        attempt_timeout: Duration,
        gauges: Gauges,
    ) -> reqwest::Result<Self> {
        let fresh = |_| channel(&tls, &gauges, attempt_timeout).map(Mutex::new);
        let slots = (0..size).map(fresh).collect::<Result<_, _>>()?;
        Ok(Self {
            slots: Arc::new(Slots(slots)),
            next: AtomicUsize::new(0),
            tls,
            gauges,
            opener: Opener::new(root, attempt_timeout),
            attempt_timeout,
            tasks: TaskTracker::new(),
            end: Ending::default(),
        })
    }

    /// A seat on the best connection.
    pub(super) fn pick(&self) -> Option<Seat> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let slots = &self.slots.0;
        let size = slots.len();
        (0..size)
            .map(|n| current(&slots[(turn % size + n) % size]))
            .min_by_key(|channel| channel.rank())
            .map(Seat::take)
    }

    /// A request on this connection was not answered in time: no new one goes
    /// there. What is under way on it may finish.
    pub(super) fn suspect(&self, channel: &Channel) {
        for slot in &self.slots.0 {
            let mut place = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::ptr::eq(Arc::as_ptr(&place), channel) {
                continue;
            }
            if let Ok(fresh) = self::channel(&self.tls, &self.gauges, self.attempt_timeout) {
                channel.move_to(State::Suspect);
                *place = Arc::clone(&fresh);
                let opener = self.opener.clone();
                self.tasks.spawn(async move { opener.open(&fresh).await });
            }
            return;
        }
    }

    /// Opens all connections, or gives up in time; a connection that could not
    /// be opened is by the first push on it.
    pub(super) async fn warm(&self) {
        self.opener.open_all(&self.slots.all()).await;
        if self.ready() == 0 {
            self.opener.complain();
        }
    }

    /// From now on connections that are in trouble are tried again by
    /// themselves, not only by the next push.
    pub(super) fn keep(&self, rhythm: Rhythm) {
        let keeping = keep(Arc::clone(&self.slots), self.opener.clone(), rhythm);
        let end = self.end.0.clone();
        self.tasks
            .spawn(async move { end.run_until_cancelled(keeping).await });
    }

    /// Why no connection can be used; none if one can.
    pub(super) fn trouble(&self) -> Option<String> {
        (self.ready() == 0).then(|| {
            let trouble = self.opener.trouble();
            trouble.unwrap_or_else(|| "connecting".to_owned())
        })
    }

    /// How many connections there are.
    pub(super) fn size(&self) -> usize {
        self.slots.0.len()
    }

    /// How many connections have answered their last request.
    pub(super) fn ready(&self) -> usize {
        self.slots.ready()
    }

    /// Waits for what it has started.
    pub(super) async fn close(&self) {
        self.end.0.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn channel(
    tls: &rustls::ClientConfig,
    gauges: &Gauges,
    attempt_timeout: Duration,
) -> reqwest::Result<Arc<Channel>> {
    let client = reqwest::Client::builder()
        .user_agent(message::USER_AGENT)
        .tls_backend_preconfigured(tls.clone())
        .http2_prior_knowledge()
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .pool_idle_timeout(None)
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT.min(attempt_timeout / 2))
        // Whoever repeats a push counts its attempts and looks for a
        // cancel first; repeats in here would do neither.
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .build()?;
    Ok(Channel::new(client, gauges.clone()))
}

fn current(slot: &Mutex<Arc<Channel>>) -> Arc<Channel> {
    Arc::clone(&slot.lock().unwrap_or_else(PoisonError::into_inner))
}
