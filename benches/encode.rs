//! What a report costs on its way out: `cargo bench --bench encode`.

use std::sync::Arc;

use divan::{Bencher, black_box};
use ringpush::call::event::{Environment, EventKind, Platform};
use ringpush::call::outcome::{PushOutcome, PushResult, Report, ReportBody, TraceContext};
use ringpush::call::time::Timestamp;
use uuid::uuid;

fn main() {
    divan::main();
}

/// The outcome of one push that was accepted.
#[divan::bench]
fn accepted(bencher: Bencher<'_, '_>) {
    let report = report();
    bencher.bench(|| black_box(&report).to_json());
}

fn report() -> Report {
    let call_id: Arc<str> = "room-42".into();
    Report {
        body: ReportBody::Push(PushOutcome {
            at: Timestamp::from_millis(1_790_000_000_000),
            event: EventKind::Ring,
            event_id: uuid!("0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001"),
            call_id: Arc::clone(&call_id),
            device_id: Some("device-0001".into()),
            app: Some("com.example.calls".into()),
            platform: Platform::Ios,
            environment: Some(Environment::Production),
            result: PushResult::Accepted,
            reason: None,
            detail: None,
            provider_id: Some("F6BCA434-7E76-53E0-8AD2-888DCDD909BE".into()),
            attempts: 1,
            queue_ms: 4,
            push_ms: 31,
        }),
        call_id,
        trace: Arc::new(TraceContext::default()),
    }
}
