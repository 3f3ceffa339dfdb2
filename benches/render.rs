//! What rendering one push costs, per built-in profile and platform, on its
//! fixture ring: `cargo bench --bench render`. Prints microseconds: the median
//! and the slowest of the runs' means, and the payload's size.

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ringpush::call::event::{Event, Limits};
use ringpush::call::payload::Profiles;
use ringpush::call::time::Timestamp;

const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

const RUNS: usize = 41;
const RENDERS: u32 = 2000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/profiles");
    let profiles = Profiles::built_in()?;
    let now = Timestamp::from_millis(1_790_000_000_000);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:26} {:8} {:>8} {:>8} {:>6}",
        "profile", "platform", "median", "slowest", "bytes"
    )?;
    for name in profiles.names() {
        let Some(profile) = profiles.get(name) else {
            continue;
        };
        let body = fs::read(folder.join(name).join("ring.event.json"))?;
        let event = Event::decode(&body, LIMITS)?;
        for entry in event.devices() {
            let Ok(device) = &entry.device else { continue };
            let size = profile.render(&event, device, now)?.size();
            let mut means = Vec::with_capacity(RUNS);
            for _ in 0..RUNS {
                let start = Instant::now();
                for _ in 0..RENDERS {
                    black_box(profile.render(black_box(&event), device, now)?);
                }
                means.push((start.elapsed() / RENDERS).as_secs_f64() * 1e6);
            }
            means.sort_by(f64::total_cmp);
            let (median, slowest) = (means[RUNS / 2], means[RUNS - 1]);
            let platform = device.platform.name();
            writeln!(
                out,
                "{name:26} {platform:8} {median:8.2} {slowest:8.2} {size:6}"
            )?;
        }
    }
    Ok(())
}
