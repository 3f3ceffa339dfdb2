//! A valid event, decoded straight into its types in one pass.
//!
//! Whatever passes here must pass `diagnose` with the same
//! result, so this may be stricter and never looser: what it refuses is read
//! again there, and named. It takes each field once, for instance, where the
//! last of several is the one that counts.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use super::data::Data;
use super::targets::repeated;
use super::types::{
    Action, Callee, Caller, Conversation, Device, DeviceEntry, Event, Limits, Sealed,
};
use super::words::{CancelReason, EnvironmentChoice, EventKind, Media, Platform, TargetKind};
use crate::call::from_text::{Filled, filled, from_text};
use crate::call::ids;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;

/// The most devices in one event.
pub const MAX_DEVICES: usize = 1000;

/// The longest call id, in bytes.
pub(super) const MAX_CALL_ID: usize = 128;

/// The longest token taken, in bytes. Neither provider promises a length;
/// this only keeps a request line sane.
const MAX_TOKEN: usize = 4096;

/// Decodes a body; `None` if it breaks a rule, or a device of it does.
pub(super) fn read(body: &[u8], limits: Limits) -> Option<Event> {
    // Checked here because fields that are ignored are not looked into.
    let text = std::str::from_utf8(body).ok()?;
    let Object(mut fields) = serde_json::from_str::<Object<EventFields<'_>>>(text).ok()?;
    let devices = fields.devices.take().unwrap_or_default();
    let mut event = fields.event(limits)?;
    if devices.is_empty() && event.kind() == EventKind::Ring || devices.len() > MAX_DEVICES {
        return None;
    }
    if !devices.is_empty() && !event.except().is_empty() {
        return None;
    }
    event.devices = read_devices(devices, &event)?;
    Some(event)
}

fn read_devices(devices: Vec<Object<DeviceFields<'_>>>, event: &Event) -> Option<Vec<DeviceEntry>> {
    if devices.len() > 1 {
        let mut seen = HashSet::with_capacity(devices.len());
        if !devices.iter().all(|Object(device)| seen.insert(&device.id)) {
            return None;
        }
    }
    let mut app = Arc::from("");
    let entries = devices.into_iter().map(|Object(fields)| {
        let device = fields.device(event, &mut app)?;
        Some(DeviceEntry {
            device: Ok(Arc::new(device)),
        })
    });
    let entries: Vec<DeviceEntry> = entries.collect::<Option<_>>()?;
    repeated(&entries).is_empty().then_some(entries)
}

/// An object's fields. What is derived would take an array of them as well.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(OfMap(PhantomData)).map(Self)
    }
}

/// A UUID in its canonical form.
struct CanonicalUuid(Uuid);

impl<'de> Deserialize<'de> for CanonicalUuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, ids::parse_uuid).map(Self)
    }
}

/// An event's fields. `data` is a value here and below, because a `null` and
/// what is no object have to be told apart.
#[derive(Deserialize)]
pub(super) struct EventFields<'a> {
    v: u64,
    event: EventKind,
    event_id: CanonicalUuid,
    #[serde(deserialize_with = "filled")]
    call_id: Arc<str>,
    call_uuid: Option<CanonicalUuid>,
    sent_at: Timestamp,
    expires_at: Option<Timestamp>,
    media: Option<Media>,
    caller: Option<Object<Caller>>,
    callee: Option<Object<Callee>>,
    conversation: Option<Object<Conversation>>,
    reason: Option<CancelReason>,
    except: Option<Vec<Filled<Arc<str>>>>,
    profile: Option<Filled<Arc<str>>>,
    data: Option<Value>,
    #[serde(borrow)]
    devices: Option<Vec<Object<DeviceFields<'a>>>>,
}

impl EventFields<'_> {
    /// The event, as yet without devices; `None` if it breaks a rule.
    pub(super) fn event(self, limits: Limits) -> Option<Event> {
        if self.v != 1 || self.call_id.len() > MAX_CALL_ID {
            return None;
        }
        let call_uuid = self.call_uuid.map(|uuid| uuid.0);
        let caller = self.caller.map(|caller| caller.0);
        let action = match (self.event, caller, self.reason, self.except) {
            (EventKind::Ring, Some(caller), None, None) => Action::Ring { caller },
            (EventKind::Ring, _, _, _) => return None,
            (EventKind::Cancel, caller, reason, except) => Action::Cancel {
                caller,
                reason,
                except: except.into_iter().flatten().map(|id| id.0).collect(),
            },
        };
        let expires_at = self
            .expires_at
            .unwrap_or_else(|| self.sent_at.plus(limits.ttl));
        Some(Event {
            event_id: self.event_id.0,
            call_uuid: call_uuid.unwrap_or_else(|| ids::call_uuid(&self.call_id)),
            call_id: self.call_id,
            sent_at: self.sent_at,
            expires_at: expires_at.min(self.sent_at.plus(limits.max_ttl)),
            media: self.media.unwrap_or(Media::Audio),
            action,
            callee: self.callee.map(|callee| callee.0),
            conversation: self.conversation.map(|conversation| conversation.0),
            profile: self.profile.map(|profile| profile.0),
            ignored: None,
            data: overlaid(&Data::default(), self.data)?,
            devices: Vec::new(),
        })
    }
}

/// A device's fields.
#[derive(Deserialize)]
pub(super) struct DeviceFields<'a> {
    #[serde(deserialize_with = "filled")]
    id: Arc<str>,
    platform: Platform,
    #[serde(borrow)]
    app: Cow<'a, str>,
    token: Option<Filled<Secret>>,
    fid: Option<Filled<Secret>>,
    environment: Option<EnvironmentChoice>,
    registered_at: Option<Timestamp>,
    alert_token: Option<Filled<Secret>>,
    data: Option<Value>,
    sealed: Option<Object<Sealed>>,
}

impl DeviceFields<'_> {
    /// The device; `None` if it breaks a rule. Its app is mostly the same as
    /// that of the device before it, and then shared with it.
    pub(super) fn device(self, event: &Event, app: &mut Arc<str>) -> Option<Device> {
        let usable = |token: &Secret| token_problem(token.expose(), self.platform).is_none();
        let alert_token = self.alert_token.map(|token| token.0);
        let (token, target) = match (self.token, self.fid) {
            (Some(token), None) => (token.0, TargetKind::Token),
            (None, Some(fid)) if self.platform == Platform::Android => (fid.0, TargetKind::Fid),
            _ => return None,
        };
        let tokens = usable(&token) && alert_token.as_ref().is_none_or(usable);
        if self.platform == Platform::Unknown || self.app.is_empty() || !tokens {
            return None;
        }
        if **app != *self.app {
            *app = Arc::from(self.app);
        }
        Some(Device {
            id: self.id,
            platform: self.platform,
            app: Arc::clone(app),
            token,
            target,
            environment: self.environment,
            registered_at: self.registered_at,
            alert_token: alert_token.map(Ok),
            data: overlaid(&event.data, self.data)?,
            sealed: self.sealed.map(|sealed| sealed.0),
            ignored: event.ignored.clone(),
        })
    }
}

/// `None` if there is something else than an object to lay over it, PHP's
/// empty one (`[]`) aside.
fn overlaid(data: &Data, own: Option<Value>) -> Option<Data> {
    match own {
        None => Some(data.clone()),
        Some(Value::Object(own)) => Some(data.with(own)),
        Some(Value::Array(none)) if none.is_empty() => Some(data.clone()),
        Some(_) => None,
    }
}

/// What is wrong with a token, if anything is.
pub(super) fn token_problem(token: &str, platform: Platform) -> Option<&'static str> {
    if token.is_empty() {
        Some("must not be empty")
    } else if token.len() > MAX_TOKEN {
        Some("longer than 4096 characters")
    } else if platform == Platform::Ios && !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        Some("must be hexadecimal")
    } else {
        None
    }
}
