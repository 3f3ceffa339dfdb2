//! From a response's head and body to an [`Answer`].

use std::time::SystemTime;

use http::{HeaderMap, response::Parts};
use serde_json::Value;
use uuid::Uuid;

use crate::call::push::{Answer, Class};
use crate::call::time::Timestamp;
use crate::providers::retry::retry_after;

use super::reason::{Reason, classify};

/// No timestamp is later than this, which is in the year 5138.
const LATEST: i64 = 100_000_000_000_000;

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
    let died = timestamp.as_ref().and_then(read_timestamp);
    let mut class = classify(status, reason.as_ref());
    let mut detail = detail(head, reason.as_ref());
    if class == Class::DeadToken && timestamp.is_some() && died.is_none() {
        // The app may have registered the token since.
        class = Class::SuspectToken;
        detail = detail.or_else(|| Some("its timestamp cannot be read".to_owned()));
    }
    let mut answer = Answer::new(class);
    answer.status = Some(status);
    answer.provider_id = text(&head.headers, "apns-id");
    answer.provider_timestamp = died;
    answer.detail = detail;
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
fn read_body(body: &[u8]) -> (Option<Reason>, Option<Value>) {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
        return (None, None);
    };
    let reason = fields
        .get("reason")
        .and_then(Value::as_str)
        .and_then(Reason::read);
    let timestamp = fields.remove("timestamp").filter(|value| !value.is_null());
    (reason, timestamp)
}

/// Apple writes milliseconds as an integer. Gateways were seen to write it with
/// a fraction, with an exponent, in quotes or in seconds.
fn read_timestamp(value: &Value) -> Option<Timestamp> {
    let text = || value.as_str()?.trim().parse().ok();
    let number: f64 = value.as_f64().or_else(text)?;
    let in_seconds = (1e9..1e10).contains(&number);
    let millis = if in_seconds { number * 1000.0 } else { number };
    // By way of its digits, for a cast would turn anything into some date.
    let millis = format!("{millis:.0}").parse().ok()?;
    (millis < LATEST).then(|| Timestamp::from_millis(millis))
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
    fn equal_numbers_are_equal_timestamps_and_one_that_cannot_be_read_condemns_nobody() {
        let died = |written: &str| {
            let body = format!(r#"{{"reason":"Unregistered","timestamp":{written}}}"#);
            let gone = answer(status(410), &body);
            assert_eq!(gone.reason.as_deref(), Some("Unregistered"));
            (gone.class, gone.provider_timestamp.map(Timestamp::millis))
        };
        for written in [
            "1700000000000",
            "1.7e12",
            "1700000000000.0",
            "1699999999999.9",
            r#""1700000000000""#,
            r#"" 1.7e12 ""#,
            "1700000000",
            "1.7e9",
            r#""1700000000.0""#,
        ] {
            let expected = (Class::DeadToken, Some(1_700_000_000_000));
            assert_eq!(died(written), expected, "{written}");
        }
        assert_eq!(died("null"), (Class::DeadToken, None));
        for unreadable in [
            r#""yesterday""#,
            r#""""#,
            r#""NaN""#,
            r#""inf""#,
            "true",
            "[]",
            "{}",
            "1700000000000000",
            "1e300",
        ] {
            assert_eq!(
                died(unreadable),
                (Class::SuspectToken, None),
                "{unreadable}"
            );
        }
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
