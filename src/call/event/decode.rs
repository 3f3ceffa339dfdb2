//! From bytes to an [`Event`].
//!
//! Walked by hand rather than derived: an error has to name the field's path
//! and one bad device must not take the others with it. Texts of errors never
//! quote values, for they end up in logs and headers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::devices::decode_devices;
use super::fields::{Fields, RawFields, UNREADABLE, known_fields};
use super::{
    Action, Callee, Caller, CancelReason, Conversation, ConversationType, Data, Event, EventKind,
    HandleType, Media,
};
use crate::call::ids;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 512 * 1024;

/// Every field of an event but `devices`.
const EVENT_FIELDS: [&str; 14] = [
    "v",
    "event",
    "event_id",
    "call_id",
    "call_uuid",
    "sent_at",
    "expires_at",
    "media",
    "caller",
    "callee",
    "conversation",
    "reason",
    "profile",
    "data",
];

/// What was wrong with an event, and where. Holds no value of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct EventError {
    /// The field, as `devices[2].token`; `body` for the whole.
    pub path: String,
    /// What was wrong with it.
    pub problem: Cow<'static, str>,
}

impl EventError {
    pub(super) fn new(path: impl Into<String>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// How long a ring may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From `sent_at`, if the event does not say.
    pub ttl: Duration,
    /// At most, whatever the event says.
    pub max_ttl: Duration,
}

impl Event {
    /// Decodes a message body.
    ///
    /// # Errors
    /// The first rule that the event as a whole breaks. A rule that a single
    /// device breaks is in that device's entry instead.
    pub fn decode(body: &[u8], limits: Limits) -> Result<Self, EventError> {
        if body.len() > MAX_BODY {
            return Err(EventError::new("body", "longer than 512 KiB"));
        }
        // `devices` stays text until each entry is read, so that a part of a
        // split event can carry its devices as they came.
        let raw: RawFields<'_> = serde_json::from_slice(body).map_err(|e| invalid_json(&e))?;
        let (map, unreadable) = known_fields(&raw, &EVENT_FIELDS);
        if let Some(name) = unreadable {
            return Err(EventError::new(name, UNREADABLE));
        }
        let mut event = decode_event(
            &Fields {
                map: &map,
                at: String::new(),
            },
            limits,
        )?;
        event.devices = decode_devices(raw.get("devices").copied(), &event)?;
        Ok(event)
    }
}

fn invalid_json(error: &serde_json::Error) -> EventError {
    // serde_json's own text may quote the input.
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends in the middle",
        serde_json::error::Category::Data => "is not a JSON object",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "is not JSON",
    };
    EventError::new(
        "body",
        format!("{what} (line {}, column {})", error.line(), error.column()),
    )
}

fn decode_event(fields: &Fields<'_>, limits: Limits) -> Result<Event, EventError> {
    match fields.map.get("v") {
        Some(Value::Number(v)) if v.as_u64() == Some(1) => {}
        Some(_) => return Err(fields.error("v", "must be 1")),
        None => return Err(fields.error("v", "required")),
    }
    let kind = fields
        .choice(
            "event",
            &[("ring", EventKind::Ring), ("cancel", EventKind::Cancel)],
        )?
        .ok_or_else(|| fields.error("event", "required"))?;
    let event_id = fields
        .uuid("event_id")?
        .ok_or_else(|| fields.error("event_id", "required"))?;
    let call_id = fields.required_text("call_id")?;
    if call_id.len() > 128 {
        return Err(fields.error("call_id", "longer than 128 bytes"));
    }
    let call_uuid = fields
        .uuid("call_uuid")?
        .unwrap_or_else(|| ids::call_uuid(call_id));
    let sent_at = fields
        .time("sent_at")?
        .ok_or_else(|| fields.error("sent_at", "required"))?;
    let expires_at = fields
        .time("expires_at")?
        .unwrap_or_else(|| sent_at.plus(limits.ttl));
    let data = fields.map_field("data")?.cloned().unwrap_or_default();
    Ok(Event {
        event_id,
        call_id: call_id.into(),
        call_uuid,
        sent_at,
        expires_at: expires_at.min(sent_at.plus(limits.max_ttl)),
        media: fields
            .choice("media", &[("audio", Media::Audio), ("video", Media::Video)])?
            .unwrap_or(Media::Audio),
        action: decode_action(fields, kind)?,
        callee: decode_callee(fields)?,
        conversation: decode_conversation(fields)?,
        profile: fields.text("profile")?.map(Arc::from),
        data: Data(Arc::new(data)),
        devices: Vec::new(),
    })
}

fn decode_action(fields: &Fields<'_>, kind: EventKind) -> Result<Action, EventError> {
    let caller = decode_caller(fields)?;
    let reason = fields.choice(
        "reason",
        &[
            ("caller_hangup", CancelReason::CallerHangup),
            ("answered_elsewhere", CancelReason::AnsweredElsewhere),
            ("declined_elsewhere", CancelReason::DeclinedElsewhere),
            ("timeout", CancelReason::Timeout),
            ("busy", CancelReason::Busy),
        ],
    )?;
    match kind {
        EventKind::Ring if reason.is_some() => Err(fields.error("reason", "only a cancel has one")),
        EventKind::Ring => {
            let caller = caller.ok_or_else(|| fields.error("caller", "required for a ring"))?;
            Ok(Action::Ring { caller })
        }
        EventKind::Cancel => Ok(Action::Cancel { caller, reason }),
    }
}

fn decode_caller(fields: &Fields<'_>) -> Result<Option<Caller>, EventError> {
    let Some(caller) = fields.object("caller")? else {
        return Ok(None);
    };
    Ok(Some(Caller {
        id: caller.required_text("id")?.to_owned(),
        name: caller.text("name")?.map(str::to_owned),
        handle: caller.text("handle")?.map(str::to_owned),
        handle_type: caller.choice(
            "handle_type",
            &[
                ("generic", HandleType::Generic),
                ("phone", HandleType::Phone),
                ("email", HandleType::Email),
            ],
        )?,
        avatar_url: caller.text("avatar_url")?.map(str::to_owned),
    }))
}

fn decode_callee(fields: &Fields<'_>) -> Result<Option<Callee>, EventError> {
    let Some(callee) = fields.object("callee")? else {
        return Ok(None);
    };
    Ok(Some(Callee {
        id: callee.required_text("id")?.to_owned(),
        name: callee.text("name")?.map(str::to_owned),
    }))
}

fn decode_conversation(fields: &Fields<'_>) -> Result<Option<Conversation>, EventError> {
    let Some(conversation) = fields.object("conversation")? else {
        return Ok(None);
    };
    let kind = conversation
        .choice(
            "type",
            &[
                ("user", ConversationType::User),
                ("group", ConversationType::Group),
            ],
        )?
        .ok_or_else(|| conversation.error("type", "required"))?;
    Ok(Some(Conversation {
        kind,
        id: conversation.required_text("id")?.to_owned(),
        name: conversation.text("name")?.map(str::to_owned),
    }))
}
