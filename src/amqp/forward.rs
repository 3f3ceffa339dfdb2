//! A message that is passed on: to the dead exchange, or in parts to the
//! platforms' queues.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};

use crate::call::event::{EventError, Part};

use super::message::Message;
use super::topology::Names;
use super::wire::{short, text};

/// What was taken from a queue.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
}

/// What is wrong with a message; why, if that is its encoding. Python's clients
/// name a text's character set there.
pub(crate) fn explained(error: &EventError, original: &Original) -> String {
    let encoding = original.properties.content_encoding().as_ref();
    let encoding = encoding.map(|encoding| encoding.as_str().to_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity" | "utf-8" | "utf8") => error.to_string(),
        Some(_) if error.path != "body" => error.to_string(),
        Some(encoding) => {
            format!("{error}; its content_encoding is {encoding:?}: publish plain JSON")
        }
    }
}

/// The message as it came, with why and whence in headers. `user` is who this
/// worker is to the broker.
pub(crate) fn dead_letter(
    original: &Original,
    names: &Names,
    user: Option<&str>,
    error: &str,
    queue: &str,
) -> Message {
    let mut headers = passed_on(&original.properties, user);
    headers.insert("x-error".into(), text(error));
    headers.insert("x-origin".into(), text(queue));
    // A dead letter must not expire before somebody has read it.
    if let Some(expiration) = original.properties.expiration() {
        headers.insert("x-expiration".into(), text(expiration.as_str()));
    }
    Message {
        exchange: short(&names.dead),
        key: "".into(),
        mandatory: true,
        properties: rebuilt(&original.properties, user, headers),
        body: original.body.clone(),
    }
}

/// One part of a split event, for its platform's queue.
pub(crate) fn part_message(
    original: &Original,
    names: &Names,
    user: Option<&str>,
    part: &Part,
) -> Message {
    let mut headers = passed_on(&original.properties, user);
    headers.insert("x-part".into(), text(&part.number.to_string()));
    let mut properties = rebuilt(&original.properties, user, headers);
    if let Some(expiration) = original.properties.expiration() {
        properties = properties.with_expiration(expiration.clone());
    }
    Message {
        exchange: "".into(),
        key: short(names.queue_of(part.platform)),
        mandatory: true,
        properties,
        body: part.body.clone(),
    }
}

/// All headers but the two that make the broker deliver copies elsewhere. The
/// broker takes a message's user id from that user only, so another's becomes
/// a header.
fn passed_on(properties: &BasicProperties, user: Option<&str>) -> FieldTable {
    let mut headers = FieldTable::default();
    for (key, value) in properties.headers().iter().flatten() {
        if !matches!(key.as_str(), "CC" | "BCC") {
            headers.insert(key.clone(), value.clone());
        }
    }
    if let Some(id) = properties.user_id()
        && !is_own(id, user)
    {
        headers.insert("x-user-id".into(), text(id.as_str()));
    }
    headers
}

fn is_own(id: &ShortString, user: Option<&str>) -> bool {
    user == Some(id.as_str())
}

/// The other properties as they were but for the expiration, persistent in any
/// case.
fn rebuilt(original: &BasicProperties, user: Option<&str>, headers: FieldTable) -> BasicProperties {
    type Set = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, Set); 8] = [
        (original.content_type(), BasicProperties::with_content_type),
        (
            original.content_encoding(),
            BasicProperties::with_content_encoding,
        ),
        (
            original.correlation_id(),
            BasicProperties::with_correlation_id,
        ),
        (original.reply_to(), BasicProperties::with_reply_to),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
        (original.cluster_id(), BasicProperties::with_cluster_id),
    ];
    let mut properties = BasicProperties::default()
        .with_headers(headers)
        .with_delivery_mode(2);
    for (value, set) in texts {
        if let Some(value) = value {
            properties = set(properties, value.clone());
        }
    }
    if let Some(priority) = original.priority() {
        properties = properties.with_priority(*priority);
    }
    if let Some(timestamp) = original.timestamp() {
        properties = properties.with_timestamp(*timestamp);
    }
    if let Some(id) = original.user_id()
        && is_own(id, user)
    {
        properties = properties.with_user_id(id.clone());
    }
    properties
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::super::wire::text_of;
    use super::*;
    use crate::call::event::{PartNumber, Platform};

    fn original() -> Original {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), text("00-aa-bb-01"));
        headers.insert("count".into(), AMQPValue::LongInt(3));
        headers.insert("CC".into(), text("elsewhere"));
        Original {
            body: Bytes::from_static(b"{}"),
            properties: BasicProperties::default()
                .with_message_id("m".into())
                .with_correlation_id("c".into())
                .with_type("ring".into())
                .with_app_id("signaling".into())
                .with_user_id("producer".into())
                .with_expiration("60000".into())
                .with_timestamp(7)
                .with_headers(headers),
        }
    }

    fn header(message: &Message, name: &str) -> Option<String> {
        let headers = message.properties.headers().as_ref().expect("headers");
        let value = headers.inner().get(name)?;
        Some(text_of(value).unwrap_or_else(|| format!("{value:?}")))
    }

    #[test]
    fn a_dead_letter_keeps_everything_and_never_expires() {
        let letter = dead_letter(
            &original(),
            &Names::new("p"),
            Some("worker"),
            "v: must be 1",
            "p.ios",
        );
        assert_eq!(
            (letter.exchange.as_str(), letter.key.as_str()),
            ("p.dead", "")
        );
        assert_eq!(&letter.body[..], b"{}");
        let properties = &letter.properties;
        assert_eq!(properties.message_id(), &Some("m".into()));
        assert_eq!(properties.correlation_id(), &Some("c".into()));
        assert_eq!(properties.kind(), &Some("ring".into()));
        assert_eq!(properties.app_id(), &Some("signaling".into()));
        assert_eq!(properties.timestamp(), &Some(7));
        assert_eq!(properties.expiration(), &None);
        assert_eq!(header(&letter, "x-expiration").as_deref(), Some("60000"));
        assert_eq!(header(&letter, "x-error").as_deref(), Some("v: must be 1"));
        assert_eq!(header(&letter, "x-origin").as_deref(), Some("p.ios"));
        assert_eq!(header(&letter, "count").as_deref(), Some("LongInt(3)"));
        assert_eq!(
            header(&letter, "traceparent").as_deref(),
            Some("00-aa-bb-01")
        );
    }

    #[test]
    fn what_the_broker_would_act_on_is_not_passed_on() {
        let part = Part {
            platform: Platform::Android,
            number: PartNumber { part: 2, parts: 3 },
            body: Bytes::from_static(b"[]"),
        };
        let names = Names::new("p");
        let message = part_message(&original(), &names, Some("worker"), &part);
        assert_eq!(
            (message.exchange.as_str(), message.key.as_str()),
            ("", "p.android")
        );
        assert_eq!(header(&message, "x-part").as_deref(), Some("2/3"));
        // Another user's id would end the channel.
        assert_eq!(message.properties.user_id(), &None);
        assert_eq!(header(&message, "x-user-id").as_deref(), Some("producer"));
        assert_eq!(header(&message, "CC"), None);
        assert_eq!(message.properties.expiration(), &Some("60000".into()));
        assert!(message.mandatory, "a part that no queue takes is lost");
        let own = part_message(&original(), &names, Some("producer"), &part);
        assert_eq!(own.properties.user_id(), &Some("producer".into()));
        assert_eq!(header(&own, "x-user-id"), None);
    }
}
