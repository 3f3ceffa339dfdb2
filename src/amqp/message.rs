//! A message to be published, and how one is recognised that comes back.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;

use crate::call::outcome::TraceContext;

use super::wire::{short, table, text, text_of};

/// A message to be published.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) exchange: ShortString,
    pub(crate) key: ShortString,
    /// Whether a message that no queue takes is a failure.
    pub(crate) mandatory: bool,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message(to {:?}/{:?})", self.exchange, self.key)
    }
}

/// What a returned message is recognised by: where it was to go, its message
/// id, and its part, for the parts of an event share their id. Two messages can
/// be the same in all of these; then both count as returned, for a duplicate
/// does less harm than a loss.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    exchange: String,
    key: String,
    id: String,
    part: String,
}

impl Identity {
    pub(crate) fn of(
        exchange: &ShortString,
        key: &ShortString,
        properties: &BasicProperties,
    ) -> Self {
        let id = properties.message_id().as_ref();
        let headers = properties.headers().as_ref();
        let part = headers.and_then(|headers| text_of(headers.inner().get("x-part")?));
        Self {
            exchange: exchange.to_string(),
            key: key.to_string(),
            id: id.map(ToString::to_string).unwrap_or_default(),
            part: part.unwrap_or_default(),
        }
    }
}

/// Properties of a message of ours, made at this time (seconds since the
/// epoch).
pub(crate) fn properties(
    id: &str,
    call_id: &str,
    trace: &TraceContext,
    seconds: u64,
) -> BasicProperties {
    let mut headers = table([]);
    for (name, value) in [
        ("traceparent", &trace.traceparent),
        ("tracestate", &trace.tracestate),
    ] {
        if let Some(value) = value {
            headers.insert(name.into(), text(value));
        }
    }
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(short(id))
        .with_timestamp(seconds)
        .with_correlation_id(short(call_id))
        .with_headers(headers)
}

/// Now, for [`properties`].
pub(crate) fn epoch_seconds() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp()).unwrap_or(0)
}
