//! What an event and a push may cost, counted in things that do not depend on
//! the machine. Whoever needs more raises the number here and says why.
//!
//! | what | allocations |
//! |---|---|
//! | decoding an event of one device | [`EVENT`] |
//! | each further device of it | [`FURTHER_DEVICE`] |
//! | rendering the profile `plain` for an iOS device | [`IOS_PLAIN`] |
//! | the same for an Android device | [`ANDROID_PLAIN`] |
//! | a ring of one iOS device through the engine, decoding and rendering included | [`IOS_PUSH`] |
//! | the same of an Android device | [`ANDROID_PUSH`] |
//! | each further iOS device of a ring | [`FURTHER_IOS_PUSH`] |
//! | each further Android device | [`FURTHER_ANDROID_PUSH`] |
//! | an attempt at APNs, HTTP/2 included, TLS not | [`APNS_ATTEMPT`] |
//! | the same at FCM | [`FCM_ATTEMPT`] |
//!
//! | what | on the wire |
//! |---|---|
//! | HEADERS, DATA and other frames of a push | [`FRAMES`] |
//! | bytes of a push to APNs, beside its body and credential | [`APNS_BYTES`] |
//! | the same to FCM | [`FCM_BYTES`] |
//!
//! An allocation that grows a buffer counts as one. Only those of the thread
//! that measures are counted, so what runs as tasks belongs into a runtime of
//! one thread inside [`allocations`]. Nobody listens to spans and log lines here.

#![allow(clippy::unwrap_used, reason = "a test may end where it stumbles")]

use std::hint::black_box;
use std::sync::Arc;

use ringpush::call::event::{Device, Event, Platform};
use ringpush::call::payload::Profiles;
use ringpush::call::time::Timestamp;

#[path = "../benches/events/mod.rs"]
mod events;
#[path = "../benches/gateway/mod.rs"]
mod gateway;

#[path = "budget/engine.rs"]
mod engine;
#[path = "budget/wire.rs"]
mod wire;

use events::{LIMITS, ring};

const EVENT: u64 = 20;
const FURTHER_DEVICE: u64 = 3;
const IOS_PLAIN: u64 = 2;
const ANDROID_PLAIN: u64 = 2;
const IOS_PUSH: u64 = 43;
const ANDROID_PUSH: u64 = 43;
const FURTHER_IOS_PUSH: u64 = 19;
const FURTHER_ANDROID_PUSH: u64 = 19;
const APNS_ATTEMPT: u64 = 12;
const FCM_ATTEMPT: u64 = 10;

const FRAMES: [u64; 3] = [1, 1, 0];
const APNS_BYTES: u64 = 139;
const FCM_BYTES: u64 = 60;

/// How often this allocates once what is made only once is there.
fn allocations<T>(mut work: impl FnMut() -> T) -> u64 {
    black_box(work());
    allocation_counter::measure(|| drop(black_box(work()))).count_total
}

/// A tenth more than planned is too much; less is for the next change to plan.
fn within(planned: u64, counted: u64, what: &str) {
    assert!(
        counted * 10 <= planned * 11,
        "{what}: {counted} where {planned} are planned"
    );
}

fn decoding(devices: usize) -> u64 {
    let body = ring(devices).to_string();
    allocations(|| Event::decode(body.as_bytes(), LIMITS).unwrap())
}

#[test]
fn decoding_an_event() {
    within(EVENT, decoding(1), "decoding an event of one device");
}

/// A long list is no dearer by the device than a short one, but for the few
/// times that the list grows.
#[test]
fn decoding_its_further_devices() {
    let one = decoding(1);
    for devices in [100_u64, 1000] {
        let further = decoding(usize::try_from(devices).unwrap()) - one;
        let what = format!("{} further devices", devices - 1);
        within(FURTHER_DEVICE * (devices - 1), further, &what);
    }
}

#[test]
fn rendering_a_payload() {
    for (platform, planned) in [
        (Platform::Ios, IOS_PLAIN),
        (Platform::Android, ANDROID_PLAIN),
    ] {
        let counted = rendering("plain", platform);
        within(planned, counted, &format!("plain, {}", platform.name()));
    }
}

fn rendering(profile: &str, platform: Platform) -> u64 {
    let event = Event::decode(ring(2).to_string().as_bytes(), LIMITS).unwrap();
    let device = device(&event, platform);
    let profiles = Profiles::built_in().unwrap();
    let profile = profiles.get(profile).unwrap();
    let now = Timestamp::from_millis(1_790_000_000_000);
    allocations(|| profile.render(&event, &device, now).unwrap())
}

fn device(event: &Event, platform: Platform) -> Arc<Device> {
    let devices = event.devices().iter().flat_map(|entry| &entry.device);
    let mut devices = devices.filter(|device| device.platform == platform);
    Arc::clone(devices.next().unwrap())
}
