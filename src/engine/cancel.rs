//! A cancel's way to the phones that may be ringing.

use std::sync::Arc;

use futures_util::future::join_all;

use super::calls::RingState;
use super::device::Done;
use super::dispatch::Dispatcher;
use super::journey::Parcel;
use super::routes::{Direction, NoRoute};
use super::taken::Taken;
use super::verdict::Finding;
use crate::call::event::{Action, Data, Device, Event, Platform};
use crate::call::outcome::PushResult;
use crate::call::payload::CancelMode;
use crate::call::push::PushKind;

impl Dispatcher {
    /// Pushes a cancel to one device, once, if the phone may be ringing.
    pub(super) async fn cancel(&self, taken: &Taken, device: &Arc<Device>) -> Done {
        let direction = self.cancel_direction(&taken.event, device);
        let mode = direction
            .as_ref()
            .map_or(CancelMode::None, |direction| direction.cancel);
        if direction.is_ok_and(|direction| !direction.pushes_cancel) {
            return Done::Nothing;
        }
        let call = self.calls.get(&taken.event.call_id);
        let own_ring = call.ring(&device.id, taken.event.sent_at);
        let own_ring = tokio::time::timeout_at(taken.deadline.instant(), own_ring).await;
        let own_ring = own_ring.unwrap_or(Some(RingState::Unclear));
        // A phone that got nothing, or a later ring only, has nothing to stop;
        // and a VoIP cancel where no ring came before would ring by itself.
        let pointless = own_ring == Some(RingState::NotSent)
            || (mode == CancelMode::Voip && own_ring != Some(RingState::Accepted));
        if pointless {
            return Done::Nothing;
        }
        let ring = call.own_ring(&device.id, taken.event.sent_at);
        if let Some(ring) = ring.filter(|_| mode == CancelMode::Voip) {
            let (event, device) = repeated(&taken.event, &ring, device);
            let mut taken = taken.clone();
            taken.event = Arc::new(event);
            return self.push_cancel_to(&taken, &device, mode).await;
        }
        self.push_cancel_to(taken, device, mode).await
    }

    /// Pushes a cancel to the phones that this worker has rung and whose cancel is
    /// a second `VoIP` push.
    pub(super) async fn cancel_own_rings(&self, taken: &Taken) {
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
        join_all(own).await;
        self.reports
            .settle(Platform::Unknown, &taken.receipts)
            .await;
    }

    /// Pushes a cancel to one of the devices that it lists, for a ring of this
    /// worker, whose message answers for its reports.
    pub(super) async fn push_cancel(&self, cancel: &Arc<Event>, device: &str, ring: &Taken) {
        let listed = cancel
            .devices()
            .iter()
            .find_map(|entry| match &entry.device {
                Ok(listed) if &*listed.id == device => Some(listed),
                Ok(_) | Err(_) => None,
            });
        if let Some(listed) = listed {
            let trace = Arc::clone(&ring.trace);
            let mut taken = Taken::now(Arc::clone(cancel), trace, self.ring.max_ttl);
            taken.receipts = ring.receipts.clone();
            Box::pin(self.cancel(&taken, listed)).await;
        }
    }

    /// Where a cancel goes: by its own profile, or by its ring's.
    fn cancel_direction(&self, cancel: &Event, device: &Device) -> Result<Direction, NoRoute> {
        let call = self.calls.get(&cancel.call_id);
        let ring = call.own_ring(&device.id, cancel.sent_at);
        let profile = cancel
            .profile
            .as_ref()
            .or(ring.as_ref().and_then(|ring| ring.profile.as_ref()));
        self.routes().find(profile, device)
    }

    async fn push_cancel_to(&self, taken: &Taken, device: &Arc<Device>, mode: CancelMode) -> Done {
        self.once(taken, device, async |id| {
            let (kind, token) = match (device.platform, mode) {
                (Platform::Ios, CancelMode::Background) => {
                    (PushKind::Background, device.background_token())
                }
                _ => (PushKind::Call, Ok(&device.token)),
            };
            let token = match token {
                Ok(token) => token,
                Err((reason, detail)) => {
                    let finding =
                        Finding::new(PushResult::Rejected, reason).explained(Some(detail));
                    let trail = self.history.open(taken.subject(device, None));
                    self.report(taken, device, None, finding, (0, &trail));
                    return PushResult::Rejected;
                }
            };
            let parcel = Parcel {
                kind,
                token,
                call: None,
            };
            self.deliver(taken, device, id, &parcel).await.0
        })
        .await
    }
}

/// A cancel that also says what its ring said, for an app to which it comes as
/// a second `VoIP` push: that must be complete, or the phone rings a ghost.
/// The cancel's own words win, but not against the ring's UUID. A ring that was
/// sealed is not repeated in clear.
fn repeated(cancel: &Event, ring: &Event, device: &Arc<Device>) -> (Event, Arc<Device>) {
    let mut event = cancel.clone();
    event.call_uuid = ring.call_uuid;
    event.profile = cancel.profile.clone().or_else(|| ring.profile.clone());
    let rung = ring
        .devices()
        .iter()
        .filter_map(|entry| entry.device.as_ref().ok())
        .find(|rung| rung.id == device.id);
    let Some(rung) = rung.filter(|rung| rung.sealed.is_none()) else {
        return (event, Arc::clone(device));
    };
    event.media = ring.media;
    event.action = Action::Cancel {
        caller: cancel.caller().or(ring.caller()).cloned(),
        reason: cancel.reason(),
    };
    event.callee = cancel.callee.clone().or_else(|| ring.callee.clone());
    event.conversation = cancel
        .conversation
        .clone()
        .or_else(|| ring.conversation.clone());
    let mut data = (*rung.data.0).clone();
    for (key, value) in device.data.0.iter() {
        data.insert(key.clone(), value.clone());
    }
    let mut device = Device::clone(device);
    device.data = Data(Arc::new(data));
    (event, Arc::new(device))
}
