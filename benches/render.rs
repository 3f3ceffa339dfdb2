//! What rendering one push costs, per built-in profile and platform, on the
//! profile's own fixture ring: `cargo bench --bench render`.

#![allow(clippy::unwrap_used, reason = "the fixtures are ours")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use ringpush::call::event::{Event, Limits, Platform};
use ringpush::call::payload::Profiles;
use ringpush::call::time::Timestamp;

const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

fn main() {
    divan::main();
}

fn profiles() -> impl Iterator<Item = &'static str> {
    Profiles::sources().map(|(name, _)| name)
}

#[divan::bench(args = profiles())]
fn ios(bencher: Bencher<'_, '_>, profile: &str) {
    render(bencher, profile, Platform::Ios);
}

#[divan::bench(args = profiles())]
fn android(bencher: Bencher<'_, '_>, profile: &str) {
    render(bencher, profile, Platform::Android);
}

fn render(bencher: Bencher<'_, '_>, profile: &str, platform: Platform) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/profiles");
    let body = fs::read(fixtures.join(profile).join("ring.event.json")).unwrap();
    let event = Event::decode(&body, LIMITS).unwrap();
    let devices = event.devices().iter().flat_map(|entry| &entry.device);
    let device = Arc::clone(
        devices
            .into_iter()
            .find(|d| d.platform == platform)
            .unwrap(),
    );
    let profiles = Profiles::built_in().unwrap();
    let profile = Arc::clone(profiles.get(profile).unwrap());
    let now = Timestamp::from_millis(1_790_000_000_000);
    bencher.bench(|| profile.render(black_box(&event), &device, now).unwrap());
}
