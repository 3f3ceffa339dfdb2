//! A few HTTP/2 connections to one host.
//!
//! A `reqwest::Client` with HTTP/2 by prior knowledge keeps exactly one
//! connection, so a slot here is a client. Which of them is in trouble can
//! only be told from what happens to requests on it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::failure;
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

/// Whoever asks whether FCM can be reached has it looked at this often, and more
/// often while it cannot.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY_WHILE_AWAY: Duration = Duration::from_secs(1);

type Gauges = Family<ConnectionLabels, Gauge>;

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
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
    away: Arc<AtomicBool>,
}

impl Channel {
    fn new(client: reqwest::Client, gauges: Gauges, away: Arc<AtomicBool>) -> Arc<Self> {
        let channel = Self {
            client,
            state: AtomicU8::new(State::Connecting as u8),
            in_flight: AtomicUsize::new(0),
            gauges,
            away,
        };
        channel.gauge(State::Connecting).inc();
        Arc::new(channel)
    }

    /// A request on it was answered.
    pub(super) fn answered(&self) {
        self.away.store(false, Ordering::Relaxed);
        self.move_to(State::Ready);
    }

    /// A request on it ended without an answer.
    pub(super) fn broken(&self, error: &reqwest::Error) {
        if error.is_connect() {
            self.away.store(true, Ordering::Relaxed);
        }
        self.move_to(State::Connecting);
    }

    fn state(&self) -> State {
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
    slots: Vec<Mutex<Arc<Channel>>>,
    next: AtomicUsize,
    tls: rustls::ClientConfig,
    gauges: Gauges,
    /// What is asked for to open a connection: FCM answers 404 to its root,
    /// without a credential and without an effect.
    root: String,
    attempt_timeout: Duration,
    tasks: TaskTracker,
    /// No connection could be made when one was last tried.
    away: Arc<AtomicBool>,
    looked: Mutex<Option<Instant>>,
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
        let mut pool = Self {
            slots: Vec::with_capacity(size),
            next: AtomicUsize::new(0),
            tls,
            gauges,
            root,
            attempt_timeout,
            tasks: TaskTracker::new(),
            away: Arc::default(),
            looked: Mutex::default(),
        };
        for _ in 0..size {
            let channel = pool.channel()?;
            pool.slots.push(Mutex::new(channel));
        }
        Ok(pool)
    }

    fn channel(&self) -> reqwest::Result<Arc<Channel>> {
        let client = reqwest::Client::builder()
            .user_agent(message::USER_AGENT)
            .tls_backend_preconfigured(self.tls.clone())
            .http2_prior_knowledge()
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .pool_idle_timeout(None)
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT.min(self.attempt_timeout / 2))
            // Whoever repeats a push counts its attempts and looks for a
            // cancel first; repeats in here would do neither.
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .build()?;
        Ok(Channel::new(
            client,
            self.gauges.clone(),
            Arc::clone(&self.away),
        ))
    }

    /// A seat on the best connection.
    pub(super) fn pick(&self) -> Option<Seat> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let size = self.slots.len();
        (0..size)
            .map(|n| current(&self.slots[(turn % size + n) % size]))
            .min_by_key(|channel| channel.rank())
            .map(Seat::take)
    }

    /// A request on this connection was not answered in time: no new one goes
    /// there. What is under way on it may finish.
    pub(super) fn suspect(&self, channel: &Channel) {
        for slot in &self.slots {
            let mut place = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::ptr::eq(Arc::as_ptr(&place), channel) {
                continue;
            }
            if let Ok(fresh) = self.channel() {
                channel.move_to(State::Suspect);
                *place = Arc::clone(&fresh);
                self.tasks
                    .spawn(warm(fresh, self.root.clone(), self.attempt_timeout));
            }
            return;
        }
    }

    /// Opens all connections, or gives up in time; a connection that could not
    /// be opened is by the first push on it.
    pub(super) async fn warm(&self) {
        let all = self
            .slots
            .iter()
            .map(|slot| warm(current(slot), self.root.clone(), self.attempt_timeout));
        futures_util::future::join_all(all).await;
    }

    /// Whether no connection could be made when one was last tried. An idle
    /// client tries none, so each who asks has it looked at now and then, for
    /// the next who asks.
    pub(super) fn is_away(&self) -> bool {
        let away = self.away.load(Ordering::Relaxed);
        let every = if away {
            LOOK_EVERY_WHILE_AWAY
        } else {
            LOOK_EVERY
        };
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if looked.is_none_or(|at| now - at >= every)
            && let Some(seat) = self.pick()
        {
            *looked = Some(now);
            let (root, limit) = (self.root.clone(), self.attempt_timeout);
            self.tasks.spawn(async move {
                // An old connection that has ended says nothing of a new one.
                for _ in 0..2 {
                    if reach(seat.channel(), root.clone(), limit).await.is_ok() {
                        break;
                    }
                }
            });
        }
        away
    }

    /// How many connections there are.
    pub(super) fn size(&self) -> usize {
        self.slots.len()
    }

    /// How many connections have answered their last request.
    pub(super) fn ready(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| current(slot).state() == State::Ready)
            .count()
    }

    /// Waits for what it has started.
    pub(super) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn current(slot: &Mutex<Arc<Channel>>) -> Arc<Channel> {
    Arc::clone(&slot.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn warm(channel: Arc<Channel>, root: String, limit: Duration) {
    match reach(&channel, root, limit).await {
        Ok(()) => {}
        Err(Some(detail)) => {
            tracing::warn!(platform = "android", detail, "could not connect to FCM");
        }
        Err(None) => tracing::warn!(platform = "android", "connecting to FCM took too long"),
    }
}

/// Has the connection answer something. Else the cause, if it is not that time
/// was up.
async fn reach(channel: &Channel, root: String, limit: Duration) -> Result<(), Option<String>> {
    let request = channel.client.head(root).send();
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(_)) => {
            channel.answered();
            Ok(())
        }
        Ok(Err(error)) => {
            channel.broken(&error);
            Err(Some(failure::classify(&error).detail.unwrap_or_default()))
        }
        Err(_) => Err(None),
    }
}
