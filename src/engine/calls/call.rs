//! One call: its cancels, and this worker's rings.

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::own_rings::{OwnRings, RingState};
use crate::call::event::Event;
use crate::call::time::Timestamp;

/// The most devices of one call whose cancels are kept apart. Beyond it a
/// cancel of a single device counts for the whole call: a phone that stops
/// ringing too soon is better than a process without memory.
const MAX_DEVICES: usize = 4096;

/// What is known of one call.
///
/// Small, for every worker knows the cancels of all calls of the cluster:
/// devices are known by a keyed hash of their id, and what only a ring of this
/// worker needs is made by the ring.
#[derive(Debug, Default)]
pub struct Call(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    /// When the latest cancel of the whole call was sent.
    whole: Option<Timestamp>,
    /// When the latest cancel of a device was sent.
    devices: Vec<(DeviceKey, Timestamp)>,
    /// Cancels of the whole call but some devices.
    others: Option<Box<Others>>,
    rings: Option<Box<Rings>>,
}

/// When each was sent, and the devices, in order, that it leaves alone.
#[derive(Debug, Default)]
struct Others(Vec<(Timestamp, Vec<DeviceKey>)>);

#[derive(Debug, Default)]
struct Rings {
    /// Wakes the rings under way when a cancel comes.
    cancelled: Arc<Notify>,
    devices: Vec<(DeviceKey, OwnRings)>,
}

/// A device of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceKey(u64);

impl DeviceKey {
    /// The key of a device id under this worker's secret.
    #[must_use]
    pub fn of(hasher: &RandomState, device_id: &str) -> Self {
        Self(hasher.hash_one(device_id))
    }
}

/// A ring of this worker to one device while it is under way, and where it
/// learns that the caller gave up. One that is dropped before
/// [`RingUnderWay::end`] counts as unclear.
#[derive(Debug)]
pub struct RingUnderWay {
    call: Arc<Call>,
    device: DeviceKey,
    sent_at: Timestamp,
    cancelled: Arc<Notify>,
    ended: bool,
}

impl Facts {
    fn is_cancelled(&self, device: DeviceKey, sent_at: Timestamp) -> bool {
        let applies = |cancelled_at: Timestamp| sent_at <= cancelled_at;
        let of_device = |(d, at): &(DeviceKey, Timestamp)| *d == device && applies(*at);
        let others = self.others.iter().flat_map(|others| &others.0);
        let mut others = others.filter(|(at, _)| applies(*at));
        self.whole.is_some_and(applies)
            || self.devices.iter().any(of_device)
            || others.any(|(_, spared)| spared.binary_search(&device).is_err())
    }

    fn rings(&self, device: DeviceKey) -> Option<&OwnRings> {
        let devices = &self.rings.as_ref()?.devices;
        devices
            .iter()
            .find_map(|(d, own)| (*d == device).then_some(own))
    }

    fn rings_mut(&mut self, device: DeviceKey) -> Option<&mut OwnRings> {
        let devices = &mut self.rings.as_mut()?.devices;
        devices
            .iter_mut()
            .find_map(|(d, own)| (*d == device).then_some(own))
    }

    fn cancel_device(&mut self, device: DeviceKey, at: Timestamp) {
        if let Some((_, known)) = self.devices.iter_mut().find(|(d, _)| *d == device) {
            *known = at.max(*known);
        } else if self.devices.len() < MAX_DEVICES {
            self.devices.push((device, at));
        } else {
            self.whole = self.whole.max(Some(at));
        }
    }
}

impl Others {
    /// Forgets what another one says as well, and beyond [`MAX_DEVICES`] the
    /// earliest.
    fn add(&mut self, at: Timestamp, mut spared: Vec<DeviceKey>) {
        spared.sort_unstable();
        spared.dedup();
        let within = |some: &[DeviceKey], all: &[DeviceKey]| {
            some.iter().all(|device| all.binary_search(device).is_ok())
        };
        if self.0.iter().any(|(t, s)| *t >= at && within(s, &spared)) {
            return;
        }
        self.0.retain(|(t, s)| *t > at || !within(&spared, s));
        self.0.push((at, spared));
        while self.0.len() > 1 && self.size() > MAX_DEVICES * size_of::<DeviceKey>() {
            let earliest = (0..self.0.len()).min_by_key(|n| self.0[*n].0);
            self.0.swap_remove(earliest.unwrap_or_default());
        }
    }

    /// In bytes, estimated.
    fn size(&self) -> usize {
        let each = self.0.iter().map(|(_, spared)| size_of_val(&**spared));
        each.sum::<usize>() + size_of_val(&*self.0)
    }
}

impl Call {
    /// Learns of a cancel. Twice the same is once, and an older one is nothing.
    pub(super) fn cancel(&self, event: &Arc<Event>, hasher: &RandomState) {
        let mut facts = self.lock();
        if !event.except().is_empty() {
            let spared = event.except().iter();
            let spared = spared.map(|id| DeviceKey::of(hasher, id)).collect();
            let others = facts.others.get_or_insert_default();
            others.add(event.sent_at, spared);
        } else if event.devices().is_empty() {
            facts.whole = facts.whole.max(Some(event.sent_at));
        }
        if facts.devices.is_empty() {
            facts.devices.reserve_exact(event.devices().len());
        }
        for entry in event.devices() {
            // A cancel for a device whose token is bad still stops its ring.
            let id = match &entry.device {
                Ok(device) => Some(&*device.id),
                Err(bad) => bad.id.as_deref(),
            };
            let Some(id) = id else { continue };
            let key = DeviceKey::of(hasher, id);
            facts.cancel_device(key, event.sent_at);
            if entry.device.is_ok()
                && let Some(own) = facts.rings_mut(key)
            {
                own.cancelled(event);
            }
        }
        if let Some(rings) = &facts.rings {
            rings.cancelled.notify_waiters();
        }
    }

    /// Notes that this worker rings a device, and keeps the event, of so many
    /// bytes, if the ring's cancel has to repeat it.
    pub fn begin_ring(
        self: &Arc<Self>,
        device: DeviceKey,
        sent_at: Timestamp,
        event: Option<(Arc<Event>, usize)>,
    ) -> RingUnderWay {
        let mut facts = self.lock();
        if let Some(own) = facts.rings_mut(device) {
            own.begin(sent_at, event);
        } else {
            let mut own = OwnRings::default();
            own.begin(sent_at, event);
            let devices = &mut facts.rings.get_or_insert_default().devices;
            if devices.is_empty() {
                devices.reserve_exact(1);
            }
            devices.push((device, own));
        }
        RingUnderWay {
            call: Arc::clone(self),
            device,
            sent_at,
            cancelled: Arc::clone(&facts.rings.get_or_insert_default().cancelled),
            ended: false,
        }
    }

    /// This worker's ring to a device that a cancel of that time is for, if it
    /// was kept.
    #[must_use]
    pub fn own_ring(&self, device: DeviceKey, cancelled_at: Timestamp) -> Option<Arc<Event>> {
        let facts = self.lock();
        let rings = facts.rings(device)?;
        rings.event_at(cancelled_at).map(Arc::clone)
    }

    /// Whether this worker has rung any device of the call, or does.
    #[must_use]
    pub fn has_rings(&self) -> bool {
        self.lock().rings.is_some()
    }

    /// Whether this worker has rung this device, or does.
    #[must_use]
    pub fn knows_ring(&self, device: DeviceKey) -> bool {
        self.lock().rings(device).is_some()
    }

    /// How this worker's rings to a device ended, as a cancel of that time sees
    /// it, waiting for those under way; `None` if this worker knows of
    /// none. What was sent later is not the cancel's to stop.
    pub async fn ring_end(&self, device: DeviceKey, cancelled_at: Timestamp) -> Option<RingState> {
        loop {
            let ended = {
                let mut facts = self.lock();
                let own = facts.rings_mut(device)?;
                let state = own.state_at(cancelled_at);
                if state != RingState::UnderWay {
                    return Some(state);
                }
                own.next_end().notified_owned()
            };
            ended.await;
        }
    }

    /// Its size in bytes, estimated.
    pub(super) fn size(&self) -> usize {
        let facts = self.lock();
        let rings = facts.rings.as_ref().map_or(0, |rings| {
            let kept: usize = rings.devices.iter().map(|(_, own)| own.kept_bytes()).sum();
            size_of::<Rings>() + rings.devices.len() * RING_BYTES + kept
        });
        let devices = facts.devices.capacity() * size_of::<(DeviceKey, Timestamp)>();
        let others = facts.others.as_ref().map_or(0, |others| others.size());
        size_of::<Self>() + devices + others + rings
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        // Nothing in here can panic half-way, so a poisoned state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a ring to one device adds to its call, in bytes, estimated.
pub(super) const RING_BYTES: usize = size_of::<(DeviceKey, OwnRings)>() + size_of::<Notify>();

/// What a cancelled device adds to its call, in bytes.
pub(super) const CANCELLED_BYTES: usize = size_of::<(DeviceKey, Timestamp)>();

impl RingUnderWay {
    /// Whether a cancel stops it: one that was sent not earlier than the ring,
    /// for the device or for the whole call.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.call.lock().is_cancelled(self.device, self.sent_at)
    }

    /// Waits until one does.
    pub async fn cancelled(&self) {
        loop {
            let mut cancelled = pin!(self.cancelled.notified());
            cancelled.as_mut().enable();
            if self.is_cancelled() {
                return;
            }
            cancelled.await;
        }
    }

    /// It has ended. The cancel that came meanwhile and names the device, if
    /// the phone may be ringing all the same: nobody else knows, so it is to
    /// be pushed from here.
    #[must_use]
    pub fn end(mut self, state: RingState) -> Option<Arc<Event>> {
        self.ended = true;
        self.note(state)
    }

    fn note(&self, state: RingState) -> Option<Arc<Event>> {
        let mut facts = self.call.lock();
        facts.rings_mut(self.device)?.end(self.sent_at, state)
    }
}

impl Drop for RingUnderWay {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.note(RingState::Unclear);
        }
    }
}
