//! `/trace`: what happened to a call on this worker, for programs. The same
//! form is printed by `ringpush trace` and shown on the status page.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::status::Insight;
use crate::call::event::Environment;
use crate::call::time::Timestamp;
use crate::engine::history::{Attempted, Ended, Filter, Seen, Stage};

/// More devices than an event may have; a call with more pushes than this
/// shows the newest.
const MOST: usize = 1_000;

/// What this worker remembers of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// The form of this answer: 1.
    pub v: u8,
    /// The call that was asked for.
    pub call_id: String,
    /// Its pushes, the newest first; at most 1 000.
    pub pushes: Vec<PushTrace>,
}

/// One push. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PushTrace {
    /// Counts the pushes of this worker, from 0.
    pub number: u64,
    /// `ring` or `cancel`.
    pub event: String,
    /// The event.
    pub event_id: String,
    /// The call.
    pub call_id: String,
    /// The device, if the event gave one that could be used.
    pub device_id: Option<String>,
    /// The device's app.
    pub app: Option<String>,
    /// `ios`, `android` or `unknown`.
    pub platform: String,
    /// The last characters of the token.
    pub token: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// When the producer sent the event.
    pub sent_at: String,
    /// When this worker took it from its queue.
    pub taken_at: String,
    /// Milliseconds between the two.
    pub queue_ms: u64,
    /// When the ring is over.
    pub expires_at: String,
    /// `under_way`, `left` (the worker stopped; the message went back to the
    /// broker) or `final`.
    pub state: String,
    /// The attempts that have ended, the oldest first.
    pub attempts: Vec<AttemptTrace>,
    /// Attempts in their middle that were not kept.
    pub left_out: u32,
    /// The end, once it is final.
    pub outcome: Option<OutcomeTrace>,
}

/// One attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptTrace {
    /// Milliseconds from taking the event to its begin.
    pub after_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What the worker made of its end.
    pub class: String,
    /// The provider's word, or ours.
    pub reason: Option<String>,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// `production` or `sandbox`; none on Android.
    pub environment: Option<String>,
    /// Whether a request went out.
    pub started: bool,
    /// A sentence for people.
    pub detail: Option<String>,
}

/// A push's end, as in its outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutcomeTrace {
    /// When it became final.
    pub at: String,
    /// How it ended.
    pub result: String,
    /// The provider's word, or ours.
    pub reason: Option<String>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// `apns-id` or FCM's message name.
    pub provider_id: Option<String>,
    /// The environment that answered last.
    pub environment: Option<String>,
    /// Requests that were started.
    pub attempts: u32,
    /// Milliseconds from taking the event to here.
    pub push_ms: u64,
}

/// What is wrong with a question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TraceError {
    /// `unknown_call` or `no_call_id`.
    pub error: String,
    /// A sentence for people.
    pub detail: String,
}

/// The word of [`TraceError`] for a call that this worker does not remember.
pub const UNKNOWN_CALL: &str = "unknown_call";

/// The question.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    call_id: Option<String>,
}

pub(super) async fn trace(
    State(insight): State<Arc<dyn Insight>>,
    Query(question): Query<Question>,
) -> Response {
    let call_id = question.call_id.as_deref().map_or("", str::trim);
    if call_id.is_empty() {
        let detail = "ask for /trace?call_id=… with the call_id of an event".to_owned();
        let error = "no_call_id".to_owned();
        return json(StatusCode::BAD_REQUEST, &TraceError { error, detail });
    }
    let history = insight.history();
    let seen = history.last(MOST, Filter::Call(call_id));
    if seen.is_empty() {
        let error = UNKNOWN_CALL.to_owned();
        let detail = format!(
            "this worker remembers no push of this call; it keeps its last {} pushes, and \
             another worker may have had the call",
            history.capacity().pushes
        );
        return json(StatusCode::NOT_FOUND, &TraceError { error, detail });
    }
    let trace = Trace {
        v: 1,
        call_id: call_id.to_owned(),
        pushes: seen.iter().map(PushTrace::of).collect(),
    };
    json(StatusCode::OK, &trace)
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        // The types hold nothing that JSON cannot.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl PushTrace {
    /// A push as it stands.
    #[must_use]
    pub fn of(seen: &Seen) -> Self {
        let subject = &seen.subject;
        let (state, outcome) = match &seen.stage {
            Stage::UnderWay => ("under_way", None),
            Stage::Left => ("left", None),
            Stage::Final(end) => ("final", Some(OutcomeTrace::of(end))),
        };
        let attempts = seen.attempts.iter();
        Self {
            number: seen.number,
            event: subject.kind.name().to_owned(),
            event_id: subject.event_id.to_string(),
            call_id: subject.call_id.to_string(),
            device_id: subject.device_id.as_deref().map(str::to_owned),
            app: subject.app.as_deref().map(str::to_owned),
            platform: subject.platform.name().to_owned(),
            token: subject.token.clone(),
            trace_id: subject.trace_id.clone(),
            sent_at: subject.sent_at.to_string(),
            taken_at: subject.taken_at.to_string(),
            queue_ms: millis(subject.taken_at.since(subject.sent_at)),
            expires_at: subject.deadline.to_string(),
            state: state.to_owned(),
            attempts: attempts
                .map(|attempt| AttemptTrace::of(attempt, subject.taken_at))
                .collect(),
            left_out: seen.left_out,
            outcome,
        }
    }

    /// Requests that were started, as far as is known.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.outcome.as_ref().map_or_else(
            || {
                let started = self.attempts.iter().filter(|attempt| attempt.started);
                u32::try_from(started.count()).unwrap_or(u32::MAX) + self.left_out
            },
            |outcome| outcome.attempts,
        )
    }
}

impl AttemptTrace {
    fn of(attempt: &Attempted, taken_at: Timestamp) -> Self {
        Self {
            after_ms: millis(attempt.at.since(taken_at)),
            ms: millis(attempt.took),
            class: attempt.class.to_owned(),
            reason: attempt.reason.clone(),
            status: attempt.status,
            environment: Some(attempt.environment)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            started: attempt.started,
            detail: attempt.detail.clone(),
        }
    }
}

impl OutcomeTrace {
    fn of(end: &Ended) -> Self {
        Self {
            at: end.at.to_string(),
            result: end.result.name().to_owned(),
            reason: end.reason.clone(),
            detail: end.detail.clone(),
            provider_id: end.provider_id.clone(),
            environment: end.environment.map(Environment::name).map(str::to_owned),
            attempts: end.attempts,
            push_ms: end.push_ms,
        }
    }
}

/// A text for the query of an address.
pub(crate) fn encoded(text: &str) -> String {
    let query: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    query.replace('+', "%20")
}

/// Whole milliseconds.
pub(super) fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn call_ids_of_any_kind_survive_a_query() {
        assert_eq!(encoded("room-42"), "room-42");
        assert_eq!(encoded("a b&c=d#é/"), "a%20b%26c%3Dd%23%C3%A9%2F");
    }
}
