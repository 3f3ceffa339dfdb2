//! What became of pushes, tokens and calls, as reported to the service.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use uuid::Uuid;

use super::event::{Callee, Environment, EventKind, Platform, TargetKind};
use super::receipt::{Receipt, Receipts};
use super::secret::Secret;
use super::time::Timestamp;
use super::trace::parse_traceparent;

/// How a push to one device ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PushResult {
    /// The provider took it.
    Accepted,
    /// The token is gone.
    DeadToken,
    /// The token is doubtful.
    SuspectToken,
    /// The payload, the device or the request was refused, or the answer is
    /// not in any table.
    Rejected,
    /// Key, certificate, topic or project are wrong.
    CredentialFault,
    /// The deadline passed first.
    Expired,
    /// The caller gave up first.
    Cancelled,
}

impl PushResult {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::DeadToken,
        Self::SuspectToken,
        Self::Rejected,
        Self::CredentialFault,
        Self::Expired,
        Self::Cancelled,
    ];

    /// The name on the wire, in routing keys and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::DeadToken => "dead_token",
            Self::SuspectToken => "suspect_token",
            Self::Rejected => "rejected",
            Self::CredentialFault => "credential_fault",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What is to be done about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenVerdict {
    /// Delete it, if it is still the stored one.
    Dead,
    /// Look into it; do not delete it on this alone.
    Suspect,
}

impl TokenVerdict {
    /// The name on the wire, in routing keys and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Suspect => "suspect",
        }
    }
}

/// The final outcome of one push, key `push.<platform>.<result>`.
#[derive(Clone, Debug, Serialize)]
pub struct PushOutcome {
    /// When it became final.
    pub at: Timestamp,
    /// Whether the push was a ring or a cancel.
    pub event: EventKind,
    /// The event it belongs to.
    pub event_id: Uuid,
    /// The call it belongs to.
    pub call_id: Arc<str>,
    /// The device, unless the event gave none that could be used.
    pub device_id: Option<Arc<str>>,
    /// The device's app, as the event has it.
    pub app: Option<Arc<str>>,
    /// The device's platform.
    pub platform: Platform,
    /// The environment that answered last; none on Android.
    pub environment: Option<Environment>,
    /// How it ended.
    pub result: PushResult,
    /// The provider's own word, or ours.
    pub reason: Option<String>,
    /// A sentence for people, where there is more to say than the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// `apns-id` or FCM's message name.
    pub provider_id: Option<String>,
    /// Requests that were started.
    pub attempts: u32,
    /// Milliseconds from `sent_at` until the event was taken from the queue.
    pub queue_ms: u64,
    /// Milliseconds from then until the outcome was final.
    pub push_ms: u64,
}

/// A token to be deleted or looked into, key `token.<platform>.<verdict>`.
#[derive(Clone, Debug, Serialize)]
pub struct TokenEvent {
    /// When this was found.
    pub at: Timestamp,
    /// What is to be done.
    pub verdict: TokenVerdict,
    /// The provider's own word.
    pub reason: Option<String>,
    /// The token's app.
    pub app: Arc<str>,
    /// The token's platform.
    pub platform: Platform,
    /// The environment that said so; none on Android.
    pub environment: Option<Environment>,
    /// The device that the event gave the token for.
    pub device_id: Arc<str>,
    /// The token itself: the receiver compares before it clears.
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
    /// Said only where it is not a token.
    #[serde(skip_serializing_if = "is_token")]
    pub target: TargetKind,
    /// When the app registered it, as the event has it.
    pub registered_at: Option<Timestamp>,
    /// Since when it is dead, as the provider has it.
    pub provider_timestamp: Option<Timestamp>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes so")]
fn is_token(target: &TargetKind) -> bool {
    *target == TargetKind::Token
}

fn exposed<S: serde::Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// No device of a ring message was reached, key `call.unreachable`.
#[derive(Clone, Debug, Serialize)]
pub struct Unreachable {
    /// The event.
    pub event_id: Uuid,
    /// The call.
    pub call_id: Arc<str>,
    /// Who was called, as the event has it.
    pub callee: Option<Callee>,
    /// How many devices the message had.
    pub devices: usize,
    /// How many of them ended how.
    pub results: BTreeMap<PushResult, u32>,
    /// The platform of the queue the message came on.
    pub platform: Platform,
    /// Which part of a split ring this was, from 1.
    pub part: u32,
    /// Of how many.
    pub parts: u32,
}

/// Anything that is reported.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReportBody {
    /// See [`PushOutcome`].
    Push(PushOutcome),
    /// See [`TokenEvent`].
    Token(TokenEvent),
    /// See [`Unreachable`].
    #[serde(rename = "call")]
    Unreachable(Unreachable),
}

/// W3C trace context that came with an event and leaves with its reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// The `tracestate` header.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// The trace's id, if the header names one.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        let ids = parse_traceparent(self.traceparent.as_deref()?)?;
        Some(ids.trace_id)
    }
}

/// A report and the trace that it belongs to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is reported.
    pub body: ReportBody,
    /// The call, for the message's correlation id.
    pub call_id: Arc<str>,
    /// The event's trace.
    pub trace: Arc<TraceContext>,
}

impl Report {
    /// The routing key.
    #[must_use]
    pub fn routing_key(&self) -> String {
        match &self.body {
            ReportBody::Push(push) => {
                format!("push.{}.{}", push.platform.name(), push.result.name())
            }
            ReportBody::Token(token) => {
                format!("token.{}.{}", token.platform.name(), token.verdict.name())
            }
            ReportBody::Unreachable(_) => "call.unreachable".to_owned(),
        }
    }

    /// The message body.
    ///
    /// # Errors
    /// Never in practice: the types hold nothing that JSON cannot.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        const VERSION: &[u8] = br#"{"v":1"#;
        let mut json = Vec::with_capacity(640);
        json.extend_from_slice(VERSION);
        serde_json::to_writer(&mut json, &self.body)?;
        // The body's own brace becomes the comma after the version.
        json[VERSION.len()] = b',';
        Ok(json)
    }

    /// Whether this may never be given up: a token event that is lost keeps a
    /// dead token alive for ever, a lost outcome costs a line in a report.
    #[must_use]
    pub const fn is_essential(&self) -> bool {
        matches!(self.body, ReportBody::Token(_))
    }
}

/// Where reports go.
pub trait Outcomes: Send + Sync + 'static {
    /// Takes a report; never waits. Its receipt is told when it is safe.
    fn publish(&self, report: Report, receipt: Receipt);

    /// Waits until all reports of one message are safe or may be given up,
    /// so that the message can be acknowledged. `false` if that will not
    /// happen any more (shutting down): the message must not be acknowledged.
    /// `platform` says whose rings wait behind it.
    fn until_safe<'a>(&'a self, platform: Platform, receipts: &'a Receipts) -> BoxFuture<'a, bool> {
        let _ = platform;
        Box::pin(receipts.wait())
    }
}
