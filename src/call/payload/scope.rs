//! What a profile can say: the event, the device and the time left, by name.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::json::JsonMap;
use super::redact::Redact;
use crate::call::event::{Callee, Caller, Conversation, Device, Event, HandleType, Media};
use crate::call::time::Timestamp;

/// The name of a caller of whom nothing is known.
const UNKNOWN: &str = "Unknown";

/// One event for one device at one moment.
pub(super) struct Scope<'a> {
    event: &'a Event,
    device: &'a Device,
    now: Timestamp,
    redact: &'a Redact,
    pub(super) data: Arc<Map<String, Json>>,
}

/// What a name stands for.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Bool(bool),
    Number(i64),
    Text(&'a str),
    Uuid(Uuid),
    /// As RFC 3339.
    Time(Timestamp),
    /// Never null.
    Json(&'a Json),
    /// The event's `data`.
    Data(&'a Arc<Map<String, Json>>),
}

/// Reads one thing from a scope; `None` if it is absent.
pub(super) type Read = for<'a> fn(&'a Scope<'a>) -> Option<Found<'a>>;

/// What a name can be.
pub(super) enum Name {
    /// One value.
    Value(Read),
    /// An object of these fields. The first says whether there is one.
    Fields(fn(&Scope<'_>) -> bool, &'static [(&'static str, Read)]),
    /// The event's `data`: an object of whatever the event has.
    Data,
}

/// Every name that an expression may use.
pub(super) const NAMES: &[(&str, Name)] = &[
    ("event", Name::Value(|s| text(s.event.kind().name()))),
    (
        "event_id",
        Name::Value(|s| Some(Found::Uuid(s.event.event_id))),
    ),
    ("call_id", Name::Value(|s| text(&s.event.call_id))),
    (
        "call_uuid",
        Name::Value(|s| Some(Found::Uuid(s.event.call_uuid))),
    ),
    ("media", Name::Value(|s| text(s.event.media.name()))),
    (
        "video",
        Name::Value(|s| Some(Found::Bool(s.event.media == Media::Video))),
    ),
    (
        "caller",
        Name::Fields(|s| s.event.caller().is_some(), CALLER),
    ),
    ("caller_name", Name::Value(|s| text(s.caller_name()?))),
    ("caller_handle", Name::Value(|s| text(s.caller_handle()?))),
    ("callee", Name::Fields(|s| s.callee().is_some(), CALLEE)),
    (
        "conversation",
        Name::Fields(|s| s.conversation().is_some(), CONVERSATION),
    ),
    ("reason", Name::Value(|s| text(s.event.reason()?.name()))),
    (
        "sent_at",
        Name::Value(|s| Some(Found::Number(s.event.sent_at.millis()))),
    ),
    (
        "sent_at_rfc3339",
        Name::Value(|s| Some(Found::Time(s.event.sent_at))),
    ),
    (
        "expires_at",
        Name::Value(|s| Some(Found::Number(s.event.expires_at.millis()))),
    ),
    (
        "expires_at_rfc3339",
        Name::Value(|s| Some(Found::Time(s.event.expires_at))),
    ),
    ("ms_left", Name::Value(|s| Some(Found::Number(s.ms_left())))),
    (
        "seconds_left",
        Name::Value(|s| Some(Found::Number(s.ms_left() / 1000))),
    ),
    ("data", Name::Data),
    ("device", Name::Fields(|_| true, DEVICE)),
];

const CALLER: &[(&str, Read)] = &[
    ("id", |s| text(s.caller_id()?)),
    ("name", |s| text(s.own_name()?)),
    ("handle", |s| text(s.own_handle()?)),
    ("handle_type", |s| {
        let kind = s.event.caller()?.handle_type;
        text(
            kind.filter(|_| !s.redact.caller_handle)
                .map(HandleType::name)?,
        )
    }),
    ("avatar_url", |s| {
        let url = filled(s.event.caller()?.avatar_url.as_deref());
        text(url.filter(|_| !s.redact.caller_avatar_url)?)
    }),
];

const CALLEE: &[(&str, Read)] = &[
    ("id", |s| text(&s.callee()?.id)),
    ("name", |s| {
        let name = filled(s.callee()?.name.as_deref());
        text(name.filter(|_| !s.redact.callee_name)?)
    }),
];

const CONVERSATION: &[(&str, Read)] = &[
    ("type", |s| text(s.conversation()?.kind.name())),
    ("id", |s| text(&s.conversation()?.id)),
    ("name", |s| {
        let name = filled(s.conversation()?.name.as_deref());
        text(name.filter(|_| !s.redact.conversation_name)?)
    }),
];

const DEVICE: &[(&str, Read)] = &[
    ("id", |s| text(&s.device.id)),
    ("platform", |s| text(s.device.platform.name())),
    ("app", |s| text(&s.device.app)),
];

#[expect(clippy::unnecessary_wraps, reason = "it ends the readers above")]
const fn text(text: &str) -> Option<Found<'_>> {
    Some(Found::Text(text))
}

/// A text that says something.
fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        event: &'a Event,
        device: &'a Device,
        now: Timestamp,
        redact: &'a Redact,
    ) -> Self {
        Self {
            event,
            device,
            now,
            redact,
            data: redact.data(&device.data.0),
        }
    }

    fn ms_left(&self) -> i64 {
        let left = self.event.expires_at.since(self.now);
        i64::try_from(left.as_millis()).unwrap_or(i64::MAX)
    }

    fn caller_id(&self) -> Option<&str> {
        let id = filled(Some(&self.event.caller()?.id));
        id.filter(|_| !self.redact.caller_id)
    }

    fn own_name(&self) -> Option<&str> {
        let name = filled(self.event.caller()?.name.as_deref());
        name.filter(|_| !self.redact.caller_name)
    }

    fn own_handle(&self) -> Option<&str> {
        let handle = filled(self.event.caller()?.handle.as_deref());
        handle.filter(|_| !self.redact.caller_handle)
    }

    /// What to show as the caller's name, if there is a caller.
    fn caller_name(&self) -> Option<&str> {
        let _: &Caller = self.event.caller()?;
        self.own_name().or(self.own_handle()).or(Some(UNKNOWN))
    }

    /// What to show as the caller's address, if there is a caller.
    fn caller_handle(&self) -> Option<&str> {
        let _: &Caller = self.event.caller()?;
        self.own_handle().or(self.caller_id()).or(Some(UNKNOWN))
    }

    fn callee(&self) -> Option<&Callee> {
        self.event.callee.as_ref().filter(|_| !self.redact.callee)
    }

    fn conversation(&self) -> Option<&Conversation> {
        let conversation = self.event.conversation.as_ref();
        conversation.filter(|_| !self.redact.conversation)
    }

    /// What the engine of expressions sees under these names. It wants values
    /// that own what they show.
    pub(super) fn values(&self, names: &[&'static str]) -> minijinja::Value {
        let value = |(name, kind): &(&'static str, Name)| {
            let value = match kind {
                Name::Value(read) => read(self).map(Found::to_value),
                Name::Fields(there, fields) => there(self).then(|| {
                    let read = |(name, read): &(&'static str, Read)| {
                        (*name, read(self).map(Found::to_value))
                    };
                    minijinja::Value::from_object(Values(fields.iter().map(read).collect()))
                }),
                Name::Data => Some(Found::Data(&self.data).to_value()),
            };
            (*name, value)
        };
        let known = NAMES.iter().filter(|(name, _)| names.contains(name));
        minijinja::Value::from_object(Values(known.map(value).collect()))
    }
}

impl Found<'_> {
    fn to_value(self) -> minijinja::Value {
        match self {
            Self::Bool(bool) => bool.into(),
            Self::Number(number) => number.into(),
            Self::Text(text) => text.into(),
            Self::Uuid(uuid) => {
                let mut buffer = Uuid::encode_buffer();
                minijinja::Value::from(&*uuid.hyphenated().encode_lower(&mut buffer))
            }
            Self::Time(time) => time.to_string().into(),
            Self::Json(json) => super::json::to_value(json),
            Self::Data(data) => minijinja::Value::from_object(JsonMap(Arc::clone(data))),
        }
    }
}

/// Values by name, in order. `Debug` shows nothing of them.
struct Values(Vec<(&'static str, Option<minijinja::Value>)>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values([redacted])")
    }
}

impl Object for Values {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.and_then(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| (*name).into()).collect())
    }
}
