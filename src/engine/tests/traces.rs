//! What the history and the log keep of a push.

use serde_json::{Value, json};

use crate::call::event::Platform::Ios;
use crate::call::outcome::TraceContext;
use crate::call::push::Class;
use crate::engine::delivery::Source;
use crate::engine::history::{Filter, Stage};
use crate::engine::testing::*;

/// The trace of an event's header reaches the history and each line of the log.
#[tokio::test(start_paused = true)]
async fn the_trace_id_is_in_the_history_and_in_the_log() {
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || sink.clone())
        .finish();
    // With only one subscriber about, tracing asks the current thread whether a
    // line is wanted when it is first met, and remembers a "no" of another test.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);
    let bench = Bench::new();
    bench
        .ios
        .script("aa", [step(Class::BadToken, "BadDeviceToken")]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut delivery = delivery(Source::Platform(Ios), &ring(30_000, &[ios("aa")]));
    delivery.trace = std::sync::Arc::new(TraceContext {
        traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01")),
        tracestate: None,
    });
    bench.dispatcher.handle(&delivery).await;
    let seen = bench.dispatcher.history().last(2, Filter::Call("call-1"));
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].subject.trace_id.as_deref(), Some(trace));
    assert_eq!(
        seen[0].attempts[0].reason.as_deref(),
        Some("BadDeviceToken")
    );
    let line = lines.of("push");
    assert_eq!(line["trace_id"], trace);
    assert_eq!(line["result"], "suspect_token");
}

/// Both halves of an `auto` environment are on the timeline, each attempt with
/// its environment; a push is in the history once, however often it comes.
#[tokio::test(start_paused = true)]
async fn the_history_holds_a_push_once_with_the_attempts_of_both_environments() {
    let bench = Bench::new();
    bench
        .ios
        .script("aa", [step(Class::BadToken, "BadDeviceToken")]);
    let mut device = ios("aa");
    device["environment"] = json!("auto");
    let event = ring(30_000, &[device]);
    bench.handle(Ios, &event).await;
    bench.handle(Ios, &event).await;
    let seen = bench.dispatcher.history().last(9, Filter::All);
    assert_eq!(seen.len(), 1);
    let attempts: Vec<(&str, &str)> = seen[0]
        .attempts
        .iter()
        .map(|attempt| (attempt.environment, attempt.class))
        .collect();
    assert_eq!(
        attempts,
        [("production", "bad_token"), ("sandbox", "accepted")]
    );
    let Stage::Final(end) = &seen[0].stage else {
        panic!("{:?}", seen[0].stage)
    };
    assert_eq!((end.result.name(), end.attempts), ("accepted", 2));
}

/// A log to be looked at.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    /// The only line with this message.
    fn of(&self, message: &str) -> Value {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["message"] == message);
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no {message}: {text}"));
        assert!(lines.next().is_none(), "{text}");
        line
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
