//! What this worker knows of calls: which were cancelled, and how its own
//! rings ended. A cancel is a fact that every ring looks up and wakes on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::own_rings::OwnRings;
pub use super::own_rings::RingState;
use crate::call::event::{DeviceEntry, Event, EventKind};
use crate::call::time::Timestamp;

/// The most calls remembered. Reached only beyond some thousand calls a
/// second; then the oldest that nobody rings for are forgotten first.
const MAX_CALLS: usize = 200_000;

/// The most cancels kept for one call; each device of an event may have one.
const MAX_CANCELS: usize = 1024;

/// All calls of the last ring window.
#[derive(Debug)]
pub struct Calls {
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<Arc<str>, Arc<Call>>,
    order: VecDeque<(Instant, Arc<str>)>,
}

/// One call.
#[derive(Debug, Default)]
pub struct Call {
    facts: Mutex<Facts>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Facts {
    cancels: Vec<Arc<Event>>,
    /// Those that came over the stream of cancels.
    learned: VecDeque<Arc<Event>>,
    rings: HashMap<Arc<str>, OwnRings>,
}

impl Calls {
    /// Remembers each call for this long after it was first heard of.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            state: Mutex::default(),
        }
    }

    /// The call of this id.
    pub fn get(&self, call_id: &Arc<str>) -> Arc<Call> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        self.forget(&mut state, now);
        if let Some(call) = state.calls.get(call_id) {
            return Arc::clone(call);
        }
        let call = Arc::new(Call::default());
        state.calls.insert(Arc::clone(call_id), Arc::clone(&call));
        state.order.push_back((now, Arc::clone(call_id)));
        call
    }

    /// Learns of a cancel. Twice the same is once.
    pub fn cancel(&self, event: &Arc<Event>) {
        let call = self.get(&event.call_id);
        {
            let mut facts = lock(&call.facts);
            if facts.cancels.iter().any(|known| covers(known, event)) {
                return;
            }
            if facts.cancels.len() >= MAX_CANCELS {
                // Those of single devices go first, the oldest of them.
                let single = |known: &Arc<Event>| !known.devices().is_empty();
                let oldest = facts.cancels.iter().position(single).unwrap_or(0);
                facts.cancels.remove(oldest);
            }
            facts.cancels.push(Arc::clone(event));
        }
        call.changed.notify_waiters();
    }

    /// Learns of a cancel from the stream that every worker reads; false if it
    /// was read there before, as after a reconnect.
    pub fn learn(&self, event: &Arc<Event>) -> bool {
        self.cancel(event);
        let call = self.get(&event.call_id);
        let mut facts = lock(&call.facts);
        if facts.learned.iter().any(|known| covers(known, event)) {
            return false;
        }
        if facts.learned.len() >= MAX_CANCELS {
            facts.learned.pop_front();
        }
        facts.learned.push_back(Arc::clone(event));
        true
    }

    fn forget(&self, state: &mut State, now: Instant) {
        // Twice the window: a cancel may come first, a window before its ring.
        let life = self.window * 2;
        while let Some((since, call_id)) = state.order.front() {
            let old = now.saturating_duration_since(*since) > life;
            if !old && state.order.len() < MAX_CALLS {
                return;
            }
            let in_use = state
                .calls
                .get(call_id)
                .is_some_and(|call| Arc::strong_count(call) > 1);
            let Some((_, call_id)) = state.order.pop_front() else {
                return;
            };
            if in_use {
                state.order.push_back((now, call_id));
                return;
            }
            state.calls.remove(&call_id);
        }
    }
}

impl Call {
    /// The cancel that stops this device's ring of that time, if there is one.
    /// It applies to rings sent not later than itself, and to the devices it
    /// names, or to all if it names none.
    pub fn cancelled(&self, device_id: &str, sent_at: Timestamp) -> Option<Arc<Event>> {
        let facts = lock(&self.facts);
        facts
            .cancels
            .iter()
            .find(|cancel| applies(cancel, device_id, sent_at))
            .map(Arc::clone)
    }

    /// Waits until there is one.
    pub async fn cancellation(&self, device_id: &str, sent_at: Timestamp) -> Arc<Event> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(cancel) = self.cancelled(device_id, sent_at) {
                return cancel;
            }
            changed.await;
        }
    }

    /// The cancel that stops this ring and lists the device by name, so that
    /// it is also to be pushed there.
    pub fn cancel_to_push(&self, device_id: &str, sent_at: Timestamp) -> Option<Arc<Event>> {
        let facts = lock(&self.facts);
        let listed = |cancel: &&Arc<Event>| sent_at <= cancel.sent_at && lists(cancel, device_id);
        facts.cancels.iter().find(listed).map(Arc::clone)
    }

    /// Notes that this worker rings a device, and keeps the event if the
    /// ring's cancel has to repeat it.
    pub fn begin_ring(&self, device_id: &Arc<str>, sent_at: Timestamp, event: Option<&Arc<Event>>) {
        let mut facts = lock(&self.facts);
        let rings = facts.rings.entry(Arc::clone(device_id)).or_default();
        rings.begin(sent_at, event);
    }

    /// Notes how the ring of that time ended.
    pub fn end_ring(&self, device_id: &Arc<str>, sent_at: Timestamp, state: RingState) {
        {
            let mut facts = lock(&self.facts);
            let rings = facts.rings.entry(Arc::clone(device_id)).or_default();
            rings.end(sent_at, state);
        }
        self.changed.notify_waiters();
    }

    /// This worker's ring to a device that a cancel of that time is for, if it
    /// was kept.
    pub fn own_ring(&self, device_id: &str, cancelled_at: Timestamp) -> Option<Arc<Event>> {
        let facts = lock(&self.facts);
        let rings = facts.rings.get(device_id)?;
        rings.event_at(cancelled_at).map(Arc::clone)
    }

    /// Whether this worker has rung this device, or does.
    pub fn knows_ring(&self, device_id: &str) -> bool {
        lock(&self.facts).rings.contains_key(device_id)
    }

    /// How this worker's rings to a device ended, as a cancel of that time sees
    /// it, waiting for those under way; `None` if this worker knows of
    /// none. What was sent later is not the cancel's to stop.
    pub async fn ring(&self, device_id: &str, cancelled_at: Timestamp) -> Option<RingState> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let state = lock(&self.facts)
                .rings
                .get(device_id)
                .map(|rings| rings.state_at(cancelled_at));
            if state != Some(RingState::UnderWay) {
                return state;
            }
            changed.await;
        }
    }
}

/// Whether a known cancel says all that this one says. A part of a split one
/// comes under the same id and says less.
fn covers(known: &Event, cancel: &Event) -> bool {
    let named = |entry: &DeviceEntry| match &entry.device {
        Ok(device) => lists(known, &device.id),
        Err(bad) => bad.id.as_deref().is_none_or(|id| lists(known, id)),
    };
    known.event_id == cancel.event_id
        && (known.devices().is_empty()
            || (!cancel.devices().is_empty() && cancel.devices().iter().all(named)))
}

fn applies(cancel: &Event, device_id: &str, sent_at: Timestamp) -> bool {
    debug_assert_eq!(cancel.kind(), EventKind::Cancel);
    sent_at <= cancel.sent_at && (cancel.devices().is_empty() || lists(cancel, device_id))
}

fn lists(cancel: &Event, device_id: &str) -> bool {
    cancel.devices().iter().any(|entry| match &entry.device {
        Ok(device) => &*device.id == device_id,
        // A cancel for a device whose token is bad still stops its ring.
        Err(bad) => bad.id.as_deref() == Some(device_id),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here can panic half-way, so a poisoned state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::event::Limits;

    const WINDOW: Duration = Duration::from_secs(150);
    const RUNG: &str = "2026-09-21T14:13:20Z";

    fn cancel(sent_at: &str, devices: &[&str]) -> Arc<Event> {
        let devices: Vec<_> = devices
            .iter()
            .map(|id| json!({"id": id, "platform": "android", "app": "a", "token": "t"}))
            .collect();
        let event = json!({
            "v": 1, "event": "cancel", "event_id": uuid::Uuid::new_v4(), "call_id": "c",
            "sent_at": sent_at, "devices": devices,
        });
        let limits = Limits {
            ttl: Duration::from_secs(45),
            max_ttl: Duration::from_secs(120),
        };
        Arc::new(Event::decode(event.to_string().as_bytes(), limits).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_cancel_without_devices_stops_all_rings_sent_before_it_and_none_after() {
        let calls = Calls::new(WINDOW);
        calls.cancel(&cancel("2026-09-21T14:13:20Z", &[]));
        let call = calls.get(&"c".into());
        assert!(call.cancelled("d", at("2026-09-21T14:13:20Z")).is_some());
        assert!(
            call.cancelled("d", at("2026-09-21T14:13:20.001Z"))
                .is_none()
        );
        assert!(
            call.cancel_to_push("d", at("2026-09-21T14:13:20Z"))
                .is_none()
        );
        assert!(
            calls
                .get(&"other".into())
                .cancelled("d", at("2026-09-21T14:13:20Z"))
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_cancel_with_devices_stops_only_those() {
        let calls = Calls::new(WINDOW);
        calls.cancel(&cancel("2026-09-21T14:13:20Z", &["d1"]));
        let call = calls.get(&"c".into());
        assert!(call.cancelled("d1", at("2026-09-21T14:13:20Z")).is_some());
        assert!(
            call.cancel_to_push("d1", at("2026-09-21T14:13:20Z"))
                .is_some()
        );
        assert!(call.cancelled("d2", at("2026-09-21T14:13:20Z")).is_none());
    }

    #[tokio::test]
    async fn a_part_of_a_cancel_does_not_hide_the_whole() {
        let calls = Calls::new(WINDOW);
        let whole = cancel("2026-09-21T14:13:20Z", &["d1", "d2"]);
        let mut part = (*cancel("2026-09-21T14:13:20Z", &["d2"])).clone();
        part.event_id = whole.event_id;
        calls.cancel(&Arc::new(part));
        calls.cancel(&whole);
        let call = calls.get(&"c".into());
        assert!(call.cancelled("d1", at("2026-09-21T14:13:20Z")).is_some());
        assert!(call.cancelled("d2", at("2026-09-21T14:13:20Z")).is_some());
    }

    #[tokio::test]
    async fn the_whole_call_is_cancelled_however_many_devices_were_before() {
        let calls = Calls::new(WINDOW);
        for n in 0..MAX_CANCELS {
            calls.cancel(&cancel("2026-09-21T14:13:20Z", &[&format!("x{n}")]));
        }
        calls.cancel(&cancel("2026-09-21T14:13:20Z", &[]));
        let call = calls.get(&"c".into());
        assert!(call.cancelled("d", at("2026-09-21T14:13:20Z")).is_some());
        assert!(lock(&call.facts).cancels.len() <= MAX_CANCELS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_wakes_those_who_wait() {
        let calls = Arc::new(Calls::new(WINDOW));
        let call = calls.get(&"c".into());
        let waiting =
            tokio::spawn(async move { call.cancellation("d", at("2026-09-21T14:13:20Z")).await });
        tokio::task::yield_now().await;
        let cancel = cancel("2026-09-21T14:13:21Z", &[]);
        calls.cancel(&cancel);
        assert_eq!(waiting.await.unwrap().event_id, cancel.event_id);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_a_ring_under_way_hears_how_it_ended() {
        let calls = Calls::new(WINDOW);
        let call = calls.get(&"c".into());
        assert_eq!(call.ring("d", at(RUNG)).await, None);
        call.begin_ring(&"d".into(), at(RUNG), None);
        let asking = tokio::spawn({
            let call = Arc::clone(&call);
            async move { call.ring("d", at(RUNG)).await }
        });
        tokio::task::yield_now().await;
        call.end_ring(&"d".into(), at(RUNG), RingState::Accepted);
        assert_eq!(asking.await.unwrap(), Some(RingState::Accepted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_ring_that_was_not_sent_does_not_silence_the_first() {
        let calls = Calls::new(WINDOW);
        let call = calls.get(&"c".into());
        for state in [RingState::Accepted, RingState::NotSent] {
            call.begin_ring(&"d".into(), at(RUNG), None);
            call.end_ring(&"d".into(), at(RUNG), state);
        }
        assert_eq!(call.ring("d", at(RUNG)).await, Some(RingState::Accepted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_is_not_there_for_a_cancel_that_is_older() {
        let calls = Calls::new(WINDOW);
        let call = calls.get(&"c".into());
        call.begin_ring(&"d".into(), at(RUNG), None);
        let before = at("2026-09-21T14:13:19Z");
        // It does not wait for a ring that is none of its business.
        assert_eq!(call.ring("d", before).await, Some(RingState::NotSent));
        call.end_ring(&"d".into(), at(RUNG), RingState::Accepted);
        assert_eq!(call.ring("d", before).await, Some(RingState::NotSent));
        assert_eq!(call.ring("d", at(RUNG)).await, Some(RingState::Accepted));
    }

    #[tokio::test(start_paused = true)]
    async fn each_cancel_sees_the_rings_sent_before_it_only() {
        let calls = Calls::new(WINDOW);
        let call = calls.get(&"c".into());
        let later = at("2026-09-21T14:13:28Z");
        for (sent_at, state) in [(at(RUNG), RingState::NotSent), (later, RingState::Accepted)] {
            call.begin_ring(&"d".into(), sent_at, None);
            call.end_ring(&"d".into(), sent_at, state);
        }
        let between = at("2026-09-21T14:13:24Z");
        assert_eq!(call.ring("d", between).await, Some(RingState::NotSent));
        assert_eq!(call.ring("d", later).await, Some(RingState::Accepted));
        // The rings need not come in the order in which they were sent.
        let first = at("2026-09-21T14:13:10Z");
        call.begin_ring(&"d".into(), first, None);
        call.end_ring(&"d".into(), first, RingState::Unclear);
        assert_eq!(call.ring("d", between).await, Some(RingState::Unclear));
        assert_eq!(call.ring("d", later).await, Some(RingState::Accepted));
    }

    #[test]
    fn a_cancel_that_is_read_again_is_nothing_new_but_a_job_is_not_the_stream() {
        let calls = Calls::new(WINDOW);
        let whole = cancel("2026-09-21T14:13:20Z", &["d1", "d2"]);
        calls.cancel(&whole);
        assert!(calls.learn(&whole));
        assert!(!calls.learn(&whole));
        assert!(calls.learn(&cancel("2026-09-21T14:13:20Z", &["d1"])));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_forgotten_after_their_window_unless_somebody_rings() {
        let calls = Calls::new(WINDOW);
        let held = calls.get(&"held".into());
        held.begin_ring(&"d".into(), at(RUNG), None);
        held.end_ring(&"d".into(), at(RUNG), RingState::Accepted);
        calls.cancel(&cancel("2026-09-21T14:13:20Z", &[]));
        tokio::time::advance(WINDOW * 2 + Duration::from_secs(1)).await;
        calls.get(&"tick".into());
        calls.get(&"tock".into());
        assert_eq!(
            calls.get(&"held".into()).ring("d", at(RUNG)).await,
            Some(RingState::Accepted)
        );
        let sent = at("2026-09-21T14:13:20Z");
        assert!(calls.get(&"c".into()).cancelled("d", sent).is_none());
    }
}
