//! One event, from bytes to a verdict.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use uuid::Uuid;

use super::calls::Calls;
use super::deadline::{Deadline, wall_clock};
use super::delivery::{Delivery, Source, Verdict};
use super::device::{Done, Taken};
use super::flights::{Entered, Flights};
use super::history::History;
use super::routes::Routes;
use super::settings::RingSettings;
use crate::call::event::{
    Environment, Event, EventKind, MAX_PART, Part, PartNumber, Platform, split,
};
use crate::call::outcome::{Outcomes, PushResult, Receipt, ReportBody, TraceContext, Unreachable};
use crate::call::payload::CancelMode;
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
    messages: Flights<(Uuid, u64), bool>,
    /// Messages whose reports are safe, for those that come twice.
    settled: Cache<(Uuid, u64), ()>,
    /// Which environment an `auto` token turned out to live in.
    pub(super) environments: Cache<Secret, Environment>,
    pub(super) reports: Arc<dyn Outcomes>,
    pub(super) metrics: Metrics,
    /// The last pushes, for the status page and `trace`.
    pub(super) history: History,
    hasher: RandomState,
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
        self.calls.cancel(&event);
        if event.devices().is_empty() {
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

    /// A message that comes twice while the first is under way joins it.
    async fn settle_once(&self, taken: &Taken, delivery: &Delivery) -> Verdict {
        let key = self.key_of(taken, delivery);
        let flight = match self.messages.enter(&key) {
            Entered::First(flight) => flight,
            Entered::Second(landing) => {
                return match landing.wait().await {
                    Some(true) => Verdict::Settled,
                    Some(false) | None => Verdict::Abandoned,
                };
            }
        };
        // Delivered again because its acknowledgement was lost.
        let before = self.settled.contains_key(&key);
        let settled = before || self.settle(taken, delivery).await;
        if settled {
            self.settled.insert(key, ());
        }
        flight.land(settled);
        if settled {
            Verdict::Settled
        } else {
            Verdict::Abandoned
        }
    }

    /// Tells a message from others, also of the same event.
    fn key_of(&self, taken: &Taken, delivery: &Delivery) -> (Uuid, u64) {
        let hash = self.hasher.hash_one((&delivery.body, delivery.source));
        (taken.event.event_id, hash)
    }

    /// Makes every device final and its reports safe.
    async fn settle(&self, taken: &Taken, delivery: &Delivery) -> bool {
        let done = join_all(taken.event.devices().iter().map(async |entry| {
            match (&entry.device, taken.event.kind()) {
                (Err(bad), _) => Done::Final(PushResult::Rejected, self.reject(taken, bad)),
                (Ok(device), EventKind::Ring) => self.ring(taken, device).await,
                (Ok(device), EventKind::Cancel) => self.cancel(taken, device).await,
            }
        }))
        .await;
        let platform = match delivery.source {
            Source::Platform(platform) => platform,
            Source::Calls => Platform::Unknown,
        };
        let mut receipts = Vec::new();
        let mut results = BTreeMap::<PushResult, u32>::new();
        let (mut own, mut unfinished) = (false, false);
        for done in done {
            match done {
                Done::Final(result, more) => {
                    own = true;
                    *results.entry(result).or_default() += 1;
                    receipts.extend(more);
                }
                Done::Elsewhere(result) => *results.entry(result).or_default() += 1,
                Done::Nothing => {}
                Done::Unfinished => unfinished = true,
            }
        }
        if own && !unfinished && taken.event.kind() == EventKind::Ring {
            receipts.extend(self.unreachable(taken, results, platform, delivery.part));
        }
        self.reports.settle(platform, receipts).await && !unfinished
    }

    fn unreachable(
        &self,
        taken: &Taken,
        results: BTreeMap<PushResult, u32>,
        platform: Platform,
        number: PartNumber,
    ) -> Option<Receipt> {
        if results.contains_key(&PushResult::Accepted) {
            return None;
        }
        let event = &taken.event;
        Some(self.publish(
            taken,
            ReportBody::Unreachable(Unreachable {
                event_id: event.event_id,
                call_id: Arc::clone(&event.call_id),
                callee: event.callee.clone(),
                devices: event.devices().len(),
                results,
                platform,
                part: number.part,
                parts: number.parts,
            }),
        ))
    }

    /// Cuts a message up; devices that are in no part are reported here.
    async fn split(&self, taken: &Taken, delivery: &Delivery) -> Verdict {
        let parts = match split(&delivery.body, &taken.event) {
            Ok(parts) => parts,
            Err(error) => return Verdict::Dead(error),
        };
        if parts.is_empty() {
            // No device at all (a cancel of the whole call) or only bad ones.
            return self.settle_once(taken, delivery).await;
        }
        let bad = taken
            .event
            .devices()
            .iter()
            .filter_map(|entry| entry.device.as_ref().err());
        let key = self.key_of(taken, delivery);
        if self.settled.contains_key(&key) {
            // Delivered again: what is bad has been reported.
            return Verdict::Split(parts);
        }
        let receipts: Vec<Receipt> = bad.flat_map(|bad| self.reject(taken, bad)).collect();
        if self.reports.settle(Platform::Unknown, receipts).await {
            self.settled.insert(key, ());
            Verdict::Split(parts)
        } else {
            Verdict::Abandoned
        }
    }

    async fn cancel_own_rings(&self, taken: &Taken) {
        let devices = taken
            .event
            .devices()
            .iter()
            .filter_map(|entry| entry.device.as_ref().ok());
        let call = self.calls.get(&taken.event.call_id);
        let own = devices
            .filter(|device| call.knows_ring(&device.id))
            .filter(|device| {
                let direction = self.cancel_direction(&taken.event, device);
                direction.is_ok_and(|direction| direction.cancel == CancelMode::Voip)
            })
            .map(|device| self.cancel(taken, device));
        let mut receipts = Vec::new();
        for done in join_all(own).await {
            if let Done::Final(_, more) = done {
                receipts.extend(more);
            }
        }
        self.reports.settle(Platform::Unknown, receipts).await;
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

impl Taken {
    /// An event that was taken from its queue just now.
    pub(super) fn now(event: Arc<Event>, trace: Arc<TraceContext>, max_ttl: Duration) -> Self {
        let at = wall_clock();
        // However far in the future it was sent, it ends within a ring's life.
        let end = event.expires_at.min(at.plus(max_ttl));
        let event = if end == event.expires_at {
            event
        } else {
            let mut clamped = (*event).clone();
            clamped.expires_at = end;
            Arc::new(clamped)
        };
        Self {
            event,
            deadline: Deadline::new(end, at),
            at,
            instant: Instant::now(),
            trace,
        }
    }
}

/// Whether a message has to be cut up before its devices can ring.
fn must_split(event: &Event, source: Source) -> bool {
    let platform = match source {
        Source::Calls => return true,
        Source::Platform(platform) => platform,
    };
    let elsewhere = |device: &Platform| *device != platform;
    event.devices().len() > MAX_PART
        || event
            .devices()
            .iter()
            .any(|entry| entry.device.as_ref().is_ok_and(|d| elsewhere(&d.platform)))
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
