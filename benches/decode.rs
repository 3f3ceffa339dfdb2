//! What decoding one event costs: `cargo bench --bench decode`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ringpush::call::event::Event;
use serde_json::json;

mod events;

use events::{LIMITS, ring};

fn main() {
    divan::main();
}

/// Every device is one that rings.
#[divan::bench(args = [1, 10, 1000])]
fn valid(bencher: Bencher<'_, '_>, devices: usize) {
    let body = ring(devices).to_string();
    decode(bencher, &body, devices);
}

/// The last device is on no known platform, so the fault has to be named.
#[divan::bench(args = [1, 10, 1000])]
fn bad_device(bencher: Bencher<'_, '_>, devices: usize) {
    let mut event = ring(devices);
    event["devices"][devices - 1]["platform"] = json!("fridge");
    decode(bencher, &event.to_string(), devices);
}

/// The event as a whole is refused.
#[divan::bench(args = [1, 10, 1000])]
fn bad_event(bencher: Bencher<'_, '_>, devices: usize) {
    let mut event = ring(devices);
    event["media"] = json!("smell");
    decode(bencher, &event.to_string(), devices);
}

fn decode(bencher: Bencher<'_, '_>, body: &str, devices: usize) {
    bencher
        .counter(BytesCount::of_str(body))
        .counter(ItemsCount::new(devices))
        .bench(|| Event::decode(black_box(body.as_bytes()), LIMITS));
}
