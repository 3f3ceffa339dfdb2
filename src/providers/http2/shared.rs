//! What a pool and its supervisor share: the target, the connections, how they
//! are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;

use super::connect::{ConnectError, Fresh, connect};
use super::connection::{Connection, Liveness};
use super::dial::{Phases, Target};
use super::gauges::Gauges;
use super::link::{Link, Signals, State};

/// What a provider asks of its connections.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The provider's name, for people.
    pub provider: &'static str,
    /// The label of its connections in the metrics.
    pub platform: &'static str,
    /// As many as are to be open.
    pub connections: usize,
    /// How long one attempt may take. A time-out after it, or after a second,
    /// casts doubt on the connection.
    pub attempt_timeout: Duration,
    /// Most requests under way on one, however many its server allows.
    pub streams_at_most: usize,
    /// Of an answer with this status the head says everything; its body is not
    /// waited for.
    pub head_is_enough: Option<StatusCode>,
    /// No more bytes than this are read of a body.
    pub body_limit: usize,
    /// Times; the default suits.
    pub tuning: Tuning,
}

/// Times that no operator has to set; tests do.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// For a whole connection, from the look-up to the server's SETTINGS.
    pub connect: Duration,
    /// First wait after a failed connection; doubles, with jitter.
    pub backoff: Duration,
    /// Longest such wait.
    pub backoff_max: Duration,
    /// More connections than wanted (after a suspect one has recovered) are
    /// kept this long.
    pub surplus: Duration,
    /// PINGs.
    pub liveness: Liveness,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            surplus: Duration::from_secs(60),
            liveness: Liveness::default(),
        }
    }
}

/// How the connections of a client are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// As many as are to be open; none before it is told to connect.
    pub wanted: usize,
    /// Up and taking requests.
    pub ready: usize,
    /// Up, but owing an answer.
    pub suspect: usize,
    /// Being opened.
    pub connecting: usize,
    /// Attempts to connect that failed since the start.
    pub failures: u64,
    /// Why the last one failed, or the last connection ended unused; gone as
    /// soon as one comes up.
    pub error: Option<String>,
    /// What the phases of the newest connection took.
    pub phases: Option<Phases>,
}

impl Status {
    /// Why nothing can be sent right now; `None` if something can.
    #[must_use]
    pub fn trouble(self) -> Option<String> {
        let why = || self.error.unwrap_or_else(|| "connecting".to_owned());
        (self.ready == 0).then(why)
    }
}

/// What the pool and its supervisor share.
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) options: Options,
    pub(super) gauges: Gauges,
    pub(super) signals: Arc<Signals>,
    connections: Mutex<Vec<Arc<Connection>>>,
    pub(super) status: watch::Sender<Status>,
}

impl Shared {
    pub(super) fn new(target: Target, options: Options, metrics: &Metrics) -> Self {
        Self {
            target,
            options,
            gauges: Gauges::new(metrics, options.platform),
            signals: Arc::default(),
            connections: Mutex::default(),
            status: watch::Sender::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        // Nothing that holds this lock can panic half-way.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a stream of the connection that is to be preferred. The lock is
    /// held over a handful of atomic loads, never over an await.
    pub(super) fn pick(&self, now: Instant) -> Option<Arc<Connection>> {
        let connections = self.lock();
        let (_, best) = connections
            .iter()
            .filter_map(|c| c.link().preference(now).map(|preference| (preference, c)))
            .min_by_key(|(preference, _)| *preference)?;
        best.link().take(now);
        Some(Arc::clone(best))
    }

    fn count(&self, which: impl Fn(&Link) -> bool) -> usize {
        let connections = self.lock();
        connections.iter().filter(|c| which(c.link())).count()
    }

    pub(super) fn ready(&self) -> usize {
        self.count(|link| link.state() == State::Ready)
    }

    /// Ready and not worn out.
    pub(super) fn healthy(&self) -> usize {
        self.count(|link| link.state() == State::Ready && !link.is_worn())
    }

    /// The same, and they have answered something.
    pub(super) fn answering(&self) -> usize {
        self.count(|link| link.state() == State::Ready && !link.is_worn() && link.has_answered())
    }

    pub(super) async fn open(&self) -> Result<Fresh, ConnectError> {
        let _counted = self.gauges.connecting();
        connect(&self.target, self.options.tuning.connect).await
    }

    pub(super) fn publish(&self, connecting: usize) {
        let suspect = self.count(|link| link.state() == State::Suspect);
        let now = (self.ready(), suspect, connecting);
        self.status.send_if_modified(|status| {
            let before = (status.ready, status.suspect, status.connecting);
            (status.ready, status.suspect, status.connecting) = now;
            before != now
        });
    }

    pub(super) fn note_failure(&self, why: String) {
        self.status.send_modify(|status| {
            status.failures += 1;
            status.error = Some(why);
        });
    }
}
