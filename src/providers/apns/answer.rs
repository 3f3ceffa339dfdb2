//! From a response's head and body to an [`Answer`].

use std::time::SystemTime;

use http::{HeaderMap, response::Parts};
use serde_json::Value;
use uuid::Uuid;

use crate::call::push::{Answer, Class};
use crate::call::time::Timestamp;
use crate::providers::retry::retry_after;

use super::reason::{Reason, classify};

/// The one status of an acceptance.
const ACCEPTED: u16 = 200;

/// Reads a response; of an acceptance the head is enough. `sent` is the
/// `apns-id` that was sent, for servers that do not repeat it.
#[must_use]
pub fn read(head: &Parts, body: &[u8], sent: Uuid) -> Answer {
    let status = head.status.as_u16();
    let (reason, timestamp) = if status == ACCEPTED {
        (None, None)
    } else {
        read_body(body)
    };
    let class = classify(status, reason.as_ref());
    let mut answer = Answer::new(class);
    answer.status = Some(status);
    answer.provider_id = text(&head.headers, "apns-id");
    answer.provider_timestamp = timestamp;
    answer.detail = detail(head, reason.as_ref());
    if class == Class::Accepted {
        answer.provider_id = answer.provider_id.or_else(|| Some(sent.to_string()));
    } else {
        answer.retry_after = retry_after(&head.headers, SystemTime::now());
        answer.reason = reason.map(|reason| reason.as_str().to_owned());
    }
    answer
}

/// `{"reason": "…", "timestamp": <milliseconds, with 410 only>}`
/// ("Handling notification responses from APNs").
fn read_body(body: &[u8]) -> (Option<Reason>, Option<Timestamp>) {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return (None, None);
    };
    let reason = fields
        .get("reason")
        .and_then(Value::as_str)
        .and_then(Reason::read);
    let timestamp = fields
        .get("timestamp")
        .and_then(|value| match value {
            // Apple writes a number; a number in quotes must not be lost either.
            Value::String(digits) => digits.parse().ok(),
            Value::Number(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Array(_)
            | Value::Object(_) => value.as_i64(),
        })
        .map(Timestamp::from_millis);
    (reason, timestamp)
}

fn detail(head: &Parts, reason: Option<&Reason>) -> Option<String> {
    if let Some(unique) = text(&head.headers, "apns-unique-id") {
        // The sandbox's name for the push, under which Apple's console finds it.
        return Some(format!("apns-unique-id {unique}"));
    }
    let bare = reason.is_none() && head.status.as_u16() != ACCEPTED;
    bare.then(|| format!("HTTP {} without a reason", head.status.as_u16()))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= 128).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Response;

    use super::*;

    fn answer(response: http::response::Builder, body: &str) -> Answer {
        let (head, ()) = response.body(()).unwrap().into_parts();
        read(&head, body.as_bytes(), Uuid::nil())
    }

    fn status(status: u16) -> http::response::Builder {
        Response::builder().status(status)
    }

    #[test]
    fn accepted_names_the_providers_id_or_else_ours() {
        let answered = answer(status(200).header("apns-id", "ABC"), "");
        assert_eq!(answered.class, Class::Accepted);
        assert_eq!(answered.provider_id.as_deref(), Some("ABC"));
        assert_eq!(answered.reason, None);
        let silent = answer(status(200), "");
        assert_eq!(silent.provider_id, Some(Uuid::nil().to_string()));
    }

    #[test]
    fn a_410_says_since_when_the_token_is_dead() {
        let body = r#"{"reason":"Unregistered","timestamp":1789999999123}"#;
        let gone = answer(status(410), body);
        assert_eq!(gone.class, Class::DeadToken);
        assert_eq!(gone.reason.as_deref(), Some("Unregistered"));
        assert_eq!(gone.status, Some(410));
        assert_eq!(
            gone.provider_timestamp,
            Some(Timestamp::from_millis(1_789_999_999_123))
        );
        let quoted = answer(status(410), r#"{"reason":"X","timestamp":"12"}"#);
        assert_eq!(quoted.provider_timestamp, Some(Timestamp::from_millis(12)));
        assert_eq!(quoted.class, Class::Unknown);
        assert_eq!(quoted.reason.as_deref(), Some("X"));
    }

    #[test]
    fn retry_after_is_read() {
        let asked = answer(status(503).header("retry-after", "7"), "");
        assert_eq!(asked.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn what_is_not_json_is_an_answer_without_a_reason() {
        for body in ["", "<html>", "[]", r#"{"reason":7}"#, "\u{fffd}"] {
            let refused = answer(status(400), body);
            assert_eq!(refused.class, Class::Unavailable, "{body}");
            assert_eq!(refused.reason, None);
            assert_eq!(refused.detail.as_deref(), Some("HTTP 400 without a reason"));
        }
        assert_eq!(answer(status(502), "<html>").class, Class::Unavailable);
    }
}
