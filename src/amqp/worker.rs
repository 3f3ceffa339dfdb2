//! The broker's side of a worker: sessions one after the other, and its end.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::engine::dispatch::Dispatcher;
use crate::metrics::Metrics;

use super::complaint::Complaint;
use super::reports::{ReportQueue, Reports};
use super::session::{BrokerState, Session};
use super::topology::{Names, QueueCount, Topology};
use super::{AmqpError, Connector, Settings};

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
pub struct Plan {
    connector: Connector,
    topology: Topology,
    prefetch: u16,
    metrics: Metrics,
    queue: ReportQueue,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({:?})", self.connector)
    }
}

impl Plan {
    /// Checks settings, URL and files. The [`Reports`] are what the engine
    /// reports through; they are published once the worker runs.
    ///
    /// # Errors
    /// [`AmqpError::Setting`] with key and cure.
    pub fn new(settings: &Settings, metrics: Metrics) -> Result<(Self, Arc<Reports>), AmqpError> {
        let connector = Connector::new(settings)?;
        let (reports, queue) = Reports::new(settings.prefetch, metrics.clone());
        let names = Names::new(&settings.prefix);
        let plan = Self {
            connector,
            topology: Topology::new(names, settings.cancels, settings.declare),
            prefetch: settings.prefetch,
            metrics,
            queue,
        };
        Ok((plan, Arc::new(reports)))
    }

    /// Starts to connect and to take events. `ring_window` is the longest life
    /// of a ring: cancels are read from that long ago.
    #[must_use]
    pub fn start(self, dispatcher: Arc<Dispatcher>, ring_window: Duration) -> Worker {
        let (state, watched) = watch::channel(BrokerState::default());
        let (fatal, failed) = oneshot::channel();
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        let end = CancellationToken::new();
        let run = Run {
            connector: self.connector,
            topology: self.topology,
            prefetch: self.prefetch,
            metrics: self.metrics,
            dispatcher,
            ring_window,
            tracker: tracker.clone(),
            stop: stop.clone(),
            end: end.clone(),
            state,
        };
        Worker {
            task: tokio::spawn(run.sessions(self.queue, fatal)),
            state: watched,
            failed: Some(failed),
            tracker,
            stop,
            end,
        }
    }
}

/// The broker's side of a running worker.
#[derive(Debug)]
pub struct Worker {
    task: JoinHandle<()>,
    state: watch::Receiver<BrokerState>,
    failed: Option<oneshot::Receiver<AmqpError>>,
    tracker: TaskTracker,
    stop: CancellationToken,
    end: CancellationToken,
}

impl Worker {
    /// How it stands with the broker, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.clone()
    }

    /// Messages taken and not yet settled.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.tracker.len()
    }

    /// Resolves if the first session fails for a reason that a person has to
    /// mend; never once there has been a session, nor while the broker is
    /// merely away.
    pub async fn fatal(&mut self) -> AmqpError {
        if let Some(failed) = &mut self.failed {
            let told = failed.await;
            self.failed = None;
            if let Ok(error) = told {
                return error;
            }
        }
        std::future::pending().await
    }

    /// Takes no more messages; those under way go on, and so do reports.
    pub fn stop_taking(&self) {
        self.stop.cancel();
    }

    /// Resolves when every message taken is settled and acknowledged, or was
    /// left to the broker. Call [`Worker::stop_taking`] first.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends the session. What is still under way stays unacknowledged, and the
    /// broker gives it to another worker.
    pub async fn close(self) {
        self.stop.cancel();
        self.end.cancel();
        // It fails only by panicking, which has been printed.
        let _ = self.task.await;
    }
}

struct Run {
    connector: Connector,
    topology: Topology,
    prefetch: u16,
    metrics: Metrics,
    dispatcher: Arc<Dispatcher>,
    ring_window: Duration,
    tracker: TaskTracker,
    stop: CancellationToken,
    end: CancellationToken,
    state: watch::Sender<BrokerState>,
}

/// Whom to tell of a fault that was there from the start; none after the first
/// session.
type Fatal = Option<oneshot::Sender<AmqpError>>;

impl Run {
    async fn sessions(self, mut queue: ReportQueue, fatal: oneshot::Sender<AmqpError>) {
        let mut fatal = Some(fatal);
        let mut schedule = schedule().build();
        let mut complaint = Complaint::every(COMPLAIN_EVERY);
        let mut away = false;
        while let Some((error, lasted)) = self.session(&mut queue, &mut fatal, away).await {
            if error.is_configuration()
                && let Some(fatal) = fatal.take()
            {
                self.set_away(&error);
                let _ = fatal.send(error);
                return;
            }
            if lasted.is_some() {
                warn!(broker = %self.connector.endpoint(), %error, "lost the broker, connecting again");
                complaint.made();
            } else if complaint.is_due() {
                warn!(%error, "no session with the broker, trying again");
            }
            if lasted.is_some_and(|lasted| lasted >= STABLE) {
                schedule = self::schedule().build();
            }
            away = true;
            self.set_away(&error);
            let pause = schedule.next().unwrap_or(RETRY_MAX);
            tokio::select! {
                () = self.end.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
        self.metrics.broker_connected.set(0);
    }

    /// One session: what ended it, and how long it took events. None if it was
    /// ended from here.
    async fn session(
        &self,
        queue: &mut ReportQueue,
        fatal: &mut Fatal,
        away: bool,
    ) -> Option<(AmqpError, Option<Duration>)> {
        let session = Session {
            connector: &self.connector,
            topology: &self.topology,
            ring_window: self.ring_window,
            prefetch: self.prefetch,
            dispatcher: &self.dispatcher,
            tracker: &self.tracker,
            stop: &self.stop,
            state: &self.state,
            metrics: &self.metrics,
            first: fatal.is_some(),
        };
        let connect = async {
            if away {
                self.connector.knock().await?;
            }
            session.connect().await
        };
        let link = tokio::select! {
            biased;
            () = self.end.cancelled() => return None,
            link = connect => match link {
                Ok(link) => link,
                Err(error) => return Some((error, None)),
            },
        };
        let began = Instant::now();
        let error = tokio::select! {
            biased;
            () = self.end.cancelled() => None,
            error = session.run(&link, queue) => Some(error),
        };
        queue.take_back();
        let lasted = self.state.borrow().connected.then(|| began.elapsed());
        if lasted.is_some() {
            drop(fatal.take());
        }
        self.metrics.broker_connected.set(0);
        link.close().await;
        error.map(|error| (error, lasted))
    }

    fn set_away(&self, error: &AmqpError) {
        self.state.send_replace(BrokerState {
            connected: false,
            blocked: None,
            error: Some(error.to_string()),
        });
    }
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
        super::connect::close(&connection).await;
        counts
    };
    match timeout(COUNT_TIMEOUT, work).await {
        Ok(counts) => counts,
        Err(_) => Err(AmqpError::lost("counting queues", "took too long")),
    }
}
