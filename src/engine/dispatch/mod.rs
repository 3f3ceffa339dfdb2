//! One event, from bytes to a verdict.
//!
//! [`Dispatcher::handle`] takes a message, fans it out to its devices and
//! answers once, when every device is final and every report is safe. `pushes`
//! makes one device final, `reporter` says so, `environments` finds out where
//! an `auto` token lives, `received` is the event with its times.

mod cancels;
mod environments;
mod pushes;
mod received;
mod reporter;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::pushes::{Done, Pushes};
use self::received::{Received, clamped};
use self::reporter::Reporter;
use super::calls::Calls;
use super::deadline::wall_clock;
use super::delivery::{Delivery, Source, Verdict};
use super::history::History;
use super::routes::Routes;
use super::settings::RingSettings;
use crate::call::event::{
    DeviceEntry, Event, EventError, EventKind, MAX_PART, Part, Platform, split,
};
use crate::call::outcome::{Outcomes, PushResult, TraceContext, Unreachable};
use crate::call::receipt::Receipts;
use crate::metrics::{EventLabels, Metrics};

/// At most one line about a producer's clock in this time.
const CLOCK_WARNING: Duration = Duration::from_secs(60);

/// Takes events and makes phones ring.
pub struct Dispatcher {
    ring: RingSettings,
    routes: RwLock<Arc<Routes>>,
    calls: Arc<Calls>,
    pushes: Pushes,
    metrics: Metrics,
    /// Messages under way.
    in_flight: AtomicUsize,
    clock_warned: Mutex<Option<Instant>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

/// What became of the devices of a message.
#[derive(Default)]
struct Tally {
    results: BTreeMap<PushResult, u32>,
    /// Whether this message made any of them final.
    own: bool,
    /// Reports that other messages answer for.
    elsewhere: Vec<Receipts>,
}

impl Tally {
    fn add(&mut self, done: Done) {
        let result = match done {
            Done::Nothing => return,
            Done::Final(result) => {
                self.own = true;
                result
            }
            Done::Elsewhere(result, receipts) => {
                self.elsewhere.push(receipts);
                result
            }
        };
        *self.results.entry(result).or_default() += 1;
    }
}

impl Dispatcher {
    /// A dispatcher over these routes that reports there.
    #[must_use]
    pub fn new(
        ring: RingSettings,
        routes: Routes,
        outcomes: Arc<dyn Outcomes>,
        metrics: Metrics,
    ) -> Self {
        let calls = Arc::new(Calls::new(ring.window()));
        let reporter = Reporter::new(outcomes, metrics.clone());
        Self {
            ring,
            routes: RwLock::new(Arc::new(routes)),
            pushes: Pushes::new(Arc::clone(&calls), reporter),
            calls,
            metrics,
            in_flight: AtomicUsize::new(0),
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
        &self.pushes.reporter.history
    }

    /// How many messages are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Handles one message to its end.
    pub async fn handle(&self, delivery: &Delivery) -> Verdict {
        let _counted = Counted::of(&self.in_flight);
        let event = match self.decode(delivery) {
            Ok(event) => event,
            Err(error) => {
                self.count("unknown", "dead");
                return Verdict::Dead(error);
            }
        };
        let handling = async {
            if must_split(&event.event, delivery.source) {
                Box::pin(self.split(&event, delivery)).await
            } else {
                self.finish(&event, delivery).await
            }
        };
        let verdict = handling.instrument(event.span()).await;
        let kind = event.event.kind().name();
        match &verdict {
            Verdict::Settled => self.count(kind, "settled"),
            Verdict::Split(_) => self.count(kind, "split"),
            Verdict::Dead(_) => self.count(kind, "dead"),
            Verdict::Abandoned => {}
        }
        verdict
    }

    /// Not async, so that no future has room for what is only needed here.
    fn decode(&self, delivery: &Delivery) -> Result<Received, EventError> {
        let event = Event::decode(&delivery.body, self.ring.limits())?;
        let event = self.received(event, delivery.body.len(), Arc::clone(&delivery.trace));
        if event.event.kind() == EventKind::Ring {
            self.check_clock(&event);
        } else if let ([], Some(ignored)) = (event.event.devices(), &event.event.ignored) {
            // No outcome is going to say so.
            let call_id = &*event.event.call_id;
            tracing::debug!(call_id, "the cancel of a whole call: {ignored}");
        }
        Ok(event)
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
        let event = self.received(event, body.len(), Arc::default());
        // The job may have gone to a worker that has not rung these phones,
        // and a VoIP cancel comes from whoever has, and from nobody else.
        if !event.event.devices().is_empty() && event.call.has_rings() {
            let this = Arc::clone(self);
            self.tasks
                .spawn(async move { this.cancel_own_rings(&event).await });
        }
    }

    /// Waits for work that belongs to no message.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// An event that was taken just now; if it is a cancel it counts from now on.
    fn received(&self, event: Event, bytes: usize, trace: Arc<TraceContext>) -> Received {
        let at = wall_clock();
        let event = Arc::new(clamped(event, at, self.ring.max_ttl));
        let call = match event.kind() {
            EventKind::Ring => self.calls.of(&event),
            EventKind::Cancel => self.calls.cancel(&event),
        };
        Received::new(event, bytes, at, trace, call, self.routes())
    }

    /// Makes every device final and its reports safe.
    async fn finish(&self, event: &Received, delivery: &Delivery) -> Verdict {
        let mut tally = Tally::default();
        match event.event.devices() {
            [one] => tally.add(self.device(event, one).await),
            devices => {
                let all = devices.iter().map(|entry| self.device(event, entry));
                for done in join_all(all).await {
                    tally.add(done);
                }
            }
        }
        let platform = match delivery.source {
            Source::Platform(platform) => platform,
            Source::Calls => Platform::Unknown,
        };
        let rang = tally.results.contains_key(&PushResult::Accepted);
        if tally.own && !rang && event.event.kind() == EventKind::Ring {
            let ring = &event.event;
            let unreachable = Unreachable {
                event_id: ring.event_id,
                call_id: Arc::clone(&ring.call_id),
                callee: ring.callee.clone(),
                devices: ring.devices().len(),
                results: tally.results,
                platform,
                part: delivery.part.part,
                parts: delivery.part.parts,
            };
            self.pushes.reporter.unreachable(event, unreachable);
        }
        self.safe(platform, event, &tally.elsewhere).await
    }

    /// Waits for the reports of a message, and for those that others made of
    /// its devices: as long as these are not safe, neither is it.
    async fn safe(&self, platform: Platform, event: &Received, elsewhere: &[Receipts]) -> Verdict {
        let mut safe = self.pushes.reporter.safe(platform, event).await;
        for receipts in elsewhere {
            safe &= receipts.wait().await;
        }
        if safe {
            Verdict::Settled
        } else {
            Verdict::Abandoned
        }
    }

    async fn device(&self, event: &Received, entry: &DeviceEntry) -> Done {
        let device = match &entry.device {
            Ok(device) => device,
            Err(bad) => return self.pushes.reject(event, bad).await,
        };
        match event.event.kind() {
            // Boxed: a message's future stays small enough for the allocator's
            // short way, and rings need no room for cancels.
            EventKind::Ring => Box::pin(self.pushes.ring(event, device)).await,
            EventKind::Cancel => Box::pin(self.pushes.cancel(event, device)).await,
        }
    }

    /// Cuts a message up; devices that are in no part are reported here.
    async fn split(&self, event: &Received, delivery: &Delivery) -> Verdict {
        let parts = match split(&delivery.body, &event.event) {
            Ok(parts) => parts,
            Err(error) => return Verdict::Dead(error),
        };
        if parts.is_empty() {
            // No device at all (a cancel of the whole call) or only bad ones.
            return self.finish(event, delivery).await;
        }
        let mut tally = Tally::default();
        for entry in event.event.devices() {
            if let Err(bad) = &entry.device {
                tally.add(self.pushes.reject(event, bad).await);
            }
        }
        match self.safe(Platform::Unknown, event, &tally.elsewhere).await {
            Verdict::Settled => Verdict::Split(parts),
            other @ (Verdict::Dead(_) | Verdict::Split(_) | Verdict::Abandoned) => other,
        }
    }

    /// Pushes a cancel to the phones that this worker has rung and whose cancel is
    /// a second `VoIP` push.
    async fn cancel_own_rings(&self, event: &Received) {
        let devices = event.event.devices().iter();
        let own = devices
            .filter_map(|entry| entry.device.as_ref().ok())
            .filter(|device| self.pushes.owes_voip_cancel(event, device))
            .map(|device| self.pushes.cancel(event, device));
        join_all(own).await;
        self.pushes.reporter.safe(Platform::Unknown, event).await;
    }

    fn check_clock(&self, event: &Received) {
        let ring = &event.event;
        let late = event.deadline.passed();
        let early = ring.sent_at.since(event.at) > Duration::from_secs(5);
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
        let call_id = &*ring.call_id;
        let age_ms = event.at.millis().saturating_sub(ring.sent_at.millis());
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

/// Counts a message for as long as it is under way.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    let parts = match dispatcher.handle(&delivery).await {
        Verdict::Split(parts) => parts,
        verdict @ (Verdict::Settled | Verdict::Dead(_) | Verdict::Abandoned) => return verdict,
    };
    let handled = join_all(parts.iter().map(async |part: &Part| {
        let delivery = Delivery::of_part(part, Arc::clone(&trace));
        dispatcher.handle(&delivery).await
    }))
    .await;
    let failed = handled
        .into_iter()
        .find(|verdict| !matches!(verdict, Verdict::Settled));
    failed.unwrap_or(Verdict::Settled)
}
