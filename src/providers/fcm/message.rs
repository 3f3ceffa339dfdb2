//! A push as FCM's JSON ("REST Resource: projects.messages").
//!
//! Of the `android` block `priority` and `ttl` are sent, and what an app's
//! settings ask for, which only apps written for it can do with. Never sent are:
//! - `analytics_label` would count calls in Google's analytics.
//! - `collapse_key` would let a ring replace another and be throttled.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::settings::{AndroidOptions, Settings};
use crate::call::event::TargetKind;
use crate::call::payload::{AndroidData, Payload};
use crate::call::push::Attempt;
use crate::providers::endpoint::Endpoint;

/// What one message says.
pub(super) struct Draft<'a> {
    /// Whom it goes to: the field of the message, and what stands in it.
    pub(super) target: (TargetKind, &'a str),
    pub(super) data: &'a AndroidData,
    /// How long the message is worth delivering.
    pub(super) time_left: Duration,
    pub(super) options: &'a AndroidOptions,
    /// Have it checked by FCM, and not delivered.
    pub(super) validate_only: bool,
}

impl Draft<'_> {
    /// The body of the request, in one go: the data is JSON already.
    ///
    /// `HIGH`, for what is `NORMAL` waits while the phone dozes; `ttl` in whole
    /// seconds, of which 0 means now or never (Firebase "Set and manage Android
    /// message priority", "Set the lifespan of a message").
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, token) = self.target;
        let data = self.data.as_json();
        let length = FRAME + token.len() + data.len() + self.options.0.len();
        let mut body = Vec::with_capacity(length);
        // Texts and numbers into memory: neither can fail.
        let _ = write!(body, r#"{{"message":{{"{}":"#, kind.name());
        let _ = serde_json::to_writer(&mut body, token);
        body.extend_from_slice(br#","data":"#);
        body.extend_from_slice(data.as_bytes());
        let ttl = self.time_left.as_secs();
        let options = &self.options.0;
        let _ = write!(
            body,
            r#","android":{{"priority":"HIGH","ttl":"{ttl}s"{options}}}}}"#
        );
        let end = if self.validate_only {
            r#","validate_only":true}"#
        } else {
            "}"
        };
        body.extend_from_slice(end.as_bytes());
        body
    }
}

/// Room for all but the token and the data.
const FRAME: usize = 128;

/// Who we are.
const USER_AGENT: &str = concat!("ringpush/", env!("CARGO_PKG_VERSION"));

/// What all requests of a client have in common.
#[derive(Debug)]
pub(super) struct Requests {
    uri: Uri,
}

impl Requests {
    /// `None` if the project cannot stand in a path.
    pub(super) fn new(endpoint: &Endpoint, project_id: &str) -> Option<Self> {
        let base = endpoint.path();
        let path = format!("{base}/v1/projects/{project_id}/messages:send");
        let uri = endpoint.at(path.try_into().ok()?);
        Some(Self { uri })
    }

    /// A request with so long a body, without it.
    pub(super) fn build(&self, length: usize, authorization: Option<HeaderValue>) -> Head {
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        let mut request = Head::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
    }
}

/// A request without its body.
type Head = http::Request<()>;

/// The request that a client with these settings would make for this attempt,
/// byte for byte, except that `authorization` is added when it goes out.
///
/// `None` if there is none: the payload is another platform's, or settings and
/// project make no URL.
#[must_use]
pub fn exact_request(
    settings: &Settings,
    project_id: &str,
    options: &AndroidOptions,
    validate_only: bool,
    attempt: &Attempt<'_>,
) -> Option<http::Request<Bytes>> {
    let Payload::Android(data) = attempt.payload else {
        return None;
    };
    let draft = Draft {
        target: (attempt.target, attempt.token.expose()),
        data,
        time_left: attempt.time_left,
        options,
        validate_only,
    };
    let requests = Requests::new(&settings.endpoint().ok()?, project_id)?;
    let body = draft.encode();
    let head = requests.build(body.len(), None);
    Some(head.map(|()| Bytes::from(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::fcm::AndroidSettings;

    fn encode<const N: usize>(data: [(&str, &str); N], millis: u64, validate_only: bool) -> String {
        let body = Draft {
            target: (TargetKind::Token, "t0k:en"),
            data: &data.into(),
            time_left: Duration::from_millis(millis),
            options: &AndroidOptions::default(),
            validate_only,
        }
        .encode();
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn a_message_is_data_only_high_and_not_collapsible_byte_for_byte() {
        assert_eq!(
            encode(
                [("event", "ring"), ("caller_name", "Zoë \"Z\"")],
                25_000,
                false
            ),
            concat!(
                r#"{"message":{"token":"t0k:en","data":{"event":"ring","caller_name":"Zoë \"Z\""},"#,
                r#""android":{"priority":"HIGH","ttl":"25s"}}}"#
            )
        );
    }

    #[test]
    fn an_installation_id_takes_the_tokens_place() {
        let body = Draft {
            target: (TargetKind::Fid, "cJx9"),
            data: &[].into(),
            time_left: Duration::ZERO,
            options: &AndroidOptions::default(),
            validate_only: false,
        }
        .encode();
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.starts_with(r#"{"message":{"fid":"cJx9","data":{}"#),
            "{body}"
        );
    }

    #[test]
    fn what_an_app_asks_for_stands_behind_the_lifespan() {
        let settings: AndroidSettings = serde_json::from_str(
            r#"{"service_account_file":"a","direct_boot_ok":true,"bandwidth_constrained_ok":true,
                "restricted_satellite_ok":true,"restricted_package_name":"com.example.calls"}"#,
        )
        .unwrap();
        let body = Draft {
            target: (TargetKind::Token, "t"),
            data: &[].into(),
            time_left: Duration::from_secs(25),
            options: &settings.options(),
            validate_only: true,
        }
        .encode();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            concat!(
                r#"{"message":{"token":"t","data":{},"android":{"priority":"HIGH","ttl":"25s","#,
                r#""direct_boot_ok":true,"bandwidth_constrained_ok":true,"#,
                r#""restricted_satellite_ok":true,"restricted_package_name":"com.example.calls"}},"#,
                r#""validate_only":true}"#
            )
        );
    }

    #[test]
    fn a_notification_in_the_data_stays_a_text_in_the_data() {
        let body = encode([("notification", r#"{"title":"x"}"#)], 1000, false);
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let keys =
            |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&json), ["message"]);
        assert_eq!(keys(&json["message"]), ["token", "data", "android"]);
        assert_eq!(keys(&json["message"]["android"]), ["priority", "ttl"]);
        assert!(json["message"]["data"]["notification"].is_string());
    }

    #[test]
    fn ttl_is_rounded_down_so_that_no_phone_rings_after_the_deadline() {
        for (millis, ttl) in [
            (0, "0s"),
            (900, "0s"),
            (999, "0s"),
            (1000, "1s"),
            (45_999, "45s"),
        ] {
            let body = encode([], millis, false);
            assert!(
                body.contains(&format!(r#""ttl":"{ttl}""#)),
                "{millis}: {body}"
            );
        }
    }

    #[test]
    fn validate_only_stands_beside_the_message() {
        assert!(encode([], 1000, true).ends_with(r#"}},"validate_only":true}"#));
    }
}
