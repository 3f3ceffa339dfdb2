//! The one task that opens and removes a pool's connections.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::providers::retry;

use super::connect::{ConnectError, Fresh};
use super::connection::Connection;
use super::link::State;
use super::shared::{Shared, Tuning};

/// Bound of a pool: so many times the connections that are wanted, also while a
/// dead path turns one after the other suspect.
const ROOM: usize = 3;

/// How soon a supervisor that panicked is followed by another.
const RESTART: Duration = Duration::from_secs(1);

/// Opens and removes connections until it is cancelled.
pub(super) async fn supervise(
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
) {
    kept_up(|| Supervisor::new(shared.clone(), tracker.clone(), cancel.clone()).run()).await;
}

/// Starts a task again that panics: without it nobody would open connections.
async fn kept_up<F: Future<Output = ()>>(mut task: impl FnMut() -> F) {
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        error!("what keeps the connections panicked, which is a bug to report; it starts again");
        sleep(RESTART).await;
    }
}

/// Opens what is missing and removes what is of no use any more.
struct Supervisor {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    backoff: Backoff,
    /// The log has said that there is no connection.
    complained: bool,
}

impl Supervisor {
    fn new(shared: Arc<Shared>, tracker: TaskTracker, cancel: CancellationToken) -> Self {
        let backoff = Backoff::new(shared.options.tuning);
        Self {
            shared,
            tracker,
            cancel,
            backoff,
            complained: false,
        }
    }

    /// Runs until it is cancelled.
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
            surplus_since = (shared.ready() > shared.options.connections)
                .then(|| surplus_since.unwrap_or_else(Instant::now));
            let trim_at = surplus_since.map(|since| since + shared.options.tuning.surplus);
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
        self.retire_worn();
        let mut gone = Vec::new();
        self.shared.lock().retain(|connection| {
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
                self.failed(why.to_owned());
            }
        }
    }

    /// Worn connections go when as many others have answered something: until
    /// then a slow server might take one stream on each of those, and hundreds
    /// on these. Where there is no room for others, one that has never answered
    /// makes some.
    fn retire_worn(&self) {
        let shared = &self.shared;
        let wanted = shared.options.connections;
        let replaced = shared.answering() >= wanted;
        let full = shared.healthy() < wanted && shared.lock().len() >= wanted * ROOM;
        if !replaced && !full {
            return;
        }
        let connections = shared.lock();
        let worn = connections.iter().map(|c| c.link()).filter(|l| l.is_worn());
        if replaced {
            worn.for_each(|link| link.retire());
        } else if let Some(useless) = worn
            .filter(|link| !link.has_answered())
            .min_by_key(|link| link.opened)
        {
            useless.retire();
        }
    }

    /// How many connections are to be opened.
    fn missing(&self, opening: usize) -> usize {
        let shared = &self.shared;
        let wanted = shared.status.borrow().wanted;
        let room = (wanted * ROOM).saturating_sub(shared.lock().len() + opening);
        let missing = wanted.saturating_sub(shared.healthy() + opening);
        missing.min(room)
    }

    /// Retires a ready connection: one that has never answered, or else the
    /// least busy.
    fn trim(&self) {
        let connections = self.shared.lock();
        let idlest = connections
            .iter()
            .filter(|c| c.link().state() == State::Ready)
            .min_by_key(|c| (c.link().has_answered(), c.link().in_flight()));
        if let Some(connection) = idlest {
            connection.link().retire();
        }
    }

    fn failed(&mut self, why: String) {
        self.backoff.grow();
        if self.shared.ready() == 0 && !self.complained {
            self.complained = true;
            warn!(
                platform = self.shared.options.platform,
                endpoint = %self.shared.target.endpoint(),
                detail = why,
                "could not connect to {}, trying again; `ringpush check` looks at name, route and TLS",
                self.shared.options.provider
            );
        }
        self.shared.note_failure(why);
    }

    fn opened(&mut self, result: Result<Fresh, ConnectError>) {
        let shared = Arc::clone(&self.shared);
        let endpoint = shared.target.endpoint();
        let fresh = match result {
            Ok(fresh) => fresh,
            Err(error) => {
                shared.gauges.failed.inc();
                debug!(%endpoint, %error, "connection failed");
                self.failed(error.to_string());
                return;
            }
        };
        shared.gauges.up.inc();
        let (phases, peer) = (fresh.phases, fresh.peer);
        debug!(%endpoint, ?peer, timings = ?phases, "connection up");
        let options = shared.options;
        let (connection, driver) = Connection::split(
            fresh,
            Arc::clone(&shared.signals),
            options.tuning.liveness,
            options.streams_at_most,
            shared.gauges.ready(),
        );
        self.tracker.spawn(driver.run(self.cancel.clone()));
        shared.lock().push(Arc::new(connection));
        if std::mem::take(&mut self.complained) {
            info!(
                platform = options.platform,
                "connected to {}", options.provider
            );
        }
        shared.status.send_modify(|status| {
            status.error = None;
            status.phases = Some(phases);
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
    pauses: ExponentialBackoff,
    not_before: Instant,
}

impl Backoff {
    fn new(tuning: Tuning) -> Self {
        Self {
            tuning,
            pauses: retry::pauses(tuning.backoff, tuning.backoff_max),
            not_before: Instant::now(),
        }
    }

    fn grow(&mut self) {
        let pause = self.pauses.next().unwrap_or(self.tuning.backoff_max);
        self.not_before = Instant::now() + pause;
    }

    fn reset(&mut self) {
        *self = Self::new(self.tuning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_keeps_the_connections_survives_a_panic() {
        let mut runs = 0;
        kept_up(|| {
            runs += 1;
            let last = runs == 3;
            async move { assert!(last, "a bug") }
        })
        .await;
        assert_eq!(runs, 3);
    }
}
