//! What a cancel says to a phone.

use std::sync::Arc;

use crate::call::event::{Action, Data, Device, Event};

/// A cancel that also says what its ring said, for an app to which it comes as
/// a second `VoIP` push: that must be complete, or the phone rings a ghost.
/// The cancel's own words win, but not against the ring's UUID. A ring that was
/// sealed is not repeated in clear.
pub(super) fn repeating(
    cancel: &Event,
    ring: &Event,
    device: &Arc<Device>,
) -> (Event, Arc<Device>) {
    let mut event = cancel.clone();
    event.call_uuid = ring.call_uuid;
    event.profile = cancel.profile.clone().or_else(|| ring.profile.clone());
    let rung = listed(ring, &device.id);
    let Some(rung) = rung.filter(|rung| rung.sealed.is_none()) else {
        return (event, Arc::clone(device));
    };
    event.media = ring.media;
    event.action = Action::Cancel {
        caller: cancel.caller().or(ring.caller()).cloned(),
        reason: cancel.reason(),
        except: Vec::new(),
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

/// The device of this id, if the event lists a usable one.
pub(super) fn listed<'a>(event: &'a Event, device_id: &str) -> Option<&'a Arc<Device>> {
    let usable = event
        .devices()
        .iter()
        .filter_map(|e| e.device.as_ref().ok());
    usable.into_iter().find(|device| &*device.id == device_id)
}
