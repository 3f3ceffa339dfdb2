//! What an expression can see: the event, the device and the time left.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};
use uuid::Uuid;

use super::json::JsonMap;
use super::redact::Redact;
use crate::call::event::{
    Callee, Caller, CancelReason, Conversation, Device, Event, EventKind, HandleType, Media,
    Platform,
};
use crate::call::time::Timestamp;

/// The name of a caller of whom nothing is known.
const UNKNOWN: &str = "Unknown";

/// Every name that an expression may use, and the fields of those that have a
/// fixed set of them. `data` has whatever the event has.
pub(super) const NAMES: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("event_id", &[]),
    ("call_id", &[]),
    ("call_uuid", &[]),
    ("media", &[]),
    ("video", &[]),
    (
        "caller",
        &["id", "name", "handle", "handle_type", "avatar_url"],
    ),
    ("caller_name", &[]),
    ("caller_handle", &[]),
    ("callee", &["id", "name"]),
    ("conversation", &["type", "id", "name"]),
    ("reason", &[]),
    ("sent_at", &[]),
    ("sent_at_rfc3339", &[]),
    ("expires_at", &[]),
    ("expires_at_rfc3339", &[]),
    ("ms_left", &[]),
    ("seconds_left", &[]),
    ("data", &[]),
    ("device", &["id", "platform", "app"]),
];

/// One event for one device at one moment. Owns what it shows, because the
/// engine wants values without a lifetime; what is long is shared.
#[derive(Debug)]
pub(super) struct Scope {
    kind: EventKind,
    event_id: Uuid,
    call_id: Arc<str>,
    call_uuid: Uuid,
    media: Media,
    caller: Option<Arc<CallerFields>>,
    callee: Option<Arc<CalleeFields>>,
    conversation: Option<Arc<ConversationFields>>,
    reason: Option<CancelReason>,
    sent_at: Timestamp,
    expires_at: Timestamp,
    now: Timestamp,
    data: Arc<JsonMap>,
    device: Arc<DeviceFields>,
}

impl Scope {
    pub(super) fn new(event: &Event, device: &Device, now: Timestamp, redact: &Redact) -> Self {
        let data = redact.data(&device.data.0);
        Self {
            kind: event.kind(),
            event_id: event.event_id,
            call_id: Arc::clone(&event.call_id),
            call_uuid: event.call_uuid,
            media: event.media,
            caller: event
                .caller()
                .map(|caller| Arc::new(CallerFields::new(caller, redact))),
            callee: event
                .callee
                .as_ref()
                .filter(|_| !redact.callee)
                .map(|callee| Arc::new(CalleeFields::new(callee, redact))),
            conversation: event
                .conversation
                .as_ref()
                .filter(|_| !redact.conversation)
                .map(|c| Arc::new(ConversationFields::new(c, redact))),
            reason: event.reason(),
            sent_at: event.sent_at,
            expires_at: event.expires_at,
            now,
            data: Arc::new(JsonMap(data)),
            device: Arc::new(DeviceFields {
                id: Arc::clone(&device.id),
                app: Arc::clone(&device.app),
                platform: device.platform,
            }),
        }
    }

    fn ms_left(&self) -> u64 {
        let left = self.expires_at.since(self.now);
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Some(match key {
            "event" => Value::from(self.kind.name()),
            "event_id" => uuid_value(self.event_id),
            "call_id" => Value::from(&self.call_id),
            "call_uuid" => uuid_value(self.call_uuid),
            "media" => Value::from(self.media.name()),
            "video" => Value::from(self.media == Media::Video),
            "caller" => Value::from_dyn_object(Arc::clone(self.caller.as_ref()?)),
            "caller_name" => Value::from(self.caller.as_ref()?.shown_name()),
            "caller_handle" => Value::from(self.caller.as_ref()?.shown_handle()),
            "callee" => Value::from_dyn_object(Arc::clone(self.callee.as_ref()?)),
            "conversation" => Value::from_dyn_object(Arc::clone(self.conversation.as_ref()?)),
            "reason" => Value::from(self.reason?.name()),
            "sent_at" => Value::from(self.sent_at.millis()),
            "sent_at_rfc3339" => Value::from(self.sent_at.to_string()),
            "expires_at" => Value::from(self.expires_at.millis()),
            "expires_at_rfc3339" => Value::from(self.expires_at.to_string()),
            "ms_left" => Value::from(self.ms_left()),
            "seconds_left" => Value::from(self.ms_left() / 1000),
            "data" => Value::from_dyn_object(Arc::clone(&self.data)),
            "device" => Value::from_dyn_object(Arc::clone(&self.device)),
            _ => return None,
        })
    }
}

fn uuid_value(uuid: Uuid) -> Value {
    let mut buffer = Uuid::encode_buffer();
    Value::from(&*uuid.hyphenated().encode_lower(&mut buffer))
}

/// A text that says something.
fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

fn text_value(text: Option<&str>) -> Option<Value> {
    text.map(Value::from)
}

/// An object of a few optional fields.
macro_rules! fields {
    ($type:ty, $this:ident, { $($name:literal => $value:expr),+ $(,)? }) => {
        impl Object for $type {
            fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
                self.get_value_by_str(key.as_str()?)
            }

            fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
                let $this = self;
                match key {
                    $($name => $value,)+
                    _ => None,
                }
            }

            fn enumerate(self: &Arc<Self>) -> Enumerator {
                Enumerator::Str(&[$($name),+])
            }
        }
    };
}

struct CallerFields {
    id: Option<String>,
    name: Option<String>,
    handle: Option<String>,
    handle_type: Option<HandleType>,
    avatar_url: Option<String>,
}

impl fmt::Debug for CallerFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerFields([redacted])")
    }
}

impl CallerFields {
    fn new(caller: &Caller, redact: &Redact) -> Self {
        let unless =
            |hidden: bool, text: Option<&str>| filled(text).filter(|_| !hidden).map(str::to_owned);
        Self {
            id: unless(redact.caller_id, Some(&caller.id)),
            name: unless(redact.caller_name, caller.name.as_deref()),
            handle: unless(redact.caller_handle, caller.handle.as_deref()),
            handle_type: caller.handle_type.filter(|_| !redact.caller_handle),
            avatar_url: unless(redact.caller_avatar_url, caller.avatar_url.as_deref()),
        }
    }

    fn shown_name(&self) -> &str {
        let name = self.name.as_deref().or(self.handle.as_deref());
        name.unwrap_or(UNKNOWN)
    }

    fn shown_handle(&self) -> &str {
        let handle = self.handle.as_deref().or(self.id.as_deref());
        handle.unwrap_or(UNKNOWN)
    }
}

fields!(CallerFields, this, {
    "id" => text_value(this.id.as_deref()),
    "name" => text_value(this.name.as_deref()),
    "handle" => text_value(this.handle.as_deref()),
    "handle_type" => text_value(this.handle_type.map(HandleType::name)),
    "avatar_url" => text_value(this.avatar_url.as_deref()),
});

#[derive(Debug)]
struct CalleeFields(Callee);

impl CalleeFields {
    fn new(callee: &Callee, redact: &Redact) -> Self {
        Self(Callee {
            id: callee.id.clone(),
            name: callee.name.clone().filter(|_| !redact.callee_name),
        })
    }
}

fields!(CalleeFields, this, {
    "id" => text_value(Some(&this.0.id)),
    "name" => text_value(filled(this.0.name.as_deref())),
});

#[derive(Debug)]
struct ConversationFields(Conversation);

impl ConversationFields {
    fn new(conversation: &Conversation, redact: &Redact) -> Self {
        Self(Conversation {
            kind: conversation.kind,
            id: conversation.id.clone(),
            name: conversation
                .name
                .clone()
                .filter(|_| !redact.conversation_name),
        })
    }
}

fields!(ConversationFields, this, {
    "type" => text_value(Some(this.0.kind.name())),
    "id" => text_value(Some(&this.0.id)),
    "name" => text_value(filled(this.0.name.as_deref())),
});

#[derive(Debug)]
struct DeviceFields {
    id: Arc<str>,
    app: Arc<str>,
    platform: Platform,
}

fields!(DeviceFields, this, {
    "id" => text_value(Some(&this.id)),
    "platform" => text_value(Some(this.platform.name())),
    "app" => text_value(Some(&this.app)),
});
