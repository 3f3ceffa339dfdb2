//! What this worker knows of calls: which were cancelled, and how its own
//! rings ended. A cancel is a fact that every ring looks up and wakes on.
//!
//! [`Calls`] is the store, bounded in time and in bytes; begin there.
//! [`Call`] is one call, `own_rings` this worker's rings to one of its devices.

mod call;
mod own_rings;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

pub use self::call::{Call, DeviceKey, RingUnderWay};
pub use self::own_rings::RingState;
use crate::call::event::{Event, EventKind};
use crate::call::ids::call_uuid;

/// How much is remembered, in bytes, estimated.
const MAX_BYTES: usize = 96 * 1024 * 1024;

/// An empty call with its place in the map, in bytes, estimated.
const CALL_BYTES: usize = 128;

/// All calls that were heard of lately.
///
/// In two halves, the younger and the older one: a call that is heard of moves
/// to the younger, and the older is forgotten as a whole. So a call is
/// remembered for two ring windows after it was *last* heard of, a window
/// before its ring and one after, and nothing has to be kept in order.
#[derive(Debug)]
pub struct Calls {
    /// How long the younger half takes in calls.
    life: Duration,
    max_bytes: usize,
    hasher: RandomState,
    halves: Mutex<Halves>,
}

#[derive(Debug)]
struct Halves {
    younger: HashMap<Uuid, Arc<Call>>,
    older: HashMap<Uuid, Arc<Call>>,
    /// When the younger half began.
    since: Instant,
    /// Of the younger half, estimated.
    bytes: usize,
}

impl Calls {
    /// Remembers each call for at least twice this window after it was last
    /// heard of.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self::within(window, MAX_BYTES)
    }

    fn within(window: Duration, max_bytes: usize) -> Self {
        Self {
            life: window * 2,
            max_bytes,
            hasher: RandomState::new(),
            halves: Mutex::new(Halves {
                younger: HashMap::new(),
                older: HashMap::new(),
                since: Instant::now(),
                bytes: 0,
            }),
        }
    }

    /// The call of an event.
    pub fn of(&self, event: &Event) -> Arc<Call> {
        let each = match event.kind() {
            EventKind::Ring => call::RING_BYTES,
            EventKind::Cancel => call::CANCELLED_BYTES,
        };
        let devices = event.devices().len() + event.except().len();
        self.get(&event.call_id, devices * each)
    }

    /// Makes room for an event of so many bytes that a ring's cancel will have
    /// to repeat ([`Call::begin_ring`]).
    pub fn keep(&self, bytes: usize) {
        self.halves().bytes += bytes;
    }

    /// Learns of a cancel. Twice the same is once.
    pub fn cancel(&self, event: &Arc<Event>) -> Arc<Call> {
        let call = self.of(event);
        call.cancel(event, &self.hasher);
        call
    }

    /// A device's key in any call.
    #[must_use]
    pub fn device(&self, device_id: &str) -> DeviceKey {
        DeviceKey::of(&self.hasher, device_id)
    }

    /// The call of this id, which is about to grow by so many bytes. A UUID is
    /// the same call in any letter case.
    fn get(&self, call_id: &str, growth: usize) -> Arc<Call> {
        let key = call_uuid(call_id);
        let mut halves = self.halves();
        let forgotten = self.turn(&mut halves);
        let call = if let Some(call) = halves.younger.get(&key) {
            Arc::clone(call)
        } else {
            let call = halves.older.remove(&key).unwrap_or_default();
            halves.bytes += CALL_BYTES + call.size();
            halves.younger.insert(key, Arc::clone(&call));
            call
        };
        halves.bytes += growth;
        drop(halves);
        // Many calls take a while to free.
        drop(forgotten);
        call
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        // Nothing in here can panic half-way, so a poisoned state is whole.
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the younger half become the older one when its time is up or it
    /// has grown too large. What was forgotten.
    fn turn(&self, halves: &mut Halves) -> HashMap<Uuid, Arc<Call>> {
        let now = Instant::now();
        let age = now.duration_since(halves.since);
        let full = halves.bytes > self.max_bytes / 2;
        if age < self.life && !full {
            return HashMap::new();
        }
        let younger = std::mem::take(&mut halves.younger);
        let calls = younger.len();
        let mut forgotten = std::mem::replace(&mut halves.older, younger);
        (halves.since, halves.bytes) = (now, 0);
        if age >= self.life * 2 {
            // Nothing was heard for so long that the other half is old as well.
            forgotten.extend(std::mem::take(&mut halves.older));
        } else if age < self.life {
            let age_s = age.as_secs();
            tracing::warn!(
                age_s,
                calls,
                "more calls and cancels than there is memory for: those from before age_s are \
                 forgotten, and a ring that was cancelled before that may ring"
            );
            // No ring lives for as long as a half does, but this one was cut short.
            let in_use = forgotten.extract_if(|_, call| Arc::strong_count(call) > 1);
            halves.younger.extend(in_use);
        }
        forgotten
    }
}

#[cfg(test)]
mod tests;
