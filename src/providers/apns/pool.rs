//! Warm connections of one client: picks one for each push, keeps as many open
//! as are wanted, replaces those that fail.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as Moment};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::connect::{ConnectError, Fresh, Target, Timings};
use super::connection::{Connection, Liveness};
use super::gauge::Gauges;
use super::link::{Link, Signals, State};

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

struct Shared {
    target: Target,
    wanted: usize,
    tuning: Tuning,
    gauges: Gauges,
    signals: Arc<Signals>,
    connections: Mutex<Vec<Arc<Connection>>>,
    status: watch::Sender<Status>,
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
        let supervisor = Supervisor {
            shared: Arc::clone(&shared),
            tracker: tracker.clone(),
            cancel: cancel.clone(),
            backoff: Backoff::new(tuning),
        };
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
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
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

    fn count(&self, state: State) -> usize {
        let connections = self.lock();
        connections
            .iter()
            .filter(|c| c.link().state() == state)
            .count()
    }

    /// Ready and not worn out.
    fn healthy(&self) -> usize {
        let connections = self.lock();
        let fit = |link: &Link| link.state() == State::Ready && !link.is_worn();
        connections.iter().filter(|c| fit(c.link())).count()
    }

    async fn open(&self) -> Result<Fresh, ConnectError> {
        let _counted = self.gauges.connecting();
        self.target.connect(self.tuning.connect).await
    }

    fn publish(&self, connecting: usize) {
        let (ready, suspect) = (self.count(State::Ready), self.count(State::Suspect));
        self.status.send_if_modified(|status| {
            let before = (status.ready, status.suspect, status.connecting);
            (status.ready, status.suspect, status.connecting) = (ready, suspect, connecting);
            before != (ready, suspect, connecting)
        });
    }

    fn note_failure(&self, why: String) {
        self.status.send_modify(|status| {
            status.failures += 1;
            status.error = Some(why);
        });
    }
}

/// The one task that opens and removes connections.
struct Supervisor {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    backoff: Backoff,
}

impl Supervisor {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut opening = FuturesUnordered::new();
        let mut surplus_since: Option<Instant> = None;
        loop {
            self.sweep();
            let missing = self.missing(opening.len());
            if missing > 0 && Instant::now() >= self.backoff.not_before {
                opening.extend((0..missing).map(|_| shared.open()));
            }
            shared.publish(opening.len());
            surplus_since = self
                .has_surplus()
                .then(|| surplus_since.unwrap_or_else(Instant::now));
            let trim_at = surplus_since.map(|since| since + shared.tuning.surplus);
            let retry_at = (self.missing(opening.len()) > 0).then_some(self.backoff.not_before);
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = shared.signals.changed.notified() => {}
                Some(result) = opening.next() => self.opened(result),
                () = at(retry_at) => {}
                () = at(trim_at) => {
                    self.trim();
                    surplus_since = None;
                }
            }
        }
    }

    /// Forgets connections that are closed or on their way out. One that ended
    /// before it was of any use counts as a failed attempt, or a server that
    /// takes connections only to drop them would be hammered.
    fn sweep(&mut self) {
        let shared = Arc::clone(&self.shared);
        if shared.healthy() >= shared.wanted {
            // The replacements of worn-out connections are there.
            let worn = |c: &&Arc<Connection>| c.link().is_worn();
            shared
                .lock()
                .iter()
                .filter(worn)
                .for_each(|c| c.link().retire());
        }
        let mut gone = Vec::new();
        shared.lock().retain(|connection| {
            let keep = matches!(connection.link().state(), State::Ready | State::Suspect);
            if !keep {
                gone.push(Arc::clone(connection));
            }
            keep
        });
        for connection in gone {
            let link = connection.link();
            if link.is_proven() {
                self.backoff.reset();
            } else {
                let why = link
                    .ended
                    .get()
                    .map_or("closed before it was used", String::as_str);
                self.backoff.grow();
                shared.note_failure(why.to_owned());
            }
        }
    }

    /// How many connections are to be opened. Bounded also while a dead path
    /// turns one after the other suspect.
    fn missing(&self, opening: usize) -> usize {
        let shared = &self.shared;
        let room = (shared.wanted * 3).saturating_sub(shared.lock().len() + opening);
        let missing = shared.wanted.saturating_sub(shared.healthy() + opening);
        missing.min(room)
    }

    fn has_surplus(&self) -> bool {
        self.shared.count(State::Ready) > self.shared.wanted
    }

    /// Retires the least busy ready connection.
    fn trim(&self) {
        let connections = self.shared.lock();
        let idlest = connections
            .iter()
            .filter(|c| c.link().state() == State::Ready)
            .min_by_key(|c| c.link().in_flight());
        if let Some(connection) = idlest {
            connection.link().retire();
        }
    }

    fn opened(&mut self, result: Result<Fresh, ConnectError>) {
        let shared = &self.shared;
        let endpoint = shared.target.endpoint();
        let fresh = match result {
            Ok(fresh) => fresh,
            Err(error) => {
                debug!(%endpoint, %error, "APNs connection failed");
                self.backoff.grow();
                shared.note_failure(error.to_string());
                return;
            }
        };
        debug!(%endpoint, peer = %fresh.peer, timings = ?fresh.timings, "APNs connection up");
        let timings = fresh.timings;
        let signals = Arc::clone(&shared.signals);
        let liveness = shared.tuning.liveness;
        let (connection, driver) = Connection::split(fresh, signals, liveness, &shared.gauges);
        self.tracker.spawn(driver.run(self.cancel.clone()));
        shared.lock().push(Arc::new(connection));
        shared.status.send_modify(|status| {
            status.error = None;
            status.timings = Some(timings);
        });
        shared.signals.free.notify_one();
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// When the next connection may be tried.
struct Backoff {
    tuning: Tuning,
    delays: ExponentialBackoff,
    not_before: Instant,
}

impl Backoff {
    fn new(tuning: Tuning) -> Self {
        Self {
            tuning,
            delays: Self::delays(tuning),
            not_before: Instant::now(),
        }
    }

    fn delays(tuning: Tuning) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(tuning.backoff)
            .with_max_delay(tuning.backoff_max)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build()
    }

    fn grow(&mut self) {
        let delay = self.delays.next().unwrap_or(self.tuning.backoff_max);
        self.not_before = Instant::now() + delay;
    }

    fn reset(&mut self) {
        self.delays = Self::delays(self.tuning);
        self.not_before = Instant::now();
    }
}
