//! The rules for an event's fields and a device's, in the order in which a
//! broken one is named. What they let through, `wire` decodes.

use serde_json::Value;

use super::error::EventError;
use super::fields::Fields;
use super::wire::{MAX_CALL_ID, token_problem};
use super::words::{
    CancelReason, ConversationType, EnvironmentChoice, EventKind, HandleType, Media, Platform,
};

/// Every field of an event but `devices`.
pub(super) const EVENT_FIELDS: [&str; 14] = [
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

/// Every field of a device. The last one is the only one that may be wrong
/// while the device rings all the same.
pub(super) const DEVICE_FIELDS: [&str; 9] = [
    "id",
    "platform",
    "app",
    "token",
    "environment",
    "registered_at",
    "data",
    "sealed",
    ALERT_TOKEN,
];

/// The field with a device's ordinary (non-VoIP) token.
pub(super) const ALERT_TOKEN: &str = "alert_token";

/// The first rule that an event breaks, its devices aside.
pub(super) fn check_event(fields: &Fields<'_>) -> Result<(), EventError> {
    match fields.map.get("v") {
        Some(Value::Number(v)) if v.as_u64() == Some(1) => {}
        Some(_) => return Err(fields.error("v", "must be 1")),
        None => return Err(fields.error("v", "required")),
    }
    let kind = fields.choice("event", EventKind::NAMES)?;
    let kind = fields.required("event", kind)?;
    fields.required("event_id", fields.uuid("event_id")?)?;
    if fields.required_text("call_id")?.len() > MAX_CALL_ID {
        return Err(fields.error("call_id", "longer than 128 bytes"));
    }
    fields.uuid("call_uuid")?;
    fields.required("sent_at", fields.time("sent_at")?)?;
    fields.time("expires_at")?;
    fields.map_field("data")?;
    fields.choice("media", Media::NAMES)?;
    let caller = check_caller(fields)?;
    let reason = fields.choice("reason", CancelReason::NAMES)?;
    if kind == EventKind::Ring.name() {
        if reason.is_some() {
            return Err(fields.error("reason", "only a cancel has one"));
        }
        if caller.is_none() {
            return Err(fields.error("caller", "required for a ring"));
        }
    }
    check_callee(fields)?;
    check_conversation(fields)?;
    fields.text("profile").map(|_| ())
}

fn check_caller(fields: &Fields<'_>) -> Result<Option<()>, EventError> {
    let Some(caller) = fields.object("caller")? else {
        return Ok(None);
    };
    caller.required_text("id")?;
    caller.text("name")?;
    caller.text("handle")?;
    caller.choice("handle_type", HandleType::NAMES)?;
    caller.text("avatar_url").map(|_| Some(()))
}

fn check_callee(fields: &Fields<'_>) -> Result<(), EventError> {
    let Some(callee) = fields.object("callee")? else {
        return Ok(());
    };
    callee.required_text("id")?;
    callee.text("name").map(|_| ())
}

fn check_conversation(fields: &Fields<'_>) -> Result<(), EventError> {
    let Some(conversation) = fields.object("conversation")? else {
        return Ok(());
    };
    let kind = conversation.choice("type", ConversationType::NAMES)?;
    conversation.required("type", kind)?;
    conversation.required_text("id")?;
    conversation.text("name").map(|_| ())
}

/// The first rule that a device breaks, its `alert_token` aside, behind the
/// word for its outcome.
pub(super) fn check_device(
    fields: &Fields<'_>,
    platform: Platform,
) -> Result<(), (&'static str, EventError)> {
    let invalid = |error| ("invalid_device", error);
    fields.required_text("id").map_err(invalid)?;
    if platform == Platform::Unknown {
        let error = fields.error("platform", "must be ios or android");
        return Err(("unknown_platform", error));
    }
    fields.required_text("app").map_err(invalid)?;
    let token = fields.required_text("token");
    let token = token.and_then(|token| check_token(fields, "token", token, platform));
    token.map_err(|error| ("invalid_token", error))?;
    check_details(fields).map_err(invalid)
}

fn check_details(fields: &Fields<'_>) -> Result<(), EventError> {
    fields.choice("environment", EnvironmentChoice::NAMES)?;
    fields.time("registered_at")?;
    fields.map_field("data")?;
    if let Some(sealed) = fields.object("sealed")? {
        sealed.required_text("kid")?;
        sealed.required_text("ct")?;
    }
    Ok(())
}

/// What is wrong with an `alert_token`. A ring never goes to it, so that must
/// not stop one.
pub(super) fn check_alert_token(fields: &Fields<'_>, platform: Platform) -> Result<(), EventError> {
    match fields.text(ALERT_TOKEN)? {
        Some(token) => check_token(fields, ALERT_TOKEN, token, platform),
        None => Ok(()),
    }
}

fn check_token(
    fields: &Fields<'_>,
    name: &str,
    token: &str,
    platform: Platform,
) -> Result<(), EventError> {
    match token_problem(token, platform) {
        Some(problem) => Err(fields.error(name, problem)),
        None => Ok(()),
    }
}
