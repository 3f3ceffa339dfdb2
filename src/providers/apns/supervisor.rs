//! The one task that opens and removes a pool's connections.

use std::sync::Arc;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::connect::{ConnectError, Fresh};
use super::connection::Connection;
use super::link::State;
use super::pool::{Shared, Tuning};

/// The one task that opens and removes connections.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    backoff: Backoff,
}

impl Supervisor {
    pub(super) fn new(
        shared: Arc<Shared>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let backoff = Backoff::new(shared.tuning);
        Self {
            shared,
            tracker,
            cancel,
            backoff,
        }
    }

    /// Runs until it is cancelled.
    pub(super) async fn run(mut self) {
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
