//! The request of a push, as "Sending notification requests to APNs" asks for it.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use uuid::Uuid;

use crate::call::event::Environment;
use crate::call::payload::Payload;
use crate::call::push::{Attempt, PushKind};
use crate::providers::endpoint::Endpoint;

use super::settings::{Expiration, Settings};

const PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const TOPIC: HeaderName = HeaderName::from_static("apns-topic");
const PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const ID: HeaderName = HeaderName::from_static("apns-id");

/// What all requests of a client have in common.
#[derive(Debug)]
pub(super) struct Requests {
    endpoint: Endpoint,
    voip: HeaderValue,
    plain: HeaderValue,
    expiration: Expiration,
}

impl Requests {
    /// `None` if the bundle id cannot stand in a header.
    pub(super) fn new(endpoint: &Endpoint, bundle: &str, expiration: Expiration) -> Option<Self> {
        Some(Self {
            endpoint: endpoint.clone(),
            voip: HeaderValue::try_from([bundle, ".voip"].concat()).ok()?,
            plain: HeaderValue::try_from(bundle).ok()?,
            expiration,
        })
    }

    /// The request without its body.
    pub(super) fn build(
        &self,
        attempt: &Attempt<'_>,
        path: PathAndQuery,
        authorization: Option<HeaderValue>,
    ) -> Request<()> {
        let (push_type, topic, priority) = match attempt.kind {
            PushKind::Call => ("voip", &self.voip, "10"),
            PushKind::Background => ("background", &self.plain, "5"),
        };
        let expiration = match self.expiration {
            Expiration::Deadline => attempt.deadline.seconds().max(0),
            Expiration::Now => 0,
        };
        let mut headers = HeaderMap::with_capacity(8);
        // HPACK ("Sending notification requests to APNs" asks for it): h2
        // encodes a value marked sensitive as a literal that is never indexed
        // (the signer marks its token), `:path` and content-length always as
        // literals without indexing. apns-id and apns-expiration never repeat,
        // so they are kept out of the table too; the rest is indexed.
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        headers.insert(PUSH_TYPE, HeaderValue::from_static(push_type));
        headers.insert(TOPIC, topic.clone());
        headers.insert(PRIORITY, HeaderValue::from_static(priority));
        headers.insert(EXPIRATION, unindexed(HeaderValue::from(expiration)));
        headers.insert(ID, unindexed(id_value(attempt.id)));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(attempt.payload.size()));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.endpoint.at(path);
        *request.headers_mut() = headers;
        request
    }
}

/// The request that a client with these settings would make for this attempt,
/// byte for byte, except that `authorization` is made when it goes out.
///
/// `None` if there is none: the payload is another platform's, or token or
/// bundle id cannot stand in a request.
#[must_use]
pub fn exact_request(
    settings: &Settings,
    environment: Environment,
    bundle_id: &str,
    attempt: &Attempt<'_>,
) -> Option<Request<Bytes>> {
    let Payload::Ios(body) = attempt.payload else {
        return None;
    };
    let endpoint = settings.endpoint(environment);
    let requests = Requests::new(endpoint, bundle_id, settings.expiration)?;
    let path = path(attempt.token.expose())?;
    let request = requests.build(attempt, path, None);
    Some(request.map(|()| body.clone()))
}

/// `/3/device/<token>`, if the token is what can stand there. Apple's are
/// hexadecimal and of no promised length.
pub(super) fn path(token: &str) -> Option<PathAndQuery> {
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !fits {
        return None;
    }
    PathAndQuery::from_maybe_shared(Bytes::from(["/3/device/", token].concat())).ok()
}

fn id_value(id: Uuid) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let text: &str = id.hyphenated().encode_lower(&mut buffer);
    // Hexadecimal digits and hyphens are always a header value.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn unindexed(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::event::TargetKind;
    use crate::call::push::Gate;
    use crate::call::secret::Secret;
    use crate::call::time::Timestamp;

    fn build(kind: PushKind, expiration: Expiration, deadline: i64) -> Request<()> {
        let endpoint = Endpoint::parse("https://localhost:2197").unwrap();
        let requests = Requests::new(&endpoint, "com.example.calls", expiration).unwrap();
        let attempt = Attempt {
            id: Uuid::nil(),
            kind,
            token: &Secret::from("0af9"),
            target: TargetKind::Token,
            payload: &Payload::Ios(Bytes::from_static(b"{}")),
            deadline: Timestamp::from_millis(deadline),
            time_left: Duration::from_secs(10),
            gate: &Gate::default(),
        };
        let bearer = Some(HeaderValue::from_static("bearer x"));
        requests.build(&attempt, path("0af9").unwrap(), bearer)
    }

    #[test]
    fn a_background_push_goes_to_the_app_and_not_to_its_calls() {
        let request = build(PushKind::Background, Expiration::Deadline, 1_999);
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert_eq!(header("apns-push-type"), "background");
        assert_eq!(header("apns-topic"), "com.example.calls");
        assert_eq!(header("apns-priority"), "5");
        assert_eq!(header("apns-expiration"), "1");
    }

    #[test]
    fn expiration_is_never_negative_and_zero_for_now() {
        let now = build(PushKind::Call, Expiration::Now, 1_790_000_000_000);
        assert_eq!(now.headers()["apns-expiration"], "0");
        let absurd = build(PushKind::Call, Expiration::Deadline, -5_000);
        assert_eq!(absurd.headers()["apns-expiration"], "0");
    }

    #[test]
    fn what_never_repeats_stays_out_of_the_header_table() {
        let request = build(PushKind::Call, Expiration::Deadline, 0);
        for name in ["apns-id", "apns-expiration"] {
            assert!(request.headers()[name].is_sensitive(), "{name}");
        }
        for name in ["apns-topic", "apns-push-type", "apns-priority"] {
            assert!(!request.headers()[name].is_sensitive(), "{name}");
        }
    }

    #[test]
    fn only_what_is_safe_stands_in_a_path() {
        assert_eq!(path("0aF9").unwrap(), "/3/device/0aF9");
        for bad in ["", "ab/cd", "ab?c", "ab cd", "ä", "..", "ab%20"] {
            assert!(path(bad).is_none(), "{bad}");
        }
    }
}
