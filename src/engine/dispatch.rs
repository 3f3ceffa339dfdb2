//! One event, from bytes to a verdict.

use std::hash::RandomState;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use uuid::Uuid;

use super::calls::Calls;
use super::delivery::{Delivery, Source, Verdict};
use super::flights::Flights;
use super::history::History;
use super::message::must_split;
use super::routes::Routes;
use super::settings::RingSettings;
use super::taken::Taken;
use crate::call::event::{Environment, Event, EventKind, Part};
use crate::call::outcome::{Outcomes, PushResult};
use crate::call::secret::Secret;
use crate::metrics::{EventLabels, Metrics};
use crate::spans;

/// The most finished pushes remembered, for messages that come twice.
const MAX_FINISHED: u64 = 200_000;

/// The most tokens whose environment is remembered.
const MAX_ENVIRONMENTS: u64 = 100_000;

/// At most one line about a producer's clock in this time.
const CLOCK_WARNING: Duration = Duration::from_secs(60);

/// Takes events and makes phones ring.
pub struct Dispatcher {
    pub(super) ring: RingSettings,
    routes: RwLock<Arc<Routes>>,
    pub(super) calls: Calls,
    /// Pushes under way, by their id.
    pub(super) under_way: Flights<Uuid, PushResult>,
    /// Pushes that are final, by their id.
    pub(super) finished: Cache<Uuid, PushResult>,
    /// Messages under way, by event and content.
    pub(super) messages: Flights<(Uuid, u64), bool>,
    /// Messages whose reports are safe, for those that come twice.
    pub(super) settled: Cache<(Uuid, u64), ()>,
    /// Which environment an `auto` token turned out to live in.
    pub(super) environments: Cache<Secret, Environment>,
    pub(super) reports: Arc<dyn Outcomes>,
    pub(super) metrics: Metrics,
    /// The last pushes, for the status page and `trace`.
    pub(super) history: History,
    pub(super) hasher: RandomState,
    clock_warned: Mutex<Option<Instant>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// A dispatcher over these routes that reports there.
    #[must_use]
    pub fn new(
        ring: RingSettings,
        routes: Routes,
        reports: Arc<dyn Outcomes>,
        metrics: Metrics,
    ) -> Self {
        Self {
            ring,
            routes: RwLock::new(Arc::new(routes)),
            calls: Calls::new(ring.window()),
            under_way: Flights::default(),
            finished: Cache::builder()
                // The newest count, however often they were asked for.
                .eviction_policy(EvictionPolicy::lru())
                .max_capacity(MAX_FINISHED)
                .time_to_live(ring.window())
                .build(),
            messages: Flights::default(),
            settled: Cache::builder()
                // The newest count, however often they were asked for.
                .eviction_policy(EvictionPolicy::lru())
                .max_capacity(MAX_FINISHED)
                .time_to_live(ring.window())
                .build(),
            environments: Cache::builder()
                // The newest count, however often they were asked for.
                .eviction_policy(EvictionPolicy::lru())
                .max_capacity(MAX_ENVIRONMENTS)
                .time_to_live(Duration::from_secs(24 * 3600))
                .build(),
            reports,
            metrics,
            history: History::default(),
            hasher: RandomState::new(),
            clock_warned: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// The routes as they stand.
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the routes; pushes under way go on over the old ones.
    pub fn set_routes(&self, routes: Routes) {
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// What became of the last pushes.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// How many messages are under way.
    pub fn in_flight(&self) -> usize {
        self.messages.len()
    }

    /// Handles one message to its end.
    pub async fn handle(&self, delivery: Delivery) -> Verdict {
        let event = match Event::decode(&delivery.body, self.ring.limits()) {
            Ok(event) => event,
            Err(error) => {
                self.count("unknown", "dead");
                return Verdict::Dead(error);
            }
        };
        let kind = event.kind();
        let taken = Taken::now(
            Arc::new(event),
            Arc::clone(&delivery.trace),
            self.ring.max_ttl,
        );
        if kind == EventKind::Cancel {
            self.calls.cancel(&taken.event);
        } else {
            self.check_clock(&taken);
        }
        let event = &taken.event;
        let devices = event.devices().len();
        let span = spans::event(kind.name(), &event.call_id, event.event_id, devices);
        let handling = async {
            if must_split(event, delivery.source) {
                self.split(&taken, &delivery).await
            } else {
                self.settle_once(&taken, &delivery).await
            }
        };
        let verdict = handling.instrument(span).await;
        match &verdict {
            Verdict::Settled => self.count(kind.name(), "settled"),
            Verdict::Split(_) => self.count(kind.name(), "split"),
            Verdict::Dead(_) => self.count(kind.name(), "dead"),
            Verdict::Abandoned => {}
        }
        verdict
    }

    /// Learns of a cancel that was sent to every worker. What is not a cancel
    /// is skipped: whoever takes it from its queue reports it.
    pub fn learn(self: &Arc<Self>, body: &[u8]) {
        let Ok(event) = Event::decode(body, self.ring.limits()) else {
            return;
        };
        if event.kind() != EventKind::Cancel {
            return;
        }
        let event = Arc::new(event);
        // After a reconnect the stream is read again from before it.
        if !self.calls.learn(&event) || event.devices().is_empty() {
            return;
        }
        // The job may have gone to a worker that has not rung these phones,
        // and a VoIP cancel comes from whoever has, and from nobody else.
        let taken = Taken::now(event, Arc::default(), self.ring.max_ttl);
        let this = Arc::clone(self);
        self.tasks
            .spawn(async move { this.cancel_own_rings(&taken).await });
    }

    /// Waits for work that belongs to no message.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn check_clock(&self, taken: &Taken) {
        let event = &taken.event;
        let late = taken.deadline.passed();
        let early = event.sent_at.since(taken.at) > Duration::from_secs(5);
        if !late && !early {
            return;
        }
        let mut warned = self
            .clock_warned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| at.elapsed() < CLOCK_WARNING) {
            return;
        }
        *warned = Some(Instant::now());
        let call_id = &*event.call_id;
        let age_ms = taken.at.millis().saturating_sub(event.sent_at.millis());
        if late {
            tracing::warn!(
                call_id,
                age_ms,
                "a ring was over when it arrived: it waited in the queue, or the producer's clock is slow"
            );
        } else {
            tracing::warn!(
                call_id,
                age_ms,
                "a ring was sent in the future: the producer's clock is fast, or this host's is slow"
            );
        }
    }

    fn count(&self, event: &'static str, result: &'static str) {
        self.metrics
            .events
            .get_or_create(&EventLabels { event, result })
            .inc();
    }
}

/// Handles a message and all its parts in this process, as the broker would
/// have them handled; for events that come from no broker.
pub async fn handle_whole(dispatcher: &Dispatcher, delivery: Delivery) -> Verdict {
    let trace = Arc::clone(&delivery.trace);
    let parts = match dispatcher.handle(delivery).await {
        Verdict::Split(parts) => parts,
        verdict @ (Verdict::Settled | Verdict::Dead(_) | Verdict::Abandoned) => return verdict,
    };
    let handled = join_all(parts.into_iter().map(async |part: Part| {
        dispatcher
            .handle(Delivery {
                body: part.body.into(),
                source: Source::Platform(part.platform),
                part: part.number,
                trace: Arc::clone(&trace),
            })
            .await
    }))
    .await;
    let failed = handled
        .into_iter()
        .find(|verdict| !matches!(verdict, Verdict::Settled));
    failed.unwrap_or(Verdict::Settled)
}
