//! One request's judgement and its answer, the same for every server.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::record::{Answer, Claims};
use super::script::RetryAfter;

/// An HTTP answer.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        let mut reply = Self::new(status, body.to_string());
        let value = HeaderValue::from_static("application/json; charset=UTF-8");
        reply.headers.insert(CONTENT_TYPE, value);
        reply
    }

    /// Adds a header; text that fits no header is left out.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn retry_after(mut self, after: Option<RetryAfter>) -> Self {
        let value = match after {
            Some(RetryAfter::Seconds(seconds)) => HeaderValue::from(seconds),
            Some(RetryAfter::Date { date_in }) => {
                let date = SystemTime::now() + Duration::from_secs(date_in);
                return self.header("retry-after", &httpdate::fmt_http_date(date));
            }
            None => return self,
        };
        self.headers.insert(RETRY_AFTER, value);
        self
    }

    /// Status and headers, without the body.
    pub(super) fn head(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        response.headers_mut().clone_from(&self.headers);
        response
    }
}

/// What a server's rules say of a request.
pub(super) struct Judged {
    pub(super) reply: Reply,
    pub(super) answer: Answer,
    pub(super) claims: Option<Claims>,
    pub(super) token: Option<String>,
    pub(super) push_id: Option<String>,
    pub(super) violations: Vec<String>,
    /// The request itself is right: scripts are played to it, and what is
    /// known of its device counts.
    pub(super) sound: bool,
    /// The sender has proved who it is.
    pub(super) authenticated: bool,
}

impl Judged {
    /// A request answered `reply`, with `reason` if that is an error.
    pub(super) fn new(reply: Reply, reason: Option<&str>) -> Self {
        let answer = Answer {
            status: Some(reply.status),
            reason: reason.map(str::to_owned),
            ..Answer::default()
        };
        Self {
            reply,
            answer,
            claims: None,
            token: None,
            push_id: None,
            violations: reason.iter().map(ToString::to_string).collect(),
            sound: false,
            authenticated: false,
        }
    }
}
