//! Spans: a ring's way through the worker, for a collector of traces.
//!
//! A message is `process`, in it is the event (`ring` or `cancel`), in that a
//! `push` for each device, and in that an `attempt` for each request. Their
//! target is this module, which the log never shows: while nobody collects
//! spans they are disabled and cost next to nothing.
//!
//! No span holds a token, a credential, a payload or a name. Attributes follow
//! OpenTelemetry's "Semantic conventions for messaging spans" where they have
//! a word for it.

use std::fmt::Display;

use tracing::field::Empty;
use tracing::{Span, info_span};

/// The target of every span.
pub const TARGET: &str = "ringpush::spans";

/// W3C trace context as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// The `tracestate` header.
    pub tracestate: Option<String>,
}

/// A message that was taken from a queue; the parent is its sender's span.
#[must_use]
pub fn message(queue: &str, sender: &Carried) -> Span {
    let span = info_span!(
        target: TARGET,
        "process",
        otel.name = %format_args!("process {queue}"),
        otel.kind = "consumer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "process",
        messaging.destination.name = queue,
    );
    export::continue_trace(&span, sender);
    span
}

/// An event that was understood.
#[must_use]
pub fn event(kind: &'static str, call_id: &str, event_id: impl Display, devices: usize) -> Span {
    info_span!(
        target: TARGET,
        "event",
        otel.name = kind,
        messaging.message.id = %event_id,
        messaging.message.conversation_id = call_id,
        ringpush.devices = devices,
    )
}

/// One device's push.
#[must_use]
pub fn push(app: &str, platform: &'static str, device_id: &str, push_id: impl Display) -> Span {
    info_span!(
        target: TARGET,
        "push",
        ringpush.app = app,
        ringpush.platform = platform,
        ringpush.device_id = device_id,
        ringpush.push_id = %push_id,
        ringpush.environment = Empty,
        ringpush.result = Empty,
        ringpush.reason = Empty,
        ringpush.attempts = Empty,
        otel.status_code = Empty,
    )
}

/// How the push of the span that we are in ended.
pub fn push_ended(
    environment: Option<&'static str>,
    result: &'static str,
    reason: Option<&str>,
    attempts: u32,
    reached: bool,
) {
    let span = Span::current();
    span.record("ringpush.environment", environment);
    span.record("ringpush.result", result);
    span.record("ringpush.reason", reason);
    span.record("ringpush.attempts", attempts);
    if !reached {
        span.record("otel.status_code", "ERROR");
    }
}

/// One request to a provider.
#[must_use]
pub fn attempt(app: &str, platform: &'static str, environment: &'static str) -> Span {
    info_span!(
        target: TARGET,
        "attempt",
        otel.name = %format_args!("attempt {platform}"),
        otel.kind = "client",
        ringpush.app = app,
        ringpush.platform = platform,
        ringpush.environment = environment,
        ringpush.class = Empty,
        ringpush.reason = Empty,
        ringpush.provider_id = Empty,
        http.response.status_code = Empty,
        otel.status_code = Empty,
    )
}

/// How the request of this span was answered.
pub fn answered(
    span: &Span,
    class: &'static str,
    reason: Option<&str>,
    provider_id: Option<&str>,
    status: Option<u16>,
) {
    span.record("ringpush.class", class);
    span.record("ringpush.reason", reason);
    span.record("ringpush.provider_id", provider_id);
    span.record("http.response.status_code", status);
    if class != "accepted" {
        span.record("otel.status_code", "ERROR");
    }
}

pub use export::context_of;

#[cfg(feature = "otlp")]
mod export {
    use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing::Span;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    use super::Carried;

    impl Extractor for Carried {
        fn get(&self, key: &str) -> Option<&str> {
            match key {
                "traceparent" => self.traceparent.as_deref(),
                "tracestate" => self.tracestate.as_deref(),
                _ => None,
            }
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent", "tracestate"]
        }
    }

    impl Injector for Carried {
        fn set(&mut self, key: &str, value: String) {
            match key {
                "traceparent" => self.traceparent = Some(value),
                "tracestate" if !value.is_empty() => self.tracestate = Some(value),
                _ => {}
            }
        }
    }

    pub(super) fn continue_trace(span: &Span, sender: &Carried) {
        if span.is_disabled() || sender.traceparent.is_none() {
            return;
        }
        // Fails only if no layer exports spans: then there is nothing to continue.
        let _ = span.set_parent(TraceContextPropagator::new().extract(sender));
    }

    /// What those who come after this span are to be told; `None` while nobody
    /// collects spans.
    #[must_use]
    pub fn context_of(span: &Span) -> Option<Carried> {
        if span.is_disabled() {
            return None;
        }
        let mut carried = Carried::default();
        TraceContextPropagator::new().inject_context(&span.context(), &mut carried);
        carried.traceparent.is_some().then_some(carried)
    }
}

#[cfg(not(feature = "otlp"))]
mod export {
    use tracing::Span;

    use super::Carried;

    pub(super) const fn continue_trace(_: &Span, _: &Carried) {}

    /// What those who come after this span are to be told; `None` while nobody
    /// collects spans.
    #[must_use]
    pub const fn context_of(_: &Span) -> Option<Carried> {
        None
    }
}
