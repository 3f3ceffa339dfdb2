//! A burst as large as a busy evening's.

use std::collections::HashSet;

use lapin::BasicProperties;
use ringpush::simulator::{Keep, Options};
use serde_json::Value;
use uuid::Uuid;

use crate::support::events::{android, android_token, ios, ios_token, ring};
use crate::support::stage::Stage;
use crate::support::worker::PATIENCE;

const RINGS: usize = 10_000;
const MEMORY: u64 = 100 * 1024 * 1024;

/// As many rings as the broker takes: each phone rings exactly once, every
/// outcome is reported exactly once, and the worker stays small.
#[allow(clippy::print_stdout, reason = "shown with --nocapture")]
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rings_are_pushed_exactly_once() {
    let options = Options {
        keep: Keep::Counts,
        ..Options::default()
    };
    let stage = Stage::with("", options).await;
    let worker = stage.worker().await;
    // Of what opened the connections.
    stage.simulator.record().clear();
    let mut outcomes = stage.client.outcomes().await;
    let mut template = ring(&[]);
    let mut wanted = HashSet::new();
    for burst in 0..10 {
        for key in ["ring.ios", "ring.android"] {
            let bodies: Vec<Vec<u8>> = (0..RINGS / 20)
                .map(|n| {
                    let device = match key {
                        "ring.ios" => ios("d", &ios_token()),
                        _ => android("d", &android_token()),
                    };
                    let id = Uuid::new_v4().to_string();
                    template["event_id"] = id.clone().into();
                    template["call_id"] = format!("{key}-{burst}-{n}").into();
                    template["devices"] = Value::Array(vec![device]);
                    wanted.insert(id);
                    template.to_string().into_bytes()
                })
                .collect();
            let bodies = bodies.into_iter().map(|b| (b, BasicProperties::default()));
            stage.client.publish_all(key, bodies).await;
        }
    }
    for _ in 0..RINGS {
        let outcome = outcomes.next().await.json();
        assert_eq!(outcome["result"], "accepted", "{outcome}");
        let id = outcome["event_id"].as_str().expect("an id");
        assert!(wanted.remove(id), "reported twice: {outcome}");
    }
    let journal = stage.simulator.record();
    assert!(journal.wait_for(RINGS as u64, PATIENCE).await);
    let peak = worker.peak_memory();
    println!("peak memory: {} MB", peak / 1024 / 1024);
    assert!(peak < MEMORY, "{} MB", peak / 1024 / 1024);
    assert!(
        outcomes
            .within(std::time::Duration::from_millis(200))
            .await
            .is_none()
    );
    stage_tally(&stage);
    stage.end(worker).await;
}

fn stage_tally(stage: &Stage) {
    let tally = stage.simulator.record().tally();
    let all = RINGS as u64;
    assert_eq!(
        (
            tally.requests,
            tally.delivered,
            tally.distinct,
            tally.repeated
        ),
        (all, all, all, 0)
    );
}
