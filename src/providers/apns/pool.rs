//! Warm connections of one client: picks one for each push, keeps as many open
//! as are wanted, replaces those that fail.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as Moment};

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connect::{ConnectError, Fresh, Target, Timings};
use super::connection::{Connection, Liveness};
use super::gauge::Gauges;
use super::link::{Link, Signals, State};
use super::supervisor::Supervisor;

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
    /// As many as are to be open.
    pub wanted: usize,
    /// Up and taking pushes.
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
    pub timings: Option<Timings>,
}

/// The pool. Its tasks end when it is dropped; [`Pool::close`] waits for them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    _guard: DropGuard,
}

/// What the pool and its supervisor share.
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) wanted: usize,
    pub(super) tuning: Tuning,
    pub(super) gauges: Gauges,
    pub(super) signals: Arc<Signals>,
    connections: Mutex<Vec<Arc<Connection>>>,
    pub(super) status: watch::Sender<Status>,
}

/// A stream of a connection, for one push.
pub(super) struct Slot(Arc<Connection>);

impl Slot {
    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }

    pub(super) fn link(&self) -> &Link {
        self.0.link()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.link().release();
    }
}

impl Pool {
    /// A pool that starts to connect at once. Needs a tokio runtime.
    pub(super) fn new(target: Target, wanted: usize, tuning: Tuning, gauges: Gauges) -> Self {
        let cancel = CancellationToken::new();
        let tracker = TaskTracker::new();
        let shared = Arc::new(Shared {
            target,
            wanted,
            tuning,
            gauges,
            signals: Arc::default(),
            connections: Mutex::default(),
            status: watch::Sender::new(Status {
                wanted,
                ..Status::default()
            }),
        });
        let supervisor = Supervisor::new(Arc::clone(&shared), tracker.clone(), cancel.clone());
        tracker.spawn(supervisor.run());
        Self {
            shared,
            tracker,
            _guard: cancel.clone().drop_guard(),
            cancel,
        }
    }

    /// A stream of the connection with the least to do. Waits for one until
    /// `until`; `None` if there was none by then.
    pub(super) async fn acquire(&self, until: Instant) -> Option<Slot> {
        if Instant::now() >= until {
            return None;
        }
        if let Some(slot) = self.shared.pick() {
            return Some(slot);
        }
        loop {
            // Registered before looking again, so that no stream that is freed
            // in between is missed.
            let mut freed = std::pin::pin!(self.shared.signals.free.notified());
            freed.as_mut().enable();
            if let Some(slot) = self.shared.pick() {
                // Where one stream came free there may be more: wake the next.
                self.shared.signals.free.notify_one();
                return Some(slot);
            }
            timeout_at(until, freed).await.ok()?;
        }
    }

    /// Takes every connection out of use that was opened before `moment`.
    pub(super) fn retire_older_than(&self, moment: Moment) {
        for connection in self.shared.lock().iter() {
            if connection.link().opened < moment {
                connection.link().retire();
            }
        }
    }

    pub(super) fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Waits until each wanted connection is up or has failed once, at most
    /// `limit`.
    pub(super) async fn warm(&self, limit: Duration) -> Status {
        let mut status = self.shared.status.subscribe();
        let settled = status.wait_for(|status| {
            let failed = usize::try_from(status.failures).unwrap_or(usize::MAX);
            status.ready.saturating_add(failed) >= status.wanted
        });
        let _ = timeout(limit, settled).await;
        self.status()
    }

    /// Closes all connections and waits for every task.
    pub(super) async fn close(&self) {
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

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        // Nothing that holds this lock can panic half-way.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock is held over a handful of atomic loads, never over an await.
    fn pick(&self) -> Option<Slot> {
        let connections = self.lock();
        let (_, best) = connections
            .iter()
            .filter_map(|c| c.link().preference().map(|preference| (preference, c)))
            .min_by_key(|(preference, _)| *preference)?;
        best.link().take();
        Some(Slot(Arc::clone(best)))
    }

    pub(super) fn count(&self, state: State) -> usize {
        let connections = self.lock();
        connections
            .iter()
            .filter(|c| c.link().state() == state)
            .count()
    }

    /// Ready and not worn out.
    pub(super) fn healthy(&self) -> usize {
        let connections = self.lock();
        let fit = |link: &Link| link.state() == State::Ready && !link.is_worn();
        connections.iter().filter(|c| fit(c.link())).count()
    }

    pub(super) async fn open(&self) -> Result<Fresh, ConnectError> {
        let _counted = self.gauges.connecting();
        self.target.connect(self.tuning.connect).await
    }

    pub(super) fn publish(&self, connecting: usize) {
        let (ready, suspect) = (self.count(State::Ready), self.count(State::Suspect));
        self.status.send_if_modified(|status| {
            let before = (status.ready, status.suspect, status.connecting);
            (status.ready, status.suspect, status.connecting) = (ready, suspect, connecting);
            before != (ready, suspect, connecting)
        });
    }

    pub(super) fn note_failure(&self, why: String) {
        self.status.send_modify(|status| {
            status.failures += 1;
            status.error = Some(why);
        });
    }
}
