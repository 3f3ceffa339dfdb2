//! The broker's side of a worker: sessions, one after the other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::engine::dispatch::Dispatcher;
use crate::metrics::Metrics;

use super::complaint::Complaint;
use super::connect::{Connector, close};
use super::context::{BrokerState, Context};
use super::error::AmqpError;
use super::outbox::Outbox;
use super::reports::{HeldUp, Reports};
use super::session::Session;
use super::settings::Settings;
use super::topology::{Names, QueueCount, Topology};

/// Between two attempts to connect: short, for rings are waiting, with jitter,
/// which adds up to as much again, for a broker that comes back meets all
/// workers at once.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_millis(250);
/// A session that lasted this long starts the schedule anew when it is lost.
const STABLE: Duration = Duration::from_secs(10);
/// At most one line about a broker that stays away in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);
/// Bound on counting queues.
const COUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker's side of the broker before it starts: checked, nothing connected.
pub struct PreparedWorker {
    connector: Connector,
    topology: Topology,
    prefetch: u16,
    metrics: Metrics,
    outbox: Outbox,
}

impl std::fmt::Debug for PreparedWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreparedWorker({:?})", self.connector)
    }
}

impl PreparedWorker {
    /// Checks settings, URL and files. The [`Reports`] are what the engine
    /// reports through; they are published once the worker runs.
    ///
    /// # Errors
    /// [`AmqpError::Setting`] with key and cure.
    pub fn new(settings: &Settings, metrics: Metrics) -> Result<(Self, Arc<Reports>), AmqpError> {
        let connector = Connector::new(settings)?;
        let held_up = Arc::new(HeldUp::default());
        let (reports, incoming) = Reports::new(Arc::clone(&held_up));
        let names = Names::new(&settings.prefix);
        let prepared = Self {
            connector,
            topology: Topology::new(names, settings.cancels, settings.declare),
            prefetch: settings.prefetch,
            outbox: Outbox::new(incoming, held_up, settings.prefetch, metrics.clone()),
            metrics,
        };
        Ok((prepared, Arc::new(reports)))
    }

    /// Starts to connect and to take events. `ring_window` is the longest life
    /// of a ring: cancels are read from that long ago.
    #[must_use]
    pub fn start(self, dispatcher: Arc<Dispatcher>, ring_window: Duration) -> Worker {
        let context = Arc::new(Context {
            connector: self.connector,
            topology: self.topology,
            prefetch: self.prefetch,
            ring_window,
            dispatcher,
            metrics: self.metrics,
            messages: TaskTracker::new(),
            intakes: TaskTracker::new(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            end: CancellationToken::new(),
            state: watch::Sender::default(),
            cancels_read: Mutex::default(),
            parts_refused: Mutex::new(Complaint::every(COMPLAIN_EVERY)),
        });
        let task = tokio::spawn(sessions(Arc::clone(&context), self.outbox));
        Worker {
            context,
            task: Some(task),
        }
    }
}

/// The broker's side of a running worker.
pub struct Worker {
    context: Arc<Context>,
    /// None when it has ended.
    task: Option<JoinHandle<Result<(), AmqpError>>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Worker({:?})", self.context.connector)
    }
}

impl Worker {
    /// How it stands with the broker, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BrokerState> {
        self.context.state.subscribe()
    }

    /// Messages taken and not yet settled.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.context.messages.len()
    }

    /// Resolves if the worker cannot go on: the first session failed for a
    /// reason that a person has to mend, or there is a fault in the worker
    /// itself. Never while the broker is merely away.
    pub async fn fatal(&mut self) -> AmqpError {
        let Some(task) = &mut self.task else {
            return std::future::pending().await;
        };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => std::future::pending().await,
            Err(error) => AmqpError::lost(
                "the part of the worker that keeps the session with the broker",
                error.to_string(),
            ),
        }
    }

    /// Takes no more messages; those under way go on, and so do reports.
    pub fn stop_taking(&self) {
        self.context.stop.cancel();
    }

    /// Resolves when every message taken is settled and the broker knows, or
    /// was left to the broker. Call [`Worker::stop_taking`] first.
    pub async fn drained(&self) {
        self.context.intakes.close();
        self.context.intakes.wait().await;
    }

    /// Stops what is still under way, then ends the session: the broker gives
    /// those messages to another worker.
    pub async fn close(self) {
        self.context.stop.cancel();
        self.context.abandon.cancel();
        self.drained().await;
        self.context.end.cancel();
        if let Some(task) = self.task {
            // It fails only by panicking, which has been printed.
            let _ = task.await;
        }
    }
}

/// Has a session with the broker as long as the worker lives. Fails only if the
/// first one does, for a reason that a person has to mend.
async fn sessions(context: Arc<Context>, mut outbox: Outbox) -> Result<(), AmqpError> {
    let mut schedule = schedule().build();
    let mut complaint = Complaint::every(COMPLAIN_EVERY);
    let (mut first, mut away) = (true, false);
    while let Some((error, lasted)) = session(&context, &mut outbox, first, away).await {
        context.set_away(error.to_string());
        if first && lasted.is_none() && error.is_configuration() {
            return Err(error);
        }
        if lasted.is_some() {
            let broker = context.connector.endpoint();
            warn!(broker, %error, "lost the broker, connecting again");
            complaint.made();
            first = false;
        } else if complaint.is_due() {
            warn!(%error, "no session with the broker, trying again");
        }
        if lasted.is_some_and(|lasted| lasted >= STABLE) {
            schedule = self::schedule().build();
        }
        away = true;
        let pause = sleep(schedule.next().unwrap_or(RETRY_MAX));
        if context.end.run_until_cancelled(pause).await.is_none() {
            break;
        }
    }
    let left = outbox.left();
    if left > 0 {
        warn!(
            left,
            "token events were not published; what they say is found again with the next rings"
        );
    }
    Ok(())
}

/// One session: what ended it, and how long it took events. None if it was
/// ended from here.
async fn session(
    context: &Arc<Context>,
    outbox: &mut Outbox,
    first: bool,
    away: bool,
) -> Option<(AmqpError, Option<Duration>)> {
    let connect = async {
        if away {
            context.connector.knock().await?;
        }
        Session::connect(Arc::clone(context), first).await
    };
    let session = match context.end.run_until_cancelled(connect).await? {
        Ok(session) => session,
        Err(error) => return Some((error, None)),
    };
    let (error, since) = session.run(outbox).await;
    let lasted = since.map(|since| since.elapsed());
    session.close().await;
    error.map(|error| (error, lasted))
}

fn schedule() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_FIRST)
        .with_max_delay(RETRY_MAX)
        .with_jitter()
        .without_max_times()
}

/// Connects once, looks whether everything is there, and counts what is in the
/// queues. Declares nothing.
///
/// # Errors
/// What could not be reached, is not there or may not be used.
pub async fn count(settings: &Settings) -> Result<Vec<QueueCount>, AmqpError> {
    let connector = Connector::new(settings)?;
    let topology = Topology::new(Names::new(&settings.prefix), settings.cancels, false);
    let work = async {
        let connection = connector.connect("ringpush check").await?;
        let counts = topology.counts(&connection).await;
        close(&connection).await;
        counts
    };
    match timeout(COUNT_TIMEOUT, work).await {
        Ok(counts) => counts,
        Err(_) => Err(AmqpError::lost("counting queues", "took too long")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::call::payload::Profiles;
    use crate::engine::routes::Routes;
    use crate::engine::settings::RingSettings;

    #[tokio::test]
    async fn a_panic_in_what_keeps_the_session_ends_the_worker_which_is_not_ready_meanwhile() {
        let (prepared, reports) =
            PreparedWorker::new(&Settings::default(), Metrics::default()).unwrap();
        let routes = Routes {
            apps: HashMap::new(),
            profiles: Profiles::built_in().unwrap(),
        };
        let ring = RingSettings::default();
        let dispatcher = Dispatcher::new(ring, routes, reports, Metrics::default());
        let mut worker = prepared.start(Arc::new(dispatcher), ring.window());
        worker.task.take().unwrap().abort();
        let context = Arc::clone(&worker.context);
        worker.task = Some(tokio::spawn(async move {
            let _connected = context.set_connected();
            assert!(context.state.borrow().connected);
            panic!("a fault in the worker");
        }));
        let error = worker.fatal().await.to_string();
        assert!(error.contains("keeps the session"), "{error}");
        assert!(!worker.state().borrow().connected);
    }
}
